/** Headers of S3 requests and answers that describe an object, and what is kept of them. */
import { Buffer } from "node:buffer";
import type { OutgoingHttpHeaders } from "node:http";
import type { ObjectInfo, ObjectMetadata } from "../../contract/store.ts";
import type { Exchange } from "../exchange.ts";
import { fromHeader, toHeader } from "../http-tools.ts";
import { keptHeaders } from "../object-facts.ts";
import { checksumAlgorithms } from "./checksums.ts";
import type { IncomingObject } from "./incoming-object.ts";
import { S3Error } from "./s3-error.ts";
import { tag } from "./xml.ts";

/** S3's limit for user metadata, names and values together. */
const MAX_USER_METADATA_BYTES = 2048;

/**
 * What is kept with an object, from the headers of a request. Values that are no UTF-8 are kept as Latin-1, and their names
 * under `latin1`, so that they are given back byte for byte.
 */
export function requestMetadata(exchange: Exchange): Record<string, string> {
  const { headers } = exchange.request;
  const metadata: Record<string, string> = {};
  const latin1: string[] = [];
  const keep = (name: string, value: string): string => {
    const decoded = fromHeader(value);
    if (decoded.latin1) latin1.push(name);
    metadata[name] = decoded.text;
    return decoded.text;
  };
  for (const name of keptHeaders) {
    const given = headers[name];
    const value = name === "content-encoding" && typeof given === "string" ? withoutChunks(given) : given;
    if (typeof value === "string" && value !== "") keep(name, value);
  }
  let bytes = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith("x-amz-meta-") || value === undefined) continue;
    const text = keep(name, Array.isArray(value) ? value.join(",") : value);
    bytes += Buffer.byteLength(name) - "x-amz-meta-".length + Buffer.byteLength(text);
  }
  if (bytes > MAX_USER_METADATA_BYTES) throw new S3Error("MetadataTooLarge", "user metadata is longer than 2 KiB");
  if (latin1.length > 0) metadata["latin1"] = latin1.join(",");
  return metadata;
}

/** A Content-Encoding without `aws-chunked`, which is of the request and not of the object. */
function withoutChunks(value: string): string {
  if (!/aws-chunked/iu.test(value)) return value;
  return value
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "" && one.toLowerCase() !== "aws-chunked")
    .join(", ");
}

/** Whether a key of metadata tells of an object's content, so that a copy has it whatever else it is given. */
export function keptWithContent(name: string): boolean {
  return ["md5", "etag", "parts"].includes(name) || name.startsWith("x-amz-checksum-");
}

export function checksumMetadata(incoming: IncomingObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(incoming.checksums()).map(([name, value]) => [`x-amz-checksum-${name}`, value]),
  );
}

/** Checksums of an object as elements of an answer. */
export function checksumTags(metadata: ObjectMetadata | undefined): string {
  return checksumAlgorithms
    .map((name) => tag(`Checksum${name.toUpperCase()}`, metadata?.[`x-amz-checksum-${name}`]))
    .concat(tag("ChecksumType", metadata?.["x-amz-checksum-type"]))
    .join("");
}

export function objectHeaders(info: ObjectInfo, etag: string): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    "content-type": "binary/octet-stream",
    "accept-ranges": "bytes",
    etag,
    "last-modified": new Date(info.modifiedMs ?? 0).toUTCString(),
  };
  const latin1 = info.metadata?.["latin1"]?.split(",") ?? [];
  for (const [name, value] of Object.entries(info.metadata ?? {})) {
    const kept = (keptHeaders as readonly string[]).includes(name) || name.startsWith("x-amz-meta-");
    if (kept) headers[name] = latin1.includes(name) ? value : toHeader(value);
  }
  return headers;
}
