/** A pool's file: its bytes as they are read from the disk, and the JSON in them. */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { isHoldfastError } from "../contract/errors.ts";
import { fail, quoted } from "./faults.ts";
import { findJsonFault } from "./json-fault.ts";

/** A pool's file as read. */
export interface PoolFile {
  readonly bytes: Uint8Array;
  /** Permission bits, if the file system has them. A warning follows if others may read a file with credentials. */
  readonly mode?: number;
}

/** A file larger than this is refused, because it cannot be a pool's file. */
const MAX_POOL_FILE_BYTES = 1024 * 1024;

/** Reads the file from disk. Throws `config` if there is none, if it is not a file, or if it is too large. */
export async function readPoolFile(path: string): Promise<PoolFile | "folder"> {
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "ENOENT" || code === "ENOTDIR") {
      fail(`there is no pool file or folder ${quoted(path)} (a store that is not a folder is named by a URL)`, error);
    }
    if (code === "EACCES" || code === "EPERM") fail(`the pool file ${quoted(path)} may not be read`, error);
    fail(`the pool file ${quoted(path)} cannot be opened (${code || "unknown error"})`, error);
  }
  try {
    const stat = await handle.stat();
    if (stat.isDirectory()) return "folder";
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, null);
      if (bytesRead === 0) break;
      bytes += bytesRead;
      if (bytes > MAX_POOL_FILE_BYTES) {
        fail(`${quoted(path)} is larger than ${MAX_POOL_FILE_BYTES} bytes: that is not a pool file`);
      }
      chunks.push(buffer.subarray(0, bytesRead));
    }
    return { bytes: Buffer.concat(chunks), ...(stat.isFile() ? { mode: stat.mode & 0o777 } : {}) };
  } catch (error) {
    if (isHoldfastError(error)) throw error;
    fail(`the pool file ${quoted(path)} cannot be read`, error);
  } finally {
    await handle.close();
  }
}

/** The JSON of a pool's file. `config` for everything else; the message quotes nothing of the text. */
export function parseJson(bytes: Uint8Array, path: string): unknown {
  if (bytes.length > MAX_POOL_FILE_BYTES) {
    fail(`${quoted(path)} is larger than ${MAX_POOL_FILE_BYTES} bytes: that is not a pool file`);
  }
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    fail(`the pool file ${quoted(path)} begins with a byte order mark; save it as UTF-8 without one`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    fail(`the pool file ${quoted(path)} is not UTF-8`, error);
  }
  if (text.trim().length === 0) fail(`the pool file ${quoted(path)} is empty`);
  const fault = findJsonFault(text);
  if (fault) {
    fail(`the pool file ${quoted(path)} is not JSON: line ${fault.line}, column ${fault.column}: ${fault.what}`);
  }
  return JSON.parse(text);
}
