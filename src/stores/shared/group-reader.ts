/** Reading of many small files, and of many files' sizes, together: by a {@link GroupWorker}. */
import { GroupWorker } from "./group-worker.ts";

/** Files of more bytes are not read in groups. */
export const GROUPED_READ_BYTES = 64 * 1024;

/** A file to be read whole, or files of which only what they are is asked. */
export type ReadItem = { readonly path: string } | { readonly paths: readonly string[] };

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

/** What became of a read: the file, where it really is, and its bytes. */
export type WholeFile =
  | (FileFacts & {
      /** Where the file that was opened is, by the system. */
      readonly where: string;
      readonly isFile: boolean;
      /** All of them; undefined for what is no plain file or larger than {@link GROUPED_READ_BYTES}. */
      readonly bytes: Uint8Array<ArrayBuffer> | undefined;
      /** The file ended before its size. */
      readonly cutAt: number | undefined;
    })
  | ReadFailure;

/** The files' facts in their order; undefined for what is not there or no plain file. Or the first other error. */
type Facts = { readonly facts: readonly (FileFacts | undefined)[] } | ReadFailure;

/** A file that takes so long, on average, waits for a disk or a network: the thread pool has several wait at a time. */
const SLOW_US = 2000;
/** So many calls go to the thread pool before the worker is tried again. */
const PAUSE = 1000;

interface Answer {
  readonly result: WholeFile | Facts;
  /** How long the file system took for each file of this item's group, in microseconds. */
  readonly tookUs: number;
}

const lost = { result: { code: "EIO", message: "EIO: the thread that read died" }, tookUs: 0 };

export class GroupReader {
  readonly #worker = new GroupWorker<ReadItem, Answer>({
    run: readGroups,
    bytesOf: (item) => ("path" in item ? GROUPED_READ_BYTES : 0),
    lost: () => lost,
  });
  #pause = 0;

  /** Whether the file system answers fast enough for its calls to be made one after the other. To be asked before each. */
  isFast(): boolean {
    if (this.#pause === 0) return true;
    this.#pause--;
    return false;
  }

  /** Reads a file whole, if it is small. Never rejects. */
  async read(path: string): Promise<WholeFile> {
    const result = await this.#do({ path });
    return "facts" in result ? lost.result : result;
  }

  /** What stands at each of the paths; links are not followed. Never rejects. */
  async facts(paths: readonly string[]): Promise<Facts> {
    const result = await this.#do({ paths });
    return "where" in result ? lost.result : result;
  }

  /** Ends the worker. What is under way is answered first. */
  close(): Promise<void> {
    return this.#worker.close();
  }

  async #do(item: ReadItem): Promise<WholeFile | Facts> {
    const { result, tookUs } = await this.#worker.do(item);
    if (tookUs > SLOW_US) this.#pause = PAUSE;
    return result;
  }
}

/** What the worker runs. It stands alone: nothing of this module reaches it. */
function readGroups(): void {
  const fs = process.getBuiltinModule("node:fs");
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  const most = 64 * 1024;
  const failure = (error: unknown): ReadFailure => ({
    code: error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO",
    message: error instanceof Error ? error.message : String(error),
  });
  const bytesOf = (fd: number, size: number): { bytes: Uint8Array<ArrayBuffer>; cutAt: number | undefined } => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const length = fs.readSync(fd, bytes, at, size - at, at);
      if (length === 0) return { bytes, cutAt: at };
      at += length;
    }
    return { bytes, cutAt: undefined };
  };
  const read = (path: string): WholeFile => {
    let fd: number | undefined;
    try {
      // A pipe of that name would keep an open without O_NONBLOCK waiting for its writer.
      fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      const where = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const stats = fs.fstatSync(fd);
      const isFile = stats.isFile();
      const content = isFile && stats.size <= most ? bytesOf(fd, stats.size) : { bytes: undefined, cutAt: undefined };
      return { where, isFile, size: stats.size, modifiedMs: stats.mtimeMs, ...content };
    } catch (error) {
      return failure(error);
    } finally {
      if (fd !== undefined) fs.closeSync(fd);
    }
  };
  const facts = (paths: readonly string[]): Facts => {
    const found: (FileFacts | undefined)[] = [];
    for (const path of paths) {
      try {
        const stats = fs.lstatSync(path, { throwIfNoEntry: false });
        found.push(stats?.isFile() ? { size: stats.size, modifiedMs: stats.mtimeMs } : undefined);
      } catch (error) {
        const failed = failure(error);
        if (failed.code !== "ENOTDIR") return failed;
        found.push(undefined);
      }
    }
    return { facts: found };
  };
  parentPort?.on("message", (items: readonly ReadItem[]) => {
    const started = process.hrtime.bigint();
    const results = items.map((item) => ("path" in item ? read(item.path) : facts(item.paths)));
    const files = items.reduce((sum, item) => sum + ("path" in item ? 1 : item.paths.length), 0);
    const tookUs = Number(process.hrtime.bigint() - started) / 1000 / Math.max(1, files);
    const buffers = results.flatMap((result) => ("bytes" in result && result.bytes ? [result.bytes.buffer] : []));
    parentPort.postMessage(
      results.map((result): Answer => ({ result, tookUs })),
      buffers,
    );
  });
}
