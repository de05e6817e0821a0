/**
 * Folders reached over SSH: `sftp://user@host/relative` and `sftp://user@host//absolute`, as duplicity reads them.
 *
 * Several connections at most, each with many requests at once; opened when needed, reused, replaced when the server
 * drops them. Objects are flushed to the server's disk where it has `fsync@openssh.com`, and renamed onto their place with
 * `posix-rename@openssh.com`. Symbolic links below the root are not followed.
 */
import { setMaxListeners } from "node:events";
import type { FileEntryWithStats, SFTPWrapper, Stats } from "ssh2";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { ByteRange, Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { serverPath } from "../base/place.ts";
import { decodePath, readNumber, readQuery } from "../base/query.ts";
import { connectSsh } from "./ssh-connect.ts";
import type { SshConnection } from "./ssh-connect.ts";
import { resolveSsh } from "./ssh-settings.ts";
import type { SshSettings } from "./ssh-settings.ts";
import { KnownFolders } from "../base/known-folders.ts";
import { raceSignal } from "../../support/signals.ts";
import { notFound } from "../base/operations.ts";
import { TreeStore, inTheWay } from "../base/tree-store.ts";
import type { Tree, TreeEntry, TreePath, TreeRead } from "../base/tree-store.ts";

/** Bytes of one read or write request: what a packet of 34,000 bytes, which every server takes, has room for. */
const REQUEST_BYTES = 31 * 1024;
/** Requests of one transfer that are under way at once. */
const REQUESTS = 64;
/** Bytes of a chunk that a read gives. */
const CHUNK_BYTES = 8 * REQUEST_BYTES;
/** Chunks that one read may be ahead of its consumer, and all reads of a store together; each has one in any case. */
const AHEAD = (REQUESTS * REQUEST_BYTES) / CHUNK_BYTES;
const AHEAD_OF_ALL = 8 * AHEAD;
const DEFAULT_CONNECTIONS = 4;
/** With this many operations on each connection, another one is opened. */
const BUSY = 4;
/** How long a connection on which a call was cancelled has to show that it still works. */
const PROBE_MS = 2000;
/** How long a new call waits for such a connection before it takes, or opens, another one. */
const DOUBT_MS = 200;

/** SFTP's status codes (draft-ietf-secsh-filexfer-02, section 7). */
const EOF = 1;
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const FAILURE = 4;
const BAD_MESSAGE = 5;
const UNSUPPORTED = 8;

const parameters = ["identity", "known-hosts", "ssh-config", "connections"] as const;

export const sftpKind: StoreKind = {
  open: async (url: StoreUrl, context: StoreContext): Promise<Store> => {
    if (url.host === "") throw new HoldfastError("config", `a URL of ${url.scheme}:// needs a host`);
    const settings = await settingsOf(url, context.env);
    const connections = readNumber("connections", readQuery(url, parameters).connections, DEFAULT_CONNECTIONS, 1, 64);
    return new TreeStore({
      context,
      tree: new SftpTree(settings, rootOf(url), connections),
    });
  },
  place: async (url, env) => ({
    server: ["sftp", ...hopsTo(await settingsOf(url, env))],
    path: serverPath(rootOf(url)),
  }),
};

function settingsOf(url: StoreUrl, env: StoreContext["env"]): Promise<SshSettings> {
  const query = readQuery(url, parameters);
  return resolveSsh({
    host: url.host,
    port: url.port,
    user: url.username,
    password: url.password ?? env["FTP_PASSWORD"] ?? env["SSHPASS"],
    identity: query.identity,
    knownHosts: query["known-hosts"],
    configFile: query["ssh-config"],
    env,
  });
}

/** The hosts on the way: one address may be another host behind another jump. */
function hopsTo({ jump, user, host, port }: SshSettings): readonly string[] {
  return [...(jump === undefined ? [] : hopsTo(jump)), `${user}@${host.toLowerCase()}:${port}`];
}

/** The root as the server is to be told it: relative to the login's folder, or absolute. */
function rootOf(url: StoreUrl): string {
  const path = decodePath(url.path).slice(1).replace(/\/+$/u, "");
  if (path === "") return url.path.startsWith("//") ? "/" : ".";
  return path;
}

type Callback<T> = (error: unknown, value: T) => void;

/** A connection with its SFTP channel. */
class Session {
  readonly sftp: SFTPWrapper;
  readonly #ssh: SshConnection;
  readonly #waiting = new Set<(error: HoldfastError) => void>();
  readonly #onDeath: () => void;
  active = 0;
  /** Finished at least one request: if one fails now, the connection may have been dropped while it was idle. */
  used = false;
  /** A call on it was cancelled while it waited: nobody else uses it until this resolves, as it has answered or died. */
  doubt: Promise<void> | undefined;
  dead: HoldfastError | undefined;
  noFsync = false;
  noPosixRename = false;
  /** Whether an open handle keeps to its file when another takes the name. OpenSSH's do; rclone opens the name again. */
  readonly keepsHandles: boolean;

  constructor(ssh: SshConnection, sftp: SFTPWrapper, onDeath: () => void) {
    this.#ssh = ssh;
    this.sftp = sftp;
    const extensions: unknown = Reflect.get(sftp, "_extensions");
    this.keepsHandles = typeof extensions === "object" && extensions !== null && "fsync@openssh.com" in extensions;
    this.#onDeath = onDeath;
    let cause: Error | undefined;
    const end = (): void =>
      this.destroy(new HoldfastError("unavailable", "the SSH connection was lost", cause ? { cause } : {}));
    ssh.client.on("error", (error) => {
      cause = error;
    });
    ssh.client.once("close", end);
    sftp.on("error", (error: Error) => {
      cause = error;
      end();
    });
    sftp.once("close", end);
  }

  destroy(reason: HoldfastError): void {
    if (this.dead) return;
    this.dead = reason;
    this.#onDeath();
    this.#ssh.destroy();
    for (const reject of this.#waiting) reject(reason);
    this.#waiting.clear();
  }

  /** Calls `wake` when the connection dies; gives what takes that back. */
  watch(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /**
   * One request. A fired signal rejects at once; the answer, when it still comes, goes to `late`, which lets go of what
   * it holds.
   */
  request<T>(
    signal: AbortSignal | undefined,
    send: (callback: Callback<T>) => void,
    late?: (value: T) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.dead) {
        reject(this.dead);
        return;
      }
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      let settled = false;
      const finish = (): boolean => {
        if (settled) return false;
        settled = true;
        this.#waiting.delete(fail);
        signal?.removeEventListener("abort", onAbort);
        return true;
      };
      const fail = (error: HoldfastError): void => {
        if (finish()) reject(error);
      };
      const onAbort = (): void => {
        if (!signal || !finish()) return;
        reject(abortError(signal));
        this.probe();
      };
      this.#waiting.add(fail);
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        send((error, value) => {
          this.used = true;
          if (!finish()) {
            if (!hasStatus(error)) late?.(value);
          } else if (error === undefined || error === null) resolve(value);
          else reject(sftpError(error));
        });
      } catch (error) {
        fail(sftpError(error));
      }
    });
  }

  /** Lets nobody use the connection until it has answered a question; ends it if it does not in a short time. */
  probe(): void {
    if (this.doubt || this.dead) return;
    const timer = setTimeout(() => {
      this.destroy(new HoldfastError("timeout", "the SSH connection does not answer any more"));
    }, PROBE_MS);
    this.doubt = this.request<string>(undefined, (callback) => this.sftp.realpath(".", callback))
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        clearTimeout(timer);
        this.doubt = undefined;
      });
  }

  async closeHandle(handle: Buffer): Promise<void> {
    const deadline = AbortSignal.timeout(PROBE_MS);
    await this.request<void>(deadline, (callback) => this.sftp.close(handle, (error) => callback(error, undefined)));
  }
}

