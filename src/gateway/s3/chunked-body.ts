/**
 * Bodies in the `aws-chunked` encoding: `size;chunk-signature=…`, data, and headers after the last chunk.
 *
 * The data of a chunk is handed on as it comes; a wrong signature ends the stream with an error at the end of its chunk,
 * and an object whose stream ends so is not stored.
 */
import { createHash } from "node:crypto";
import { S3Error } from "./s3-error.ts";
import type { ChunkSigning } from "./signature.ts";
import { sameSignature, signChunk, signTrailer } from "./signature.ts";

/** Longest line between chunks, and longest trailer, in bytes. */
const MAX_LINE_BYTES = 8192;

export interface ChunkedOptions {
  /** Absent: the chunks are not signed. */
  readonly signing: ChunkSigning | undefined;
  /** Whether a trailer follows the last chunk. */
  readonly trailer: boolean;
  /** Receives the trailer's headers, names in lower case. */
  readonly trailers: Map<string, string>;
}

export async function* decodeChunks(
  source: AsyncIterable<Uint8Array>,
  options: ChunkedOptions,
): AsyncGenerator<Uint8Array> {
  const { signing } = options;
  const input = new Reader(source);
  let previous = signing?.seed ?? "";
  for (;;) {
    const header = await input.line();
    const match = /^([0-9a-fA-F]{1,12})(?:;(.*))?$/u.exec(header);
    if (!match) throw new S3Error("InvalidRequest", "the header of a chunk is malformed");
    const size = Number.parseInt(match[1] ?? "", 16);
    const given = /^chunk-signature=([0-9a-f]{64})$/u.exec(match[2] ?? "")?.[1];
    if (signing && given === undefined) throw new S3Error("SignatureDoesNotMatch", "a chunk is not signed");
    const hash = signing ? createHash("sha256") : undefined;
    for await (const bytes of input.take(size)) {
      hash?.update(bytes);
      yield bytes;
    }
    if (signing && hash && given !== undefined) {
      const right = signChunk(signing, previous, hash.digest("hex"));
      if (!sameSignature(right, given)) throw new S3Error("SignatureDoesNotMatch", "the signature of a chunk is wrong");
      previous = right;
    }
    if (size === 0) break;
    if ((await input.line()) !== "") throw new S3Error("InvalidRequest", "a chunk is longer than it says");
  }
  await readTrailer(input, options, previous);
}

async function readTrailer(input: Reader, options: ChunkedOptions, previous: string): Promise<void> {
  const { signing, trailers } = options;
  let text = "";
  let signature: string | undefined;
  for (;;) {
    const line = await input.lineOrEnd();
    // The empty line at the end is left out by some clients.
    if (line === undefined || line === "") break;
    const colon = line.indexOf(":");
    if (colon < 1 || !options.trailer) throw new S3Error("InvalidRequest", "the trailer is malformed");
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === "x-amz-trailer-signature") {
      signature = value;
      continue;
    }
    text += `${name}:${value}\n`;
    if (text.length > MAX_LINE_BYTES || trailers.has(name)) {
      throw new S3Error("InvalidRequest", "the trailer is malformed");
    }
    trailers.set(name, value);
  }
  if (signing && options.trailer) {
    if (signature === undefined || !sameSignature(signTrailer(signing, previous, text), signature)) {
      throw new S3Error("SignatureDoesNotMatch", "the signature of the trailer is wrong");
    }
  }
  // Data behind the end would be data that nobody signed.
  if ((await input.lineOrEnd()) !== undefined) throw new S3Error("InvalidRequest", "bytes follow the last chunk");
}

/** Lines and stretches of bytes out of a stream. */
class Reader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const line = await this.lineOrEnd();
    if (line === undefined) throw new S3Error("IncompleteBody", "the body ends in the middle");
    return line;
  }

  /** A line without its CRLF; undefined at the end. */
  async lineOrEnd(): Promise<string | undefined> {
    let line = Buffer.alloc(0);
    for (;;) {
      if (this.#rest.length === 0 && !(await this.#more())) {
        if (line.length > 0) throw new S3Error("IncompleteBody", "the body ends in the middle of a line");
        return undefined;
      }
      const end = this.#rest.indexOf(10);
      const part = end === -1 ? this.#rest : this.#rest.subarray(0, end + 1);
      line = Buffer.concat([line, part]);
      this.#rest = this.#rest.subarray(part.length);
      if (line.length > MAX_LINE_BYTES) throw new S3Error("InvalidRequest", "a line between chunks is too long");
      if (end !== -1) {
        if (line.at(-2) !== 13) throw new S3Error("InvalidRequest", "a line between chunks does not end with CRLF");
        return line.subarray(0, -2).toString("latin1");
      }
    }
  }

  async *take(size: number): AsyncGenerator<Uint8Array> {
    let left = size;
    while (left > 0) {
      if (this.#rest.length === 0 && !(await this.#more())) {
        throw new S3Error("IncompleteBody", "the body ends in the middle of a chunk");
      }
      const part = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(part.length);
      left -= part.length;
      if (part.length > 0) yield part;
    }
  }

  async #more(): Promise<boolean> {
    const result = await this.#iterator.next();
    if (result.done) return false;
    this.#rest = result.value;
    return true;
  }
}
