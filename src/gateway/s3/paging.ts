/** What listings in pages have in common: how many entries, from where, and in which encoding. */
import { Buffer } from "node:buffer";
import { encodePath } from "../../support/signature-v4.ts";
import { S3Error } from "./s3-error.ts";
import { tag } from "./xml.ts";

const MAX_KEYS = 1000;

export function maxKeys(text: string | undefined, most = MAX_KEYS): number {
  if (text === undefined || text === "") return most;
  if (!/^\d{1,9}$/u.test(text)) throw new S3Error("InvalidArgument", "the number of entries must be 0 or more");
  return Math.min(most, Number(text));
}

export function encoder(query: ReadonlyMap<string, string>): (text: string) => string {
  const encoding = query.get("encoding-type");
  if (encoding === undefined) return (text) => text;
  if (encoding !== "url") throw new S3Error("InvalidArgument", "encoding-type can only be url");
  return encodePath;
}

/** Tokens are opaque to clients; keys in them survive every client's idea of encoding. */
export function encodeToken(key: string): string {
  return Buffer.from(key).toString("base64url");
}

export function decodeToken(token: string): string {
  if (!/^[A-Za-z0-9_-]+$/u.test(token)) {
    throw new S3Error("InvalidArgument", "the continuation token is not one of this gateway's");
  }
  return Buffer.from(token, "base64url").toString("utf8");
}

export function prefixesXml(prefixes: readonly string[], encode: (text: string) => string): string {
  return prefixes.map((prefix) => `<CommonPrefixes>${tag("Prefix", encode(prefix))}</CommonPrefixes>`).join("");
}
