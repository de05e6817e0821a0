/**
 * OpenStack Swift: `swift://CONTAINER[/PREFIX]`, as duplicity writes it.
 *
 * A PREFIX always ends at a slash: `swift://c/x` keeps the object `n` as `x/n`. Parameters: `ca=FILE` (PEM) of a private
 * authority.
 *
 * Credentials come from the store's environment, under duplicity's names: `SWIFT_AUTHURL`, `SWIFT_USERNAME` (or
 * `SWIFT_USERID`), `SWIFT_PASSWORD`, `SWIFT_AUTHVERSION` (1, the default, 2 or 3), `SWIFT_TENANTNAME` or `SWIFT_TENANTID`,
 * `SWIFT_REGIONNAME`, and for version 3 `SWIFT_USER_DOMAIN_NAME` or `_ID`, `SWIFT_PROJECT_NAME` or `_ID`,
 * `SWIFT_PROJECT_DOMAIN_NAME` or `_ID`; or a token that was got elsewhere, `SWIFT_PREAUTHURL` and `SWIFT_PREAUTHTOKEN`.
 * A token that has expired is replaced.
 *
 * Objects up to 8 MiB are put at once. Larger ones are static large objects: segments in the container
 * `CONTAINER_segments`, four at a time, which become visible together with their manifest. Everything is sent with its MD5,
 * which the server checks. Segments of a put that failed, and of an object that was replaced or deleted, are deleted.
 */
import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { checkedBytes } from "../contract/body.ts";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import { MAX_NAME_BYTES, checkName } from "../contract/names.ts";
import { httpError, networkError } from "../support/network-errors.ts";
import type { StoreContext, StoreKind } from "./base/store-kind.ts";
import { MIB, cutParts, forEachParallel, releasePart } from "../support/parts.ts";
import type { Part } from "../support/parts.ts";
import { checkRange, resolveRange } from "../contract/ranges.ts";
import { secretsOf } from "../support/redact.ts";
import { linkSignals } from "../support/signals.ts";
import type { LinkedSignal } from "../support/signals.ts";
import type {
  Body,
  Capabilities,
  DeleteResult,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { pathParts, urlParameters } from "./base/url-parameters.ts";
import { HttpService, drain, encodePath, jsonOf, textOf } from "./base/http-service.ts";
import type { ServiceAnswer, ServiceRequest } from "./base/http-service.ts";
import { inNameOrder } from "./base/name-order.ts";
import { Operations, expectedBytes, letGo, refuseUnsupported } from "./base/operations.ts";
import { prefixParts } from "./base/place.ts";

/** What segments in flight may hold together, in bytes. One segment is always allowed. */
const IN_FLIGHT_BYTES = 32 * MIB;
const PARALLEL_SEGMENTS = 4;
const SEGMENT_ATTEMPTS = 3;
/** How long segments under way may still be answered once their put has failed, in milliseconds. */
const SEGMENT_ANSWER_MS = 1000;
/** What a manifest may name where the server does not tell. */
const DEFAULT_MAX_SEGMENTS = 1000;
const MAX_SEGMENT_BYTES = 5 * 1024 ** 3;
/** Names in one page of a listing: what the service gives at most. */
const PAGE_NAMES = 10_000;
/** A container that has answered is believed to exist for this long, in milliseconds. */
const CONTAINER_KNOWN_MS = 60_000;

export interface SwiftSettings {
  readonly container: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  readonly caFile?: string | undefined;
  readonly access: SwiftAccess;
}

export type SwiftAccess =
  | { readonly kind: "token"; readonly storageUrl: string; readonly token: string }
  | {
      readonly kind: "password";
      readonly version: "1" | "2" | "3";
      readonly authUrl: string;
      readonly username?: string | undefined;
      readonly userId?: string | undefined;
      readonly password: string;
      readonly projectName?: string | undefined;
      readonly projectId?: string | undefined;
      readonly userDomain: { readonly name: string } | { readonly id: string };
      readonly projectDomain: { readonly name: string } | { readonly id: string };
      readonly region?: string | undefined;
    };

/** Reads a URL and the credentials that go with it. Throws `config`. */
export function parseSwiftUrl(url: StoreUrl, env: StoreContext["env"]): SwiftSettings {
  const { ca } = urlParameters(url, ["ca"]);
  if (url.username !== undefined || url.port !== undefined) {
    throw new HoldfastError(
      "config",
      "a swift URL names a container only: the server and user stand in SWIFT_… in env",
    );
  }
  const [container, ...prefix] = [...(url.host === "" ? [] : [url.host]), ...pathParts(url.path)];
  if (container === undefined) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no container: write swift://CONTAINER[/PREFIX]`);
  }
  return {
    container,
    prefix: prefix.length === 0 ? "" : `${prefix.join("/")}/`,
    caFile: ca,
    access: readAccess(env),
  };
}

