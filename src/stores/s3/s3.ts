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
import type { StoreUrl } from "../../contract/store-url.ts";
import type { ByteRange, ObjectInfo, OperationOptions } from "../../contract/store.ts";
import { MIB } from "../../support/parts.ts";
import type { Part, PartPlan } from "../../support/parts.ts";
import { secretsOf } from "../../support/redact.ts";
import { escapeXml } from "../../support/xml.ts";
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
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { mapS3Error, nameOf, noBucket, statusOf } from "./s3-error.ts";
import { S3Service, namespaceOf } from "./s3-service.ts";
import { parseS3Url } from "./s3-settings.ts";
import type { S3Settings } from "./s3-settings.ts";

/** 5 TiB. */
const MAX_OBJECT_BYTES = 5 * 1024 ** 4;
/** What parts in flight may hold together, in bytes. One part is always allowed. */
const IN_FLIGHT_BYTES = 64 * MIB;
const PARALLEL_PARTS = 4;
const PART_ATTEMPTS = 3;
const CONTENT_TYPE = "application/octet-stream";
const XML_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";
/** An upload that began so long ago is swept. One that is still under way after that would be lost. */
const SWEEP_AFTER_MS = 7 * 24 * 60 * 60 * 1000;
/** A bucket that has answered is believed to exist for this long, in milliseconds. */
const BUCKET_KNOWN_MS = 60_000;
type Headers = Readonly<Record<string, string>>;

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
