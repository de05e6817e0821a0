/** One listing of a store's folder. */
import { isUtf8 } from "node:buffer";
import type * as fs from "node:fs";
import { join } from "node:path";
import { MAX_NAME_BYTES, compareNames } from "../../contract/names.ts";
import type { Running } from "../base/operations.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { MAX_TRIES } from "./directories.ts";
import { codeOf, isGone } from "./file-errors.ts";
import { TMP, isPart } from "./file-names.ts";
import type { FileRoot } from "./file-root.ts";
import { isDirectoryAt, readdir } from "./system-calls.ts";

export class FolderListing {
  readonly #root: FileRoot;
  readonly #prefix: string;
  readonly #after: string | undefined;
  readonly #running: Running;
  readonly #context: Pick<StoreContext, "label" | "logger">;
  /** How many entries were left out for their names so far. */
  #invalidNames = 0;
  /** How many entries were left out as no files so far. */
  #notFiles = 0;

  constructor(
    root: FileRoot,
    prefix: string,
    after: string | undefined,
    running: Running,
    context: Pick<StoreContext, "label" | "logger">,
  ) {
    this.#root = root;
    this.#prefix = prefix;
    this.#after = after;
    this.#running = running;
    this.#context = context;
  }

  /** What `look` makes of the names of each batch, of `size` names at most. It is told the folder without links, too. */
  async *batches<T>(
    size: number,
    look: (root: string, names: readonly string[]) => Promise<readonly T[]>,
  ): AsyncGenerator<readonly T[]> {
    const root = await this.#root.toRead();
    if (root === undefined) return;
    try {
      for await (const names of this.#names(root, size)) yield await look(root, names);
    } finally {
      this.#warn();
    }
  }

  /** Logs how many entries of the folder were left out, where there were any. */
  #warn(): void {
    const { label: store, logger } = this.#context;
    if (this.#invalidNames > 0) {
      logger.warn("list.names-skipped", {
        store,
        count: this.#invalidNames,
        reason: "file names that are not UTF-8, or too long, cannot be names of objects",
      });
    }
    if (this.#notFiles > 0) {
      logger.warn("list.not-files-skipped", {
        store,
        count: this.#notFiles,
        reason: "symbolic links, sockets, pipes and devices are no objects",
      });
    }
  }

  /** Names of objects below `root`, the folder without links, up to `size` at a time. */
  async *#names(root: string, size: number): AsyncGenerator<readonly string[]> {
    const prefix = this.#prefix;
    const above = prefix.split("/").slice(0, -1);
    // No object has such a part, so nothing begins with this.
    if (prefix.includes("\0") || above.some((part) => !isPart(part))) return;
    const top = above.length === 0 ? "" : `${above.join("/")}/`;
    if (top !== "" && (await this.#root.isOther(root, above))) return;
    if (top.startsWith(`${TMP}/`)) return;
    try {
      if (top !== "") await this.#root.expectInside(join(root, ...above));
    } catch (error) {
      const found = await this.#root.notThere(error);
      if (found.code === "not-found") return;
      throw found;
    }
    interface Frame {
      readonly path: string;
      readonly entries: string;
      at: number;
    }
    const stack: Frame[] = [{ path: top, entries: await this.#entries(root, top), at: 0 }];
    for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
      const { path, entries } = frame;
      let end = entries.indexOf("\0", frame.at);
      if (end < 0) {
        stack.pop();
        continue;
      }
      this.#running.check();
      if (entries[end - 1] === "/") {
        const below = path + entries.slice(frame.at, end);
        frame.at = end + 1;
        if (below === `${TMP}/`) continue;
        stack.push({ path: below, entries: await this.#entries(root, below), at: 0 });
        continue;
      }
      const names: string[] = [];
      for (; end >= 0 && entries[end - 1] !== "/" && names.length < size; end = entries.indexOf("\0", frame.at)) {
        names.push(path + entries.slice(frame.at, end));
        frame.at = end + 1;
      }
      yield names;
    }
  }

  /**
   * Entries of a directory that are meant by the listing, in the order of the full names, each with a NUL at its end; a
   * directory's has a slash before that. (Very many strings would take ten times the memory of one.) Empty when it is gone.
   */
  async #entries(root: string, path: string): Promise<string> {
    const prefix = this.#prefix;
    const after = this.#after;
    const where = join(root, path);
    let found: readonly fs.Dirent<string | Buffer>[];
    for (let tries = 1; ; tries++) {
      try {
        found = await readdir(where, { withFileTypes: true });
        // What is not UTF-8 has this in its place, and only its bytes tell it from a name that has it.
        if (found.some(({ name }) => name.includes("\ufffd"))) {
          found = await readdir(where, { withFileTypes: true, encoding: "buffer" });
        }
        break;
      } catch (error) {
        const code = codeOf(error);
        // On a file system that does not say what an entry is, each is asked for, and one may be gone by then.
        const isThere = isGone(error) && (await isDirectoryAt(where));
        if (isThere && tries < MAX_TRIES) continue;
        if (!isThere && path !== "" && (isGone(error) || code === "ENOTDIR")) return "";
        throw path === "" ? await this.#root.notThere(error) : error;
      }
    }
    const isWhole = path.startsWith(prefix);
    const entries: string[] = [];
    for (const one of found) {
      const name = one.name.toString();
      const directory = one.isDirectory();
      const entry = directory ? `${name}/` : name;
      if (!isWhole) {
        const full = path + entry;
        if (!full.startsWith(prefix) && !(directory && prefix.startsWith(full))) continue;
      }
      if (after !== undefined && isBefore(path + entry, after)) continue;
      if ((typeof one.name !== "string" && !isUtf8(one.name)) || isTooLong(path, name)) this.#invalidNames++;
      else if (directory || one.isFile()) entries.push(entry);
      else this.#notFiles++;
    }
    entries.sort(compareNames).push("");
    return entries.join("\0");
  }
}

/** Whether an entry, a directory's with a slash at its end, has nothing to do with names behind `after`. */
function isBefore(entry: string, after: string): boolean {
  return compareNames(entry, after) <= 0 && !(entry.endsWith("/") && after.startsWith(entry));
}

/** Whether a path is too long for a name. A character of UTF-16 takes three bytes at most. */
function isTooLong(path: string, name: string): boolean {
  return (path.length + name.length) * 3 > MAX_NAME_BYTES && Buffer.byteLength(path + name) > MAX_NAME_BYTES;
}
