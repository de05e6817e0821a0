/**
 * restic's REST protocol, versions 1 and 2, in front of a pool.
 *
 * A repository at `/a/b/` is the folder `a/b` of the pool, with the layout that restic itself gives a folder
 * (`data/ab/abcd…`), so that a store of a mirror is a repository that restic opens directly.
 */
import { createHash } from "node:crypto";
import type { OutgoingHttpHeaders } from "node:http";
import { setImmediate } from "node:timers/promises";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../contract/errors.ts";
import { onceBody } from "../contract/body.ts";
import { forEachBounded } from "../support/bounded.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";
import type { ChangeCondition, ObjectInfo, PutResult } from "../contract/store.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { noteWrite } from "./gateway-context.ts";
import { rangeHeaders, sendContent } from "./content.ts";
import type { Exchange, Gateway } from "./exchange.ts";
import {
  ClientError,
  basicUser,
  clientMessage,
  contentLength,
  incomingBytes,
  parseQuery,
  parseRange,
  percentDecode,
  send,
  sendStream,
  statusOf,
} from "./http-tools.ts";
import { checkClientName, isFolderMarker, isSameVersion } from "./object-facts.ts";
import { putIfAbsent } from "./put-if-absent.ts";

const fileTypes = new Set(["data", "keys", "locks", "snapshots", "index"]);
const V1 = "application/vnd.x.restic.rest.v1";
const V2 = "application/vnd.x.restic.rest.v2";
/** Characters of a listing that are made at a time. */
const LIST_PIECE_CHARACTERS = 64 * 1024;
/** Objects of a repository deleted at once when it is removed. */
const DELETES_AT_ONCE = 16;

export interface ResticGatewayOptions {
  /** Nothing is overwritten, and nothing but locks is deleted. Default false. */
  readonly appendOnly?: boolean | undefined;
}

type Target =
  | { readonly kind: "repository"; readonly folder: string }
  | { readonly kind: "config"; readonly name: string }
  | { readonly kind: "type"; readonly folder: string; readonly type: string }
  | { readonly kind: "file"; readonly type: string; readonly id: string; readonly name: string };

export function createResticGateway(context: GatewayContext, options: ResticGatewayOptions = {}): Gateway {
  return new ResticGateway(context, options.appendOnly ?? false);
}

class ResticGateway implements Gateway {
  readonly protocol = "restic";
  readonly #context: GatewayContext;
  readonly #appendOnly: boolean;

  constructor(context: GatewayContext, appendOnly: boolean) {
    this.#context = context;
    this.#appendOnly = appendOnly;
  }

  async handle(exchange: Exchange): Promise<void> {
    const { method, request } = exchange;
    const { credentials } = this.#context;
    if (credentials.length > 0) {
      const user = basicUser(request.headers.authorization, credentials);
      if (!user) {
        send(exchange, 401, { "WWW-Authenticate": 'Basic realm="holdfast"' });
        return;
      }
      exchange.fields["user"] = user.user;
      if (user.readOnly && method !== "GET" && method !== "HEAD") {
        send(exchange, 403);
        return;
      }
    }
    const target = parseTarget(exchange.rawPath);
    if (!target) {
      send(exchange, 404);
      return;
    }
    switch (target.kind) {
      case "repository":
        if (method === "POST") return this.#createRepository(exchange, target.folder);
        if (method === "DELETE") return this.#deleteRepository(exchange, target.folder);
        break;
      case "type":
        if (method === "GET" || method === "HEAD") return this.#list(exchange, target.folder, target.type);
        break;
      case "config":
      case "file":
        if (method === "HEAD" || method === "GET") return this.#read(exchange, target.name);
        if (method === "POST") return this.#write(exchange, target);
        if (method === "DELETE") return this.#remove(exchange, target);
        break;
    }
    send(exchange, 405);
  }

