/**
 * Files and folders removed: exactly what was seen, each object only while it is the version that was seen.
 *
 * A listing and the deletes that follow it are two moments. What is put in between was acknowledged, so it stays, and
 * the folders around it stay with it; whoever asked for the removal is told of it.
 */
import { forEachBounded } from "../../support/bounded.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { ChangeCondition } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { isFolderMarker, isSameVersion, isUnknown, resourceOf } from "../object-facts.ts";
import { putIfAbsent } from "../put-if-absent.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import type { LockRequests } from "./lock-requests.ts";
import { markerOf, parentOf } from "./resources.ts";

/** Objects copied or deleted at once when a folder is. */
export const AT_ONCE = 8;

/** Names of objects, each with the answer that stands for it; undefined where another one does. */
export type Problems = Map<string, DavStatus | undefined>;

export class Removals {
  readonly #context: GatewayContext;
  readonly #locks: LockRequests;

  constructor(context: GatewayContext, locks: LockRequests) {
    this.#context = context;
    this.#locks = locks;
  }

  /** Deletes one file, if `onlyIf` lets it. */
  async removeFile(call: Call, path: string, onlyIf: ChangeCondition | undefined): Promise<void> {
    const held = this.#locks.held(path);
    await this.#keepParent(call.exchange, path);
    await this.#remove(call, path, onlyIf);
    this.#locks.release(held, []);
  }

  /**
   * Deletes these objects below a folder, and those that stand for folders when nothing is left in them. Gives what stays,
   * and why; `staying` begins it with names that are known to stay.
   */
  async removeFolder(
    call: Call,
    path: string,
    infos: readonly PoolObjectInfo[],
    staying: Problems = new Map(),
  ): Promise<Problems> {
    const { signal } = call.exchange;
    const held = this.#locks.held(path);
    const files = infos.filter(({ name }) => !isFolderMarker(name));
    const markers = infos.filter(({ name }) => isFolderMarker(name));
    const left: Problems = new Map(staying);
    const remove = async (info: PoolObjectInfo): Promise<void> => {
      try {
        await this.#remove(call, info.name, whileItIs(info));
      } catch (error) {
        if (!(error instanceof DavStatus)) throw error;
        left.set(info.name, error);
      }
    };
    await this.#keepParent(call.exchange, path);
    await forEachBounded(files, AT_ONCE, remove, signal);
    await this.#noteWhatCame(path, markers, left, signal);
    // Folders go after what is in them, so that nothing is orphaned when this is interrupted.
    for (const level of deepestFirst(markers)) {
      const inUse = foldersAround(left.keys());
      const empty = level.filter(({ name }) => !inUse.has(parentOf(name)));
      await forEachBounded(empty, AT_ONCE, remove, signal);
    }
    this.#locks.release(held, [...left.keys()]);
    return left;
  }

  /** Adds what stands below a folder and was not there, or was another version, when the removal began. */
  async #noteWhatCame(
    path: string,
    markers: readonly PoolObjectInfo[],
    left: Problems,
    signal: AbortSignal,
  ): Promise<void> {
    const known = new Map(markers.map((info) => [info.name, info]));
    try {
      for await (const info of this.#context.store.list(`${path}/`, { signal })) {
        const marker = known.get(info.name);
        if (left.has(info.name) || (marker && isSameVersion(info, marker))) continue;
        left.set(info.name, changedMeanwhile());
      }
    } catch (error) {
      // Nothing is deleted on the word of this listing: one that lacks something tells less, and does no harm.
      if (!isUnknown(error)) throw error;
    }
  }

  /** Deletes one object while no lock is in the way. */
  async #remove(call: Call, name: string, onlyIf: ChangeCondition | undefined): Promise<void> {
    const { exchange } = call;
    const { path } = resourceOf(name);
    await this.#context.locks.run(path, async () => {
      this.#locks.checkLocks(call, path, { member: true });
      const result = await this.#context.store.delete(name, { signal: exchange.signal, onlyIf });
      noteWrite(this.#context, exchange, name, result);
    });
  }

  /** A folder stays when the last thing in it goes. */
  async #keepParent(exchange: Exchange, path: string): Promise<void> {
    const { signal } = exchange;
    const parent = parentOf(path);
    if (parent === "") return;
    const name = markerOf(parent);
    try {
      for await (const info of this.#context.store.list(`${parent}/`, { signal })) {
        if (info.name !== path && !info.name.startsWith(`${path}/`)) return;
      }
      const made = await putIfAbsent(this.#context.store, name, { signal, metadata: {} });
      if (made) noteWrite(this.#context, exchange, name, made);
    } catch (error) {
      // A silent store may have properties of the folder there: they are not overwritten for the sake of an empty folder.
      if (!isUnknown(error)) throw error;
    }
  }
}

/** Objects by how deep they stand. */
function deepestFirst(infos: readonly PoolObjectInfo[]): PoolObjectInfo[][] {
  const levels = new Map<number, PoolObjectInfo[]>();
  for (const info of infos) {
    const depth = info.name.split("/").length;
    levels.set(depth, [...(levels.get(depth) ?? []), info]);
  }
  return [...levels].sort(([a], [b]) => b - a).map(([, level]) => level);
}

function foldersAround(names: Iterable<string>): ReadonlySet<string> {
  const folders = new Set<string>();
  for (const name of names) for (let at = parentOf(name); at !== ""; at = parentOf(at)) folders.add(at);
  return folders;
}

/** Refuses the change of what is there in another version than this one. */
export function whileItIs(seen: PoolObjectInfo): ChangeCondition {
  return (current) => {
    if (current !== undefined && !isSameVersion(current, seen)) throw changedMeanwhile();
  };
}

function changedMeanwhile(): DavStatus {
  return new DavStatus(409, "it was put while the request was carried out, and stays where it is");
}