function readAccess(env: StoreContext["env"]): SwiftAccess {
  const read = (name: string): string | undefined => env[`SWIFT_${name}`] || undefined;
  const storageUrl = read("PREAUTHURL");
  const token = read("PREAUTHTOKEN");
  if (storageUrl !== undefined && token !== undefined) {
    return { kind: "token", storageUrl: httpUrl("SWIFT_PREAUTHURL", storageUrl), token };
  }
  const authUrl = read("AUTHURL");
  const username = read("USERNAME");
  const userId = read("USERID");
  const password = read("PASSWORD");
  const missing = [
    ...(authUrl === undefined ? ["SWIFT_AUTHURL"] : []),
    ...(username === undefined && userId === undefined ? ["SWIFT_USERNAME"] : []),
    ...(password === undefined ? ["SWIFT_PASSWORD"] : []),
  ];
  if (authUrl === undefined || password === undefined || missing.length > 0) {
    throw new HoldfastError("config", `no credentials for Swift: set ${missing.join(", ")} in the store's env`);
  }
  const version = /^[123]/u.exec(read("AUTHVERSION") ?? "1")?.[0];
  if (version !== "1" && version !== "2" && version !== "3") {
    throw new HoldfastError("config", "SWIFT_AUTHVERSION may be 1, 2 or 3");
  }
  const domain = (kind: string): { name: string } | { id: string } => {
    const id = read(`${kind}_DOMAIN_ID`);
    const name = read(`${kind}_DOMAIN_NAME`);
    return name !== undefined ? { name } : { id: id ?? "default" };
  };
  return {
    kind: "password",
    version,
    authUrl: httpUrl("SWIFT_AUTHURL", authUrl),
    username,
    userId,
    password,
    projectName: read("PROJECT_NAME") ?? read("TENANTNAME"),
    projectId: read("PROJECT_ID") ?? read("TENANTID"),
    userDomain: domain("USER"),
    projectDomain: domain("PROJECT"),
    region: read("REGIONNAME"),
  };
}

