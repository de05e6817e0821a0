/**
 * Google Cloud Storage: `gs://BUCKET[/PREFIX]`, as duplicity and gsutil write it.
 *
 * A PREFIX always ends at a slash: `gs://b/x` keeps the object `n` as `x/n`. Parameters: `endpoint=URL` of another service
 * with the same API; `storage-class=CLASS`; `ca=FILE` (PEM) of a private authority for it.
 *
 * Credentials come from the store's environment: `GOOGLE_APPLICATION_CREDENTIALS` names a file of a service account or of
 * an external account; without it, what `gcloud auth application-default login` or the machine's metadata server gives.
 * `GS_ACCESS_KEY_ID` and `GS_SECRET_ACCESS_KEY` (duplicity's HMAC keys) open the bucket through its S3-compatible API
 * instead. `STORAGE_EMULATOR_HOST` names an emulator, which is sent no credentials.
 *
 * Objects up to 8 MiB are put in one request, larger ones by a resumable upload, piece after piece; a lost answer is
 * followed by asking how far the service got. An upload that fails is cancelled. All bytes are checked by their MD5.
 *
 * Needs the package `google-auth-library`, which is loaded when the first such store is opened.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Hash } from "node:crypto";
import { z } from "zod";
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import { MAX_NAME_BYTES } from "../contract/names.ts";
import { resolveRange } from "../contract/ranges.ts";
import { httpError, networkError } from "../support/network-errors.ts";
import type { StoreContext, StoreKind } from "./base/store-kind.ts";
import { MIB } from "../support/parts.ts";
import type { Part, PartPlan } from "../support/parts.ts";
import { secretsOf } from "../support/redact.ts";
import type { ByteRange, ObjectInfo } from "../contract/store.ts";
import { parseStoreUrl } from "../contract/store-url.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { containerOf, urlParameters } from "./base/url-parameters.ts";
import { HttpService, drain, jsonAs, textOf } from "./base/http-service.ts";
import type { ServiceAnswer, ServiceRequest } from "./base/http-service.ts";
import { loadPeer } from "./base/load-peer.ts";
import { rangeHeader } from "./base/http-client.ts";
import { ObjectStore, md5Of, objectInfo, wrongRange } from "./base/object-store.ts";
import type {
  ObjectPage,
  ObjectPut,
  ObjectRead,
  ObjectService,
  ObjectStoreOptions,
  PagePosition,
} from "./base/object-store.ts";
import { Operations, letGo } from "./base/operations.ts";
import { prefixParts } from "./base/place.ts";

const SERVICE = "https://storage.googleapis.com";
const SCOPE = "https://www.googleapis.com/auth/devstorage.read_write";
const MAX_OBJECT_BYTES = 5 * 1024 ** 4;
const ATTEMPTS = 4;
/** Pieces of a resumable upload, but the last, are multiples of this, in bytes. */
const PIECE_UNIT_BYTES = 256 * 1024;

export interface GcsSettings {
  readonly bucket: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  /** Origin of the service. */
  readonly origin: string;
  /** An emulator takes no credentials. */
  readonly anonymous: boolean;
  readonly storageClass?: string | undefined;
  readonly caFile?: string | undefined;
}

/** Reads a URL. Throws `config`. */
export function parseGcsUrl(url: StoreUrl, env: StoreContext["env"]): GcsSettings {
  const parameters = urlParameters(url, ["endpoint", "storage-class", "ca"]);
  if (url.username !== undefined || url.port !== undefined) {
    throw new HoldfastError("config", "a gs URL names a bucket only: set GOOGLE_APPLICATION_CREDENTIALS in env");
  }
  const { container: bucket, prefix } = containerOf(url);
  if (bucket === undefined || !/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/u.test(bucket)) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no bucket: write gs://BUCKET[/PREFIX]`);
  }
  const emulator = env["STORAGE_EMULATOR_HOST"];
  const endpoint = parameters.endpoint ?? (emulator ? emulator.replace(/^(?!https?:\/\/)/u, "http://") : SERVICE);
  if (!/^https?:\/\/[^@?#/]+\/?$/u.test(endpoint) || !URL.canParse(endpoint)) {
    throw new HoldfastError("config", "the endpoint for gs:// must be the http:// or https:// URL of the service");
  }
  return {
    bucket,
    prefix,
    origin: new URL(endpoint).origin,
    anonymous: parameters.endpoint === undefined && Boolean(emulator),
    storageClass: parameters["storage-class"],
    caFile: parameters.ca,
  };
}

