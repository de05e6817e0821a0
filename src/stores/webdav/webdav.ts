/**
 * Folders on a WebDAV server (RFC 4918): `webdav://user@host/path` over HTTP, `webdavs://` over HTTPS.
 *
 * An object is put under a temporary name and moved, unless the server is known to show no file before it is whole
 * (Apache's mod_dav_fs, whose MOVE removes the old file first, so that it would be gone for a moment). A folder is listed
 * level by level, never with `Depth: infinity`. Redirects are not followed, so no credentials go astray.
 *
 * The file is longer than others since each operation has to tell apart what different servers answer to it.
 */
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { RESERVED_PREFIX } from "../../contract/names.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { ByteRange, Store } from "../../contract/store.ts";
import { conversationError } from "../../support/network-errors.ts";
import { HttpClient, rangeHeader } from "../base/http-client.ts";
import { KnownFolders } from "../base/known-folders.ts";
import { netrcLogin } from "../base/netrc.ts";
import { notFound } from "../base/operations.ts";
import { decodePath, readNumber, readQuery } from "../base/query.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { tlsOptions } from "../base/tls.ts";
import { TreeStore, emptyRead, inTheWay } from "../base/tree-store.ts";
import type { Tree, TreeEntry, TreePath, TreeRead } from "../base/tree-store.ts";
import type { HttpLogin } from "./http-auth.ts";
import { parseResponse, responseElements } from "./multistatus.ts";
import { WebdavClient, discard, headerOf, statusError } from "./webdav-client.ts";
import type { Answer } from "./webdav-client.ts";

const DEFAULT_CONNECTIONS = 16;
/** A body up to this size is held in memory and can be sent again. */
const SMALL_BYTES = 256 * 1024;
/** How often a read begins anew when its object is replaced at that moment. */
const READ_ATTEMPTS = 5;

const PROPERTIES =
  '<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>' +
  "<getlastmodified/></prop></propfind>";

export const webdavKind: StoreKind = {
  open: async (url: StoreUrl, context: StoreContext): Promise<Store> => {
    if (url.host === "") throw new HoldfastError("config", `a URL of ${url.scheme}:// needs a host`);
    const query = readQuery(url, ["ca", "connections"]);
    const root = rootOf(url);
    const http = new HttpClient({
      origin: originOf(url),
      tls: await tlsOptions(query.ca),
      connections: readNumber("connections", query.connections, DEFAULT_CONNECTIONS, 1, 256),
      env: context.env,
    });
    const tree = new WebdavTree(new WebdavClient(http, await loginOf(url, context.env)), root);
    return new TreeStore({
      context,
      tree,
      refusePart: (part, depth) => tree.refusePart(part, depth),
      pruneFolders: false,
    });
  },
  place: async (url, env) => ({
    server: ["webdav", originOf(url), (await loginOf(url, env))?.user ?? ""],
    path: rootOf(url),
  }),
};

function originOf(url: StoreUrl): string {
  const protocol = url.scheme === "webdavs" ? "https" : "http";
  const host = url.host.includes(":") ? `[${url.host}]` : url.host;
  try {
    return new URL(`${protocol}://${host}${url.port === undefined ? "" : `:${url.port}`}`).origin;
  } catch (error) {
    throw new HoldfastError("config", `${JSON.stringify(url.host)} is no host name`, { cause: error });
  }
}

function rootOf(url: StoreUrl): string[] {
  const root = decodePath(url.path)
    .split("/")
    .filter((part) => part !== "");
  if (root.includes(".") || root.includes("..")) {
    throw new HoldfastError("config", `the path of a URL of ${url.scheme}:// cannot have "." or ".." in it`);
  }
  return root;
}

async function loginOf(url: StoreUrl, env: StoreContext["env"]): Promise<HttpLogin | undefined> {
  const password = url.password ?? env["FTP_PASSWORD"];
  if (url.username !== undefined && password !== undefined) return { user: url.username, password };
  const entry = await netrcLogin(url.host, url.username, env);
  const user = url.username ?? entry?.login;
  return user === undefined ? undefined : { user, password: entry?.password ?? "" };
}

/** Codes of answers that tell of a folder that is missing, or in the way, on one server or another. */
const UNCLEAR: ReadonlySet<ErrorCode> = new Set(["conflict", "not-found", "denied", "invalid", "unsupported"]);

class WebdavTree implements Tree {
  readonly #client: WebdavClient;
  readonly #root: TreePath;
  /** Folders below the root, by joined path, that were seen. The root is "". */
  readonly known = new KnownFolders();
  #writesWhole: boolean | undefined;
  #hidesDots: boolean | undefined;

