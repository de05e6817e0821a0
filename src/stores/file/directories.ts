/** The open directories of a store's folder, shared between operations, and made where they are missing. */
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { SharedRun } from "../../support/shared-run.ts";
import { codeOf, goneError, isGone, linkError, otherName } from "./file-errors.ts";
import type { FileRoot } from "./file-root.ts";
import { HAS_PROC, close, fsync, leadsThroughLink, mkdir, open, placeOf } from "./system-calls.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = fs.constants;

/** An open directory is shared between operations for so long; then it is looked up by its path again. */
const SHARE_MS = 1000;
/** How often a put goes back to making its directories when deletes take them away. */
export const MAX_TRIES = 50;

/** A directory that was opened and found to be where it should be. */
export class Directory {
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

export class Directories {
  readonly #root: FileRoot;
  readonly #nowMs: () => number;
  readonly #directories = new Map<string, Directory>();
  readonly #opening = new Map<string, Promise<Directory>>();
  /** Directories that are being made and flushed. */
  readonly #making = new Map<string, Promise<void>>();

  /** `nowMs`: a clock in milliseconds. */
  constructor(root: FileRoot, nowMs: () => number) {
    this.#root = root;
    this.#nowMs = nowMs;
  }

  /** Does something in a directory, and once more where its descriptor leads nowhere any more: in a union it was moved. */
  async doIn(parts: readonly string[], work: (directory: Directory) => Promise<void>): Promise<Directory> {
    for (let tries = 1; ; tries++) {
      const directory = await this.open(parts);
      try {
        await work(directory);
        return directory;
      } catch (error) {
        const isStale = codeOf(error) === "ESTALE";
        await this.release(directory, isStale);
        if (!isStale || tries >= MAX_TRIES) throw error;
      }
    }
  }

  /** Flushes a directory, or what is above it where it was removed meanwhile. */
  async flush(directory: Directory, parts: readonly string[]): Promise<void> {
    try {
      await directory.flush.run();
      return;
    } catch (error) {
      if (!isGone(error)) throw error;
      directory.stale = true;
    }
    for (let above = parts; ; above = above.slice(0, -1)) {
      try {
        const again = await this.open(above);
        try {
          await again.flush.run();
          return;
        } catch (error) {
          again.stale = true;
          throw error;
        } finally {
          await this.release(again);
        }
      } catch (error) {
        if (!isGone(error) || above.length === 0) throw error;
      }
    }
  }

  /** Opens a directory below the root, or shares an open one. Rejects with the system's error when there is none. */
  async open(parts: readonly string[]): Promise<Directory> {
    const root = await this.#root.real();
    if (root === undefined) throw goneError();
    const where = join(root, ...parts);
    const shared = this.#directories.get(where);
    const now = this.#nowMs();
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
      if (!HAS_PROC) await this.#root.expectInside(where);
      const other = (await this.#root.folds(root)) ? await this.#root.kept.otherThan(root, parts) : undefined;
      if (other !== undefined) throw otherName(other);
      fd = await open(where, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    } catch (error) {
      if (codeOf(error) === "ENOTDIR" && (await leadsThroughLink(root, parts))) throw linkError(error);
      throw error;
    }
    if (HAS_PROC) {
      const found = await placeOf(fd);
      if (!this.#root.isAt(found, where)) {
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

  async release(directory: Directory, stale = false): Promise<void> {
    if (stale) directory.stale = true;
    if (--directory.refs > 0) return;
    if (this.#directories.get(directory.where) === directory) this.#directories.delete(directory.where);
    await close(directory.fd);
  }

  /** Opens a directory, and makes it and those above it where they are missing. */
  async make(parts: readonly string[]): Promise<Directory> {
    for (let tries = 1; ; tries++) {
      try {
        const directory = await this.open(parts);
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
        const parent = await this.make(parts.slice(0, -1));
        try {
          await this.#makeEntry(parent, parts.at(-1) ?? "");
        } catch (made) {
          // The parent is gone again: from the top.
          if (!isGone(made)) throw made;
          parent.stale = true;
        } finally {
          await this.release(parent);
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
    this.#root.refuseLoss();
    const first = await makeFolder(this.#root.path);
    await this.#root.real();
    if (first === undefined) return;
    // Each directory above a new one has a new entry.
    for (let path = dirname(this.#root.path); path.length >= dirname(first).length; path = dirname(path)) {
      const fd = await open(path, O_RDONLY | O_DIRECTORY);
      try {
        await fsync(fd);
      } finally {
        await close(fd);
      }
      if (path === dirname(path)) break;
    }
  }
}
