/** MKCOL, DELETE, COPY and MOVE: folders made, and files and folders removed, copied and moved. */
import { toBody } from "../../body.ts";
import { toHoldfastError } from "../../errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../http-server.ts";
import { encodePath } from "../../signature-v4.ts";
import { checkConditions, conditionsOf, hasBody, send } from "../http-tools.ts";
import { checkClientName, etagOf, isUnknown } from "../object-facts.ts";
import { destinationOf } from "./call.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import type { LockRequests } from "./lock-requests.ts";
import { modifiedOf, parentOf } from "./resources.ts";
import type { Resource, Resources } from "./resources.ts";

/** Objects copied or deleted at once when a folder is. */
const AT_ONCE = 8;

export class TreeChanges {
  readonly #context: GatewayContext;
  readonly #resources: Resources;
  readonly #locks: LockRequests;

  constructor(context: GatewayContext, resources: Resources, locks: LockRequests) {
    this.#context = context;
    this.#resources = resources;
    this.#locks = locks;
  }

  async mkcol(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal } = exchange;
    if (hasBody(exchange)) throw new DavStatus(415, "a new folder has no body");
    if (path === "") throw new DavStatus(405, "the root is there already");
    checkClientName(path);
    await this.#context.locks.run(path, async () => {
      await this.#locks.checkIf(call);
      if (await this.#resources.find(path, signal)) throw new DavStatus(405, "there is something at this address");
      this.#locks.checkLocks(call, path, { member: true });
      await this.#resources.requireParent(path, signal);
      await this.#resources.putMarker(exchange, path, {});
      send(exchange, 201);
    });
  }

  async delete(call: Call): Promise<void> {
    const { exchange, path } = call;
    if (path === "") throw new DavStatus(403, "the root cannot be deleted");
    checkClientName(path);
    // A fragment is no part of an address; a client that sends one means something else.
    if (exchange.rawPath.includes("#")) throw new DavStatus(400, "the address has a fragment");
    await this.#locks.checkIf(call);
    const found = await this.#resources.require(path, exchange.signal);
    this.#locks.checkLocks(call, path, { member: true, deep: true });
    if (found.kind === "file") {
      const target = { etag: `"${etagOf(found.info)}"`, modifiedMs: modifiedOf(found.info) };
      if (checkConditions(conditionsOf(exchange), target, false) !== "go") {
        throw new DavStatus(412, "a condition of the request does not hold");
      }
    }
    await this.#remove(exchange, found);
    send(exchange, 204);
  }

  async copy(call: Call, move: boolean): Promise<void> {
    const { exchange, path } = call;
    const { signal, request } = exchange;
    const depth = request.headers["depth"] ?? "infinity";
    if (depth !== "infinity" && (depth !== "0" || move)) throw new DavStatus(400, "this Depth cannot be used here");
    const target = destinationOf(exchange);
    if (path === "" || target === "") throw new DavStatus(403, "the root cannot be copied or replaced");
    checkClientName(path);
    checkClientName(target);
    if (target === path) throw new DavStatus(403, "the destination is the source");
    await this.#locks.checkIf(call);
    const found = await this.#resources.require(path, signal);
    if (found.kind === "folder" && target.startsWith(`${path}/`) && (move || depth !== "0")) {
      throw new DavStatus(403, "a folder cannot be put into itself");
    }
    if (path.startsWith(`${target}/`)) throw new DavStatus(403, "a folder cannot be replaced by what is in it");
    const former = await this.#resources.find(target, signal);
    if (former && request.headers["overwrite"]?.toString().toUpperCase() === "F") {
      throw new DavStatus(412, "there is something at the destination");
    }
    if (move) this.#locks.checkLocks(call, path, { member: true, deep: true });
    this.#locks.checkLocks(call, target, { member: true, deep: true });
    await this.#resources.requireParent(target, signal);
    // A file over a file is one put, and never absent in between; anything else is cleared away first.
    if (former && !(former.kind === "file" && found.kind === "file")) {
      await this.#remove(exchange, former);
    } else if (former) this.#locks.forget(target);
    if (found.kind === "file") await this.#copyObject(exchange, path, target);
    else if (depth === "0") await this.#resources.putMarker(exchange, target, found.marker?.metadata ?? {});
    else {
      const infos = await this.#context.listings.entries(`${path}/`, false, { signal });
      if (!found.marker) await this.#resources.putMarker(exchange, target, {});
      await eachOf(infos, (info) => this.#copyObject(exchange, info.name, target + info.name.slice(path.length)));
    }
    if (move) await this.#remove(exchange, found);
    send(exchange, former ? 204 : 201, { Location: encodePath(`/${target}`) });
  }

  /** Deletes a file, or a folder with all that is in it. */
  async #remove(exchange: Exchange, found: Resource): Promise<void> {
    const { path } = found;
    await this.#keepParent(exchange, path);
    const names =
      found.kind === "file"
        ? [path]
        : (await this.#context.listings.entries(`${path}/`, false, { signal: exchange.signal }))
            .map((info) => info.name)
            // Folders go after what is in them, so that nothing is orphaned when this is interrupted.
            .reverse();
    await eachOf(names, async (name) => {
      noteWrite(this.#context, exchange, name, await this.#context.store.delete(name, { signal: exchange.signal }));
    });
    this.#locks.forget(path);
  }

  /** A folder stays when the last thing in it goes. */
  async #keepParent(exchange: Exchange, path: string): Promise<void> {
    const parent = parentOf(path);
    if (parent === "") return;
    try {
      for await (const info of this.#context.store.list(`${parent}/`, { signal: exchange.signal })) {
        if (info.name !== path && !info.name.startsWith(`${path}/`)) return;
      }
    } catch (error) {
      // A marker too many does no harm.
      if (!isUnknown(error)) throw error;
    }
    await this.#resources.putMarker(exchange, parent, {});
  }

  async #copyObject(exchange: Exchange, from: string, to: string): Promise<void> {
    const { signal } = exchange;
    const source = await this.#context.store.get(from, { signal });
    try {
      const body = toBody(source.body, { size: source.info.size });
      const metadata = source.info.metadata ?? {};
      noteWrite(this.#context, exchange, to, await this.#context.store.put(to, body, { signal, metadata }));
    } finally {
      await source.close();
    }
  }
}

/** Runs `work` on each item, some at a time. Rejects with the first failure, when what had begun is over. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const item = items[next++] as T;
      await work(item).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failures.length > 0) throw toHoldfastError(failures[0]);
}
