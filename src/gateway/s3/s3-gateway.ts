/**
 * The S3 protocol in front of a pool.
 *
 * A bucket is the first part of an object's name (`photos/2024/a.jpg` is the key `2024/a.jpg` of the bucket `photos`), or
 * the whole pool is one bucket. Either way an object's name on the stores is what a person would look for.
 */
import { Buffer } from "node:buffer";
import type { OutgoingHttpHeaders } from "node:http";
import { createHash } from "node:crypto";
import { HoldfastError, isHoldfastError } from "../../errors.ts";
import { compareNames, isReserved } from "../../names.ts";
import type { PoolObjectInfo } from "../../pool.ts";
import type { Body, ObjectInfo, ObjectMetadata, PutResult } from "../../store.ts";
import { toBody } from "../../body.ts";
import { encodePath, percentEncode } from "../../signature-v4.ts";
import { escapeXml } from "../../xml.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange, Gateway } from "../http-server.ts";
import {
  checkConditions,
  conditionsOf,
  hasBody,
  parseQuery,
  parseRange,
  percentDecode,
  readSmall,
  send,
  sendStream,
} from "../http-tools.ts";
import type { Validators } from "../http-tools.ts";
import { position } from "../listing.ts";
import { FOLDER_MARKER, checkClientName, etagOf, isFolderMarker, isUnknown, keptHeaders } from "../object-facts.ts";
import { spooled } from "../spooled.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { checksumAlgorithm, checksumAlgorithms, createChecksum } from "./checksums.ts";
import { takeObject } from "./incoming-object.ts";
import type { IncomingObject } from "./incoming-object.ts";
import { Replays } from "./replays.ts";
import { S3Error, toS3Error } from "./s3-error.ts";
import type { Authenticated } from "./signature.ts";
import { MAX_SKEW_MS, authenticate } from "./signature.ts";
import { MAX_PART_NUMBER } from "./uploads.ts";
import type { PartFacts, Upload, Uploads } from "./uploads.ts";
import { parseXml, tag, xmlDocument } from "./xml.ts";

/** Largest body of one PUT: S3's own limit, 5 GiB. */
const MAX_PUT_BYTES = 5 * 1024 ** 3;
/** Smallest part but the last: S3's own limit, 5 MiB. */
const MIN_PART_BYTES = 5 * 1024 ** 2;
/** Longest XML body: 1,000 keys of 1,024 bytes, or 10,000 parts. */
const MAX_XML_BYTES = 4 * 1024 ** 2;
/** S3's limit for user metadata, names and values together. */
const MAX_USER_METADATA_BYTES = 2048;
const MAX_KEYS = 1000;
/** An existing bucket is believed to be there for this long, in milliseconds. */
const BUCKET_KNOWN_MS = 10_000;
/** Completing an upload or copying sends a space each time this has passed, so that nobody thinks the line is dead. */
const KEEP_ALIVE_MS = 10_000;
const OWNER = tag("ID", "holdfast") + tag("DisplayName", "holdfast");

export interface S3GatewayOptions {
  /** The one bucket that is the whole pool. Default: buckets are the first parts of names. */
  readonly bucket?: string | undefined;
  readonly uploads: Uploads;
}

interface Call {
  readonly exchange: Exchange;
  readonly auth: Authenticated;
  readonly query: ReadonlyMap<string, string>;
  readonly bucket: string;
  readonly key: string;
}

export function createS3Gateway(context: GatewayContext, options: S3GatewayOptions): Gateway {
  return new S3Gateway(context, options);
}

class S3Gateway implements Gateway {
  readonly protocol = "s3";
  readonly #context: GatewayContext;
  readonly #fixed: string | undefined;
  readonly #uploads: Uploads;
  readonly #replays = new Replays(2 * MAX_SKEW_MS);
  /** Bucket → until when it is believed to be there. */
  readonly #buckets = new Map<string, number>();
  /** Uploads completed a short while ago, for clients that lost the answer. */
  readonly #completed = new Map<string, { readonly etag: string; readonly bucket: string; readonly key: string }>();

  constructor(context: GatewayContext, options: S3GatewayOptions) {
    this.#context = context;
    this.#fixed = options.bucket;
    this.#uploads = options.uploads;
  }

  async handle(exchange: Exchange): Promise<void> {
    const auth = authenticate(
      {
        method: exchange.method,
        rawPath: exchange.rawPath,
        rawQuery: exchange.rawQuery,
        headers: exchange.request.headersDistinct,
      },
      this.#context.credentials,
      this.#context.runtime.now(),
    );
    if (auth.credential) exchange.fields["user"] = auth.credential.user;
    exchange.response.setHeader("x-amz-request-id", exchange.id);
    if (exchange.method !== "GET" && exchange.method !== "HEAD") {
      if (auth.credential?.readOnly) throw new S3Error("AccessDenied", "this access key may only read");
      if (auth.signature !== undefined && !this.#replays.admit(auth.signature, this.#context.runtime.now())) {
        throw new S3Error("AccessDenied", "this very request was made before");
      }
    }
    const slash = exchange.rawPath.indexOf("/", 1);
    const rawBucket = slash === -1 ? exchange.rawPath.slice(1) : exchange.rawPath.slice(1, slash);
    const call: Call = {
      exchange,
      auth,
      query: new Map(parseQuery(exchange.rawQuery)),
      bucket: decodeUri(rawBucket),
      key: slash === -1 ? "" : decodeUri(exchange.rawPath.slice(slash + 1)),
    };
    // A body that nothing is done with must still be the signed one.
    if (["GET", "HEAD", "DELETE"].includes(exchange.method) && hasBody(exchange)) await takeWhole(call);
    if (!exchange.rawPath.startsWith("/")) throw new S3Error("InvalidURI", "the path must begin with a slash");
    if (call.bucket === "") await this.#service(call);
    else if (call.key === "") await this.#bucket(call);
    else await this.#object(call);
  }

  fail(exchange: Exchange, error: unknown): void {
    const problem = toS3Error(error);
    exchange.fields["code"] = problem.s3Code;
    const headers: OutgoingHttpHeaders = { "Content-Type": "application/xml", "x-amz-request-id": exchange.id };
    if (isHoldfastError(problem.cause) && problem.cause.retryAfterMs !== undefined) {
      headers["Retry-After"] = Math.ceil(problem.cause.retryAfterMs / 1000);
    }
    const text =
      `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${errorTags(problem)}` +
      `${tag("Resource", exchange.rawPath)}${tag("RequestId", exchange.id)}</Error>`;
    send(exchange, problem.status, headers, text);
  }

