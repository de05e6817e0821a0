/**
 * Bodies: what callers put, in the one form that stores read, and helpers for reading one.
 *
 * Stores read a body through {@link checkedBytes}, which holds the rules that are the same for every store: a declared
 * size is kept to, a source that fails or hangs ends the put, and an abort is noticed between two chunks.
 */
import { Readable } from "node:stream";
import { ReadableStream } from "node:stream/web";
import { HoldfastError, abortError, throwIfAborted } from "./errors.ts";
import type { Body } from "./store.ts";

/** What can be put. Strings are stored as UTF-8. Streams and iterables are read once, arrays and buffers often. */
export type BodyInput =
  | Uint8Array
  | string
  | Body
  | Readable
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>
  | Iterable<Uint8Array>;

export interface BodyOptions {
  /** Size in bytes, where the caller knows it and the input does not tell. A body that differs fails the put. */
  readonly size?: number | undefined;
}

/** Size of the chunks that buffers and files are cut into, in bytes. */
export const CHUNK_BYTES = 1024 * 1024;

/** Whether a value has the form of a {@link Body} already. */
export function isBody(value: unknown): value is Body {
  return (
    typeof value === "object" &&
    value !== null &&
    "open" in value &&
    typeof value.open === "function" &&
    "reopenable" in value &&
    typeof value.reopenable === "boolean"
  );
}

/**
 * Anything that can be put, as a {@link Body}. A string, a buffer and an array of buffers can be opened again; they must
 * not be changed before the put is over. Everything else gives its bytes once. Throws `invalid` for other values.
 */
export function toBody(input: BodyInput, options: BodyOptions = {}): Body {
  if (typeof input === "string") return bufferBody([Buffer.from(input)], options.size);
  if (input instanceof Uint8Array) return bufferBody([input], options.size);
  if (isBody(input)) return input;
  if (Array.isArray(input)) {
    const chunks: readonly unknown[] = input;
    return bufferBody(chunks.map(toChunk), options.size);
  }
  if (typeof input === "object" && input !== null) {
    if (Symbol.asyncIterator in input) return onceBody(() => input, options.size);
    if (Symbol.iterator in input) return onceBody(() => input, options.size);
  }
  throw new HoldfastError("invalid", "a body must be a string, a Uint8Array, a stream, or an iterable of Uint8Array");
}

function bufferBody(chunks: readonly Uint8Array[], declared: number | undefined): Body {
  return {
    size: declared ?? chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    reopenable: true,
    async *open() {
      for (const chunk of chunks) {
        for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES);
      }
    },
  };
}

/**
 * A body of what gives its bytes once. `isOwned`: the source never changes a chunk that it has given, so that none is
 * copied. Default false: only Node's streams are known not to.
 */
export function onceBody(
  input: () => AsyncIterable<unknown> | Iterable<unknown>,
  size: number | undefined,
  isOwned = false,
): Body {
  let opened = false;
  return {
    size,
    reopenable: false,
    open() {
      if (opened) throw new HoldfastError("invalid", "this body gives its bytes once and was opened before");
      opened = true;
      return chunksOf(input(), isOwned);
    },
  };
}

async function* chunksOf(
  input: AsyncIterable<unknown> | Iterable<unknown>,
  isOwned: boolean,
): AsyncGenerator<Uint8Array> {
  // A generator may fill one buffer again and again, while stores still wait for what it gave before. Node's streams do not.
  const isKept = isOwned || input instanceof Readable || input instanceof ReadableStream;
  for await (const chunk of input) {
    const bytes = toChunk(chunk);
    if (bytes.length > 0) yield isKept ? bytes : Buffer.from(bytes);
  }
}

function toChunk(chunk: unknown): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  if (typeof chunk === "string") return Buffer.from(chunk);
  throw new HoldfastError("invalid", `a body gave ${chunk === null ? "null" : typeof chunk} instead of bytes`);
}

/**
 * All chunks as one Uint8Array. For small objects: everything is held in memory. Throws `corrupt`, and reads no further,
 * where there are more than `most` bytes.
 */
export async function collect(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  most = Infinity,
): Promise<Uint8Array> {
  const list: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > most) throw new HoldfastError("corrupt", `there are more than ${most} bytes where that is the most`);
    list.push(chunk);
  }
  const [only] = list;
  return list.length === 1 && only ? only : concat(list);
}

function concat(list: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(list.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of list) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/**
 * The bytes of a body, as a store must read them: no empty chunks; an error of the source becomes `invalid` (unless it is
 * a HoldfastError); more or fewer bytes than `body.size` is `invalid`; a fired signal ends it, even while the source
 * hangs. The chunk that completes a declared size is given only after the source has ended, so that a store that sends a
 * Content-Length never completes an object that has bytes too many.
 */
export async function* checkedBytes(body: Body, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const size = body.size;
  let total = 0;
  let held: Uint8Array | undefined;
  try {
    throwIfAborted(signal);
    for await (const chunk of abortable(body.open(), signal)) {
      if (chunk.length === 0) continue;
      total += chunk.length;
      if (size !== undefined && total > size) throw sizeError(size, `at least ${total}`);
      if (total === size) held = chunk;
      else yield chunk;
    }
  } catch (error) {
    throw sourceError(error);
  }
  if (size !== undefined && total !== size) throw sizeError(size, `${total}`);
  if (held) yield held;
}

function sizeError(declared: number, found: string): HoldfastError {
  return new HoldfastError("invalid", `the body was declared to be ${declared} bytes long and gave ${found}`);
}

/** What the source threw, as an error that says that it was the source. */
function sourceError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new HoldfastError("invalid", `the source of the bytes failed: ${message}`, { cause: error });
}

/**
 * Passes an iterable on, and rejects as soon as the signal fires, even when the iterable never answers. What it holds is
 * let go of in the background then, since an iterator that hangs cannot be waited for.
 */
export async function* abortable<T>(source: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  if (!signal) {
    yield* source;
    return;
  }
  const iterator = source[Symbol.asyncIterator]();
  let reject: ((error: HoldfastError) => void) | undefined;
  const onAbort = (): void => reject?.(abortError(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  let finished = false;
  let hanging = false;
  try {
    for (;;) {
      if (signal.aborted) throw abortError(signal);
      hanging = true;
      // A new promise each time: racing against one that lives on would gather a reaction for each chunk.
      const result = await new Promise<IteratorResult<T>>((resolve, fail) => {
        reject = fail;
        iterator.next().then(
          (value) => {
            hanging = false;
            resolve(value);
          },
          (error: unknown) => {
            hanging = false;
            finished = true;
            // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- passes on what the source threw
            fail(error);
          },
        );
      });
      if (result.done) {
        finished = true;
        return;
      }
      yield result.value;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    if (!finished) {
      const returned = iterator.return?.();
      if (hanging) returned?.catch(() => undefined);
      else await returned;
    }
  }
}
