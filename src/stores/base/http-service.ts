/**
 * HTTP for the kinds of store that speak a service's own protocol, which may send them to several places (an identity
 * service, then the object store). Paths are sent exactly as given, and redirects are not followed: credentials stay where
 * they belong.
 */
import { readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import type { z } from "zod";
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreContext } from "./store-kind.ts";
import { HttpClient } from "./http-client.ts";
import type { HttpAnswer } from "./http-client.ts";
import type { TlsOptions } from "./tls.ts";

/** Connections at once to one place. */
const CONNECTIONS = 64;
/** Answers that are read as text are at most this long, in bytes. */
const MAX_TEXT_BYTES = 32 * 1024 * 1024;

export interface HttpServiceOptions {
  /** The environment's proxies are read from here. */
  readonly env: StoreContext["env"];
  /** File with certificates (PEM) that are trusted besides the public ones. */
  readonly caFile?: string | undefined;
}

export interface ServiceRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** `https://host[:port]`. */
  readonly origin: string;
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Chunks of the content; their length is announced. */
  readonly body?: readonly Uint8Array[] | undefined;
  /** The server may have done it when its answer is lost, and must not be told twice without a question in between. */
  readonly once?: boolean;
  /** The caller reads the answer in its own time. Default false. */
  readonly held?: boolean;
  readonly signal: AbortSignal;
}

export interface ServiceAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Must be read to its end or destroyed. */
  readonly body: Readable;
}

export class HttpService {
  readonly #env: StoreContext["env"];
  readonly #tls: TlsOptions;
  readonly #clients = new Map<string, HttpClient>();

  constructor(options: HttpServiceOptions) {
    this.#env = options.env;
    this.#tls = options.caFile === undefined ? {} : { ca: [...rootCertificates, readCa(options.caFile)] };
  }

  /** Sends a request and gives the answer, whatever its status. */
  async send(request: ServiceRequest): Promise<ServiceAnswer> {
    const { method, origin, path, signal, once, held } = request;
    let client = this.#clients.get(origin);
    if (!client) {
      client = new HttpClient({ origin, tls: this.#tls, connections: CONNECTIONS, env: this.#env });
      this.#clients.set(origin, client);
    }
    const chunks = request.body;
    const size = chunks?.reduce((sum, chunk) => sum + chunk.length, 0) ?? 0;
    const length = chunks ? { "content-length": String(size) } : {};
    const answer = await client.send({
      method,
      path,
      signal,
      headers: { ...request.headers, ...length },
      body: size === 0 ? undefined : chunks,
      once,
      held,
    });
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(answer.headers)) {
      if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
    }
    return { status: answer.status, headers, body: answer.body };
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

/** The whole answer as text. Throws `unavailable` when it is longer than any honest one. */
export async function textOf(answer: ServiceAnswer): Promise<string> {
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
export async function jsonOf(answer: ServiceAnswer): Promise<unknown> {
  const text = await textOf(answer);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new HoldfastError("unavailable", "the server's answer is not the JSON that was expected", { cause: error });
  }
}

/** The whole answer as JSON of one form. Throws `unavailable` when it is something else. */
export async function jsonAs<T>(schema: z.ZodType<T>, answer: ServiceAnswer): Promise<T> {
  const result = schema.safeParse(await jsonOf(answer));
  if (result.success) return result.data;
  throw new HoldfastError("unavailable", "the server's answer does not have the form that was expected");
}

/** Reads what is left of an answer that has nothing to say, so that its connection can be used again. */
export async function drain(answer: Pick<HttpAnswer, "headers"> & { readonly body: Readable }): Promise<void> {
  if (answer.headers["content-length"] === "0") {
    answer.body.resume();
    return;
  }
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