  // ---- the service and buckets

  async #service(call: Call): Promise<void> {
    if (call.exchange.method !== "GET" && call.exchange.method !== "HEAD") throw notAllowed();
    const { signal } = call.exchange;
    const buckets = new Map<string, number>();
    if (this.#fixed === undefined) {
      for (const info of await this.#context.listings.entries("", false, { signal })) {
        const slash = info.name.indexOf("/");
        const bucket = info.name.slice(0, slash);
        if (slash < 1 || isReserved(info.name)) continue;
        const madeMs = info.modifiedMs ?? 0;
        buckets.set(bucket, Math.min(buckets.get(bucket) ?? madeMs, madeMs));
      }
    } else buckets.set(this.#fixed, 0);
    const list = [...buckets]
      .sort((a, b) => compareNames(a[0], b[0]))
      .map(([name, madeMs]) => `<Bucket>${tag("Name", name)}${tag("CreationDate", isoDate(madeMs))}</Bucket>`)
      .join("");
    sendXml(call.exchange, "ListAllMyBucketsResult", `<Owner>${OWNER}</Owner><Buckets>${list}</Buckets>`);
  }

  async #bucket(call: Call): Promise<void> {
    const { exchange, bucket, query } = call;
    switch (exchange.method) {
      case "HEAD":
        await this.#requireBucket(call);
        send(exchange, 200, { "x-amz-bucket-region": "us-east-1", "Content-Type": "application/xml" });
        return;
      case "PUT":
        if (query.has("acl")) return this.#putAcl(call);
        refuseSubresources(query, []);
        return this.#createBucket(call);
      case "DELETE":
        refuseSubresources(query, []);
        return this.#deleteBucket(call);
      case "POST":
        if (query.has("delete")) return this.#deleteObjects(call);
        refuseSubresources(query, []);
        throw new S3Error("NotImplemented", "uploads by HTML forms are not supported");
      case "GET":
        break;
      default:
        throw notAllowed();
    }
    await this.#requireBucket(call);
    for (const [name, code] of absentSettings) {
      if (query.has(name)) throw new S3Error(code, `the bucket ${bucket} has no ${name}`);
    }
    if (query.has("location")) return sendXml(exchange, "LocationConstraint", "");
    if (query.has("versioning")) return sendXml(exchange, "VersioningConfiguration", "");
    if (query.has("acl")) return sendXml(exchange, "AccessControlPolicy", aclXml());
    if (query.has("requestPayment")) {
      return sendXml(exchange, "RequestPaymentConfiguration", tag("Payer", "BucketOwner"));
    }
    if (query.has("uploads")) return this.#listUploads(call);
    refuseSubresources(query, ["versions"]);
    if (query.has("versions")) return this.#listVersions(call);
    if (query.get("list-type") === "2") return this.#listV2(call);
    return this.#listV1(call);
  }

  #prefixOf(bucket: string): string {
    return this.#fixed === undefined ? `${bucket}/` : "";
  }

  async #requireBucket(call: Call): Promise<void> {
    if (!(await this.#bucketExists(call.bucket, call.exchange.signal))) {
      throw new S3Error("NoSuchBucket", `there is no bucket ${call.bucket}`);
    }
  }

  async #bucketExists(bucket: string, signal: AbortSignal): Promise<boolean> {
    if (this.#fixed !== undefined) return bucket === this.#fixed;
    if (isReserved(bucket) || bucket.includes("/")) return false;
    const now = this.#context.runtime.monotonicMs();
    if ((this.#buckets.get(bucket) ?? 0) > now) return true;
    for await (const _ of this.#context.store.list(`${bucket}/`, { signal })) {
      if (this.#buckets.size > 1000) this.#buckets.clear();
      this.#buckets.set(bucket, now + BUCKET_KNOWN_MS);
      return true;
    }
    return false;
  }

  async #createBucket(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    const body = await takeWhole(call);
    if (body.length > 0) parseXml(body, "CreateBucketConfiguration");
    if (this.#fixed !== undefined) {
      if (bucket !== this.#fixed) throw new S3Error("AccessDenied", `this gateway has the one bucket ${this.#fixed}`);
    } else {
      if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/u.test(bucket) || /\.\.|^\d+\.\d+\.\d+\.\d+$/u.test(bucket)) {
        throw new S3Error(
          "InvalidBucketName",
          "a bucket's name has 3 to 63 lower-case letters, digits, dots and dashes",
        );
      }
      const name = `${bucket}/${FOLDER_MARKER}`;
      await this.#context.locks.run(name, async () => {
        if (await this.#bucketExists(bucket, exchange.signal)) return;
        const result = await this.#context.store.put(name, toBody(""), { signal: exchange.signal });
        noteWrite(this.#context, exchange, name, result);
      });
    }
    send(exchange, 200, { Location: `/${percentEncode(bucket)}` });
  }

  async #deleteBucket(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    await this.#requireBucket(call);
    if (this.#fixed !== undefined) throw new S3Error("AccessDenied", "the bucket is the pool itself");
    const marker = `${bucket}/${FOLDER_MARKER}`;
    await this.#context.locks.run(marker, async () => {
      for (const info of await this.#context.listings.entries(`${bucket}/`, false, { signal: exchange.signal })) {
        if (info.name !== marker) throw new S3Error("BucketNotEmpty", `the bucket ${bucket} is not empty`);
      }
      this.#buckets.delete(bucket);
      noteWrite(this.#context, exchange, marker, await this.#context.store.delete(marker, { signal: exchange.signal }));
    });
    for (const upload of await this.#uploads.list(bucket)) await this.#uploads.abort(upload);
    send(exchange, 204);
  }

  async #putAcl(call: Call): Promise<void> {
    const { exchange } = call;
    await this.#requireBucket(call);
    await takeWhole(call);
    checkAcl(exchange);
    send(exchange, 200);
  }

  // ---- listings

  /** Keys of a bucket in order, folders among them. */
  async #entries(call: Call, prefix: string, goOn: boolean): Promise<Entry[]> {
    const root = this.#prefixOf(call.bucket);
    const infos = await this.#context.listings.entries(root + prefix, goOn, { signal: call.exchange.signal });
    const entries: Entry[] = [];
    let unordered = false;
    for (const info of infos) {
      if (isReserved(info.name)) continue;
      let name = info.name.slice(root.length);
      if (isFolderMarker(name)) {
        name = name.slice(0, -FOLDER_MARKER.length);
        // A folder's object does not stand where its key belongs in the order.
        unordered = true;
      }
      if (name !== "" && name.startsWith(prefix)) entries.push({ name, info });
    }
    if (unordered) entries.sort((a, b) => compareNames(a.name, b.name));
    return entries;
  }

  /** One page: at most `max` keys and common prefixes behind `after`. */
  async #page(call: Call, prefix: string, delimiter: string, after: string, max: number): Promise<Page> {
    const page: Page = { contents: [], prefixes: [], last: "", truncated: false };
    const entries = await this.#entries(call, prefix, after !== "");
    // The common prefix that the page before ended with, or ended in.
    const afterCut = delimiter === "" ? -1 : after.indexOf(delimiter, prefix.length);
    let common = afterCut === -1 ? undefined : after.slice(0, afterCut + delimiter.length);
    for (let at = after === "" ? 0 : position(entries, after); at < entries.length; at++) {
      const entry = entries[at];
      if (!entry || entry.name === after) continue;
      if (common !== undefined && entry.name.startsWith(common)) continue;
      if (page.contents.length + page.prefixes.length >= max) {
        page.truncated = max > 0;
        break;
      }
      const cut = delimiter === "" ? -1 : entry.name.indexOf(delimiter, prefix.length);
      if (cut === -1) {
        page.contents.push(entry);
        page.last = entry.name;
      } else {
        common = entry.name.slice(0, cut + delimiter.length);
        page.prefixes.push(common);
        page.last = common;
      }
    }
    return page;
  }

  async #listV2(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const token = query.get("continuation-token");
    const startAfter = query.get("start-after");
    const after = token === undefined ? (startAfter ?? "") : decodeToken(token);
    const page = await this.#page(call, prefix, delimiter, after, max);
    const owner = query.get("fetch-owner") === "true";
    sendXml(
      exchange,
      "ListBucketResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("MaxKeys", max) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("KeyCount", page.contents.length + page.prefixes.length) +
        tag("IsTruncated", page.truncated) +
        tag("ContinuationToken", token) +
        (page.truncated ? tag("NextContinuationToken", encodeToken(page.last)) : "") +
        (startAfter === undefined ? "" : tag("StartAfter", encode(startAfter))) +
        contentsXml(page, encode, owner),
    );
  }

  async #listV1(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const marker = query.get("marker") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const page = await this.#page(call, prefix, delimiter, marker, max);
    sendXml(
      exchange,
      "ListBucketResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        tag("Marker", encode(marker)) +
        tag("MaxKeys", max) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", page.truncated) +
        (page.truncated && delimiter !== "" ? tag("NextMarker", encode(page.last)) : "") +
        contentsXml(page, encode, true),
    );
  }

  async #listVersions(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const marker = query.get("key-marker") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const page = await this.#page(call, prefix, delimiter, marker, max);
    const versions = page.contents
      .map(
        ({ name, info }) =>
          `<Version>${tag("Key", encode(name))}${tag("VersionId", "null")}${tag("IsLatest", true)}` +
          `${tag("LastModified", isoDate(info.modifiedMs ?? 0))}${tag("ETag", `"${etagOf(info)}"`)}` +
          `${tag("Size", info.size)}<Owner>${OWNER}</Owner>${tag("StorageClass", "STANDARD")}</Version>`,
      )
      .join("");
    sendXml(
      exchange,
      "ListVersionsResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        tag("KeyMarker", encode(marker)) +
        tag("VersionIdMarker", query.get("version-id-marker") ?? "") +
        (page.truncated ? tag("NextKeyMarker", encode(page.last)) + tag("NextVersionIdMarker", "null") : "") +
        tag("MaxKeys", max) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", page.truncated) +
        versions +
        prefixesXml(page.prefixes, encode),
    );
  }

  // ---- objects

  async #object(call: Call): Promise<void> {
    const { exchange, query, key, bucket } = call;
    const version = query.get("versionId");
    if (version !== undefined && version !== "null")
      throw new S3Error("NoSuchVersion", "objects have one version, null");
    if (Buffer.byteLength(key) > 1024) throw new S3Error("KeyTooLongError", "a key has at most 1,024 bytes");
    checkClientName(this.#prefixOf(bucket) + key);
    const uploadId = query.get("uploadId");
    switch (exchange.method) {
      case "GET":
        if (uploadId !== undefined) return this.#listParts(call, uploadId);
        if (query.has("acl")) {
          await this.#stat(call);
          return sendXml(exchange, "AccessControlPolicy", aclXml());
        }
        if (query.has("tagging")) {
          await this.#stat(call);
          return sendXml(exchange, "Tagging", "<TagSet></TagSet>");
        }
        refuseSubresources(query, []);
        return this.#get(call);
      case "HEAD":
        return this.#get(call);
      case "PUT":
        if (uploadId !== undefined) return this.#putPart(call, uploadId);
        if (query.has("acl")) {
          await this.#stat(call);
          return this.#putAcl(call);
        }
        refuseSubresources(query, []);
        if (exchange.request.headers["x-amz-copy-source"] !== undefined) return this.#copy(call);
        return this.#put(call);
      case "DELETE":
        if (uploadId !== undefined) {
          await this.#requireBucket(call);
          await this.#uploads.abort(await this.#uploads.find(uploadId, bucket, key));
          return send(exchange, 204);
        }
        refuseSubresources(query, []);
        return this.#delete(call);
      case "POST":
        if (query.has("uploads")) return this.#createUpload(call);
        if (uploadId !== undefined) return this.#completeUpload(call, uploadId);
        refuseSubresources(query, []);
        throw new S3Error("MethodNotAllowed", "objects take no POST");
      default:
        throw notAllowed();
    }
  }

  #name(bucket: string, key: string): string {
    return this.#prefixOf(bucket) + (key.endsWith("/") ? key + FOLDER_MARKER : key);
  }

  async #stat(call: Call, bucket = call.bucket, key = call.key): Promise<PoolObjectInfo> {
    return this.#named(bucket, key, call.exchange.signal, (name) =>
      this.#context.store.stat(name, { signal: call.exchange.signal }),
    );
  }

  /** Tells a missing bucket from a missing key. */
  async #named<T>(bucket: string, key: string, signal: AbortSignal, work: (name: string) => Promise<T>): Promise<T> {
    try {
      if (this.#fixed !== undefined && bucket !== this.#fixed)
        throw new S3Error("NoSuchBucket", `there is no bucket ${bucket}`);
      return await work(this.#name(bucket, key));
    } catch (error) {
      if (!isHoldfastError(error, "not-found") || error instanceof S3Error) throw error;
      if (!(await this.#bucketExists(bucket, signal)))
        throw new S3Error("NoSuchBucket", `there is no bucket ${bucket}`, error);
      throw new S3Error("NoSuchKey", "the key does not exist", error);
    }
  }

  async #get(call: Call): Promise<void> {
    const { exchange, query } = call;
    const { request } = exchange;
    const info = await this.#stat(call);
    const etag = `"${etagOf(info)}"`;
    const headers: OutgoingHttpHeaders = objectHeaders(info, etag);
    if (request.headers["x-amz-checksum-mode"]?.toString().toUpperCase() === "ENABLED") {
      for (const [name, value] of Object.entries(info.metadata ?? {})) {
        if (name.startsWith("x-amz-checksum-")) headers[name] = value;
      }
    }
    for (const [name, value] of query) {
      const header =
        /^response-(content-type|content-language|expires|cache-control|content-disposition|content-encoding)$/u.exec(
          name,
        )?.[1];
      if (header !== undefined && !/[\r\n\0]/u.test(value)) headers[header] = value;
    }
    const decision = checkConditions(conditionsOf(exchange), { etag, modifiedMs: info.modifiedMs }, true);
    if (decision === 412) throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
    if (decision === 304) {
      send(exchange, 304, { ETag: etag, "Last-Modified": headers["last-modified"] });
      return;
    }
    const ifRange = request.headers["if-range"];
    const wanted = ifRange === undefined || ifRange === etag || ifRange === headers["last-modified"];
    const range = wanted ? parseRange(request.headers.range, info.size) : "whole";
    if (range === "unsatisfiable") {
      exchange.response.setHeader("Content-Range", `bytes */${info.size}`);
      throw new S3Error("InvalidRange", "the range lies behind the end of the object");
    }
    const status = range === "whole" ? 200 : 206;
    if (range === "whole") headers["content-length"] = info.size;
    else {
      headers["content-length"] = range.length;
      headers["content-range"] = `bytes ${range.offset}-${range.offset + range.length - 1}/${info.size}`;
      // A checksum of the whole does not describe a range.
      for (const name of Object.keys(headers)) if (name.startsWith("x-amz-checksum-")) delete headers[name];
    }
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(status, headers).end();
      return;
    }
    const result = await this.#named(call.bucket, call.key, exchange.signal, (name) =>
      this.#context.store.get(name, { signal: exchange.signal, ...(range === "whole" ? {} : { range }) }),
    );
    try {
      // Headers of one version must not stand before the bytes of another.
      if (result.info.size !== info.size || etagOf(result.info) !== etagOf(info)) {
        throw new HoldfastError("unavailable", "the object was replaced while it was being read; try again");
      }
      await sendStream(exchange, status, headers, result.body);
    } finally {
      await result.close();
    }
  }

  async #put(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await this.#requireBucket(call).catch((error: unknown) => {
      // With a store down it may not be known. A write is owed to that store, not refused because of it.
      if (!isUnknown(error)) throw error;
    });
    checkAcl(exchange);
    const metadata = requestMetadata(exchange);
    const name = this.#name(bucket, key);
    await this.#whileConditionsHold(call, name, async () => {
      const incoming = await takeObject(exchange, call.auth.payload, MAX_PUT_BYTES);
      const result = await this.#store(exchange, name, incoming, () => ({
        ...metadata,
        md5: incoming.md5(),
        ...checksumMetadata(incoming),
      }));
      const headers: OutgoingHttpHeaders = { ETag: `"${incoming.md5()}"`, ...checksumMetadata(incoming) };
      exchange.fields["bytes"] = result.size;
      send(exchange, 200, headers);
    });
  }

  /** Puts what a client sends; where its body is at fault, that is the error. */
  async #store(
    exchange: Exchange,
    name: string,
    incoming: IncomingObject,
    metadata: () => ObjectMetadata,
  ): Promise<PutResult> {
    try {
      const result = await this.#context.store.put(name, incoming.body, { signal: exchange.signal, metadata });
      noteWrite(this.#context, exchange, name, result);
      return result;
    } catch (error) {
      const problem = incoming.problem();
      throw problem === undefined ? error : problem;
    }
  }

  /** Runs `work` if If-Match and If-None-Match hold; with a condition nobody else writes the object meanwhile. */
  async #whileConditionsHold(call: Call, name: string, work: () => Promise<void>): Promise<void> {
    const { exchange } = call;
    const { ifMatch, ifNoneMatch } = conditionsOf(exchange);
    if (ifMatch === undefined && ifNoneMatch === undefined) return work();
    await this.#context.locks.run(name, async () => {
      const target = await this.#validators(name, exchange.signal);
      if (ifMatch !== undefined && target === undefined) throw new S3Error("NoSuchKey", "the key does not exist");
      if (checkConditions({ ifMatch, ifNoneMatch }, target, false) !== "go") {
        throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
      }
      await work();
    });
  }

  async #validators(name: string, signal: AbortSignal): Promise<Validators | undefined> {
    try {
      const info = await this.#context.store.stat(name, { signal });
      return { etag: `"${etagOf(info)}"`, modifiedMs: info.modifiedMs };
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    }
  }

  async #copy(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await takeWhole(call);
    await this.#requireBucket(call);
    checkAcl(exchange);
    const source = copySource(exchange);
    const info = await this.#sourceInfo(call, source);
    const from = this.#name(source.bucket, source.key);
    const to = this.#name(bucket, key);
    const replace = exchange.request.headers["x-amz-metadata-directive"]?.toString().toUpperCase() === "REPLACE";
    if (from === to && !replace) {
      throw new S3Error("InvalidRequest", "an object is copied onto itself only to replace its metadata");
    }
    const own = requestMetadata(exchange);
    const kept = Object.entries(info.metadata ?? {}).filter(
      ([name]) => !replace || name === "md5" || name === "etag" || name.startsWith("x-amz-checksum-"),
    );
    const metadata = replace ? { ...Object.fromEntries(kept), ...own } : Object.fromEntries(kept);
    await this.#whileConditionsHold(call, to, async () => {
      const result = await this.#context.store.get(from, { signal: exchange.signal });
      let etag = "";
      await withKeepAlive(exchange, "CopyObjectResult", async () => {
        try {
          if (etagOf(result.info) !== etagOf(info)) {
            throw new HoldfastError("unavailable", "the source was replaced while it was being copied; try again");
          }
          const hash = createHash("md5");
          const known = metadata["md5"] ?? metadata["etag"];
          const hashed = async function* (): AsyncGenerator<Uint8Array> {
            for await (const chunk of result.body) {
              if (known === undefined) hash.update(chunk);
              yield chunk;
            }
          };
          const put = async (body: Body): Promise<void> => {
            const done = await this.#context.store.put(to, body, {
              signal: exchange.signal,
              metadata: () => {
                etag = known ?? hash.digest("hex");
                return known === undefined ? { ...metadata, md5: etag } : metadata;
              },
            });
            noteWrite(this.#context, exchange, to, done);
          };
          const body = toBody(hashed(), { size: result.info.size });
          // An object must not be read while it is being replaced.
          if (from === to) await spooled(body, exchange.signal, put);
          else await put(body);
        } finally {
          await result.close();
        }
        return tag("LastModified", isoDate(this.#context.runtime.now())) + tag("ETag", `"${etag}"`);
      });
    });
  }

  async #sourceInfo(call: Call, source: { bucket: string; key: string }): Promise<PoolObjectInfo> {
    checkClientName(this.#prefixOf(source.bucket) + source.key);
    const info = await this.#stat(call, source.bucket, source.key);
    const conditions = conditionsOf(call.exchange, "x-amz-copy-source-");
    const target = { etag: `"${etagOf(info)}"`, modifiedMs: info.modifiedMs };
    if (checkConditions(conditions, target, true) !== "go") {
      throw new S3Error("PreconditionFailed", "a condition on the source does not hold");
    }
    return info;
  }

  async #delete(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await this.#requireBucket(call);
    const name = this.#name(bucket, key);
    await this.#whileConditionsHold(call, name, async () => {
      noteWrite(this.#context, exchange, name, await this.#context.store.delete(name, { signal: exchange.signal }));
      send(exchange, 204);
    });
  }

  async #deleteObjects(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    const document = parseXml(await takeWhole(call), "Delete");
    await this.#requireBucket(call);
    const objects = document.all("Object");
    const quiet = document.text("Quiet") === "true";
    if (objects.length === 0 || objects.length > 1000) {
      throw new S3Error("MalformedXML", "from 1 to 1,000 objects are deleted at a time");
    }
    const keys = objects.map((object) => {
      const key = object.text("Key");
      const version = object.text("VersionId");
      if (key === undefined || key === "") throw new S3Error("MalformedXML", "an object without a key");
      return { key, version };
    });
    const results: string[] = keys.map(() => "");
    const one = async (index: number): Promise<void> => {
      const { key, version } = keys[index] ?? { key: "" };
      try {
        if (version !== undefined && version !== "null")
          throw new S3Error("NoSuchVersion", "objects have one version, null");
        checkClientName(this.#prefixOf(bucket) + key);
        const name = this.#name(bucket, key);
        noteWrite(this.#context, exchange, name, await this.#context.store.delete(name, { signal: exchange.signal }));
        const versionTag = tag("VersionId", version);
        results[index] = quiet ? "" : `<Deleted>${tag("Key", key)}${versionTag}</Deleted>`;
      } catch (error) {
        results[index] = `<Error>${tag("Key", key)}${errorTags(toS3Error(error))}</Error>`;
      }
    };
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < keys.length) await one(next++);
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    sendXml(exchange, "DeleteResult", results.join(""));
  }

  // ---- multipart uploads

  async #createUpload(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await takeWhole(call);
    await this.#requireBucket(call);
    checkAcl(exchange);
    const asked = exchange.request.headers["x-amz-checksum-algorithm"];
    const algorithm = typeof asked === "string" ? checksumAlgorithm(asked) : undefined;
    if (typeof asked === "string" && !algorithm)
      throw new S3Error("InvalidRequest", "this checksum algorithm is not known");
    const type = exchange.request.headers["x-amz-checksum-type"]?.toString().toUpperCase();
    const upload = await this.#uploads.create({
      bucket,
      key,
      metadata: requestMetadata(exchange),
      ...(algorithm ? { algorithm, fullObject: type === "FULL_OBJECT" || algorithm === "crc64nvme" } : {}),
    });
    if (algorithm) {
      exchange.response.setHeader("x-amz-checksum-algorithm", algorithm.toUpperCase());
      exchange.response.setHeader("x-amz-checksum-type", upload.fullObject ? "FULL_OBJECT" : "COMPOSITE");
    }
    sendXml(
      exchange,
      "InitiateMultipartUploadResult",
      tag("Bucket", bucket) + tag("Key", key) + tag("UploadId", upload.id),
    );
  }

  async #putPart(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key, query } = call;
    const number = Number(query.get("partNumber"));
    if (!Number.isInteger(number) || number < 1 || number > MAX_PART_NUMBER) {
      throw new S3Error("InvalidArgument", `a part's number is from 1 to ${MAX_PART_NUMBER}`);
    }
    await this.#requireBucket(call);
    const upload = await this.#uploads.find(uploadId, bucket, key);
    if (exchange.request.headers["x-amz-copy-source"] !== undefined) return this.#copyPart(call, upload, number);
    const incoming = await takeObject(exchange, call.auth.payload, MAX_PUT_BYTES, upload.algorithm);
    let part: PartFacts;
    try {
      const facts = (): Pick<PartFacts, "md5" | "checksums"> => ({
        md5: incoming.md5(),
        checksums: incoming.checksums(),
      });
      part = await this.#uploads.putPart(upload, number, incoming.body, facts, exchange.signal);
    } catch (error) {
      const problem = incoming.problem();
      throw problem === undefined ? error : problem;
    }
    exchange.fields["bytes"] = part.size;
    send(exchange, 200, { ETag: `"${part.md5}"`, ...checksumMetadata(incoming) });
  }

  async #copyPart(call: Call, upload: Upload, number: number): Promise<void> {
    const { exchange } = call;
    await takeWhole(call);
    const source = copySource(exchange);
    const info = await this.#sourceInfo(call, source);
    const header = exchange.request.headers["x-amz-copy-source-range"]?.toString();
    const range = parseRange(header, info.size);
    if (range === "unsatisfiable" || (header !== undefined && range === "whole")) {
      throw new S3Error("InvalidArgument", "x-amz-copy-source-range is not a range of the source");
    }
    const match = header === undefined ? undefined : /^bytes=\d+-(\d+)$/u.exec(header);
    if (header !== undefined && (!match || Number(match[1]) >= info.size)) {
      throw new S3Error("InvalidArgument", "x-amz-copy-source-range is not a range of the source");
    }
    const name = this.#name(source.bucket, source.key);
    const result = await this.#context.store.get(name, {
      signal: exchange.signal,
      ...(range === "whole" ? {} : { range }),
    });
    await withKeepAlive(exchange, "CopyPartResult", async () => {
      try {
        if (etagOf(result.info) !== etagOf(info)) {
          throw new HoldfastError("unavailable", "the source was replaced while it was being copied; try again");
        }
        const md5 = createHash("md5");
        const sum = upload.algorithm ? createChecksum(upload.algorithm) : undefined;
        const hashed = async function* (): AsyncGenerator<Uint8Array> {
          for await (const chunk of result.body) {
            md5.update(chunk);
            sum?.update(chunk);
            yield chunk;
          }
        };
        const size = range === "whole" ? result.info.size : range.length;
        const facts = (): Pick<PartFacts, "md5" | "checksums"> => ({
          md5: md5.digest("hex"),
          checksums: sum && upload.algorithm ? { [upload.algorithm]: sum.digest().toString("base64") } : {},
        });
        const part = await this.#uploads.putPart(upload, number, toBody(hashed(), { size }), facts, exchange.signal);
        return tag("LastModified", isoDate(part.modifiedMs)) + tag("ETag", `"${part.md5}"`);
      } finally {
        await result.close();
      }
    });
  }

  async #completeUpload(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key } = call;
    const document = parseXml(await takeWhole(call), "CompleteMultipartUpload");
    await this.#requireBucket(call);
    const location = `http://${exchange.request.headers.host ?? ""}/${percentEncode(bucket)}/${encodePath(key)}`;
    const answer = (etag: string): string =>
      tag("Location", location) + tag("Bucket", bucket) + tag("Key", key) + tag("ETag", `"${etag}"`);
    const before = this.#completed.get(uploadId);
    if (before && before.bucket === bucket && before.key === key) {
      return sendXml(exchange, "CompleteMultipartUploadResult", answer(before.etag));
    }
    const upload = await this.#uploads.find(uploadId, bucket, key);
    const listed = document.all("Part").map((part) => ({
      number: Number(part.text("PartNumber")),
      etag: (part.text("ETag") ?? "").replaceAll('"', ""),
      checksums: checksumAlgorithms.flatMap((algorithm) => {
        const value = part.text(`Checksum${algorithm.toUpperCase()}`);
        return value === undefined ? [] : [{ algorithm, value }];
      }),
    }));
    if (listed.length === 0) throw new S3Error("MalformedXML", "an upload is completed with at least one part");
    const name = this.#name(bucket, key);
    await this.#whileConditionsHold(call, name, () =>
      withKeepAlive(exchange, "CompleteMultipartUploadResult", () =>
        this.#uploads.complete(upload, async (stored, bodyOf) => {
          const parts = chooseParts(listed, stored);
          const md5s = Buffer.concat(parts.map((part) => Buffer.from(part.md5, "hex")));
          const etag = `${createHash("md5").update(md5s).digest("hex")}-${parts.length}`;
          const body = bodyOf(parts);
          const checksums = await wholeChecksum(exchange, upload, parts, body);
          const result = await this.#context.store.put(name, body, {
            signal: exchange.signal,
            metadata: { ...upload.metadata, etag, ...checksums },
          });
          noteWrite(this.#context, exchange, name, result);
          if (this.#completed.size > 1000) this.#completed.clear();
          this.#completed.set(uploadId, { etag, bucket, key });
          exchange.fields["bytes"] = result.size;
          return answer(etag);
        }),
      ),
    );
  }

  async #listParts(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key, query } = call;
    await this.#requireBucket(call);
    const upload = await this.#uploads.find(uploadId, bucket, key);
    const max = maxKeys(query.get("max-parts"));
    const marker = Number(query.get("part-number-marker") ?? 0);
    const parts = (await this.#uploads.parts(upload)).filter((part) => part.number > marker);
    const page = parts.slice(0, max);
    const rest = parts.length > page.length;
    sendXml(
      exchange,
      "ListPartsResult",
      tag("Bucket", bucket) +
        tag("Key", key) +
        tag("UploadId", upload.id) +
        `<Initiator>${OWNER}</Initiator><Owner>${OWNER}</Owner>` +
        tag("StorageClass", "STANDARD") +
        tag("PartNumberMarker", marker) +
        (rest ? tag("NextPartNumberMarker", page.at(-1)?.number) : "") +
        tag("MaxParts", max) +
        tag("IsTruncated", rest) +
        page
          .map(
            (part) =>
              `<Part>${tag("PartNumber", part.number)}${tag("LastModified", isoDate(part.modifiedMs))}` +
              `${tag("ETag", `"${part.md5}"`)}${tag("Size", part.size)}` +
              `${Object.entries(part.checksums)
                .map(([name, value]) => tag(`Checksum${name.toUpperCase()}`, value))
                .join("")}</Part>`,
          )
          .join(""),
    );
  }

  async #listUploads(call: Call): Promise<void> {
    const { exchange, bucket, query } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const keyMarker = query.get("key-marker") ?? "";
    const idMarker = query.get("upload-id-marker") ?? "";
    const max = maxKeys(query.get("max-uploads"));
    const encode = encoder(query);
    const all = await this.#uploads.list(bucket);
    const marked = all.findIndex((upload) => upload.id === idMarker);
    const uploads: Upload[] = [];
    const prefixes: string[] = [];
    let rest = false;
    let last: { key: string; id: string } = { key: "", id: "" };
    for (const [index, upload] of all.entries()) {
      if (!upload.key.startsWith(prefix)) continue;
      const order = keyMarker === "" ? 1 : compareNames(upload.key, keyMarker);
      if (order < 0 || (order === 0 && (marked === -1 || index <= marked))) continue;
      const cut = delimiter === "" ? -1 : upload.key.indexOf(delimiter, prefix.length);
      const common = cut === -1 ? undefined : upload.key.slice(0, cut + delimiter.length);
      if (common !== undefined && (prefixes.at(-1) === common || keyMarker.startsWith(common))) continue;
      if (uploads.length + prefixes.length >= max) {
        rest = true;
        break;
      }
      if (common === undefined) uploads.push(upload);
      else prefixes.push(common);
      last = common === undefined ? { key: upload.key, id: upload.id } : { key: common, id: "" };
    }
    sendXml(
      exchange,
      "ListMultipartUploadsResult",
      tag("Bucket", bucket) +
        tag("KeyMarker", encode(keyMarker)) +
        tag("UploadIdMarker", idMarker) +
        (rest ? tag("NextKeyMarker", encode(last.key)) + tag("NextUploadIdMarker", last.id) : "") +
        tag("Prefix", encode(prefix)) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("MaxUploads", max) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", rest) +
        uploads
          .map(
            (upload) =>
              `<Upload>${tag("Key", encode(upload.key))}${tag("UploadId", upload.id)}` +
              `<Initiator>${OWNER}</Initiator><Owner>${OWNER}</Owner>${tag("StorageClass", "STANDARD")}` +
              `${tag("Initiated", isoDate(upload.createdMs))}</Upload>`,
          )
          .join("") +
        prefixesXml(prefixes, encode),
    );
  }
}

