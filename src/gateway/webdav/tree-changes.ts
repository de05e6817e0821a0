/** MKCOL, DELETE, COPY and MOVE: folders made, and files and folders removed, copied and moved. */
import { toBody } from "../../contract/body.ts";
import { forEachBounded } from "../../support/bounded.ts";
import { isHoldfastError } from "../../contract/errors.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { ChangeCondition, ObjectInfo } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import { encodePath } from "../../support/signature-v4.ts";
import { hasBody, send } from "../http-tools.ts";
import { checkClientName, resourceOf } from "../object-facts.ts";
import { putIfAbsent } from "../put-if-absent.ts";
import { destinationOf } from "./call.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import type { LockRequests } from "./lock-requests.ts";
import { problemResponse, sendMultistatus } from "./multistatus.ts";
import { changeCondition, checkResource } from "./preconditions.ts";
import type { IfHeader } from "./preconditions.ts";
import { AT_ONCE, Removals, whileItIs } from "./removals.ts";
import type { Problems } from "./removals.ts";
import { markerOf } from "./resources.ts";
import type { Resource, Resources } from "./resources.ts";

/** A COPY or MOVE that has begun. */
interface Transfer {
  readonly call: Call;
  readonly ifHeader: IfHeader | undefined;
  readonly found: Resource;
  readonly target: string;
  /** Overwrite: F. Nothing that is at the destination is put over. */
  readonly onlyNew: boolean;
}

export class TreeChanges {
  readonly #context: GatewayContext;
  readonly #resources: Resources;
  readonly #locks: LockRequests;
  readonly #removals: Removals;

  constructor(context: GatewayContext, resources: Resources, locks: LockRequests) {
    this.#context = context;
    this.#resources = resources;
    this.#locks = locks;
    this.#removals = new Removals(context, locks);
  }

  async mkcol(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal } = exchange;
    if (hasBody(exchange)) throw new DavStatus(415, "a new folder has no body");
    if (path === "") throw new DavStatus(405, "the root is there already");
    checkClientName(path);
    await this.#context.locks.run(path, async () => {
      await this.#locks.checkIf(call);
      if (await this.#resources.find(path, signal)) throw isThere();
      this.#locks.checkLocks(call, path, { member: true });
      checkResource(exchange, undefined);
      await this.#resources.requireParent(path, signal);
      const name = markerOf(path);
      const made = await putIfAbsent(this.#context.store, name, { signal, metadata: {} });
      if (!made) throw isThere();
      noteWrite(this.#context, exchange, name, made);
      send(exchange, 201);
    });
  }

  async delete(call: Call): Promise<void> {
    const { exchange, path } = call;
    if (path === "") throw new DavStatus(403, "the root cannot be deleted");
    checkClientName(path);
    // A fragment is no part of an address; a client that sends one means something else.
    if (exchange.rawPath.includes("#")) throw new DavStatus(400, "the address has a fragment");
    const ifHeader = await this.#locks.checkIf(call);
    const found = await this.#resources.require(path, exchange.signal);
    this.#locks.checkLocks(call, path, { member: true, deep: true });
    checkResource(exchange, found);
    if (found.kind === "file") await this.#removals.removeFile(call, path, changeCondition(call, ifHeader));
    else {
      const left = await this.#removeFolder(call, path);
      if (left.size > 0) return sendProblems(call, left);
    }
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
    const ifHeader = await this.#locks.checkIf(call);
    const found = await this.#resources.require(path, signal);
    if (found.kind === "folder" && target.startsWith(`${path}/`) && (move || depth !== "0")) {
      throw new DavStatus(403, "a folder cannot be put into itself");
    }
    if (path.startsWith(`${target}/`)) throw new DavStatus(403, "a folder cannot be replaced by what is in it");
    checkResource(exchange, found);
    const former = await this.#resources.find(target, signal);
    const onlyNew = request.headers["overwrite"]?.toString().toUpperCase() === "F";
    if (former && onlyNew) throw atDestination();
    if (move) this.#locks.checkLocks(call, path, { member: true, deep: true });
    this.#locks.checkLocks(call, target, { member: true, deep: true });
    await this.#resources.requireParent(target, signal);
    const transfer: Transfer = { call, ifHeader, found, target, onlyNew };
    const problems = await this.#transfer(transfer, former, { move, deep: depth !== "0" });
    if (problems.size > 0) return sendProblems(call, problems);
    send(exchange, former ? 204 : 201, { Location: encodePath(`/${target}`) });
  }