function hasStatus(error: unknown): error is Error & { code: number } {
  return error instanceof Error && "code" in error && typeof error.code === "number";
}

function sftpError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  if (!hasStatus(error)) {
    return new HoldfastError("unavailable", `the SSH connection failed: ${message}`, options);
  }
  switch (error.code) {
    case NO_SUCH_FILE:
      return new HoldfastError("not-found", "there is no such file", options);
    case PERMISSION_DENIED:
      return new HoldfastError("denied", "the server does not permit it", options);
    case BAD_MESSAGE:
      return new HoldfastError("invalid", "the server cannot hold this name", options);
    case UNSUPPORTED:
      return new HoldfastError("unsupported", `the server cannot do this: ${message}`, options);
    default:
      if (/no space|disk full|quota|enospc/iu.test(message)) {
        return new HoldfastError("full", "no space is left on the server", options);
      }
      return new HoldfastError("unavailable", `the server answered: ${message}`, options);
  }
}

const isFailure = (error: unknown): boolean =>
  error instanceof HoldfastError && hasStatus(error.cause) && error.cause.code === FAILURE;

/** What rclone says of a write that comes before the one that it should follow. */
const OUT_OF_ORDER = /illegal seek/iu;

interface Write {
  readonly bytes: Buffer;
  readonly position: number;
  /** All before it have been confirmed: to refuse it now is a failure. */
  readonly again: boolean;
}

