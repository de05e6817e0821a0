/**
 * Signature Version 4, checked in full: AWS's "Authenticating Requests (AWS Signature Version 4)".
 *
 * There is no well-kept library that verifies; the ones that sign normalise what they are given, and a verifier must take
 * what came. Everything that the client signed is computed again from the request, and compared in constant time.
 */
import { timingSafeEqual } from "node:crypto";
import {
  canonicalQuery,
  canonicalText,
  percentEncode,
  sha256,
  sign,
  signingKey,
  stringToSign,
} from "../../support/signature-v4.ts";
import type { Credential } from "../http-tools.ts";
import { parseQuery, percentDecode } from "../http-tools.ts";
import { S3Error } from "./s3-error.ts";

/** How far a client's clock may be from the gateway's, in milliseconds. */
export const MAX_SKEW_MS = 15 * 60_000;
/** The longest life of a presigned URL, in seconds. */
const MAX_EXPIRES = 604_800;

export interface SignedRequest {
  readonly method: string;
  readonly rawPath: string;
  readonly rawQuery: string;
  /** Lower-case name → each of its values. */
  readonly headers: Readonly<Record<string, readonly string[] | undefined>>;
}

/** What the signature says of the body. */
export type Payload =
  | { readonly kind: "unsigned" }
  | { readonly kind: "sha256"; readonly sha256: string }
  | { readonly kind: "chunks"; readonly signing: ChunkSigning | undefined; readonly trailer: boolean };

/** What is needed to check the signatures of chunks, each of which signs the one before. */
export interface ChunkSigning {
  readonly key: Buffer;
  readonly timestamp: string;
  readonly scope: string;
  readonly seed: string;
}

export interface Authenticated {
  /** Undefined: nobody, where the gateway asks for no credential. */
  readonly credential: Credential | undefined;
  readonly payload: Payload;
  /** Present for a signature in the Authorization header: for noticing replays. */
  readonly signature?: string;
}

/**
 * Who sent a request. Throws the S3Error that answers it when that cannot be known. With no credentials at all everybody
 * may come in and signatures are not looked at.
 */
export function authenticate(request: SignedRequest, credentials: readonly Credential[], nowMs: number): Authenticated {
  const authorization = single(request, "authorization");
  const query = parseQuery(request.rawQuery);
  const presigned = query.some(([name]) => name === "X-Amz-Signature" || name === "X-Amz-Algorithm");
  const declared = single(request, "x-amz-content-sha256");
  if (credentials.length === 0) {
    return { credential: undefined, payload: openPayload(declared, single(request, "content-encoding")) };
  }
  if (authorization !== undefined && presigned) {
    throw new S3Error("InvalidRequest", "a request is signed in its header or in its query, not in both");
  }
  if (presigned) return checkPresigned(request, query, credentials, nowMs, declared);
  if (authorization === undefined || authorization === "") {
    // Version 2 has its signature in words without a prefix.
    if (query.some(([name]) => name === "AWSAccessKeyId" || name === "Signature")) throw otherSignature();
    throw new S3Error("AccessDenied", "the request is not signed");
  }
  return checkHeader(request, query, credentials, nowMs, authorization, declared);
}

