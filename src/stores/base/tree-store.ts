/**
 * Objects as files in a tree of folders, for every kind of store whose service has files, folders and a rename: SFTP,
 * FTP, WebDAV, SMB. A kind brings a {@link Tree}, the few operations of its protocol; {@link TreeStore} makes a store of
 * it, with the rules that are the same for all of them:
 *
 * - A put writes a temporary file beside its target and renames it onto the target once all bytes are there. A temporary
 *   file of a put that failed is removed; where that cannot be done at once, the next put or delete tries again. What a
 *   crash left is noticed by a listing, and removed by the next put, delete or sweep once it is a day old.
 * - Folders come into being with a put and go with the last object in them.
 * - Listings walk the folders in the order of names: a folder sorts as its name with a `/` behind it.
 * - A name that is not a plain path (an empty part, `.`, `..`), or that the service cannot hold, is `invalid`.
 *
 * The file is longer than others since the tree and the store on it are one contract, which is read together.
 */
import { abortable, checkedBytes } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { Logger } from "../../contract/log.ts";
import { MAX_NAME_BYTES, compareNames } from "../../contract/names.ts";
import { checkRange } from "../../contract/ranges.ts";
import type { Runtime } from "../../contract/runtime.ts";
import type {
  Body,
  ByteRange,
  Capabilities,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  Store,
} from "../../contract/store.ts";
import { linkSignals } from "../../support/signals.ts";
import type { KnownFolders } from "./known-folders.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "./operations.ts";
import { STALE_TEMP_MS, isTempName, tempName } from "./path-names.ts";
import type { StoreContext } from "./store-kind.ts";
import { FoldingNames } from "./folding-names.ts";
import type { NamedPlaces } from "../../support/kept-names.ts";

/** A file's or folder's place: its names from the store's root down. The root itself is `[]`. */
export type TreePath = readonly string[];

export interface TreeEntry {
  readonly name: string;
  /** `other` is what Holdfast leaves alone: symbolic links, devices, pipes. */
  readonly kind: "file" | "folder" | "other";
  /** Bytes of a file; 0 for everything else. */
  readonly size: number;
  readonly modifiedMs?: number | undefined;
}

export interface TreeRead {
  /** Size of the whole file, in bytes. */
  readonly size: number;
  readonly modifiedMs?: number | undefined;
  /** How many bytes `chunks` gives: `size`, or less for a range. */
  readonly length: number;
  /** Iterated at most once. Rejects when the bytes end early. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Lets go of the connection or handle; called always, also after the last byte. */
  close(): Promise<void>;
}

