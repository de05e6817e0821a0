/**
 * The part of S3 that is offered, in one list: each operation with the words of the query and the headers that it heeds.
 *
 * A request for anything else is refused by the name of the thing. What is passed over in silence is believed to be done:
 * a bucket to be locked, an object to be encrypted, a write to have had a condition.
 */
import { toHeader } from "../http-tools.ts";
import { OWNER_ID } from "./answers.ts";
import type { Call } from "./call.ts";
import { checksumAlgorithms } from "./checksums.ts";
import { S3Error } from "./s3-error.ts";

interface Offer {
  readonly on: "service" | "bucket" | "object";
  readonly methods: readonly string[];
  /** One of these words stands in the query. Default: none has to. */
  readonly named?: readonly string[];
  /** This header is there. Default: none has to be. */
  readonly with?: string;
  /** Further words of the query. */
  readonly query?: readonly string[];
  readonly headers?: readonly string[];
}

/** Settings of a bucket that are never there, with the code that says so. */
export const absentSettings = {
  policy: "NoSuchBucketPolicy",
  lifecycle: "NoSuchLifecycleConfiguration",
  cors: "NoSuchCORSConfiguration",
  tagging: "NoSuchTagSet",
  website: "NoSuchWebsiteConfiguration",
  encryption: "ServerSideEncryptionConfigurationNotFoundError",
  "object-lock": "ObjectLockConfigurationNotFoundError",
} as const;

const paged = ["prefix", "delimiter", "max-keys", "encoding-type"];
const listed = ["x-amz-optional-object-attributes"];
const changed = ["if-match", "if-none-match"];
const kept = ["x-amz-acl", "x-amz-storage-class"];
const fromSource = [
  "x-amz-copy-source", "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match",
  "x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-unmodified-since", "x-amz-source-expected-bucket-owner",
]; // prettier-ignore
const read = {
  on: "object",
  query: [
    "versionId", "partNumber", "response-content-type", "response-content-language", "response-expires",
    "response-cache-control", "response-content-disposition", "response-content-encoding",
  ],
  headers: ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "x-amz-checksum-mode"],
} as const; // prettier-ignore

