/** What the gateways share of HTTP: bodies in and out, ranges, conditions, percent-encoding and basic authentication. */
import { isUtf8 } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { finished } from "node:stream";
import { HoldfastError, throwIfAborted } from "../contract/errors.ts";
import { collect } from "../contract/body.ts";
import type { ByteRange } from "../contract/store.ts";
import type { Exchange } from "./exchange.ts";

/**
 * The bytes of a request's body as they come. Sends `100 Continue` when the client waits for it. Rejects with `timeout`
 * when the client makes no progress, and with `invalid` when it goes away in the middle. Only the time spent waiting for
 * the client counts, not the time that a store takes.
 */
export async function* incomingBytes(exchange: Exchange): AsyncGenerator<Uint8Array> {
  const { request, response, limits, signal } = exchange;
  throwIfAborted(signal);
  if (request.headers.expect?.toLowerCase() === "100-continue" && !response.headersSent) response.writeContinue();
  let waitedMs = 0;
  let bytes = 0;
  const arrivals = new Arrivals(request);
  try {
    for (;;) {
      const startedMs = performance.now();
      const chunk = await arrivals.next(Math.max(0, limits.bodyIdleMs - waitedMs));
      if (chunk === undefined) return;
      waitedMs += performance.now() - startedMs;
      bytes += chunk.length;
      if (bytes >= limits.bodyMinBytes) {
        waitedMs = 0;
        bytes = 0;
      }
      yield chunk;
    }
  } finally {
    arrivals.release();
  }
}

/**
 * Most bytes that are taken of a request at once. Where the client is faster than what takes its bytes, some hundred KiB
 * lie ready, and each step on their way to the disk may hold a chunk of its own: as many times more of a larger one.
 */
const TAKEN_BYTES = 64 * 1024;

/** The body of a request, chunk by chunk. It leaves the request as it is: an answer goes over the same connection. */
class Arrivals {
  readonly #request: IncomingMessage;
  readonly #release: () => void;
  /** Undefined while the body comes, null at its end. */
  #ended: Error | null | undefined;
  #wake: () => void = () => undefined;

  constructor(request: IncomingMessage) {
    this.#request = request;
    const onReadable = (): void => this.#wake();
    request.on("readable", onReadable);
    const ignore = finished(request, { writable: false }, (error) => {
      this.#ended = error ?? null;
      this.#wake();
    });
    this.#release = () => {
      request.off("readable", onReadable);
      ignore();
    };
  }

  /** Undefined at the end of the body. */
  async next(idleMs: number): Promise<Buffer | undefined> {
    const request = this.#request;
    let isLate = false;
    const timeout = setTimeout(() => {
      isLate = true;
      this.#wake();
    }, idleMs);
    try {
      for (;;) {
        const ready = request.readableLength;
        const size = ready === 0 ? undefined : Math.min(TAKEN_BYTES, ready);
        const chunk = request.destroyed ? null : (request.read(size) as Buffer | null);
        if (chunk !== null) return chunk;
        if (this.#ended === null) return undefined;
        if (this.#ended !== undefined) {
          const cause = this.#ended;
          throw new HoldfastError("invalid", "the client went away before its body was complete", { cause });
        }
        if (isLate) throw new HoldfastError("timeout", "the client stopped sending the body of its request");
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timeout);
    }
  }

  release(): void {
    this.#release();
  }
}

/** A small body, whole. Rejects with `invalid` when it is longer than `maxBytes`. */
export async function readSmall(
  exchange: Exchange,
  maxBytes: number,
  source?: AsyncIterable<Uint8Array>,
): Promise<Buffer> {
  const limited = async function* (): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    for await (const chunk of source ?? incomingBytes(exchange)) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw new HoldfastError("invalid", `the body is longer than ${maxBytes} bytes`);
      yield chunk;
    }
  };
  return Buffer.from(await collect(limited()));
}

/** Content-Length, where there is one and it is a number. */
export function contentLength(exchange: Exchange): number | undefined {
  const text = exchange.request.headers["content-length"];
  if (text === undefined || !/^\d{1,15}$/u.test(text)) return undefined;
  return Number(text);
}

/** Whether a body comes with the request. */
export function hasBody(exchange: Exchange): boolean {
  return exchange.request.headers["transfer-encoding"] !== undefined || (contentLength(exchange) ?? 0) > 0;
}