interface Entry {
  /** The key. */
  readonly name: string;
  readonly info: PoolObjectInfo;
}

interface Page {
  readonly contents: Entry[];
  readonly prefixes: string[];
  last: string;
  truncated: boolean;
}

/** Settings of a bucket that are never there, with the code that says so. */
const absentSettings = [
  ["policy", "NoSuchBucketPolicy"],
  ["lifecycle", "NoSuchLifecycleConfiguration"],
  ["cors", "NoSuchCORSConfiguration"],
  ["tagging", "NoSuchTagSet"],
  ["website", "NoSuchWebsiteConfiguration"],
  ["encryption", "ServerSideEncryptionConfigurationNotFoundError"],
  ["object-lock", "ObjectLockConfigurationNotFoundError"],
] as const;

/** Words in a query that ask for something else than the object or the listing. */
const subresources = [
  "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory",
  "legal-hold", "lifecycle", "logging", "metrics", "notification", "object-lock", "ownershipControls", "policy",
  "policyStatus", "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select", "tagging",
  "torrent", "uploads", "versioning", "versions", "website",
]; // prettier-ignore

function refuseSubresources(query: ReadonlyMap<string, string>, but: readonly string[]): void {
  for (const name of subresources) {
    if (query.has(name) && !but.includes(name)) throw new S3Error("NotImplemented", `?${name} is not supported`);
  }
}

