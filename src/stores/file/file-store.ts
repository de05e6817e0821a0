/**
 * A folder as a store: `file:///absolute`, `file://relative` and plain paths, as duplicity reads them.
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
import { createHash, randomBytes } from "node:crypto";
import { isUtf8 } from "node:buffer";
import * as fs from "node:fs";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { CHUNK_BYTES, checkedBytes, toBody } from "../../contract/body.ts";
import { HoldfastError, abortError, throwIfAborted } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import type { Logger } from "../../contract/log.ts";
import { silentLogger } from "../../contract/log.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { systemCode } from "../../support/network-errors.ts";
import { MAX_NAME_BYTES, RESERVED_PREFIX, compareNames } from "../../contract/names.ts";
import { Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import type { Running } from "../base/operations.ts";
import type { StoreKind } from "../base/store-kind.ts";
import { resolveRange } from "../../contract/ranges.ts";
import { systemRuntime } from "../../contract/runtime.ts";
import type { Runtime } from "../../contract/runtime.ts";
import { looksLikeUrl } from "../../contract/store-url.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { GroupReader } from "./group-reader.ts";
import type { FileFacts, ReadFailure } from "./group-reader.ts";
import { GroupWriter } from "./group-writer.ts";
import { placeOfFolder } from "../base/place.ts";
import { foldsNameIn, localNames, traitsOf } from "../../support/file-system-traits.ts";
import { foldedName, KeptNames, NameTurns } from "../../support/kept-names.ts";
import type { FileSystemTraits } from "../../support/file-system-traits.ts";
import { SharedRun } from "../../support/shared-run.ts";
import { removeEmpty } from "../../support/empty-folders.ts";
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
import { systemWords, systemWordsOfPath } from "../../contract/system-words.ts";

// Plain descriptors: a FileHandle costs a third more on small files.
const open = promisify(fs.open);
const close = promisify(fs.close);
const statfs = promisify(fs.statfs);
const read = promisify(fs.read);
const fstat = promisify(fs.fstat);
const fdatasync = promisify(fs.fdatasync);
const fsync = promisify(fs.fsync);
const lstat = promisify(fs.lstat);
const link = promisify(fs.link);
const mkdir = promisify(fs.mkdir);
const readdir = promisify(fs.readdir);
const readlink = promisify(fs.readlink);
const realpath = promisify(fs.realpath.native);
const rename = promisify(fs.rename);
const rmdir = promisify(fs.rmdir);
const stat = promisify(fs.stat);
const unlink = promisify(fs.unlink);
const writev = promisify(fs.writev);

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = fs.constants;

/** The longest part of a name, in bytes: the limit of every common file system. */
const MAX_PART_BYTES = 255;
/** Where temporary files are, below the root: on its file system, and never listed. */
const TMP = `${RESERVED_PREFIX}tmp`;
/** A temporary file of a process that cannot be asked about is a leftover when nothing was written to it for so long. */
const STRAY_AFTER_MS = 24 * 60 * 60 * 1000;
/** How often a put goes back to making its directories when deletes take them away. */
const MAX_TRIES = 50;
/** An open directory is shared between operations for so long; then it is looked up by its path again. */
const SHARE_MS = 1000;
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
/** Chunks of fewer bytes are copied together before they are written. */
const SMALL_CHUNK_BYTES = 16 * 1024;

/** Whether file systems of this platform mostly take names that differ in case for one. */
const OFTEN_FOLDS = process.platform === "darwin" || process.platform === "win32";
const HAS_PROC = process.platform === "linux" && fs.existsSync("/proc/self/fd");

export interface FileStoreOptions {
  readonly label?: string | undefined;
  readonly logger?: Logger | undefined;
  readonly runtime?: Runtime | undefined;
}

/** A directory that was opened and found to be where it should be. */
class Directory {
  readonly fd: number;
  /** Where it really is. */
  readonly where: string;
  readonly openedMs: number;
  refs = 1;
  /** No longer given to others. */
  stale = false;

  constructor(fd: number, where: string, openedMs: number) {
    this.fd = fd;
    this.where = where;
    this.openedMs = openedMs;
  }

  /** Path of an entry: through the descriptor where that can be, so that no link can come between. */
  entry(name: string): string {
    return HAS_PROC ? `/proc/self/fd/${this.fd}/${name}` : `${this.where}/${name}`;
  }

  /** Flushes the directory. */
  readonly flush = new SharedRun(() =>
    fsync(this.fd).catch((error: unknown) => {
      // Some file systems know no flush of a directory; there is nothing more to be had from them.
      const code = codeOf(error);
      if (code !== "EINVAL" && code !== "ENOTSUP") throw error;
    }),
  );
}