  /** A repository of a folder needs nothing to be there before its first file. */
  async #createRepository(exchange: Exchange, folder: string): Promise<void> {
    if (!parseQuery(exchange.rawQuery).some(([name, value]) => name === "create" && value === "true")) {
      send(exchange, 400, {}, "the query must be create=true\n");
      return;
    }
    checkClientName(`${folder}config`);
    const config = await this.#find(exchange, `${folder}config`);
    if (config) throw new ClientError("conflict", "there is a repository already");
    send(exchange, 200);
  }

  async #deleteRepository(exchange: Exchange, folder: string): Promise<void> {
    if (this.#appendOnly) return forbidden(exchange);
    // Only what is the repository's: other repositories and files may stand in folders below.
    const files: PoolObjectInfo[] = [];
    for (const info of await this.#context.listings.entries(folder, false, { signal: exchange.signal })) {
      const rest = info.name.slice(folder.length);
      if (rest === "config" || fileTypes.has(rest.split("/", 1)[0] ?? "")) files.push(info);
    }
    const changed = new ClientError("conflict", "a part of the repository was written anew meanwhile, and stays");
    let kept = 0;
    const remove = async (file: PoolObjectInfo): Promise<void> => {
      const onlyIf: ChangeCondition = (current) => {
        if (current !== undefined && !isSameVersion(current, file)) throw changed;
      };
      try {
        const result = await this.#context.store.delete(file.name, { signal: exchange.signal, onlyIf });
        noteWrite(this.#context, exchange, file.name, result);
      } catch (error) {
        if (error !== changed) throw error;
        kept++;
      }
    };
    await forEachBounded(files, DELETES_AT_ONCE, remove, exchange.signal);
    if (kept > 0) throw changed;
    send(exchange, 200);
  }

  async #list(exchange: Exchange, folder: string, type: string): Promise<void> {
    // Known to be whole before a word of it is sent.
    const infos = await this.#context.listings.entries(`${folder}${type}/`, false, { signal: exchange.signal });
    const second = (exchange.request.headers.accept ?? "").includes(V2);
    const headers = { "Content-Type": second ? V2 : V1 };
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(200, headers).end();
      return;
    }
    const entries = function* (): Generator<string> {
      for (const { name, size } of infos) {
        const id = name.slice(name.lastIndexOf("/") + 1);
        if (isFolderMarker(name) || nameOf(folder, type, id) !== name) continue;
        yield JSON.stringify(second ? { name: id, size } : id);
      }
    };
    await sendStream(exchange, 200, headers, jsonList(entries()));
  }

  async #read(exchange: Exchange, name: string): Promise<void> {
    const info = await this.#context.store.stat(name, { signal: exchange.signal });
    const range = parseRange(exchange.request.headers.range, info.size);
    if (range === "unsatisfiable") {
      send(exchange, 416, { "Content-Range": `bytes */${info.size}` });
      return;
    }
    const whole = range === "whole";
    const headers: OutgoingHttpHeaders = {
      "Content-Type": "application/octet-stream",
      "Accept-Ranges": "bytes",
      ...rangeHeaders(range, info.size),
    };
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(200, { ...headers, "Content-Length": info.size }).end();
      return;
    }
    const { signal } = exchange;
    const result = await this.#context.store.get(name, { signal, reuse: true, ...(whole ? {} : { range }) });
    await sendContent(exchange, { status: whole ? 200 : 206, headers }, result, result.info.size === info.size);
  }

  async #write(exchange: Exchange, target: Target & { name: string }): Promise<void> {
    const { store, intake } = this.#context;
    checkClientName(target.name);
    // Names of files are the SHA-256 of their content, but for the configuration.
    const id = target.kind === "file" ? target.id : undefined;
    const hash = createHash("sha256");
    let problem: HoldfastError | undefined;
    const checked = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of incomingBytes(exchange)) {
        hash.update(chunk);
        yield chunk;
      }
      if (id !== undefined && hash.digest("hex") !== id) {
        problem = new HoldfastError("invalid", "the content's SHA-256 is not the name of the file");
        throw problem;
      }
    };
    const { signal } = exchange;
    const body = onceBody(checked, contentLength(exchange), true);
    const isNewOnly = this.#appendOnly || target.kind === "config";
    let result: PutResult | undefined;
    try {
      result = await intake.put(body, signal, (body, signal) =>
        isNewOnly ? putIfAbsent(store, target.name, { signal }, body) : store.put(target.name, body, { signal }),
      );
    } catch (error) {
      throw problem ?? error;
    }
    if (result === undefined) return forbidden(exchange);
    noteWrite(this.#context, exchange, target.name, result);
    exchange.fields["bytes"] = result.size;
    send(exchange, 200);
  }

  async #remove(exchange: Exchange, target: Target & { name: string }): Promise<void> {
    if (this.#appendOnly && !(target.kind === "file" && target.type === "locks")) return forbidden(exchange);
    checkClientName(target.name);
    const result = await this.#context.store.delete(target.name, { signal: exchange.signal });
    noteWrite(this.#context, exchange, target.name, result);
    send(exchange, result.existed === false ? 404 : 200);
  }

  async #find(exchange: Exchange, name: string): Promise<ObjectInfo | undefined> {
    try {
      return await this.#context.store.stat(name, { signal: exchange.signal });
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    }
  }

  fail(exchange: Exchange, error: unknown): void {
    const problem = toHoldfastError(error);
    const headers: OutgoingHttpHeaders = { "Content-Type": "text/plain" };
    if (problem.retryAfterMs !== undefined) headers["Retry-After"] = Math.ceil(problem.retryAfterMs / 1000);
    send(exchange, statusOf(problem), headers, `${clientMessage(problem)}\n`);
  }
}