function httpUrl(name: string, text: string): string {
  if (!/^https?:\/\/[^\s@?#]+$/u.test(text) || !URL.canParse(text)) {
    throw new HoldfastError("config", `${name} must be an http:// or https:// URL without a user`);
  }
  return text.replace(/\/+$/u, "");
}

const endpointSchema = z.object({
  publicURL: z.string().optional(),
  url: z.string().optional(),
  interface: z.string().optional(),
  region: z.string().nullish(),
  region_id: z.string().nullish(),
});
const catalogSchema = z.array(z.object({ type: z.string(), endpoints: z.array(endpointSchema) }));
const version2Schema = z.object({
  access: z.object({ token: z.object({ id: z.string() }), serviceCatalog: catalogSchema }),
});
const version3Schema = z.object({ token: z.object({ catalog: catalogSchema }) });
const listingSchema = z.array(
  z.object({
    name: z.string(),
    bytes: z.number(),
    last_modified: z.string().optional(),
    hash: z.string().optional(),
    slo_etag: z.string().optional(),
  }),
);
const manifestSchema = z.array(z.object({ name: z.string(), sub_slo: z.boolean().optional() }));
const infoSchema = z.object({ slo: z.object({ max_manifest_segments: z.number().optional() }).optional() });

interface Session {
  readonly origin: string;
  /** Path of the account, without a slash at its end. */
  readonly path: string;
  readonly token: string;
}

/** Path of a segment below the account, and what the manifest says of it. */
interface Segment {
  readonly number: number;
  readonly path: string;
  readonly etag: string;
  readonly size: number;
}

export interface SwiftStoreOptions {
  /** Size of the first segments, in bytes. Default 8 MiB. */
  readonly partBytes?: number | undefined;
  /** Names in one page of a listing. Default: as many as the service gives. */
  readonly pageNames?: number | undefined;
}

export class SwiftStore implements Store {
  readonly label: string;
  readonly capabilities: Capabilities;
  readonly #settings: SwiftSettings;
  readonly #context: StoreContext;
  readonly #http: HttpService;
  readonly #operations: Operations;
  readonly #partBytes: number;
  readonly #pageNames: number;
  #session: Promise<Session> | undefined;
  #containerSeenMs = Number.NEGATIVE_INFINITY;
  #maxSegments: Promise<number> | undefined;

  constructor(url: StoreUrl, context: StoreContext, options: SwiftStoreOptions = {}) {
    this.label = context.label;
    this.#context = context;
    this.#settings = parseSwiftUrl(url, context.env);
    this.#http = new HttpService({ env: context.env, caFile: this.#settings.caFile });
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames ?? PAGE_NAMES;
    this.#operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => networkError(error) ?? toHoldfastError(error),
      checkName: (name) => this.#checkName(name),
    });
    this.capabilities = {
      orderedList: true,
      // Swift knows If-None-Match, but two writers at once can both be told that they were the first.
      conditionalPut: false,
      prefixNames: true,
      maxNameBytes: MAX_NAME_BYTES - Buffer.byteLength(this.#settings.prefix),
      caseSensitive: true,
      storeDigests: ["md5"],
    };
  }

  put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.#operations.run("put", name, options, async (link) => {
      refuseUnsupported(options);
      if (options.ifAbsent) throw new HoldfastError("unsupported", "Swift does not decide conditional puts atomically");
      const small = body.size !== undefined && body.size <= this.#partBytes;
      const maxParts = small ? 1 : await this.#manifestLimit(link.signal);
      const plan = { partBytes: this.#partBytes, maxParts, maxBytes: maxParts * MAX_SEGMENT_BYTES };
      const parts = cutParts(checkedBytes(body, link.signal), body.size, plan);
      try {
        const first = await parts.next();
        if (first.done) throw new HoldfastError("internal", "a body was cut into no parts");
        const replaced = await this.#segmentsOf(name, link.signal);
        const size = first.value.last
          ? await this.#putAtOnce(name, first.value, body, link.signal)
          : await this.#putInSegments(name, first.value, parts, link);
        await this.#deletePaths(name, replaced);
        return { size };
      } finally {
        await parts.return(undefined);
      }
    });
  }

  get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const { range } = options;
    return this.#operations.get(name, options, async (link) => {
      if (range) checkRange(range);
      if (range?.length === 0) return this.#emptyRange(name, options, link.signal);
      const last = range?.length === undefined ? "" : range.offset + range.length - 1;
      const answer = await this.#send({
        method: "GET",
        path: this.#pathOf(name),
        held: true,
        signal: link.signal,
        ...(range ? { headers: { range: `bytes=${range.offset}-${last}` } } : {}),
      });
      // Also for a range that begins at the very end, where there is nothing to send.
      if (range && answer.status === 416) {
        await drain(answer);
        return this.#emptyRange(name, options, link.signal);
      }
      if (answer.status !== 200 && answer.status !== 206) throw await this.#failure(answer, link.signal);
      this.#containerSeen();
      try {
        const size = range ? rangeSize(answer, range.offset) : lengthOf(answer);
        const { start, end } = resolveRange(range, size);
        const info = infoOf(name, size, answer);
        const expected = { size: end - start, md5: range ? undefined : info.digests?.md5 };
        const body = expectedBytes(answer.body, expected);
        return { info, body, close: async () => letGo(answer.body) };
      } catch (error) {
        letGo(answer.body);
        throw error;
      }
    });
  }

  stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#operations.run("stat", name, options, async (link) => this.#head(name, link.signal));
  }

  list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    return this.#operations.iterate(options, () => inNameOrder(this.#pages(prefix, options)));
  }

  delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#operations.run("delete", name, options, async (link) => {
      const segments = await this.#segmentsOf(name, link.signal);
      // The manifest first: an object that lacks segments must never be seen.
      const answer = await this.#send({ method: "DELETE", path: this.#pathOf(name), signal: link.signal });
      if (answer.status === 404) {
        await drain(answer);
        await this.#checkContainer(link.signal);
        return { existed: false };
      }
      await this.#expect(answer, link.signal, 204, 200);
      await this.#deletePaths(name, segments);
      return { existed: true };
    });
  }

  async close(): Promise<void> {
    if (this.#operations.end()) this.#http.close();
  }

  async *#pages(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const root = this.#settings.prefix;
    // The server looks for names before the prefix with its last character plus one, and breaks where there is none.
    const asked = (root + prefix).replace(/[\u{d7ff}\u{10ffff}]+$/u, "");
    let marker = options.after === undefined ? "" : root + options.after;
    for (;;) {
      const page = await this.#operations.run("list", undefined, options, async (link) => {
        const query = new URLSearchParams({
          format: "json",
          limit: String(this.#pageNames),
          prefix: asked,
          ...(marker === "" ? {} : { marker }),
        });
        const path = `/${encodePath(this.#settings.container)}?${query.toString()}`;
        const answer = await this.#send({ method: "GET", path, signal: link.signal });
        if (answer.status === 204) {
          await drain(answer);
          return [];
        }
        if (answer.status === 404) throw await this.#noContainer(answer);
        if (answer.status !== 200) throw await this.#failure(answer, link.signal);
        return parsed(listingSchema, await jsonOf(answer));
      });
      for (const entry of page) {
        const name = this.#listedName(entry.name, asked);
        if (name === undefined || !name.startsWith(prefix)) continue;
        // The service gives UTC without saying so.
        const modifiedMs = Date.parse(`${entry.last_modified ?? ""}Z`);
        yield { name, size: entry.bytes, ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }) };
      }
      const last = page.at(-1);
      if (!last) return;
      if (last.name === marker) throw new HoldfastError("corrupt", "the server's listing does not come to an end");
      marker = last.name;
    }
  }

  async #putAtOnce(name: string, part: Part, body: Body, signal: AbortSignal): Promise<number> {
    // A body that can be opened again is tried again by the caller; the bytes of one that cannot are still here.
    const attempts = body.reopenable ? 1 : SEGMENT_ATTEMPTS;
    await this.#operations.attempts(attempts, signal, () => this.#putBytes(this.#pathOf(name), part, signal));
    this.#containerSeen();
    return part.size;
  }

  /** Puts the bytes of a part; the server checks them by their MD5, which is given back. */
  async #putBytes(path: string, part: Part, signal: AbortSignal): Promise<string> {
    const hash = createHash("md5");
    for (const chunk of part.chunks) hash.update(chunk);
    const etag = hash.digest("hex");
    const answer = await this.#send({
      method: "PUT",
      path,
      signal,
      headers: { etag, "content-type": "application/octet-stream" },
      body: part.chunks,
    });
    await this.#expect(answer, signal, 201, 202);
    return etag;
  }

  async #putInSegments(name: string, first: Part, rest: AsyncGenerator<Part>, link: LinkedSignal): Promise<number> {
    const container = `/${encodePath(`${this.#settings.container}_segments`)}`;
    await this.#expect(
      await this.#send({ method: "PUT", path: container, signal: link.signal }),
      link.signal,
      201,
      202,
    );
    // Names of objects may be as long as the service allows, so segments bear a digest of them.
    const digest = createHash("sha256")
      .update(this.#settings.prefix + name)
      .digest("hex")
      .slice(0, 32);
    const folder = `${digest}/${randomBytes(12).toString("hex")}`;
    const segments: Segment[] = [];
    const attempted: string[] = [];
    // A segment whose bytes have all been sent is stored, whether its answer is awaited or not, and perhaps only after it was
    // deleted: so no request is cut off until it had time to be answered.
    const sending = linkSignals();
    let stopTimer: (() => void) | undefined;
    const onAbort = (): void => {
      stopTimer = this.#context.runtime.timer(SEGMENT_ANSWER_MS, () => sending.abort(abortError(link.signal)));
    };
    link.signal.addEventListener("abort", onAbort, { once: true });
    if (link.signal.aborted) onAbort();
    try {
      const parts = async function* (): AsyncGenerator<Part> {
        yield first;
        yield* rest;
      };
      await forEachParallel(
        parts(),
        (part) => Math.max(1, Math.min(PARALLEL_SEGMENTS, Math.floor(IN_FLIGHT_BYTES / part.size))),
        async (part) => {
          const path = `${container}/${folder}/${String(part.number).padStart(8, "0")}`;
          throwIfAborted(link.signal);
          attempted.push(path);
          const etag = await this.#operations.attempts(SEGMENT_ATTEMPTS, link.signal, () =>
            this.#putBytes(path, part, sending.signal),
          );
          segments.push({ number: part.number, path, etag, size: part.size });
          releasePart(part);
        },
        (error) => link.abort(this.#operations.mapped(error)),
      );
      segments.sort((a, b) => a.number - b.number);
      const manifest = segments.map(({ path, etag, size }) => ({
        path: decodeURIComponent(path),
        etag,
        size_bytes: size,
      }));
      await this.#operations.attempts(SEGMENT_ATTEMPTS, link.signal, async () => {
        const answer = await this.#send({
          method: "PUT",
          path: `${this.#pathOf(name)}?multipart-manifest=put`,
          signal: link.signal,
          headers: { "content-type": "application/octet-stream" },
          body: [Buffer.from(JSON.stringify(manifest))],
        });
        await this.#expect(answer, link.signal, 201, 202);
      });
      this.#containerSeen();
      return segments.reduce((sum, { size }) => sum + size, 0);
    } catch (error) {
      await this.#discard(name, `${container}/${folder}/`, attempted);
      throw error;
    } finally {
      link.signal.removeEventListener("abort", onAbort);
      stopTimer?.();
    }
  }

  /**
   * Deletes the segments of a put that failed; unless the manifest was stored after all and only its answer was lost. Each
   * that was begun is deleted by name, whether it is there or not: a delete is younger than a put that is still on its way,
   * so the server drops what comes in behind it.
   */
  async #discard(name: string, folder: string, attempted: readonly string[]): Promise<void> {
    await this.#operations.cleanUp("swift.segments-left-behind", name, async (signal) => {
      const used = await this.#segmentsOf(name, signal);
      if (used.some((path) => path.startsWith(folder))) return;
      await this.#deleteEach(attempted, signal);
    });
  }

  /** Paths of the segments of an object, where it is a static large object; none when it is not, or does not exist. */
  async #segmentsOf(name: string, signal: AbortSignal): Promise<string[]> {
    const head = await this.#send({ method: "HEAD", path: this.#pathOf(name), signal });
    await drain(head);
    if (head.status !== 404 && (head.status < 200 || head.status > 299)) throw await this.#failure(head, signal);
    if (head.headers["x-static-large-object"]?.toLowerCase() !== "true") return [];
    const path = `${this.#pathOf(name)}?multipart-manifest=get`;
    const answer = await this.#send({ method: "GET", path, signal });
    if (answer.status === 404) {
      await drain(answer);
      return [];
    }
    if (answer.status !== 200) throw await this.#failure(answer, signal);
    const own = `/${this.#settings.container}_segments/`;
    // Only segments that a store of this container made: another's manifest may name anything.
    return parsed(manifestSchema, await jsonOf(answer)).flatMap((segment) =>
      segment.name.startsWith(own) && !segment.sub_slo ? [encodePath(segment.name)] : [],
    );
  }

  /** Deletes segments that nothing needs any more. They are in no listing: a failure is logged and no error. */
  async #deletePaths(name: string, paths: readonly string[]): Promise<void> {
    if (paths.length === 0) return;
    await this.#operations.cleanUp("swift.segments-left-behind", name, (signal) => this.#deleteEach(paths, signal));
  }

  async #deleteEach(paths: readonly string[], signal: AbortSignal): Promise<void> {
    const each = async function* (): AsyncGenerator<string> {
      yield* paths;
    };
    await forEachParallel(
      each(),
      () => 16,
      async (path) => {
        const answer = await this.#send({ method: "DELETE", path, signal });
        await this.#expect(answer, signal, 204, 404);
      },
      () => undefined,
    );
  }

  async #head(name: string, signal: AbortSignal): Promise<ObjectInfo> {
    const answer = await this.#send({ method: "HEAD", path: this.#pathOf(name), signal });
    await drain(answer);
    if (answer.status !== 200) throw await this.#failure(answer, signal);
    this.#containerSeen();
    return infoOf(name, lengthOf(answer), answer);
  }

  async #emptyRange(name: string, options: GetOptions, signal: AbortSignal): Promise<GetResult> {
    const info = await this.#head(name, signal);
    const { start, end } = resolveRange(options.range, info.size);
    if (end > start) throw new HoldfastError("unavailable", "the object changed while it was read");
    return { info, body: (async function* () {})(), close: async () => undefined };
  }

  /** How many segments a manifest may name. */
  #manifestLimit(signal: AbortSignal): Promise<number> {
    this.#maxSegments ??= (async () => {
      const { origin } = await this.#open(signal);
      const answer = await this.#http.send({ method: "GET", origin, path: "/info", signal });
      if (answer.status === 200) {
        return infoSchema.safeParse(await jsonOf(answer)).data?.slo?.max_manifest_segments ?? DEFAULT_MAX_SEGMENTS;
      }
      // Not every service tells about itself.
      await drain(answer);
      return DEFAULT_MAX_SEGMENTS;
    })().catch((error: unknown) => {
      this.#maxSegments = undefined;
      throw error;
    });
    return this.#maxSegments;
  }

  /** Sends a request to the account; with a new token, once, when the one there is has expired. */
  async #send(request: Omit<ServiceRequest, "origin">): Promise<ServiceAnswer> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.#open(request.signal);
      const { origin, path, token } = session;
      const headers = { ...request.headers, "x-auth-token": token };
      const answer = await this.#http.send({ ...request, origin, path: path + request.path, headers });
      if (answer.status !== 401 || attempt > 1 || this.#settings.access.kind === "token") return answer;
      await drain(answer);
      this.#session = undefined;
    }
  }

  /** The account's place and a token. Asked for once, for all operations that wait for it. */
  async #open(signal: AbortSignal): Promise<Session> {
    // Not ended by the signal of whoever comes first, since others wait for it, too.
    const session = (this.#session ??= this.#authenticate(this.#operations.closing).catch((error: unknown) => {
      this.#session = undefined;
      throw error;
    }));
    return this.#operations.unlessAborted(session, signal, async () => undefined);
  }

  async #authenticate(signal: AbortSignal): Promise<Session> {
    const { access } = this.#settings;
    if (access.kind === "token") return sessionAt(access.storageUrl, access.token);
    const url = new URL(access.authUrl);
    const { origin } = url;
    const base = url.pathname.replace(/\/$/u, "") + url.search;
    if (access.version === "1") {
      const headers = { "x-auth-user": access.username ?? "", "x-auth-key": access.password };
      const answer = await this.#http.send({ method: "GET", origin, path: base, headers, signal });
      if (answer.status !== 200 && answer.status !== 204) throw await this.#failure(answer, undefined);
      await drain(answer);
      return sessionAt(answer.headers["x-storage-url"], answer.headers["x-auth-token"]);
    }
    const version3 = access.version === "3";
    const answer = await this.#http.send({
      method: "POST",
      origin,
      path: `${base}${version3 ? "/auth/tokens" : "/tokens"}`,
      headers: { "content-type": "application/json", accept: "application/json" },
      body: [Buffer.from(JSON.stringify(version3 ? version3Request(access) : version2Request(access)))],
      signal,
    });
    if (answer.status !== 200 && answer.status !== 201) throw await this.#failure(answer, undefined);
    const json = await jsonOf(answer);
    if (version3) {
      const { token } = parsed(version3Schema, json);
      return sessionAt(storageUrlIn(token.catalog, access.region), answer.headers["x-subject-token"]);
    }
    const { token, serviceCatalog } = parsed(version2Schema, json).access;
    return sessionAt(storageUrlIn(serviceCatalog, access.region), token.id);
  }

  async #expect(answer: ServiceAnswer, signal: AbortSignal, ...statuses: readonly number[]): Promise<void> {
    if (!statuses.includes(answer.status)) throw await this.#failure(answer, signal);
    await drain(answer);
  }

  /** The error that an answer stands for. With a signal, a 404 is looked into: it may be the container that is missing. */
  async #failure(answer: ServiceAnswer, signal: AbortSignal | undefined): Promise<HoldfastError> {
    const { status, headers } = answer;
    const text = answer.body.readableEnded ? "" : (await textOf(answer)).slice(0, 300);
    const said = text
      .replaceAll(/<[^>]*>/gu, " ")
      .replaceAll(/\s+/gu, " ")
      .trim();
    const message = `Swift answered ${status}${said === "" ? "" : `: ${said}`}`;
    if (status === 404 && signal) await this.#checkContainer(signal);
    // Quotas are told apart from what is too large by nothing but their words.
    if (status === 413) return new HoldfastError(/quota/iu.test(said) ? "full" : "invalid", message);
    // The MD5 that was sent is not that of what came.
    if (status === 422) return new HoldfastError("corrupt", message, { retryable: true });
    if (status === 498) return new HoldfastError("throttled", message);
    return httpError({ status, message, retryAfter: headers["retry-after"], nowMs: this.#context.runtime.now() });
  }

  async #checkContainer(signal: AbortSignal): Promise<void> {
    const { runtime } = this.#context;
    if (runtime.monotonicMs() - this.#containerSeenMs < CONTAINER_KNOWN_MS) return;
    const path = `/${encodePath(this.#settings.container)}`;
    const answer = await this.#send({ method: "HEAD", path, signal });
    if (answer.status === 404) throw await this.#noContainer(answer);
    await drain(answer);
    // Whoever may not ask about the container learns nothing of the object by it: its own answer stands.
    if (answer.status === 200 || answer.status === 204) this.#containerSeen();
  }

  async #noContainer(answer: ServiceAnswer): Promise<HoldfastError> {
    await drain(answer);
    return new HoldfastError("unavailable", `the container ${this.#settings.container} does not exist`, {
      retryable: false,
    });
  }

  #containerSeen(): void {
    this.#containerSeenMs = this.#context.runtime.monotonicMs();
  }

  #pathOf(name: string): string {
    return `/${encodePath(this.#settings.container)}/${encodePath(this.#settings.prefix + name)}`;
  }

  #checkName(name: string): void {
    const { maxNameBytes } = this.capabilities;
    if (Buffer.byteLength(name) > maxNameBytes) {
      throw new HoldfastError("invalid", `the name is too long: at most ${maxNameBytes} bytes fit behind the prefix`);
    }
  }

  /** A name from a listing; undefined for what no caller can have put. */
  #listedName(object: string, asked: string): string | undefined {
    const root = this.#settings.prefix;
    if (!object.startsWith(asked)) {
      throw new HoldfastError("corrupt", "the server's listing holds names that were not asked for");
    }
    const name = object.slice(root.length);
    if (name === "" || !object.startsWith(root)) return undefined;
    try {
      checkName(name);
      return name;
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      this.#context.logger.warn("swift.unusable-name", { store: this.label, object: JSON.stringify(object) });
      return undefined;
    }
  }
}