function chooseParts(
  listed: readonly { number: number; etag: string; checksums: { algorithm: ChecksumAlgorithm; value: string }[] }[],
  stored: readonly PartFacts[],
): PartFacts[] {
  const byNumber = new Map(stored.map((part) => [part.number, part]));
  let previous = 0;
  return listed.map(({ number, etag, checksums }, index) => {
    if (!Number.isInteger(number)) throw new S3Error("MalformedXML", "a part without a number");
    if (number <= previous) throw new S3Error("InvalidPartOrder", "the parts are not in ascending order");
    previous = number;
    const part = byNumber.get(number);
    if (!part || part.md5 !== etag) throw new S3Error("InvalidPart", `part ${number} is not there with this ETag`);
    for (const { algorithm, value } of checksums) {
      if (part.checksums[algorithm] !== undefined && part.checksums[algorithm] !== value) {
        throw new S3Error("InvalidPart", `part ${number} has another ${algorithm}`);
      }
    }
    if (part.size < MIN_PART_BYTES && index < listed.length - 1) {
      throw new S3Error(
        "EntityTooSmall",
        `part ${number} has ${part.size} bytes; only the last one may have less than 5 MiB`,
      );
    }
    return part;
  });
}

/** The checksum that the finished upload is kept with; throws BadDigest where the client gives another. */
async function wholeChecksum(
  exchange: Exchange,
  upload: Upload,
  parts: readonly PartFacts[],
  body: Body,
): Promise<ObjectMetadata> {
  const given = checksumAlgorithms.find((one) => exchange.request.headers[`x-amz-checksum-${one}`] !== undefined);
  const algorithm = upload.algorithm ?? given;
  if (!algorithm) return {};
  const sum = createChecksum(algorithm);
  const composite = upload.fullObject !== true && parts.every((part) => part.checksums[algorithm] !== undefined);
  if (composite) for (const part of parts) sum.update(Buffer.from(part.checksums[algorithm] ?? "", "base64"));
  else for await (const chunk of body.open()) sum.update(chunk);
  const value = sum.digest().toString("base64") + (composite ? `-${parts.length}` : "");
  const header = exchange.request.headers[`x-amz-checksum-${algorithm}`];
  if (header !== undefined && header !== value && header !== value.replace(/-\d+$/u, "")) {
    throw new S3Error("BadDigest", `the object's ${algorithm} is not the one that the client gives`);
  }
  return { [`x-amz-checksum-${algorithm}`]: value, "x-amz-checksum-type": composite ? "COMPOSITE" : "FULL_OBJECT" };
}

