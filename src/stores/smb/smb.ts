/**
 * A folder on an SMB share (Windows, Samba, a NAS), through the system's smbclient: `smb://user@host/share/path`.
 *
 * A mount would need root and the kernel's client, and no library of Node's speaks SMB 3; smbclient is what systems have.
 * A few of them are kept running, each told one command at a time: behind each stands one that does not exist, whose
 * complaint marks the end of the answer. smbclient holds a file open, shared with no writer's rename, while it reads; so
 * objects go through a local file, in both directions, and no slow reader keeps an object from being replaced.
 *
 * SMB does not tell upper from lower case and knows files by short names too: every part of a name is compared with what
 * the server has, and a name that the server would take for another's is refused.
 */
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HoldfastError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { ByteRange, Store } from "../../contract/store.ts";
import { NameTurns } from "../../support/kept-names.ts";
import { redactError, secretsOf } from "../../support/redact.ts";
import { childEnv } from "../base/child.ts";
import { ConnectionPool } from "../base/connection-pool.ts";
import { openFetched } from "../base/fetched-file.ts";
import { notFound } from "../base/operations.ts";
import { ownVariables } from "../base/place.ts";
import { decodePath } from "../base/query.ts";
import { bytesIn, bytesMovedBy, withSignsOfLife } from "../base/signs-of-life.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { TreeStore } from "../base/tree-store.ts";
import type { Tree, TreeEntry, TreePath, TreeRead } from "../base/tree-store.ts";
import { Session } from "./smb-session.ts";
import type { SmbOptions } from "./smb-session.ts";

export const smbKind: StoreKind = {
  open: async (url, context) => openSmbStore(url, context),
  place: (url, env) => {
    const { share, base, domain, user } = readSmbUrl(url);
    // Windows tells no upper from lower case.
    const lower = (text: string): string => text.toLowerCase();
    const server = [domain ?? "", user ?? "", url.host, String(url.port ?? 445), share].map(lower);
    // Without a user's name it is Kerberos that tells who it is, and a share such as `homes` is another folder for each.
    return {
      server: ["smb", ...server],
      path: base.map(lower),
      login: user === undefined ? ownVariables(env)["KRB5CCNAME"] : undefined,
    };
  },
};

const MAX_SESSIONS = 4;

/** How often, and how long apart in milliseconds, a rename onto a file that another has open is tried. */
const SHARING_TRIES = 20;
const SHARING_WAIT_MS = 100;

/** Names that Windows gives to devices, with any extension (learn.microsoft.com, "Naming Files, Paths, and Namespaces"). */
const DEVICE = /^(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\.|$)/iu;

