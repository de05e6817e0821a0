/** Reading and hashing of many small files together, and of large ones step by step: by a {@link GroupWorker}. */
import { GroupWorker, Pace } from "../../support/group-worker.ts";

/** Files of more bytes are not read in groups. */
export const GROUPED_READ_BYTES = 64 * 1024;

/** How much of a file is hashed before others have their turn, in bytes. */
const STEP_BYTES = 16 * 1024 * 1024;

/** A file to be read whole; a step in hashing one, or the end of that. */
export type ReadItem =
  | { readonly path: string }
  | { readonly hashing: number; readonly of: string; readonly most: number }
  | { readonly dropped: number };

/** What a file is. */
export interface FileFacts {
  readonly size: number;
  readonly modifiedMs: number;
}

/** An error of the system's. */
export interface ReadFailure {
  readonly code: string;
  readonly message: string;
}

/** A file that was opened. */
interface OpenedFile extends FileFacts {
  /** Where it is, by the system. */
  readonly where: string;
  readonly isFile: boolean;
  /** Where it ended before its size. */
  readonly cutAt: number | undefined;
}

/** What became of a read. */
export type WholeFile =
  | (OpenedFile & {
      /** Undefined for what is no plain file or larger than {@link GROUPED_READ_BYTES}. */
      readonly bytes: Uint8Array<ArrayBuffer> | undefined;
    })
  | ReadFailure;

/** What became of hashing a file, or of a step in it. */
export type HashedFile =
  | (OpenedFile & {
      /** SHA-256, lower-case hexadecimal; empty for what is no plain file or was cut off, and until the last step. */
      readonly sha256: string;
      readonly isDone: boolean;
    })
  | ReadFailure;

type Result = WholeFile | HashedFile;

interface Answer {
  readonly result: Result;
  /** How long the file system took for each file of this item's group, in microseconds. */
  readonly tookUs: number;
}

const lost = { result: { code: "EIO", message: "EIO: the thread that read died" }, tookUs: 0 };

export class GroupReader {
  readonly #worker = new GroupWorker<ReadItem, Answer>({
    run: readGroups,
    parts: [fileCalls, wholeReader, stepHasher],
    bytesOf: (item) => ("path" in item || "of" in item ? GROUPED_READ_BYTES : 0),
    lost: () => lost,
  });
  readonly #pace = new Pace();
  #hashed = 0;

  /** Whether the file system answers fast enough for its calls to be made one after the other. To be asked before each. */
  isFast(): boolean {
    return this.#pace.isFast();
  }

  /** Reads a file whole, if it is small. Never rejects. */
  async read(path: string): Promise<WholeFile> {
    const result = await this.#do({ path });
    return "isDone" in result ? lost.result : result;
  }

  /** Reads a file of any size for its digest. Never rejects, but with what `onStep` throws, which is called between steps. */
  async hash(path: string, onStep: () => void): Promise<HashedFile> {
    const hashing = ++this.#hashed;
    for (;;) {
      const result = await this.#do({ hashing, of: path, most: STEP_BYTES });
      if ("bytes" in result) return lost.result;
      if ("code" in result || result.isDone) return result;
      try {
        onStep();
      } catch (error) {
        await this.#do({ dropped: hashing });
        throw error;
      }
    }
  }

  /** Ends the worker. What is under way is answered as lost. */
  close(): Promise<void> {
    return this.#worker.close();
  }

  async #do(item: ReadItem): Promise<Result> {
    const { result, tookUs } = await this.#worker.do(item);
    this.#pace.note(tookUs);
    return result;
  }
}

/** What the worker reads files with. It stands alone: nothing of this module reaches it. */
function fileCalls() {
  const fs = process.getBuiltinModule("node:fs");
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  return {
    // A pipe of that name would keep an open without O_NONBLOCK waiting for its writer.
    open: (path: string): number => fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
    facts: (fd: number): Omit<OpenedFile, "cutAt"> => {
      const where = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const stats = fs.fstatSync(fd);
      return { where, isFile: stats.isFile(), size: stats.size, modifiedMs: stats.mtimeMs };
    },
    read: fs.readSync,
    close: fs.closeSync,
    failure: (error: unknown): ReadFailure => ({
      code: error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO",
      message: error instanceof Error ? error.message : String(error),
    }),
  };
}

