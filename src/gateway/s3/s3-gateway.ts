/**
 * The S3 protocol in front of a pool: who asks, and what for.
 *
 * A bucket is the first part of an object's name (`photos/2024/a.jpg` is the key `2024/a.jpg` of the bucket `photos`), or
 * the whole pool is one bucket. Either way an object's name on the stores is what a person would look for.
 */
import type { OutgoingHttpHeaders } from "node:http";
import { isHoldfastError } from "../../contract/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import type { Exchange, Gateway } from "../exchange.ts";
import { hasBody, parseQuery, send } from "../http-tools.ts";
import { aclXml, takeAcl } from "./acls.ts";
import { errorTags, sendXml } from "./answers.ts";
import { Buckets } from "./buckets.ts";
import { decodeUri, takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { Copies } from "./copies.ts";
import { Deletions } from "./deletions.ts";
import { Multipart } from "./multipart.ts";
import { ObjectListings } from "./object-listings.ts";
import { Objects } from "./objects.ts";
import { absentSettings, offeredOperation } from "./offered.ts";
import type { S3Operation } from "./offered.ts";
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

/** The region that the gateway says it is in; it takes any. */
const REGION = "us-east-1";
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
  readonly #deletions: Deletions;

  constructor(context: GatewayContext, { bucket, uploads }: S3GatewayOptions) {
    this.#context = context;
    this.#buckets = new Buckets(context, uploads, bucket);
    this.#listings = new ObjectListings(context, this.#buckets);
    this.#objects = new Objects(context, this.#buckets);
    this.#copies = new Copies(context, this.#buckets, this.#objects, uploads);
    this.#deletions = new Deletions(context, this.#buckets);
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
    const operation = offeredOperation(call);
    exchange.fields["operation"] = operation;
    if (call.key !== "") this.#checkObject(call);
    else if (call.bucket !== "" && (exchange.method === "GET" || exchange.method === "HEAD"))
      await this.#buckets.require(call);
    await this.#operations[operation](call);
  }

  #checkObject({ bucket, key, query }: Call): void {
    const version = query.get("versionId");
    if (version !== undefined && version !== "null")
      throw new S3Error("NoSuchVersion", "objects have one version, null");
    this.#buckets.checkKey(bucket, key);
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

  /** Each operation that is offered. */
  readonly #operations: Readonly<Record<S3Operation, (call: Call) => void | Promise<void>>> = {
    ListBuckets: (call) => this.#buckets.list(call),
    HeadBucket: (call) =>
      send(call.exchange, 200, { "x-amz-bucket-region": REGION, "Content-Type": "application/xml" }),
    GetBucketLocation: ({ exchange }) => sendXml(exchange, "LocationConstraint", ""),
    GetBucketVersioning: ({ exchange }) => sendXml(exchange, "VersioningConfiguration", ""),
    GetBucketAcl: ({ exchange }) => sendXml(exchange, "AccessControlPolicy", aclXml()),
    GetBucketRequestPayment: ({ exchange }) =>
      sendXml(exchange, "RequestPaymentConfiguration", tag("Payer", "BucketOwner")),
    GetAbsentSetting: (call) => {
      for (const [name, code] of Object.entries(absentSettings)) {
        if (call.query.has(name)) throw new S3Error(code, `the bucket ${call.bucket} has no ${name}`);
      }
    },
    ListMultipartUploads: (call) => this.#multipart.list(call),
    ListObjectVersions: (call) => this.#listings.versions(call),
    ListObjectsV2: (call) => {
      if (call.query.get("list-type") !== "2") throw new S3Error("InvalidArgument", "list-type can only be 2");
      return this.#listings.version2(call);
    },
    ListObjects: (call) => this.#listings.version1(call),
    PutBucketAcl: (call) => this.#buckets.putAcl(call),
    CreateBucket: (call) => this.#buckets.create(call),
    DeleteBucket: (call) => this.#buckets.delete(call),
    DeleteObjects: (call) => this.#deletions.deleteMany(call),
    ListParts: (call) => this.#multipart.listParts(call, uploadIdOf(call)),
    GetObjectAcl: async (call) => {
      await this.#objects.stat(call);
      sendXml(call.exchange, "AccessControlPolicy", aclXml());
    },
    GetObjectTagging: async (call) => {
      await this.#objects.stat(call);
      sendXml(call.exchange, "Tagging", "<TagSet></TagSet>");
    },
    GetObjectAttributes: (call) => this.#objects.attributes(call),
    GetObject: (call) => this.#objects.get(call),
    HeadObject: (call) => this.#objects.get(call),
    UploadPartCopy: (call) => this.#multipart.putPart(call, uploadIdOf(call)),
    UploadPart: (call) => this.#multipart.putPart(call, uploadIdOf(call)),
    PutObjectAcl: async (call) => {
      await this.#objects.stat(call);
      await takeAcl(call);
      send(call.exchange, 200);
    },
    CopyObject: (call) => this.#copies.copy(call),
    PutObject: (call) => this.#objects.put(call),
    AbortMultipartUpload: (call) => this.#multipart.abort(call, uploadIdOf(call)),
    DeleteObject: (call) => this.#objects.delete(call),
    CreateMultipartUpload: (call) => this.#multipart.create(call),
    CompleteMultipartUpload: (call) => this.#multipart.complete(call, uploadIdOf(call)),
  };
}

function uploadIdOf(call: Call): string {
  return call.query.get("uploadId") ?? "";
}
