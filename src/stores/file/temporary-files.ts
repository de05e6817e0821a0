/** Temporary files: their names say whose they are, and those whose owner is gone are removed. */
import { randomBytes } from "node:crypto";
import { constants, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { traitsOf } from "../../support/file-system-traits.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { MAX_TRIES } from "./directories.ts";
import type { Directories } from "./directories.ts";
import { codeOf, isGone, linkError } from "./file-errors.ts";
import { TMP } from "./file-names.ts";
import type { FileRoot } from "./file-root.ts";
import { HAS_PROC, close, lstat, open as openFile, placeOf, readdir, unlink } from "./system-calls.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

type Context = Pick<StoreContext, "label" | "logger" | "runtime">;

/** A temporary file of a process that cannot be asked about is a leftover when nothing was written to it for so long. */
const STRAY_AFTER_MS = 24 * 60 * 60 * 1000;

/**
 * Whose process ids can be compared with ours: the same boot of the same machine and the same set of process ids. A
 * container has its own set, and a folder on a network has several machines.
 */
const OWNER = ((): string => {
  const facts = [hostname()];
  try {
    facts.push(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(), readlinkSync("/proc/self/ns/pid"));
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

/** A name that no other temporary file has. */
export function temporaryName(): string {
  return `${OWNER}.${process.pid}.${randomBytes(8).toString("hex")}`;
}

/** Removes temporary files whose process is gone, or that nobody has written to for a day. */
async function sweepTemporary(path: string, { label, logger, runtime }: Context): Promise<void> {
  try {
    for (const name of await readdir(path)) {
      const [owner, pid] = name.split(".");
      const file = join(path, name);
      const dead = owner === OWNER && pid !== undefined && !isAlive(Number(pid));
      if (!dead) {
        const { mtimeMs } = await lstat(file);
        if (runtime.now() - mtimeMs < STRAY_AFTER_MS) continue;
      }
      await unlink(file);
      logger.info("sweep.temporary-file-removed", { store: label, file: `${TMP}/${name}` });
    }
  } catch (error) {
    // Another process is sweeping, or may not: nothing depends on it.
    logger.debug("sweep.failed", { store: label, reason: String(error) });
  }
}

export class TemporaryFiles {
  readonly #root: FileRoot;
  readonly #directories: Directories;
  readonly #context: Context;
  #swept: Promise<void> | undefined;

  constructor(root: FileRoot, directories: Directories, context: Context) {
    this.#root = root;
    this.#directories = directories;
    this.#context = context;
  }

  /** Opens a new temporary file, and makes its directory where it is missing. */
  async open(): Promise<{ fd: number; path: string }> {
    for (let tries = 1; ; tries++) {
      const root = await this.#root.real();
      if (root !== undefined) {
        const path = join(root, TMP, temporaryName());
        try {
          if (!this.#swept) {
            // Never through a link: the temporary files would be elsewhere.
            await this.#root.expectInside(join(root, TMP));
            this.#swept = this.#prepare(join(root, TMP));
          }
          await this.#swept;
          const fd = await openFile(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o666);
          if (HAS_PROC && !this.#root.isAt(await placeOf(fd), path)) {
            await close(fd);
            await unlink(path);
            throw linkError();
          }
          return { path, fd };
        } catch (error) {
          if (!isGone(error) || tries >= MAX_TRIES) {
            // What is found out with a first file is found out another time.
            if (this.#root.traits === undefined) this.#swept = undefined;
            throw error;
          }
        }
      }
      this.#swept = undefined;
      const directory = await this.#directories.make(TMP.split("/"));
      await this.#directories.release(directory);
    }
  }

  async #prepare(path: string): Promise<void> {
    await sweepTemporary(path, this.#context);
    this.#root.traits ??= await traitsOf(path, temporaryName());
  }
}