function checkHeader(
  request: SignedRequest,
  query: [string, string][],
  credentials: readonly Credential[],
  nowMs: number,
  authorization: string,
  declared: string | undefined,
): Authenticated {
  const match = /^AWS4-HMAC-SHA256\s+(.*)$/u.exec(authorization);
  if (!match) {
    if (/^AWS(?:4-\S+)? /u.test(authorization)) throw otherSignature();
    throw new S3Error("InvalidArgument", "the Authorization header is of no kind that is known here");
  }
  const fields = new Map<string, string>();
  for (const part of (match[1] ?? "").split(",")) {
    const equals = part.indexOf("=");
    const name = part.slice(0, equals).trim();
    if (equals === -1 || fields.has(name)) {
      throw new S3Error("AuthorizationHeaderMalformed", "the Authorization header is malformed");
    }
    fields.set(name, part.slice(equals + 1).trim());
  }
  const scope = parseScope(fields.get("Credential"), "AuthorizationHeaderMalformed");
  const signedHeaders = parseSignedHeaders(fields.get("SignedHeaders"), request, "AuthorizationHeaderMalformed");
  const given = parseSignature(fields.get("Signature"), "AuthorizationHeaderMalformed");
  const amzDate = single(request, "x-amz-date");
  const timestamp = amzDate ?? basicTimestamp(single(request, "date"));
  if (timestamp === undefined) throw new S3Error("AccessDenied", "a signed request needs x-amz-date or Date");
  const signedMs = parseTimestamp(timestamp, "AccessDenied");
  if (!signedHeaders.includes(amzDate === undefined ? "date" : "x-amz-date")) {
    throw new S3Error("AccessDenied", "the date must be signed");
  }
  if (scope.date !== timestamp.slice(0, 8)) {
    throw new S3Error("SignatureDoesNotMatch", "the date of the credential is not the date of the request");
  }
  if (Math.abs(nowMs - signedMs) > MAX_SKEW_MS) {
    throw new S3Error("RequestTimeTooSkewed", "the request's time differs too much from the gateway's");
  }
  if (declared === undefined) throw new S3Error("InvalidRequest", "x-amz-content-sha256 is missing");
  const { credential, key } = keyOf(scope, credentials);
  const canonical = canonicalRequests(request, query, signedHeaders, declared);
  const { signature, same } = compareSigned(canonical, key, timestamp, scope, given);
  if (credential === undefined) throw unknownKey();
  if (!same) throw mismatch();
  return {
    credential,
    payload: parsePayload(declared, { key, timestamp, scope: scope.text, seed: signature }),
    signature,
  };
}

function checkPresigned(
  request: SignedRequest,
  query: [string, string][],
  credentials: readonly Credential[],
  nowMs: number,
  declared: string | undefined,
): Authenticated {
  const malformed = "AuthorizationQueryParametersError";
  const value = (name: string): string => {
    const found = query.filter(([one]) => one === name);
    const [only] = found;
    if (found.length !== 1 || !only) throw new S3Error(malformed, `${name} must be given once`);
    return only[1];
  };
  if (value("X-Amz-Algorithm") !== "AWS4-HMAC-SHA256") throw otherSignature(malformed);
  const scope = parseScope(value("X-Amz-Credential"), malformed);
  const timestamp = value("X-Amz-Date");
  const signedMs = parseTimestamp(timestamp, malformed);
  if (scope.date !== timestamp.slice(0, 8)) {
    throw new S3Error(malformed, "the date of the credential is not the date of the request");
  }
  const expiresText = value("X-Amz-Expires");
  const expires = Number(expiresText);
  if (!/^\d{1,6}$/u.test(expiresText) || expires < 1 || expires > MAX_EXPIRES) {
    throw new S3Error(malformed, `X-Amz-Expires must be from 1 to ${MAX_EXPIRES}`);
  }
  const signedHeaders = parseSignedHeaders(value("X-Amz-SignedHeaders"), request, malformed);
  const given = parseSignature(value("X-Amz-Signature"), malformed);
  if (nowMs < signedMs - MAX_SKEW_MS) throw new S3Error("AccessDenied", "the request is not valid yet");
  if (nowMs > signedMs + expires * 1000) throw new S3Error("AccessDenied", "the request has expired");
  const inQuery = query.find(([name]) => name === "X-Amz-Content-Sha256")?.[1];
  const payload = inQuery ?? declared ?? "UNSIGNED-PAYLOAD";
  const { credential, key } = keyOf(scope, credentials);
  const unsigned = query.filter(([name]) => name !== "X-Amz-Signature");
  const canonical = canonicalRequests(request, unsigned, signedHeaders, payload);
  const { signature, same } = compareSigned(canonical, key, timestamp, scope, given);
  if (credential === undefined) throw unknownKey();
  if (!same) throw mismatch();
  return { credential, payload: parsePayload(payload, { key, timestamp, scope: scope.text, seed: signature }) };
}

