/** The operations on a tree of folders, by SFTP. */
import type { FileEntryWithStats, Stats } from "ssh2";
import { HoldfastError, isHoldfastError } from "../../contract/errors.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { ByteRange } from "../../contract/store.ts";
import { KnownFolders } from "../base/known-folders.ts";
import { notFound } from "../base/operations.ts";
import { inTheWay } from "../base/tree-store.ts";
import type { Tree, TreeEntry, TreePath, TreeRead } from "../base/tree-store.ts";
import { hasStatus, isEnd, isFailure, isMissingExtension } from "./sftp-error.ts";
import type { Session } from "./sftp-session.ts";
import type { SftpSessions } from "./sftp-sessions.ts";
import { Receiver, sendAll } from "./sftp-transfer.ts";

export class SftpTree implements Tree {
  readonly #sessions: SftpSessions;
  readonly #root: string;
  readonly #receiver = new Receiver();
  /** Folders below the root, by joined path, that were seen to be folders and no links. The root is "". */
  readonly known = new KnownFolders();

  constructor(sessions: SftpSessions, root: string) {
    this.#sessions = sessions;
    this.#root = root;
  }

  async makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    if (this.known.has(folder)) return;
    await this.#sessions.run(signal, async (session) => {
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
    const { session, value: handle } = await this.#sessions.hold(signal, (session) =>
      session.request<Buffer>(
        signal,
        (callback) => session.sftp.open(this.#at(path), "wx", callback),
        (late) => void session.closeHandle(late).catch(() => undefined),
      ),
    );
    try {
      let written: number;
      try {
        written = await sendAll(session, handle, chunks, signal);
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
      this.#sessions.release(session);
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
    await this.#sessions
      .hold(signal, async (session) => {
        // Some servers rename a file onto an empty folder.
        if ((await this.#kind(session, to, signal)) === "folder") throw inTheWay(to);
        try {
          await this.#rename(session, this.#at(from), this.#at(to), signal);
        } catch (error) {
          if (isFailure(error) && (await this.#kind(session, to, signal)) === "folder") throw inTheWay(to);
          throw error;
        }
      })
      .then(({ session }) => {
        this.#sessions.release(session);
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
    const { session, value } = await this.#sessions.hold(signal, async (session) => {
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
          this.#sessions.release(session);
        });
      return closed;
    };
    const check = session.keepsHandles
      ? undefined
      : (stop: AbortSignal): Promise<void> => this.#checkSame(session, path, stats, stop);
    return {
      size: stats.size,
      modifiedMs: stats.mtime * 1000,
      length: end - start,
      chunks: this.#receiver.chunks(session, { handle, start, end, check, signal, reuse }),
      close,
    };
  }

  /** Rejects when the name has another file by now than the one that is read. */
  async #checkSame(session: Session, path: TreePath, stats: Stats, signal: AbortSignal): Promise<void> {
    let now: Stats | undefined;
    try {
      now = await session.request<Stats>(signal, (callback) => session.sftp.lstat(this.#at(path), callback));
    } catch (error) {
      if (!isHoldfastError(error, "not-found")) throw error;
    }
    if (now?.size !== stats.size || now.mtime !== stats.mtime) {
      throw new HoldfastError("unavailable", "the object was replaced while it was read");
    }
  }

  stat(path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    return this.#sessions.run(signal, async (session) => {
      const [, stats] = await Promise.all([
        this.#checkFolder(session, path.slice(0, -1), signal),
        session.request<Stats>(signal, (callback) => session.sftp.lstat(this.#at(path), callback)),
      ]);
      return treeEntry(path.at(-1) ?? "", stats);
    });
  }

  async *entries(folder: TreePath, signal: AbortSignal | undefined): AsyncGenerator<TreeEntry> {
    const { session, value: handle } = await this.#sessions.hold(signal, async (session) => {
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
          if (isEnd(error)) return;
          throw error;
        }
        for (const { filename, attrs } of entries) {
          if (filename !== "." && filename !== "..") yield treeEntry(filename, attrs);
        }
      }
    } finally {
      await session.closeHandle(handle).catch(() => undefined);
      this.#sessions.release(session);
    }
  }

  removeFile(path: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#sessions.run(signal, async (session) => {
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
    return this.#sessions.run(signal, async (session) => {
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

  close(): Promise<void> {
    return this.#sessions.close();
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
}

function treeEntry(name: string, stats: Stats): TreeEntry {
  const kind = stats.isFile() ? "file" : stats.isDirectory() ? "folder" : "other";
  return { name, kind, size: kind === "file" ? stats.size : 0, modifiedMs: stats.mtime * 1000 };
}
