/** What files of a folder are, and their digests, found out by a thread of its own where there are many. */
import { createHash } from "node:crypto";
import { close, constants, fstat, open, read } from "node:fs";
import type { Stats } from "node:fs";
import { lstat, stat } from "node:fs/promises";
import { promisify } from "node:util";
import { GroupWorker, Pace } from "../../support/group-worker.ts";

// Descriptors instead of the handles of fs/promises: those take twice the time that the calls themselves do.
const openFile = promisify(open);
const readFile = promisify(read);
const closeFile = promisify(close);
const fileStats = promisify(fstat);

/** Up to so many bytes a file is read at once. */
export const SMALL_FILE_BYTES = 64 * 1024;
/** A thread costs as much as so many files do without one. */
const FROM_FILES = 512;

/** What is kept of a file beside its bytes. */
export type FileStats = Pick<Stats, "size" | "mtimeMs" | "ctimeMs" | "mode">;

/** What stands at a path. */
export type FoundFile =
  | (FileStats & { readonly isFile: boolean })
  | { readonly code: string | undefined; readonly message: string };

type Item =
  | { readonly paths: readonly string[]; readonly follow: boolean }
  | { readonly path: string; readonly size: number };

interface Answer {
  readonly files?: readonly FoundFile[];
  readonly sha256?: string | undefined;
  /** For each file, in microseconds. */
  readonly tookUs: number;
}

export class LocalThread {
  readonly #worker = new GroupWorker<Item, Answer>({ run: answerItems, bytesOf: () => 0, lost: () => ({ tookUs: 0 }) });
  readonly #pace = new Pace();
  #asked = 0;

  /** What stands at each path; at a link's end with `follow`. */
  async found(paths: readonly string[], follow: boolean): Promise<readonly FoundFile[]> {
    const answer = this.#isWorth(paths.length) ? await this.#do({ paths, follow }) : undefined;
    return answer?.files ?? Promise.all(paths.map((path) => foundAt(path, follow)));
  }

  /**
   * SHA-256, in lower-case hexadecimal, of a file that had `size` bytes, at most {@link SMALL_FILE_BYTES}; undefined when it
   * has more or less by now, or cannot be read.
   */
  async sha256(path: string, size: number): Promise<string | undefined> {
    if (this.#isWorth(1)) return (await this.#do({ path, size })).sha256;
    const content = await readSmallFile(path, { size });
    return content && createHash("sha256").update(content).digest("hex");
  }

  /** Ends the thread. What is under way is answered as lost. */
  close(): Promise<void> {
    return this.#worker.close();
  }

  #isWorth(files: number): boolean {
    this.#asked += files;
    return this.#asked > FROM_FILES && this.#pace.isFast();
  }

  async #do(item: Item): Promise<Answer> {
    const answer = await this.#worker.do(item);
    this.#pace.note(answer.tookUs);
    return answer;
  }
}

/**
 * The content of a file that was so, in as few calls as can be; undefined when it is another one by now, or cannot be read.
 */
export async function readSmallFile(
  path: string,
  was: Pick<FileStats, "size"> & Partial<FileStats>,
): Promise<Uint8Array | undefined> {
  const { size } = was;
  let fd: number;
  try {
    // A path that became a pipe meanwhile is not waited for.
    fd = await openFile(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch {
    return undefined;
  }
  try {
    // One byte more shows whether it has grown.
    const buffer = Buffer.allocUnsafeSlow(size + 1);
    const { bytesRead } = await readFile(fd, buffer, 0, size + 1, 0);
    if (bytesRead !== size) return undefined;
    if (was.ctimeMs !== undefined) {
      const now = await fileStats(fd);
      if (now.size !== size || now.mtimeMs !== was.mtimeMs || now.ctimeMs !== was.ctimeMs) return undefined;
    }
    return buffer.subarray(0, size);
  } catch {
    return undefined;
  } finally {
    await closeFile(fd);
  }
}

async function foundAt(path: string, follow: boolean): Promise<FoundFile> {
  try {
    const stats = await (follow ? stat : lstat)(path);
    return {
      isFile: stats.isFile(),
      size: stats.size,
      mtimeMs: stats.mtimeMs,
      ctimeMs: stats.ctimeMs,
      mode: stats.mode,
    };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
    return { code, message: error instanceof Error ? error.message : String(error) };
  }
}

/** What the thread runs. It stands alone: nothing of this module reaches it. */
function answerItems(): void {
  const fs = process.getBuiltinModule("node:fs");
  const { createHash: newHash } = process.getBuiltinModule("node:crypto");
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const buffer = new Uint8Array(64 * 1024 + 1);
  const find = (path: string, follow: boolean): FoundFile => {
    try {
      const stats = follow ? fs.statSync(path) : fs.lstatSync(path);
      return {
        isFile: stats.isFile(),
        size: stats.size,
        mtimeMs: stats.mtimeMs,
        ctimeMs: stats.ctimeMs,
        mode: stats.mode,
      };
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
      return { code, message: error instanceof Error ? error.message : String(error) };
    }
  };
  const digest = (path: string, size: number): string | undefined => {
    let fd: number | undefined;
    try {
      // A path that became a pipe meanwhile is not waited for.
      fd = fs.openSync(path, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0));
      // One byte more shows whether it has grown.
      if (fs.readSync(fd, buffer, 0, size + 1, 0) !== size) return undefined;
      return newHash("sha256").update(buffer.subarray(0, size)).digest("hex");
    } catch {
      return undefined;
    } finally {
      if (fd !== undefined) fs.closeSync(fd);
    }
  };
  parentPort?.on("message", (items: readonly Item[]) => {
    const started = process.hrtime.bigint();
    let count = 0;
    const answers = items.map((item): Omit<Answer, "tookUs"> => {
      count += "paths" in item ? item.paths.length : 1;
      if ("paths" in item) return { files: item.paths.map((path) => find(path, item.follow)) };
      return { sha256: digest(item.path, item.size) };
    });
    const tookUs = Number(process.hrtime.bigint() - started) / 1000 / Math.max(1, count);
    parentPort.postMessage(answers.map((answer): Answer => ({ ...answer, tookUs })));
  });
}
