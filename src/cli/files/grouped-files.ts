/**
 * Writing many small files for `pull`: those that are ready at the same time together, by a {@link GroupWorker}. Each file takes eight
 * calls to the system, which take a fifth of what handing each of them to the thread pool and back does.
 */
import { randomBytes } from "node:crypto";
import { GroupWorker, Pace } from "../../support/group-worker.ts";
import type { FileAttributes } from "./file-metadata.ts";
import { SMALL_FILE_BYTES } from "./local-thread.ts";
import { temporaryPath } from "./write-file.ts";

/** A thread costs as much as so many files that are written one by one. */
const GROUP_FROM = 128;
/** Each waits for the disk for most of its time: one alone takes twice as long as three. */
const THREADS = 3;

interface GroupedFile extends FileAttributes {
  /** Where it is written first; must not exist. */
  readonly temporary: string;
  /** Where it is to stand. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

interface Answer {
  readonly isWritten: boolean;
  /** How long the file system took for each file of the group, in microseconds. */
  readonly tookUs: number;
}

export class GroupedFiles {
  readonly #workers = Array.from(
    { length: THREADS },
    () =>
      new GroupWorker<GroupedFile, Answer>({
        run: writeGroups,
        bytesOf: (file) => file.bytes.byteLength,
        lost: () => ({ isWritten: false, tookUs: 0 }),
      }),
  );
  readonly #pace = new Pace();
  #asked = 0;
  /** Tells one temporary file from the next. */
  #next = randomBytes(6).readUIntBE(0, 6);

  /** Whether a file of so many bytes is to be written here. To be asked once for each. */
  takes(size: number): boolean {
    return size <= SMALL_FILE_BYTES && ++this.#asked > GROUP_FROM && this.#pace.isFast();
  }

  /**
   * Writes a file as `writeFile` does, over nothing or a plain file. Resolves to whether it is there; if not, nothing is left
   * of it and it has to be written in the other way, which says why. Never rejects.
   */
  async write(path: string, bytes: Uint8Array, attributes: FileAttributes): Promise<boolean> {
    this.#next = (this.#next + 1) % 2 ** 48;
    const worker = this.#workers[this.#next % THREADS];
    if (worker === undefined) return false;
    const temporary = temporaryPath(path, this.#next);
    const { isWritten, tookUs } = await worker.do({ temporary, path, bytes, ...attributes });
    this.#pace.note(tookUs);
    return isWritten;
  }

  /** Ends the worker. What is under way is answered as lost. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }
}

/** What the worker runs. It stands alone: nothing of this module reaches it. */
function writeGroups(): void {
  const fs = process.getBuiltinModule("node:fs");
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
  const works = (work: () => void): boolean => {
    try {
      work();
      return true;
    } catch {
      return false;
    }
  };
  const fill = (fd: number, { bytes, mode, modifiedSeconds }: GroupedFile): void => {
    for (let at = 0; at < bytes.byteLength;) at += fs.writeSync(fd, bytes, at, bytes.byteLength - at);
    if (mode !== undefined) fs.fchmodSync(fd, mode);
    if (modifiedSeconds !== undefined) fs.futimesSync(fd, modifiedSeconds, modifiedSeconds);
  };
  parentPort?.on("message", (files: readonly GroupedFile[]) => {
    const started = process.hrtime.bigint();
    // All are written before the first is flushed: the file system puts many into one commit.
    const written = files.map((file) => {
      let fd = -1;
      const opens = works(() => {
        fd = fs.openSync(file.temporary, O_WRONLY | O_CREAT | O_EXCL | (O_NOFOLLOW ?? 0), 0o666);
      });
      return { file, fd, opens, isFull: opens && works(() => fill(fd, file)) };
    });
    const answers = written.map(({ file, fd, opens, isFull }): boolean => {
      if (!opens) return false;
      const isFlushed = isFull && works(() => fs.fsyncSync(fd));
      const isClosed = works(() => fs.closeSync(fd));
      if (isFlushed && isClosed && works(() => fs.renameSync(file.temporary, file.path))) return true;
      works(() => fs.unlinkSync(file.temporary));
      return false;
    });
    const tookUs = Number(process.hrtime.bigint() - started) / 1000 / Math.max(1, files.length);
    parentPort.postMessage(answers.map((isWritten): Answer => ({ isWritten, tookUs })));
  });
}