/** The first that fits a request is its operation. */
const offers = {
  ListBuckets: {
    on: "service",
    methods: ["GET", "HEAD"],
    query: ["prefix", "max-buckets", "continuation-token"],
  },

  HeadBucket: { on: "bucket", methods: ["HEAD"] },
  GetBucketLocation: { on: "bucket", methods: ["GET"], named: ["location"] },
  GetBucketVersioning: { on: "bucket", methods: ["GET"], named: ["versioning"] },
  GetBucketAcl: { on: "bucket", methods: ["GET"], named: ["acl"] },
  GetBucketRequestPayment: { on: "bucket", methods: ["GET"], named: ["requestPayment"] },
  GetAbsentSetting: { on: "bucket", methods: ["GET"], named: Object.keys(absentSettings) },
  ListMultipartUploads: {
    on: "bucket",
    methods: ["GET"],
    named: ["uploads"],
    query: ["prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"],
  },
  ListObjectVersions: {
    on: "bucket",
    methods: ["GET"],
    named: ["versions"],
    query: [...paged, "key-marker", "version-id-marker"],
    headers: listed,
  },
  ListObjectsV2: {
    on: "bucket",
    methods: ["GET"],
    named: ["list-type"],
    // MinIO's clients ask with `metadata` for more than S3 has, and do without.
    query: [...paged, "continuation-token", "start-after", "fetch-owner", "metadata"],
    headers: listed,
  },
  ListObjects: { on: "bucket", methods: ["GET"], query: [...paged, "marker"], headers: listed },
  PutBucketAcl: { on: "bucket", methods: ["PUT"], named: ["acl"], headers: ["x-amz-acl"] },
  CreateBucket: {
    on: "bucket",
    methods: ["PUT"],
    headers: ["x-amz-acl", "x-amz-object-ownership", "x-amz-bucket-object-lock-enabled"],
  },
  DeleteBucket: { on: "bucket", methods: ["DELETE"] },
  DeleteObjects: { on: "bucket", methods: ["POST"], named: ["delete"] },

  ListParts: {
    on: "object",
    methods: ["GET"],
    named: ["uploadId"],
    query: ["max-parts", "part-number-marker"],
  },
  GetObjectAcl: { on: "object", methods: ["GET"], named: ["acl"], query: ["versionId"] },
  GetObjectTagging: { on: "object", methods: ["GET"], named: ["tagging"], query: ["versionId"] },
  GetObjectAttributes: {
    on: "object",
    methods: ["GET"],
    named: ["attributes"],
    query: ["versionId"],
    headers: ["x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker"],
  },
  GetObject: { ...read, methods: ["GET"] },
  HeadObject: { ...read, methods: ["HEAD"] },
  UploadPartCopy: {
    on: "object",
    methods: ["PUT"],
    named: ["uploadId"],
    with: "x-amz-copy-source",
    query: ["partNumber"],
    headers: [...fromSource, "x-amz-copy-source-range"],
  },
  UploadPart: {
    on: "object",
    methods: ["PUT"],
    named: ["uploadId"],
    query: ["partNumber"],
    headers: ["x-amz-checksum-algorithm"],
  },
  PutObjectAcl: {
    on: "object",
    methods: ["PUT"],
    named: ["acl"],
    query: ["versionId"],
    headers: ["x-amz-acl"],
  },
  CopyObject: {
    on: "object",
    methods: ["PUT"],
    with: "x-amz-copy-source",
    headers: [
      ...fromSource,
      ...changed,
      ...kept,
      "x-amz-metadata-directive",
      "x-amz-tagging-directive",
      "x-amz-checksum-algorithm",
    ],
  },
  PutObject: { on: "object", methods: ["PUT"], headers: [...changed, ...kept, "x-amz-checksum-algorithm"] },
  AbortMultipartUpload: { on: "object", methods: ["DELETE"], named: ["uploadId"] },
  DeleteObject: { on: "object", methods: ["DELETE"], query: ["versionId"], headers: changed },
  CreateMultipartUpload: {
    on: "object",
    methods: ["POST"],
    named: ["uploads"],
    headers: [...kept, "x-amz-checksum-algorithm", "x-amz-checksum-type"],
  },
  CompleteMultipartUpload: {
    on: "object",
    methods: ["POST"],
    named: ["uploadId"],
    headers: [...changed, "x-amz-checksum-type", "x-amz-mp-object-size"],
  },
} as const satisfies Record<string, Offer>;

export type S3Operation = keyof typeof offers;

/** Words of the query that any request may have: a signature, and the name that SDKs give their call. */
const everywhere = new Set([
  "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
  "X-Amz-Content-Sha256", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature", "Expires", "x-id",
]); // prettier-ignore

/** Headers that any request may have: about who asks, and about the bytes of the body. */
const always = new Set([
  "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent", "x-amz-decoded-content-length",
  "x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-request-payer", "x-amz-expected-bucket-owner",
  ...checksumAlgorithms.map((name) => `x-amz-checksum-${name}`),
]); // prettier-ignore

/** Headers that ask for something. Others are HTTP's, and HTTP says which of them a server may pass over. */
const ASKING = /^(?:x-amz-|if-|content-range$)/u;

const cannedAcls = new Set([
  "private", "public-read", "public-read-write", "aws-exec-read", "authenticated-read", "bucket-owner-read",
  "bucket-owner-full-control", "log-delivery-write",
]); // prettier-ignore