const objectSchema = z.object({
  name: z.string(),
  size: z.coerce.number(),
  updated: z.string().optional(),
  md5Hash: z.string().optional(),
  generation: z.union([z.string(), z.number()]).optional(),
});
const pageSchema = z.object({ items: z.array(objectSchema).optional(), nextPageToken: z.string().optional() });
type StoredObject = z.infer<typeof objectSchema>;

/** Gives the headers that authorise a request. */
export type Authorize = (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;

/** `partBytes` is a multiple of 256 KiB. */
export type GcsStoreOptions = ObjectStoreOptions;

/** A resumable upload: its pieces are sent one after the other, each from where the service got to. */
interface Upload {
  /** All that is needed to go on with it. */
  readonly path: string;
  readonly md5: Hash;
  /** Where the piece that is being sent begins. */
  offset: number;
  /** How much the service keeps. */
  kept: number;
}

export class GcsStore extends ObjectStore<Upload> {
  constructor(url: StoreUrl, context: StoreContext, authorize: Authorize, options: GcsStoreOptions = {}) {
    super(new Gcs(url, context, authorize, options), context);
  }
}

class Gcs implements ObjectService<Upload> {
  readonly kind = "gcs";
  readonly operations: Operations;
  readonly capabilities = { orderedList: true, maxObjectBytes: MAX_OBJECT_BYTES, storeDigests: ["md5"] } as const;
  readonly prefix: string;
  readonly noCondition: string | undefined;
  readonly attempts = ATTEMPTS;
  readonly parallel = { parts: 1, bytes: 0 };
  readonly #settings: GcsSettings;
  readonly #context: StoreContext;
  readonly #authorize: Authorize;
  readonly #http: HttpService;
  readonly #partBytes: number;
  readonly #pageNames: number | undefined;

  constructor(url: StoreUrl, context: StoreContext, authorize: Authorize, options: GcsStoreOptions) {
    this.#context = context;
    this.#authorize = authorize;
    this.#settings = parseGcsUrl(url, context.env);
    const { prefix, anonymous, caFile } = this.#settings;
    this.prefix = prefix;
    this.#http = new HttpService({ env: context.env, caFile });
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames;
    if (this.#partBytes % PIECE_UNIT_BYTES !== 0) {
      throw new HoldfastError("invalid", `partBytes must be a multiple of ${PIECE_UNIT_BYTES}`);
    }
    this.operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => networkError(error) ?? toHoldfastError(error),
      checkName: (name) => checkObjectName(prefix + name, anonymous),
    });
    if (anonymous) this.noCondition = "the emulator does not decide conditional puts";
  }

  plan(): PartPlan {
    // Pieces stay small whatever the size: the service has no limit to their number.
    return { partBytes: this.#partBytes, maxParts: Number.MAX_SAFE_INTEGER, maxBytes: MAX_OBJECT_BYTES };
  }

  async putOnce({ name, ifAbsent }: ObjectPut, part: Part, signal: AbortSignal): Promise<void> {
    const md5Hash = md5Of(part).toString("base64");
    const boundary = `holdfast-${randomBytes(16).toString("hex")}`;
    const metadata = JSON.stringify({ ...this.#resource(name), md5Hash });
    const head =
      `--${boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n${metadata}\r\n` +
      `--${boundary}\r\nContent-Type: application/octet-stream\r\n\r\n`;
    const answer = await this.#send({
      method: "POST",
      path: this.#uploadPath("multipart", ifAbsent),
      headers: { "content-type": `multipart/related; boundary=${boundary}` },
      body: [Buffer.from(head), ...part.chunks, Buffer.from(`\r\n--${boundary}--\r\n`)],
      signal,
    });
    if (answer.status !== 200) throw await this.#failure(answer, true);
    compareMd5(await jsonAs(objectSchema, answer), md5Hash);
  }

  async begin({ name, body, ifAbsent }: ObjectPut): Promise<Upload> {
    const answer = await this.#send({
      method: "POST",
      path: this.#uploadPath("resumable", ifAbsent),
      headers: {
        "content-type": "application/json; charset=UTF-8",
        "x-upload-content-type": "application/octet-stream",
        ...(body.size === undefined ? {} : { "x-upload-content-length": String(body.size) }),
      },
      body: [Buffer.from(JSON.stringify(this.#resource(name)))],
      signal: this.operations.closing,
    });
    if (answer.status !== 200 && answer.status !== 201) throw await this.#failure(answer, true);
    await drain(answer);
    const location = answer.headers["location"] ?? "";
    const url = URL.canParse(location) ? new URL(location) : undefined;
    if (url?.origin !== this.#settings.origin) {
      throw new HoldfastError("unavailable", "the service began an upload at another place than its own", {
        retryable: false,
      });
    }
    return { path: url.pathname + url.search, md5: createHash("md5"), offset: 0, kept: 0 };
  }

  /**
   * Sends one piece. The service may keep only the beginning of it, and an answer may be lost: then it is asked how far it
   * got, and the remainder is sent. The last piece comes with the MD5 of all.
   */
  async part(upload: Upload, part: Part, signal: AbortSignal, attempt: number): Promise<void> {
    if (attempt === 1) {
      for (const chunk of part.chunks) upload.md5.update(chunk);
      upload.offset = upload.kept;
    }
    const { path, offset } = upload;
    const end = offset + part.size;
    const md5 = part.last ? upload.md5.copy().digest("base64") : undefined;
    const total = md5 === undefined ? "*" : String(end);
    let asking = attempt > 1;
    for (;;) {
      const from = upload.kept;
      const range = asking || from === end ? `bytes */${total}` : `bytes ${from}-${end - 1}/${total}`;
      const answer = await this.#http.send({
        method: "PUT",
        origin: this.#settings.origin,
        path,
        headers: { "content-range": range, ...(md5 === undefined ? {} : { "x-goog-hash": `md5=${md5}` }) },
        body: asking || from === end ? [] : skipBytes(part.chunks, from - offset),
        once: true,
        signal,
      });
      if (answer.status === 200 || answer.status === 201) {
        const object = await jsonAs(objectSchema, answer);
        if (md5 === undefined) throw new HoldfastError("corrupt", "the service ended the upload before its last piece");
        if (object.size !== end) throw new HoldfastError("corrupt", "the service stored another size than was sent");
        compareMd5(object, md5);
        return;
      }
      if (answer.status !== 308) throw await this.#failure(answer, true);
      await drain(answer);
      const last = /^bytes=0-(\d+)$/u.exec(answer.headers["range"] ?? "")?.[1];
      const kept = last === undefined ? 0 : Number(last) + 1;
      if (kept < offset || kept > end) {
        throw new HoldfastError("corrupt", "the service kept another part of the upload than was sent");
      }
      upload.kept = kept;
      if (kept === end && md5 === undefined) return;
      if (!asking && kept === from) throw new HoldfastError("unavailable", "the service keeps nothing of what is sent");
      asking = false;
    }
  }

  async abort({ path }: Upload, signal: AbortSignal): Promise<void> {
    const { origin } = this.#settings;
    const answer = await this.#http.send({ method: "DELETE", origin, path, signal });
    await drain(answer);
    // 499 is the service's word for a cancelled upload. One that it does not know needs no cancelling.
    if (answer.status >= 500) throw new HoldfastError("unavailable", `cancelling was answered with ${answer.status}`);
  }

  async read(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<ObjectRead> {
    // The object's size, time and digest; and its generation, so that the bytes are of the same one.
    const object = await this.#metadata(name, signal);
    const { start, end } = resolveRange(range, object.size);
    const info = (): ObjectInfo => infoOf(name, object);
    if (start === end) return { info };
    const whole = start === 0 && end === object.size;
    const generation = object.generation === undefined ? "" : `&generation=${object.generation}`;
    const answer = await this.#send({
      method: "GET",
      path: `${this.#pathOf(name)}?alt=media${generation}`,
      headers: {
        "accept-encoding": "identity",
        ...rangeHeader(whole ? undefined : { offset: start, length: end - start }),
      },
      held: true,
      signal,
    });
    const rangeStart = /^bytes (\d+)-/u.exec(answer.headers["content-range"] ?? "")?.[1];
    if (answer.status !== 200 && answer.status !== 206) {
      const failure = await this.#failure(answer);
      // Replaced or deleted between the two requests: the next attempt sees what is there then.
      if (failure.code !== "not-found") throw failure;
      throw new HoldfastError("unavailable", "the object was replaced while it was read", { cause: failure });
    }
    if (!whole && (answer.status !== 206 || rangeStart !== String(start))) {
      letGo(answer.body);
      throw wrongRange();
    }
    return { info, stream: answer.body };
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo> {
    return infoOf(name, await this.#metadata(name, signal));
  }

  async page(prefix: string, { token, after }: PagePosition, signal: AbortSignal): Promise<ObjectPage> {
    const query = new URLSearchParams({
      prefix,
      fields: "items(name,size,updated,md5Hash),nextPageToken",
      ...(this.#pageNames === undefined ? {} : { maxResults: String(this.#pageNames) }),
      ...(token === undefined ? {} : { pageToken: token }),
      ...(after === undefined ? {} : { startOffset: after }),
    });
    const path = `/storage/v1/b/${this.#settings.bucket}/o?${query.toString()}`;
    const answer = await this.#send({ method: "GET", path, signal });
    if (answer.status !== 200) throw await this.#failure(answer, true);
    const { items = [], nextPageToken } = await jsonAs(pageSchema, answer);
    return { objects: items.map((object) => infoOf(object.name, object)), next: nextPageToken || undefined };
  }

  async remove(name: string, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#send({ method: "DELETE", path: this.#pathOf(name), signal });
    if (answer.status === 200 || answer.status === 204) {
      await drain(answer);
      return true;
    }
    const failure = await this.#failure(answer);
    if (failure.code !== "not-found") throw failure;
    return false;
  }

  close(): void {
    this.#http.close();
  }

  async #metadata(name: string, signal: AbortSignal): Promise<StoredObject> {
    const answer = await this.#send({ method: "GET", path: this.#pathOf(name), signal });
    if (answer.status !== 200) throw await this.#failure(answer);
    return jsonAs(objectSchema, answer);
  }

  async #send(request: Omit<ServiceRequest, "origin">): Promise<ServiceAnswer> {
    const authorization = this.#settings.anonymous ? {} : await this.#authorize(request.signal);
    const headers = { ...request.headers, ...authorization };
    return this.#http.send({ ...request, origin: this.#settings.origin, headers });
  }

  /** The error that an answer stands for. With `ofBucket`, a 404 means that the bucket is missing. */
  async #failure(answer: ServiceAnswer, ofBucket = false): Promise<HoldfastError> {
    const { status, headers } = answer;
    const text = await textOf(answer);
    const said = /"message":\s*"((?:[^"\\]|\\.)*)"/u.exec(text)?.[1] ?? text.slice(0, 200).replaceAll(/\s+/gu, " ");
    const message = `Google Cloud Storage answered ${status}: ${said}`;
    if (status === 404 && (ofBucket || /bucket does not exist/iu.test(said))) {
      return new HoldfastError("unavailable", `the bucket ${this.#settings.bucket} does not exist`, {
        retryable: false,
      });
    }
    const reason = /"reason":\s*"(\w+)"/u.exec(text)?.[1] ?? "";
    const retryAfter = headers["retry-after"];
    const nowMs = this.#context.runtime.now();
    if (/quota|storageFull/iu.test(reason) && status === 403) return new HoldfastError("full", message);
    if (/rateLimit/iu.test(reason)) return httpError({ status: 429, message, retryAfter, nowMs });
    if (status === 400 && /md5|crc32c|hash/iu.test(said))
      return new HoldfastError("corrupt", message, { retryable: true });
    return httpError({ status, message, retryAfter, nowMs });
  }

  #resource(name: string): { name: string; storageClass?: string } {
    const { prefix, storageClass } = this.#settings;
    return { name: prefix + name, ...(storageClass === undefined ? {} : { storageClass }) };
  }

  #uploadPath(type: "multipart" | "resumable", ifAbsent: boolean): string {
    const condition = ifAbsent ? "&ifGenerationMatch=0" : "";
    return `/upload/storage/v1/b/${this.#settings.bucket}/o?uploadType=${type}${condition}`;
  }

  #pathOf(name: string): string {
    return `/storage/v1/b/${this.#settings.bucket}/o/${encodeURIComponent(this.#settings.prefix + name)}`;
  }
}

