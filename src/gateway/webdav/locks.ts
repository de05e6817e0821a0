/**
 * WebDAV's write locks, in memory.
 *
 * They keep clients of this gateway out of each other's way while they edit, as RFC 4918 means them; the pool itself
 * needs none. A lock lives for a limited time, so one that nobody gives back ends by itself, as it does when the gateway
 * stops.
 */
import { randomUUID } from "node:crypto";
import { HoldfastError } from "../../contract/errors.ts";
import { ClientError } from "../http-tools.ts";

/** The longest life of a lock before it has to be refreshed, and the usual one, in milliseconds. */
const MAX_LOCK_MS = 3_600_000;
const DEFAULT_LOCK_MS = 600_000;
const MAX_LOCKS = 10_000;

export interface Lock {
  readonly token: string;
  /** Name without slashes at its ends; "" is the root. */
  readonly path: string;
  readonly deep: boolean;
  readonly exclusive: boolean;
  /** XML of the owner element's content, as the client gave it. */
  readonly owner: string;
  readonly user: string;
  timeoutMs: number;
  expiresMs: number;
}

export class Locks {
  readonly #locks = new Map<string, Lock>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Locks that hold for a path: its own, and deep ones above it. */
  covering(path: string): Lock[] {
    return this.#alive().filter((lock) => lock.path === path || (lock.deep && isBelow(path, lock.path)));
  }

  /** Locks on what is below a path. */
  below(path: string): Lock[] {
    return this.#alive().filter((lock) => isBelow(lock.path, path));
  }

  /** Locks on a path and on what is below it. */
  at(path: string): Lock[] {
    return this.#alive().filter((lock) => lock.path === path || isBelow(lock.path, path));
  }

  get(token: string): Lock | undefined {
    return this.#alive().find((lock) => lock.token === token);
  }

  /** Throws `conflict` when another lock stands in the way. */
  add(facts: Pick<Lock, "path" | "deep" | "exclusive" | "owner" | "user">, timeoutMs: number | undefined): Lock {
    const others = [...this.covering(facts.path), ...(facts.deep ? this.below(facts.path) : [])];
    if (others.some((other) => other.exclusive || facts.exclusive)) {
      throw new ClientError("conflict", "the resource is locked");
    }
    if (this.#locks.size >= MAX_LOCKS) throw new ClientError("throttled", "there are too many locks");
    const life = Math.min(timeoutMs ?? DEFAULT_LOCK_MS, MAX_LOCK_MS);
    const lock: Lock = {
      ...facts,
      token: `urn:uuid:${randomUUID()}`,
      timeoutMs: life,
      expiresMs: this.#now() + life,
    };
    this.#locks.set(lock.token, lock);
    return lock;
  }

  refresh(lock: Lock, timeoutMs: number | undefined): void {
    lock.timeoutMs = Math.min(timeoutMs ?? lock.timeoutMs, MAX_LOCK_MS);
    lock.expiresMs = this.#now() + lock.timeoutMs;
  }

  remove(token: string): void {
    this.#locks.delete(token);
  }

  #alive(): Lock[] {
    const now = this.#now();
    for (const lock of this.#locks.values()) if (lock.expiresMs <= now) this.#locks.delete(lock.token);
    return [...this.#locks.values()];
  }
}

/** Whether a path is below another one; nothing is below itself. */
export function isBelow(path: string, above: string): boolean {
  return path !== above && (above === "" || path.startsWith(`${above}/`));
}

/** One list of an If header: all of its conditions must hold. */
export interface IfList {
  /** The resource it speaks of; absent: the request's own. */
  readonly resource?: string;
  readonly conditions: readonly {
    readonly not: boolean;
    readonly token?: string;
    /** With its quotes. */
    readonly etag?: string;
  }[];
}

/** Parses an If header (RFC 4918, 10.4). Throws `invalid`. */
export function parseIf(header: string): IfList[] {
  const lists: IfList[] = [];
  let rest = header.trim();
  let resource: string | undefined;
  const take = (pattern: RegExp): string | undefined => {
    const match = pattern.exec(rest);
    if (!match) return undefined;
    rest = rest.slice(match[0].length).trimStart();
    return match[1] ?? "";
  };
  for (;;) {
    if (rest === "") break;
    const tagged = take(/^<([^<>\s]*)>/u);
    if (tagged !== undefined) {
      resource = tagged;
      if (!rest.startsWith("(")) throw new HoldfastError("invalid", "the If header is malformed");
      continue;
    }
    if (take(/^\(/u) === undefined) throw new HoldfastError("invalid", "the If header is malformed");
    const conditions: { not: boolean; token?: string; etag?: string }[] = [];
    while (take(/^\)/u) === undefined) {
      const not = take(/^Not\b/iu) !== undefined;
      const token = take(/^<([^<>\s]*)>/u);
      const etag = token === undefined ? take(/^\[((?:W\/)?"[^"]*")\]/u) : undefined;
      if (token !== undefined) conditions.push({ not, token });
      else if (etag !== undefined) conditions.push({ not, etag });
      else throw new HoldfastError("invalid", "the If header is malformed");
    }
    if (conditions.length === 0) throw new HoldfastError("invalid", "the If header has an empty list");
    lists.push(resource === undefined ? { conditions } : { resource, conditions });
  }
  if (lists.length === 0) throw new HoldfastError("invalid", "the If header is empty");
  return lists;
}

/** `Second-600, Infinite` → milliseconds of the first that is understood. */
export function parseTimeout(header: string | undefined): number | undefined {
  for (const one of (header ?? "").split(",")) {
    const word = one.trim();
    if (/^infinite$/iu.test(word)) return MAX_LOCK_MS;
    const seconds = /^second-(\d{1,10})$/iu.exec(word)?.[1];
    if (seconds !== undefined && Number(seconds) > 0) return Number(seconds) * 1000;
  }
  return undefined;
}