function refusePart(part: string): string | undefined {
  // oxlint-disable-next-line no-control-regex -- these are what SMB refuses
  const character = /[\u0001-\u001f"*:<>?\\|]/u.exec(part)?.[0];
  if (character !== undefined) return `SMB does not allow the character ${JSON.stringify(character)}`;
  if (/[. ]$/u.test(part)) return "SMB cuts a dot or a space at the end of a part";
  if (DEVICE.test(part)) return "a part is the name of a device on Windows";
  return undefined;
}

interface SmbUrl {
  readonly share: string;
  /** Parts of the store's folder on the share. */
  readonly base: TreePath;
  readonly domain: string | undefined;
  readonly user: string | undefined;
}

function readSmbUrl(url: StoreUrl): SmbUrl {
  if (url.query !== undefined) throw new HoldfastError("config", "an smb:// URL takes no parameters");
  const [share = "", ...base] = decodePath(url.path)
    .split("/")
    .filter((part) => part !== "");
  if (!/^[A-Za-z0-9._:%][A-Za-z0-9._:%-]*$/u.test(url.host) || share === "") {
    throw new HoldfastError("config", "an smb:// URL has the form smb://user@host/share/path");
  }
  for (const part of [share, ...base]) {
    const reason = part === "." || part === ".." ? `"${part}" is not a name in a folder` : refusePart(part);
    if (reason !== undefined)
      throw new HoldfastError("config", `the path of the smb:// URL is not possible: ${reason}`);
  }
  const [domain, user] = url.username?.includes(";") ? url.username.split(/;(.*)/su) : [undefined, url.username];
  for (const text of [domain, user]) {
    if (text !== undefined && /^-|[%\r\n]/u.test(text)) {
      throw new HoldfastError("config", "the user name of an smb:// URL holds a character that smbclient cannot take");
    }
  }
  return { share, base, domain, user };
}

/** Opens a store on an SMB share. Starts nothing. Throws `config` for a wrong URL. */
export function openSmbStore(url: StoreUrl, context: StoreContext): Store {
  const { share, base, domain, user } = readSmbUrl(url);
  const { env } = context;
  const password = url.password ?? env["PASSWD"];
  const local = path.join(env["TMPDIR"] ?? tmpdir());
  if (/["\r\n]/u.test(local))
    throw new HoldfastError("config", "the folder for temporary files cannot have such a name");
  const args = [
    "-E",
    ...(url.port === undefined ? [] : ["-p", String(url.port)]),
    ...(user === undefined ? [] : ["-U", user]),
    ...(domain === undefined ? [] : ["-W", domain]),
    ...(password === undefined ? ["-N"] : []),
    `//${url.host}/${share}`,
  ];
  const tree = new SmbTree({
    args,
    env: childEnv(env, (name) => name === "KRB5CCNAME" || name === "KRB5_CONFIG", {
      // How names are encoded and times are given; never the password of another store.
      LC_ALL: "C.UTF-8",
      TZ: "UTC",
      ...(password === undefined ? {} : { PASSWD: password }),
    }),
    base,
    local,
    context,
    secrets: [...secretsOf(url, env), ...(password === undefined ? [] : [password])],
  });
  return new TreeStore({
    context,
    tree,
    refusePart,
    foldsAlways: true,
  });
}

class SmbTree implements Tree {
  readonly #options: SmbOptions;
  readonly #pool: ConnectionPool<Session>;
  /** Renames onto names that are the same without case follow each other: `a` and `A` must not both find nothing. */
  readonly #renaming = new NameTurns();

  constructor(options: SmbOptions) {
    this.#options = options;
    this.#pool = new ConnectionPool({
      limit: MAX_SESSIONS,
      connect: async () => new Session(options),
      // One that failed in the middle of an answer is not used again.
      isUsable: (session) => session.usable,
      isLost: (error) => isHoldfastError(error) && LOST.test(error.message),
      end: (session) => session.stop(),
    });
  }

  async makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const whole = [...this.#options.base, ...folder];
    await this.#whenFree(signal, async (session) => {
      // Another's delete may take away, in between, what was there or was just made, as it is empty.
      for (let attempt = 1; !(await this.#makeFolders(session, whole, signal)); attempt++) {
        if (attempt === 5) throw new HoldfastError("unavailable", "a folder was removed while it was made");
      }
    });
  }

  /** False where one of them was removed meanwhile. */
  async #makeFolders(session: Session, whole: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    for (let i = 1; i <= whole.length; i++) {
      const one = whole.slice(0, i);
      let entry = await look(session, one, signal);
      if (!entry) {
        try {
          // Another may make it at the same time: what then stands there decides.
          await session.ask(`mkdir ${quote(one)}`, signal, ["OBJECT_NAME_COLLISION"]);
        } catch (error) {
          if (isHoldfastError(error, "not-found")) return false;
          throw error;
        }
        entry = await look(session, one, signal);
      }
      if (!entry) return false;
      if (entry.name !== one.at(-1)) throw otherCase(entry.name);
      if (entry.kind !== "folder") {
        throw new HoldfastError("conflict", `an object stands where the folder ${JSON.stringify(one.at(-1))} would be`);
      }
    }
    return true;
  }

  async write(
    to: TreePath,
    chunks: AsyncIterable<Uint8Array>,
    _size: number | undefined,
    signal: AbortSignal | undefined,
    onAlive: (() => void) | undefined,
  ): Promise<number> {
    return this.#withFile(async (file) => {
      const target = createWriteStream(file, { flags: "wx", mode: 0o600 });
      await pipeline(Readable.from(chunks, { objectMode: false }), target);
      const size = target.bytesWritten;
      const whole = [...this.#options.base, ...to];
      for (let attempt = 1; ; attempt++) {
        try {
          const stored = await this.#whenFree(signal, async (session) => {
            await withSignsOfLife(
              this.#options.context.runtime,
              onAlive,
              () => bytesMovedBy(session.pid),
              () => session.ask(`put "${file}" ${quote(whole)}`, signal),
            );
            return look(session, whole, signal);
          });
          if (stored?.size === size) return size;
          throw new HoldfastError("unavailable", `the server stored ${stored?.size ?? 0} bytes of ${size}`);
        } catch (error) {
          // Another's delete has removed the folder, which was empty, meanwhile. The chunks are at hand still.
          if (!isHoldfastError(error, "not-found")) throw error;
          if (attempt === 5) {
            throw new HoldfastError("unavailable", "the folder of the object was removed while it was put", {
              cause: error,
            });
          }
          await this.makeFolder(to.slice(0, -1), signal);
        }
      }
    });
  }

  async replace(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const free = await this.#renaming.take(to.join("/"));
    try {
      await this.#rename(from, to, signal);
    } finally {
      free();
    }
  }

  async #rename(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const { base, context } = this.#options;
    await this.#whenFree(signal, async (session) => {
      for (let attempt = 1; ; attempt++) {
        const entry = await look(session, [...base, ...to], signal);
        if (entry && entry.name !== to.at(-1)) throw otherCase(entry.name);
        if (entry && entry.kind !== "file") throw new HoldfastError("conflict", "a folder has the object's name");
        try {
          await session.ask(`rename ${quote([...base, ...from])} ${quote([...base, ...to])} -f`, signal);
          return;
        } catch (error) {
          // Somebody reads the object, or deletes it, right now.
          const busy =
            isHoldfastError(error) && /SHARING_VIOLATION|DELETE_PENDING|ACCESS_DENIED/u.test(error.message) && entry;
          if (!busy || attempt === SHARING_TRIES) throw error;
          await context.runtime.sleep(SHARING_WAIT_MS, signal);
        }
      }
    });
  }

  async read(
    from: TreePath,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
    onAlive: (() => void) | undefined,
  ): Promise<TreeRead> {
    const { base } = this.#options;
    return this.#withFile(async (local) => {
      const entry = await this.#whenFree(signal, async (session) => {
        const entry = await this.#find(session, from, signal);
        if (entry.kind !== "file") throw notFound();
        await withSignsOfLife(
          this.#options.context.runtime,
          onAlive,
          () => bytesIn(path.dirname(local)),
          () => session.ask(`get ${quote([...base, ...from])} "${local}"`, signal),
        );
        return entry;
      });
      // The time is the server's, not that of the fetching.
      return { ...(await openFetched(local, range)), modifiedMs: entry.modifiedMs };
    });
  }

  /** Tries again while another has what is asked for open in a way that admits nobody, as a delete does for a moment. */
  async #whenFree<T>(signal: AbortSignal | undefined, work: (session: Session) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#with(signal, work);
      } catch (error) {
        const busy = isHoldfastError(error) && /SHARING_VIOLATION|DELETE_PENDING/u.test(error.message);
        if (!busy || attempt === SHARING_TRIES) throw error;
        await this.#options.context.runtime.sleep(SHARING_WAIT_MS, signal);
      }
    }
  }

  async stat(at: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    return this.#whenFree(signal, (session) => this.#find(session, at, signal));
  }

  async *entries(folder: TreePath, signal: AbortSignal | undefined): AsyncGenerator<TreeEntry> {
    yield* await this.#whenFree(signal, async (session) => {
      if (folder.length > 0) {
        const entry = await this.#find(session, folder, signal);
        if (entry.kind !== "folder") throw notFound();
      }
      const lines = await session.ask(`ls ${quote([...this.#options.base, ...folder, "*"])}`, signal, ["NO_SUCH_FILE"]);
      return lines.flatMap((line) => {
        const entry = parseEntry(line);
        return entry && entry.name !== "." && entry.name !== ".." ? [entry] : [];
      });
    });
  }

  async removeFile(at: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#whenFree(signal, async (session) => {
      try {
        const entry = await this.#find(session, at, signal);
        if (entry.kind !== "file") return false;
        await session.ask(`del ${quote([...this.#options.base, ...at])}`, signal);
        return true;
      } catch (error) {
        if (isHoldfastError(error, "not-found")) return false;
        throw error;
      }
    });
  }

  async removeEmptyFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#with(signal, async (session) => {
      try {
        await this.#find(session, folder, signal);
        await session.ask(`rmdir ${quote([...this.#options.base, ...folder])}`, signal);
        return true;
      } catch (error) {
        throwIfAborted(signal);
        if (isHoldfastError(error) && error.code !== "unavailable") return false;
        if (isHoldfastError(error) && /DIRECTORY_NOT_EMPTY|SHARING|DELETE_PENDING/u.test(error.message)) return false;
        throw error;
      }
    });
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  /** What stands at a path under exactly this name, or `not-found`. */
  async #find(session: Session, at: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    let entry: TreeEntry | undefined;
    const { base } = this.#options;
    for (let i = 1; i <= at.length; i++) {
      entry = await look(session, [...base, ...at.slice(0, i)], signal);
      if (!entry || entry.name !== at[i - 1] || (i < at.length && entry.kind !== "folder")) throw notFound();
    }
    if (!entry) throw notFound();
    return entry;
  }

  /** A local file for one operation, in a folder that nobody else can read. An open file outlives its folder. */
  async #withFile<T>(work: (file: string) => Promise<T>): Promise<T> {
    const folder = await mkdtemp(path.join(this.#options.local, "holdfast-smb-"));
    try {
      return await work(path.join(folder, "object"));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  #with<T>(signal: AbortSignal | undefined, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#pool.run(signal, async (session) => {
      try {
        return await work(session);
      } catch (error) {
        if (!isHoldfastError(error)) throw error;
        if (LOST.test(error.message)) await session.stop();
        throw redactError(error, this.#options.secrets);
      }
    });
  }
}

