/** A store's folder: where it really is, whether it is still there, and which names its file system takes for one. */
import { dirname, join } from "node:path";
import * as fs from "node:fs";
import { HoldfastError } from "../../contract/errors.ts";
import { RESERVED_PREFIX } from "../../contract/names.ts";
import { foldsNameIn, localNames } from "../../support/file-system-traits.ts";
import type { FileSystemTraits } from "../../support/file-system-traits.ts";
import { KeptNames, foldedName } from "../../support/kept-names.ts";
import { notFound } from "../base/operations.ts";
import { codeOf, fsError, linkError, otherName } from "./file-errors.ts";
import { HAS_PROC, close, leadsThroughLink, open, placeOf, realpath, stat } from "./system-calls.ts";

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;

/** Whether file systems of this platform mostly take names that differ in case for one. */
const OFTEN_FOLDS = process.platform === "darwin" || process.platform === "win32";

export class FileRoot {
  /** The folder, absolute, as given. */
  readonly path: string;
  /** The folder without symbolic links, once it was found. */
  #real: string | undefined;
  #wasThere = false;
  /** Of the folder's file system, once something was put. */
  traits: FileSystemTraits | undefined;
  /** Whether it folds names, as far as that can be seen without writing. */
  #looksFolding: boolean | undefined;
  readonly kept: KeptNames;

  /** `nowMs`: a clock in milliseconds. */
  constructor(path: string, nowMs: () => number) {
    this.path = path;
    this.kept = new KeptNames(localNames, nowMs);
  }

  /** Whether names are folded, as far as is known; what is usual on this platform before that. */
  get foldsMaybe(): boolean {
    return this.traits?.folds ?? this.#looksFolding ?? OFTEN_FOLDS;
  }

  /** The folder without symbolic links, once it was found. */
  get found(): string | undefined {
    return this.#real;
  }

  /** Whether nothing is there under the very name: what the file system finds may be called otherwise. */
  async isOther(root: string, parts: readonly string[]): Promise<boolean> {
    return (await this.folds(root)) && (await this.kept.otherThan(root, parts)) !== undefined;
  }

  async folds(root: string): Promise<boolean> {
    if (this.traits !== undefined) return this.traits.folds;
    this.#looksFolding ??= await foldsNameIn(root, RESERVED_PREFIX.slice(0, -1)).catch(() => false);
    return this.#looksFolding;
  }

  /** Throws `conflict` where the file system would take the name for another one. */
  async refuseOther(parts: readonly string[]): Promise<void> {
    const root = await this.real();
    const other = root === undefined ? undefined : await this.kept.otherThan(root, parts);
    if (other !== undefined) throw otherName(other);
  }

  /** The folder without links; undefined when it does not exist. */
  async real(): Promise<string | undefined> {
    if (this.#real !== undefined) return this.#real;
    try {
      const real = await realpath(this.path);
      this.#real = real;
      this.#wasThere = true;
      return real;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** The same for reading: rejects with `unavailable` when a folder that was there has gone. */
  async toRead(): Promise<string | undefined> {
    const root = await this.real();
    if (root === undefined) this.refuseLoss();
    return root;
  }

  /** Throws `unavailable` when the folder, which is not there, was there before. */
  refuseLoss(cause?: unknown): void {
    if (!this.#wasThere) return;
    throw new HoldfastError("unavailable", `the folder ${this.path} was there and is gone: is it mounted?`, {
      cause,
      retryable: false,
    });
  }

  /** What the failure to find something means: it is absent, or the folder is not there to be asked. */
  async notThere(error: unknown): Promise<HoldfastError> {
    if (error instanceof HoldfastError) return error;
    const code = codeOf(error);
    // unlink of a directory, which is no object.
    if (code === "EISDIR" || (code === "EPERM" && process.platform === "darwin")) return notFound(error);
    if (code === "ELOOP") return linkError(error);
    if (code !== "ENOENT" && code !== "ENOTDIR") return fsError(error);
    try {
      await stat(this.path);
    } catch (missing) {
      this.#real = undefined;
      try {
        this.refuseLoss(missing);
      } catch (loss) {
        return fsError(loss);
      }
    }
    return notFound(error);
  }

  /** Whether a place is the one that is meant: it may be called after whoever asked for it first, where names are folded. */
  isAt(found: string, where: string): boolean {
    const folds = this.traits?.folds ?? this.#looksFolding ?? false;
    return found === where || (folds && foldedName(found) === foldedName(where));
  }

  /** Throws unless the directory really is at this place, with no link on the way. */
  async expectInside(path: string): Promise<void> {
    if (!this.isAt(await realpath(path), path)) throw linkError();
  }

  /** Opens a file and makes sure that it is the one of this name. */
  async open(parts: readonly string[]): Promise<number> {
    const root = await this.toRead();
    if (root === undefined || (await this.isOther(root, parts))) throw notFound();
    const path = join(root, ...parts);
    try {
      if (!HAS_PROC && parts.length > 1) await this.expectInside(dirname(path));
      // A pipe of that name would keep an open without O_NONBLOCK waiting for its writer.
      const fd = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      if (HAS_PROC) {
        const where = await placeOf(fd);
        if (!isPlace(where, path) && !this.isAt(where, path)) {
          await close(fd);
          throw linkError();
        }
      }
      return fd;
    } catch (error) {
      throw await this.notOpened(error, root, parts);
    }
  }

  /** What the failure to open a file means. */
  async notOpened(error: unknown, root: string, parts: readonly string[]): Promise<HoldfastError> {
    // Not even whether something is there is told of a place outside.
    if (codeOf(error) === "ENOENT" && (await leadsThroughLink(root, parts.slice(0, -1)))) return linkError(error);
    return this.notThere(error);
  }
}

/** Whether an open file is the one that was to be opened. */
export function isPlace(where: string, path: string): boolean {
  // Replaced or deleted since it was opened: still the object of this name.
  return where === path || where === `${path} (deleted)`;
}