  constructor(client: WebdavClient, root: TreePath) {
    this.#client = client;
    this.#root = root;
  }

  async writesWhole(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#writesWhole === undefined) {
      const answer = await this.#client.send({
        method: "OPTIONS",
        path: this.#at([], true),
        expect: [200, 204, 404, 405, 501],
        signal,
      });
      await discard(answer);
      // Only mod_dav_fs says this of itself, and of no folder that is not there; then it is asked again next time.
      const whole = headerOf(answer, "dav").includes("<http://apache.org/dav/propset/fs/1>");
      if (answer.status === 404) return whole;
      this.#writesWhole = whole;
    }
    return this.#writesWhole;
  }

  async makeFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    if (this.known.has(folder)) return;
    await this.#make([...this.#root, ...folder], signal);
    this.known.add(folder);
  }

  /** Makes a folder, given from the server's root, with those above it. */
  async #make(folder: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const kind = await this.#kind(encodePath(folder), signal);
    if (kind === "folder") return;
    if (kind === "file") throw inTheWay(folder);
    if (folder.length === 0) throw new HoldfastError("config", `${this.#client.origin} has no WebDAV folder at /`);
    await this.#make(folder.slice(0, -1), signal);
    const path = encodePath(folder, true);
    const answer = await this.#client.send({ method: "MKCOL", path, expect: [200, 201, 400, 403, 405, 409], signal });
    if (answer.status < 300) return discard(answer);
    // Made by another meanwhile; Apache may answer 403 then, and others 400.
    const error = await statusError(answer, { method: "MKCOL", path, expect: [], signal }, this.#client.origin);
    const now = await this.#kind(encodePath(folder), signal);
    const isRefused = answer.status === 400 || answer.status === 403;
    if (now !== "folder") throw now === undefined && isRefused ? error : inTheWay(folder);
  }

  async write(
    path: TreePath,
    chunks: AsyncIterable<Uint8Array>,
    size: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const target = this.#at(path);
    if (this.#writesWhole) {
      if ((await this.#kind(target, signal)) === "folder") throw inTheWay(path);
    } else await this.#client.prepare(this.#at([], true), signal);
    let sent = 0;
    let failure: { readonly error: unknown } | undefined;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for await (const chunk of chunks) {
          sent += chunk.length;
          yield chunk;
        }
      } catch (error) {
        failure = { error };
        throw error;
      }
    };
    const source = counted();
    try {
      const body = await smallOrStream(source);
      const length = body instanceof Uint8Array ? body.length : size;
      const answer = await this.#client.send({
        method: "PUT",
        path: target,
        headers: {
          "content-type": "application/octet-stream",
          ...(length === undefined ? {} : { "content-length": String(length) }),
        },
        body,
        expect: [200, 201, 204],
        signal,
      });
      await discard(answer);
    } catch (error) {
      if (failure) throw toHoldfastError(failure.error);
      throw await this.#whyNotPut(path, error, signal);
    } finally {
      // Lets go of a source that was not read to its end. One that hangs ends with the caller's signal.
      source.return(undefined).catch(() => undefined);
    }
    // Then the server has checked it itself, and another's put may stand there already.
    if (this.#writesWhole) return sent;
    const stored = await this.#find(target, signal);
    if (stored?.kind !== "file" || stored.size !== sent) {
      throw new HoldfastError(
        "corrupt",
        `the server holds ${stored === undefined ? "nothing" : `${stored.size} bytes`} of the ${sent} that it was sent`,
      );
    }
    return sent;
  }

  /**
   * What a refused PUT means. Where the folder is gone, some servers say 409 or 404, and others 403 or 400 (lighttpd), as
   * they do where it may not be written to.
   */
  async #whyNotPut(path: TreePath, error: unknown, signal: AbortSignal | undefined): Promise<unknown> {
    if (!isHoldfastError(error) || !UNCLEAR.has(error.code)) return error;
    const folder = path.slice(0, -1);
    const isClear = error.code === "conflict" || error.code === "not-found";
    const kind = await this.#kind(this.#at(folder), signal).catch(() => "unknown" as const);
    if (kind === "file") return inTheWay(folder);
    if (!isClear && kind !== undefined) return error;
    this.known.forget(folder);
    return new HoldfastError("unavailable", "the folder of the object was removed while it was put", { cause: error });
  }

  async replace(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#move(from, to, signal);
    } catch (error) {
      // Servers differ in what they say where a folder stands.
      const isUnclear = isHoldfastError(error) && UNCLEAR.has(error.code);
      const kind = isUnclear ? await this.#kind(this.#at(to), signal).catch(() => undefined) : undefined;
      throw kind === "folder" ? inTheWay(to) : error;
    }
  }

  async #move(from: TreePath, to: TreePath, signal: AbortSignal | undefined): Promise<void> {
    const move = (overwrite: "F" | "T"): Promise<Answer> =>
      this.#client.send({
        method: "MOVE",
        path: this.#at(from),
        headers: { destination: this.#client.origin + this.#at(to), overwrite },
        expect: [200, 201, 204, ...(overwrite === "F" ? [412] : [])],
        signal,
      });
    await this.#checkListed(from, to, signal);
    // Moving onto a folder would delete all that is in it. So first only where nothing is; then only onto a file.
    const first = await move("F");
    await discard(first);
    if (first.status !== 412) return;
    if ((await this.#kind(this.#at(to), signal)) === "folder") throw inTheWay(to);
    await discard(await move("T"));
  }

  /**
   * Some servers (nginx) hold names that begin with a dot and leave them out of listings. Such a name is refused then;
   * the temporary file, whose name begins with a dot too, shows it.
   */
  async #checkListed(temp: TreePath, path: TreePath, signal: AbortSignal | undefined): Promise<void> {
    if (this.#hidesDots === undefined && path.some(isHidden)) {
      let seen = false;
      for await (const entry of this.entries(temp.slice(0, -1), signal)) seen ||= entry.name === temp.at(-1);
      this.#hidesDots = !seen;
    }
    const refused = path.map((part, depth) => this.refusePart(part, depth)).find((reason) => reason !== undefined);
    if (refused !== undefined) throw new HoldfastError("invalid", `the name cannot be held here: ${refused}`);
  }

  refusePart(part: string, depth: number): string | undefined {
    if (!this.#hidesDots || !isHidden(part, depth)) return undefined;
    return "this server leaves names that begin with a dot out of its listings";
  }

  async read(path: TreePath, range: ByteRange | undefined, signal: AbortSignal | undefined): Promise<TreeRead> {
    for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
      const read = await this.#readOnce(this.#at(path), range, signal);
      if (read) return read;
    }
    throw new HoldfastError("unavailable", "the object is replaced faster than the server answers");
  }

  /**
   * One GET, or undefined when the object was replaced at its beginning. What is there is asked again after the answer
   * has begun, for two reasons: many servers answer a GET of a folder with a page about it; and Apache looks at a file's
   * size first and opens it then, so that a file that is replaced in between is given with the old one's size.
   */
  async #readOnce(
    target: string,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
  ): Promise<TreeRead | undefined> {
    const find = async (): Promise<TreeEntry> => {
      const entry = await this.#find(target, signal);
      if (entry?.kind !== "file") throw notFound();
      return entry;
    };
    if (range?.length === 0) {
      const entry = await find();
      resolveRange(range, entry.size);
      return emptyRead(entry);
    }
    let answer: Answer;
    try {
      answer = await this.#client.send({
        method: "GET",
        path: target,
        headers: { "accept-encoding": "identity", ...rangeHeader(range) },
        expect: range ? [200, 206, 416] : [200],
        signal,
        held: true,
      });
    } catch (error) {
      if (!isHoldfastError(error, "not-found") && !isHoldfastError(error, "unavailable")) await find();
      throw error;
    }
    const stop = (): void => {
      // Without a listener, the error of a stream that is ended early would be nobody's.
      answer.body.on("error", () => undefined);
      answer.body.destroy();
    };
    try {
      const encoding = answer.headers["content-encoding"] ?? "identity";
      if (encoding !== "identity") {
        throw new HoldfastError("corrupt", `the server gave the object in the encoding ${encoding}, unasked`);
      }
      const given = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+)$/u.exec(answer.headers["content-range"] ?? "");
      const entry = await find();
      const size = answer.status === 200 ? (lengthOf(answer) ?? entry.size) : Number(given?.[3] ?? entry.size);
      if (size !== entry.size) {
        stop();
        return undefined;
      }
      const { start, end } = resolveRange(range, size);
      let chunks: AsyncIterable<Uint8Array>;
      if (answer.status === 200) {
        // A server that does not know ranges gives everything: what is before this one is read and dropped.
        chunks = this.#chunks(answer, start, end, size, signal);
      } else if (answer.status === 416) {
        stop();
        if (start !== end) throw new HoldfastError("corrupt", "the server refuses a range that is in the object");
        chunks = emptyRead(entry).chunks;
      } else {
        if (Number(given?.[1]) !== start || Number(given?.[2]) !== end - 1) {
          throw new HoldfastError("corrupt", "the server gave another range than it was asked for");
        }
        chunks = this.#chunks(answer, 0, end - start, end - start, signal);
      }
      return { size, modifiedMs: entry.modifiedMs, length: end - start, chunks, close: async () => stop() };
    } catch (error) {
      stop();
      throw error;
    }
  }

  /** The bytes of an answer from `start` to `end`. More than it has announced is passed on, for the caller to notice. */
  async *#chunks(
    answer: Answer,
    start: number,
    end: number,
    announced: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    let at = 0;
    try {
      for await (const chunk of answer.body) {
        const bytes = chunk as Buffer;
        const from = Math.max(0, start - at);
        const to = end < announced ? Math.max(0, end - at) : bytes.length;
        if (from < Math.min(to, bytes.length)) yield bytes.subarray(from, to);
        at += bytes.length;
        if (end < announced && at >= end) return;
      }
    } catch (error) {
      throw conversationError(error, this.#client.origin, signal);
    }
  }

  async stat(path: TreePath, signal: AbortSignal | undefined): Promise<TreeEntry> {
    const entry = await this.#find(this.#at(path), signal);
    if (!entry) throw notFound();
    return { ...entry, name: path.at(-1) ?? "" };
  }

  async *entries(folder: TreePath, signal: AbortSignal | undefined): AsyncGenerator<TreeEntry> {
    const whole = [...this.#root, ...folder];
    const ask = (expect: readonly number[]): Promise<Answer> =>
      this.#client.send({
        method: "PROPFIND",
        path: encodePath(whole, true),
        headers: { depth: "1", "content-type": "application/xml; charset=utf-8" },
        body: PROPERTIES,
        expect,
        signal,
        held: true,
      });
    // For a file with a slash behind its name, servers differ in what they say.
    const expected = [207, 400, 403, 405, 409];
    let answer = await ask([...expected, 500]);
    // nginx fails when a file goes while it looks through the folder.
    for (let attempt = 2; answer.status === 500; attempt++) {
      await discard(answer);
      answer = await ask(attempt < 6 ? [...expected, 500] : expected);
    }
    if (answer.status !== 207) {
      const error = await statusError(
        answer,
        { method: "PROPFIND", path: "", expect: [], signal },
        this.#client.origin,
      );
      if ((await this.#find(encodePath(whole), signal))?.kind === "folder") throw error;
      throw notFound();
    }
    for await (const entry of this.#responses(answer, signal)) {
      const names = this.#namesOf(entry.href);
      if (
        names.length < whole.length ||
        whole.some((part, i) => names[i] !== part) ||
        names.length > whole.length + 1
      ) {
        throw new HoldfastError(
          "corrupt",
          `the server listed ${JSON.stringify(entry.href)} in the folder ${JSON.stringify(encodePath(whole, true))}`,
        );
      }
      const name = names[whole.length];
      if (name === undefined) {
        if (entry.kind !== "folder") throw notFound();
      } else yield { ...entry, name };
    }
  }

  async removeFile(path: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    const target = this.#at(path);
    // DELETE takes a folder with all that is in it.
    if ((await this.#kind(target, signal)) !== "file") return false;
    const answer = await this.#client.send({
      method: "DELETE",
      path: target,
      expect: [200, 202, 204, 404, 410],
      signal,
    });
    await discard(answer);
    return answer.status < 300;
  }

  async removeEmptyFolder(folder: TreePath, signal: AbortSignal | undefined): Promise<boolean> {
    const path = this.#at(folder, true);
    // DELETE takes whatever is in a folder, so nobody may put something there between the look and the DELETE.
    const locked = await this.#client.send({
      method: "LOCK",
      path,
      headers: { depth: "infinity", timeout: "Second-60", "content-type": "application/xml; charset=utf-8" },
      body:
        '<?xml version="1.0" encoding="utf-8"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope>' +
        "<locktype><write/></locktype></lockinfo>",
      expect: [200, 201, 403, 405, 423, 501],
      signal,
    });
    await discard(locked);
    const token = headerOf(locked, "lock-token").trim();
    if (locked.status >= 300 || token === "") return false;
    let removed = false;
    try {
      for await (const entry of this.entries(folder, signal)) if (entry.name !== "") return false;
      const answer = await this.#client.send({
        method: "DELETE",
        path,
        headers: { if: `<${this.#client.origin}${path}> (${token})` },
        expect: [200, 202, 204, 404, 410, 412, 423],
        signal,
      });
      await discard(answer);
      removed = answer.status < 300;
      return removed;
    } finally {
      if (!removed) {
        const headers = { "lock-token": token };
        const unlock = this.#client.send({ method: "UNLOCK", path, headers, expect: [200, 204], signal: undefined });
        // It ends by itself after a minute.
        await unlock.then(discard, () => undefined);
      }
    }
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  #at(path: TreePath, folder = false): string {
    return encodePath([...this.#root, ...path], folder);
  }

  async #kind(path: string, signal: AbortSignal | undefined): Promise<TreeEntry["kind"] | undefined> {
    return (await this.#find(path, signal))?.kind;
  }

  /** What is at a path (encoded, without a slash at its end), or undefined when nothing is. */
  async #find(path: string, signal: AbortSignal | undefined): Promise<TreeEntry | undefined> {
    const answer = await this.#client.send({
      method: "PROPFIND",
      path,
      headers: { depth: "0", "content-type": "application/xml; charset=utf-8" },
      body: PROPERTIES,
      expect: [207, 301, 302, 307, 308, 400, 404, 410],
      signal,
    });
    if (answer.status === 400) {
      const error = await statusError(answer, { method: "PROPFIND", path, expect: [], signal }, this.#client.origin);
      // Apache's answer for what would be below a file. Nothing is there then; else it means what it says.
      const above = path.slice(0, path.lastIndexOf("/"));
      if (above !== "" && (await this.#kind(above, signal)) !== "folder") return undefined;
      throw error;
    }
    if (answer.status === 404 || answer.status === 410) {
      await discard(answer);
      return undefined;
    }
    if (answer.status !== 207) {
      // Some servers answer for a folder only with a slash behind its name, and send the asker there.
      const location = headerOf(answer, "location");
      const target = URL.canParse(location, this.#client.origin) ? new URL(location, this.#client.origin) : undefined;
      if (
        target?.origin === this.#client.origin &&
        target.pathname === new URL(this.#client.origin + path).pathname + "/"
      ) {
        await discard(answer);
        return { name: "", kind: "folder", size: 0 };
      }
      throw await statusError(answer, { method: "PROPFIND", path, expect: [], signal }, this.#client.origin);
    }
    let found: TreeEntry | undefined;
    for await (const entry of this.#responses(answer, signal)) {
      if (found) throw new HoldfastError("corrupt", "the server gave several answers to a question about one file");
      found = { name: "", kind: entry.kind, size: entry.size, modifiedMs: entry.modifiedMs };
    }
    return found;
  }

  /** The names, from the server's root down, that a listing's href stands for. */
  #namesOf(href: string): string[] {
    const corrupt = (): HoldfastError =>
      new HoldfastError("corrupt", `the server listed ${JSON.stringify(href)}, which is no path on it`);
    let path = href;
    if (!href.startsWith("/") || href.startsWith("//")) {
      if (!URL.canParse(href) || new URL(href).origin !== this.#client.origin) throw corrupt();
      path = href.replace(/^[a-z]+:\/\/[^/?#]*/iu, "");
    }
    try {
      return path
        .split("/")
        .filter((part) => part !== "")
        .map((part) => decodeURIComponent(part));
    } catch {
      throw corrupt();
    }
  }

  /** The responses of a 207, one after the other, each parsed by itself: a listing may be longer than memory. */
  async *#responses(
    answer: Answer,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<TreeEntry & { readonly href: string }> {
    try {
      for await (const xml of responseElements(answer.body)) {
        const entry = parseResponse(xml);
        if (entry) yield entry;
      }
    } catch (error) {
      throw conversationError(error, this.#client.origin, signal);
    } finally {
      answer.body.on("error", () => undefined);
      answer.body.destroy();
    }
  }
}

/** The bytes themselves where they are few, so that they can be sent again; else all of them, still to be read. */
async function smallOrStream(source: AsyncGenerator<Uint8Array>): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  const first: Uint8Array[] = [];
  let bytes = 0;
  while (bytes <= SMALL_BYTES) {
    const next = await source.next();
    if (next.done) return Buffer.concat(first);
    first.push(next.value);
    bytes += next.value.length;
  }
  return (async function* () {
    yield* first.splice(0);
    yield* source;
  })();
}

/** A path from the server's root, percent-encoded part by part. */
function encodePath(parts: TreePath, folder = false): string {
  const path = parts.map((part) => `/${encodeURIComponent(part)}`).join("");
  return folder || path === "" ? `${path}/` : path;
}

function lengthOf(answer: Answer): number | undefined {
  const length = answer.headers["content-length"];
  return length !== undefined && /^\d+$/u.test(length) ? Number(length) : undefined;
}

/** Holdfast's own folder is never looked for in a listing, so it may be hidden. */
function isHidden(part: string, depth: number): boolean {
  return part.startsWith(".") && !(depth === 0 && `${part}/` === RESERVED_PREFIX);
}
