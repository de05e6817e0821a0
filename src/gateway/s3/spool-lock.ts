/**
 * Sees to it that one process at a time uses a folder.
 *
 * Whoever has the folder, or wants it, listens on a socket of a name of its own in it, and then looks at the others there:
 * where one of them answers, it goes away. So the lock is free at the moment at which its holder ends, however it ends, and
 * it holds between containers that share the folder, which know nothing of each other's processes.
 */
import { randomBytes } from "node:crypto";
import { open, readdir, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../../contract/log.ts";
import { hasCode } from "./system-errors.ts";

/** Beginning of the names of sockets in the folder. */
const LOCK = "in-use.";
/** Of several that come at the same moment each may see another and go away; so each comes back a few times. */
const ATTEMPTS = 6;
/** Longest wait before the second attempt, in milliseconds; before each further one it is longer by as much. */
const WAIT_MS = 50;

export interface FolderLock {
  release(): Promise<void>;
}

/**
 * Locks a folder, which must be there. Gives undefined where another process has it. Where the file system can hold no
 * sockets the folder is used without a lock, and the log says so.
 */
export async function lockFolder(folder: string, logger: Logger): Promise<FolderLock | undefined> {
  for (let attempt = 1; ; attempt++) {
    const place = new SocketLock(folder, await open(folder, "r"));
    try {
      await place.enter();
    } catch (error) {
      await place.release();
      logger.warn("uploads.unlocked", { folder, reason: error instanceof Error ? error.message : String(error) });
      return { release: async () => undefined };
    }
    if (!(await place.hasOthers())) return place;
    await place.release();
    if (attempt === ATTEMPTS) return undefined;
    await delay(Math.random() * WAIT_MS * attempt);
  }
}

/** One process's socket in the folder. */
class SocketLock implements FolderLock {
  readonly #folder: string;
  readonly #handle: FileHandle;
  readonly #name = LOCK + randomBytes(8).toString("hex");
  #server: Server | undefined;

  constructor(folder: string, handle: FileHandle) {
    this.#folder = folder;
    this.#handle = handle;
  }

  async enter(): Promise<void> {
    // Under another name until it answers: what does not is taken for a dead one's.
    const begun = `new-${this.#name}`;
    this.#server = await listen(this.#address(begun));
    await rename(path.join(this.#folder, begun), path.join(this.#folder, this.#name));
  }

  /** Whether another process is here. Removes what dead ones left. */
  async hasOthers(): Promise<boolean> {
    for (const name of await readdir(this.#folder)) {
      if (!name.startsWith(LOCK) || name === this.#name) continue;
      if (await answers(this.#address(name))) return true;
      await rm(path.join(this.#folder, name), { force: true });
    }
    return false;
  }

  async release(): Promise<void> {
    await rm(path.join(this.#folder, this.#name), { force: true });
    await new Promise<void>((resolve) => {
      if (this.#server) this.#server.close(() => resolve());
      else resolve();
    });
    await this.#handle.close();
  }

  /** The address of a socket has room for about a hundred bytes, fewer than a folder's path may have. */
  #address(name: string): string {
    return process.platform === "linux" ? `/proc/self/fd/${this.#handle.fd}/${name}` : path.join(this.#folder, name);
  }
}

function listen(address: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(address, () => {
      // A look at who is here must not keep the process running.
      server.unref();
      resolve(server);
    });
  });
}

/** Whether somebody listens on a socket. */
function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // A queue that is full, or another user's, is somebody's; what is refused, or gone, is nobody's.
    socket.on("error", (error) => resolve(hasCode(error, ["EAGAIN", "EACCES", "EPERM"])));
  });
}
