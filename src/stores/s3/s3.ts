/**
 * S3 and what speaks its protocol: AWS, Ceph, MinIO, Backblaze B2, Cloudflare R2, Wasabi, Google's XML API, Swift's s3api.
 *
 * ## URLs
 *
 * | URL | bucket | endpoint |
 * | --- | --- | --- |
 * | `s3://BUCKET[/PREFIX]` | BUCKET | AWS, or `endpoint=`, or `AWS_ENDPOINT_URL[_S3]` |
 * | `s3:///BUCKET[/PREFIX]`, `boto3+s3://BUCKET[/PREFIX]`, `s3+http://BUCKET[/PREFIX]` (duplicity) | BUCKET | the same |
 * | `s3://HOST[:PORT]/BUCKET[/PREFIX]` (duplicity) | BUCKET | `https://HOST[:PORT]` |
 *
 * What stands behind `s3://` is a HOST when it has a dot or a port, is `localhost` or an IPv6 address, and there is no
 * `endpoint=`; otherwise it is a BUCKET. A bucket with a dot in its name is written in one of the other forms.
 *
 * A PREFIX always ends at a slash: `s3://b/x` keeps the object `n` under the key `x/n`. The path is percent-decoded and
 * empty parts of it are dropped, as duplicity does. Parameters:
 *
 * - `endpoint=URL`; `region=NAME`; `profile=NAME` of the AWS configuration; `ca=FILE` (PEM) of a private authority
 * - `style=path|virtual`: how the bucket is named in requests. Default: `path` with an endpoint of one's own, else `virtual`
 * - `tls=on|off`: for `s3://HOST…` and an `endpoint=` without a scheme. Default `on`
 * - `storage-class=CLASS`; `sse=AES256|aws:kms` with `sse-kms-key=ID`
 * - `conditional-put=on|at-once|off`: whether the service decides `If-None-Match: *`, which some ignore without a word;
 *   `at-once`: not for multipart uploads (Ceph). Default: `on` for AWS and R2, else `off`
 * - `etag=md5|opaque`: whether the ETag of an object that was put in one piece is its MD5. Default `md5`
 * - `max-parts=N`: parts that the service takes for one upload. Default 10,000, as S3; Swift's s3api takes 1000
 *
 * ## Credentials
 *
 * From the store's environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; else the profile
 * (`profile=`, `AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`), a web identity, and the rest of the AWS
 * SDK's chain. A profile that is named for this store alone is taken before keys that the process happens to have.
 *
 * ## How
 *
 * Objects up to one part (8 MiB) are put at once, larger ones as multipart uploads, four parts at a time; each with its
 * Content-MD5, compared again with the ETag of the answer. A put that fails aborts its upload and waits for that.
 */
