/**
 * Group commit of small files: many are written, flushed and renamed together, in a thread of their own.
 *
 * A small file costs half a dozen system calls of some microseconds each; handing each to the thread pool and back costs
 * several times that. Here the calls of a whole group are made in a row on a worker, which one store has to itself: a
 * file system that hangs holds up that store alone. While a group is being written the next one gathers.
 */
import { Worker } from "node:worker_threads";

/** A small file to be written all at once. */
export interface GroupedFile {
  /** Where it is written first; must not exist. */
  readonly temporary: string;
  /** Where it is to stand. */
  readonly target: string;
  /** Open descriptor of the directory that `target` is in. */
  readonly directoryFd: number;
  readonly bytes: Uint8Array;
  /** Fail with EEXIST where the target exists. */
  readonly exclusive: boolean;
}

/** The system's error code, or undefined when the file is durably in place. After an error nothing of it is left. */
export type GroupedResult = string | undefined;

const MAX_FILES = 256;
const MAX_BYTES = 8 * 1024 * 1024;

interface Waiting {
  readonly file: GroupedFile;
  readonly resolve: (result: GroupedResult) => void;
}

export class GroupWriter {
  readonly #waiting: Waiting[] = [];
  #worker: Worker | undefined;
  #underWay: readonly Waiting[] | undefined;

  /** Resolves when the file is durable under its name, or with why it is not. Never rejects. */
  write(file: GroupedFile): Promise<GroupedResult> {
    return new Promise((resolve) => {
      this.#waiting.push({ file, resolve });
      // What arrives in the same turn of the event loop goes in the same group.
      if (this.#underWay === undefined) setImmediate(() => this.#start());
    });
  }

  /** Ends the worker. What is under way is answered first. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  #start(): void {
    if (this.#underWay !== undefined || this.#waiting.length === 0) return;
    let files = 0;
    let bytes = 0;
    for (const { file } of this.#waiting) {
      if (files > 0 && (files >= MAX_FILES || bytes + file.bytes.byteLength > MAX_BYTES)) break;
      files++;
      bytes += file.bytes.byteLength;
    }
    const group = this.#waiting.splice(0, files);
    this.#underWay = group;
    const worker = (this.#worker ??= this.#open());
    // The process must not end while a file is on its way.
    worker.ref();
    worker.postMessage(group.map(({ file }) => file));
  }

  #open(): Worker {
    // From its own text, so that it works wherever this module was bundled to.
    const worker = new Worker(`(${writeGroups.toString()})()`, { eval: true, stdout: false, stderr: false });
    worker.on("message", (results: GroupedResult[]) => this.#finish(results));
    worker.on("error", () => this.#lose(worker));
    worker.on("exit", () => this.#lose(worker));
    worker.unref();
    return worker;
  }

  #finish(results: readonly GroupedResult[]): void {
    const group = this.#underWay ?? [];
    this.#underWay = undefined;
    this.#worker?.unref();
    group.forEach(({ resolve }, place) => resolve(results[place]));
    this.#start();
  }

  /** The worker died: its group is answered with an error, and the next one gets a new worker. */
  #lose(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#finish((this.#underWay ?? []).map(() => "EIO"));
  }
}

/** What the worker runs. It stands alone: nothing of this module reaches it. */
function writeGroups(): void {
  const fs = process.getBuiltinModule("node:fs");
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
  const codeOf = (error: unknown): string =>
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO";
  parentPort?.on("message", (files: GroupedFile[]) => {
    const results: GroupedResult[] = [];
    const descriptors: number[] = [];
    const attempt = (place: number, work: () => void): void => {
      if (results[place] !== undefined) return;
      try {
        work();
      } catch (error) {
        results[place] = codeOf(error);
      }
    };
    files.forEach((file, place) => {
      attempt(place, () => {
        const fd = fs.openSync(file.temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o666);
        descriptors[place] = fd;
        for (let at = 0; at < file.bytes.byteLength;) {
          at += fs.writeSync(fd, file.bytes, at, file.bytes.byteLength - at);
        }
      });
    });
    // All are written before the first is flushed: the file system puts many into one commit.
    files.forEach((_, place) => {
      const fd = descriptors[place];
      if (fd === undefined) return;
      attempt(place, () => fs.fdatasyncSync(fd));
      // Whatever failed before: a disk that is full must not use up the descriptors, too.
      try {
        fs.closeSync(fd);
      } catch (error) {
        results[place] ??= codeOf(error);
      }
    });
    const directories = new Map<number, number[]>();
    files.forEach((file, place) => {
      attempt(place, () => {
        if (file.exclusive) fs.linkSync(file.temporary, file.target);
        else fs.renameSync(file.temporary, file.target);
        const places = directories.get(file.directoryFd);
        if (places === undefined) directories.set(file.directoryFd, [place]);
        else places.push(place);
      });
      if (descriptors[place] !== undefined && (results[place] !== undefined || file.exclusive)) {
        try {
          fs.unlinkSync(file.temporary);
        } catch {
          // Swept later, as any temporary file of a process that is gone.
        }
      }
    });
    for (const [fd, places] of directories) {
      try {
        fs.fsyncSync(fd);
      } catch (error) {
        const code = codeOf(error);
        // Some file systems know no flush of a directory; there is nothing more to be had from them.
        if (code !== "EINVAL" && code !== "ENOTSUP") for (const place of places) results[place] = code;
      }
    }
    parentPort?.postMessage(Array.from(files, (_, place) => results[place]));
  });
}