/** What says that a connection is gone, not that an operation failed. */
const LOST =
  /NT_STATUS_(?:CONNECTION_|NETWORK_NAME_DELETED|USER_SESSION_DELETED|NETWORK_SESSION_EXPIRED|INVALID_NETWORK_RESPONSE|LOCAL_DISCONNECT|REMOTE_DISCONNECT|VIRTUAL_CIRCUIT_CLOSED)|ended before it answered/u;

function otherCase(found: string): HoldfastError {
  return new HoldfastError("conflict", `the server takes the name for ${JSON.stringify(found)}, which stands there`);
}

/** A path for a command. No part holds a quotation mark or a control character: `refusePart` saw to that. */
function quote(parts: TreePath): string {
  return `"\\${parts.join("\\")}"`;
}

/** What the server has under a name, whatever its case; undefined for nothing. */
async function look(session: Session, at: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry | undefined> {
  const lines = await session.ask(`ls ${quote(at)}`, signal, [
    "NO_SUCH_FILE",
    "OBJECT_NAME_NOT_FOUND",
    "OBJECT_PATH_NOT_FOUND",
    "NOT_A_DIRECTORY",
    "DELETE_PENDING",
  ]);
  for (const line of lines) {
    const entry = parseEntry(line);
    if (entry) return entry;
  }
  return undefined;
}

/**
 * A line of smbclient's `ls`: two spaces, the name in at least 30 columns, attributes in 7, the size in at least 8 behind
 * a space, and the time in 24 behind two. Read from its end, as a name may look like anything.
 */
function parseEntry(line: string): TreeEntry | undefined {
  const time = line.slice(-24);
  const match = /^ {2}(.*)$/su.exec(line.slice(0, -26));
  const modifiedMs = Date.parse(`${time} UTC`);
  const digits = /(\d+)$/u.exec(match?.[1] ?? "")?.[1];
  if (!match || digits === undefined || Number.isNaN(modifiedMs)) return undefined;
  const text = match[1] ?? "";
  // A name may end in digits, but between it and the size stand seven columns and a space.
  const width = Math.max(8, digits.length);
  const attributes = text.slice(-width - 8, -width - 1);
  const name = text.slice(0, -width - 8).trimEnd();
  const kind = attributes.includes("D") ? "folder" : attributes.includes("r") ? "other" : "file";
  return { name, kind, size: kind === "file" ? Number(digits) : 0, modifiedMs };
}
