/** The calls of the file system that the folder store makes, on plain descriptors: a FileHandle costs a third more on small files. */
import * as fs from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { codeOf } from "./file-errors.ts";
import type { FileFacts } from "./group-reader.ts";

export const open = promisify(fs.open);
export const close = promisify(fs.close);
export const statfs = promisify(fs.statfs);
export const read = promisify(fs.read);
export const fstat = promisify(fs.fstat);
export const fdatasync = promisify(fs.fdatasync);
export const fsync = promisify(fs.fsync);
export const lstat = promisify(fs.lstat);
export const link = promisify(fs.link);
export const mkdir = promisify(fs.mkdir);
export const readdir = promisify(fs.readdir);
export const readlink = promisify(fs.readlink);
export const realpath = promisify(fs.realpath.native);
export const rename = promisify(fs.rename);
export const rmdir = promisify(fs.rmdir);
export const stat = promisify(fs.stat);
export const unlink = promisify(fs.unlink);

/** Whether the system tells where an open file is. */
export const HAS_PROC = process.platform === "linux" && fs.existsSync("/proc/self/fd");

/** Where an open file is. The descriptor is closed when that cannot be told. */
export async function placeOf(fd: number): Promise<string> {
  try {
    return await readlink(`/proc/self/fd/${fd}`);
  } catch (error) {
    await close(fd);
    throw error;
  }
}

/** Whether one of the parts is a symbolic link. */
export async function leadsThroughLink(root: string, parts: readonly string[]): Promise<boolean> {
  let path = root;
  for (const part of parts) {
    path = join(path, part);
    try {
      if ((await lstat(path)).isSymbolicLink()) return true;
    } catch {
      return false;
    }
  }
  return false;
}

/** Of a plain file at this path; undefined where there is none. */
export async function factsAt(path: string): Promise<FileFacts | undefined> {
  try {
    const stats = await lstat(path);
    return stats.isFile() ? factsOf(stats) : undefined;
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

export function factsOf({ size, mtimeMs }: fs.Stats): FileFacts {
  return { size, modifiedMs: mtimeMs };
}

export async function isDirectoryAt(where: string): Promise<boolean> {
  return lstat(where).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