export class FileStore implements Store {
  readonly label: string;
  /** The folder, absolute, as given. */
  readonly root: string;
  /** The folder without symbolic links, once it was found. */
  #real: string | undefined;
  readonly #logger: Logger;
  readonly #runtime: Runtime;
  readonly #operations: Operations;
  readonly #directories = new Map<string, Directory>();
  readonly #opening = new Map<string, Promise<Directory>>();
  /** Directories that are being made and flushed. */
  readonly #making = new Map<string, Promise<void>>();
  readonly #readers = new Set<() => Promise<void>>();
  readonly #writing = new Set<Promise<unknown>>();
  #wasThere = false;
  #swept: Promise<void> | undefined;
  /** Of the folder's file system, once something was put. */
  #traits: FileSystemTraits | undefined;
  /** Whether it folds names, as far as that can be seen without writing. */
  #looksFolding: boolean | undefined;
  readonly #kept: KeptNames;
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
    this.#kept = new KeptNames(localNames, () => this.#runtime.monotonicMs());
  }

  /** What the file system decides is known from the first put on, and taken for the usual before. */
  get capabilities(): Capabilities {
    const folds = this.#traits?.folds ?? this.#looksFolding ?? OFTEN_FOLDS;
    return {
      orderedList: true,
      conditionalPut: this.#traits?.hasLinks ?? true,
      prefixNames: false,
      maxNameBytes: MAX_NAME_BYTES,
      maxNamePartBytes: MAX_PART_BYTES,
      caseSensitive: !folds,
      storeDigests: [],
    };
  }

  put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    const put = this.#operations.run("put", name, options, () => {
      const parts = partsOf(name);
      refuseUnsupported(options);
      const grouped = body.size !== undefined && body.size <= GROUPED_BYTES && this.#groups();
      return grouped ? this.#putGrouped(parts, body, options) : this.#put(parts, body, options);
    });
    return this.#tracked(put);
  }

  async #put(parts: readonly string[], body: Body, options: PutOptions): Promise<PutResult> {
    const signal = options.signal;
    let temporary: { fd: number; path: string } | undefined;
    let directory: Directory | undefined;
    try {
      temporary = await this.#openTemporary();
      if (options.ifAbsent && this.#traits?.hasLinks === false) {
        throw new HoldfastError(
          "unsupported",
          "the file system has no hard links, without which ifAbsent is not decided",
        );
      }
      const size = await writeAll(temporary.fd, checkedBytes(body, signal));
      // The directories are made only now: a body that fails leaves none.
      const flushed = fdatasync(temporary.fd);
      const made = this.#makeDirectory(parts.slice(0, -1));
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
            if (this.#traits?.folds === true) await this.#refuseOther(parts);
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
              await this.#release(directory, true);
              directory = undefined;
              directory = await this.#makeDirectory(parts.slice(0, -1));
            }
          }
        }
        if (!options.ifAbsent) temporary = undefined;
        this.#kept.note(directory.where, last, true);
        if (this.#traits?.changes === true) await this.#refuseChanged(directory, last);
      } finally {
        free();
      }
      await this.#flush(directory, parts.slice(0, -1));
      return { size };
    } finally {
      if (directory) await this.#release(directory);
      if (temporary) {
        if (temporary.fd !== -1) await close(temporary.fd).catch(() => undefined);
        await unlink(temporary.path).catch(() => undefined);
      }
    }
  }

  /** Waits for other puts of names that may be the same file; the result lets the next one go. */
  async #turnOf(parts: readonly string[]): Promise<() => void> {
    if (this.#traits?.folds !== true) return () => undefined;
    return this.#naming.take(parts.join("/"));
  }

  /** Throws `conflict` where the file system would take the name for another one. */
  async #refuseOther(parts: readonly string[]): Promise<void> {
    const root = await this.#realRoot();
    const other = root === undefined ? undefined : await this.#kept.otherThan(root, parts);
    if (other !== undefined) throw otherName(other);
  }

  /** Takes the object back where the file system gave it another name, under which nobody would find it. */
  async #refuseChanged(directory: Directory, name: string): Promise<void> {
    if ((await readdir(directory.where)).includes(name)) return;
    await unlink(directory.entry(name));
    this.#kept.note(directory.where, name, false);
    throw new HoldfastError("invalid", `the file system changes the name ${JSON.stringify(name)}`);
  }

  /** Whether nothing is there under the very name: what the file system finds may be called otherwise. */
  async #isOther(root: string, parts: readonly string[]): Promise<boolean> {
    return (await this.#folds(root)) && (await this.#kept.otherThan(root, parts)) !== undefined;
  }

  async #folds(root: string): Promise<boolean> {
    if (this.#traits !== undefined) return this.#traits.folds;
    this.#looksFolding ??= await foldsNameIn(root, RESERVED_PREFIX.slice(0, -1)).catch(() => false);
    return this.#looksFolding;
  }

  /** Does something in a directory, and once more where its descriptor leads nowhere any more: in a union it was moved. */
  async #directoryOf(parts: readonly string[], work: (directory: Directory) => Promise<void>): Promise<Directory> {
    for (let tries = 1; ; tries++) {
      const directory = await this.#directory(parts);
      try {
        await work(directory);
        return directory;
      } catch (error) {
        const isStale = codeOf(error) === "ESTALE";
        await this.#release(directory, isStale);
        if (!isStale || tries >= MAX_TRIES) throw error;
      }
    }
  }

  /** Flushes a directory, or what is above it where it was removed meanwhile. */
  async #flush(directory: Directory, parts: readonly string[]): Promise<void> {
    try {
      await directory.flush.run();
      return;
    } catch (error) {
      if (!isGone(error)) throw error;
      directory.stale = true;
    }
    for (let above = parts; ; above = above.slice(0, -1)) {
      try {
        const again = await this.#directory(above);
        try {
          await again.flush.run();
          return;
        } catch (error) {
          again.stale = true;
          throw error;
        } finally {
          await this.#release(again);
        }
      } catch (error) {
        if (!isGone(error) || above.length === 0) throw error;
      }
    }
  }

  /** Whether so much is being written at once that a group pays for itself, and its ways are prepared. */
  #groups(): boolean {
    return HAS_PROC && this.#traits?.folds === false && this.#writing.size >= GROUP_FROM;
  }

  /** A small object, written together with others. What does not work this way is done, or refused, by itself. */
  async #putGrouped(parts: readonly string[], body: Body, options: PutOptions): Promise<PutResult> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of checkedBytes(body, options.signal)) chunks.push(chunk);
    const bytes = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
    const place = await this.#makeDirectory(TMP.split("/"));
    let directory: Directory | undefined;
    try {
      directory = await this.#makeDirectory(parts.slice(0, -1));
      throwIfAborted(options.signal);
      const failure = await this.#group.write({
        temporary: place.entry(`${OWNER}.${process.pid}.${randomBytes(8).toString("hex")}`),
        target: directory.entry(parts.at(-1) ?? ""),
        directoryFd: directory.fd,
        bytes,
        exclusive: options.ifAbsent ?? false,
      });
      if (failure === undefined) return { size: bytes.byteLength };
      directory.stale = true;
      place.stale = true;
    } finally {
      if (directory) await this.#release(directory);
      await this.#release(place);
    }
    return this.#put(parts, { size: undefined, reopenable: true, open: () => toBody(chunks).open() }, options);
  }

  get(name: string, options: GetOptions = {}): Promise<GetResult> {
    return this.#operations.run("get", name, options, (running) => this.#get(name, options, running));
  }

  async #get(name: string, options: GetOptions, running: Running): Promise<GetResult> {
    this.#opens++;
    try {
      const parts = partsOf(name);
      if (this.#readsInGroups() && this.#opens >= GROUP_FROM) {
        const whole = await this.#getGrouped(name, parts, options, running);
        if (whole !== undefined) return whole;
      }
      const fd = await this.#openObject(parts);
      try {
        const stats = await fstat(fd);
        if (!stats.isFile()) throw notFound();
        const { start, end } = resolveRange(options.range, stats.size);
        throwIfAborted(options.signal);
        return this.#chunksOf(name, fd, stats, { start, end }, options);
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
      const root = await this.#rootToRead();
      if (root === undefined || (await this.#isOther(root, parts))) throw notFound();
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
    if ("code" in file) throw await this.#notOpened(systemError(file), root, parts);
    if (!isPlace(file.where, path) && !this.#isAt(file.where, path)) throw linkError();
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
    const root = await this.#rootToRead();
    if (root === undefined || (await this.#isOther(root, parts))) throw notFound();
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

  #chunksOf(
    name: string,
    fd: number,
    stats: fs.Stats,
    { start, end }: { readonly start: number; readonly end: number },
    { signal, reuse }: GetOptions,
  ): GetResult {
    let pending: Promise<unknown> | undefined;
    let closing: Promise<void> | undefined;
    const onAbort = (): void => void shut().catch(() => undefined);
    const shut = (): Promise<void> => {
      closing ??= (async () => {
        this.#readers.delete(shut);
        signal?.removeEventListener("abort", onAbort);
        // A descriptor must not be closed under a read: its number may be another file's by then.
        await pending?.catch(() => undefined);
        await close(fd);
      })();
      return closing;
    };
    this.#readers.add(shut);
    signal?.addEventListener("abort", onAbort, { once: true });
    // Given to nobody: the one that the consumer had before the last.
    let idle: Buffer | undefined;
    const readAt = async (at: number): Promise<Buffer> => {
      const length = Math.min(CHUNK_BYTES, end - at);
      const buffer = idle ?? Buffer.allocUnsafeSlow(length);
      idle = undefined;
      const { bytesRead } = await read(fd, buffer, 0, length, at);
      if (bytesRead === 0) throw cutError(at);
      return buffer.subarray(0, bytesRead);
    };
    const chunks = async function* (this: FileStore): AsyncGenerator<Uint8Array> {
      try {
        // One chunk ahead of the consumer.
        let next: Promise<Buffer> | undefined;
        for (let at = start; at < end;) {
          if (signal?.aborted) throw abortError(signal);
          if (closing) throw new HoldfastError("invalid", "the read was closed");
          next ??= readAt(at);
          pending = next;
          const chunk = await next;
          at += chunk.length;
          next = undefined;
          if (at < end && !closing) {
            next = readAt(at);
            pending = next;
            next.catch(() => undefined);
          }
          yield chunk;
          if (reuse) idle = Buffer.from(chunk.buffer);
        }
        if (signal?.aborted) throw abortError(signal);
      } catch (error) {
        throw this.#operations.failure(error, "get", name);
      } finally {
        await shut();
      }
    };
    return { info: infoOf(name, factsOf(stats)), body: chunks.call(this), close: shut };
  }

  stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#operations.run("stat", name, options, async () => {
      const parts = partsOf(name);
      const root = await this.#rootToRead();
      if (root === undefined || (await this.#isOther(root, parts))) throw notFound();
      let stats;
      try {
        if (parts.length > 1) await this.#expectInside(join(root, ...parts.slice(0, -1)));
        stats = await lstat(join(root, ...parts));
      } catch (error) {
        throw await this.#notThere(error);
      }
      if (stats.isSymbolicLink()) throw linkError();
      if (!stats.isFile()) throw notFound();
      throwIfAborted(options.signal);
      return infoOf(name, factsOf(stats));
    });
  }

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
      return this.#batches({ prefix, after: options.after, running, invalidNames: 0, notFiles: 0 }, size, look);
    });
  }

  async *#batches<T>(
    listing: Listing,
    size: number,
    look: (root: string, names: readonly string[]) => Promise<readonly T[]>,
  ): AsyncGenerator<readonly T[]> {
    try {
      const root = await this.#rootToRead();
      if (root === undefined) return;
      for await (const names of this.#walk(root, listing, size)) yield await look(root, names);
    } finally {
      if (listing.invalidNames > 0) {
        this.#logger.warn("list.names-skipped", {
          store: this.label,
          count: listing.invalidNames,
          reason: "file names that are not UTF-8, or too long, cannot be names of objects",
        });
      }
      if (listing.notFiles > 0) {
        this.#logger.warn("list.not-files-skipped", {
          store: this.label,
          count: listing.notFiles,
          reason: "symbolic links, sockets, pipes and devices are no objects",
        });
      }
    }
  }

  /** Names of objects, up to `size` at a time. */
  async *#walk(root: string, listing: Listing, size: number): AsyncGenerator<readonly string[]> {
    const { prefix } = listing;
    const above = prefix.split("/").slice(0, -1);
    // No object has such a part, so nothing begins with this.
    if (prefix.includes("\0") || above.some((part) => !isPart(part))) return;
    const top = above.length === 0 ? "" : `${above.join("/")}/`;
    if (top !== "" && (await this.#isOther(root, above))) return;
    if (top.startsWith(`${TMP}/`)) return;
    try {
      if (top !== "") await this.#expectInside(join(root, ...above));
    } catch (error) {
      const found = await this.#notThere(error);
      if (found.code === "not-found") return;
      throw found;
    }
    interface Frame {
      readonly path: string;
      readonly entries: string;
      at: number;
    }
    const stack: Frame[] = [{ path: top, entries: await this.#entries(root, top, listing), at: 0 }];
    for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
      const { path, entries } = frame;
      let end = entries.indexOf("\0", frame.at);
      if (end < 0) {
        stack.pop();
        continue;
      }
      listing.running.check();
      if (entries[end - 1] === "/") {
        const below = path + entries.slice(frame.at, end);
        frame.at = end + 1;
        if (below === `${TMP}/`) continue;
        stack.push({ path: below, entries: await this.#entries(root, below, listing), at: 0 });
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
  async #entries(root: string, path: string, listing: Listing): Promise<string> {
    const { prefix, after } = listing;
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
        throw path === "" ? await this.#notThere(error) : error;
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
      if ((typeof one.name !== "string" && !isUtf8(one.name)) || isTooLong(path, name)) listing.invalidNames++;
      else if (directory || one.isFile()) entries.push(entry);
      else listing.notFiles++;
    }
    entries.sort(compareNames).push("");
    return entries.join("\0");
  }

  delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#tracked(this.#operations.run("delete", name, options, () => this.#delete(partsOf(name), options)));
  }

  async #delete(parts: readonly string[], options: OperationOptions): Promise<DeleteResult> {
    const above = parts.slice(0, -1);
    let directory: Directory | undefined;
    const root = await this.#realRoot();
    if (root !== undefined && (await this.#isOther(root, parts))) return { existed: false };
    try {
      try {
        directory = await this.#directoryOf(above, async (found) => {
          throwIfAborted(options.signal);
          await unlink(found.entry(parts.at(-1) ?? ""));
        });
        this.#kept.note(directory.where, parts.at(-1) ?? "", false);
      } catch (error) {
        const found = await this.#notThere(error);
        if (found.code === "not-found") return { existed: false };
        throw found;
      }
      // Empty directories go too: they would be in the way of an object of their name.
      while (above.length > 0) {
        const child = above.at(-1) ?? "";
        let parent: Directory;
        try {
          parent = await this.#directory(above.slice(0, -1));
        } catch {
          break;
        }
        try {
          await rmdir(parent.entry(child));
          this.#kept.note(parent.where, child, false);
        } catch {
          // Not empty, mostly; or another delete was faster.
          await this.#release(parent);
          break;
        }
        directory.stale = true;
        await this.#release(directory, true);
        directory = parent;
        above.pop();
      }
      await this.#flush(directory, above);
      return { existed: true };
    } finally {
      if (directory) await this.#release(directory);
    }
  }

  async freeBytes(): Promise<number | undefined> {
    const root = await this.#rootToRead();
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
    const real = this.#real;
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

  /** The folder without links; undefined when it does not exist. */
  async #realRoot(): Promise<string | undefined> {
    if (this.#real !== undefined) return this.#real;
    try {
      const real = await realpath(this.root);
      this.#real = real;
      this.#wasThere = true;
      return real;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** The same for reading: rejects with `unavailable` when a folder that was there has gone. */
  async #rootToRead(): Promise<string | undefined> {
    const root = await this.#realRoot();
    if (root === undefined) this.#refuseLoss();
    return root;
  }

  /** Throws `unavailable` when the folder, which is not there, was there before. */
  #refuseLoss(cause?: unknown): void {
    if (!this.#wasThere) return;
    throw new HoldfastError("unavailable", `the folder ${this.root} was there and is gone: is it mounted?`, {
      cause,
      retryable: false,
    });
  }

  /** What the failure to find something means: it is absent, or the folder is not there to be asked. */
  async #notThere(error: unknown): Promise<HoldfastError> {
    if (error instanceof HoldfastError) return error;
    const code = codeOf(error);
    // unlink of a directory, which is no object.
    if (code === "EISDIR" || (code === "EPERM" && process.platform === "darwin")) return notFound(error);
    if (code === "ELOOP") return linkError(error);
    if (code !== "ENOENT" && code !== "ENOTDIR") return fsError(error);
    try {
      await stat(this.root);
    } catch (missing) {
      this.#real = undefined;
      try {
        this.#refuseLoss(missing);
      } catch (loss) {
        return fsError(loss);
      }
    }
    return notFound(error);
  }

  /** Whether a place is the one that is meant: it may be called after whoever asked for it first, where names are folded. */
  #isAt(found: string, where: string): boolean {
    const folds = this.#traits?.folds ?? this.#looksFolding ?? false;
    return found === where || (folds && foldedName(found) === foldedName(where));
  }

  /** Throws unless the directory really is at this place, with no link on the way. */
  async #expectInside(path: string): Promise<void> {
    if (!this.#isAt(await realpath(path), path)) throw linkError();
  }

  /** Opens a file and makes sure that it is the one of this name. */
  async #openObject(parts: readonly string[]): Promise<number> {
    const root = await this.#rootToRead();
    if (root === undefined || (await this.#isOther(root, parts))) throw notFound();
    const path = join(root, ...parts);
    try {
      if (!HAS_PROC && parts.length > 1) await this.#expectInside(dirname(path));
      // A pipe of that name would keep an open without O_NONBLOCK waiting for its writer.
      const fd = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      if (HAS_PROC) {
        const where = await placeOf(fd);
        if (!isPlace(where, path) && !this.#isAt(where, path)) {
          await close(fd);
          throw linkError();
        }
      }
      return fd;
    } catch (error) {
      throw await this.#notOpened(error, root, parts);
    }
  }

  /** What the failure to open a file means. */
  async #notOpened(error: unknown, root: string, parts: readonly string[]): Promise<HoldfastError> {
    // Not even whether something is there is told of a place outside.
    if (codeOf(error) === "ENOENT" && (await leadsThroughLink(root, parts.slice(0, -1)))) return linkError(error);
    return this.#notThere(error);
  }

  /** Opens a directory below the root, or shares an open one. Rejects with the system's error when there is none. */
  async #directory(parts: readonly string[]): Promise<Directory> {
    const root = await this.#realRoot();
    if (root === undefined) throw goneError();
    const where = join(root, ...parts);
    const shared = this.#directories.get(where);
    const now = this.#runtime.monotonicMs();
    if (shared && !shared.stale && now - shared.openedMs < SHARE_MS) {
      shared.refs++;
      return shared;
    }
    // Whoever comes while it is being opened shares it too.
    const underWay = this.#opening.get(where);
    if (underWay !== undefined) {
      const directory = await underWay;
      if (directory.refs > 0 && !directory.stale) {
        directory.refs++;
        return directory;
      }
    }
    const opening = this.#openDirectory(root, parts, where, now).finally(() => {
      if (this.#opening.get(where) === opening) this.#opening.delete(where);
    });
    this.#opening.set(where, opening);
    return opening;
  }

  async #openDirectory(root: string, parts: readonly string[], where: string, now: number): Promise<Directory> {
    let fd;
    try {
      if (!HAS_PROC) await this.#expectInside(where);
      const other = (await this.#folds(root)) ? await this.#kept.otherThan(root, parts) : undefined;
      if (other !== undefined) throw otherName(other);
      fd = await open(where, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    } catch (error) {
      if (codeOf(error) === "ENOTDIR" && (await leadsThroughLink(root, parts))) throw linkError(error);
      throw error;
    }
    if (HAS_PROC) {
      const found = await placeOf(fd);
      if (!this.#isAt(found, where)) {
        await close(fd);
        if (found === `${where} (deleted)`) {
          throw goneError();
        }
        throw linkError();
      }
    }
    const directory = new Directory(fd, where, now);
    this.#directories.set(where, directory);
    return directory;
  }

  async #release(directory: Directory, stale = false): Promise<void> {
    if (stale) directory.stale = true;
    if (--directory.refs > 0) return;
    if (this.#directories.get(directory.where) === directory) this.#directories.delete(directory.where);
    await close(directory.fd);
  }

  /** Opens a directory, and makes it and those above it where they are missing. */
  async #makeDirectory(parts: readonly string[]): Promise<Directory> {
    for (let tries = 1; ; tries++) {
      try {
        const directory = await this.#directory(parts);
        // Another put has made it, and its entry may not be flushed yet.
        await this.#making.get(directory.where);
        return directory;
      } catch (error) {
        const code = codeOf(error);
        if (code === "ENOTDIR") {
          throw new HoldfastError("conflict", "an object stands where a directory is needed", { cause: error });
        }
        if (!isGone(error) || tries >= MAX_TRIES) throw error;
        if (parts.length === 0) {
          await this.#makeRoot();
          continue;
        }
        const parent = await this.#makeDirectory(parts.slice(0, -1));
        try {
          await this.#makeEntry(parent, parts.at(-1) ?? "");
        } catch (made) {
          // The parent is gone again: from the top.
          if (!isGone(made)) throw made;
          parent.stale = true;
        } finally {
          await this.#release(parent);
        }
      }
    }
  }

  async #makeEntry(parent: Directory, name: string): Promise<void> {
    const where = join(parent.where, name);
    const running = this.#making.get(where);
    if (running) return running;
    const making = (async () => {
      try {
        await mkdir(parent.entry(name));
      } catch (error) {
        if (codeOf(error) === "EEXIST") return;
        throw error;
      }
      await parent.flush.run();
    })();
    this.#making.set(where, making);
    try {
      await making;
    } finally {
      this.#making.delete(where);
    }
  }

  async #makeRoot(): Promise<void> {
    this.#refuseLoss();
    const first = await makeFolder(this.root);
    this.#real = await realpath(this.root);
    this.#wasThere = true;
    if (first === undefined) return;
    // Each directory above a new one has a new entry.
    for (let path = dirname(this.root); path.length >= dirname(first).length; path = dirname(path)) {
      const fd = await open(path, O_RDONLY | O_DIRECTORY);
      try {
        await fsync(fd);
      } finally {
        await close(fd);
      }
      if (path === dirname(path)) break;
    }
  }

  async #openTemporary(): Promise<{ fd: number; path: string }> {
    for (let tries = 1; ; tries++) {
      const root = await this.#realRoot();
      if (root !== undefined) {
        const path = join(root, TMP, `${OWNER}.${process.pid}.${randomBytes(8).toString("hex")}`);
        try {
          if (!this.#swept) {
            // Never through a link: the temporary files would be elsewhere.
            await this.#expectInside(join(root, TMP));
            this.#swept = this.#prepare(join(root, TMP));
          }
          await this.#swept;
          const fd = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o666);
          if (HAS_PROC && !this.#isAt(await placeOf(fd), path)) {
            await close(fd);
            await unlink(path);
            throw linkError();
          }
          return { path, fd };
        } catch (error) {
          if (!isGone(error) || tries >= MAX_TRIES) {
            // What is found out with a first file is found out another time.
            if (this.#traits === undefined) this.#swept = undefined;
            throw error;
          }
        }
      }
      this.#swept = undefined;
      const directory = await this.#makeDirectory(TMP.split("/"));
      await this.#release(directory);
    }
  }

  async #prepare(path: string): Promise<void> {
    await this.#sweep(path);
    this.#traits ??= await traitsOf(path, `${OWNER}.${process.pid}.${randomBytes(8).toString("hex")}`);
  }

  /** Removes temporary files whose process is gone, or that nobody has written to for a day. */
  async #sweep(path: string): Promise<void> {
    try {
      for (const name of await readdir(path)) {
        const [owner, pid] = name.split(".");
        const file = join(path, name);
        const dead = owner === OWNER && pid !== undefined && !isAlive(Number(pid));
        if (!dead) {
          const { mtimeMs } = await lstat(file);
          if (this.#runtime.now() - mtimeMs < STRAY_AFTER_MS) continue;
        }
        await unlink(file);
        this.#logger.info("sweep.temporary-file-removed", { store: this.label, file: `${TMP}/${name}` });
      }
    } catch (error) {
      // Another process is sweeping, or may not: nothing depends on it.
      this.#logger.debug("sweep.failed", { store: this.label, reason: String(error) });
    }
  }
}

