/** The operations on a tree of folders, by FTP. */
import { createHash } from "node:crypto";
import { PassThrough, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Client, FTPError } from "basic-ftp";
import type { AccessOptions } from "basic-ftp";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { ByteRange } from "../../contract/store.ts";
import { conversationError } from "../../support/network-errors.ts";
import { ConnectionPool } from "../base/connection-pool.ts";
import { KnownFolders } from "../base/known-folders.ts";
import { notFound } from "../base/operations.ts";
import { emptyRead, inTheWay } from "../base/tree-store.ts";
import type { Tree, TreeEntry, TreePath, TreeRead } from "../base/tree-store.ts";
import { ftpError } from "./ftp-error.ts";
import { parseFacts, parseList, parseMlsd, parseTime } from "./ftp-listing.ts";

/** A connection on which nothing moves for so long is given up. */
const TIMEOUT_MS = 60_000;
export const DEFAULT_CONNECTIONS = 6;
/** A connection that was unused for longer is closed rather than used: many servers drop it without a word. */
const KEEP_MS = 45_000;
/** A folder's listing comes in one piece and is held in memory: of about a million objects it is as long as this. */
const MAX_LISTING_BYTES = 128 * 1024 * 1024;
/** Bytes that a download may be ahead of its reader. */
const READ_AHEAD_BYTES = 1024 * 1024;
/** Larger objects are compared by size alone: a server may need minutes for their digest, in silence. */
const MAX_HASHED_BYTES = 1024 * 1024 * 1024;
/** How long the data connection of an empty object stays open under TLS. */
const EMPTY_DELAY_MS = 150;

/** What a server can do, learnt at the first login. */
interface Features {
  readonly mlst: boolean;
  readonly hash: boolean;
}

class Session {
  readonly client: Client;
  readonly features: Features;

  constructor(client: Client, features: Features) {
    this.client = client;
    this.features = features;
  }
}

export class FtpTree implements Tree {
  readonly #access: AccessOptions;
  readonly #path: string;
  readonly #server: string;
  readonly #pool: ConnectionPool<Session>;
  #features: Features | undefined;
  /** The root as an absolute path, without a slash at its end. Known after the first login. */
  #root: string | undefined;
  readonly known = new KnownFolders();

