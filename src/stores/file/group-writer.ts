/** Group commit of small files: many are written, flushed and renamed together, by a {@link GroupWorker}. */
import { GroupWorker } from "../../support/group-worker.ts";

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

/** The same as the worker says it: an empty code is none. */
type Answer = string;

export class GroupWriter {
  readonly #worker = new GroupWorker<GroupedFile, Answer>({
    run: writeGroups,
    bytesOf: (file) => file.bytes.byteLength,
    lost: () => "EIO",
  });

  /** Resolves when the file is durable under its name, or with why it is not. Never rejects. */
  async write(file: GroupedFile): Promise<GroupedResult> {
    return (await this.#worker.do(file)) || undefined;
  }

  /** Ends the worker. What is under way is answered as lost. */
  close(): Promise<void> {
    return this.#worker.close();
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
    parentPort?.postMessage(Array.from(files, (_, place): Answer => results[place] ?? ""));
  });
}
