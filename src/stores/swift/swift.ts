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
import { HoldfastError, abortError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { Body, ByteRange, ObjectInfo } from "../../contract/store.ts";
import { httpError, networkError } from "../../support/network-errors.ts";
import { MIB, forEachParallel } from "../../support/parts.ts";
import type { Part, PartPlan } from "../../support/parts.ts";
import { secretsOf } from "../../support/redact.ts";
import { linkSignals, raceSignal } from "../../support/signals.ts";
import { rangeHeader } from "../base/http-client.ts";
import { HttpService, drain, encodePath, jsonAs, jsonOf, textOf } from "../base/http-service.ts";
import type { ServiceAnswer, ServiceRequest } from "../base/http-service.ts";
import { ObjectStore, checkFits, lengthOf, md5Of, objectInfo, rangeSize, wrongRange } from "../base/object-store.ts";
import type {
  ObjectPage,
  ObjectPut,
  ObjectRead,
  ObjectService,
  ObjectStoreOptions,
  PagePosition,
} from "../base/object-store.ts";
import { Operations } from "../base/operations.ts";
import { prefixParts } from "../base/place.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import {
  sessionAt,
  storageUrlIn,
  version2Request,
  version2Schema,
  version3Request,
  version3Schema,
} from "./swift-login.ts";
import type { Session } from "./swift-login.ts";
import { parseSwiftUrl } from "./swift-settings.ts";
import type { SwiftAccess, SwiftSettings } from "./swift-settings.ts";

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

/** Path of a segment below the account, and what the manifest says of it. */
interface Segment {
  readonly number: number;
  readonly path: string;
  readonly etag: string;
  readonly size: number;
}

interface Upload {
  readonly name: string;
  /** Path below the account under which all of its segments are. */
  readonly folder: string;
  readonly segments: Segment[];
  /** Paths of segments that were begun. */
  readonly attempted: Set<string>;
}

export type SwiftStoreOptions = ObjectStoreOptions;

export class SwiftStore extends ObjectStore<Upload> {
  constructor(url: StoreUrl, context: StoreContext, options: SwiftStoreOptions = {}) {
    super(new Swift(url, context, options), context);
  }
}

export class Swift implements ObjectService<Upload> {
  readonly kind = "swift";
  readonly operations: Operations;
  readonly capabilities = { orderedList: true, storeDigests: ["md5"] } as const;
  readonly prefix: string;
  /** Swift knows If-None-Match, but two writers at once can both be told that they were the first. */
  readonly noCondition = "Swift does not decide conditional puts atomically";
  readonly attempts = SEGMENT_ATTEMPTS;
  readonly parallel = { parts: PARALLEL_SEGMENTS, bytes: IN_FLIGHT_BYTES };
  readonly #settings: SwiftSettings;
  readonly #context: StoreContext;
  readonly #http: HttpService;
  readonly #partBytes: number;
  readonly #pageNames: number;
  #session: Promise<Session> | undefined;
  #containerSeenMs = Number.NEGATIVE_INFINITY;
  #maxSegments: Promise<number> | undefined;