/** The parts of a name. Throws `invalid` where a folder cannot hold it. */
function partsOf(name: string): string[] {
  if (name === TMP || name.startsWith(`${TMP}/`)) {
    throw new HoldfastError("invalid", `names under ${TMP}/ are kept for temporary files`);
  }
  const parts = name.split("/");
  for (const part of parts) {
    if (!isPart(part)) {
      throw new HoldfastError("invalid", `a folder cannot hold the name ${JSON.stringify(name)}: ${badPart(part)}`);
    }
    if (Buffer.byteLength(part) > MAX_PART_BYTES) {
      throw new HoldfastError("invalid", `a part of the name is longer than ${MAX_PART_BYTES} bytes`);
    }
  }
  return parts;
}

/** A listing under way, with what it came upon and did not give. */
interface Listing {
  readonly prefix: string;
  readonly after: string | undefined;
  readonly running: Running;
  invalidNames: number;
  notFiles: number;
}

/**
 * Whose process ids can be compared with ours: the same boot of the same machine and the same set of process ids. A
 * container has its own set, and a folder on a network has several machines.
 */
const OWNER = ((): string => {
  const facts = [hostname()];
  try {
    facts.push(fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(), fs.readlinkSync("/proc/self/ns/pid"));
  } catch {
    // Not Linux: the host's name must do.
  }
  return facts
    .join("-")
    .replaceAll(/[^A-Za-z0-9]+/gu, "-")
    .slice(-80);
})();

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
}