import { createHash } from "node:crypto";
import { HoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { httpError, networkError } from "../../support/network-errors.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { MIB } from "../../support/parts.ts";
import type { Part, PartPlan } from "../../support/parts.ts";
import { secretsOf } from "../../support/redact.ts";
import type { ByteRange, ObjectInfo, OperationOptions } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { rangeHeader } from "../base/http-client.ts";
import { ObjectStore, checkFits, endless, lengthOf, md5Of, objectInfo, rangeSize } from "../base/object-store.ts";
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
import { S3Failure, S3Service, namespaceOf } from "./s3-service.ts";
import { oneOf, pathParts, urlParameters } from "../base/url-parameters.ts";
import { escapeXml } from "../../support/xml.ts";

/** 5 TiB. */
const MAX_OBJECT_BYTES = 5 * 1024 ** 4;
/** What parts in flight may hold together, in bytes. One part is always allowed. */
const IN_FLIGHT_BYTES = 64 * MIB;
const PARALLEL_PARTS = 4;
/** Parts of one upload, as S3 itself has it. */
const MAX_PARTS = 10_000;
const PART_ATTEMPTS = 3;
const CONTENT_TYPE = "application/octet-stream";
const XML_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";
/** An upload that began so long ago is swept. One that is still under way after that would be lost. */
const SWEEP_AFTER_MS = 7 * 24 * 60 * 60 * 1000;
/** A bucket that has answered is believed to exist for this long, in milliseconds. */
const BUCKET_KNOWN_MS = 60_000;
type Headers = Readonly<Record<string, string>>;

/** A store's URL and environment, understood. */
export interface S3Settings {
  readonly bucket: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  /** Undefined: AWS's own. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly profile?: string | undefined;
  readonly pathStyle: boolean;
  readonly storageClass?: string | undefined;
  readonly serverSideEncryption?: "AES256" | "aws:kms" | undefined;
  readonly kmsKeyId?: string | undefined;
  readonly caFile?: string | undefined;
  readonly conditionalPut: "on" | "at-once" | "off";
  readonly etagIsMd5: boolean;
  readonly maxParts: number;
}

const parameterNames = [
  "endpoint",
  "region",
  "profile",
  "style",
  "tls",
  "ca",
  "storage-class",
  "sse",
  "sse-kms-key",
  "conditional-put",
  "etag",
  "max-parts",
] as const;

/** Reads a URL in the forms above. Throws `config`. */
export function parseS3Url(url: StoreUrl, env: StoreContext["env"]): S3Settings {
  const parameters = urlParameters(url, parameterNames);
  if (url.username !== undefined || url.password !== undefined) {
    throw new HoldfastError(
      "config",
      "credentials do not stand in an s3 URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the store's env",
    );
  }
  const tls = oneOf("tls", parameters.tls, ["on", "off"]) ?? "on";
  const parts = pathParts(url.path);
  const hostIsEndpoint =
    url.scheme === "s3" &&
    parameters.endpoint === undefined &&
    (url.port !== undefined || /[.:]/u.test(url.host) || url.host === "localhost");
  let endpoint: string | undefined;
  if (hostIsEndpoint) {
    const host = url.host.includes(":") ? `[${url.host}]` : url.host;
    endpoint = `${tls === "on" ? "https" : "http"}://${host}${url.port === undefined ? "" : `:${url.port}`}`;
  } else {
    if (url.port !== undefined) throw new HoldfastError("config", "a bucket has no port: write s3://HOST:PORT/BUCKET");
    if (url.host !== "") parts.unshift(url.host);
    endpoint = parameters.endpoint ?? (env["AWS_ENDPOINT_URL_S3"] || env["AWS_ENDPOINT_URL"] || undefined);
    if (endpoint !== undefined && !/^[a-z]+:\/\//iu.test(endpoint)) {
      endpoint = `${tls === "on" ? "https" : "http"}://${endpoint}`;
    }
  }
  const host = endpoint === undefined ? undefined : endpointHost(endpoint);
  const [bucket, ...prefix] = parts;
  if (bucket === undefined) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no bucket: write s3://BUCKET or s3://HOST/BUCKET`);
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/u.test(bucket)) {
    throw new HoldfastError("config", `${JSON.stringify(bucket)} cannot be the name of a bucket`);
  }
  const isAws = host === undefined || /(?:^|\.)amazonaws\.com(?:\.cn)?$/u.test(host);
  const sse = oneOf("sse", parameters.sse, ["AES256", "aws:kms"]);
  if (parameters["sse-kms-key"] !== undefined && sse !== "aws:kms") {
    throw new HoldfastError("config", "sse-kms-key needs sse=aws:kms");
  }
  const knowsConditions = isAws || (host?.endsWith(".r2.cloudflarestorage.com") ?? false);
  return {
    bucket,
    prefix: prefix.length === 0 ? "" : `${prefix.join("/")}/`,
    // AWS's own hosts are left to the SDK, which knows them by region.
    endpoint: isAws ? undefined : endpoint,
    region:
      parameters.region ??
      /(?:^|\.)s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com/u.exec(host ?? "")?.[1] ??
      (env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || undefined),
    profile: parameters.profile,
    pathStyle: (oneOf("style", parameters.style, ["path", "virtual"]) ?? (isAws ? "virtual" : "path")) === "path",
    storageClass: parameters["storage-class"],
    serverSideEncryption: sse,
    kmsKeyId: parameters["sse-kms-key"],
    caFile: parameters.ca ?? (env["AWS_CA_BUNDLE"] || undefined),
    conditionalPut:
      oneOf("conditional-put", parameters["conditional-put"], ["on", "at-once", "off"]) ??
      (knowsConditions ? "on" : "off"),
    etagIsMd5:
      (oneOf("etag", parameters.etag, ["md5", "opaque"]) ?? (bucket.endsWith("--x-s3") ? "opaque" : "md5")) === "md5",
    maxParts: maxPartsOf(parameters["max-parts"]),
  };
}

function maxPartsOf(text: string | undefined): number {
  const parts = text === undefined ? MAX_PARTS : Number(text);
  if (!Number.isInteger(parts) || parts < 10 || parts > MAX_PARTS) {
    throw new HoldfastError("config", `max-parts is a number from 10 to ${MAX_PARTS}, not ${String(text)}`);
  }
  return parts;
}

function endpointHost(endpoint: string): string {
  try {
    const url = new URL(endpoint);
    if (!["http:", "https:"].includes(url.protocol) || url.username !== "" || url.search !== "") throw new Error();
    return url.hostname;
  } catch (error) {
    throw new HoldfastError("config", "endpoint= must be the http:// or https:// URL of the service, without a user", {
      cause: error,
    });
  }
}

/** `partBytes` is at least 5 MiB. */
export type S3StoreOptions = ObjectStoreOptions;

interface Upload {
  readonly name: string;
  readonly ifAbsent: boolean;
  readonly id: string;
  readonly parts: { readonly number: number; readonly etag: string; readonly md5: Buffer }[];
}

export class S3Store extends ObjectStore<Upload> {
  readonly #s3: S3;

  constructor(url: StoreUrl, context: StoreContext, options: S3StoreOptions = {}) {
    const s3 = new S3(url, context, options);
    super(s3, context);
    this.#s3 = s3;
  }

  async sweep(options: OperationOptions = {}): Promise<void> {
    await this.abortStrayUploads({ ...options, olderThanMs: SWEEP_AFTER_MS });
  }

  /**
   * Aborts multipart uploads under this store's prefix that began more than `olderThanMs` (default: a day) ago: what
   * writers left that were killed. Their parts are in no listing but are paid for. Gives how many there were.
   */
  abortStrayUploads(options: OperationOptions & { olderThanMs?: number | undefined } = {}): Promise<number> {
    return this.#s3.operations.run("delete", undefined, options, ({ signal }) =>
      this.#s3.abortUploads(options.olderThanMs ?? 86_400_000, signal),
    );
  }
}