/** Texts of JSON as one list, some at a time, so that other requests have their turn. */
async function* jsonList(entries: Iterable<string>): AsyncGenerator<Uint8Array> {
  let text = "[";
  let separator = "";
  for (const entry of entries) {
    text += separator + entry;
    separator = ",";
    if (text.length < LIST_PIECE_CHARACTERS) continue;
    yield Buffer.from(text);
    text = "";
    await setImmediate();
  }
  yield Buffer.from(`${text}]`);
}

function forbidden(exchange: Exchange): void {
  send(exchange, 403, { "Content-Type": "text/plain" }, "this repository can only be added to\n");
}

function nameOf(folder: string, type: string, id: string): string {
  return type === "data" ? `${folder}data/${id.slice(0, 2)}/${id}` : `${folder}${type}/${id}`;
}

/** What a path stands for; undefined for what the protocol does not know. */
function parseTarget(rawPath: string): Target | undefined {
  if (!rawPath.startsWith("/")) return undefined;
  const parts = percentDecode(rawPath.slice(1)).split("/");
  const trailing = parts.at(-1) === "";
  if (trailing) parts.pop();
  if (parts.some((part) => part === "" || part === "." || part === "..")) return undefined;
  const last = parts.at(-1) ?? "";
  const before = parts.at(-2) ?? "";
  const folderOf = (count: number): string =>
    parts
      .slice(0, -count)
      .map((part) => `${part}/`)
      .join("");
  if (!trailing && fileTypes.has(before)) {
    // restic's ids are 64 hexadecimal digits; nothing else is ever asked for.
    if (!/^[0-9a-f]{64}$/u.test(last)) return undefined;
    return { kind: "file", type: before, id: last, name: nameOf(folderOf(2), before, last) };
  }
  if (!trailing && last === "config") return { kind: "config", name: `${folderOf(1)}config` };
  if (fileTypes.has(last)) return { kind: "type", folder: folderOf(1), type: last };
  return { kind: "repository", folder: parts.map((part) => `${part}/`).join("") };
}
