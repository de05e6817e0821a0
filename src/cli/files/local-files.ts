/** The files of a folder, in the order of objects' names. */
import { isUtf8 } from "node:buffer";
import type { Dirent } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { aheadOf } from "../../support/bounded.ts";
import { compareNames } from "../../contract/names.ts";
import type { FileStats, LocalThread } from "./local-thread.ts";
import { isTemporaryName } from "./write-file.ts";
import { systemWords } from "../../contract/system-words.ts";

/** So many files are asked about at once. */
const BATCH = 256;

/** Something in a folder, named by its path from there, with `/` between the parts. */
export type LocalEntry =
  | { readonly kind: "file"; readonly name: string; readonly path: string; readonly stats: FileStats }
  /** Not to be stored: a link, a socket, a device. */
  | { readonly kind: "skipped"; readonly name: string; readonly path: string; readonly what: string }
  /** A store's own: nothing of it is looked at. */
  | { readonly kind: "store"; readonly name: string; readonly store: string }
  /** Was there when its folder was read, and is no more: moved, perhaps, to where the walk has been already. */
  | { readonly kind: "gone"; readonly name: string }
  /** Could not be read. */
  | { readonly kind: "error"; readonly name: string; readonly message: string };

export interface WalkOptions {
  /** What becomes of symbolic links: given as "skipped", followed, or left out. */
  readonly links: "report" | "follow" | "ignore";
  /** Name of the store whose folder a path is or lies in; the path has no symbolic links. Default: none's. */
  readonly storeAt?: ((real: string) => string | undefined) | undefined;
  /** Finds out what files are; it stays the caller's to close. */
  readonly thread: LocalThread;
}

/**
 * Walks a folder. Names come in the order of {@link compareNames}, so that they can be compared with a listing in one
 * pass. Rejects when the folder itself cannot be read; what cannot be read in it is given as "error".
 */
export async function* walk(root: string, options: WalkOptions): AsyncGenerator<LocalEntry> {
  const entries = aheadOf(
    walkFolders(root, options),
    { limit: 2 * BATCH, weigh: (one) => ("names" in one ? one.names.length : 1) },
    async (one) => ("names" in one ? look(one, options) : one),
  );
  for await (const batch of entries) for (const entry of batch) yield entry;
}

/** A folder that is being walked. */
interface Frame {
  readonly folder: string;
  /** What the names in it begin with. */
  readonly prefix: string;
  /** Where it and those above it really are. */
  readonly above: readonly string[];
  /** Names of files, and of folders with a slash at the end: that is where their files stand among the names. */
  readonly keys: readonly string[];
  at: number;
}

/** Files of a folder that are not looked at yet. */
interface Names {
  readonly folder: string;
  readonly prefix: string;
  readonly names: readonly string[];
}

/** What is found on a walk, in order: files, several at a time, and what is to be said of others. */
async function* walkFolders(root: string, options: WalkOptions): AsyncGenerator<Names | LocalEntry[]> {
  const stack: Frame[] = [];
  const enter = async (folder: string, prefix: string, above: readonly string[]): Promise<LocalEntry[]> => {
    try {
      const { keys, others } = await readFolder(folder, prefix, options);
      stack.push({ folder, prefix, above, keys, at: 0 });
      return others;
    } catch (error) {
      if (prefix === "") throw error;
      return [errorOf(prefix.slice(0, -1), systemWords(error))];
    }
  };
  yield await enter(root, "", [await realpath(root)]);
  for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
    const { folder, prefix, above, keys } = frame;
    const first = keys[frame.at];
    if (first === undefined) {
      stack.pop();
    } else if (first.endsWith("/")) {
      frame.at++;
      const name = first.slice(0, -1);
      const path = join(folder, name);
      const own = join(above.at(-1) ?? folder, name);
      const real = options.links === "follow" ? await realpath(path).catch(() => own) : own;
      const store = options.storeAt?.(real);
      if (store !== undefined) yield [{ kind: "store", name: `${prefix}${name}`, store }];
      else if (options.links === "follow" && above.includes(real)) {
        yield [errorOf(`${prefix}${name}`, "the link leads back to a folder that it stands in")];
      } else yield await enter(path, `${prefix}${first}`, [...above, real]);
    } else {
      const names: string[] = [];
      for (let next: string | undefined = first; next !== undefined && !next.endsWith("/") && names.length < BATCH;) {
        names.push(next);
        next = keys[++frame.at];
      }
      yield { folder, prefix, names };
    }
  }
}