/**
 * Runs `work`, which gives the content of the answer. When it takes long, the answer begins before it is known, with
 * spaces that keep the line open; an error then stands in an answer with status 200, as S3's clients expect.
 */
async function withKeepAlive(exchange: Exchange, root: string, work: () => Promise<string>): Promise<void> {
  const { response } = exchange;
  let begun = false;
  const timer = setInterval(() => {
    if (!begun) {
      response.writeHead(200, { "Content-Type": "application/xml" });
      response.write('<?xml version="1.0" encoding="UTF-8"?>\n');
      begun = true;
    }
    response.write(" ");
  }, KEEP_ALIVE_MS);
  try {
    const content = await work();
    clearInterval(timer);
    if (begun) response.end(xmlDocument(root, content).replace(/^.*\n/u, ""));
    else sendXml(exchange, root, content);
  } catch (error) {
    if (!begun) throw error;
    response.end(`<Error>${errorTags(toS3Error(error))}${tag("RequestId", exchange.id)}</Error>`);
  } finally {
    clearInterval(timer);
  }
}

function sendXml(exchange: Exchange, root: string, content: string): void {
  send(exchange, 200, { "Content-Type": "application/xml" }, xmlDocument(root, content));
}

function errorTags(error: S3Error): string {
  return tag("Code", error.s3Code) + tag("Message", error.message);
}