class S3 implements ObjectService<Upload> {
  readonly kind = "s3";
  readonly operations: Operations;
  readonly capabilities: ObjectService<Upload>["capabilities"];
  readonly prefix: string;
  readonly noCondition: string | undefined;
  readonly attempts = PART_ATTEMPTS;
  readonly parallel = { parts: PARALLEL_PARTS, bytes: IN_FLIGHT_BYTES };
  readonly #settings: S3Settings;
  readonly #context: StoreContext;
  readonly #service: S3Service;
  readonly #partBytes: number;
  readonly #pageNames: number | undefined;
  #bucketSeenMs = Number.NEGATIVE_INFINITY;

  constructor(url: StoreUrl, context: StoreContext, options: S3StoreOptions) {
    this.#context = context;
    this.#settings = parseS3Url(url, context.env);
    const { bucket, conditionalPut, etagIsMd5 } = this.#settings;
    this.prefix = this.#settings.prefix;
    this.operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => mapS3Error(error, bucket, context.runtime.now()),
      checkName: (name) => checkFits(this.prefix, name),
    });
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames;
    this.#service = new S3Service(this.#settings, context);
    if (conditionalPut === "off") {
      this.noCondition =
        "this service is not known to honour If-None-Match; if it does, say so with conditional-put=on";
    }
    this.capabilities = {
      orderedList: !bucket.endsWith("--x-s3"),
      maxObjectBytes: MAX_OBJECT_BYTES,
      storeDigests: etagIsMd5 ? ["md5"] : [],
    };
  }

  plan(): PartPlan {
    return { partBytes: this.#partBytes, maxParts: this.#settings.maxParts, maxBytes: MAX_OBJECT_BYTES };
  }

  async putOnce({ name, ifAbsent }: ObjectPut, part: Part, signal: AbortSignal): Promise<void> {
    const md5 = md5Of(part);
    const headers = await this.#service.headersOf({
      method: "PUT",
      key: this.#key(name),
      headers: {
        ...this.#storage(),
        "content-type": CONTENT_TYPE,
        "content-md5": md5.toString("base64"),
        ...(ifAbsent ? { "if-none-match": "*" } : {}),
      },
      body: part.chunks,
      md5Comes: this.#settings.etagIsMd5,
      signal,
    });
    this.#bucketSeen();
    this.#compareETag(headers, md5.toString("hex"));
  }

  async begin({ name, ifAbsent }: ObjectPut): Promise<Upload> {
    if (ifAbsent && this.#settings.conditionalPut !== "on") {
      throw new HoldfastError(
        "unsupported",
        `this service decides If-None-Match only for objects of at most ${this.#partBytes} bytes`,
      );
    }
    const begun = await this.#service.documentOf(
      {
        method: "POST",
        key: this.#key(name),
        query: [["uploads", ""]],
        headers: { ...this.#storage(), "content-type": CONTENT_TYPE },
        signal: this.operations.closing,
      },
      "InitiateMultipartUploadResult",
    );
    const id = begun.text("UploadId");
    if (!id) throw new HoldfastError("unavailable", "the server began an upload without an id");
    return { name, ifAbsent, id, parts: [] };
  }

  async part(upload: Upload, part: Part, signal: AbortSignal): Promise<void> {
    const { number } = part;
    const md5 = md5Of(part);
    const headers = await this.#service.headersOf({
      method: "PUT",
      key: this.#key(upload.name),
      query: [
        ["partNumber", String(number)],
        ["uploadId", upload.id],
      ],
      headers: { "content-type": CONTENT_TYPE, "content-md5": md5.toString("base64") },
      body: part.chunks,
      md5Comes: this.#settings.etagIsMd5,
      signal,
    });
    this.#compareETag(headers, md5.toString("hex"));
    upload.parts.push({ number, etag: headers["etag"] ?? "", md5 });
  }

  async complete({ name, ifAbsent, id, parts }: Upload, signal: AbortSignal): Promise<void> {
    parts.sort((a, b) => a.number - b.number);
    const md5 = createHash("md5");
    for (const part of parts) md5.update(part.md5);
    const wantedETag = `${md5.digest("hex")}-${parts.length}`;
    const list = parts
      .map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${escapeXml(etag)}</ETag></Part>`)
      .join("");
    const text = `<CompleteMultipartUpload xmlns="${XML_NAMESPACE}">${list}</CompleteMultipartUpload>`;
    const key = this.#key(name);
    await this.operations.attempts(PART_ATTEMPTS, signal, async (attempt) => {
      try {
        await this.#service.documentOf(
          {
            method: "POST",
            key,
            query: [["uploadId", id]],
            headers: { "content-type": "application/xml", ...(ifAbsent ? { "if-none-match": "*" } : {}) },
            body: [Buffer.from(text)],
            signal,
          },
          "CompleteMultipartUploadResult",
        );
      } catch (error) {
        // The answer to an earlier attempt was lost: the upload is gone because it is the object now.
        if (attempt === 1 || nameOf(error) !== "NoSuchUpload") throw error;
        const head = await this.#service.headersOf({ method: "HEAD", key, signal });
        if (unquoted(head["etag"]) !== wantedETag) throw error;
      }
    });
    this.#bucketSeen();
  }

  /** Aborts an upload, again when a part that was still on its way came in behind it. */
  async abort({ name, id }: Upload, signal: AbortSignal): Promise<void> {
    const upload = { key: this.#key(name), query: [["uploadId", id] as const], signal };
    try {
      await this.#service.headersOf({ ...upload, method: "DELETE" });
      await this.#service.headersOf({ ...upload, method: "GET" });
    } catch (error) {
      if (nameOf(error) === "NoSuchUpload" || statusOf(error) === 404) return;
      throw error;
    }
    throw new HoldfastError("unavailable", "the upload is still there after it was aborted");
  }

  async read(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<ObjectRead> {
    try {
      const { body: stream, headers } = await this.#service.send({
        method: "GET",
        key: this.#key(name),
        headers: rangeHeader(range),
        held: true,
        signal,
      });
      this.#bucketSeen();
      const sizeOf = (): number => (range ? rangeSize(headers["content-range"], range.offset) : lengthOf(headers));
      return { stream, info: () => this.#info(name, sizeOf(), headers) };
    } catch (error) {
      // Also for a range that begins at the very end, where there is nothing to send.
      if (!range || statusOf(error) !== 416) throw error;
      const info = await this.head(name, signal);
      return { info: () => info };
    }
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo> {
    try {
      const headers = await this.#service.headersOf({ method: "HEAD", key: this.#key(name), signal });
      this.#bucketSeen();
      return this.#info(name, lengthOf(headers), headers);
    } catch (error) {
      // The answer to HEAD has no body to say whether it is the object or the whole bucket that is missing.
      if (statusOf(error) === 404) await this.#checkBucket(signal);
      throw error;
    }
  }

  async page(prefix: string, { token, after }: PagePosition, signal: AbortSignal): Promise<ObjectPage> {
    const position: readonly (readonly [string, string])[] =
      token !== undefined
        ? [["continuation-token", token]]
        : after === undefined || !this.capabilities.orderedList
          ? []
          : [["start-after", after]];
    const page = await this.#service.documentOf(
      {
        method: "GET",
        query: [
          ["list-type", "2"],
          ["prefix", prefix],
          // XML cannot hold every character that a name can.
          ["encoding-type", "url"],
          ...(this.#pageNames === undefined ? [] : [["max-keys", String(this.#pageNames)] as const]),
          ...position,
        ],
        signal,
      },
      "ListBucketResult",
    );
    this.#bucketSeen();
    const isEncoded = page.text("EncodingType") === "url";
    const objects = page.all("Contents").flatMap((entry): ObjectInfo[] => {
      const name = this.#decoded(entry.text("Key") ?? "", isEncoded);
      if (name === undefined) return [];
      const size = Number(entry.text("Size") ?? Number.NaN);
      if (!Number.isSafeInteger(size)) {
        throw new HoldfastError("unavailable", "the server did not say how long an object of its listing is");
      }
      return [objectInfo(name, size, Date.parse(entry.text("LastModified") ?? ""), undefined)];
    });
    if (page.text("IsTruncated") !== "true") return { objects, next: undefined };
    const next = page.text("NextContinuationToken");
    if (next === undefined) throw endless();
    return { objects, next };
  }

  async remove(name: string, signal: AbortSignal): Promise<false | undefined> {
    try {
      await this.#service.headersOf({ method: "DELETE", key: this.#key(name), signal });
    } catch (error) {
      if (this.operations.mapped(error).code !== "not-found") throw error;
      return false;
    }
    this.#bucketSeen();
    return undefined;
  }

  close(): void {
    this.#service.close();
  }

  /** Aborts the uploads under the prefix that began more than `olderThanMs` ago, and gives their number. */
  async abortUploads(olderThanMs: number, signal: AbortSignal): Promise<number> {
    const before = this.#context.runtime.now() - olderThanMs;
    let count = 0;
    let marker: readonly (readonly [string, string])[] | undefined = [];
    while (marker) {
      const page = await this.#service.documentOf(
        { method: "GET", query: [["uploads", ""], ["prefix", this.prefix], ...marker], signal },
        "ListMultipartUploadsResult",
      );
      for (const upload of page.all("Upload")) {
        const [key, uploadId] = [upload.text("Key"), upload.text("UploadId")];
        if (key === undefined || uploadId === undefined || !key.startsWith(this.prefix)) continue;
        // Also false where the service did not say when.
        if (!(Date.parse(upload.text("Initiated") ?? "") <= before)) continue;
        await this.#service.headersOf({
          method: "DELETE",
          key,
          query: [["uploadId", uploadId]],
          signal,
        });
        count++;
      }
      const nextKey = page.text("NextKeyMarker");
      marker =
        page.text("IsTruncated") === "true" && nextKey !== undefined
          ? [
              ["key-marker", nextKey],
              ["upload-id-marker", page.text("NextUploadIdMarker") ?? ""],
            ]
          : undefined;
    }
    return count;
  }

  async #checkBucket(signal: AbortSignal): Promise<void> {
    const { runtime } = this.#context;
    if (runtime.monotonicMs() - this.#bucketSeenMs < BUCKET_KNOWN_MS) return;
    try {
      await this.#service.headersOf({ method: "HEAD", signal });
    } catch (error) {
      if (statusOf(error) === 404) throw noBucket(this.#settings.bucket, error);
      // A key that may not ask about the bucket says nothing about the object: its own answer stands.
      if (this.operations.mapped(error).code !== "denied") throw error;
    }
    this.#bucketSeen();
  }

  #bucketSeen(): void {
    this.#bucketSeenMs = this.#context.runtime.monotonicMs();
  }

  #key(name: string): string {
    return this.prefix + name;
  }

  #storage(): Record<string, string> {
    const { storageClass, serverSideEncryption, kmsKeyId } = this.#settings;
    return {
      ...(storageClass === undefined ? {} : { "x-amz-storage-class": storageClass }),
      ...(serverSideEncryption === undefined ? {} : { "x-amz-server-side-encryption": serverSideEncryption }),
      ...(kmsKeyId === undefined ? {} : { "x-amz-server-side-encryption-aws-kms-key-id": kmsKeyId }),
    };
  }

  #info(name: string, size: number, headers: Headers): ObjectInfo {
    return objectInfo(name, size, Date.parse(headers["last-modified"] ?? ""), this.#md5Of(headers));
  }

  /** The MD5 that an ETag is; undefined for an upload in parts, for encryption that hides it, and for other services. */
  #md5Of(headers: Headers): string | undefined {
    const isHidden = headers["x-amz-server-side-encryption"]?.startsWith("aws:kms") ?? false;
    if (!this.#settings.etagIsMd5 || isHidden) return undefined;
    const text = unquoted(headers["etag"]);
    return /^[0-9a-f]{32}$/u.test(text) ? text : undefined;
  }

  #compareETag(headers: Headers, md5: string): void {
    const stored = this.#md5Of(headers);
    if (stored === undefined || stored === md5) return;
    throw new HoldfastError(
      "corrupt",
      "the service stored other bytes than were sent (its ETag is not their MD5); if its ETags are never MD5, say so with etag=opaque",
    );
  }

  /** A key as it stands in a listing, or undefined for one that is no text. */
  #decoded(key: string, isEncoded: boolean): string | undefined {
    try {
      return isEncoded ? decodeURIComponent(key.replaceAll("+", "%20")) : key;
    } catch {
      this.#context.logger.warn("s3.unusable-name", { store: this.#context.label, object: JSON.stringify(key) });
      return undefined;
    }
  }
}

/** Services' error codes that say more than the HTTP status does: code of Holdfast, and whether to try again. */
const serviceCodes: Readonly<Record<string, readonly [ErrorCode, boolean?]>> = {
  NoSuchKey: ["not-found"],
  NoSuchVersion: ["not-found"],
  NoSuchUpload: ["unavailable"],
  AccessDenied: ["denied"],
  AllAccessDisabled: ["denied"],
  AccountProblem: ["denied"],
  ExpiredToken: ["denied"],
  ExpiredTokenException: ["denied"],
  InvalidAccessKeyId: ["denied"],
  InvalidToken: ["denied"],
  SignatureDoesNotMatch: ["denied"],
  AuthorizationHeaderMalformed: ["denied"],
  TokenRefreshRequired: ["denied"],
  CredentialsProviderError: ["denied"],
  // The difference of the clocks was learnt from the answer: the next try is signed with the right time.
  RequestTimeTooSkewed: ["denied", true],
  PreconditionFailed: ["conflict"],
  // Another conditional request for the same name was under way.
  ConditionalRequestConflict: ["conflict", true],
  OperationAborted: ["conflict", true],
  SlowDown: ["throttled"],
  Throttling: ["throttled"],
  ThrottlingException: ["throttled"],
  RequestLimitExceeded: ["throttled"],
  TooManyRequests: ["throttled"],
  BandwidthLimitExceeded: ["throttled"],
  QuotaExceeded: ["full"],
  StorageQuotaExceeded: ["full"],
  InsufficientStorage: ["full"],
  XMinioStorageFull: ["full"],
  XMinioAdminBucketQuotaExceeded: ["full"],
  // The bytes were damaged on their way: they are still right here.
  BadDigest: ["corrupt", true],
  InvalidDigest: ["corrupt", true],
  XAmzContentSHA256Mismatch: ["corrupt", true],
  IncompleteBody: ["unavailable"],
  RequestTimeout: ["timeout"],
  RequestAborted: ["aborted"],
  InternalError: ["unavailable"],
  ServiceUnavailable: ["unavailable"],
  EntityTooLarge: ["invalid"],
  KeyTooLongError: ["invalid"],
  InvalidURI: ["invalid"],
  InvalidObjectName: ["invalid"],
  NotImplemented: ["unsupported"],
  MethodNotAllowed: ["unsupported"],
  // In cold storage: it has to be restored there first.
  InvalidObjectState: ["unavailable", false],
};

/** What the service or the SDK's chain of credentials said, as an error of Holdfast. */
export function mapS3Error(error: unknown, bucket: string, nowMs: number): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const name = nameOf(error);
  if (name === "NoSuchBucket") return noBucket(bucket, error);
  const failure = error instanceof S3Failure ? error : undefined;
  const status = failure?.status;
  const message = error instanceof Error ? error.message : String(error);
  const byStatus =
    failure && httpError({ status: failure.status, message, retryAfter: failure.retryAfter, nowMs, cause: error });
  const known = serviceCodes[name];
  if (known) {
    const [code, retryable] = known;
    return new HoldfastError(code, message, { cause: error, retryable, retryAfterMs: byStatus?.retryAfterMs });
  }
  if (status === 301 || status === 307 || status === 308) {
    return new HoldfastError(
      "unavailable",
      "the service redirects elsewhere, which is not followed: set region= or endpoint= to where the bucket is",
      { cause: error, retryable: status === 307 },
    );
  }
  // An error that a success turned out to be may pass.
  if (status !== undefined && status < 300) return new HoldfastError("unavailable", message, { cause: error });
  return byStatus ?? networkError(error) ?? new HoldfastError("internal", message, { cause: error });
}

function noBucket(bucket: string, cause: unknown): HoldfastError {
  return new HoldfastError("unavailable", `the bucket ${bucket} does not exist`, { cause, retryable: false });
}

/** What the service or the SDK calls an error; empty where it gave it no name. */
function nameOf(error: unknown): string {
  if (error instanceof S3Failure) return error.code;
  return error instanceof Error ? error.name : "";
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3Failure ? error.status : undefined;
}

function unquoted(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "").toLowerCase();
}

export const s3Kind: StoreKind = {
  open: async (url, context) => new S3Store(url, context),
  place: (url, env) => {
    const settings = parseS3Url(url, env);
    const { bucket, prefix } = settings;
    return { server: ["s3", ...namespaceOf(settings, env), bucket], path: prefixParts(prefix) };
  },
};