/** The operations of one protocol. All of them reject with a HoldfastError. */
export interface Tree {
  /** Learns what has to be known of the service before a name can be judged. Called before every operation. */
  ready?(signal: AbortSignal | undefined): Promise<void>;
  /**
   * Makes sure that a folder is there, with its parents. May trust what it saw before. `conflict` where a file stands in
   * the way.
   */
  makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void>;
  /** The folders it has seen, where it remembers any. */
  readonly known?: KnownFolders;
  /**
   * Writes a new file and checks that it has every byte. `not-found`, before the first chunk is asked for, when the
   * folder is not there. Gives the number of bytes. `onAlive`: see `OperationOptions`.
   */
  write(
    path: TreePath,
    chunks: AsyncIterable<Uint8Array>,
    size: number | undefined,
    signal: AbortSignal | undefined,
    onAlive: (() => void) | undefined,
  ): Promise<number>;
  /**
   * Whether `write` may be given the object's own name, because the service itself shows no file before it is whole and
   * replaces an old one in one step. Then it rejects with `conflict`, before the first chunk is asked for, where a folder
   * has that name. Without this method: no.
   */
  writesWhole?(signal: AbortSignal | undefined): Promise<boolean>;
  /** Renames a file onto another in the same folder, atomically. `conflict` when a folder has that name. */
  replace(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void>;
  /** `not-found` for what is no file. `reuse`: as in `GetOptions`. */
  read(
    path: TreePath,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
    onAlive: (() => void) | undefined,
    reuse: boolean,
  ): Promise<TreeRead>;
  /** `not-found` for what is not there. */
  stat(path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry>;
  /**
   * Whether anything stands at a path, under any name that the service takes for this one. Without this method `stat` is
   * asked, which may find only files.
   */
  stands?(path: TreePath, signal: AbortSignal | undefined): Promise<boolean>;
  /** What is in a folder, in any order. `not-found` for what is no folder. */
  entries(folder: TreePath, signal: AbortSignal | undefined): AsyncIterable<TreeEntry>;
  /** False when there is no such file. Never removes a folder. */
  removeFile(path: TreePath, signal: AbortSignal | undefined): Promise<boolean>;
  /** Removes a folder only if nothing is in it, decided by the service. False when it cannot be removed. */
  removeEmptyFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean>;
  close(): Promise<void>;
}

export interface TreeStoreOptions {
  readonly context: Pick<StoreContext, "label" | "runtime" | "logger">;
  readonly tree: Tree;
  /**
   * Why the service cannot hold a part of a name (`depth` 0 is the first), or undefined. Empty parts, `.` and `..` are
   * refused already.
   */
  readonly refusePart?: ((part: string, depth: number) => string | undefined) | undefined;
  /** Longest part of a name, in bytes. Default 255. */
  readonly maxNamePartBytes?: number | undefined;
  /** The service never tells case apart, and the tree sees to it itself. Without it the store finds out what it does. */
  readonly foldsAlways?: boolean | undefined;
  /** Remove a folder when the last object in it is deleted. Off where removing an empty folder is costly. Default true. */
  readonly pruneFolders?: boolean | undefined;
}

/** How long a failed or cancelled put may take to remove its temporary file. */
const CLEANUP_MS = 3000;

/** A folder with more entries than this ends a listing with `incomplete`: its names have to be sorted in memory. */
const MAX_FOLDER_ENTRIES = 5_000_000;

/** How many folders of the same parent are listed ahead. */
const READ_AHEAD = 4;

export class TreeStore implements Store {
  readonly label: string;
  readonly #capabilities: Capabilities;
  /** Undefined where the tree sees to names itself. */
  readonly #names: FoldingNames | undefined;
  readonly #tree: Tree;
  readonly #operations: Operations;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #refusePart: (part: string, depth: number) => string | undefined;
  readonly #maxPartBytes: number;
  readonly #pruneFolders: boolean;
  /** Temporary files of puts that failed, which are to go. By joined path. */
  readonly #leftovers = new Map<string, TreePath>();
  /** Temporary files of others that a listing saw, and that may be old. By joined path. */
  readonly #stale = new Map<string, TreePath>();
  /** Temporary files of the puts that are running. */
  readonly #writing = new Set<string>();
  #closing: Promise<void> | undefined;

  constructor(options: TreeStoreOptions) {
    const { context, tree } = options;
    this.label = context.label;
    this.#tree = tree;
    this.#operations = new Operations({ context });
    this.#runtime = context.runtime;
    this.#logger = context.logger;
    this.#refusePart = options.refusePart ?? (() => undefined);
    this.#maxPartBytes = options.maxNamePartBytes ?? 255;
    this.#pruneFolders = options.pruneFolders ?? true;
    this.#names = options.foldsAlways
      ? undefined
      : new FoldingNames(namesOf(options.tree), () => context.runtime.monotonicMs());
    this.#capabilities = {
      orderedList: true,
      conditionalPut: false,
      prefixNames: false,
      maxNameBytes: MAX_NAME_BYTES,
      maxNamePartBytes: this.#maxPartBytes,
      caseSensitive: !(options.foldsAlways ?? false),
      storeDigests: [],
    };
  }

  /** Whether case counts is known from the first put on, and taken for yes before. */
  get capabilities(): Capabilities {
    return this.#names?.folds === true ? { ...this.#capabilities, caseSensitive: false } : this.#capabilities;
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    return this.#operations.run("put", name, options, async ({ signal }) => {
      const within = { ...options, signal };
      const path = await this.#path(name, signal);
      refuseUnsupported(options, NOT_ATOMIC);
      const size = (await this.#tree.writesWhole?.(signal))
        ? await this.#putWhole(path, body, within)
        : await this.#putBeside(path, body, within);
      await this.#removeLeftovers(signal);
      return { size };
    });
  };