  constructor(access: AccessOptions, path: string, limit: number) {
    this.#access = access;
    this.#path = path;
    this.#server = `${access.host ?? ""}:${access.port ?? 21}`;
    this.#pool = new ConnectionPool({
      limit,
      keepMs: KEEP_MS,
      connect: (signal) => this.#connect(signal),
      isUsable: ({ client }) => !client.closed,
      isLost: (error) => isHoldfastError(error, "unavailable"),
      end: async ({ client }) => client.close(),
    });
  }

  /** Logs in once, as what a name may be depends on the server. */
  async ready(signal: AbortSignal | undefined): Promise<void> {
    if (!this.#features) await this.#run(signal, async () => undefined);
  }

  refusePart(part: string): string | undefined {
    if (/[\r\n]/u.test(part)) return "a line break cannot be sent over FTP";
    if (this.#features?.mlst === false) {
      if (/^ | $/u.test(part)) return "this server's listings do not show spaces at the beginning or end of a name";
      if (/\p{Cc}/u.test(part)) return "this server's listings do not show control characters";
      if (part.includes(" -> ")) return "this server's listings show this as a symbolic link";
    }
    return undefined;
  }

  async makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    if (this.known.has(folder)) return;
    await this.#run(signal, async ({ client }) => {
      await this.#make(client, this.#at(folder), signal);
    });
    this.known.add(folder);
  }

  async #make(client: Client, path: string, signal: AbortSignal | undefined): Promise<void> {
    if (path === "" || (await this.#isFolder(client, path))) return;
    await this.#make(client, path.slice(0, path.lastIndexOf("/")), signal);
    try {
      await client.send(`MKD ${path}`);
    } catch (error) {
      // Made by another meanwhile, or a file of that name.
      if (await this.#isFolder(client, path)) return;
      const failure = this.#error(error, signal);
      if (failure.code !== "not-found") throw failure;
      throw inTheWay(path);
    }
  }

  async write(
    path: TreePath,
    chunks: AsyncIterable<Uint8Array>,
    size: number | undefined,
    signal: AbortSignal | undefined,
    onAlive?: () => void,
    attempt = 1,
  ): Promise<number> {
    const target = this.#at(path);
    let begun = false;
    const again = (): boolean => !begun;
    const sending = this.#run(
      signal,
      async ({ client, features }) => {
        const hash = features.hash ? createHash("sha256") : undefined;
        let sent = 0;
        let failure: { readonly error: unknown } | undefined;
        const source = Readable.from(
          (async function* () {
            begun = true;
            try {
              for await (const chunk of chunks) {
                sent += chunk.length;
                hash?.update(chunk);
                yield chunk;
              }
              // A TLS connection that is closed at once, with nothing sent, is an error to some servers (ProFTPD 1.3.8).
              if (sent === 0 && client.ftp.hasTLS) await delay(EMPTY_DELAY_MS);
            } catch (error) {
              failure = { error };
              throw error;
            }
          })(),
          { objectMode: false, highWaterMark: READ_AHEAD_BYTES },
        );
        // What fails before the server asks for the bytes leaves the source untouched.
        source.on("error", () => undefined);
        try {
          await client.uploadFrom(source, target);
        } catch (error) {
          if (failure) throw toHoldfastError(failure.error);
          if (error instanceof FTPError && !begun && !(await this.#isFolder(client, parent(target)))) throw notFound();
          throw this.#error(error, signal);
        }
        const stored = await client.size(target);
        if (stored !== sent) {
          throw new HoldfastError("corrupt", `the server holds ${stored} of the ${sent} bytes that it was sent`);
        }
        if (hash && sent <= MAX_HASHED_BYTES) await checkHash(client, target, hash.digest("hex"));
        return sent;
      },
      { again },
    );
    return sending.catch(async (error: unknown) => {
      if (begun || !isHoldfastError(error, "unavailable")) throw error;
      // A server that refuses the transfer may drop its data connection before it says why.
      const isThere = await this.#run(signal, ({ client }) => this.#isFolder(client, parent(target)));
      if (!isThere) throw notFound();
      // It may be there again by now.
      if (attempt < 3) return this.write(path, chunks, size, signal, onAlive, attempt + 1);
      throw error;
    });
  }

  replace(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    return this.#run(
      signal,
      async ({ client }) => {
        const target = this.#at(to);
        if (await this.#isFolder(client, target)) throw inTheWay(target);
        await client.send(`RNFR ${this.#at(from)}`);
        try {
          await client.send(`RNTO ${target}`);
        } catch (error) {
          if (!(error instanceof FTPError) || error.code < 500) throw error;
          if (!(await sizeOf(client, target))) throw error;
          throw new HoldfastError(
            "unsupported",
            "the server does not rename a file onto another, so it cannot replace an object in one step",
            { cause: error },
          );
        }
      },
      { again: () => false },
    );
  }

  async read(path: TreePath, range: ByteRange | undefined, signal: AbortSignal | undefined): Promise<TreeRead> {
    const target = this.#at(path);
    const opened = await this.#pool.hold(signal, (session) =>
      this.#during(signal, session.client, async () => {
        const entry = await this.#find(session, path, signal);
        if (entry.kind !== "file") throw notFound();
        const { start, end } = resolveRange(range, entry.size);
        return { entry, start, end };
      }),
    );
    const { connection: session, value } = opened;
    const { entry, start, end } = value;
    if (start === end) {
      this.#pool.release(session);
      return emptyRead(entry);
    }
    // The caller decides how long this goes on.
    this.#pool.uncount(session);
    const pipe = new PassThrough({ highWaterMark: READ_AHEAD_BYTES });
    pipe.on("error", () => undefined);
    const { client } = session;
    const onAbort = (): void => {
      client.close();
      pipe.destroy();
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    let settled = false;
    const transfer = client.downloadTo(pipe, target, start).finally(() => {
      settled = true;
    });
    transfer.catch((error: unknown) => pipe.destroy(error instanceof Error ? error : new Error(String(error))));
    let closed = false;
    const close = async (): Promise<void> => {
      if (closed) return;
      closed = true;
      signal?.removeEventListener("abort", onAbort);
      // FTP has no good way to end a transfer early but to leave.
      if (!settled) client.close();
      pipe.destroy();
      await transfer.catch(() => undefined);
      this.#pool.release(session);
    };
    const failed = (error: unknown): HoldfastError => this.#error(error, signal);
    return {
      size: entry.size,
      modifiedMs: entry.modifiedMs,
      length: end - start,
      chunks: (async function* () {
        let left = end - start;
        try {
          for await (const chunk of pipe) {
            const bytes = chunk as Buffer;
            const whole = bytes.length > left && end < entry.size ? bytes.subarray(0, left) : bytes;
            left -= whole.length;
            yield whole;
            if (left === 0 && end < entry.size) return;
          }
          // The end of the data says nothing yet; the server's word on the transfer does.
          await transfer;
        } catch (error) {
          throw failed(error);
        }
      })(),
      close,
    };
  }

  stat(path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    return this.#run(signal, (session) => this.#find(session, path, signal));
  }

  async stands(path: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#run(signal, async (session) => {
      try {
        await this.#find(session, path, signal);
        return true;
      } catch (error) {
        if (!isHoldfastError(error, "not-found")) throw error;
        // Without MLST a folder is found in a listing, which has it under its own name alone.
        return !session.features.mlst && this.#isFolder(session.client, this.#at(path));
      }
    });
  }

  async *entries(folder: TreePath, signal: AbortSignal | undefined): AsyncGenerator<TreeEntry> {
    const text = await this.#run(signal, (session) => this.#list(session, folder, signal));
    yield* text;
  }

  async #list(session: Session, folder: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry[]> {
    const { client, features } = session;
    try {
      // As an argument of LIST, a path would be taken for a pattern, or for options.
      await client.send(`CWD ${this.#at(folder) || "/"}`);
    } catch (error) {
      if (error instanceof FTPError && this.#error(error, signal).code === "not-found") throw notFound();
      throw error;
    }
    let text = "";
    client.parseList = (raw) => {
      text = raw;
      return [];
    };
    client.availableListCommands = features.mlst ? ["MLSD"] : ["LIST -a"];
    await client.list();
    return features.mlst ? parseMlsd(text) : parseList(text);
  }

  removeFile(path: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#run(signal, async (session) => {
      try {
        await session.client.send(`DELE ${this.#at(path)}`);
        return true;
      } catch (error) {
        const failure = this.#error(error, signal);
        if (!(error instanceof FTPError) || failure.code === "unavailable") throw failure;
        try {
          const entry = await this.#find(session, path, signal);
          if (entry.kind !== "file") return false;
        } catch (reason) {
          if (isHoldfastError(reason, "not-found")) return false;
          throw reason;
        }
        throw failure.code === "not-found"
          ? new HoldfastError("denied", `${this.#server} does not let go of the file`, { cause: error })
          : failure;
      }
    });
  }

  removeEmptyFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#run(signal, async ({ client }) => {
      try {
        await client.send(`RMD ${this.#at(folder)}`);
        return true;
      } catch (error) {
        if (error instanceof FTPError) return false;
        throw error;
      }
    });
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  /** A path from the server's root; "" is the root itself. */
  #at(path: TreePath): string {
    return [this.#root ?? "", ...path].join("/");
  }

  async #isFolder(client: Client, path: string): Promise<boolean> {
    try {
      await client.send(`CWD ${path || "/"}`);
      return true;
    } catch (error) {
      if (error instanceof FTPError && error.code >= 500) return false;
      throw error;
    }
  }

  /** What is at a path. Rejects with `not-found` only when the server is sure of it. */
  async #find(session: Session, path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    const { client, features } = session;
    const target = this.#at(path);
    const name = path.at(-1) ?? "";
    if (features.mlst) {
      const answer = await client.send(`MLST ${target}`).catch((error: unknown) => {
        throw this.#error(error, signal);
      });
      const line = answer.message.split(/\r?\n/u).find((one) => one.startsWith(" "));
      const entry = line === undefined ? undefined : parseFacts(line.slice(1));
      if (!entry) throw new HoldfastError("corrupt", `${this.#server} gave no facts about the file`);
      return { ...entry, name };
    }
    const size = await sizeOf(client, target);
    if (size !== undefined) {
      const modified = await client.send(`MDTM ${target}`).catch(() => undefined);
      const modifiedMs = parseTime(/^213 (\d{14})/u.exec(modified?.message ?? "")?.[1]);
      return { name, kind: "file", size, modifiedMs };
    }
    // The answer for a folder, for nothing, and for what one may not see is the same; the listing tells.
    const entry = (await this.#list(session, path.slice(0, -1), signal)).find((one) => one.name === name);
    if (!entry) throw notFound();
    if (entry.kind === "file") throw new HoldfastError("denied", `${this.#server} does not let us see the file`);
    return entry;
  }

  #error(error: unknown, signal: AbortSignal | undefined): HoldfastError {
    if (error instanceof HoldfastError) return error;
    if (signal?.aborted) return abortError(signal);
    if (error instanceof FTPError) return ftpError(error, this.#server);
    if (error instanceof Error && error.message.startsWith("Timeout")) {
      return new HoldfastError("timeout", `${this.#server} was silent for ${TIMEOUT_MS} ms`, { cause: error });
    }
    if (error instanceof Error && error.message.startsWith("StringWriter: Maximum bytes exceeded")) {
      return new HoldfastError(
        "incomplete",
        `${this.#server} lists more than ${MAX_LISTING_BYTES} bytes of one folder`,
        {
          cause: error,
        },
      );
    }
    return conversationError(error, this.#server, signal);
  }

  #run<T>(
    signal: AbortSignal | undefined,
    action: (session: Session) => Promise<T>,
    options: { readonly again?: () => boolean } = {},
  ): Promise<T> {
    return this.#pool.run(
      signal,
      (session) => this.#during(signal, session.client, () => action(session)),
      options.again,
    );
  }

  /** Ends the connection when the signal fires, and tells what an error means. */
  async #during<T>(signal: AbortSignal | undefined, client: Client, action: () => Promise<T>): Promise<T> {
    const onAbort = (): void => client.close();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await action();
    } catch (error) {
      throw this.#error(error, signal);
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async #connect(signal: AbortSignal): Promise<Session> {
    const client = new Client(TIMEOUT_MS, { allowSeparateTransferHost: false, maxListingBytes: MAX_LISTING_BYTES });
    try {
      return await this.#during(signal, client, async () => {
        await client.access(this.#access);
        if (this.#features === undefined || this.#root === undefined) {
          const found = await client.features();
          this.#features = {
            mlst: found.has("MLST"),
            hash: /(?:^|;)\s*SHA-256\b/u.test(found.get("HASH") ?? ""),
          };
          this.#root = await this.#findRoot(client);
        }
        if (this.#features.hash) await client.send("OPTS HASH SHA-256");
        throwIfAborted(signal);
        return new Session(client, this.#features);
      });
    } catch (error) {
      client.close();
      throw error;
    }
  }

  async #findRoot(client: Client): Promise<string> {
    const below = this.#path.slice(1).replace(/\/+$/u, "");
    if (below.startsWith("/") || this.#path.startsWith("//")) return below.replace(/^\/+$/u, "");
    const answer = await client.send("PWD");
    const home = /"((?:[^"]|"")*)"/u.exec(answer.message)?.[1]?.replaceAll('""', '"').replace(/\/+$/u, "");
    if (home === undefined) throw new HoldfastError("unavailable", `${this.#server} does not tell the login's folder`);
    return below === "" ? home : `${home}/${below}`;
  }
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

async function sizeOf(client: Client, path: string): Promise<number | undefined> {
  try {
    return await client.size(path);
  } catch (error) {
    if (error instanceof FTPError && error.code === 550) return undefined;
    throw error;
  }
}

async function checkHash(client: Client, path: string, sha256: string): Promise<void> {
  let answer: string;
  try {
    answer = (await client.send(`HASH ${path}`)).message;
  } catch (error) {
    // The server is free to refuse it for this file; then the size has to do.
    if (error instanceof FTPError && error.code !== 421) return;
    throw error;
  }
  const found = /^213 SHA-256 \d+-\d+ ([0-9a-f]{64})(?:\s|$)/iu.exec(answer)?.[1];
  if (found !== undefined && found.toLowerCase() !== sha256) {
    throw new HoldfastError("corrupt", "the server holds other bytes than it was sent: their SHA-256 differs");
  }
}