function notAllowed(): S3Error {
  return new S3Error("MethodNotAllowed", "this method is not allowed here");
}

function decodeUri(text: string): string {
  try {
    return percentDecode(text);
  } catch (error) {
    throw new S3Error("InvalidURI", "the path is not percent-encoded UTF-8", error);
  }
}

/** A small body, whole and checked. */
async function takeWhole(call: Call): Promise<Buffer> {
  const incoming = await takeObject(call.exchange, call.auth.payload, MAX_XML_BYTES).catch(noLength);
  return incoming ? readSmall(call.exchange, MAX_XML_BYTES, incoming.body.open()) : Buffer.alloc(0);
}

/** A request without a body need not say so. */
function noLength(error: unknown): undefined {
  if (error instanceof S3Error && error.s3Code === "MissingContentLength") return undefined;
  throw error;
}

function isoDate(ms: number): string {
  return new Date(ms).toISOString();
}

function maxKeys(text: string | undefined): number {
  if (text === undefined || text === "") return MAX_KEYS;
  if (!/^\d{1,9}$/u.test(text)) throw new S3Error("InvalidArgument", "the number of entries must be 0 or more");
  return Math.min(MAX_KEYS, Number(text));
}

function encoder(query: ReadonlyMap<string, string>): (text: string) => string {
  const encoding = query.get("encoding-type");
  if (encoding === undefined) return (text) => text;
  if (encoding !== "url") throw new S3Error("InvalidArgument", "encoding-type can only be url");
  return encodePath;
}