class SftpTree implements Tree {
  readonly #settings: SshSettings;
  /** Reads whose chunks are being taken. */
  #receiving = 0;
  readonly #root: string;
  readonly #maxSessions: number;
  readonly #sessions = new Set<Session>();
  #connecting: Promise<Session> | undefined;
  #pending = 0;
  /** Folders below the root, by joined path, that were seen to be folders and no links. The root is "". */
  readonly known = new KnownFolders();
  readonly #closing = new AbortController();

  constructor(settings: SshSettings, root: string, maxSessions: number) {
    this.#settings = settings;
    this.#root = root;
    this.#maxSessions = maxSessions;
  }

  async makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    if (this.known.has(folder)) return;
    await this.#run(signal, async (session) => {
      if (!this.known.has([])) {
        await this.#makeRoot(session, this.#root, signal);
        this.known.add([]);
      }
      const unknown = this.known.unknown(folder);
      const kinds = await Promise.all(unknown.map((path) => this.#kind(session, path, signal)));
      for (const [i, path] of unknown.entries()) {
        let kind = kinds[i];
        if (kind === undefined) {
          kind = await this.#makeOne(session, this.#at(path), () => this.#kind(session, path, signal), signal);
        }
        if (kind !== "folder") throw inTheWay(path);
        this.known.add(path);
      }
    });
  }

  async #makeRoot(session: Session, root: string, signal: AbortSignal | undefined): Promise<void> {
    const kind = async (): Promise<TreeEntry["kind"] | undefined> => {
      try {
        const stats = await session.request<Stats>(signal, (callback) => session.sftp.stat(root, callback));
        return stats.isDirectory() ? "folder" : "file";
      } catch (error) {
        if (isHoldfastError(error, "not-found")) return undefined;
        throw error;
      }
    };
    const found = await kind();
    if (found === "folder") return;
    const parent = root.replace(/\/?[^/]*$/u, "");
    if (found === undefined && parent !== root) {
      if (parent !== "") await this.#makeRoot(session, parent, signal);
      if ((await this.#makeOne(session, root, kind, signal)) === "folder") return;
    }
    throw new HoldfastError("config", `${root} on the server is not a folder`);
  }

  /** Makes one folder whose parent is there; gives what is there afterwards, made by us or by another. */
  async #makeOne(
    session: Session,
    path: string,
    look: () => Promise<TreeEntry["kind"] | undefined>,
    signal: AbortSignal | undefined,
  ): Promise<TreeEntry["kind"]> {
    try {
      await session.request<void>(signal, (callback) =>
        session.sftp.mkdir(path, (error) => callback(error, undefined)),
      );
      // Some servers' mkdir succeeds where something is already, whatever it is.
      return (await look()) ?? "other";
    } catch (error) {
      if (!isFailure(error)) throw error;
      const kind = await look();
      if (kind === undefined) throw await this.#whyFailed(session, error, signal);
      return kind;
    }
  }

  async write(
    path: TreePath,
    chunks: AsyncIterable<Uint8Array>,
    _size: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { session, value: handle } = await this.#hold(signal, (session) =>
      session.request<Buffer>(
        signal,
        (callback) => session.sftp.open(this.#at(path), "wx", callback),
        (late) => void session.closeHandle(late).catch(() => undefined),
      ),
    );
    try {
      let written: number;
      try {
        written = await this.#send(session, handle, chunks, signal);
        await this.#sync(session, handle, signal);
      } catch (error) {
        throw await this.#whyFailed(session, error, signal);
      }
      const stats = await session.request<Stats>(signal, (callback) => session.sftp.fstat(handle, callback));
      if (stats.size !== written) {
        throw new HoldfastError("corrupt", `the server holds ${stats.size} of the ${written} bytes that it was sent`);
      }
      await session.request<void>(signal, (callback) =>
        session.sftp.close(handle, (error) => callback(error, undefined)),
      );
      return written;
    } catch (error) {
      await session.closeHandle(handle).catch(() => undefined);
      throw error;
    } finally {
      session.active--;
    }
  }

  /**
   * Sends the chunks as write requests, in order, so many at once; gives the number of bytes when all are confirmed. A
   * server that looks at several at once and takes them in order alone (rclone waits a second for the one before) may
   * refuse some on a busy machine: these are sent again, one by one.
   */
  async #send(
    session: Session,
    handle: Buffer,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    let position = 0;
    let underWay = 0;
    let failure: HoldfastError | undefined;
    const refused: Write[] = [];
    let wake: (() => void) | undefined;
    const rouse = (): void => wake?.();
    const unwatch = session.watch(rouse);
    signal?.addEventListener("abort", rouse, { once: true });
    const settle = async (limit: number): Promise<void> => {
      for (;;) {
        if (failure) throw failure;
        if (session.dead) throw session.dead;
        throwIfAborted(signal);
        if (underWay <= limit) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    const transmit = (write: Write): void => {
      underWay++;
      session.sftp.write(handle, write.bytes, 0, write.bytes.length, write.position, (error: unknown) => {
        underWay--;
        session.used = true;
        if (error instanceof Error && OUT_OF_ORDER.test(error.message) && !write.again) refused.push(write);
        else if (error !== undefined && error !== null) failure ??= sftpError(error);
        rouse();
      });
    };
    const room = async (limit: number): Promise<void> => {
      await settle(limit);
      if (refused.length === 0) return;
      // When all have been answered, it is known which was the first.
      await settle(0);
      for (const { bytes, position } of refused.splice(0).sort((a, b) => a.position - b.position)) {
        transmit({ bytes, position, again: true });
        await settle(0);
      }
    };
    const send = (bytes: Buffer): void => {
      transmit({ bytes, position, again: false });
      position += bytes.length;
    };
    // Small chunks are gathered, so that a request is never much smaller than it can be.
    let gathered = Buffer.allocUnsafe(REQUEST_BYTES);
    let filled = 0;
    try {
      for await (const chunk of chunks) {
        const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
        let at = 0;
        while (at < buffer.length) {
          if (filled === 0 && buffer.length - at >= REQUEST_BYTES) {
            await room(REQUESTS - 1);
            send(buffer.subarray(at, at + REQUEST_BYTES));
            at += REQUEST_BYTES;
          } else {
            const copied = buffer.copy(gathered, filled, at);
            filled += copied;
            at += copied;
            if (filled === REQUEST_BYTES) {
              await room(REQUESTS - 1);
              send(gathered);
              gathered = Buffer.allocUnsafe(REQUEST_BYTES);
              filled = 0;
            }
          }
        }
      }
      await room(REQUESTS - 1);
      if (filled > 0) send(gathered.subarray(0, filled));
      await room(0);
      return position;
    } catch (error) {
      if (signal?.aborted && underWay > 0) session.probe();
      throw error;
    } finally {
      unwatch();
      signal?.removeEventListener("abort", rouse);
    }
  }

  async #sync(session: Session, handle: Buffer, signal: AbortSignal | undefined): Promise<void> {
    if (session.noFsync) return;
    try {
      await session.request<void>(signal, (callback) => {
        try {
          session.sftp.ext_openssh_fsync(handle, (error) => callback(error, undefined));
        } catch (error) {
          // ssh2 throws when the server has not announced the extension.
          session.noFsync = true;
          if (!isMissingExtension(error)) throw error;
          callback(undefined, undefined);
        }
      });
    } catch (error) {
      if (!isHoldfastError(error, "unsupported")) throw error;
      session.noFsync = true;
    }
  }

  async replace(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    await this.#hold(signal, async (session) => {
      // Some servers rename a file onto an empty folder.
      if ((await this.#kind(session, to, signal)) === "folder") throw inTheWay(to);
      try {
        await this.#rename(session, this.#at(from), this.#at(to), signal);
      } catch (error) {
        if (isFailure(error) && (await this.#kind(session, to, signal)) === "folder") throw inTheWay(to);
        throw error;
      }
    }).then(({ session }) => {
      session.active--;
    });
  }

  async #rename(session: Session, from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    if (!session.noPosixRename) {
      try {
        await session.request<void>(signal, (callback) => {
          session.sftp.ext_openssh_rename(from, to, (error) => callback(error, undefined));
        });
        return;
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error;
        if (error.code !== "unsupported" && !isMissingExtension(error.cause)) throw error;
        session.noPosixRename = true;
      }
    }
    try {
      await session.request<void>(signal, (callback) =>
        session.sftp.rename(from, to, (error) => callback(error, undefined)),
      );
    } catch (error) {
      if (!isFailure(error)) throw error;
      throw new HoldfastError(
        "unsupported",
        "the server cannot replace a file in one step: it has no posix-rename@openssh.com, and its rename refuses a " +
          "name that is taken. Delete the object first, or use another way to reach this server",
        { cause: error },
      );
    }
  }

  async read(
    path: TreePath,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
    _onAlive: (() => void) | undefined,
    reuse: boolean,
  ): Promise<TreeRead> {
    const { session, value } = await this.#hold(signal, async (session) => {
      await this.#checkFolder(session, path.slice(0, -1), signal);
      const opening = session.request<Buffer>(
        signal,
        (callback) => session.sftp.open(this.#at(path), "r", callback),
        (late) => void session.closeHandle(late).catch(() => undefined),
      );
      const [opened, kind] = await Promise.allSettled([opening, this.#kind(session, path, signal)]);
      if (opened.status === "rejected") {
        // Some servers do not open a folder at all ("Is a directory"), and say no more than that they failed.
        const isOther = kind.status === "fulfilled" && kind.value !== "file";
        throw isOther && isFailure(opened.reason) ? notFound() : opened.reason;
      }
      try {
        if (kind.status === "rejected") throw kind.reason;
        if (kind.value !== "file") throw notFound();
        const handle = opened.value;
        const stats = await session.request<Stats>(signal, (callback) => session.sftp.fstat(handle, callback));
        return { handle, stats, ...resolveRange(range, stats.size) };
      } catch (error) {
        await session.closeHandle(opened.value).catch(() => undefined);
        throw error;
      }
    });
    const { handle, stats, start, end } = value;
    let closed: Promise<void> | undefined;
    const close = (): Promise<void> => {
      closed ??= session
        .closeHandle(handle)
        .catch(() => undefined)
        .finally(() => {
          session.active--;
        });
      return closed;
    };
    return {
      size: stats.size,
      modifiedMs: stats.mtime * 1000,
      length: end - start,
      chunks: this.#receive(session, {
        handle,
        start,
        end,
        watched: session.keepsHandles ? undefined : { path, stats },
        signal,
        reuse,
      }),
      close,
    };
  }

  /** Reads from `start` to `end` with many requests at once; gives chunks in order. */
  async *#receive(
    session: Session,
    {
      handle,
      start,
      end,
      watched,
      signal,
      reuse,
    }: {
      readonly handle: Buffer;
      readonly start: number;
      readonly end: number;
      readonly watched: { path: TreePath; stats: Stats } | undefined;
      readonly signal: AbortSignal | undefined;
      readonly reuse: boolean;
    },
  ): AsyncGenerator<Uint8Array> {
    const idle: Buffer[] = [];
    const ahead: Promise<Buffer>[] = [];
    let next = start;
    const chunksAhead = (): number => Math.max(1, Math.min(AHEAD, Math.floor(AHEAD_OF_ALL / this.#receiving)));
    const stopped = new AbortController();
    // There is one listener for each request, which is no leak.
    const stop = signal ? AbortSignal.any([signal, stopped.signal]) : stopped.signal;
    setMaxListeners(0, stop);
    this.#receiving++;
    try {
      for (;;) {
        while (next < end && ahead.length < chunksAhead()) {
          const length = Math.min(CHUNK_BYTES, end - next);
          const buffer = idle.pop()?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
          const chunk = this.#readChunk(session, handle, next, buffer, stop);
          chunk.catch(() => undefined);
          ahead.push(chunk);
          next += length;
        }
        const chunk = ahead.shift();
        if (!chunk) return;
        const bytes = await chunk;
        if (watched) await this.#checkSame(session, watched, stop);
        yield bytes;
        if (reuse && ahead.length + idle.length < chunksAhead()) idle.push(bytes);
      }
    } finally {
      this.#receiving--;
      stopped.abort();
    }
  }

  /** Rejects when the name has another file by now than the one that is read. */
  async #checkSame(session: Session, watched: { path: TreePath; stats: Stats }, signal: AbortSignal): Promise<void> {
    let now: Stats | undefined;
    try {
      now = await session.request<Stats>(signal, (callback) => session.sftp.lstat(this.#at(watched.path), callback));
    } catch (error) {
      if (!isHoldfastError(error, "not-found")) throw error;
    }
    if (now?.size !== watched.stats.size || now.mtime !== watched.stats.mtime) {
      throw new HoldfastError("unavailable", "the object was replaced while it was read");
    }
  }

  async #readChunk(
    session: Session,
    handle: Buffer,
    position: number,
    buffer: Buffer,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const { length } = buffer;
    const requests: Promise<void>[] = [];
    for (let at = 0; at < length; at += REQUEST_BYTES) {
      requests.push(fill(session, handle, buffer, at, Math.min(length, at + REQUEST_BYTES), position, signal));
    }
    await Promise.all(requests);
    return buffer;
  }

  stat(path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    return this.#run(signal, async (session) => {
      const [, stats] = await Promise.all([
        this.#checkFolder(session, path.slice(0, -1), signal),
        session.request<Stats>(signal, (callback) => session.sftp.lstat(this.#at(path), callback)),
      ]);
      return treeEntry(path.at(-1) ?? "", stats);
    });
  }

  async *entries(folder: TreePath, signal: AbortSignal | undefined): AsyncGenerator<TreeEntry> {
    const { session, value: handle } = await this.#hold(signal, async (session) => {
      if (folder.length > 0) await this.#checkFolder(session, folder, signal);
      return session.request<Buffer>(
        signal,
        (callback) => session.sftp.opendir(this.#at(folder), callback),
        (late) => void session.closeHandle(late).catch(() => undefined),
      );
    });
    try {
      for (;;) {
        let entries: FileEntryWithStats[];
        try {
          entries = await session.request<FileEntryWithStats[]>(signal, (callback) =>
            session.sftp.readdir(handle, callback),
          );
        } catch (error) {
          if (error instanceof HoldfastError && hasStatus(error.cause) && error.cause.code === EOF) return;
          throw error;
        }
        for (const { filename, attrs } of entries) {
          if (filename !== "." && filename !== "..") yield treeEntry(filename, attrs);
        }
      }
    } finally {
      await session.closeHandle(handle).catch(() => undefined);
      session.active--;
    }
  }

  removeFile(path: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#run(signal, async (session) => {
      try {
        await this.#checkFolder(session, path.slice(0, -1), signal);
        // Some servers' remove takes an empty folder with it.
        if ((await this.#kind(session, path, signal)) !== "file") return false;
        await session.request<void>(signal, (callback) =>
          session.sftp.unlink(this.#at(path), (error) => callback(error, undefined)),
        );
        return true;
      } catch (error) {
        if (isHoldfastError(error, "not-found")) return false;
        throw error;
      }
    });
  }

  removeEmptyFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#run(signal, async (session) => {
      try {
        // rclone's rmdir takes a file with it.
        if ((await this.#kind(session, folder, signal)) !== "folder") return false;
        await session.request<void>(signal, (callback) =>
          session.sftp.rmdir(this.#at(folder), (error) => callback(error, undefined)),
        );
        return true;
      } catch (error) {
        // The code of "not empty" differs by server, and nothing else matters here.
        if (error instanceof HoldfastError && hasStatus(error.cause)) return false;
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    const reason = closedError();
    // A connection that is being made is given up: the server may never answer.
    this.#closing.abort(reason);
    for (const session of this.#sessions) session.destroy(reason);
    await this.#connecting?.catch(() => undefined);
  }

  #at(path: TreePath): string {
    if (path.length === 0) return this.#root;
    const below = path.join("/");
    if (this.#root === ".") return below;
    return this.#root === "/" ? `/${below}` : `${this.#root}/${below}`;
  }

  /** Rejects with `not-found` unless every part of the way is a folder: a link could lead out of the root. */
  async #checkFolder(session: Session, folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const unknown = this.known.unknown(folder);
    if (unknown.length === 0) return;
    const kinds = await Promise.all(unknown.map((path) => this.#kind(session, path, signal)));
    if (kinds.some((kind) => kind !== "folder")) throw notFound();
    for (const path of unknown) this.known.add(path);
  }

  async #kind(
    session: Session,
    path: TreePath,
    signal: AbortSignal | undefined,
  ): Promise<TreeEntry["kind"] | undefined> {
    try {
      const stats = await session.request<Stats>(signal, (callback) => session.sftp.lstat(this.#at(path), callback));
      return treeEntry("", stats).kind;
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    }
  }

  /** SFTP says no more than "failure" of a full disk; the file system's numbers tell. */
  async #whyFailed(session: Session, error: unknown, signal: AbortSignal | undefined): Promise<unknown> {
    if (!isFailure(error) || isHoldfastError(error, "full")) return error;
    try {
      const numbers = await session.request<{ f_bavail: number; f_favail: number; f_files: number }>(
        signal,
        (callback) => session.sftp.ext_openssh_statvfs(this.#root, callback as never),
      );
      if (numbers.f_bavail === 0 || (numbers.f_files > 0 && numbers.f_favail === 0)) {
        return new HoldfastError("full", "no space is left on the server", { cause: error });
      }
    } catch {
      // Then the server's own word has to do.
    }
    return error;
  }

  /** Runs something on a connection and gives it back. */
  async #run<T>(signal: AbortSignal | undefined, action: (session: Session) => Promise<T>): Promise<T> {
    const { session, value } = await this.#hold(signal, action);
    session.active--;
    return value;
  }

  /**
   * Runs something on a connection, which stays taken (`active`) when it succeeds. Once more on another when it turns out
   * that the server had dropped a connection that was used before.
   */
  async #hold<T>(
    signal: AbortSignal | undefined,
    action: (session: Session) => Promise<T>,
  ): Promise<{ session: Session; value: T }> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.#acquire(signal);
      const stale = session.used;
      session.active++;
      try {
        return { session, value: await action(session) };
      } catch (error) {
        session.active--;
        if (attempt === 1 && stale && session.dead && isHoldfastError(error, "unavailable")) continue;
        throw error;
      }
    }
  }

  async #acquire(signal: AbortSignal | undefined): Promise<Session> {
    throwIfAborted(signal);
    for (;;) {
      let best: Session | undefined;
      let doubt: Promise<void> | undefined;
      for (const session of this.#sessions) {
        doubt ??= session.doubt;
        if (!session.doubt && (!best || session.active < best.active)) best = session;
      }
      const full = this.#sessions.size + this.#pending >= this.#maxSessions;
      if (best && (best.active < BUSY || full || this.#connecting)) return best;
      if (best) {
        this.#connect().catch(() => undefined);
        return best;
      }
      if (doubt && full) {
        await raceSignal(doubt, signal);
        continue;
      }
      // Mostly the answer comes long before a new connection would be there.
      if (doubt) await raceSignal(Promise.race([doubt, this.#pause()]), signal);
      if (doubt && [...this.#sessions].some((session) => !session.doubt)) continue;
      const session = await raceSignal(this.#connect(), signal);
      if (!session.dead) return session;
      throw session.dead;
    }
  }

  async #pause(): Promise<void> {
    await new Promise((resolve) => {
      setTimeout(resolve, DOUBT_MS);
    });
  }

  /** Opens one connection; those who ask meanwhile get the same. */
  #connect(): Promise<Session> {
    if (this.#closing.signal.aborted) return Promise.reject(closedError());
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<Session> {
    this.#pending++;
    try {
      const { signal } = this.#closing;
      const ssh = await connectSsh(this.#settings, signal);
      try {
        const sftp = await raceSignal(openChannel(ssh, this.#settings.connectTimeoutMs), signal);
        const session: Session = new Session(ssh, sftp, () => this.#sessions.delete(session));
        this.#sessions.add(session);
        return session;
      } catch (error) {
        ssh.destroy();
        throw error;
      }
    } finally {
      this.#pending--;
    }
  }
}

function openChannel(ssh: SshConnection, timeoutMs: number): Promise<SFTPWrapper> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new HoldfastError("timeout", "the server did not begin an SFTP session in time")),
      timeoutMs,
    );
    const closed = (): void => {
      clearTimeout(timer);
      reject(new HoldfastError("unavailable", "the SSH connection was lost"));
    };
    ssh.client.once("close", closed);
    ssh.client.sftp((error, sftp) => {
      clearTimeout(timer);
      ssh.client.off("close", closed);
      if (error) {
        reject(
          new HoldfastError("unavailable", `the server begins no SFTP session: ${error.message}`, { cause: error }),
        );
      } else resolve(sftp);
    });
  });
}

/** Fills `buffer` from `from` to `to` with the file's bytes at `position` and on; servers may give fewer than asked. */
async function fill(
  session: Session,
  handle: Buffer,
  buffer: Buffer,
  from: number,
  to: number,
  position: number,
  signal: AbortSignal,
): Promise<void> {
  let at = from;
  while (at < to) {
    let count: number;
    try {
      count = await session.request<number>(signal, (callback) =>
        session.sftp.read(handle, buffer, at, to - at, position + at, callback),
      );
    } catch (error) {
      if (error instanceof HoldfastError && hasStatus(error.cause) && error.cause.code === EOF) count = 0;
      else throw error;
    }
    if (count === 0) {
      throw new HoldfastError("corrupt", "the file on the server ended before its size: it was cut while it was read");
    }
    at += count;
  }
}

function closedError(): HoldfastError {
  return new HoldfastError("invalid", "the store is closed");
}

function isMissingExtension(error: unknown): boolean {
  return error instanceof Error && error.message === "Server does not support this extended request";
}

function treeEntry(name: string, stats: Stats): TreeEntry {
  const kind = stats.isFile() ? "file" : stats.isDirectory() ? "folder" : "other";
  return { name, kind, size: kind === "file" ? stats.size : 0, modifiedMs: stats.mtime * 1000 };
}