type PasswordAccess = Extract<SwiftAccess, { kind: "password" }>;

function version2Request(access: PasswordAccess): object {
  const tenant = access.projectId === undefined ? { tenantName: access.projectName } : { tenantId: access.projectId };
  const user = access.username === undefined ? { userId: access.userId } : { username: access.username };
  return { auth: { passwordCredentials: { ...user, password: access.password }, ...tenant } };
}

function version3Request(access: PasswordAccess): object {
  const { username, userId, password, projectId, projectName, userDomain, projectDomain } = access;
  const user = userId === undefined ? { name: username, domain: userDomain, password } : { id: userId, password };
  const project =
    projectId === undefined
      ? projectName === undefined
        ? undefined
        : { name: projectName, domain: projectDomain }
      : { id: projectId };
  return {
    auth: {
      identity: { methods: ["password"], password: { user } },
      ...(project ? { scope: { project } } : {}),
    },
  };
}

function storageUrlIn(catalog: z.infer<typeof catalogSchema>, region: string | undefined): string | undefined {
  const endpoints = catalog
    .filter((service) => service.type === "object-store")
    .flatMap((service) => service.endpoints);
  const found = endpoints.find(
    (endpoint) =>
      (endpoint.interface === undefined || endpoint.interface === "public") &&
      (region === undefined || endpoint.region === region || endpoint.region_id === region),
  );
  if (!found) {
    const where = region === undefined ? "" : ` in the region ${region}`;
    throw new HoldfastError("config", `the identity service knows no object store${where}`);
  }
  return found.publicURL ?? found.url;
}

