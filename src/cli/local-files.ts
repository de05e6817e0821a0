/** The files of a folder, in the order of objects' names. */
import { close, open, read } from "node:fs";
import type { Stats } from "node:fs";
import { lstat, opendir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { compareNames } from "../names.ts";
import { isTemporaryName } from "./write-file.ts";

/** Something in a folder, named by its path from there, with `/` between the parts. */
export type LocalEntry =
  | { readonly kind: "file"; readonly name: string; readonly path: string; readonly stats: Stats }
  /** Not to be stored: a link, a socket, a device. */
  | { readonly kind: "skipped"; readonly name: string; readonly path: string; readonly what: string }
  /** Could not be read. */
  | { readonly kind: "error"; readonly name: string; readonly message: string };

export interface WalkOptions {
  /** What becomes of symbolic links: given as "skipped", followed, or left out. */
  readonly links: "report" | "follow" | "ignore";
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Walks a folder. Names come in the order of {@link compareNames}, so that they can be compared with a listing in one
 * pass. Rejects when the folder itself cannot be read; what cannot be read in it is given as "error".
 */
export async function* walk(root: string, options: WalkOptions): AsyncGenerator<LocalEntry> {
  yield* walkFolder(root, "", [await realpath(root)], options, true);
}

interface Child {
  /** With a slash at the end for a folder: that is where its files stand among the names. */
  readonly key: string;
  readonly name: string;
  readonly path: string;
  readonly stats: Stats;
}

async function* walkFolder(
  folder: string,
  prefix: string,
  above: readonly string[],
  options: WalkOptions,
  isRoot: boolean,
): AsyncGenerator<LocalEntry> {
  const children: Child[] = [];
  const others: LocalEntry[] = [];
  try {
    // Bytes, since a name on disk need not be UTF-8, and one that is not would be read as another name.
    const entries = await opendir(folder, { encoding: "buffer" as BufferEncoding });
    for await (const entry of entries) {
      const bytes = entry.name as unknown as Uint8Array;
      let name: string;
      try {
        name = decoder.decode(bytes);
      } catch {
        const shown = Buffer.from(bytes).toString("latin1");
        others.push({ kind: "error", name: `${prefix}${shown}`, message: "its name on the disk is not UTF-8" });
        continue;
      }
      const path = join(folder, name);
      if (isTemporaryName(name)) {
        others.push({ kind: "skipped", name: `${prefix}${name}`, path, what: "a file that pull or get was writing" });
        continue;
      }
      const found = await childOf(path, `${prefix}${name}`, options);
      if (found === undefined) continue;
      if ("kind" in found) others.push(found);
      else children.push({ ...found, name, key: found.stats.isDirectory() ? `${name}/` : name });
    }
  } catch (error) {
    if (isRoot) throw error;
    yield { kind: "error", name: prefix.slice(0, -1), message: messageOf(error) };
    return;
  }
  yield* others;
  children.sort((a, b) => compareNames(a.key, b.key));
  for (const child of children) {
    const name = `${prefix}${child.name}`;
    if (child.stats.isFile()) {
      yield { kind: "file", name, path: child.path, stats: child.stats };
      continue;
    }
    let chain = above;
    if (options.links === "follow") {
      const real = await realpath(child.path).catch(() => child.path);
      if (above.includes(real)) {
        yield { kind: "error", name, message: "the link leads back to a folder that it stands in" };
        continue;
      }
      chain = [...above, real];
    }
    yield* walkFolder(child.path, `${name}/`, chain, options, false);
  }
}

async function childOf(
  path: string,
  name: string,
  options: WalkOptions,
): Promise<{ path: string; stats: Stats } | LocalEntry | undefined> {
  try {
    let stats = await lstat(path);
    if (stats.isSymbolicLink()) {
      if (options.links === "ignore") return undefined;
      if (options.links === "report") return { kind: "skipped", name, path, what: "a symbolic link" };
      stats = await stat(path);
    }
    if (stats.isFile() || stats.isDirectory()) return { path, stats };
    const what = stats.isSocket() ? "a socket" : stats.isFIFO() ? "a pipe" : "a device";
    return { kind: "skipped", name, path, what };
  } catch (error) {
    // Gone since the folder was read: then it is not there.
    if (error instanceof Error && "code" in error && error.code === "ENOENT" && options.links !== "follow") {
      return undefined;
    }
    return { kind: "error", name, message: messageOf(error) };
  }
}

// Descriptors instead of the handles of fs/promises: those take twice the time that the calls themselves do.
const openFile = promisify(open);
const readFile = promisify(read);
const closeFile = promisify(close);

/** Up to so many bytes a file is read at once. */
export const SMALL_FILE_BYTES = 64 * 1024;

/**
 * The content of a file that had `size` bytes, in as few calls as can be; undefined when it has more or less by now, or
 * cannot be read.
 */
export async function readSmallFile(path: string, size: number): Promise<Uint8Array | undefined> {
  let fd: number;
  try {
    fd = await openFile(path, "r");
  } catch {
    return undefined;
  }
  try {
    // One byte more shows whether it has grown.
    const buffer = Buffer.allocUnsafeSlow(size + 1);
    const { bytesRead } = await readFile(fd, buffer, 0, size + 1, 0);
    return bytesRead === size ? buffer.subarray(0, size) : undefined;
  } catch {
    return undefined;
  } finally {
    await closeFile(fd);
  }
}