type FileCalls = ReturnType<typeof fileCalls>;

/** How the worker reads a small file whole. It stands alone. */
function wholeReader(files: FileCalls, most: number): (path: string) => WholeFile {
  const bytesOf = (fd: number, size: number): { bytes: Uint8Array<ArrayBuffer>; cutAt: number | undefined } => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const length = files.read(fd, bytes, at, size - at, at);
      if (length === 0) return { bytes, cutAt: at };
      at += length;
    }
    return { bytes, cutAt: undefined };
  };
  return (path) => {
    let fd: number | undefined;
    try {
      fd = files.open(path);
      const file = files.facts(fd);
      const isRead = file.isFile && file.size <= most;
      return { ...file, ...(isRead ? bytesOf(fd, file.size) : { bytes: undefined, cutAt: undefined }) };
    } catch (error) {
      return files.failure(error);
    } finally {
      if (fd !== undefined) files.close(fd);
    }
  };
}

/** How the worker hashes a file, step by step. It stands alone. */
function stepHasher(files: FileCalls) {
  const { createHash } = process.getBuiltinModule("node:crypto");
  // Always the same bytes: they stay in the processor's cache.
  const buffer = new Uint8Array(256 * 1024);
  const begun = new Map<number, { fd: number; at: number; digest: ReturnType<typeof createHash> }>();
  const drop = (id: number): void => {
    const hashing = begun.get(id);
    begun.delete(id);
    if (hashing !== undefined) files.close(hashing.fd);
  };
  const hash = (id: number, path: string, step: number): HashedFile => {
    try {
      const hashing = begun.get(id) ?? { fd: files.open(path), at: 0, digest: createHash("sha256") };
      begun.set(id, hashing);
      const file = files.facts(hashing.fd);
      const end = file.isFile ? Math.min(file.size, hashing.at + step) : 0;
      let cutAt: number | undefined;
      while (hashing.at < end && cutAt === undefined) {
        const length = files.read(hashing.fd, buffer, 0, Math.min(buffer.length, end - hashing.at), hashing.at);
        if (length === 0) cutAt = hashing.at;
        hashing.digest.update(buffer.subarray(0, length));
        hashing.at += length;
      }
      if (file.isFile && cutAt === undefined && hashing.at < file.size) {
        return { ...file, cutAt, sha256: "", isDone: false };
      }
      const sha256 = file.isFile && cutAt === undefined ? hashing.digest.digest("hex") : "";
      drop(id);
      return { ...file, cutAt, sha256, isDone: true };
    } catch (error) {
      drop(id);
      return files.failure(error);
    }
  };
  return { hash, drop };
}

/** What the worker runs. It stands alone. */
function readGroups(calls: typeof fileCalls, reader: typeof wholeReader, hasher: typeof stepHasher): void {
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const most = 64 * 1024;
  const files = calls();
  const read = reader(files, most);
  const { hash, drop } = hasher(files);
  parentPort?.on("message", (items: readonly ReadItem[]) => {
    const started = process.hrtime.bigint();
    let asked = 0;
    const results = items.map((item): Result => {
      asked++;
      if ("path" in item) return read(item.path);
      if ("of" in item) {
        const result = hash(item.hashing, item.of, item.most);
        // A step of a large file is no answer of the disk's to one question.
        if ("size" in result) asked += Math.floor(Math.min(result.size, item.most) / most);
        return result;
      }
      drop(item.dropped);
      return { code: "ECANCELED", message: "nobody wants its digest any more" };
    });
    const tookUs = Number(process.hrtime.bigint() - started) / 1000 / Math.max(1, asked);
    const buffers = results.flatMap((result) => ("bytes" in result && result.bytes ? [result.bytes.buffer] : []));
    parentPort.postMessage(
      results.map((result): Answer => ({ result, tookUs })),
      buffers,
    );
  });
}