/** Sends an answer that is in memory. HEAD gets the headers alone. */
export function send(
  exchange: Exchange,
  status: number,
  headers: OutgoingHttpHeaders = {},
  body: string | Uint8Array = "",
): void {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const { response } = exchange;
  const bare = status === 204 || status === 304;
  response.writeHead(status, {
    ...(bare ? {} : { "Content-Length": bytes.length }),
    // A body that was not read stands in the way of the next request.
    ...(exchange.request.complete || !hasBody(exchange) ? {} : { Connection: "close" }),
    ...headers,
  });
  response.end(exchange.method === "HEAD" || bare ? undefined : bytes);
}

/**
 * Streams an answer at the client's pace. Rejects when the source fails or the client stops taking it. `isReused`: the
 * source fills the memory of a chunk anew when it is asked for the next one. It is not asked before the system has taken
 * every byte of the last one, so nothing is sent of a chunk that has changed. Default false.
 */
export async function sendStream(
  exchange: Exchange,
  status: number,
  headers: OutgoingHttpHeaders,
  source: AsyncIterable<Uint8Array>,
  { isReused = false }: { readonly isReused?: boolean } = {},
): Promise<void> {
  const { response } = exchange;
  response.writeHead(status, headers);
  for await (const chunk of source) {
    if (response.destroyed) throw gone();
    if (isReused) await taken(exchange, (done) => response.write(chunk, done));
    else if (!response.write(chunk)) await taken(exchange, (done) => response.once("drain", done));
  }
  response.end();
}

function gone(): HoldfastError {
  return new HoldfastError("aborted", "the client went away before the answer was complete");
}

/** Waits for the client to take what was written, until `begin` is told so. */
async function taken(
  { response, limits }: Exchange,
  begin: (done: (failure?: Error | null) => void) => void,
): Promise<void> {
  if (response.destroyed) throw gone();
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: HoldfastError): void => {
      clearTimeout(timeout);
      response.off("close", onClose);
      if (error) reject(error);
      else resolve();
    };
    const onClose = (): void => settle(gone());
    const timeout = setTimeout(
      () => settle(new HoldfastError("timeout", "the client stopped taking the answer")),
      limits.answerIdleMs,
    );
    response.on("close", onClose);
    // A write that fails has no other reason.
    begin((failure) => settle(failure ? gone() : undefined));
  });
}

/** Percent-decoded text. Throws `invalid` for what is not UTF-8 in percent-encoding. */
export function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new ClientError("invalid", "the address is not percent-encoded UTF-8", { cause: error });
  }
}

/** Name and value of each part of a query, decoded; `+` is a space. */
export function parseQuery(raw: string): [string, string][] {
  if (raw === "") return [];
  return raw
    .split("&")
    .filter((part) => part !== "")
    .map((part) => {
      const equals = part.indexOf("=");
      const name = equals === -1 ? part : part.slice(0, equals);
      const value = equals === -1 ? "" : part.slice(equals + 1);
      return [percentDecode(name.replaceAll("+", " ")), percentDecode(value.replaceAll("+", " "))];
    });
}

/** A range that can be served: `end` is behind its last byte. */
export interface ServedRange extends ByteRange {
  readonly length: number;
}

/**
 * What a Range header asks of an object of `size` bytes: a range, `whole` where the header is absent or is one that RFC
 * 9110 lets a server ignore (other units, several ranges, nonsense), or `unsatisfiable`.
 */
export function parseRange(header: string | undefined, size: number): ServedRange | "whole" | "unsatisfiable" {
  if (header === undefined) return "whole";
  const match = /^bytes=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*$/iu.exec(header);
  if (!match) return "whole";
  const [first, last] = [match[1] ?? "", match[2] ?? ""];
  if (first === "" && last === "") return "whole";
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "unsatisfiable" : { offset: size - length, length };
  }
  const offset = Number(first);
  if (last !== "" && Number(last) < offset) return "whole";
  if (offset >= size) return "unsatisfiable";
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  return { offset, length: end - offset };
}

/** An object as conditions see it; `undefined` stands for one that does not exist. */
export interface Validators {
  /** With its quotes; undefined for what has none, such as a folder. */
  readonly etag?: string | undefined;
  readonly modifiedMs?: number | undefined;
}

export interface ConditionHeaders {
  readonly ifMatch?: string | undefined;
  readonly ifNoneMatch?: string | undefined;
  readonly ifModifiedSince?: string | undefined;
  readonly ifUnmodifiedSince?: string | undefined;
}

export function conditionsOf(exchange: Exchange, prefix = ""): ConditionHeaders {
  const header = (name: string): string | undefined => {
    const value = exchange.request.headers[`${prefix}${name}`];
    return Array.isArray(value) ? value.join(",") : value;
  };
  return {
    ifMatch: header("if-match"),
    ifNoneMatch: header("if-none-match"),
    ifModifiedSince: header("if-modified-since"),
    ifUnmodifiedSince: header("if-unmodified-since"),
  };
}

