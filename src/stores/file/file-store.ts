/**
 * A folder as a store.
 *
 * An object is a plain file under its own name. A put writes a temporary file under `.holdfast/tmp/`, flushes it, renames
 * it to its name and flushes the directory, so a crash at any instant leaves the old object or the new one. Directories
 * are made as names need them and removed when they are empty.
 *
 * Nothing outside the folder can be reached: names with empty, `.` or `..` parts are refused, and symbolic links are not
 * followed, neither on the way nor at the end. On Linux every directory and file is opened first and then asked where it
 * is (`/proc/self/fd`), so that swapping a directory for a link at the wrong moment does not help either.
 *
 * A folder that does not exist is an empty store, which the first put makes. One that was there and is gone is
 * `unavailable`: its disk was taken away, mostly, and what stands in its place must not be filled.
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { checkedBytes, toBody } from "../../contract/body.ts";
import { HoldfastError, throwIfAborted } from "../../contract/errors.ts";
import type { Logger } from "../../contract/log.ts";
import { silentLogger } from "../../contract/log.ts";
import { MAX_NAME_BYTES, RESERVED_PREFIX } from "../../contract/names.ts";
import { resolveRange } from "../../contract/ranges.ts";
import { systemRuntime } from "../../contract/runtime.ts";
import type { Runtime } from "../../contract/runtime.ts";
import { removeEmpty } from "../../support/empty-folders.ts";
import { NameTurns } from "../../support/kept-names.ts";
import { Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import type { Running } from "../base/operations.ts";
import { Directories, MAX_TRIES } from "./directories.ts";
import type { Directory } from "./directories.ts";
import { codeOf, cutError, fsError, linkError, putError, systemError } from "./file-errors.ts";
import { MAX_PART_BYTES, TMP, partsOf } from "./file-names.ts";
import { FileRoot, isPlace } from "./file-root.ts";
import { FolderListing } from "./folder-listing.ts";
import { GroupReader } from "./group-reader.ts";
import type { FileFacts, ReadFailure } from "./group-reader.ts";
import { GroupWriter } from "./group-writer.ts";
import {
  HAS_PROC,
  close,
  factsAt,
  factsOf,
  fdatasync,
  fstat,
  link,
  lstat,
  readdir,
  rename,
  rmdir,
  statfs,
  unlink,
} from "./system-calls.ts";
import { readOpen } from "./open-file.ts";
import { TemporaryFiles, temporaryName } from "./temporary-files.ts";
import { writeAll } from "./write-all.ts";
import type {
  Body,
  Capabilities,
  DeleteResult,
  GetOptions,
  GetResult,
  HashOperation,
  HashResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../../contract/store.ts";

/** So many sizes are asked for at once in a listing. */
const STAT_BATCH = 64;
/** So many names are handed on at once where no sizes are wanted. */
const NAMES_BATCH = 1000;
/** Objects of at most so many bytes are written in groups, when as many puts as `GROUP_FROM` are under way. */
const GROUPED_BYTES = 64 * 1024;
const GROUP_FROM = 4;
/** Files are read in groups, when as many gets are under way, once a store has been asked for so many: a thread costs as much. */
const GROUP_READS_AFTER = 128;
/** An object of more bytes is worth a thread that hashes it. */
const HASHED_HERE_BYTES = 8 * 1024 * 1024;

export interface FileStoreOptions {
  readonly label?: string | undefined;
  readonly logger?: Logger | undefined;
  readonly runtime?: Runtime | undefined;
}

export class FileStore implements Store {
  readonly label: string;
  /** The folder, absolute, as given. */
  readonly root: string;
  readonly #logger: Logger;
  readonly #runtime: Runtime;
  readonly #operations: Operations;
  readonly #root: FileRoot;
  readonly #directories: Directories;
  readonly #readers = new Set<() => Promise<void>>();
  readonly #writing = new Set<Promise<unknown>>();
  readonly #temporary: TemporaryFiles;
  /** Names that a file system may take for one are given one after the other. */
  readonly #naming = new NameTurns();
  readonly #group = new GroupWriter();
  readonly #reader = new GroupReader();
  /** Without `/proc` nothing is read in another thread. */
  readonly hash: HashOperation | undefined = HAS_PROC ? (name, options = {}) => this.#hash(name, options) : undefined;
  /** Files that were asked for. */
  #asked = 0;
  /** Gets that have not found their object yet. */
  #opens = 0;

