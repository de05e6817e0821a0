/** The body of an upload: decoded, digested and checked against everything that the client says about it. */
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { onceBody } from "../../contract/body.ts";
import type { Body } from "../../contract/store.ts";
import { contentLength, incomingBytes } from "../http-tools.ts";
import type { Exchange } from "../exchange.ts";
import type { Checksum, ChecksumAlgorithm } from "./checksums.ts";
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
  const size = sizeOf(exchange, payload);
  if (size === undefined) throw new S3Error("MissingContentLength", "the length of the body must be given");
  if (size > maxBytes) throw new S3Error("EntityTooLarge", `the body is longer than ${maxBytes} bytes`);
  const trailers = new Map<string, string>();
  let source: AsyncIterable<Uint8Array> = incomingBytes(exchange);
  if (payload.kind === "chunks") {
    source = decodeChunks(source, { signing: payload.signing, trailer: payload.trailer, trailers });
  }
  const checks = new BodyChecks(exchange.request.headers, payload, trailers, ofObject);
  if (algorithm) checks.compute(algorithm);

  let problem: unknown;
  const checked = async function* (): AsyncGenerator<Uint8Array> {
    try {
      let total = 0;
      for await (const chunk of source) {
        total += chunk.length;
        if (total > size) throw new S3Error("InvalidRequest", "the body is longer than its declared length");
        checks.update(chunk);
        yield chunk;
      }
      if (total < size) throw new S3Error("IncompleteBody", "the body is shorter than its declared length");
      checks.finish();
    } catch (error) {
      problem = error;
      throw error;
    }
  };
  return {
    size,
    body: onceBody(checked, size, true),
    md5: () => checks.md5,
    checksums: () => checks.checksums,
    problem: () => problem,
  };
}

/** Bytes of the object in the body, as the client declares them. */
function sizeOf(exchange: Exchange, payload: Payload): number | undefined {
  if (payload.kind !== "chunks") return contentLength(exchange);
  const length = exchange.request.headers["x-amz-decoded-content-length"];
  return typeof length === "string" && /^\d{1,15}$/u.test(length) ? Number(length) : undefined;
}

/** Everything that the client says about a body, in headers, in the signature and in trailers, against its bytes. */
class BodyChecks {
  readonly #trailers: ReadonlyMap<string, string>;
  /** Names of trailers that are to come, in lower case. */
  readonly #announced: readonly string[];
  readonly #expectedMd5: Buffer | undefined;
  readonly #md5 = createHash("md5");
  #md5Hex: string | undefined;
  readonly #expectedSha256: string | undefined;
  readonly #sha256: Hash | undefined;
  /** What headers give. */
  readonly #expected: ReadonlyMap<ChecksumAlgorithm, Buffer>;
  readonly #sums = new Map<ChecksumAlgorithm, Checksum>();
  readonly checksums: Partial<Record<ChecksumAlgorithm, string>> = {};

  /** `trailers` are filled as the body is read. Throws for headers that are malformed, or ask for what there is not. */
  constructor(
    headers: IncomingHttpHeaders,
    payload: Payload,
    trailers: ReadonlyMap<string, string>,
    ofObject: boolean,
  ) {
    this.#trailers = trailers;
    this.#expectedMd5 = digestHeader(headers["content-md5"], 16, "Content-MD5");
    this.#expected = ofObject ? new Map() : checksumHeaders(headers);
    if (this.#expected.size > 1) throw new S3Error("InvalidRequest", "one checksum can be given, not several");
    for (const algorithm of this.#expected.keys()) this.compute(algorithm);
    const asked = headers["x-amz-sdk-checksum-algorithm"] ?? headers["x-amz-checksum-algorithm"];
    if (typeof asked === "string") this.#computeNamed(asked, "this checksum algorithm is not known");
    const announced = headers["x-amz-trailer"];
    this.#announced =
      typeof announced === "string" ? announced.split(",").map((name) => name.trim().toLowerCase()) : [];
    for (const name of this.#announced) {
      this.#computeNamed(name, "x-amz-trailer names a header that is no checksum");
    }
    this.#expectedSha256 = payload.kind === "sha256" ? payload.sha256 : undefined;
    this.#sha256 = payload.kind === "sha256" ? createHash("sha256") : undefined;
  }

  #computeNamed(name: string, otherwise: string): void {
    const algorithm = checksumAlgorithm(name);
    if (!algorithm) throw new S3Error("InvalidRequest", otherwise);
    this.compute(algorithm);
  }

  /** Computes one checksum more. To be called before the first byte. */
  compute(algorithm: ChecksumAlgorithm): void {
    if (!this.#sums.has(algorithm)) this.#sums.set(algorithm, createChecksum(algorithm));
  }

  update(chunk: Uint8Array): void {
    this.#md5.update(chunk);
    this.#sha256?.update(chunk);
    for (const sum of this.#sums.values()) sum.update(chunk);
  }

  /** Compares, when all bytes have come. */
  finish(): void {
    const digest = this.#md5.digest();
    this.#md5Hex = digest.toString("hex");
    if (this.#expectedMd5 && !digest.equals(this.#expectedMd5)) {
      throw new S3Error("BadDigest", "the body's MD5 is not the one that Content-MD5 gives");
    }
    if (this.#sha256 && this.#sha256.digest("hex") !== this.#expectedSha256) {
      throw new S3Error("XAmzContentSHA256Mismatch", "the body's SHA-256 is not the signed one");
    }
    const surprise = [...this.#trailers.keys()].find((name) => !this.#announced.includes(name));
    if (surprise !== undefined)
      throw new S3Error("InvalidRequest", `the trailer ${surprise} was not announced with x-amz-trailer`);
    for (const [algorithm, sum] of this.#sums) this.#compare(algorithm, sum.digest());
    const missing = this.#announced.find((name) => !this.#trailers.has(name));
    if (missing !== undefined) throw new S3Error("InvalidRequest", `the announced trailer ${missing} is missing`);
  }

  #compare(algorithm: ChecksumAlgorithm, result: Buffer): void {
    this.checksums[algorithm] = result.toString("base64");
    const header = checksumHeader(algorithm);
    const trailer = digestHeader(this.#trailers.get(header), undefined, header);
    for (const right of [this.#expected.get(algorithm), trailer]) {
      if (right && !right.equals(result)) {
        throw new S3Error("BadDigest", `the body's ${algorithm} is not the one that the client gives`);
      }
    }
  }

  get md5(): string {
    if (this.#md5Hex === undefined) throw new S3Error("InternalError", "the body has not been read to its end");
    return this.#md5Hex;
  }
}

function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return `x-amz-checksum-${algorithm}`;
}

function checksumHeaders(headers: IncomingHttpHeaders): Map<ChecksumAlgorithm, Buffer> {
  const found = new Map<ChecksumAlgorithm, Buffer>();
  for (const algorithm of checksumAlgorithms) {
    const header = checksumHeader(algorithm);
    const value = digestHeader(headers[header], undefined, header);
    if (value) found.set(algorithm, value);
  }
  return found;
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