/**
 * What the service forbids: `.` and `..` alone, line breaks, and names under its own folder for certificates; and what an
 * emulator changes, as it keeps objects in files.
 */
function checkObjectName(object: string, emulator: boolean): void {
  const refused = (why: string): HoldfastError =>
    new HoldfastError("invalid", `Google Cloud Storage cannot hold the name ${JSON.stringify(object)}: ${why}`);
  if (object === "." || object === "..") throw refused("it is nothing but dots");
  if (/[\r\n]/u.test(object)) throw refused("it has a line break");
  const parts = object.split("/");
  if (emulator && parts.some((part, n) => part === "." || part === ".." || (part === "" && n < parts.length - 1))) {
    throw refused("the emulator takes its parts for folders");
  }
  if (object.startsWith(".well-known/acme-challenge/")) throw refused("the service keeps that beginning for itself");
  if (Buffer.byteLength(object) > MAX_NAME_BYTES) throw refused("it is too long");
}

function compareMd5(object: StoredObject, md5Hash: string): void {
  if (object.md5Hash !== undefined && object.md5Hash !== md5Hash) {
    throw new HoldfastError("corrupt", "the service stored other bytes than were sent (their MD5 differ)");
  }
}

function infoOf(name: string, { size, updated = "", md5Hash = "" }: StoredObject): ObjectInfo {
  return objectInfo(name, size, Date.parse(updated), Buffer.from(md5Hash, "base64").toString("hex"));
}

