/**
 * Objects in a service that keeps objects: S3, Azure, Google Cloud Storage, Swift. A kind brings an {@link ObjectService},
 * the few requests of its protocol; {@link ObjectStore} makes a store of it, with the rules that are the same for all:
 *
 * - An object of one part is put at once, a larger one in parts, which become visible together. What a put that failed has
 *   sent is removed again.
 * - A put whose body cannot be opened again is tried again with the bytes at hand; so is each part.
 * - A get is checked against the size that was announced and, where the whole object is read, against its MD5.
 * - A listing is read page by page, in the order of names, and refused where it repeats itself or never ends.
 */
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { checkedBytes } from "../../contract/body.ts";
import { HoldfastError } from "../../contract/errors.ts";
import type { Logger } from "../../contract/log.ts";
import { MAX_NAME_BYTES, checkName } from "../../contract/names.ts";
import { checkRange, resolveRange } from "../../contract/ranges.ts";
import type { Body, ByteRange, Capabilities, ObjectInfo, Store } from "../../contract/store.ts";
import { cutParts, forEachParallel, releasePart } from "../../support/parts.ts";
import type { Part, PartPlan } from "../../support/parts.ts";
import { inNameOrder } from "./name-order.ts";
import { expectedBytes, letGo, refuseUnsupported } from "./operations.ts";
import type { Operations, Running } from "./operations.ts";

/** One put, however it is done. */
export interface ObjectPut {
  readonly name: string;
  readonly body: Body;
  readonly ifAbsent: boolean;
}

/** An answer with an object's bytes. */
export interface ObjectRead {
  /** What the answer says of the whole object. Throws where it says too little, or is not what was asked for. */
  info(): ObjectInfo;
  /** The bytes that were asked for. Undefined where there are none to send. */
  readonly stream?: Readable | undefined;
}

/** Where a page of a listing begins. */
export interface PagePosition {
  /** Where the last page said that the next one begins; undefined: this is the first. */
  readonly token: string | undefined;
  /** The names behind this one, which the store's own prefix is a part of, are enough. */
  readonly after: string | undefined;
}

/** One page of a listing. */
export interface ObjectPage {
  /** Named as the service names them: with the store's prefix. */
  readonly objects: readonly ObjectInfo[];
  /** Where the next page begins; undefined: there is none. */
  readonly next: string | undefined;
  /** What the names begin with, where the service could not be asked for all of the prefix. */
  readonly asked?: string;
}

/** The requests of one protocol. What they throw is made an error by `operations`. */
export interface ObjectService<Upload> {
  /** The first word of what is logged. */
  readonly kind: string;
  readonly operations: Operations;
  readonly capabilities: Pick<Capabilities, "orderedList" | "maxObjectBytes" | "storeDigests">;
  /** What every object's name begins with in the service. Empty, or ends with `/`. */
  readonly prefix: string;
  /** Why no object can be put only if there is none. Undefined: it can. */
  readonly noCondition?: string | undefined;
  /** How often an object of one part, and each part of a larger one, is sent at most. */
  readonly attempts: number;
  /** How many parts are sent at once, and what they may hold together, in bytes. One part is always allowed. */
  readonly parallel: { readonly parts: number; readonly bytes: number };
  /** How a body is cut. */
  plan(body: Body, signal: AbortSignal): PartPlan | Promise<PartPlan>;
  putOnce(put: ObjectPut, part: Part, signal: AbortSignal): Promise<void>;
  /**
   * Begins an upload in parts. Where the upload could not be named without the answer, the request is not given the signal:
   * the answer is awaited, and what it began is aborted.
   */
  begin(put: ObjectPut, signal: AbortSignal): Promise<Upload>;
  /** Sends a part. Called in the order of the parts; `attempt` counts from 1. */
  part(upload: Upload, part: Part, signal: AbortSignal, attempt: number): Promise<void>;
  /** Makes an object of the parts. Tries again by itself where that is safe. Absent where the last part does so. */
  complete?(upload: Upload, signal: AbortSignal): Promise<void>;
  /** Removes what was sent of an upload that failed. Absent where the service does so by itself. */
  abort?(upload: Upload, signal: AbortSignal): Promise<void>;
  /** Bytes of an object; a range has at least one byte, but may begin at the object's end or behind it. */
  read(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<ObjectRead>;
  head(name: string, signal: AbortSignal): Promise<ObjectInfo>;
  /** A page of the names that begin with `prefix`, which the store's own prefix is a part of. */
  page(prefix: string, position: PagePosition, signal: AbortSignal): Promise<ObjectPage>;
  /** Whether the object existed; undefined where the service does not tell. */
  remove(name: string, signal: AbortSignal): Promise<boolean | undefined>;
  /**
   * Asked before an object is replaced or deleted: how to remove what it leaves behind. Absent where objects leave nothing.
   */
  leftovers?(name: string, signal: AbortSignal): Promise<() => Promise<void>>;
  close(): void;
}

export interface ObjectStoreOptions {
  /** Size of the first parts, in bytes. Default 8 MiB. */
  readonly partBytes?: number | undefined;
  /** Names in one page of a listing. Default: as many as the service gives. */
  readonly pageNames?: number | undefined;
}

/** A listing with more pages in a row that hold nothing is taken for one without an end. */
const MAX_EMPTY_PAGES = 100;

export class ObjectStore<Upload> implements Store {
  readonly label: string;
  readonly capabilities: Capabilities;
  readonly #service: ObjectService<Upload>;
  readonly #operations: Operations;
  readonly #logger: Logger;

