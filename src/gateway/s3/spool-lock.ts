/**
 * Sees to it that one process at a time uses a folder.
 *
 * The lock is a socket in the folder on which its holder listens: it is free at the moment at which the holder ends,
 * however it ends, and it holds between containers that share the folder, which know nothing of each other's processes.
 */
import { randomBytes } from "node:crypto";
import { link, open, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import path from "node:path";
import { HoldfastError } from "../../errors.ts";
import type { Logger } from "../../log.ts";

/** Name of the socket in the folder. */
const LOCK = "in-use";
/** Others that start at the same moment can take the lock away between two looks at it; not so often. */
const ATTEMPTS = 20;

export interface FolderLock {
  release(): Promise<void>;
}

/**
 * Locks a folder, which must be there. Gives undefined where another process has it. Where the file system can hold no
 * sockets the folder is used without a lock, and the log says so.
 */
export async function lockFolder(folder: string, logger: Logger): Promise<FolderLock | undefined> {
  const handle = await open(folder, "r");
  const own = `${LOCK}.${randomBytes(8).toString("hex")}`;
  // The address of a socket has room for about a hundred bytes, fewer than a folder's path may have.
  const address = (name: string): string =>
    process.platform === "linux" ? `/proc/self/fd/${handle.fd}/${name}` : path.join(folder, name);
  let server: Server | undefined;
  let isTaken = false;
  try {
    server = await listen(address(own));
    isTaken = await take(folder, own, address);
    return isTaken ? new Held(folder, server, handle) : undefined;
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    logger.warn("uploads.unlocked", { folder, reason: error instanceof Error ? error.message : String(error) });
    return { release: async () => undefined };
  } finally {
    await rm(path.join(folder, own), { force: true });
    if (!isTaken) await end(server, handle);
  }
}

class Held implements FolderLock {
  readonly #folder: string;
  readonly #server: Server;
  readonly #handle: FileHandle;

  constructor(folder: string, server: Server, handle: FileHandle) {
    this.#folder = folder;
    this.#server = server;
    this.#handle = handle;
  }

  async release(): Promise<void> {
    await rm(path.join(this.#folder, LOCK), { force: true });
    await end(this.#server, this.#handle);
  }
}

/** Gives the listening socket `own` the name of the lock, unless that is another's who is alive. */
async function take(folder: string, own: string, address: (name: string) => string): Promise<boolean> {
  const lock = path.join(folder, LOCK);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      await link(path.join(folder, own), lock);
      return true;
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
    if (await isAlive(address(LOCK))) return false;
    // What is taken away may be another's who came first: it is looked at again, and put back.
    const dead = `${own}.dead`;
    try {
      await rename(lock, path.join(folder, dead));
    } catch (error) {
      if (codeOf(error) === "ENOENT") continue;
      throw error;
    }
    if (await isAlive(address(dead))) {
      await rename(path.join(folder, dead), lock);
      return false;
    }
    await rm(path.join(folder, dead), { force: true });
  }
  throw new HoldfastError("config", `${folder} cannot be locked: others take the lock and leave it`);
}

function listen(address: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(address, () => {
      // Whoever looks whether somebody is here must not keep the process.
      server.unref();
      resolve(server);
    });
  });
}

/** Whether somebody listens on a socket. */
function isAlive(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // A queue that is full, or another user's, is somebody's; what is refused, or gone, is nobody's.
    socket.on("error", (error) => resolve(["EAGAIN", "EACCES", "EPERM"].includes(codeOf(error) ?? "")));
  });
}

async function end(server: Server | undefined, handle: FileHandle): Promise<void> {
  await new Promise<void>((resolve) => {
    if (server) server.close(() => resolve());
    else resolve();
  });
  await handle.close();
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
