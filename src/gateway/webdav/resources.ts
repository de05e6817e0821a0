/** Files and folders as WebDAV has them, found in a pool. */
import { toBody } from "../../contract/body.ts";
import { isHoldfastError } from "../../contract/errors.ts";
import { isReserved } from "../../contract/names.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { ChangeCondition, ObjectMetadata } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { encodePath } from "../../support/signature-v4.ts";
import { FOLDER_MARKER, isFolderMarker, isUnknown } from "../object-facts.ts";
import { DavStatus } from "./dav-status.ts";

export type Resource =
  | { readonly kind: "file"; readonly path: string; readonly info: PoolObjectInfo }
  | { readonly kind: "folder"; readonly path: string; readonly marker?: PoolObjectInfo; readonly modifiedMs: number };

export class Resources {
  readonly #context: GatewayContext;

  constructor(context: GatewayContext) {
    this.#context = context;
  }

  /** What stands at a path; undefined: nothing, and that is certain. */
  async find(path: string, signal: AbortSignal): Promise<Resource | undefined> {
    const { store } = this.#context;
    if (path !== "") {
      const info = await this.stat(path, signal);
      if (info) return { kind: "file", path, info };
    }
    const marker = await this.stat(markerOf(path), signal);
    if (marker) return { kind: "folder", path, marker, modifiedMs: marker.modifiedMs ?? 0 };
    if (path === "") return { kind: "folder", path, modifiedMs: 0 };
    for await (const info of store.list(`${path}/`, { signal })) {
      return { kind: "folder", path, modifiedMs: info.modifiedMs ?? 0 };
    }
    return undefined;
  }

  async stat(name: string, signal: AbortSignal): Promise<PoolObjectInfo | undefined> {
    try {
      return await this.#context.store.stat(name, { signal });
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    }
  }

  async require(path: string, signal: AbortSignal): Promise<Resource> {
    const found = await this.find(path, signal);
    if (!found) throw new DavStatus(404, "there is nothing at this address");
    return found;
  }

  async requireParent(path: string, signal: AbortSignal): Promise<void> {
    let parent: Resource | undefined;
    try {
      parent = await this.find(parentOf(path), signal);
    } catch (error) {
      if (isUnknown(error)) return;
      throw error;
    }
    if (parent?.kind !== "folder") throw new DavStatus(409, "the folder around it does not exist");
  }

  /** What stands in a folder, from a listing that is known to be whole. */
  async children(path: string, signal: AbortSignal): Promise<Resource[]> {
    const prefix = path === "" ? "" : `${path}/`;
    const files: Resource[] = [];
    const folders = new Map<string, { marker?: PoolObjectInfo; modifiedMs: number }>();
    for (const info of await this.#context.listings.entries(prefix, false, { signal })) {
      if (isReserved(info.name)) continue;
      const rest = info.name.slice(prefix.length);
      const slash = rest.indexOf("/");
      if (slash === -1) {
        if (!isFolderMarker(info.name)) files.push({ kind: "file", path: info.name, info });
        continue;
      }
      if (slash === 0) continue;
      const name = prefix + rest.slice(0, slash);
      const known = folders.get(name);
      const isMarker = info.name === markerOf(name);
      folders.set(name, {
        ...(isMarker ? { marker: info } : known?.marker ? { marker: known.marker } : {}),
        modifiedMs: Math.max(known?.modifiedMs ?? 0, info.modifiedMs ?? 0),
      });
    }
    return [...[...folders].map(([name, facts]): Resource => ({ kind: "folder", path: name, ...facts })), ...files];
  }

  /** Makes the object that stands for a folder, if `onlyIf` lets it. */
  async putMarker(
    exchange: Exchange,
    path: string,
    metadata: ObjectMetadata,
    onlyIf: ChangeCondition | undefined,
  ): Promise<void> {
    const name = markerOf(path);
    const result = await this.#context.store.put(name, toBody(""), { signal: exchange.signal, metadata, onlyIf });
    noteWrite(this.#context, exchange, name, result);
  }
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}

export function markerOf(path: string): string {
  return path === "" ? FOLDER_MARKER : `${path}/${FOLDER_MARKER}`;
}

export function hrefOf(resource: Resource): string {
  const path = encodePath(`/${resource.path}`);
  return resource.kind === "folder" && resource.path !== "" ? `${path}/` : path;
}

/** The time that the client gave, or that of the store; in milliseconds. */
export function modifiedOf(info: PoolObjectInfo): number {
  const given = Number(info.metadata?.["mtime"] ?? Number.NaN);
  return Number.isFinite(given) ? given * 1000 : (info.modifiedMs ?? 0);
}