/** RFC 9110, 13.2.2: whether a request goes on, and otherwise the status that answers it. */
export function checkConditions(
  headers: ConditionHeaders,
  target: Validators | undefined,
  reading: boolean,
): "go" | 304 | 412 {
  const modified = target?.modifiedMs === undefined ? undefined : Math.floor(target.modifiedMs / 1000) * 1000;
  if (headers.ifMatch !== undefined) {
    if (!target || !matches(headers.ifMatch, target.etag)) return 412;
  } else if (headers.ifUnmodifiedSince !== undefined) {
    const date = Date.parse(headers.ifUnmodifiedSince);
    if (!Number.isNaN(date) && modified !== undefined && modified > date) return 412;
  }
  if (headers.ifNoneMatch !== undefined) {
    if (target && matches(headers.ifNoneMatch, target.etag)) return reading ? 304 : 412;
  } else if (reading && headers.ifModifiedSince !== undefined) {
    const date = Date.parse(headers.ifModifiedSince);
    if (!Number.isNaN(date) && modified !== undefined && modified <= date) return 304;
  }
  return "go";
}

function matches(header: string, etag: string | undefined): boolean {
  if (header.trim() === "*") return true;
  if (etag === undefined) return false;
  const bare = etag.replaceAll('"', "");
  return header.split(",").some((one) => one.trim().replace(/^W\//u, "").replaceAll('"', "") === bare);
}

/** Who may come in. For S3, `user` is the access key and `password` the secret key. */
export interface Credential {
  readonly user: string;
  readonly password: string;
  /** May read and list, not write. Default false. */
  readonly readOnly?: boolean | undefined;
}

/** Whom a basic Authorization header names, or undefined. Takes the same time for every wrong answer. */
export function basicUser(header: string | undefined, credentials: readonly Credential[]): Credential | undefined {
  const match = /^Basic\s+([A-Za-z0-9+/=_-]+)\s*$/iu.exec(header ?? "");
  const given = match?.[1] === undefined ? "" : Buffer.from(match[1], "base64").toString("utf8");
  const digest = sha256(given);
  let found: Credential | undefined;
  for (const credential of credentials) {
    if (timingSafeEqual(digest, sha256(`${credential.user}:${credential.password}`))) found = credential;
  }
  return match ? found : undefined;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** The text of a header, which node gives as Latin-1: clients send UTF-8. What is none is Latin-1. */
export function fromHeader(value: string): { readonly text: string; readonly latin1: boolean } {
  const bytes = Buffer.from(value, "latin1");
  return isUtf8(bytes) ? { text: bytes.toString("utf8"), latin1: false } : { text: value, latin1: true };
}

/** A text as node takes it for a header: in UTF-8, with a space for what no header can hold. */
export function toHeader(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are what is looked for
  return Buffer.from(text.replace(/[\u0000-\u0008\u000a-\u001f\u007f]/gu, " "), "utf8").toString("latin1");
}

/** An error whose text is meant for the client. */
export class ClientError extends HoldfastError {}

/**
 * The text of an error for clients. A pool's own texts name stores, folders, hosts and users: they are for the
 * log, and the client learns whether it should come again.
 */
export function clientMessage(error: HoldfastError): string {
  if (error instanceof ClientError) return error.message;
  switch (error.code) {
    case "not-found":
      return "there is no such object";
    case "invalid":
      // Without another error beneath it, the text is about what the client sent.
      return error.cause === undefined ? error.message : "the request cannot be carried out as it is";
    case "conflict":
      return "the object is not as the request needs it, or is being changed";
    case "unsupported":
      return "this pool cannot do that";
    case "full":
      return "no space is left";
    case "throttled":
      return "there is too much to do; try again later";
    case "denied":
    case "unavailable":
    case "timeout":
    case "incomplete":
    case "aborted":
      return "this cannot be done now; try again later";
    case "corrupt":
    case "config":
    case "internal":
      return "an internal error happened";
  }
}

/** HTTP status that an error of the pool stands for, where the protocol has no better one. */
export function statusOf(error: HoldfastError): number {
  switch (error.code) {
    case "not-found":
      return 404;
    case "invalid":
      return 400;
    case "conflict":
      return 409;
    case "unsupported":
      return 501;
    case "full":
      return 507;
    case "denied":
    case "unavailable":
    case "throttled":
    case "incomplete":
    case "aborted":
      return 503;
    case "timeout":
      return 503;
    case "corrupt":
    case "config":
    case "internal":
      return 500;
  }
}
