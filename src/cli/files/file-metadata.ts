/** What push and put keep of a file beside its bytes, and pull and get restore. */
import type { BigIntStats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import type { ObjectMetadata } from "../../contract/store.ts";
import type { FileStats } from "./local-thread.ts";

/** Modification time in seconds since 1970 with decimals, as rclone writes it; permission bits in octal. */
export function metadataOf(stats: Pick<FileStats | BigIntStats, "mtimeMs" | "mode">): ObjectMetadata {
  const metadata: Record<string, string> = { mtime: (Number(stats.mtimeMs) / 1000).toFixed(3) };
  if (process.platform !== "win32") metadata["mode"] = (Number(stats.mode) & 0o777).toString(8);
  return metadata;
}

export interface FileAttributes {
  /** Permission bits. */
  readonly mode?: number;
  /** In seconds since 1970, as text: numbers below 0 are taken for "now" by Node. */
  readonly modifiedSeconds?: string;
}

/** A file's time and permissions from metadata, where they are there and make sense. */
export function attributesOf(metadata: ObjectMetadata | undefined): FileAttributes {
  const mode = metadata?.["mode"];
  const seconds = metadata?.["mtime"];
  return {
    // The owner keeps the right to read and write what was restored; never set-user-id and the like.
    ...(mode !== undefined && /^[0-7]{1,3}$/u.test(mode) ? { mode: Number.parseInt(mode, 8) | 0o600 } : {}),
    ...(seconds !== undefined && /^-?\d{1,11}(\.\d{1,9})?$/u.test(seconds) ? { modifiedSeconds: seconds } : {}),
  };
}

/** Sets a file's time and permissions from metadata. */
export async function restoreMetadata(file: FileHandle, metadata: ObjectMetadata | undefined): Promise<void> {
  const { mode, modifiedSeconds } = attributesOf(metadata);
  if (mode !== undefined) await file.chmod(mode);
  if (modifiedSeconds !== undefined) await file.utimes(modifiedSeconds, modifiedSeconds);
}
