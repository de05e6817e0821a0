/** LOCK and UNLOCK, the If header, and which changes the locks admit. */
import { isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import type { ObjectInfo, PutResult } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { encodePath } from "../../support/signature-v4.ts";
import { readSmall, send } from "../http-tools.ts";
import { escapeXml } from "../../support/xml.ts";
import { checkClientName, etagOf } from "../object-facts.ts";
import { putIfAbsent } from "../put-if-absent.ts";
import { MAX_XML_BYTES, localPath } from "./call.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import { Locks, isBelow, parseIf, parseTimeout } from "./locks.ts";
import type { IfList, Lock } from "./locks.ts";
import { checkResource } from "./preconditions.ts";
import type { IfHeader } from "./preconditions.ts";
import { parentOf } from "./resources.ts";
import type { Resources } from "./resources.ts";
import { PROLOG, davChild, innerXml, parseDocument } from "./xml.ts";

export class LockRequests {
  readonly #context: GatewayContext;
  readonly #resources: Resources;
  readonly #locks: Locks;

  constructor(context: GatewayContext, resources: Resources) {
    this.#context = context;
    this.#resources = resources;
    this.#locks = new Locks(() => context.runtime.now());
  }

  async lock(call: Call): Promise<void> {
    const { exchange, path, user } = call;
    const { request, signal } = exchange;
    const timeoutMs = parseTimeout(request.headers["timeout"]?.toString());
    const body = await readSmall(exchange, MAX_XML_BYTES);
    if (body.length === 0) {
      await this.checkIf(call);
      const lock = this.#locks.covering(path).find((one) => call.tokens.has(one.token));
      if (!lock || lock.user !== user) throw new DavStatus(412, "no lock of this resource is named in the If header");
      this.#locks.refresh(lock, timeoutMs);
      this.#sendLock(exchange, 200, lock);
      return;
    }
    const info = await parseDocument(body);
    const scope = davChild(info, "lockscope");
    const type = davChild(info, "locktype");
    const exclusive = scope !== undefined && davChild(scope, "exclusive") !== undefined;
    const shared = scope !== undefined && davChild(scope, "shared") !== undefined;
    if (info.name !== "lockinfo" || exclusive === shared || !type || !davChild(type, "write")) {
      throw new DavStatus(400, "only exclusive and shared write locks exist");
    }
    const depth = request.headers["depth"] ?? "infinity";
    if (depth !== "0" && depth !== "infinity") throw new DavStatus(400, "Depth must be 0 or infinity");
    checkClientName(path);
    const owner = davChild(info, "owner");
    await this.#context.locks.run(path, async () => {
      await this.checkIf(call);
      const found = await this.#resources.find(path, signal);
      checkResource(exchange, found);
      if (!found) {
        this.checkLocks(call, path, { member: true });
        await this.#resources.requireParent(path, signal);
      }
      let lock: Lock;
      try {
        const facts = { path, deep: depth === "infinity", exclusive, user, owner: owner ? innerXml(owner) : "" };
        lock = this.#locks.add(facts, timeoutMs);
      } catch (error) {
        if (!isHoldfastError(error, "conflict")) throw error;
        throw new DavStatus(423, "the resource is locked", "no-conflicting-lock");
      }
      let made: PutResult | undefined;
      try {
        await this.#untilCoveredIsStill(lock, signal);
        // A name that is locked is there, empty, until its owner writes to it.
        if (!found) made = await putIfAbsent(this.#context.store, path, { signal });
      } catch (error) {
        this.#locks.remove(lock.token);
        throw error;
      }
      if (made) noteWrite(this.#context, exchange, path, made);
      this.#sendLock(exchange, made ? 201 : 200, lock, true);
    });
  }

  /** Changes that began before a lock was there end before its owner is told that nobody else makes any. */
  async #untilCoveredIsStill({ path, deep }: Lock, signal: AbortSignal): Promise<void> {
    const isCovered = deep
      ? (name: string): boolean => isBelow(name, path)
      : (name: string): boolean => name !== path && parentOf(name) === path;
    await this.#context.locks.settled(isCovered);
    throwIfAborted(signal);
  }

  async unlock(call: Call): Promise<void> {
    const { exchange, path, user } = call;
    const header = exchange.request.headers["lock-token"]?.toString() ?? "";
    const token = /^<([^<>\s]+)>$/u.exec(header.trim())?.[1];
    if (token === undefined) throw new DavStatus(400, "Lock-Token is missing or malformed");
    const lock = this.#locks.covering(path).find((one) => one.token === token);
    if (!lock) throw new DavStatus(409, "there is no such lock here", "lock-token-matches-request-uri");
    if (lock.user !== user) throw new DavStatus(403, "the lock is another user's");
    this.#locks.remove(token);
    send(exchange, 204);
  }

  /** Evaluates the If header, and notes the tokens that it submits. Undefined where there is none. */
  async checkIf(call: Call): Promise<IfHeader | undefined> {
    const { exchange } = call;
    const header = exchange.request.headers["if"]?.toString();
    if (header === undefined) return undefined;
    const files = new Map<string, ObjectInfo | undefined>();
    const lists: (IfList & { readonly path: string | undefined })[] = [];
    for (const list of parseIf(header)) {
      const path = list.resource === undefined ? call.path : localPath(exchange, list.resource);
      lists.push({ ...list, path });
      for (const { token, etag } of list.conditions) {
        if (token !== undefined) call.tokens.add(token);
        if (etag !== undefined && path) files.set(path, await this.#resources.stat(path, exchange.signal));
      }
    }
    const checkAll = (): void => {
      if (lists.some(({ path, conditions }) => path !== undefined && this.#holds(path, conditions, files))) return;
      throw new DavStatus(412, "the conditions of the If header do not hold");
    };
    checkAll();
    return {
      namesEtagOf: (path) => files.has(path),
      check: (path, current) => {
        if (files.has(path)) files.set(path, current);
        checkAll();
      },
    };
  }

  /** Throws 423 unless the request has a token for each lock that guards what it changes. */
  checkLocks(call: Call, path: string, what: { member?: boolean; deep?: boolean }): void {
    const admits = (locks: readonly Lock[]): boolean =>
      locks.length === 0 || locks.some((lock) => call.tokens.has(lock.token) && lock.user === call.user);
    const free =
      admits(this.#locks.covering(path)) &&
      (!what.member || admits(this.#locks.covering(parentOf(path)))) &&
      (!what.deep || this.#locks.below(path).every((lock) => admits([lock])));
    if (!free) throw new DavStatus(423, "the resource is locked", "lock-token-submitted");
  }

  /** The lockdiscovery property of a path. */
  discovery(path: string): string {
    return this.#locks.covering(path).map(activeLock).join("");
  }

  /** Locks on a path and below it, for when what they are on is removed. */
  held(path: string): readonly Lock[] {
    return this.#locks.at(path);
  }

  /** Ends these locks, but for those on names that are left and on folders around them. */
  release(locks: readonly Lock[], left: readonly string[]): void {
    for (const { path, token } of locks) {
      if (!left.some((name) => name === path || isBelow(name, path))) this.#locks.remove(token);
    }
  }

  #holds(path: string, conditions: IfList["conditions"], files: ReadonlyMap<string, ObjectInfo | undefined>): boolean {
    const tokens = new Set(this.#locks.covering(path).map((lock) => lock.token));
    const info = files.get(path);
    return conditions.every(({ not, token, etag }) => {
      const holds = token === undefined ? info !== undefined && etag === `"${etagOf(info)}"` : tokens.has(token);
      return holds !== not;
    });
  }

  #sendLock(exchange: Exchange, status: number, lock: Lock, fresh = false): void {
    send(
      exchange,
      status,
      { "Content-Type": 'application/xml; charset="utf-8"', ...(fresh ? { "Lock-Token": `<${lock.token}>` } : {}) },
      `${PROLOG}<D:prop xmlns:D="DAV:"><D:lockdiscovery>${activeLock(lock)}</D:lockdiscovery></D:prop>`,
    );
  }
}

function activeLock(lock: Lock): string {
  return (
    "<D:activelock><D:locktype><D:write/></D:locktype>" +
    `<D:lockscope><D:${lock.exclusive ? "exclusive" : "shared"}/></D:lockscope>` +
    `<D:depth>${lock.deep ? "infinity" : "0"}</D:depth><D:owner>${lock.owner}</D:owner>` +
    `<D:timeout>Second-${Math.round(lock.timeoutMs / 1000)}</D:timeout>` +
    `<D:locktoken><D:href>${lock.token}</D:href></D:locktoken>` +
    `<D:lockroot><D:href>${escapeXml(encodePath(`/${lock.path}`))}</D:href></D:lockroot></D:activelock>`
  );
}
