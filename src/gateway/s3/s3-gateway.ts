/**
 * The S3 protocol in front of a pool: who asks, and what for.
 *
 * A bucket is the first part of an object's name (`photos/2024/a.jpg` is the key `2024/a.jpg` of the bucket `photos`), or
 * the whole pool is one bucket. Either way an object's name on the stores is what a person would look for.
 */
import { Buffer } from "node:buffer";
import type { OutgoingHttpHeaders } from "node:http";
import { isHoldfastError } from "../../errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import type { Exchange, Gateway } from "../http-server.ts";
import { hasBody, parseQuery, send } from "../http-tools.ts";
import { checkClientName } from "../object-facts.ts";
import { aclXml, errorTags, sendXml } from "./answers.ts";
import { Buckets } from "./buckets.ts";
import { decodeUri, notAllowed, refuseSubresources, takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { Copies } from "./copies.ts";
import { Multipart } from "./multipart.ts";
import { ObjectListings } from "./object-listings.ts";
import { Objects } from "./objects.ts";
import { Replays } from "./replays.ts";
import { S3Error, toS3Error } from "./s3-error.ts";
import { MAX_SKEW_MS, authenticate } from "./signature.ts";
import type { Uploads } from "./uploads.ts";
import { tag } from "./xml.ts";

export interface S3GatewayOptions {
  /** The one bucket that is the whole pool. Default: buckets are the first parts of names. */
  readonly bucket?: string | undefined;
  readonly uploads: Uploads;
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

/** Both are there in S3's answers, and clients print both. */
const ID_HEADERS = ["x-amz-request-id", "x-amz-id-2"];

export function createS3Gateway(context: GatewayContext, options: S3GatewayOptions): Gateway {
  return new S3Gateway(context, options);
}

class S3Gateway implements Gateway {
  readonly protocol = "s3";
  readonly #context: GatewayContext;
  readonly #replays = new Replays(2 * MAX_SKEW_MS);
  readonly #buckets: Buckets;
  readonly #listings: ObjectListings;
  readonly #objects: Objects;
  readonly #copies: Copies;
  readonly #multipart: Multipart;

  constructor(context: GatewayContext, { bucket, uploads }: S3GatewayOptions) {
    this.#context = context;
    this.#buckets = new Buckets(context, uploads, bucket);
    this.#listings = new ObjectListings(context, this.#buckets);
    this.#objects = new Objects(context, this.#buckets);
    this.#copies = new Copies(context, this.#buckets, this.#objects, uploads);
    this.#multipart = new Multipart(context, this.#buckets, this.#copies, uploads);
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
    for (const name of ID_HEADERS) exchange.response.setHeader(name, exchange.id);
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
    if (call.bucket === "") await this.#buckets.list(call);
    else if (call.key === "") await this.#bucket(call);
    else await this.#object(call);
  }

  fail(exchange: Exchange, error: unknown): void {
    const problem = toS3Error(error);
    exchange.fields["code"] = problem.s3Code;
    const headers: OutgoingHttpHeaders = { "Content-Type": "application/xml" };
    for (const name of ID_HEADERS) headers[name] = exchange.id;
    if (isHoldfastError(problem.cause) && problem.cause.retryAfterMs !== undefined) {
      headers["Retry-After"] = Math.ceil(problem.cause.retryAfterMs / 1000);
    }
    const text =
      `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${errorTags(problem)}` +
      `${tag("Resource", exchange.rawPath)}${tag("RequestId", exchange.id)}</Error>`;
    send(exchange, problem.status, headers, text);
  }

  async #bucket(call: Call): Promise<void> {
    const { exchange, bucket, query } = call;
    switch (exchange.method) {
      case "HEAD":
        await this.#buckets.require(call);
        send(exchange, 200, { "x-amz-bucket-region": "us-east-1", "Content-Type": "application/xml" });
        return;
      case "PUT":
        if (query.has("acl")) return this.#buckets.putAcl(call);
        refuseSubresources(query, []);
        return this.#buckets.create(call);
      case "DELETE":
        refuseSubresources(query, []);
        return this.#buckets.delete(call);
      case "POST":
        if (query.has("delete")) return this.#objects.deleteMany(call);
        refuseSubresources(query, []);
        throw new S3Error("NotImplemented", "uploads by HTML forms are not supported");
      case "GET":
        break;
      default:
        throw notAllowed();
    }
    await this.#buckets.require(call);
    for (const [name, code] of absentSettings) {
      if (query.has(name)) throw new S3Error(code, `the bucket ${bucket} has no ${name}`);
    }
    if (query.has("location")) return sendXml(exchange, "LocationConstraint", "");
    if (query.has("versioning")) return sendXml(exchange, "VersioningConfiguration", "");
    if (query.has("acl")) return sendXml(exchange, "AccessControlPolicy", aclXml());
    if (query.has("requestPayment")) {
      return sendXml(exchange, "RequestPaymentConfiguration", tag("Payer", "BucketOwner"));
    }
    if (query.has("uploads")) return this.#multipart.list(call);
    refuseSubresources(query, ["versions"]);
    if (query.has("versions")) return this.#listings.versions(call);
    if (query.get("list-type") === "2") return this.#listings.version2(call);
    return this.#listings.version1(call);
  }

  async #object(call: Call): Promise<void> {
    const { exchange, query, key, bucket } = call;
    const version = query.get("versionId");
    if (version !== undefined && version !== "null")
      throw new S3Error("NoSuchVersion", "objects have one version, null");
    if (Buffer.byteLength(key) > 1024) throw new S3Error("KeyTooLongError", "a key has at most 1,024 bytes");
    checkClientName(this.#buckets.prefixOf(bucket) + key);
    const uploadId = query.get("uploadId");
    switch (exchange.method) {
      case "GET":
        if (uploadId !== undefined) return this.#multipart.listParts(call, uploadId);
        if (query.has("acl")) {
          await this.#objects.stat(call);
          return sendXml(exchange, "AccessControlPolicy", aclXml());
        }
        if (query.has("tagging")) {
          await this.#objects.stat(call);
          return sendXml(exchange, "Tagging", "<TagSet></TagSet>");
        }
        refuseSubresources(query, []);
        return this.#objects.get(call);
      case "HEAD":
        return this.#objects.get(call);
      case "PUT":
        if (uploadId !== undefined) return this.#multipart.putPart(call, uploadId);
        if (query.has("acl")) {
          await this.#objects.stat(call);
          return this.#buckets.putAcl(call);
        }
        refuseSubresources(query, []);
        if (exchange.request.headers["x-amz-copy-source"] !== undefined) return this.#copies.copy(call);
        return this.#objects.put(call);
      case "DELETE":
        if (uploadId !== undefined) return this.#multipart.abort(call, uploadId);
        refuseSubresources(query, []);
        return this.#objects.delete(call);
      case "POST":
        if (query.has("uploads")) return this.#multipart.create(call);
        if (uploadId !== undefined) return this.#multipart.complete(call, uploadId);
        refuseSubresources(query, []);
        throw new S3Error("MethodNotAllowed", "objects take no POST");
      default:
        throw notAllowed();
    }
  }
}