/** The value of a header that may stand once only. */
function single(request: SignedRequest, name: string): string | undefined {
  const values = request.headers[name];
  if (values !== undefined && values.length > 1) {
    throw new S3Error("InvalidRequest", `the header ${name} stands more than once`);
  }
  return values?.[0];
}

interface Scope {
  readonly accessKey: string;
  readonly date: string;
  readonly region: string;
  /** `date/region/s3/aws4_request` */
  readonly text: string;
}

function parseScope(
  text: string | undefined,
  code: "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError",
): Scope {
  const match = /^(.+)\/(\d{8})\/([^/]{1,64})\/([^/]+)\/([^/]+)$/u.exec(text ?? "");
  if (!match) throw new S3Error(code, "the credential must be KEY/DATE/REGION/s3/aws4_request");
  const [, accessKey = "", date = "", region = "", service, end] = match;
  if (service !== "s3" || end !== "aws4_request") {
    throw new S3Error(code, "the credential must be for the service s3 and end with aws4_request");
  }
  return { accessKey, date, region, text: `${date}/${region}/s3/aws4_request` };
}

function parseSignedHeaders(
  text: string | undefined,
  request: SignedRequest,
  code: "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError",
): string[] {
  const names = (text ?? "").split(";");
  if (
    !text ||
    names.some((name) => !/^[!#$%&'*+.^_`|~0-9a-z-]+$/u.test(name)) ||
    new Set(names).size !== names.length
  ) {
    throw new S3Error(code, "the list of signed headers is malformed");
  }
  if (!names.includes("host")) throw new S3Error("AccessDenied", "the header host must be signed");
  for (const name of Object.keys(request.headers)) {
    if (name.startsWith("x-amz-") && !names.includes(name)) {
      throw new S3Error("AccessDenied", `the header ${name} is there and not signed`);
    }
  }
  return names.toSorted();
}

function parseSignature(
  text: string | undefined,
  code: "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError",
): string {
  if (!/^[0-9a-f]{64}$/u.test(text ?? "")) throw new S3Error(code, "the signature must be 64 hexadecimal digits");
  return text ?? "";
}

function parseTimestamp(text: string, code: "AccessDenied" | "AuthorizationQueryParametersError"): number {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/u.exec(text);
  const ms = match
    ? Date.parse(`${match[1]}-${match[2]}-${match[3]}T${match[4]}:${match[5]}:${match[6]}Z`)
    : Number.NaN;
  if (Number.isNaN(ms)) throw new S3Error(code, "the request's date must look like 20260131T235959Z");
  return ms;
}

/** A Date header's time as x-amz-date would have it. */
function basicTimestamp(date: string | undefined): string | undefined {
  const ms = Date.parse(date ?? "");
  if (Number.isNaN(ms)) return undefined;
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/gu, "")}Z`;
}

/** The signing key; for an unknown access key that of an impossible secret, so that the time tells nothing. */
function keyOf(scope: Scope, credentials: readonly Credential[]): { credential: Credential | undefined; key: Buffer } {
  const credential = credentials.find((one) => one.user === scope.accessKey);
  return { credential, key: signingKey(credential?.password ?? "\0", scope.date, scope.region) };
}

/**
 * The texts that a client may have signed, as node gives headers: each character a byte. Clients sign the bytes that they
 * send, but for some that sign a text's UTF-8 and send its Latin-1. Each of the two texts tells every byte.
 */
function canonicalRequests(
  request: SignedRequest,
  query: readonly [string, string][],
  signedHeaders: readonly string[],
  payload: string,
): string[] {
  // Decoded and encoded again: clients differ in what they leave as it is on the wire, not in what they sign.
  const path = request.rawPath
    .split("/")
    .map((part) => percentEncode(percentDecode(part)))
    .join("/");
  const headers = signedHeaders.map((name): [string, string] => [
    name,
    // Spaces and no other bytes: the last byte of a letter can look like a space of another script.
    (request.headers[name] ?? [""])
      .map((value) => value.replace(/^[ \t]+|[ \t]+$/gu, "").replace(/ +/gu, " "))
      .join(","),
  ]);
  const text = canonicalText({ method: request.method, path, query: canonicalQuery(query), headers, payload });
  const asText = Buffer.from(text, "utf8").toString("latin1");
  return asText === text ? [text] : [text, asText];
}

/** Whether one of the texts has the given signature; which one decides about the signatures of chunks. */
function compareSigned(
  canonical: readonly string[],
  key: Buffer,
  timestamp: string,
  scope: Scope,
  given: string,
): { readonly signature: string; readonly same: boolean } {
  const signatures = canonical.map((text) =>
    sign(key, stringToSign(timestamp, scope.text, Buffer.from(text, "latin1"))),
  );
  const right = signatures.find((signature) => sameSignature(signature, given));
  return { signature: right ?? "", same: right !== undefined };
}

function parsePayload(declared: string, signing: ChunkSigning): Payload {
  if (declared === "UNSIGNED-PAYLOAD") return { kind: "unsigned" };
  switch (declared) {
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
      return { kind: "chunks", signing, trailer: false };
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
      return { kind: "chunks", signing, trailer: true };
    case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
      return { kind: "chunks", signing: undefined, trailer: true };
    default:
      if (/^[0-9a-f]{64}$/u.test(declared)) return { kind: "sha256", sha256: declared };
      if (declared.startsWith("STREAMING-")) throw new S3Error("NotImplemented", `${declared} is not supported`);
      throw new S3Error("InvalidArgument", "x-amz-content-sha256 is neither a SHA-256 nor a word that S3 knows");
  }
}

/** What is known of the body of a request whose signature nobody looks at. */
function openPayload(declared: string | undefined, encoding: string | undefined): Payload {
  if (declared?.startsWith("STREAMING-") || encoding?.includes("aws-chunked")) {
    return { kind: "chunks", signing: undefined, trailer: declared?.endsWith("-TRAILER") ?? true };
  }
  return declared !== undefined && /^[0-9a-f]{64}$/u.test(declared)
    ? { kind: "sha256", sha256: declared }
    : { kind: "unsigned" };
}

/** Signature of a chunk's data. */
export function signChunk(signing: ChunkSigning, previous: string, dataSha256: string): string {
  return sign(
    signing.key,
    ["AWS4-HMAC-SHA256-PAYLOAD", signing.timestamp, signing.scope, previous, sha256(""), dataSha256].join("\n"),
  );
}

/** Signature of the trailer: `text` is each header as `name:value\n`. */
export function signTrailer(signing: ChunkSigning, previous: string, text: string): string {
  return sign(
    signing.key,
    ["AWS4-HMAC-SHA256-TRAILER", signing.timestamp, signing.scope, previous, sha256(text)].join("\n"),
  );
}

/** Compares two signatures of 64 hexadecimal digits in constant time. */
export function sameSignature(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}

function otherSignature(code: "InvalidRequest" | "AuthorizationQueryParametersError" = "InvalidRequest"): S3Error {
  return new S3Error(code, "only Signature Version 4 (AWS4-HMAC-SHA256) is accepted, not Version 2 or another");
}

function mismatch(): S3Error {
  return new S3Error("SignatureDoesNotMatch", "the signature is not the one that this request and the secret key give");
}

function unknownKey(): S3Error {
  return new S3Error("InvalidAccessKeyId", "the access key is not known here");
}