  /** `root` is taken relative to the working directory of now. */
  constructor(root: string, options: FileStoreOptions = {}) {
    this.root = resolve(root);
    this.label = options.label ?? this.root;
    this.#logger = options.logger ?? silentLogger;
    this.#runtime = options.runtime ?? systemRuntime;
    const context = { label: this.label, logger: this.#logger, runtime: this.#runtime };
    this.#operations = new Operations({ context, mapError: fsError });
    const nowMs = (): number => this.#runtime.monotonicMs();
    this.#root = new FileRoot(this.root, nowMs);
    this.#directories = new Directories(this.#root, nowMs);
    this.#temporary = new TemporaryFiles(this.#root, this.#directories, context);
  }

  /** What the file system decides is known from the first put on, and taken for the usual before. */
  get capabilities(): Capabilities {
    const folds = this.#root.foldsMaybe;
    return {
      orderedList: true,
      conditionalPut: this.#root.traits?.hasLinks ?? true,
      prefixNames: false,
      maxNameBytes: MAX_NAME_BYTES,
      maxNamePartBytes: MAX_PART_BYTES,
      caseSensitive: !folds,
      storeDigests: [],
    };
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    const put = this.#operations.run("put", name, options, () => {
      const parts = partsOf(name);
      refuseUnsupported(options);
      const grouped = body.size !== undefined && body.size <= GROUPED_BYTES && this.#groups();
      return grouped ? this.#putGrouped(parts, body, options) : this.#put(parts, body, options);
    });
    return this.#tracked(put);
  };

  async #put(parts: readonly string[], body: Body, options: PutOptions): Promise<PutResult> {
    const signal = options.signal;
    let temporary: { fd: number; path: string } | undefined;
    let directory: Directory | undefined;
    try {
      temporary = await this.#temporary.open();
      if (options.ifAbsent && this.#root.traits?.hasLinks === false) {
        throw new HoldfastError(
          "unsupported",
          "the file system has no hard links, without which ifAbsent is not decided",
        );
      }
      const size = await writeAll(temporary.fd, checkedBytes(body, signal));
      // The directories are made only now: a body that fails leaves none.
      const flushed = fdatasync(temporary.fd);
      const made = this.#directories.make(parts.slice(0, -1));
      const [flush, parent] = await Promise.allSettled([flushed, made]);
      if (parent.status === "fulfilled") directory = parent.value;
      else throw parent.reason;
      if (flush.status === "rejected") throw flush.reason;
      const { fd } = temporary;
      temporary = { fd: -1, path: temporary.path };
      await close(fd);
      throwIfAborted(signal);
      const last = parts.at(-1) ?? "";
      const free = await this.#turnOf(parts);
      try {
        for (let tries = 1; ; tries++) {
          try {
            if (this.#root.traits?.folds === true) await this.#root.refuseOther(parts);
            if (options.ifAbsent) await link(temporary.path, directory.entry(last));
            else await rename(temporary.path, directory.entry(last));
            break;
          } catch (error) {
            const code = codeOf(error);
            const gone = (code === "ENOENT" || code === "ESTALE") && tries < MAX_TRIES;
            const empty =
              (code === "EISDIR" || code === "ENOTEMPTY" || code === "EEXIST") &&
              tries < MAX_TRIES &&
              (await removeEmpty(directory.entry(last)));
            if (!gone && !empty) throw putError(error, code, last);
            if (gone) {
              // A delete took the directory away between the two steps.
              await this.#directories.release(directory, true);
              directory = undefined;
              directory = await this.#directories.make(parts.slice(0, -1));
            }
          }
        }
        if (!options.ifAbsent) temporary = undefined;
        this.#root.kept.note(directory.where, last, true);
        if (this.#root.traits?.changes === true) await this.#refuseChanged(directory, last);
      } finally {
        free();
      }
      await this.#directories.flush(directory, parts.slice(0, -1));
      return { size };
    } finally {
      if (directory) await this.#directories.release(directory);
      if (temporary) {
        if (temporary.fd !== -1) await close(temporary.fd).catch(() => undefined);
        await unlink(temporary.path).catch(() => undefined);
      }
    }
  }

  /** Waits for other puts of names that may be the same file; the result lets the next one go. */
  async #turnOf(parts: readonly string[]): Promise<() => void> {
    if (this.#root.traits?.folds !== true) return () => undefined;
    return this.#naming.take(parts.join("/"));
  }

  /** Takes the object back where the file system gave it another name, under which nobody would find it. */
  async #refuseChanged(directory: Directory, name: string): Promise<void> {
    if ((await readdir(directory.where)).includes(name)) return;
    await unlink(directory.entry(name));
    this.#root.kept.note(directory.where, name, false);
    throw new HoldfastError("invalid", `the file system changes the name ${JSON.stringify(name)}`);
  }

  /** Whether so much is being written at once that a group pays for itself, and its ways are prepared. */
  #groups(): boolean {
    return HAS_PROC && this.#root.traits?.folds === false && this.#writing.size >= GROUP_FROM;
  }

  /** A small object, written together with others. What does not work this way is done, or refused, by itself. */
  async #putGrouped(parts: readonly string[], body: Body, options: PutOptions): Promise<PutResult> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of checkedBytes(body, options.signal)) chunks.push(chunk);
    const bytes = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
    const place = await this.#directories.make(TMP.split("/"));
    let directory: Directory | undefined;
    try {
      directory = await this.#directories.make(parts.slice(0, -1));
      throwIfAborted(options.signal);
      const failure = await this.#group.write({
        temporary: place.entry(temporaryName()),
        target: directory.entry(parts.at(-1) ?? ""),
        directoryFd: directory.fd,
        bytes,
        exclusive: options.ifAbsent ?? false,
      });
      if (failure === undefined) return { size: bytes.byteLength };
      directory.stale = true;
      place.stale = true;
    } finally {
      if (directory) await this.#directories.release(directory);
      await this.#directories.release(place);
    }
    return this.#put(parts, { size: undefined, reopenable: true, open: () => toBody(chunks).open() }, options);
  }

  readonly get: Store["get"] = (name, options = {}) => {
    return this.#operations.run("get", name, options, (running) => this.#get(name, options, running));
  };

  async #get(name: string, options: GetOptions, running: Running): Promise<GetResult> {
    this.#opens++;
    try {
      const parts = partsOf(name);
      if (this.#readsInGroups() && this.#opens >= GROUP_FROM) {
        const whole = await this.#getGrouped(name, parts, options, running);
        if (whole !== undefined) return whole;
      }
      const fd = await this.#root.open(parts);
      try {
        const stats = await fstat(fd);
        if (!stats.isFile()) throw notFound();
        const { start, end } = resolveRange(options.range, stats.size);
        throwIfAborted(options.signal);
        const failed = (error: unknown): HoldfastError => this.#operations.failure(error, "get", name);
        const { signal, reuse = false } = options;
        const file = { fd, start, end, signal, reuse, failed, readers: this.#readers };
        return { info: infoOf(name, factsOf(stats)), ...readOpen(file) };
      } catch (error) {
        await close(fd);
        throw error;
      }
    } finally {
      this.#opens--;
    }
  }

  /** Whether so much was asked for that a thread for it pays for itself. To be asked before each file. */
  #readsInGroups(): boolean {
    this.#asked++;
    return HAS_PROC && this.#asked > GROUP_READS_AFTER && this.#reader.isFast();
  }

  async #hash(name: string, options: OperationOptions): Promise<HashResult> {
    if (!this.#readsInGroups()) {
      const found = await this.get(name, options);
      if (found.info.size <= HASHED_HERE_BYTES) {
        const digest = createHash("sha256");
        for await (const chunk of found.body) digest.update(chunk);
        return { size: found.info.size, sha256: digest.digest("hex") };
      }
      await found.close();
    }
    return this.#operations.run("get", name, options, async (running) => {
      const parts = partsOf(name);
      const root = await this.#root.toRead();
      if (root === undefined || (await this.#root.isOther(root, parts))) throw notFound();
      const path = join(root, ...parts);
      const file = await this.#reader.hash(path, () => {
        running.check();
        options.onAlive?.();
      });
      const found = await this.#isFound(file, path, root, parts);
      throwIfAborted(options.signal);
      return { size: found.size, sha256: found.sha256 };
    });
  }

  /** What the thread found at a path, where that is an object. */
  async #isFound<T extends { readonly where: string; readonly isFile: boolean; readonly cutAt: number | undefined }>(
    file: T | ReadFailure,
    path: string,
    root: string,
    parts: readonly string[],
  ): Promise<T> {
    if ("code" in file) throw await this.#root.notOpened(systemError(file), root, parts);
    if (!isPlace(file.where, path) && !this.#root.isAt(file.where, path)) throw linkError();
    if (!file.isFile) throw notFound();
    if (file.cutAt !== undefined) throw cutError(file.cutAt);
    return file;
  }

  /** A small object, read whole together with others; undefined for a large one, which nobody has read of yet. */
  async #getGrouped(
    name: string,
    parts: readonly string[],
    options: GetOptions,
    running: Running,
  ): Promise<GetResult | undefined> {
    const root = await this.#root.toRead();
    if (root === undefined || (await this.#root.isOther(root, parts))) throw notFound();
    const path = join(root, ...parts);
    const file = await this.#isFound(await this.#reader.read(path), path, root, parts);
    const { bytes } = file;
    if (bytes === undefined) return undefined;
    const { start, end } = resolveRange(options.range, file.size);
    throwIfAborted(options.signal);
    let closed = false;
    const chunks = async function* (this: FileStore): AsyncGenerator<Uint8Array> {
      try {
        running.check();
        if (closed) throw new HoldfastError("invalid", "the read was closed");
        if (end > start) yield Buffer.from(bytes.buffer, start, end - start);
        throwIfAborted(options.signal);
      } catch (error) {
        throw this.#operations.failure(error, "get", name);
      }
    };
    const shut = async (): Promise<void> => {
      closed = true;
    };
    return { info: infoOf(name, file), body: chunks.call(this), close: shut };
  }

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, async () => {
      const parts = partsOf(name);
      const root = await this.#root.toRead();
      if (root === undefined || (await this.#root.isOther(root, parts))) throw notFound();
      let stats;
      try {
        if (parts.length > 1) await this.#root.expectInside(join(root, ...parts.slice(0, -1)));
        stats = await lstat(join(root, ...parts));
      } catch (error) {
        throw await this.#root.notThere(error);
      }
      if (stats.isSymbolicLink()) throw linkError();
      if (!stats.isFile()) throw notFound();
      throwIfAborted(options.signal);
      return infoOf(name, factsOf(stats));
    });
  };

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const batches = this.#listing(prefix, options, STAT_BATCH, async (root, names) => {
      const facts = await Promise.all(names.map((name) => factsAt(`${root}/${name}`)));
      // Without those that are gone since their directory was read.
      return names.flatMap((name, place) => (facts[place] ? [infoOf(name, facts[place])] : []));
    });
    for await (const infos of batches) for (const info of infos) yield info;
  }

  listNames(prefix: string, options: ListOptions = {}): AsyncIterable<readonly string[]> {
    return this.#listing(prefix, options, NAMES_BATCH, async (_root, names) => names);
  }

  /** `look` is given the names of each batch, and what it makes of them is handed on. */
  #listing<T>(
    prefix: string,
    options: ListOptions,
    size: number,
    look: (root: string, names: readonly string[]) => Promise<readonly T[]>,
  ): AsyncGenerator<readonly T[]> {
    return this.#operations.iterate(options, (running) => {
      const context = { label: this.label, logger: this.#logger };
      return new FolderListing(this.#root, prefix, options.after, running, context).batches(size, look);
    });
  }

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#tracked(this.#operations.run("delete", name, options, () => this.#delete(partsOf(name), options)));
  };

  async #delete(parts: readonly string[], options: OperationOptions): Promise<DeleteResult> {
    const above = parts.slice(0, -1);
    let directory: Directory | undefined;
    const root = await this.#root.real();
    if (root !== undefined && (await this.#root.isOther(root, parts))) return { existed: false };
    try {
      try {
        directory = await this.#directories.doIn(above, async (found) => {
          throwIfAborted(options.signal);
          await unlink(found.entry(parts.at(-1) ?? ""));
        });
        this.#root.kept.note(directory.where, parts.at(-1) ?? "", false);
      } catch (error) {
        const found = await this.#root.notThere(error);
        if (found.code === "not-found") return { existed: false };
        throw found;
      }
      // Empty directories go too: they would be in the way of an object of their name.
      while (above.length > 0) {
        const child = above.at(-1) ?? "";
        let parent: Directory;
        try {
          parent = await this.#directories.open(above.slice(0, -1));
        } catch {
          break;
        }
        try {
          await rmdir(parent.entry(child));
          this.#root.kept.note(parent.where, child, false);
        } catch {
          // Not empty, mostly; or another delete was faster.
          await this.#directories.release(parent);
          break;
        }
        directory.stale = true;
        await this.#directories.release(directory, true);
        directory = parent;
        above.pop();
      }
      await this.#directories.flush(directory, above);
      return { existed: true };
    } finally {
      if (directory) await this.#directories.release(directory);
    }
  }

  async freeBytes(): Promise<number | undefined> {
    const root = await this.#root.toRead();
    if (root === undefined) return undefined;
    const { bavail, bsize } = await statfs(root);
    return bavail * bsize;
  }

  async close(): Promise<void> {
    if (!this.#operations.end()) return;
    await Promise.allSettled(this.#writing);
    await this.#group.close();
    await this.#reader.close();
    await Promise.allSettled([...this.#readers].map((shut) => shut()));
    const real = this.#root.found;
    if (real !== undefined) {
      // Both stay when they are not empty.
      await rmdir(join(real, TMP)).catch(() => undefined);
      await rmdir(join(real, RESERVED_PREFIX)).catch(() => undefined);
    }
  }

  #tracked<T>(work: Promise<T>): Promise<T> {
    const settled = work.finally(() => this.#writing.delete(settled));
    this.#writing.add(settled);
    return settled;
  }
}

function infoOf(name: string, { size, modifiedMs }: FileFacts): ObjectInfo {
  return { name, size, modifiedMs };
}
