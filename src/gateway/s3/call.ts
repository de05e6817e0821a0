/** One request to the S3 gateway, and what every operation asks of it. */
import { Buffer } from "node:buffer";
import type { Exchange } from "../exchange.ts";
import { percentDecode, readSmall } from "../http-tools.ts";
import { takeObject } from "./incoming-object.ts";
import { S3Error } from "./s3-error.ts";
import type { Authenticated } from "./signature.ts";

/** Longest XML body: 1,000 keys of 1,024 bytes, or 10,000 parts. */
const MAX_XML_BYTES = 4 * 1024 ** 2;

export interface Call {
  readonly exchange: Exchange;
  readonly auth: Authenticated;
  readonly query: ReadonlyMap<string, string>;
  readonly bucket: string;
  readonly key: string;
}

/**
 * A small body, whole and checked. `ofObject`: headers with checksums speak of the object that the request makes, not of
 * this body.
 */
export async function takeWhole(call: Call, ofObject = false): Promise<Buffer> {
  const { exchange, auth } = call;
  const incoming = await takeObject(exchange, auth.payload, MAX_XML_BYTES, { ofObject }).catch(noLength);
  return incoming ? readSmall(call.exchange, MAX_XML_BYTES, incoming.body.open()) : Buffer.alloc(0);
}

/** A request without a body need not say so. */
function noLength(error: unknown): undefined {
  if (error instanceof S3Error && error.s3Code === "MissingContentLength") return undefined;
  throw error;
}

export function decodeUri(text: string): string {
  try {
    return percentDecode(text);
  } catch (error) {
    throw new S3Error("InvalidURI", "the path is not percent-encoded UTF-8", error);
  }
}
