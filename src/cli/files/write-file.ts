/** Writing a file that appears whole or not at all. */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, rename, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { HoldfastError, isHoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { systemCode } from "../../support/network-errors.ts";
import { systemWords } from "../../contract/system-words.ts";

/** Files in the making have this at the end of their names. */
const TEMPORARY = ".holdfast-part";

/** Whether a file's name is one that `writeFile` uses while it writes. */
export function isTemporaryName(name: string): boolean {
  return /^\..*\.[0-9a-f]{12}\.holdfast-part$/su.test(name);
}

/** Where a file is written before it appears; `random` has 48 bits. */
export function temporaryPath(path: string, random: number): string {
  const unique = random.toString(16).padStart(12, "0");
  // The name stays below the usual limit of 255 bytes.
  return join(dirname(path), `.${basename(path).slice(0, 50)}.${unique}${TEMPORARY}`);
}

const LOCAL_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "full",
  EDQUOT: "full",
  EACCES: "denied",
  EPERM: "denied",
  EISDIR: "conflict",
  ENOTDIR: "conflict",
};

function localError(what: string, path: string, error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error;
  const kind = LOCAL_CODES[systemCode(error) ?? ""] ?? "invalid";
  return new HoldfastError(kind, `cannot ${what} ${path}: ${systemWords(error)}`, { cause: error });
}

export interface WriteFileOptions {
  /** The caller has seen that nothing, or a regular file, is at the path. */
  readonly isPlain?: boolean | undefined;
  /** Called with the complete file, before it appears. */
  readonly finish?: ((file: FileHandle) => Promise<void>) | undefined;
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/**
 * Writes `bytes` to a new file beside `path`, makes it durable and renames it to `path`. When anything goes wrong,
 * nothing is left and what was at `path` stays. A symbolic link at `path` is replaced, not followed. A device or pipe is
 * written to directly.
 */
export async function writeFile(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  options: WriteFileOptions = {},
): Promise<void> {
  if (options.isPlain !== true) {
    const special = await stat(path).then(
      (stats) => !stats.isFile() && !stats.isDirectory(),
      () => false,
    );
    if (special) {
      await writeSpecial(path, bytes, options);
      return;
    }
    if (await isDirectory(path)) throw new HoldfastError("conflict", `cannot write ${path}: it is a folder`);
  }
  const temporary = temporaryPath(path, randomBytes(6).readUIntBE(0, 6));
  let file: FileHandle | undefined;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0);
    file = await open(temporary, flags, 0o666).catch((error: unknown) => {
      throw localError("write", path, error);
    });
    for await (const chunk of bytes) {
      await writeAll(file, chunk, path);
      options.onBytes?.(chunk.length);
    }
    await options.finish?.(file);
    await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (error) {
    await file?.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    throw localError("write", path, error);
  }
}

async function writeSpecial(path: string, bytes: AsyncIterable<Uint8Array>, options: WriteFileOptions): Promise<void> {
  const file = await open(path, constants.O_WRONLY).catch((error: unknown) => {
    throw localError("write", path, error);
  });
  try {
    for await (const chunk of bytes) {
      await writeAll(file, chunk, path);
      options.onBytes?.(chunk.length);
    }
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array, path: string): Promise<void> {
  let at = 0;
  while (at < chunk.length) {
    const { bytesWritten } = await file.write(chunk, at).catch((error: unknown) => {
      throw localError("write", path, error);
    });
    at += bytesWritten;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