function isPart(part: string): boolean {
  return part !== "" && part !== "." && part !== "..";
}

function badPart(part: string): string {
  return part === "" ? "it begins or ends with a slash or has two in a row" : `one of its parts is ${part}`;
}

/** Where an open file is. The descriptor is closed when that cannot be told. */
async function placeOf(fd: number): Promise<string> {
  try {
    return await readlink(`/proc/self/fd/${fd}`);
  } catch (error) {
    await close(fd);
    throw error;
  }
}

/** Writes everything, in pieces of 1 MiB or more, while the next piece is gathered. Returns the size. */
async function writeAll(fd: number, chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let size = 0;
  let gathered = 0;
  let list: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  let smallBytes = 0;
  let writing: Promise<void> | undefined;
  const joinSmall = (): void => {
    const [only] = small;
    if (only) list.push(small.length === 1 ? only : Buffer.concat(small, smallBytes));
    small = [];
    smallBytes = 0;
  };
  const flush = async (): Promise<void> => {
    joinSmall();
    const batch = list;
    list = [];
    gathered = 0;
    await writing;
    if (batch.length > 0) writing = writeBatch(fd, batch);
    writing?.catch(() => undefined);
  };
  try {
    for await (const chunk of chunks) {
      size += chunk.length;
      gathered += chunk.length;
      if (chunk.length < SMALL_CHUNK_BYTES) {
        small.push(chunk);
        smallBytes += chunk.length;
      } else {
        joinSmall();
        list.push(chunk);
      }
      if (gathered >= CHUNK_BYTES) await flush();
    }
    await flush();
  } finally {
    await writing;
  }
  return size;
}