  /** Copies or moves, over what was at the destination. Gives what could not be done. */
  async #transfer(
    transfer: Transfer,
    former: Resource | undefined,
    { move, deep }: { readonly move: boolean; readonly deep: boolean },
  ): Promise<Problems> {
    const { call, found, target, ifHeader } = transfer;
    const replaced = this.#locks.held(target);
    // A file over a file is one put, and never absent in between; anything else is cleared away first.
    if (former && !(former.kind === "file" && found.kind === "file")) {
      if (former.kind === "file") await this.#removals.removeFile(call, target, targetCondition(transfer, target));
      else {
        const left = await this.#removeFolder(call, target);
        if (left.size > 0) return left;
      }
    }
    if (found.kind === "folder") return this.#transferFolder(transfer, found, { move, deep });
    const version = await this.#copyObject(transfer, found.path, target, (info) => {
      changeCondition(call, ifHeader)?.(info);
    });
    if (!version) throw new DavStatus(404, "there is nothing at this address any more");
    if (former) this.#locks.release(replaced, []);
    if (move) await this.#removals.removeFile(call, found.path, whileItIs(version));
    return new Map();
  }

  async #transferFolder(
    transfer: Transfer,
    { path, marker }: Resource & { readonly kind: "folder" },
    { move, deep }: { readonly move: boolean; readonly deep: boolean },
  ): Promise<Problems> {
    const { call, target } = transfer;
    const { exchange } = call;
    const problems: Problems = new Map();
    if (!marker) await this.#resources.putMarker(exchange, target, {}, targetCondition(transfer, markerOf(target)));
    else if (!deep) await this.#copyObject(transfer, marker.name, markerOf(target));
    if (!deep) return problems;
    const copied: PoolObjectInfo[] = [];
    const staying: Problems = new Map();
    const copy = async ({ name }: PoolObjectInfo): Promise<void> => {
      const to = target + name.slice(path.length);
      try {
        // An object that was deleted meanwhile is neither copied nor deleted again.
        const version = await this.#copyObject(transfer, name, to);
        if (version) copied.push(version);
      } catch (error) {
        if (!(error instanceof DavStatus)) throw error;
        problems.set(to, error);
        staying.set(name, undefined);
      }
    };
    const { signal } = exchange;
    await forEachBounded(await this.#below(path, signal), AT_ONCE, copy, signal);
    if (!move) return problems;
    const left = await this.#removals.removeFolder(call, path, copied, staying);
    return new Map([...problems, ...left]);
  }

  async #removeFolder(call: Call, path: string): Promise<Problems> {
    return this.#removals.removeFolder(call, path, await this.#below(path, call.exchange.signal));
  }

  /** What is in a folder now. A copy of the listing, which goes on to follow what is written. */
  async #below(path: string, signal: AbortSignal): Promise<PoolObjectInfo[]> {
    return [...(await this.#context.listings.entries(`${path}/`, false, { signal }))];
  }

  /** Copies one object. Gives the version that was copied; undefined where there is none. */
  async #copyObject(
    transfer: Transfer,
    from: string,
    to: string,
    onSource?: (info: ObjectInfo) => void,
  ): Promise<PoolObjectInfo | undefined> {
    const { call } = transfer;
    const { signal } = call.exchange;
    const { path } = resourceOf(to);
    return this.#context.locks.run(path, async () => {
      this.#locks.checkLocks(call, path, { member: true });
      const source = await this.#context.store.get(from, { signal }).catch((error: unknown) => {
        if (isHoldfastError(error, "not-found")) return undefined;
        throw error;
      });
      if (!source) return undefined;
      try {
        onSource?.(source.info);
        const body = toBody(source.body, { size: source.info.size });
        const metadata = source.info.metadata ?? {};
        const onlyIf = targetCondition(transfer, to);
        noteWrite(
          this.#context,
          call.exchange,
          to,
          await this.#context.store.put(to, body, { signal, metadata, onlyIf }),
        );
        return source.info;
      } finally {
        await source.close();
      }
    });
  }
}

/** The condition that the request sets for one name of the destination; undefined where it sets none. */
function targetCondition({ onlyNew, ifHeader }: Transfer, name: string): ChangeCondition | undefined {
  if (!onlyNew && !ifHeader?.namesEtagOf(name)) return undefined;
  return (current) => {
    if (current && onlyNew) throw atDestination();
    ifHeader?.check(name, current);
  };
}

function sendProblems(call: Call, problems: Problems): void {
  const responses = [...problems].flatMap(([name, problem]) => (problem ? [problemResponse(name, problem)] : []));
  sendMultistatus(call.exchange, responses);
}

function isThere(): DavStatus {
  return new DavStatus(405, "there is something at this address");
}

function atDestination(): DavStatus {
  return new DavStatus(412, "there is something at the destination");
}