  /** A put where a file is not seen before it is whole. */
  async #putWhole(path: TreePath, body: Body, options: PutOptions): Promise<number> {
    const { signal } = options;
    const mark = this.#names?.markFor(path.join("/")) ?? "";
    if (mark !== "") await this.#withEmptyFile(mark, signal, (temp) => this.#names?.learn("", temp, signal));
    return this.#give(path, signal, () => this.#write(path, body, options));
  }

  async #putBeside(path: TreePath, body: Body, options: PutOptions): Promise<number> {
    const { signal } = options;
    const folder = path.slice(0, -1);
    const temp = tempName(this.#runtime, this.#names?.markFor(path.join("/")));
    const at = [...folder, temp];
    try {
      const size = await this.#write(at, body, options);
      throwIfAborted(signal);
      await this.#names?.learn(folder.join("/"), temp, signal);
      await this.#give(path, signal, () => this.#replace(at, path, signal));
      return size;
    } catch (error) {
      await this.#discard(at);
      throw error;
    } finally {
      this.#writing.delete(at.join("/"));
    }
  }

  async #give<T>(path: TreePath, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (!this.#names) return work();
    return this.#names.give(path, signal, work, (kept) => this.#tree.removeFile(kept, signal));
  }

  readonly get: Store["get"] = (name, options = {}) => {
    return this.#operations.get(name, options, async ({ signal }) => {
      const path = await this.#path(name, signal);
      if (options.range) checkRange(options.range);
      const read = await this.#tree.read(path, options.range, signal, options.onAlive, options.reuse ?? false);
      try {
        await this.#names?.refuseToFind(path, signal);
      } catch (error) {
        await read.close();
        throw error;
      }
      return { info: objectInfo(name, read), body: announcedBytes(read), close: () => read.close() };
    });
  };

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, async ({ signal }) => {
      const path = await this.#path(name, signal);
      const entry = await this.#tree.stat(path, signal);
      if (entry.kind !== "file") throw notFound();
      await this.#names?.refuseToFind(path, signal);
      return objectInfo(name, entry);
    });
  };

  readonly list: Store["list"] = (prefix, options = {}) => {
    return this.#operations.iterate(options, ({ signal }) => this.#walk(prefix, options.after ?? "", signal));
  };

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      const path = await this.#path(name, signal);
      if (await this.#names?.isOther(path, signal)) return { existed: false };
      const existed = await this.#tree.removeFile(path, signal);
      this.#names?.noteGone();
      if (existed && this.#pruneFolders) await this.#prune(path.slice(0, -1), signal);
      await this.#removeLeftovers(signal);
      return { existed };
    });
  };

  sweep(options: OperationOptions = {}): Promise<void> {
    return this.#operations.run("delete", undefined, options, ({ signal }) => this.#removeLeftovers(signal));
  }

  close(): Promise<void> {
    this.#operations.end();
    this.#closing ??= this.#tree.close();
    return this.#closing;
  }

  async *#walk(prefix: string, after: string, outer: AbortSignal): AsyncGenerator<ObjectInfo> {
    // Ends the folders that are listed ahead when the caller stops early.
    const ahead = linkSignals(outer);
    const { signal } = ahead;
    try {
      await this.#tree.ready?.(signal);
      const cut = prefix.lastIndexOf("/");
      const folder = cut === -1 ? [] : prefix.slice(0, cut).split("/");
      // No object can have a name that begins like this.
      if (folder.some((part, depth) => this.#refused(part, depth) !== undefined)) return;
      if (folder.length > 0 && (await this.#names?.isOther(folder, signal))) return;
      const walk: Level[] = [new Level(folder, await this.#entries(folder, prefix.slice(cut + 1), after, signal))];
      for (let level = walk.at(-1); level; level = walk.at(-1)) {
        const entry = level.entries[level.next];
        if (!entry) {
          walk.pop();
          continue;
        }
        const at = level.next++;
        const path = [...level.folder, entry.name];
        if (entry.kind === "folder") {
          this.#readAhead(level, at, after, signal);
          const entries = await level.ahead.get(entry.name);
          level.ahead.delete(entry.name);
          walk.push(new Level(path, entries ?? []));
        } else {
          yield objectInfo(path.join("/"), entry);
        }
        throwIfAborted(signal);
      }
    } finally {
      ahead.abort(undefined);
      ahead.release();
    }
  }

  async #path(name: string, signal: AbortSignal): Promise<TreePath> {
    await this.#tree.ready?.(signal);
    const path = name.split("/");
    for (const [depth, part] of path.entries()) {
      const reason = this.#refused(part, depth);
      if (reason !== undefined) {
        throw new HoldfastError("invalid", `the name ${JSON.stringify(name)} cannot be held here: ${reason}`);
      }
    }
    return path;
  }

  #refused(part: string, depth: number): string | undefined {
    if (part === "") return "a part between two slashes is empty";
    if (part === "." || part === "..") return `"${part}" is not a name in a folder`;
    if (isTempName(part)) return "names of this form are kept for temporary files";
    if (part.includes("\0")) return "a part holds a NUL character";
    const bytes = Buffer.byteLength(part);
    if (bytes > this.#maxPartBytes) return `a part is ${bytes} bytes long; at most ${this.#maxPartBytes} are possible`;
    return this.#refusePart(part, depth);
  }

  async #write(path: TreePath, body: Body, { signal, onAlive }: OperationOptions): Promise<number> {
    const folder = path.slice(0, -1);
    let begun = false;
    const chunks = (async function* () {
      begun = true;
      yield* checkedBytes(body, signal);
    })();
    // Another's delete may remove the folder between the making and the writing, but hardly often.
    for (let attempt = 1; ; attempt++) {
      await this.#tree.makeFolder(folder, signal);
      // From here on there is something to remove when the put fails.
      if (isTempName(path.at(-1) ?? "")) this.#writing.add(path.join("/"));
      try {
        return await this.#tree.write(path, chunks, body.size, signal, onAlive);
      } catch (error) {
        if (isHoldfastError(error, "conflict") && !begun && attempt < 5) {
          if (await this.#removeEmptyTree(path, signal)) continue;
        }
        if (!isHoldfastError(error, "not-found")) throw error;
        this.#tree.known?.forget(folder);
        if (begun || attempt === 5) {
          throw new HoldfastError("unavailable", "the folder of the object was removed while it was put", {
            cause: error,
          });
        }
      }
    }
  }

  async #replace(temp: TreePath, path: TreePath, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#tree.replace(temp, path, signal);
    } catch (error) {
      if (isHoldfastError(error, "not-found")) {
        throw new HoldfastError("unavailable", "the temporary file vanished before it was renamed", { cause: error });
      }
      if (!isHoldfastError(error, "conflict")) throw error;
      const removed = await this.#removeEmptyTree(path, signal).catch((failure: unknown) => {
        // What stands in the way has this name in another case only.
        if (isHoldfastError(failure, "not-found")) return false;
        throw failure;
      });
      if (!removed) throw error;
      await this.#tree.replace(temp, path, signal);
    }
  }

  /** Removes folders with nothing but folders in them, which no object needs. False when something else is in there. */
  async #removeEmptyTree(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    for await (const entry of this.#tree.entries(folder, signal)) {
      if (entry.kind !== "folder" || !isPlain(entry.name)) return false;
      if (!(await this.#removeEmptyTree([...folder, entry.name], signal))) return false;
    }
    return this.#removeFolder(folder, signal);
  }

  async #removeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    const removed = await this.#tree.removeEmptyFolder(folder, signal);
    if (removed) this.#tree.known?.forget(folder);
    return removed;
  }

  /** Removes the folders that a delete may have emptied, from the innermost out. Failing is no failure of the delete. */
  async #prune(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    try {
      for (let depth = folder.length; depth > 0; depth--) {
        if (!(await this.#removeFolder(folder.slice(0, depth), signal))) return;
      }
    } catch (error) {
      this.#logger.debug("folder not removed", { store: this.label, error: toHoldfastError(error).message });
    }
  }

  /**
   * Removes the temporary file of a put that failed, even after the caller's signal fired. The caller does not wait for
   * it for ever; what takes longer goes on by itself, and what fails is left to the next put.
   */
  async #discard(temp: TreePath): Promise<void> {
    if (!this.#writing.has(temp.join("/"))) return;
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.#runtime.timer(CLEANUP_MS, resolve);
    });
    await Promise.race([this.#removeTemp(temp), late]);
    cancel();
  }

  /** Never rejects. */
  async #removeTemp(temp: TreePath): Promise<void> {
    try {
      await this.#tree.removeFile(temp, undefined);
    } catch (error) {
      const file = temp.join("/");
      this.#leftovers.set(file, temp);
      this.#logger.warn("temporary file left behind", {
        store: this.label,
        file,
        error: toHoldfastError(error).message,
      });
      return;
    }
    if (this.#pruneFolders) await this.#prune(temp.slice(0, -1), undefined);
  }

  /** Removes what earlier puts, and those of others that were killed, left behind. Failing keeps it for the next time. */
  async #removeLeftovers(signal: AbortSignal | undefined): Promise<void> {
    // Operations at the same time each take their own.
    const leftovers = [...this.#leftovers];
    const stale = [...this.#stale];
    this.#leftovers.clear();
    this.#stale.clear();
    try {
      for (let one = leftovers.at(-1); one; leftovers.pop(), one = leftovers.at(-1)) {
        await this.#tree.removeFile(one[1], signal);
      }
      const now = stale.length > 0 ? await this.#serviceNow(signal) : 0;
      for (let one = stale.at(-1); one; stale.pop(), one = stale.at(-1)) {
        const [file, path] = one;
        if (!(await this.#removeIfOlder(path, now - STALE_TEMP_MS, signal))) continue;
        this.#logger.info("stale temporary file removed", { store: this.label, file });
        if (this.#pruneFolders) await this.#prune(path.slice(0, -1), signal);
      }
    } catch (error) {
      for (const [key, path] of leftovers) this.#leftovers.set(key, path);
      for (const [key, path] of stale) this.#stale.set(key, path);
      this.#logger.debug("temporary file not removed", { store: this.label, error: toHoldfastError(error).message });
    }
  }

  /** False for what was written to since then, or is gone, or has no time. */
  async #removeIfOlder(path: TreePath, thanMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const { modifiedMs } = await this.#tree.stat(path, signal);
      if (modifiedMs === undefined || modifiedMs > thanMs) return false;
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return false;
      throw error;
    }
    return this.#tree.removeFile(path, signal);
  }

  /**
   * The time by the service's clock, from a file that is made for it, so that a clock that is wrong makes nothing look old.
   * As long ago as can be where the service does not tell.
   */
  async #serviceNow(signal: AbortSignal | undefined): Promise<number> {
    return this.#withEmptyFile(
      "",
      signal,
      async (temp) => (await this.#tree.stat([temp], signal)).modifiedMs ?? Number.NEGATIVE_INFINITY,
    );
  }

  /** Does something with a temporary file, in the store's own folder, that is empty and goes afterwards. */
  async #withEmptyFile<T>(
    mark: string,
    signal: AbortSignal | undefined,
    work: (temp: string) => Promise<T> | T,
  ): Promise<T> {
    const temp = tempName(this.#runtime, mark);
    try {
      await this.#write([temp], { size: 0, reopenable: true, open: async function* () {} }, { signal });
      return await work(temp);
    } finally {
      await this.#discard([temp]);
      this.#writing.delete(temp);
    }
  }

  #readAhead(level: Level, from: number, after: string, signal: AbortSignal): void {
    let folders = 0;
    for (let i = from; i < level.entries.length && folders < READ_AHEAD; i++) {
      const entry = level.entries[i];
      if (entry?.kind !== "folder") {
        // Files cost the caller time that a folder further on need not wait for; but it need not be begun yet either.
        if (i - from > 1000) return;
        continue;
      }
      folders++;
      if (level.ahead.has(entry.name)) continue;
      const listing = this.#entries([...level.folder, entry.name], "", after, signal);
      listing.catch(() => undefined);
      level.ahead.set(entry.name, listing);
    }
  }

  /**
   * The objects and folders of a folder whose names start with `start`, in order, without what cannot hold a name behind
   * `after`. Nothing when there is no folder.
   */
  async #entries(folder: TreePath, start: string, after: string, signal: AbortSignal): Promise<TreeEntry[]> {
    const found: TreeEntry[] = [];
    const base = folder.reduce((sum, part) => sum + Buffer.byteLength(part) + 1, 0);
    let count = 0;
    try {
      for await (const entry of abortable(this.#tree.entries(folder, signal), signal)) {
        if (++count > MAX_FOLDER_ENTRIES) {
          throw new HoldfastError("incomplete", `a folder holds more than ${MAX_FOLDER_ENTRIES} entries`);
        }
        if (entry.kind === "other") continue;
        if (!isPlain(entry.name)) {
          throw new HoldfastError(
            "corrupt",
            `the store listed an entry named ${JSON.stringify(entry.name)}, which is no name in a folder`,
          );
        }
        if (!entry.name.startsWith(start)) continue;
        const path = [...folder, entry.name];
        if (isTempName(entry.name)) {
          this.#noticeLeftover(path, entry);
          continue;
        }
        if (
          this.#refused(entry.name, folder.length) !== undefined ||
          base + Buffer.byteLength(entry.name) > MAX_NAME_BYTES
        )
          continue;
        // What a library puts for bytes that are no UTF-8: then this is not the file's name, and nothing can reach it.
        if (entry.name.includes("\uFFFD") && !(await this.#exists(path, signal))) continue;
        found.push(entry);
      }
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return [];
      throw error;
    }
    const above = folder.map((part) => `${part}/`).join("");
    return found
      .map((entry) => ({ entry, key: above + (entry.kind === "folder" ? `${entry.name}/` : entry.name) }))
      .filter(({ entry, key }) => {
        return compareNames(key, after) > 0 || (entry.kind === "folder" && after.startsWith(key));
      })
      .sort((a, b) => compareNames(a.key, b.key))
      .map(({ entry }) => entry);
  }

  #noticeLeftover(path: TreePath, entry: TreeEntry): void {
    const key = path.join("/");
    if (this.#writing.has(key) || entry.kind !== "file") return;
    // Without a time in the listing, it is asked for before the file is removed.
    if ((entry.modifiedMs ?? 0) > this.#runtime.now() - STALE_TEMP_MS) return;
    this.#stale.set(key, path);
  }

  async #exists(path: TreePath, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#tree.stat(path, signal);
      return true;
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return false;
      throw error;
    }
  }
}