function sessionAt(storageUrl: string | undefined, token: string | undefined): Session {
  if (storageUrl === undefined || token === undefined || !URL.canParse(storageUrl)) {
    throw new HoldfastError("unavailable", "the identity service gave no token, or no place of the account");
  }
  const { origin, pathname, protocol } = new URL(storageUrl);
  if (protocol !== "http:" && protocol !== "https:") {
    throw new HoldfastError("unavailable", "the identity service gave a place of the account that is not HTTP");
  }
  return { origin, path: pathname.replace(/\/+$/u, ""), token };
}

function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new HoldfastError("unavailable", "the server's answer does not have the form that was expected");
}

function lengthOf(answer: ServiceAnswer): number {
  const text = answer.headers["content-length"] ?? "";
  if (!/^\d+$/u.test(text)) throw new HoldfastError("unavailable", "the server did not say how long the object is");
  return Number(text);
}

/** The object's size from `Content-Range: bytes 0-9/100`. Throws where the server sent something else than was asked. */
function rangeSize(answer: ServiceAnswer, offset: number): number {
  const match = /^bytes (\d+)-\d+\/(\d+)$/u.exec(answer.headers["content-range"] ?? "");
  if (answer.status !== 206 || !match || Number(match[1]) !== offset) {
    throw new HoldfastError("unavailable", "the server did not send the range that was asked for", {
      retryable: false,
    });
  }
  return Number(match[2]);
}

function infoOf(name: string, size: number, answer: ServiceAnswer): ObjectInfo {
  const { headers } = answer;
  const modifiedMs = Date.parse(headers["last-modified"] ?? "");
  const etag = (headers["etag"] ?? "").replaceAll('"', "");
  const isLarge = headers["x-static-large-object"] !== undefined || headers["x-object-manifest"] !== undefined;
  return {
    name,
    size,
    ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
    // The ETag of a large object is made of its segments' ETags.
    ...(!isLarge && /^[0-9a-f]{32}$/u.test(etag) ? { digests: { md5: etag } } : {}),
  };
}

export const swiftKind: StoreKind = {
  open: async (url, context) => new SwiftStore(url, context),
  place: (url, env) => {
    const { access, container, prefix } = parseSwiftUrl(url, env);
    return { server: ["swift", ...accountParts(access), container], path: prefixParts(prefix) };
  },
};

/** What leads to one account, without what only lets one into it. */
function accountParts(access: SwiftAccess): readonly string[] {
  if (access.kind === "token") return [access.storageUrl];
  const { authUrl, username, userId, projectName, projectId, userDomain, projectDomain, region } = access;
  return [authUrl, JSON.stringify({ username, userId, projectName, projectId, userDomain, projectDomain, region })];
}
