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
import { checkedBytes } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { MAX_NAME_BYTES, checkName, compareNames } from "../../contract/names.ts";
import { httpError, networkError } from "../../support/network-errors.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { MIB, cutParts, forEachParallel, releasePart } from "../../support/parts.ts";
import type { Part } from "../../support/parts.ts";
import { checkRange, resolveRange } from "../../contract/ranges.ts";
import { secretsOf } from "../../support/redact.ts";
import type { LinkedSignal } from "../../support/signals.ts";
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
} from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { Operations, expectedBytes, letGo, refuseUnsupported } from "../base/operations.ts";
import { prefixParts } from "../base/place.ts";
import { S3Failure, S3Service, namespaceOf } from "./s3-service.ts";
import type { S3Request } from "./s3-service.ts";
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

export interface S3StoreOptions {
  /** Size of the first parts of a multipart upload, in bytes; at least 5 MiB. Default 8 MiB. */
  readonly partBytes?: number | undefined;
  /** Names in one page of a listing. Default: as many as the service gives. */
  readonly pageNames?: number | undefined;
}

export class S3Store implements Store {
  readonly label: string;
  readonly capabilities: Capabilities;
  readonly #settings: S3Settings;
  readonly #context: StoreContext;
  readonly #operations: Operations;
  readonly #service: S3Service;
  readonly #partBytes: number;
  readonly #pageNames: number | undefined;
  #bucketSeenMs = Number.NEGATIVE_INFINITY;