  constructor(service: ObjectService<Upload>, context: { readonly label: string; readonly logger: Logger }) {
    this.label = context.label;
    this.#service = service;
    this.#operations = service.operations;
    this.#logger = context.logger;
    this.capabilities = {
      ...service.capabilities,
      conditionalPut: service.noCondition === undefined,
      prefixNames: true,
      maxNameBytes: MAX_NAME_BYTES - Buffer.byteLength(service.prefix),
      caseSensitive: true,
    };
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    return this.#operations.run("put", name, options, async (running) => {
      const { signal } = running;
      refuseUnsupported(options, this.#service.noCondition);
      const put = { name, body, ifAbsent: options.ifAbsent ?? false };
      const plan = await this.#service.plan(body, signal);
      const parts = cutParts(checkedBytes(body, signal), body.size, plan);
      try {
        const first = await parts.next();
        if (first.done) throw new HoldfastError("internal", "a body was cut into no parts");
        const removeOld = await this.#service.leftovers?.(name, signal);
        const size = first.value.last
          ? await this.#putOnce(put, first.value, signal)
          : await this.#putInParts(put, first.value, parts, running);
        await removeOld?.();
        return { size };
      } finally {
        await parts.return(undefined);
      }
    });
  };

  readonly get: Store["get"] = (name, options = {}) => {
    const { range } = options;
    return this.#operations.get(name, options, async ({ signal }) => {
      if (range) checkRange(range);
      const read: ObjectRead =
        range?.length === 0 ? await this.#head(name, signal) : await this.#service.read(name, range, signal);
      const { stream } = read;
      try {
        const info = read.info();
        const { start, end } = resolveRange(range, info.size);
        if (!stream) {
          if (end > start) throw new HoldfastError("unavailable", "the object changed while it was read");
          return { info, body: (async function* () {})(), close: async () => undefined };
        }
        const md5 = end - start === info.size ? info.digests?.md5 : undefined;
        const body = expectedBytes(stream, { size: end - start, md5 });
        return { info, body, close: async () => letGo(stream) };
      } catch (error) {
        if (stream) letGo(stream);
        throw error;
      }
    });
  };

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, ({ signal }) => this.#service.head(name, signal));
  };

  readonly list: Store["list"] = (prefix, options = {}) => {
    return this.#operations.iterate(options, ({ signal }) => {
      const infos = this.#pages(prefix, options.after, signal);
      return this.capabilities.orderedList ? inNameOrder(infos) : infos;
    });
  };

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      const removeOld = await this.#service.leftovers?.(name, signal);
      const existed = await this.#service.remove(name, signal);
      if (existed === false) return { existed };
      // Only now: an object that lacks a piece must never be seen.
      await removeOld?.();
      return existed === undefined ? {} : { existed };
    });
  };

  async close(): Promise<void> {
    if (this.#operations.end()) this.#service.close();
  }

  async #putOnce(put: ObjectPut, part: Part, signal: AbortSignal): Promise<number> {
    // A body that can be opened again is tried again by the caller; the bytes of one that cannot are still here.
    const attempts = put.body.reopenable || put.ifAbsent ? 1 : this.#service.attempts;
    await this.#operations.attempts(attempts, signal, () => this.#service.putOnce(put, part, signal));
    return part.size;
  }

  async #putInParts(put: ObjectPut, first: Part, rest: AsyncGenerator<Part>, running: Running): Promise<number> {
    const { attempts, parallel } = this.#service;
    const { signal } = running;
    const begun = this.#service.begin(put, signal);
    const upload = await this.#operations.unlessAborted(begun, signal, (late) => this.#abort(put.name, late));
    try {
      const parts = async function* (): AsyncGenerator<Part> {
        yield first;
        yield* rest;
      };
      let size = 0;
      await forEachParallel(
        parts(),
        (part) => Math.max(1, Math.min(parallel.parts, Math.floor(parallel.bytes / part.size))),
        async (part) => {
          size += part.size;
          await this.#operations.attempts(attempts, signal, (attempt) =>
            this.#service.part(upload, part, signal, attempt),
          );
          releasePart(part);
        },
        (error) => running.abort(this.#operations.mapped(error)),
      );
      await this.#service.complete?.(upload, signal);
      return size;
    } catch (error) {
      await this.#abort(put.name, upload);
      throw error;
    }
  }

  async #abort(name: string, upload: Upload): Promise<void> {
    const event = `${this.#service.kind}.upload-left-behind`;
    await this.#operations.cleanUp(event, name, async (signal) => this.#service.abort?.(upload, signal));
  }

  async #head(name: string, signal: AbortSignal): Promise<ObjectRead> {
    const info = await this.#service.head(name, signal);
    return { info: () => info };
  }

  async *#pages(prefix: string, after: string | undefined, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const root = this.#service.prefix;
    let position: PagePosition = { token: undefined, after: after === undefined ? undefined : root + after };
    for (let emptyPages = 0; ;) {
      const { objects, next, asked } = await this.#service.page(root + prefix, position, signal);
      for (const object of objects) {
        const name = this.#listedName(object.name, root + prefix, asked);
        if (name !== undefined) yield { ...object, name };
      }
      emptyPages = objects.length === 0 ? emptyPages + 1 : 0;
      if (next === undefined) return;
      if (next === position.token || emptyPages > MAX_EMPTY_PAGES) throw endless();
      position = { ...position, token: next };
    }
  }

  /** A name from a listing; undefined for what no caller can have put. */
  #listedName(object: string, prefix: string, asked = prefix): string | undefined {
    if (!object.startsWith(asked)) {
      throw new HoldfastError("corrupt", "the server's listing holds names that were not asked for");
    }
    const name = object.slice(this.#service.prefix.length);
    // The folder mark that consoles put is the prefix itself, as an object.
    if (name === "" || !object.startsWith(prefix)) return undefined;
    try {
      checkName(name);
      return name;
    } catch {
      this.#logger.warn(`${this.#service.kind}.unusable-name`, { store: this.label, object: JSON.stringify(object) });
      return undefined;
    }
  }
}