/** Files as they were found: the next ones are looked at while the caller has these. */
async function look({ folder, prefix, names }: Names, { links, thread }: WalkOptions): Promise<LocalEntry[]> {
  const paths = names.map((name) => join(folder, name));
  const all = await thread.found(paths, links === "follow");
  return all.map((found, place): LocalEntry => {
    const name = `${prefix}${names[place] ?? ""}`;
    if ("message" in found) {
      return found.code === "ENOENT" && links !== "follow"
        ? { kind: "gone", name }
        : errorOf(name, systemWords(Object.assign(new Error(found.message), found)));
    }
    // A file that became a folder has no place in the order of names any more.
    if (!found.isFile) return errorOf(name, "it was replaced while the folder was read");
    return { kind: "file", name, path: paths[place] ?? "", stats: found };
  });
}

function errorOf(name: string, message: string): LocalEntry {
  return { kind: "error", name, message };
}

/** What is in a folder: names in order, and what is not to be stored. */
async function readFolder(
  folder: string,
  prefix: string,
  options: WalkOptions,
): Promise<{ keys: string[]; others: LocalEntry[] }> {
  const keys: string[] = [];
  const others: LocalEntry[] = [];
  let entries: readonly Dirent<string | Buffer>[] = await readdir(folder, { withFileTypes: true });
  // Only its bytes tell a name that is not UTF-8, and would be read as another one, from one that has this character.
  if (entries.some(({ name }) => name.includes("\ufffd"))) {
    entries = await readdir(folder, { withFileTypes: true, encoding: "buffer" });
  }
  for (const entry of entries) {
    if (typeof entry.name !== "string" && !isUtf8(entry.name)) {
      const shown = entry.name.toString("latin1");
      others.push(errorOf(`${prefix}${shown}`, "its name on the disk is not UTF-8"));
      continue;
    }
    const name = entry.name.toString();
    if (isTemporaryName(name)) {
      const what = "a file that pull or get was writing";
      others.push({ kind: "skipped", name: `${prefix}${name}`, path: join(folder, name), what });
    } else if (entry.isFile()) {
      keys.push(name);
    } else if (entry.isDirectory()) {
      keys.push(`${name}/`);
    } else {
      const found = await specialAt(join(folder, name), `${prefix}${name}`, options);
      if (found === "file") keys.push(name);
      else if (found === "folder") keys.push(`${name}/`);
      else if (found !== undefined) others.push(found);
    }
  }
  return { keys: keys.sort(compareNames), others };
}

/** What a link, or what is neither file nor folder, is taken for. Undefined for what is left out. */
async function specialAt(
  path: string,
  name: string,
  options: WalkOptions,
): Promise<"file" | "folder" | LocalEntry | undefined> {
  try {
    let stats = await lstat(path);
    if (stats.isSymbolicLink()) {
      if (options.links === "ignore") return undefined;
      if (options.links === "report") return { kind: "skipped", name, path, what: "a symbolic link" };
      stats = await stat(path);
      const store = stats.isFile() ? options.storeAt?.(await realpath(path)) : undefined;
      if (store !== undefined) return { kind: "store", name, store };
    }
    if (stats.isFile()) return "file";
    if (stats.isDirectory()) return "folder";
    const what = stats.isSocket() ? "a socket" : stats.isFIFO() ? "a pipe" : "a device";
    return { kind: "skipped", name, path, what };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    return code === "ENOENT" && options.links !== "follow" ? { kind: "gone", name } : errorOf(name, systemWords(error));
  }
}
