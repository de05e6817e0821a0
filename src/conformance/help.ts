/** What the cases share. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { collect } from "../contract/body.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import type { Body, GetOptions, Store } from "../contract/store.ts";

export const KIB = 1024;
export const MIB = 1024 * 1024;

/** Bytes that look random and are the same for the same seed. */
export function pattern(size: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}

export interface StreamOptions {
  /** Sizes of the chunks, used in turn. Default: one chunk. */
  readonly chunks?: readonly number[];
  /** Default undefined: not declared. */
  readonly size?: number | undefined;
  /** Called when this many bytes have been handed out; what it throws is thrown by the source. */
  readonly at?: readonly [bytes: number, action: () => void | Promise<void>];
}

/** A body that can be opened once, as from a pipe. */
export function stream(bytes: Uint8Array, options: StreamOptions = {}): Body {
  let opened = false;
  return {
    size: options.size,
    reopenable: false,
    async *open() {
      assert.ok(!opened, "a body that is not reopenable was opened twice");
      opened = true;
      const sizes = options.chunks ?? [bytes.length];
      let position = 0;
      for (let i = 0; position < bytes.length; i++) {
        if (options.at && position >= options.at[0]) await options.at[1]();
        const size = sizes[i % sizes.length] ?? bytes.length;
        // A copy: a store may do with a chunk as it likes.
        yield bytes.slice(position, position + size);
        position += size;
      }
      if (options.at && bytes.length >= options.at[0]) await options.at[1]();
    },
  };
}

/** The object's bytes, after checks of what `info` says. */
export async function read(store: Store, name: string, options: GetOptions = {}): Promise<Uint8Array> {
  const result = await store.get(name, options);
  try {
    assert.equal(result.info.name, name, "get returned the info of another name");
    const bytes = await collect(result.body);
    if (!options.range) assert.equal(result.info.size, bytes.length, "info.size differs from the bytes read");
    return bytes;
  } finally {
    await result.close();
  }
}

/** Fails unless the bytes are equal, without printing them. */
export function same(found: Uint8Array, wanted: Uint8Array, what = "the bytes read"): void {
  assert.equal(found.length, wanted.length, `${what}: wrong length`);
  if (Buffer.compare(found, wanted) !== 0) {
    const at = found.findIndex((byte, i) => byte !== wanted[i]);
    assert.fail(`${what} differ from byte ${at}`);
  }
}

/** Fails unless the object holds exactly these bytes, by get, stat and list. */
export async function holds(store: Store, name: string, bytes: Uint8Array): Promise<void> {
  same(await read(store, name), bytes);
  const info = await store.stat(name);
  assert.equal(info.name, name, "stat returned another name");
  assert.equal(info.size, bytes.length, "stat returned a wrong size");
  const listed = [];
  for await (const one of store.list(name)) if (one.name === name) listed.push(one.size);
  assert.deepEqual(listed, [bytes.length], "the listing does not show the object once, with its size");
}

/** Fails unless the object is absent, by get, stat and list. */
export async function absent(store: Store, name: string): Promise<void> {
  await rejects(store.stat(name), ["not-found"], `stat of ${JSON.stringify(name)}`);
  await rejects(read(store, name), ["not-found"], `get of ${JSON.stringify(name)}`);
  assert.ok(!(await names(store, name)).includes(name), `the listing shows ${JSON.stringify(name)}`);
}

/** Names under a prefix, in the order in which the store gives them. */
export async function names(store: Store, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const info of store.list(prefix)) found.push(info.name);
  return found;
}

/** The same where the store gives names in batches; undefined where it does not. */
export async function namesInBatches(
  store: Store,
  prefix: string,
  signal?: AbortSignal,
): Promise<string[] | undefined> {
  const batches = store.listNames?.(prefix, { signal });
  if (batches === undefined) return undefined;
  const found: string[] = [];
  for await (const batch of batches) {
    assert.ok(batch.length > 0, "a batch of names is empty");
    found.push(...batch);
  }
  return found;
}

/** Fails unless the promise rejects with a HoldfastError of one of the codes. Returns it. */
export async function rejects(
  promise: Promise<unknown>,
  codes: readonly ErrorCode[] | "any",
  what: string,
): Promise<HoldfastError> {
  try {
    await promise;
  } catch (error) {
    return hasCode(error, codes, what);
  }
  return assert.fail(`${what} succeeded instead of rejecting${codes === "any" ? "" : ` with ${codes.join(" or ")}`}`);
}

/** Fails unless what was caught is a HoldfastError of one of the codes. Returns it. */
export function hasCode(error: unknown, codes: readonly ErrorCode[] | "any", what: string): HoldfastError {
  if (!(error instanceof HoldfastError)) {
    throw new assert.AssertionError({
      message: `${what} rejected with what is no HoldfastError: ${String(error)}`,
      actual: error,
    });
  }
  if (codes !== "any" && !codes.includes(error.code)) {
    throw new assert.AssertionError({
      message: `${what} rejected with ${error.code} (${error.message}) instead of ${codes.join(" or ")}`,
      actual: error,
    });
  }
  return error;
}

/** Calls `work` for each item, at most `limit` at a time. */
export async function mapLimit<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T, i);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}

export function digest(algorithm: "md5" | "sha1" | "sha256", bytes: Uint8Array): string {
  return createHash(algorithm).update(bytes).digest("hex");
}

/** A promise that never settles, unless the process ends. */
export function forever(): Promise<never> {
  return new Promise(() => undefined);
}