/** The error for a listing that never ends. */
export function endless(): HoldfastError {
  return new HoldfastError("corrupt", "the server's listing does not come to an end");
}

/** Throws `invalid` for a name that is too long behind the prefix. */
export function checkFits(prefix: string, name: string): void {
  const maxBytes = MAX_NAME_BYTES - Buffer.byteLength(prefix);
  if (Buffer.byteLength(name) > maxBytes) {
    throw new HoldfastError("invalid", `the name is too long: at most ${maxBytes} bytes fit behind the prefix`);
  }
}

/** What a service said of an object; a time that is no number, or a digest that is no MD5, is left out. */
export function objectInfo(name: string, size: number, modifiedMs: number, md5: string | undefined): ObjectInfo {
  return {
    name,
    size,
    ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
    ...(md5 !== undefined && /^[0-9a-f]{32}$/u.test(md5) ? { digests: { md5 } } : {}),
  };
}

/** The MD5 of a part's bytes. */
export function md5Of(part: Part): Buffer {
  const hash = createHash("md5");
  for (const chunk of part.chunks) hash.update(chunk);
  return hash.digest();
}

/** The object's size from `Content-Length`. Throws where the server did not say it. */
export function lengthOf(headers: Readonly<Record<string, string>>): number {
  const text = headers["content-length"] ?? "";
  if (!/^\d+$/u.test(text)) throw new HoldfastError("unavailable", "the server did not say how long the object is");
  return Number(text);
}

/** The object's size from `Content-Range: bytes 0-9/100`. Throws where the server sent something else than was asked. */
export function rangeSize(header: string | undefined, offset: number): number {
  const match = /^bytes (\d+)-\d+\/(\d+)$/u.exec(header ?? "");
  if (!match || Number(match[1]) !== offset) throw wrongRange();
  return Number(match[2]);
}

export function wrongRange(): HoldfastError {
  return new HoldfastError("unavailable", "the server did not send the range that was asked for", { retryable: false });
}