/** Tokens are opaque to clients; keys in them survive every client's idea of encoding. */
function encodeToken(key: string): string {
  return Buffer.from(key).toString("base64url");
}

function decodeToken(token: string): string {
  if (token === "" || !/^[A-Za-z0-9_-]+$/u.test(token)) {
    throw new S3Error("InvalidArgument", "the continuation token is not one of this gateway's");
  }
  return Buffer.from(token, "base64url").toString("utf8");
}

function contentsXml(page: Page, encode: (text: string) => string, owner: boolean): string {
  return (
    page.contents
      .map(
        ({ name, info }) =>
          `<Contents>${tag("Key", encode(name))}${tag("LastModified", isoDate(info.modifiedMs ?? 0))}` +
          `${tag("ETag", `"${etagOf(info)}"`)}${tag("Size", info.size)}` +
          `${owner ? `<Owner>${OWNER}</Owner>` : ""}${tag("StorageClass", "STANDARD")}</Contents>`,
      )
      .join("") + prefixesXml(page.prefixes, encode)
  );
}

function prefixesXml(prefixes: readonly string[], encode: (text: string) => string): string {
  return prefixes.map((prefix) => `<CommonPrefixes>${tag("Prefix", encode(prefix))}</CommonPrefixes>`).join("");
}