  constructor(url: StoreUrl, context: StoreContext, options: S3StoreOptions = {}) {
    this.label = context.label;
    this.#context = context;
    this.#settings = parseS3Url(url, context.env);
    this.#operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => mapS3Error(error, this.#settings.bucket, context.runtime.now()),
      checkName: (name) => this.#checkName(name),
    });
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames;
    this.#service = new S3Service(this.#settings, context);
    this.capabilities = {
      orderedList: !this.#settings.bucket.endsWith("--x-s3"),
      conditionalPut: this.#settings.conditionalPut !== "off",
      prefixNames: true,
      maxObjectBytes: MAX_OBJECT_BYTES,
      maxNameBytes: MAX_NAME_BYTES - Buffer.byteLength(this.#settings.prefix),
      caseSensitive: true,
      storeDigests: this.#settings.etagIsMd5 ? ["md5"] : [],
    };
  }

  put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.#operations.run("put", name, options, async (link) => {
      refuseUnsupported(options);
      if (options.ifAbsent && !this.capabilities.conditionalPut) {
        throw new HoldfastError(
          "unsupported",
          "this service is not known to honour If-None-Match; if it does, say so with conditional-put=on",
        );
      }
      const plan = { partBytes: this.#partBytes, maxParts: this.#settings.maxParts, maxBytes: MAX_OBJECT_BYTES };
      const parts = cutParts(checkedBytes(body, link.signal), body.size, plan);
      try {
        const first = await parts.next();
        if (first.done) throw new HoldfastError("internal", "a body was cut into no parts");
        if (first.value.last) return await this.#putAtOnce(name, first.value, body, options, link);
        return await this.#putInParts(name, first.value, parts, options, link);
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
      let answer;
      try {
        answer = await this.#service.send({
          method: "GET",
          key: this.#key(name),
          ...(range ? { headers: { range: `bytes=${range.offset}-${last}` } } : {}),
          held: true,
          signal: link.signal,
        });
      } catch (error) {
        // Also for a range that begins at the very end, where there is nothing to send.
        if (range && statusOf(error) === 416) return this.#emptyRange(name, options, link.signal);
        throw error;
      }
      this.#bucketSeen();
      const { body: stream, headers } = answer;
      try {
        const size = range ? rangeSize(headers["content-range"], range.offset) : lengthOf(headers);
        const { start, end } = resolveRange(range, size);
        const info = this.#info(name, size, headers);
        const body = expectedBytes(stream, { size: end - start, md5: range ? undefined : info.digests?.md5 });
        return { info, body, close: async () => letGo(stream) };
      } catch (error) {
        letGo(stream);
        throw error;
      }
    });
  }

  stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#operations.run("stat", name, options, async (link) => this.#head(name, link.signal));
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const { prefix: root } = this.#settings;
    const { after } = options;
    let token: string | undefined;
    let lastName: string | undefined;
    let emptyPages = 0;
    for (;;) {
      const found = await this.#operations.run("list", undefined, options, async (link) => {
        const position: readonly (readonly [string, string])[] =
          token !== undefined
            ? [["continuation-token", token]]
            : after === undefined || !this.capabilities.orderedList
              ? []
              : [["start-after", root + after]];
        const page = await this.#service.documentOf(
          {
            method: "GET",
            query: [
              ["list-type", "2"],
              ["prefix", root + prefix],
              // XML cannot hold every character that a name can.
              ["encoding-type", "url"],
              ...(this.#pageNames === undefined ? [] : [["max-keys", String(this.#pageNames)] as const]),
              ...position,
            ],
            signal: link.signal,
          },
          "ListBucketResult",
        );
        this.#bucketSeen();
        const isEncoded = page.text("EncodingType") === "url";
        const names = page.all("Contents").flatMap((entry): ObjectInfo[] => {
          const name = this.#listedName(entry.text("Key") ?? "", isEncoded, prefix);
          if (name === undefined) return [];
          const modifiedMs = Date.parse(entry.text("LastModified") ?? "");
          const size = Number(entry.text("Size") ?? Number.NaN);
          if (!Number.isSafeInteger(size)) {
            throw new HoldfastError("unavailable", "the server did not say how long an object of its listing is");
          }
          return [{ name, size, ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }) }];
        });
        for (const { name } of names) {
          // A server that repeats itself would be listed for ever.
          if (this.capabilities.orderedList && lastName !== undefined && compareNames(lastName, name) >= 0) {
            throw new HoldfastError("corrupt", "the server's listing repeats names or is out of order");
          }
          lastName = name;
        }
        emptyPages = names.length === 0 ? emptyPages + 1 : 0;
        const isTruncated = page.text("IsTruncated") === "true";
        const next = isTruncated ? page.text("NextContinuationToken") : undefined;
        if (isTruncated && (next === undefined || next === token || emptyPages > 100)) {
          throw new HoldfastError("corrupt", "the server's listing does not come to an end");
        }
        token = next;
        return names;
      });
      yield* found;
      if (token === undefined) return;
    }
  }

  delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#operations.run("delete", name, options, async (link) => {
      try {
        await this.#service.headersOf({ method: "DELETE", key: this.#key(name), signal: link.signal });
      } catch (error) {
        if (this.#operations.mapped(error).code !== "not-found") throw error;
        return { existed: false };
      }
      this.#bucketSeen();
      return {};
    });
  }

  async sweep(options: OperationOptions = {}): Promise<void> {
    await this.abortStrayUploads({ ...options, olderThanMs: SWEEP_AFTER_MS });
  }

  async close(): Promise<void> {
    if (this.#operations.end()) this.#service.close();
  }

  /**
   * Aborts multipart uploads under this store's prefix that began more than `olderThanMs` (default: a day) ago: what
   * writers left that were killed. Their parts are in no listing but are paid for. Gives how many there were.
   */
  abortStrayUploads(options: OperationOptions & { olderThanMs?: number | undefined } = {}): Promise<number> {
    return this.#operations.run("delete", undefined, options, async (link) => {
      const { prefix } = this.#settings;
      const before = this.#context.runtime.now() - (options.olderThanMs ?? 86_400_000);
      let count = 0;
      let marker: readonly (readonly [string, string])[] | undefined = [];
      while (marker) {
        const page = await this.#service.documentOf(
          { method: "GET", query: [["uploads", ""], ["prefix", prefix], ...marker], signal: link.signal },
          "ListMultipartUploadsResult",
        );
        for (const upload of page.all("Upload")) {
          const [key, uploadId] = [upload.text("Key"), upload.text("UploadId")];
          if (key === undefined || uploadId === undefined || !key.startsWith(prefix)) continue;
          // Also false where the service did not say when.
          if (!(Date.parse(upload.text("Initiated") ?? "") <= before)) continue;
          await this.#service.headersOf({
            method: "DELETE",
            key,
            query: [["uploadId", uploadId]],
            signal: link.signal,
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
    });
  }

  async #putAtOnce(name: string, part: Part, body: Body, options: PutOptions, link: LinkedSignal): Promise<PutResult> {
    const md5 = md5Of(part);
    // A body that can be opened again is tried again by the caller; the bytes of one that cannot are still here.
    const attempts = body.reopenable || options.ifAbsent ? 1 : PART_ATTEMPTS;
    const headers = await this.#operations.attempts(attempts, link.signal, () =>
      this.#service.headersOf({
        method: "PUT",
        key: this.#key(name),
        headers: {
          ...this.#storage(),
          "content-type": CONTENT_TYPE,
          "content-md5": md5.toString("base64"),
          ...(options.ifAbsent ? { "if-none-match": "*" } : {}),
        },
        body: part.chunks,
        md5Comes: this.#settings.etagIsMd5,
        signal: link.signal,
      }),
    );
    this.#bucketSeen();
    this.#compareETag(headers, md5.toString("hex"));
    return { size: part.size };
  }

  async #putInParts(
    name: string,
    first: Part,
    rest: AsyncGenerator<Part>,
    options: PutOptions,
    link: LinkedSignal,
  ): Promise<PutResult> {
    if (options.ifAbsent && this.#settings.conditionalPut !== "on") {
      throw new HoldfastError(
        "unsupported",
        `this service decides If-None-Match only for objects of at most ${this.#partBytes} bytes`,
      );
    }
    // Not given the signal: an upload that was begun but whose id was never heard could not be aborted.
    const begun = this.#beginUpload(name, this.#operations.closing);
    const uploadId = await this.#operations.unlessAborted(begun, link.signal, (late) => this.#abortUpload(name, late));
    try {
      const done: { number: number; etag: string; md5: Buffer }[] = [];
      let size = 0;
      const parts = async function* (): AsyncGenerator<Part> {
        yield first;
        yield* rest;
      };
      await forEachParallel(
        parts(),
        (part) => Math.max(1, Math.min(PARALLEL_PARTS, Math.floor(IN_FLIGHT_BYTES / part.size))),
        async (part) => {
          size += part.size;
          done.push(await this.#uploadPart(name, uploadId, part, link.signal));
          releasePart(part);
        },
        (error) => link.abort(this.#operations.mapped(error)),
      );
      done.sort((a, b) => a.number - b.number);
      const md5 = createHash("md5");
      for (const part of done) md5.update(part.md5);
      await this.#complete(name, uploadId, done, `${md5.digest("hex")}-${done.length}`, options, link.signal);
      this.#bucketSeen();
      return { size };
    } catch (error) {
      await this.#abortUpload(name, uploadId);
      throw error;
    }
  }

  async #beginUpload(name: string, signal: AbortSignal): Promise<string> {
    const begun = await this.#service.documentOf(
      {
        method: "POST",
        key: this.#key(name),
        query: [["uploads", ""]],
        headers: { ...this.#storage(), "content-type": CONTENT_TYPE },
        signal,
      },
      "InitiateMultipartUploadResult",
    );
    const uploadId = begun.text("UploadId");
    if (!uploadId) throw new HoldfastError("unavailable", "the server began an upload without an id");
    return uploadId;
  }

  async #uploadPart(
    name: string,
    uploadId: string,
    part: Part,
    signal: AbortSignal,
  ): Promise<{ number: number; etag: string; md5: Buffer }> {
    const md5 = md5Of(part);
    const headers = await this.#operations.attempts(PART_ATTEMPTS, signal, () =>
      this.#service.headersOf({
        method: "PUT",
        key: this.#key(name),
        query: [
          ["partNumber", String(part.number)],
          ["uploadId", uploadId],
        ],
        headers: { "content-type": CONTENT_TYPE, "content-md5": md5.toString("base64") },
        body: part.chunks,
        md5Comes: this.#settings.etagIsMd5,
        signal,
      }),
    );
    this.#compareETag(headers, md5.toString("hex"));
    return { number: part.number, etag: headers["etag"] ?? "", md5 };
  }

  async #complete(
    name: string,
    uploadId: string,
    parts: readonly { number: number; etag: string }[],
    wantedETag: string,
    options: PutOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const list = parts
      .map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${escapeXml(etag)}</ETag></Part>`)
      .join("");
    const text = `<CompleteMultipartUpload xmlns="${XML_NAMESPACE}">${list}</CompleteMultipartUpload>`;
    const request: S3Request = {
      method: "POST",
      key: this.#key(name),
      query: [["uploadId", uploadId]],
      headers: { "content-type": "application/xml", ...(options.ifAbsent ? { "if-none-match": "*" } : {}) },
      body: [Buffer.from(text)],
      signal,
    };
    let asked = 0;
    await this.#operations.attempts(PART_ATTEMPTS, signal, async () => {
      asked++;
      try {
        await this.#service.documentOf(request, "CompleteMultipartUploadResult");
      } catch (error) {
        // The answer to an earlier attempt was lost: the upload is gone because it is the object now.
        if (asked === 1 || nameOf(error) !== "NoSuchUpload") throw error;
        const head = await this.#service.headersOf({ method: "HEAD", key: this.#key(name), signal });
        if (unquoted(head["etag"]) !== wantedETag) throw error;
      }
    });
  }

  /**
   * Aborts an upload, again when that fails or when a part that was still on its way came in behind it. What cannot be
   * aborted is left to `abortStrayUploads`.
   */
  async #abortUpload(name: string, uploadId: string): Promise<void> {
    await this.#operations.cleanUp("s3.upload-left-behind", name, async (signal) => {
      const upload = { key: this.#key(name), query: [["uploadId", uploadId] as const], signal };
      try {
        await this.#service.headersOf({ ...upload, method: "DELETE" });
        await this.#service.headersOf({ ...upload, method: "GET" });
      } catch (error) {
        if (nameOf(error) === "NoSuchUpload" || statusOf(error) === 404) return;
        throw error;
      }
      throw new HoldfastError("unavailable", "the upload is still there after it was aborted");
    });
  }

  async #head(name: string, signal: AbortSignal): Promise<ObjectInfo> {
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

  async #emptyRange(name: string, options: GetOptions, signal: AbortSignal): Promise<GetResult> {
    const info = await this.#head(name, signal);
    const { start, end } = resolveRange(options.range, info.size);
    if (end > start) throw new HoldfastError("unavailable", "the object changed while it was read");
    return { info, body: (async function* () {})(), close: async () => undefined };
  }

  async #checkBucket(signal: AbortSignal): Promise<void> {
    const { runtime } = this.#context;
    if (runtime.monotonicMs() - this.#bucketSeenMs < BUCKET_KNOWN_MS) return;
    try {
      await this.#service.headersOf({ method: "HEAD", signal });
    } catch (error) {
      if (statusOf(error) === 404) throw noBucket(this.#settings.bucket, error);
      // A key that may not ask about the bucket says nothing about the object: its own answer stands.
      if (this.#operations.mapped(error).code !== "denied") throw error;
    }
    this.#bucketSeen();
  }

  #bucketSeen(): void {
    this.#bucketSeenMs = this.#context.runtime.monotonicMs();
  }

  #key(name: string): string {
    return this.#settings.prefix + name;
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
    const modifiedMs = Date.parse(headers["last-modified"] ?? "");
    const md5 = this.#md5Of(headers);
    return {
      name,
      size,
      ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
      ...(md5 === undefined ? {} : { digests: { md5 } }),
    };
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

  /** A name from a listing; undefined for what no caller can have put. */
  #listedName(key: string, encoded: boolean, prefix: string): string | undefined {
    const { prefix: root } = this.#settings;
    try {
      const decoded = encoded ? decodeURIComponent(key.replaceAll("+", "%20")) : key;
      if (!decoded.startsWith(root + prefix)) {
        throw new HoldfastError("corrupt", "the server's listing holds names that were not asked for");
      }
      const name = decoded.slice(root.length);
      // The folder mark that consoles put: the prefix itself, as an object.
      if (name === "") return undefined;
      checkName(name);
      return name;
    } catch (error) {
      if (isHoldfastError(error, "corrupt")) throw error;
      this.#context.logger.warn("s3.unusable-name", { store: this.label, key: JSON.stringify(key) });
      return undefined;
    }
  }

  #checkName(name: string): void {
    const { maxNameBytes } = this.capabilities;
    if (Buffer.byteLength(name) > maxNameBytes) {
      throw new HoldfastError("invalid", `the name is too long: at most ${maxNameBytes} bytes fit behind the prefix`);
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

/** Throws where the service did not say how long an object is. */
function lengthOf(headers: Headers): number {
  const length = headers["content-length"];
  if (length !== undefined && /^\d+$/u.test(length)) return Number(length);
  throw new HoldfastError("unavailable", "the server did not say how long the object is");
}

function md5Of(part: Part): Buffer {
  const hash = createHash("md5");
  for (const chunk of part.chunks) hash.update(chunk);
  return hash.digest();
}

function unquoted(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "").toLowerCase();
}

/** The object's size from `Content-Range: bytes 0-9/100`. Throws where the server sent something else than was asked. */
function rangeSize(header: string | undefined, offset: number): number {
  const match = /^bytes (\d+)-\d+\/(\d+)$/u.exec(header ?? "");
  if (!match || Number(match[1]) !== offset) {
    throw new HoldfastError("unavailable", "the server did not send the range that was asked for", {
      retryable: false,
    });
  }
  return Number(match[2]);
}

export const s3Kind: StoreKind = {
  open: async (url, context) => new S3Store(url, context),
  place: (url, env) => {
    const settings = parseS3Url(url, env);
    const { bucket, prefix } = settings;
    return { server: ["s3", ...namespaceOf(settings, env), bucket], path: prefixParts(prefix) };
  },
};