/** Chunks without their first `count` bytes. */
function skipBytes(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skip = count;
  for (const chunk of chunks) {
    if (skip >= chunk.length) skip -= chunk.length;
    else {
      left.push(skip === 0 ? chunk : chunk.subarray(skip));
      skip = 0;
    }
  }
  return left;
}

async function googleAuth(context: StoreContext): Promise<Authorize> {
  const name = "google-auth-library";
  const { GoogleAuth } = await loadPeer(name, "Google Cloud Storage", () => import("google-auth-library"));
  const keyFilename = context.env["GOOGLE_APPLICATION_CREDENTIALS"];
  const auth = new GoogleAuth({ scopes: [SCOPE], ...(keyFilename ? { keyFilename } : {}) });
  return async () => {
    try {
      const headers = await auth.getRequestHeaders();
      return Object.fromEntries(headers.entries());
    } catch (error) {
      throw (
        networkError(error) ??
        new HoldfastError(
          "denied",
          `no credentials for Google were found (${(error as Error).message}): set GOOGLE_APPLICATION_CREDENTIALS to the path of a key's file in the store's env`,
          { cause: error },
        )
      );
    }
  };
}

export const gcsKind: StoreKind = {
  open: async (url, context) => {
    const { env } = context;
    const settings = parseGcsUrl(url, env);
    const keyId = env["GS_ACCESS_KEY_ID"];
    const secret = env["GS_SECRET_ACCESS_KEY"];
    if (keyId && secret && !env["GOOGLE_APPLICATION_CREDENTIALS"] && !settings.anonymous) {
      const { s3Kind } = await import("./s3/s3.ts");
      const { bucket, prefix, origin, caFile } = settings;
      const ca = caFile === undefined ? "" : `&ca=${encodeURIComponent(caFile)}`;
      const s3Url = parseStoreUrl(`s3:///${bucket}/${encodeURI(prefix)}?endpoint=${origin}&region=auto${ca}`);
      const keys = { AWS_ACCESS_KEY_ID: keyId, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: undefined };
      return s3Kind.open(s3Url, { ...context, env: { ...env, ...keys, AWS_PROFILE: undefined } });
    }
    const authorize = settings.anonymous ? async () => ({}) : await googleAuth(context);
    return new GcsStore(url, context, authorize);
  },
  // One name of a bucket is one bucket, whoever asks for it.
  place: (url, env) => {
    const { origin, bucket, prefix } = parseGcsUrl(url, env);
    return { server: ["gs", origin, bucket], path: prefixParts(prefix) };
  },
};
