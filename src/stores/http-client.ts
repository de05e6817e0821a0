/**
 * HTTP for the kinds of store that speak a service's own protocol: kept connections, time limits, the environment's
 * proxies, a private authority, paths sent exactly as given. Redirects are not followed: credentials stay where they belong.
 */
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import { Agent, EnvHttpProxyAgent } from "undici";
import type { Dispatcher } from "undici";
import { HoldfastError } from "../errors.ts";
import type { StoreContext } from "../open-store.ts";

const CONNECT_TIMEOUT_MS = 15_000;
/** A connection on which nothing moves is given up after this long, in milliseconds. */
const IDLE_TIMEOUT_MS = 60_000;
/** Answers that are read as text are at most this long, in bytes. */
const MAX_TEXT_BYTES = 32 * 1024 * 1024;

export interface HttpClientOptions {
  /** `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are read from here, in either case. */
  readonly env: StoreContext["env"];
  /** File with certificates (PEM) that are trusted besides the public ones. */
  readonly caFile?: string | undefined;
}

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** `https://host[:port]`. */
  readonly origin: string;
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Chunks of the content; their length is announced. */
  readonly body?: readonly Uint8Array[] | undefined;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Must be read to its end or destroyed. */
  readonly body: Readable;
}

export class HttpClient {
  readonly #dispatcher: Dispatcher;

  constructor(options: HttpClientOptions) {
    const { env, caFile } = options;
    const ca = caFile === undefined ? {} : { ca: [...rootCertificates, readCa(caFile)] };
    const common = {
      connections: 64,
      keepAliveTimeout: 30_000,
      headersTimeout: IDLE_TIMEOUT_MS,
      bodyTimeout: IDLE_TIMEOUT_MS,
      connect: { timeout: CONNECT_TIMEOUT_MS, ...ca },
    };
    const httpProxy = env["http_proxy"] || env["HTTP_PROXY"];
    const httpsProxy = env["https_proxy"] || env["HTTPS_PROXY"];
    const noProxy = env["no_proxy"] || env["NO_PROXY"] || "";
    this.#dispatcher =
      httpProxy || httpsProxy
        ? // Empty strings keep the proxies of the process's environment away where this store's has none.
          new EnvHttpProxyAgent({ ...common, httpProxy: httpProxy ?? "", httpsProxy: httpsProxy ?? "", noProxy })
        : new Agent(common);
  }

  /** Sends a request and gives the answer, whatever its status. */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const { method, origin, path, signal } = request;
    const chunks = request.body;
    const size = chunks?.reduce((sum, chunk) => sum + chunk.length, 0) ?? 0;
    const answer = await this.#dispatcher.request({
      method,
      origin,
      path,
      signal,
      headers: { ...request.headers, ...(chunks ? { "content-length": String(size) } : {}) },
      body: !chunks || size === 0 ? null : Readable.from(chunks, { objectMode: false }),
    });
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(answer.headers)) {
      if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
    }
    return { status: answer.statusCode, headers, body: answer.body };
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

/** The whole answer as text. Throws `unavailable` when it is longer than any honest one. */
export async function textOf(answer: HttpAnswer): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_TEXT_BYTES) {
      throw new HoldfastError("unavailable", `the server's answer is longer than ${MAX_TEXT_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** The whole answer as JSON. Throws `unavailable` when it is none. */
export async function jsonOf(answer: HttpAnswer): Promise<unknown> {
  const text = await textOf(answer);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new HoldfastError("unavailable", "the server's answer is not the JSON that was expected", { cause: error });
  }
}

/** Reads what is left of an answer that has nothing to say, so that its connection can be used again. */
export async function drain(answer: HttpAnswer): Promise<void> {
  let size = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > 65_536) break;
  }
}

/**
 * A name in a path: every character but `/` encoded where it means something, and parts of dots too, which would otherwise
 * be resolved on the way.
 */
export function encodePath(name: string): string {
  return name
    .split("/")
    .map((part) => (/^\.{1,2}$/u.test(part) ? part.replaceAll(".", "%2E") : encodeURIComponent(part)))
    .join("/");
}

function readCa(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new HoldfastError("config", `cannot read the certificate authority ${file}`, { cause: error });
  }
}