  constructor(url: StoreUrl, context: StoreContext, options: SwiftStoreOptions) {
    this.#context = context;
    this.#settings = parseSwiftUrl(url, context.env);
    this.prefix = this.#settings.prefix;
    this.#http = new HttpService({ env: context.env, caFile: this.#settings.caFile });
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames ?? PAGE_NAMES;
    this.operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => networkError(error) ?? toHoldfastError(error),
      checkName: (name) => checkFits(this.prefix, name),
    });
  }

  async plan(body: Body, signal: AbortSignal): Promise<PartPlan> {
    const small = body.size !== undefined && body.size <= this.#partBytes;
    const maxParts = small ? 1 : await this.#manifestLimit(signal);
    return { partBytes: this.#partBytes, maxParts, maxBytes: maxParts * MAX_SEGMENT_BYTES };
  }

  async putOnce({ name }: ObjectPut, part: Part, signal: AbortSignal): Promise<void> {
    await this.#putBytes(this.#pathOf(name), part, signal);
    this.#containerSeen();
  }

  async read(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<ObjectRead> {
    const answer = await this.#send({
      method: "GET",
      path: this.#pathOf(name),
      held: true,
      signal,
      headers: rangeHeader(range),
    });
    // Also for a range that begins at the very end, where there is nothing to send.
    if (range && answer.status === 416) {
      await drain(answer);
      const info = await this.head(name, signal);
      return { info: () => info };
    }
    if (answer.status !== 200 && answer.status !== 206) throw await this.#failure(answer, signal);
    this.#containerSeen();
    const { body: stream, headers } = answer;
    const sizeOf = (): number => {
      if (!range) return lengthOf(headers);
      if (answer.status !== 206) throw wrongRange();
      return rangeSize(headers["content-range"], range.offset);
    };
    return { stream, info: () => infoOf(name, sizeOf(), headers) };
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo> {
    const answer = await this.#send({ method: "HEAD", path: this.#pathOf(name), signal });
    await drain(answer);
    if (answer.status !== 200) throw await this.#failure(answer, signal);
    this.#containerSeen();
    return infoOf(name, lengthOf(answer.headers), answer.headers);
  }

  async remove(name: string, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#send({ method: "DELETE", path: this.#pathOf(name), signal });
    if (answer.status === 404) {
      await drain(answer);
      await this.#checkContainer(signal);
      return false;
    }
    await this.#expect(answer, signal, 204, 200);
    return true;
  }

  /** Segments that nothing needs any more are in no listing: a failure to delete them is logged and no error. */
  async leftovers(name: string, signal: AbortSignal): Promise<() => Promise<void>> {
    const paths = await this.#segmentsOf(name, signal);
    return async () => {
      if (paths.length === 0) return;
      await this.operations.cleanUp("swift.segments-left-behind", name, (late) => this.#deleteEach(paths, late));
    };
  }

  close(): void {
    this.#http.close();
  }

  async page(prefix: string, { token, after }: PagePosition, signal: AbortSignal): Promise<ObjectPage> {
    // The server looks for names before the prefix with its last character plus one, and breaks where there is none.
    const asked = prefix.replace(/[\u{d7ff}\u{10ffff}]+$/u, "");
    const marker = token ?? after;
    const query = new URLSearchParams({
      format: "json",
      limit: String(this.#pageNames),
      prefix: asked,
      ...(marker === undefined ? {} : { marker }),
    });
    const path = `/${encodePath(this.#settings.container)}?${query.toString()}`;
    const answer = await this.#send({ method: "GET", path, signal });
    if (answer.status === 204) {
      await drain(answer);
      return { objects: [], next: undefined };
    }
    if (answer.status === 404) throw await this.#noContainer(answer);
    if (answer.status !== 200) throw await this.#failure(answer, signal);
    const entries = await jsonAs(listingSchema, answer);
    // The service gives UTC without saying so.
    const objects = entries.map(({ name, bytes, last_modified: modified = "" }) =>
      objectInfo(name, bytes, Date.parse(`${modified}Z`), undefined),
    );
    return { objects, next: entries.at(-1)?.name, asked };
  }

  /** Puts the bytes of a part; the server checks them by their MD5, which is given back. */
  async #putBytes(path: string, part: Part, signal: AbortSignal): Promise<string> {
    const etag = md5Of(part).toString("hex");
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

  async begin({ name }: ObjectPut, signal: AbortSignal): Promise<Upload> {
    const container = `/${encodePath(`${this.#settings.container}_segments`)}`;
    const answer = await this.#send({ method: "PUT", path: container, signal });
    await this.#expect(answer, signal, 201, 202);
    // Names of objects may be as long as the service allows, so segments bear a digest of them.
    const digest = createHash("sha256")
      .update(this.prefix + name)
      .digest("hex")
      .slice(0, 32);
    const folder = `${container}/${digest}/${randomBytes(12).toString("hex")}/`;
    return { name, folder, segments: [], attempted: new Set() };
  }

  async part({ folder, segments, attempted }: Upload, part: Part, signal: AbortSignal): Promise<void> {
    const { number, size } = part;
    const path = folder + String(number).padStart(8, "0");
    throwIfAborted(signal);
    attempted.add(path);
    // A segment whose bytes have all been sent is stored, whether its answer is awaited or not, and perhaps only after it was
    // deleted: so no request is cut off until it had time to be answered.
    const sending = linkSignals();
    let stopTimer: (() => void) | undefined;
    const onAbort = (): void => {
      stopTimer = this.#context.runtime.timer(SEGMENT_ANSWER_MS, () => sending.abort(abortError(signal)));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const etag = await this.#putBytes(path, part, sending.signal);
      segments.push({ number, path, etag, size });
    } finally {
      signal.removeEventListener("abort", onAbort);
      stopTimer?.();
    }
  }

  async complete({ name, segments }: Upload, signal: AbortSignal): Promise<void> {
    segments.sort((a, b) => a.number - b.number);
    const manifest = segments.map(({ path, etag, size }) => ({
      path: decodeURIComponent(path),
      etag,
      size_bytes: size,
    }));
    await this.operations.attempts(SEGMENT_ATTEMPTS, signal, async () => {
      const answer = await this.#send({
        method: "PUT",
        path: `${this.#pathOf(name)}?multipart-manifest=put`,
        signal,
        headers: { "content-type": "application/octet-stream" },
        body: [Buffer.from(JSON.stringify(manifest))],
      });
      await this.#expect(answer, signal, 201, 202);
    });
    this.#containerSeen();
  }

  /**
   * Deletes the segments of a put that failed; unless the manifest was stored after all and only its answer was lost. Each
   * that was begun is deleted by name, whether it is there or not: a delete is younger than a put that is still on its way,
   * so the server drops what comes in behind it.
   */
  async abort({ name, folder, attempted }: Upload, signal: AbortSignal): Promise<void> {
    const used = await this.#segmentsOf(name, signal);
    if (used.some((path) => path.startsWith(folder))) return;
    await this.#deleteEach([...attempted], signal);
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
    return (await jsonAs(manifestSchema, answer)).flatMap((segment) =>
      segment.name.startsWith(own) && !segment.sub_slo ? [encodePath(segment.name)] : [],
    );
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
    const session = (this.#session ??= this.#authenticate(this.operations.closing).catch((error: unknown) => {
      this.#session = undefined;
      throw error;
    }));
    return raceSignal(session, signal);
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
    if (version3) {
      const { token } = await jsonAs(version3Schema, answer);
      return sessionAt(storageUrlIn(token.catalog, access.region), answer.headers["x-subject-token"]);
    }
    const { token, serviceCatalog } = (await jsonAs(version2Schema, answer)).access;
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
    return `/${encodePath(this.#settings.container)}/${encodePath(this.prefix + name)}`;
  }
}

function infoOf(name: string, size: number, headers: ServiceAnswer["headers"]): ObjectInfo {
  const etag = (headers["etag"] ?? "").replaceAll('"', "");
  const isLarge = headers["x-static-large-object"] !== undefined || headers["x-object-manifest"] !== undefined;
  // The ETag of a large object is made of its segments' ETags.
  return objectInfo(name, size, Date.parse(headers["last-modified"] ?? ""), isLarge ? undefined : etag);
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
