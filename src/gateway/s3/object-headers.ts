/** Headers of S3 requests and answers that describe an object, and what is kept of them. */
import { Buffer } from "node:buffer";
import type { OutgoingHttpHeaders } from "node:http";
import type { ObjectInfo } from "../../store.ts";
import { escapeXml } from "../../xml.ts";
import type { Exchange } from "../http-server.ts";
import { keptHeaders } from "../object-facts.ts";
import type { IncomingObject } from "./incoming-object.ts";
import { S3Error } from "./s3-error.ts";

/** S3's limit for user metadata, names and values together. */
const MAX_USER_METADATA_BYTES = 2048;

/** What cannot be done is refused, never ignored. */
export function checkAcl(exchange: Exchange): void {
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
export function requestMetadata(exchange: Exchange): Record<string, string> {
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
export function utf8(value: string): string {
  return Buffer.from(value, "latin1").toString("utf8");
}

export function checksumMetadata(incoming: IncomingObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(incoming.checksums()).map(([name, value]) => [`x-amz-checksum-${name}`, value]),
  );
}

export function objectHeaders(info: ObjectInfo, etag: string): OutgoingHttpHeaders {
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
