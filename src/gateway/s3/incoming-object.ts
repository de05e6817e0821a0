/** The body of an upload: decoded, digested and checked against everything that the client says about it. */
import { createHash } from "node:crypto";
import { toBody } from "../../contract/body.ts";
import type { Body } from "../../contract/store.ts";
import { contentLength, incomingBytes } from "../http-tools.ts";
import type { Exchange } from "../exchange.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { checksumAlgorithm, checksumAlgorithms, createChecksum } from "./checksums.ts";
import { decodeChunks } from "./chunked-body.ts";
import { S3Error } from "./s3-error.ts";
import type { Payload } from "./signature.ts";

export interface IncomingObject {
  readonly size: number;
  /** MD5 in lower-case hexadecimal. Known once the body has been read to its end. */
  md5(): string;
  /** Checksums by algorithm in base64: those the client sent, and the one it asked for. Known like the MD5. */
  checksums(): Partial<Record<ChecksumAlgorithm, string>>;
  readonly body: Body;
  /** The error that the body ended with, so that it can be told from what the stores made of it. */
  problem(): unknown;
}

export interface TakeOptions {
  /** A checksum to compute though the client sent none. */
  readonly algorithm?: ChecksumAlgorithm | undefined;
  /** The headers with checksums speak of an object that is not this body. Default false. */
  readonly ofObject?: boolean;
}

/** Takes the body of a request. */
export async function takeObject(
  exchange: Exchange,
  payload: Payload,
  maxBytes: number,
  { algorithm, ofObject = false }: TakeOptions = {},
): Promise<IncomingObject> {
  const { request } = exchange;
  const chunked = payload.kind === "chunks";
  const decodedLength = request.headers["x-amz-decoded-content-length"];
  const size = chunked
    ? typeof decodedLength === "string" && /^\d{1,15}$/u.test(decodedLength)
      ? Number(decodedLength)
      : undefined
    : contentLength(exchange);
  if (size === undefined) throw new S3Error("MissingContentLength", "the length of the body must be given");
  if (size > maxBytes) throw new S3Error("EntityTooLarge", `the body is longer than ${maxBytes} bytes`);
  const trailers = new Map<string, string>();
  let source: AsyncIterable<Uint8Array> = incomingBytes(exchange);
  if (chunked) source = decodeChunks(source, { signing: payload.signing, trailer: payload.trailer, trailers });

  const expectedMd5 = digestHeader(request.headers["content-md5"], 16, "Content-MD5");
  const expected = new Map<ChecksumAlgorithm, Buffer>();
  for (const algorithm of ofObject ? [] : checksumAlgorithms) {
    const value = digestHeader(
      request.headers[`x-amz-checksum-${algorithm}`],
      undefined,
      `x-amz-checksum-${algorithm}`,
    );
    if (value) expected.set(algorithm, value);
  }
  if (expected.size > 1) throw new S3Error("InvalidRequest", "one checksum can be given, not several");
  const wanted = new Set<ChecksumAlgorithm>(expected.keys());
  const asked = request.headers["x-amz-sdk-checksum-algorithm"] ?? request.headers["x-amz-checksum-algorithm"];
  if (typeof asked === "string") {
    const known = checksumAlgorithm(asked);
    if (!known) throw new S3Error("InvalidRequest", "this checksum algorithm is not known");
    wanted.add(known);
  }
  const announced = request.headers["x-amz-trailer"];
  if (typeof announced === "string") {
    for (const name of announced.split(",")) {
      const known = checksumAlgorithm(name.trim());
      if (!known) throw new S3Error("InvalidRequest", "x-amz-trailer names a header that is no checksum");
      wanted.add(known);
    }
  }
  if (algorithm) wanted.add(algorithm);

  const md5 = createHash("md5");
  const sha256 = payload.kind === "sha256" ? createHash("sha256") : undefined;
  const sums = new Map([...wanted].map((one) => [one, createChecksum(one)] as const));
  const results: Partial<Record<ChecksumAlgorithm, string>> = {};
  let md5Hex: string | undefined;
  let problem: unknown;
  const checked = async function* (): AsyncGenerator<Uint8Array> {
    try {
      let total = 0;
      for await (const chunk of source) {
        total += chunk.length;
        if (total > size) throw new S3Error("InvalidRequest", "the body is longer than its declared length");
        md5.update(chunk);
        sha256?.update(chunk);
        for (const sum of sums.values()) sum.update(chunk);
        yield chunk;
      }
      if (total < size) throw new S3Error("IncompleteBody", "the body is shorter than its declared length");
      const digest = md5.digest();
      md5Hex = digest.toString("hex");
      if (expectedMd5 && !digest.equals(expectedMd5)) {
        throw new S3Error("BadDigest", "the body's MD5 is not the one that Content-MD5 gives");
      }
      if (sha256 && payload.kind === "sha256" && sha256.digest("hex") !== payload.sha256) {
        throw new S3Error("XAmzContentSHA256Mismatch", "the body's SHA-256 is not the signed one");
      }
      const promised = typeof announced === "string" ? announced.split(",").map((one) => one.trim().toLowerCase()) : [];
      const surprise = [...trailers.keys()].find((name) => !promised.includes(name));
      if (surprise !== undefined)
        throw new S3Error("InvalidRequest", `the trailer ${surprise} was not announced with x-amz-trailer`);
      for (const [name, sum] of sums) {
        const result = sum.digest();
        results[name] = result.toString("base64");
        const trailer = digestHeader(trailers.get(`x-amz-checksum-${name}`), undefined, `x-amz-checksum-${name}`);
        for (const right of [expected.get(name), trailer]) {
          if (right && !right.equals(result)) {
            throw new S3Error("BadDigest", `the body's ${name} is not the one that the client gives`);
          }
        }
      }
      const missing = promised.find((name) => !trailers.has(name));
      if (missing !== undefined) throw new S3Error("InvalidRequest", `the announced trailer ${missing} is missing`);
    } catch (error) {
      problem = error;
      throw error;
    }
  };
  const body = toBody(checked(), { size });
  return {
    size,
    body,
    md5: () => {
      if (md5Hex === undefined) throw new S3Error("InternalError", "the body has not been read to its end");
      return md5Hex;
    },
    checksums: () => results,
    problem: () => problem,
  };
}

function digestHeader(
  value: string | readonly string[] | undefined,
  bytes: number | undefined,
  name: string,
): Buffer | undefined {
  if (value === undefined) return undefined;
  const text = typeof value === "string" ? value : value.join(",");
  const digest = Buffer.from(text, "base64");
  if (!/^[A-Za-z0-9+/]+={0,2}$/u.test(text) || (bytes !== undefined && digest.length !== bytes)) {
    throw new S3Error(bytes === undefined ? "InvalidRequest" : "InvalidDigest", `${name} is malformed`);
  }
  return digest;
}