async function writeBatch(fd: number, batch: Uint8Array[]): Promise<void> {
  let list = batch;
  for (;;) {
    let { bytesWritten } = await writev(fd, list);
    let at = 0;
    for (let chunk = list[at]; chunk && bytesWritten >= chunk.length; chunk = list[++at]) bytesWritten -= chunk.length;
    const rest = list[at];
    if (!rest) return;
    // A short write: the next one says why.
    list = [rest.subarray(bytesWritten), ...list.slice(at + 1)];
  }
}

/** Whether one of the parts is a symbolic link. */
async function leadsThroughLink(root: string, parts: readonly string[]): Promise<boolean> {
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

async function factsAt(path: string): Promise<FileFacts | undefined> {
  try {
    const stats = await lstat(path);
    return stats.isFile() ? factsOf(stats) : undefined;
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

function factsOf({ size, mtimeMs }: fs.Stats): FileFacts {
  return { size, modifiedMs: mtimeMs };
}

function infoOf(name: string, { size, modifiedMs }: FileFacts): ObjectInfo {
  return { name, size, modifiedMs };
}

async function isDirectoryAt(where: string): Promise<boolean> {
  return lstat(where).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

/** Whether an entry, a directory's with a slash at its end, has nothing to do with names behind `after`. */
function isBefore(entry: string, after: string): boolean {
  return compareNames(entry, after) <= 0 && !(entry.endsWith("/") && after.startsWith(entry));
}

/** Whether a path is too long for a name. A character of UTF-16 takes three bytes at most. */
function isTooLong(path: string, name: string): boolean {
  return (path.length + name.length) * 3 > MAX_NAME_BYTES && Buffer.byteLength(path + name) > MAX_NAME_BYTES;
}

/** Whether an open file is the one that was to be opened. */
function isPlace(where: string, path: string): boolean {
  // Replaced or deleted since it was opened: still the object of this name.
  return where === path || where === `${path} (deleted)`;
}

function cutError(at: number): HoldfastError {
  return new HoldfastError("corrupt", `the file was cut off at byte ${at} while it was read`);
}

/** An error that the system gave to another thread. */
function systemError({ code, message }: ReadFailure): Error {
  return Object.assign(new Error(message), { code });
}

function linkError(cause?: unknown): HoldfastError {
  return new HoldfastError("denied", "a symbolic link stands in the way; links are not followed", { cause });
}

function otherName(found: string): HoldfastError {
  return new HoldfastError(
    "conflict",
    `the file system takes the name for ${JSON.stringify(found)}, which stands there`,
  );
}

/** Whether what an open descriptor or a path led to is there no more: removed, or moved to another disk of a union. */
function isGone(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ESTALE";
}

/** As the system says it when a directory is missing. */
function goneError(): Error {
  return Object.assign(new Error("ENOENT: the directory does not exist"), { code: "ENOENT" });
}

function codeOf(error: unknown): string | undefined {
  return error instanceof HoldfastError ? undefined : systemCode(error);
}

/** What a failure to give the object its name means. */
function putError(error: unknown, code: string | undefined, last: string): unknown {
  if (code === "EISDIR" || code === "ENOTEMPTY") {
    return new HoldfastError("conflict", `${JSON.stringify(last)} is a directory with objects in it`, { cause: error });
  }
  if (code === "EEXIST") return new HoldfastError("conflict", "the object exists already", { cause: error });
  if (code === "ENOTDIR") {
    return new HoldfastError("conflict", "an object stands where a directory is needed", { cause: error });
  }
  if (code === "EXDEV") {
    return new HoldfastError("unsupported", "another file system is mounted below the folder; make it a store itself", {
      cause: error,
    });
  }
  return error;
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "full",
  EDQUOT: "full",
  EFBIG: "full",
  EACCES: "denied",
  EPERM: "denied",
  EROFS: "denied",
  ELOOP: "denied",
  ENAMETOOLONG: "invalid",
  EILSEQ: "invalid",
  EINVAL: "invalid",
  ENOTSUP: "unsupported",
  ENOSYS: "unsupported",
};

/** The system's error as Holdfast's. What is not known is a disk, or a network, out of order. */
function fsError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const code = codeOf(error);
  if (code === undefined) return new HoldfastError("internal", systemWords(error), { cause: error });
  // A file stands where a folder should: only somebody who takes it away mends that.
  const retryable = code === "ENOTDIR" ? false : undefined;
  return new HoldfastError(CODES[code] ?? "unavailable", systemWordsOfPath(error), { cause: error, retryable });
}

export const fileKind: StoreKind = {
  open: async (url, context) => new FileStore(folderOf(url), context),
  place: async (url) => placeOfFolder(folderOf(url)),
};

function folderOf(url: StoreUrl): string {
  const path = looksLikeUrl(url.text) ? decodePath(url.path) : url.path;
  if (path === "") throw new HoldfastError("config", "the URL names no folder");
  return path;
}

/** Percent-decoded as duplicity does it: what is no encoding stays as it is. */
function decodePath(path: string): string {
  return path.replaceAll(/(?:%[0-9A-Fa-f]{2})+/gu, (encoded) => {
    try {
      const decoded = decodeURIComponent(encoded);
      return decoded.includes("\0") ? encoded : decoded;
    } catch {
      return encoded;
    }
  });
}