/** Headers that are offered with some values only. Each throws for the others. */
const values: Readonly<Record<string, (value: string) => void>> = {
  "x-amz-acl": (value) => {
    if (value === "private" || value === "bucket-owner-full-control") return;
    if (!cannedAcls.has(value)) throw new S3Error("InvalidArgument", "x-amz-acl is none of S3's words");
    throw new S3Error("NotImplemented", `everything is private; x-amz-acl: ${value} is not supported`);
  },
  "x-amz-storage-class": (value) => {
    if (value !== "STANDARD") throw new S3Error("InvalidStorageClass", "the only storage class is STANDARD");
  },
  "x-amz-object-ownership": (value) => {
    if (value !== "BucketOwnerEnforced")
      throw new S3Error("NotImplemented", "x-amz-object-ownership can only be BucketOwnerEnforced");
  },
  "x-amz-bucket-object-lock-enabled": (value) => {
    if (value.toLowerCase() !== "false")
      throw new S3Error("NotImplemented", "x-amz-bucket-object-lock-enabled is not supported");
  },
  // There are no tags, so that keeping them and dropping them is one.
  "x-amz-tagging-directive": (value) => {
    if (value !== "COPY" && value !== "REPLACE")
      throw new S3Error("InvalidArgument", "x-amz-tagging-directive must be COPY or REPLACE");
  },
  "x-amz-expected-bucket-owner": checkOwner,
  "x-amz-source-expected-bucket-owner": checkOwner,
};

function checkOwner(value: string): void {
  if (value !== OWNER_ID) throw new S3Error("AccessDenied", `the owner of every bucket here is ${OWNER_ID}`);
}

/** The operation that a request asks for. Throws for what is not offered. */
export function offeredOperation(call: Call): S3Operation {
  const { exchange, query } = call;
  const { headers } = exchange.request;
  takeFromQuery(call);
  const on = call.bucket === "" ? "service" : call.key === "" ? "bucket" : "object";
  const found = (Object.entries(offers) as [S3Operation, Offer][]).find(
    ([, offer]) =>
      offer.on === on &&
      offer.methods.includes(exchange.method) &&
      (offer.named === undefined || offer.named.some((word) => query.has(word))) &&
      (offer.with === undefined || headers[offer.with] !== undefined),
  );
  if (found === undefined) throw nothingOffered(exchange.method, on, query);
  const [operation, offer] = found;
  for (const word of query.keys()) {
    const known = offer.named?.includes(word) === true || offer.query?.includes(word) === true || everywhere.has(word);
    // S3 passes over words that begin with `x-`, which are for logs.
    if (!known && !/^x-/iu.test(word))
      throw new S3Error("NotImplemented", `?${word} is not supported for ${operation}`);
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!ASKING.test(name) || always.has(name) || name.startsWith("x-amz-meta-")) {
      if (name === "x-amz-expected-bucket-owner") checkOwner(String(value));
      continue;
    }
    if (offer.with !== name && offer.headers?.includes(name) !== true)
      throw new S3Error("NotImplemented", `${name} is not supported for ${operation}`);
    values[name]?.(String(value));
  }
  return operation;
}

/** A presigned address can hold what would otherwise be a header. It asks for the same. */
function takeFromQuery({ exchange, query }: Call): void {
  const { headers } = exchange.request;
  for (const [word, value] of query) {
    const name = word.toLowerCase();
    if (!name.startsWith("x-amz-") || everywhere.has(word)) continue;
    if (headers[name] !== undefined && headers[name] !== toHeader(value))
      throw new S3Error("InvalidRequest", `${name} stands in the address and in a header, and differs`);
    headers[name] = toHeader(value);
  }
}

function nothingOffered(method: string, on: Offer["on"], query: ReadonlyMap<string, string>): S3Error {
  if (method === "POST" && on !== "service") {
    const word = [...query.keys()].find((one) => !everywhere.has(one));
    if (word !== undefined) return new S3Error("NotImplemented", `?${word} is not supported`);
    if (on === "bucket") return new S3Error("NotImplemented", "uploads by HTML forms are not supported");
  }
  return new S3Error("MethodNotAllowed", "this method is not allowed here");
}
