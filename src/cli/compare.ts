/** Comparing a folder's files with a listing, in one pass. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { CHUNK_BYTES, bodyFromFile } from "../body.ts";
import { HoldfastError, throwIfAborted } from "../errors.ts";
import { compareNames } from "../names.ts";
import type { PoolObjectInfo } from "../pool.ts";

/** SHA-256 of a file, lower-case hexadecimal. */
export async function fileDigest(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of (await bodyFromFile(path)).open()) {
    throwIfAborted(signal);
    hash.update(chunk);
  }
  return hash.digest("hex");
}

/** SHA-256 of a file in as few calls as can be; undefined when it does not have just `size` bytes. */
async function smallFileDigest(path: string, size: number): Promise<string | undefined> {
  const handle = await open(path).catch((error: unknown) => {
    throw new HoldfastError(
      "invalid",
      `cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  });
  try {
    const buffer = Buffer.allocUnsafe(size + 1);
    const { bytesRead } = await handle.read(buffer, 0, size + 1, 0);
    if (bytesRead !== size) return undefined;
    return createHash("sha256").update(buffer.subarray(0, size)).digest("hex");
  } finally {
    await handle.close();
  }
}

/** Whether a file holds an object's bytes, for certain. It is read only when the sizes are equal. */
export async function isSame(
  file: { readonly path: string; readonly size: number },
  object: PoolObjectInfo,
  signal: AbortSignal,
): Promise<boolean> {
  const sha256 = object.sha256 ?? object.digests?.sha256;
  if (sha256 === undefined || object.size !== file.size) return false;
  const found = await (file.size < CHUNK_BYTES ? smallFileDigest(file.path, file.size) : fileDigest(file.path, signal));
  return found === sha256;
}

/** One name, with what each side has of it. */
export interface Pair<L, R> {
  readonly name: string;
  readonly left: L | undefined;
  readonly right: R | undefined;
}

/**
 * Joins two iterables that are in the order of names. Where the right one rejects, `onRightError` decides: when it
 * returns, the rest of the left one comes without a counterpart.
 */
export async function* join<L, R>(
  left: AsyncIterable<L>,
  nameOfLeft: (item: L) => string,
  right: AsyncIterable<R>,
  nameOfRight: (item: R) => string,
  onRightError: (error: unknown) => void,
): AsyncGenerator<Pair<L, R>> {
  const lefts = left[Symbol.asyncIterator]();
  const rights = right[Symbol.asyncIterator]();
  const nextRight = async (): Promise<IteratorResult<R>> => {
    try {
      return await rights.next();
    } catch (error) {
      onRightError(error);
      return { done: true, value: undefined };
    }
  };
  try {
    let l = await lefts.next();
    let r = await nextRight();
    while (l.done !== true || r.done !== true) {
      const order =
        l.done === true ? 1 : r.done === true ? -1 : compareNames(nameOfLeft(l.value), nameOfRight(r.value));
      if (order < 0 && l.done !== true) {
        yield { name: nameOfLeft(l.value), left: l.value, right: undefined };
        l = await lefts.next();
      } else if (order > 0 && r.done !== true) {
        yield { name: nameOfRight(r.value), left: undefined, right: r.value };
        r = await nextRight();
      } else if (l.done !== true && r.done !== true) {
        yield { name: nameOfLeft(l.value), left: l.value, right: r.value };
        l = await lefts.next();
        r = await nextRight();
      }
    }
  } finally {
    await lefts.return?.();
    await rights.return?.();
  }
}