function aclXml(): string {
  return (
    `<Owner>${OWNER}</Owner><AccessControlList><Grant>` +
    `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">${OWNER}</Grantee>` +
    `${tag("Permission", "FULL_CONTROL")}</Grant></AccessControlList>`
  );
}

/** What cannot be done is refused, never ignored. */
function checkAcl(exchange: Exchange): void {
  const { headers } = exchange.request;
  const acl = headers["x-amz-acl"];
  if (acl !== undefined && acl !== "private" && acl !== "bucket-owner-full-control") {
    throw new S3Error("NotImplemented", `objects are private; x-amz-acl: ${escapeXml(String(acl))} is not supported`);
  }
  const storageClass = headers["x-amz-storage-class"];
  if (storageClass !== undefined && storageClass !== "STANDARD") {
    throw new S3Error("InvalidStorageClass", "the only storage class is STANDARD");
  }
  for (const name of Object.keys(headers)) {
    if (/^x-amz-(server-side-encryption|tagging$|object-lock|grant-|website-redirect)/u.test(name)) {
      throw new S3Error("NotImplemented", `${name} is not supported`);
    }
  }
}

/** What is kept with an object, from the headers of a request. */
function requestMetadata(exchange: Exchange): Record<string, string> {
  const { headers } = exchange.request;
  const metadata: Record<string, string> = {};
  for (const name of keptHeaders) {
    let value = headers[name];
    if (name === "content-encoding" && typeof value === "string") {
      value = value
        .split(",")
        .map((one) => one.trim())
        .filter((one) => one !== "aws-chunked" && one !== "")
        .join(",");
    }
    if (typeof value === "string" && value !== "") metadata[name] = utf8(value);
  }
  let bytes = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith("x-amz-meta-") || value === undefined) continue;
    const text = utf8(Array.isArray(value) ? value.join(",") : value);
    bytes += Buffer.byteLength(name) - "x-amz-meta-".length + Buffer.byteLength(text);
    metadata[name] = text;
  }
  if (bytes > MAX_USER_METADATA_BYTES) throw new S3Error("MetadataTooLarge", "user metadata is longer than 2 KiB");
  return metadata;
}

/** Headers reach us as Latin-1; clients send UTF-8. */
function utf8(value: string): string {
  return Buffer.from(value, "latin1").toString("utf8");
}

function checksumMetadata(incoming: IncomingObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(incoming.checksums()).map(([name, value]) => [`x-amz-checksum-${name}`, value]),
  );
}

function objectHeaders(info: ObjectInfo, etag: string): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    "content-type": "binary/octet-stream",
    "accept-ranges": "bytes",
    etag,
    "last-modified": new Date(info.modifiedMs ?? 0).toUTCString(),
  };
  for (const [name, value] of Object.entries(info.metadata ?? {})) {
    const kept = (keptHeaders as readonly string[]).includes(name) || name.startsWith("x-amz-meta-");
    if (kept) headers[name] = Buffer.from(value, "utf8").toString("latin1");
  }
  return headers;
}

function copySource(exchange: Exchange): { bucket: string; key: string } {
  const header = exchange.request.headers["x-amz-copy-source"]?.toString() ?? "";
  const [rawPath = "", rawQuery = ""] = header.split("?", 2);
  const text = decodeUri(rawPath).replace(/^\//u, "");
  const slash = text.indexOf("/");
  const version = /^versionId=(.*)$/u.exec(rawQuery)?.[1];
  if (slash < 1 || slash === text.length - 1)
    throw new S3Error("InvalidArgument", "x-amz-copy-source must be BUCKET/KEY");
  if (version !== undefined && version !== "null") throw new S3Error("NoSuchVersion", "objects have one version, null");
  return { bucket: text.slice(0, slash), key: text.slice(slash + 1) };
}
