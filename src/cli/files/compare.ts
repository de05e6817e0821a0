/** Comparing a folder's files with a listing, in one pass. */
import { createHash } from "node:crypto";
import { throwIfAborted } from "../../contract/errors.ts";
import { bodyFromFile } from "../../contract/file-body.ts";
import { compareNames } from "../../contract/names.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import { SMALL_FILE_BYTES } from "./local-thread.ts";
import type { LocalThread } from "./local-thread.ts";

/** SHA-256 of a file, lower-case hexadecimal; undefined where the file is changed while it is read. */
async function fileDigest(path: string, signal: AbortSignal): Promise<string | undefined> {
  const hash = createHash("sha256");
  const body = await bodyFromFile(path);
  try {
    for await (const chunk of body.open()) {
      throwIfAborted(signal);
      hash.update(chunk);
    }
  } catch (error) {
    if (body.changed) return undefined;
    throw error;
  }
  return hash.digest("hex");
}

/** Whether a file holds an object's bytes, for certain. It is read only when the sizes are equal. */
export async function isSame(
  file: { readonly path: string; readonly size: number },
  object: PoolObjectInfo,
  signal: AbortSignal,
  thread: LocalThread,
): Promise<boolean> {
  const sha256 = object.sha256 ?? object.digests?.sha256;
  if (sha256 === undefined || object.size !== file.size) return false;
  const found = file.size <= SMALL_FILE_BYTES ? await thread.sha256(file.path, file.size) : undefined;
  // A file that could not be read in this way is read in the other, whose error says why.
  return (found ?? (await fileDigest(file.path, signal))) === sha256;
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
