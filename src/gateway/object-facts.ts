/**
 * What gateways keep with an object, and how they name it.
 *
 * Metadata of an object, by key:
 * - `content-type`, `cache-control`, `content-disposition`, `content-encoding`, `content-language`, `expires`: as given.
 * - `md5`: of the content, lower-case hexadecimal; the S3 ETag.
 * - `etag`: an ETag that is no MD5 of the content (of a multipart upload).
 * - `parts`: sizes of the parts of a multipart upload, `5242880*3,77`.
 * - `latin1`: names of the headers among these whose value came as bytes that are no UTF-8, with commas between.
 * - `mtime`: modification time that the client gave, in seconds since 1970 with decimals.
 * - `x-amz-…`: user metadata and checksums of S3. `dav:…`: dead properties of WebDAV.
 *
 * A folder that must exist while it is empty is an object called `.holdfast-folder` in it, hidden by every gateway. S3
 * shows it as the key that ends with a slash.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import { isReserved } from "../contract/names.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";

/** Last part of the name of an object that stands for its folder. */
export const FOLDER_MARKER = ".holdfast-folder";

/** Whether an object stands for a folder. */
export function isFolderMarker(name: string): boolean {
  return name === FOLDER_MARKER || name.endsWith(`/${FOLDER_MARKER}`);
}

/** The file or folder that an object stands for, without slashes at its ends; "" is the root. */
export function resourceOf(name: string): { readonly path: string; readonly isFolder: boolean } {
  if (!isFolderMarker(name)) return { path: name, isFolder: false };
  return { path: name.slice(0, -FOLDER_MARKER.length).replace(/\/$/u, ""), isFolder: true };
}

/** Throws `invalid` for names that clients of a gateway cannot use. */
export function checkClientName(name: string): void {
  if (isReserved(name)) throw new HoldfastError("invalid", "names under .holdfast/ are Holdfast's own");
  if (name.split("/").includes(FOLDER_MARKER)) {
    throw new HoldfastError("invalid", `a part of a name cannot be ${FOLDER_MARKER}`);
  }
}

/** ETag without quotes: the MD5 where it is known; otherwise something of another shape that follows the content. */
export function etagOf(info: PoolObjectInfo): string {
  const { metadata, sha256 } = info;
  if (metadata?.["etag"] !== undefined) return metadata["etag"];
  if (metadata?.["md5"] !== undefined) return metadata["md5"];
  // A dash tells S3 clients that it is no MD5.
  if (sha256 !== undefined) return `${sha256.slice(0, 32)}-1`;
  const facts = `${info.name}\0${info.size}\0${info.modifiedMs ?? 0}`;
  return `${createHash("md5").update(facts).digest("hex")}-1`;
}

/**
 * Whether two looks at a name saw one version. An object without a record on both looks was put by no pool in between, which
 * would have made one; and stores tell its time in listings and elsewhere differently.
 */
export function isSameVersion(a: PoolObjectInfo | undefined, b: PoolObjectInfo): boolean {
  if (a === undefined || a.size !== b.size || a.sha256 !== b.sha256) return false;
  if (a.sha256 === undefined) return true;
  return a.modifiedMs === b.modifiedMs && isDeepStrictEqual(a.metadata, b.metadata);
}

/** Names of headers that are kept as they are given. */
export const keptHeaders = [
  "content-type",
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "expires",
] as const;

/** Whether an error says that it cannot be known, for now, what is there. */
export function isUnknown(error: unknown): boolean {
  return isHoldfastError(error) && ["unavailable", "timeout", "throttled", "incomplete", "denied"].includes(error.code);
}
