/** Reading a file that a program has fetched from a store to this machine. */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { CHUNK_BYTES } from "../../contract/body.ts";
import { HoldfastError } from "../../contract/errors.ts";
import { systemCode } from "../../support/network-errors.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { ByteRange } from "../../contract/store.ts";
import { notFound } from "./operations.ts";

export interface FetchedFile {
  /** Of the whole file, in bytes. */
  readonly size: number;
  readonly modifiedMs: number;
  /** How many bytes `chunks` gives: `size`, or less for a range. */
  readonly length: number;
  /** Of 1 MiB. Iterated at most once. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** A second call does nothing. */
  close(): Promise<void>;
}

/**
 * Opens a fetched file, which may be removed once it is open. Rejects with `not-found` for what is no regular file, and
 * `invalid` for a range that begins beyond its end.
 */
export async function openFetched(path: string, range: ByteRange | undefined): Promise<FetchedFile> {
  const file = await openFile(path);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw notFound();
    const { start, end } = resolveRange(range, stats.size);
    const chunks = async function* (): AsyncGenerator<Uint8Array> {
      for (let at = start; at < end;) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new HoldfastError("internal", "the fetched file became shorter");
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    };
    let closing: Promise<void> | undefined;
    return {
      size: stats.size,
      modifiedMs: stats.mtimeMs,
      length: end - start,
      chunks: chunks(),
      close: () => (closing ??= file.close()),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (error) {
    const code = systemCode(error) ?? "";
    if (code === "ENOENT" || code === "ENOTDIR") throw notFound();
    // That this machine cannot open it says nothing of the object.
    throw new HoldfastError("unavailable", `what was fetched cannot be read: ${code}`, { cause: error });
  }
}
