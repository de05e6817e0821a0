/**
 * AWS's Signature Version 4, the part that whoever signs and whoever checks have in common: the gateway checks requests
 * with it, the S3 store signs its own.
 */
import { createHash, createHmac } from "node:crypto";

/** A request as it is signed. */
export interface CanonicalRequest {
  readonly method: string;
  /** Percent-encoded, part by part, with {@link percentEncode}. */
  readonly path: string;
  /** {@link canonicalQuery}. */
  readonly query: string;
  /** The signed headers, names in lower case, in order of their names; values as they are signed. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** The SHA-256 of the body, or a word that stands for one. */
  readonly payload: string;
}

/** Percent-encoding of RFC 3986: everything but letters, digits and `-._~`. */
export function percentEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/gu,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** A path with each part percent-encoded. */
export function encodePath(path: string): string {
  return path.split("/").map(percentEncode).join("/");
}

/** Names and values of a query, encoded and in the order in which they are signed. */
export function canonicalQuery(query: readonly (readonly [name: string, value: string])[]): string {
  return query
    .map(([name, value]) => [percentEncode(name), percentEncode(value)] as const)
    .sort((a, b) => compare(a[0], b[0]) || compare(a[1], b[1]))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/** The text whose digest is signed. */
export function canonicalText({ method, path, query, headers, payload }: CanonicalRequest): string {
  const lines = headers.map(([name, value]) => `${name}:${value}\n`).join("");
  const names = headers.map(([name]) => name).join(";");
  return [method, path, query, lines, names, payload].join("\n");
}

/** `timestamp` is `20260131T235959Z`, `scope` is `20260131/REGION/SERVICE/aws4_request`. A text stands for its UTF-8. */
export function stringToSign(timestamp: string, scope: string, canonical: string | Uint8Array): string {
  return ["AWS4-HMAC-SHA256", timestamp, scope, sha256(canonical)].join("\n");
}

/** The key for one day (`20260131`), region and service. */
export function signingKey(secret: string, date: string, region: string, service = "s3"): Buffer {
  return hmac(hmac(hmac(hmac(`AWS4${secret}`, date), region), service), "aws4_request");
}

/** The signature of a text: 64 hexadecimal digits. */
export function sign(key: Buffer, text: string): string {
  return createHmac("sha256", key).update(text).digest("hex");
}

/** The SHA-256 of bytes, or of a text's UTF-8: 64 hexadecimal digits. */
export function sha256(text: string | Uint8Array): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