function namesOf(tree: Tree): NamedPlaces {
  return {
    stands: async (path, signal) => {
      if (tree.stands) return tree.stands(path.split("/"), signal);
      try {
        await tree.stat(path.split("/"), signal);
        return true;
      } catch (error) {
        if (isHoldfastError(error, "not-found")) return false;
        throw error;
      }
    },
    names: async (folder, signal) => {
      const names: string[] = [];
      for await (const { name } of tree.entries(folder === "" ? [] : folder.split("/"), signal)) names.push(name);
      return names;
    },
  };
}

/** One folder of a listing on its way down. */
class Level {
  readonly folder: TreePath;
  readonly entries: readonly TreeEntry[];
  next = 0;
  readonly ahead = new Map<string, Promise<TreeEntry[]>>();

  constructor(folder: TreePath, entries: readonly TreeEntry[]) {
    this.folder = folder;
    this.entries = entries;
  }
}

/** Whether an entry's name, as a service gave it, stays in its folder. */
function isPlain(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !name.includes("/") && !name.includes("\0");
}

/** The bytes of a read: as many as were announced, or an error. */
async function* announcedBytes({ chunks, length }: TreeRead): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const chunk of chunks) {
    total += chunk.length;
    if (total > length) break;
    if (chunk.length > 0) yield chunk;
  }
  if (total === length) return;
  const many = total > length ? "more" : "fewer";
  throw new HoldfastError("corrupt", `the store gave ${many} than the ${length} bytes it had announced`);
}

function objectInfo(name: string, facts: { size: number; modifiedMs?: number | undefined }): ObjectInfo {
  return { name, size: facts.size, ...(facts.modifiedMs === undefined ? {} : { modifiedMs: facts.modifiedMs }) };
}

/** What a read of no bytes gives. */
export function emptyRead({ size, modifiedMs }: Pick<TreeEntry, "size" | "modifiedMs">): TreeRead {
  return { size, modifiedMs, length: 0, chunks: (async function* () {})(), close: async () => undefined };
}

/** The error for a file where a folder is needed, or the other way round. */
export function inTheWay(path: TreePath | string): HoldfastError {
  const name = typeof path === "string" ? path : path.join("/");
  return new HoldfastError(
    "conflict",
    `${JSON.stringify(name)} is taken on the server, by a folder where a file is to be or the other way round`,
  );
}
