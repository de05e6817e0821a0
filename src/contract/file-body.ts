/** The content of a file as a {@link Body}: as it was at one moment, or an error. */
import type { BigIntStats } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { CHUNK_BYTES, onceBody } from "./body.ts";
import { HoldfastError } from "./errors.ts";
import type { Body } from "./store.ts";
import { systemWords } from "./system-words.ts";

export interface FileBody extends Body {
  /** The regular file as it was found, and as it has to be before and after it is read; undefined for what is none. */
  readonly stats?: BigIntStats | undefined;
  /** Whether it turned out to be another one, or to have changed, when it was read last. */
  readonly changed: boolean;
}

/**
 * The content of a file, in chunks of 1 MiB, read one chunk ahead. A regular file has a `size` and a `path` and can be
 * opened again; a pipe or a device gives its bytes once, and is opened with the body: nothing is held by a body that
 * nobody opens. Rejects with `invalid` when the file cannot be read.
 *
 * A file that is changed after this call, by its size, or its times of modification and change to the nanosecond, fails
 * the put with `conflict`, before any store has all of it: what was read is neither the old file nor the new one.
 */
export async function bodyFromFile(path: string): Promise<FileBody> {
  const found = await stat(path, { bigint: true }).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (found.isDirectory()) throw new HoldfastError("invalid", `${path} is a folder, not a file`);
  if (!found.isFile()) return { ...onceBody(() => fileChunks(path, undefined), undefined), changed: false };
  // Whether it can be read is known here, not in the middle of a put.
  await (await openSource(path)).close();
  let changed = false;
  const check = async (file: FileHandle): Promise<void> => {
    const now = await file.stat({ bigint: true });
    const isSame = now.size === found.size && now.mtimeNs === found.mtimeNs && now.ctimeNs === found.ctimeNs;
    if (isSame) return;
    changed = true;
    throw new HoldfastError("conflict", `${path} was changed while it was read`);
  };
  return {
    size: Number(found.size),
    reopenable: true,
    path,
    stats: found,
    get changed() {
      return changed;
    },
    open: () => fileChunks(path, { size: Number(found.size), check }),
  };
}

async function openSource(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): HoldfastError {
  return new HoldfastError("invalid", `cannot read ${path}: ${systemWords(error)}`, { cause: error });
}

/** What a regular file has to be: `check` rejects where it is not. */
interface Expected {
  readonly size: number;
  readonly check: (file: FileHandle) => Promise<void>;
}

async function* fileChunks(path: string, expected: Expected | undefined): AsyncGenerator<Uint8Array> {
  const file = await openSource(path);
  // One byte more than the size shows in one read that a small file ends there.
  const chunkBytes = expected === undefined ? CHUNK_BYTES : Math.min(CHUNK_BYTES, expected.size + 1);
  const read = async (): Promise<Uint8Array> => {
    const buffer = Buffer.allocUnsafeSlow(chunkBytes);
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, null);
    return buffer.subarray(0, bytesRead);
  };
  let pending: Promise<Uint8Array> | undefined;
  let total = 0;
  try {
    await expected?.check(file);
    pending = read();
    for (;;) {
      const chunk = await pending;
      total += chunk.length;
      const last = chunk.length === 0 || (total === expected?.size && chunk.length < chunkBytes);
      // Before the last bytes are given: no store can have finished yet.
      if (last || (expected !== undefined && total >= expected.size)) await expected?.check(file);
      if (!last) {
        pending = read();
        // Awaited in the next round, which never comes when the consumer stops here.
        pending.catch(() => undefined);
      }
      if (chunk.length > 0) yield chunk;
      if (last) return;
    }
  } finally {
    await pending?.catch(() => undefined);
    await file.close();
  }
}
