/**
 * HTTP with one server, on Node's own client: kept connections, verified TLS, proxies, time limits and aborts. No
 * redirects, no decoding, no cookies.
 */
import http from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from "node:http";
import https from "node:https";
import tls from "node:tls";
import type { Duplex } from "node:stream";
import { HoldfastError, abortError, throwIfAborted } from "../../contract/errors.ts";
import { conversationError, systemCode } from "../../support/network-errors.ts";
import type { ByteRange } from "../../contract/store.ts";
import type { TlsOptions } from "./tls.ts";

/** How long a connection may take to come about, TLS included. */
const CONNECT_TIMEOUT_MS = 20_000;
/** How long nothing may move on a connection in use, unless another time is asked for. */
const IDLE_TIMEOUT_MS = 120_000;
/** An unused connection is closed after this. */
const KEEP_MS = 30_000;

/** A server that does not answer `Expect` is asked only on a connection that was unused for longer. */
const DOUBT_MS = 500;
/** How long a server may take to say that it wants the body. Many never say it. */
const CONTINUE_MS = 1000;

/** What became of a request that failed. */
interface Fate {
  /** It was sent on a kept connection. */
  reused: boolean;
  /** It cannot be sent again: its body was begun, or it must not be. */
  begun: boolean;
}

export interface HttpClientOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly origin: string;
  readonly tls: TlsOptions;
  /** Connections at once, at most. */
  readonly connections: number;
  /** Environment with `http_proxy`, `https_proxy` and `no_proxy` (or, but for the first, in capitals). */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A connection on which nothing moves for so long while it is in use, in milliseconds, is given up. Default 120,000; 0: never. */
  readonly idleMs?: number | undefined;
}

export interface HttpRequest {
  readonly method: string;
  /** Percent-encoded, beginning with `/`, with the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Text and bytes (a list of them is one body) can be sent again; other bodies cannot. Lists and other bodies are chunked
   * unless `headers` has a content-length.
   */
  readonly body?: string | Uint8Array | readonly Uint8Array[] | AsyncIterable<Uint8Array> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Never sent a second time, even where a kept connection turned out to be dropped. Default false. */
  readonly once?: boolean | undefined;
  /** The caller may do other requests before it has read the answer to its end. Default false. */
  readonly held?: boolean | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** To be read to its end or destroyed. Rejects when the connection ends before the body does. */
  readonly body: IncomingMessage;
}

export class HttpClient {
  readonly origin: string;
  readonly #idleMs: number;
  readonly #target: URL;
  readonly #agent: http.Agent;
  /** For answers that callers hold open while they ask for more: a limit on these could wait for itself. */
  readonly #streams: http.Agent;
  #ignoresExpect = false;
  /** When a kept connection was last in use. */
  readonly #lastUse = new WeakMap<Duplex, number>();
  /** Of a proxy that takes plain HTTP requests for other hosts. */
  readonly #forwarder: URL | undefined;

  constructor(options: HttpClientOptions) {
    this.origin = options.origin;
    this.#idleMs = options.idleMs ?? IDLE_TIMEOUT_MS;
    this.#target = new URL(options.origin);
    const secure = this.#target.protocol === "https:";
    const proxy = proxyFor(this.#target, options.env);
    if (!secure) this.#forwarder = proxy;
    const agent = (maxSockets: number): http.Agent => {
      const agentOptions = {
        keepAlive: true,
        maxSockets,
        maxFreeSockets: options.connections,
        timeout: KEEP_MS,
        noDelay: true,
      };
      if (!secure) return new http.Agent(agentOptions);
      if (proxy) return new TunnelAgent({ ...agentOptions, ...options.tls }, proxy);
      return new https.Agent({ ...agentOptions, ...options.tls });
    };
    this.#agent = agent(options.connections);
    this.#streams = agent(Number.POSITIVE_INFINITY);
  }

  /** Sends a request; gives the answer whatever its status. Rejects with a HoldfastError when there is none. */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    for (let attempt = 1; ; attempt++) {
      throwIfAborted(request.signal);
      const fate = { reused: false, begun: request.once === true };
      try {
        return await this.#once(request, fate);
      } catch (error) {
        // The server dropped a kept connection just when it was to be used again.
        if (!fate.begun && attempt <= 2 && fate.reused && /^(?:ECONNRESET|EPIPE)$/u.test(systemCode(error) ?? "")) {
          continue;
        }
        throw conversationError(error, this.origin, request.signal);
      }
    }
  }

  close(): void {
    this.#agent.destroy();
    this.#streams.destroy();
  }

  #once(request: HttpRequest, fate: Fate): Promise<HttpAnswer> {
    const { signal, body } = request;
    return new Promise((resolve, reject) => {
      const call = this.#request(request);
      let answer: IncomingMessage | undefined;
      const end = (error: Error): void => {
        call.destroy(error);
        answer?.destroy(error);
      };
      const onAbort = (): void => {
        if (signal) end(abortError(signal));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      const tidy = (): void => signal?.removeEventListener("abort", onAbort);
      call.on("socket", (socket) => {
        // Node.js takes its own listener off when the answer has ended. An error of the connection that comes a moment later
        // would end the process.
        if (!socket.listeners("error").includes(ignoreError)) socket.on("error", ignoreError);
        if (!socket.connecting) return;
        const timer = setTimeout(
          () => end(new HoldfastError("timeout", `${this.origin} did not answer in ${CONNECT_TIMEOUT_MS} ms`)),
          CONNECT_TIMEOUT_MS,
        );
        const stop = (): void => clearTimeout(timer);
        socket.once(this.#target.protocol === "https:" && !this.#forwarder ? "secureConnect" : "connect", stop);
        socket.once("close", stop);
      });
      call.setTimeout(this.#idleMs, () =>
        end(new HoldfastError("timeout", `${this.origin} was silent for ${this.#idleMs} ms`)),
      );
      call.on("error", (error) => {
        fate.reused = call.reusedSocket;
        // An answer that was given before the request was sent whole stands.
        if (!answer) {
          tidy();
          reject(error);
        }
      });
      call.on("response", (message) => {
        answer = message;
        const socket = call.socket;
        message.once("close", () => {
          tidy();
          if (socket) this.#lastUse.set(socket, Date.now());
        });
        // An error comes to whoever reads; when nobody does, it is nobody's.
        message.on("error", ignoreError);
        resolve({ status: message.statusCode ?? 0, headers: message.headers, body: message });
      });
      if (body === undefined || typeof body === "string" || body instanceof Uint8Array) call.end(body);
      else if (isList(body)) {
        // Together with the head of the request, in one call to the system.
        call.cork();
        for (const chunk of body) call.write(chunk);
        call.end();
        call.uncork();
      } else {
        this.#sendBody(call, body, () => answer !== undefined, fate).catch((error: unknown) => {
          const failure = error instanceof Error ? error : new Error(String(error));
          end(failure);
          if (!answer) reject(failure);
        });
      }
    });
  }

  async #sendBody(
    call: http.ClientRequest,
    body: AsyncIterable<Uint8Array>,
    answered: () => boolean,
    fate: Fate,
  ): Promise<void> {
    const socket = await socketOf(call);
    if (!socket) return;
    const idleMs = Date.now() - (this.#lastUse.get(socket) ?? 0);
    if (call.reusedSocket && (!this.#ignoresExpect || idleMs > DOUBT_MS)) {
      // The server may have dropped it meanwhile, and the body can be sent only once: so it is asked first.
      call.setHeader("expect", "100-continue");
      call.flushHeaders();
      this.#ignoresExpect = !(await until(call, ["continue", "response", "close"], CONTINUE_MS));
    }
    if (call.destroyed) return;
    fate.begun = true;
    for await (const chunk of body) {
      // The server has made up its mind without the rest; leaving the loop lets go of the source.
      if (answered()) {
        call.destroy();
        return;
      }
      if (call.destroyed) return;
      if (!call.write(chunk)) await until(call, ["drain", "response", "close"]);
    }
    call.end();
  }

  #request(request: HttpRequest): http.ClientRequest {
    const target = this.#target;
    const headers = { host: target.host, ...request.headers };
    const options: RequestOptions = {
      method: request.method,
      agent: request.held ? this.#streams : this.#agent,
      headers,
    };
    if (this.#forwarder) {
      return http.request({
        ...options,
        host: this.#forwarder.hostname.replace(/^\[(.*)\]$/u, "$1"),
        port: this.#forwarder.port || 80,
        path: this.origin + request.path,
        headers: { ...headers, ...proxyLogin(this.#forwarder) },
      });
    }
    const secure = target.protocol === "https:";
    return (secure ? https : http).request({
      ...options,
      host: target.hostname.replace(/^\[(.*)\]$/u, "$1"),
      port: target.port || (secure ? 443 : 80),
      path: request.path,
    });
  }
}

/** The header that asks for a range. */
export function rangeHeader(range: ByteRange | undefined): { range?: string } {
  if (!range) return {};
  return { range: `bytes=${range.offset}-${range.length === undefined ? "" : range.offset + range.length - 1}` };
}

function ignoreError(): void {}

function isList(body: readonly Uint8Array[] | AsyncIterable<Uint8Array>): body is readonly Uint8Array[] {
  return Array.isArray(body);
}

/** The connection that a request was given, or undefined when it failed before. */
async function socketOf(call: http.ClientRequest): Promise<Duplex | undefined> {
  if (!call.socket && !call.destroyed) await until(call, ["socket", "close"]);
  return call.destroyed ? undefined : (call.socket ?? undefined);
}

/** Resolves with the first of these events; to false when there is none in so many milliseconds. */
function until(call: http.ClientRequest, events: readonly string[], ms?: number): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (happened: boolean): void => {
      clearTimeout(timer);
      for (const event of events) call.off(event, done);
      resolve(happened);
    };
    const done = (): void => end(true);
    const timer = ms === undefined ? undefined : setTimeout(() => end(false), ms);
    if (call.destroyed) done();
    else for (const event of events) call.once(event, done);
  });
}

/** The proxy through which a target is to be reached, from the environment as curl reads it. */
export function proxyFor(target: URL, env: HttpClientOptions["env"]): URL | undefined {
  // HTTP_PROXY in capitals is left out, as a web server may set it from a request's header.
  const text = target.protocol === "https:" ? (env["https_proxy"] ?? env["HTTPS_PROXY"]) : env["http_proxy"];
  if (text === undefined || text === "" || isExempt(target, env["no_proxy"] ?? env["NO_PROXY"] ?? "")) return undefined;
  try {
    return new URL(text.includes("://") ? text : `http://${text}`);
  } catch (error) {
    throw new HoldfastError("config", "the proxy in the environment is no URL", { cause: error });
  }
}

function isExempt(target: URL, list: string): boolean {
  const host = target.hostname.toLowerCase();
  const port = target.port || (target.protocol === "https:" ? "443" : "80");
  return list.split(/[\s,]+/u).some((entry) => {
    if (entry === "*") return true;
    const match = /^(.*?)(?::(\d+))?$/u.exec(entry.toLowerCase().replace(/^\*?\./u, ""));
    const name = match?.[1] ?? "";
    if (name === "" || (match?.[2] !== undefined && match[2] !== port)) return false;
    return host === name || host.endsWith(`.${name}`);
  });
}

function proxyLogin(proxy: URL): Record<string, string> {
  if (proxy.username === "") return {};
  const login = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { "proxy-authorization": `Basic ${Buffer.from(login).toString("base64")}` };
}

/** TLS through a proxy's CONNECT. */
export class TunnelAgent extends https.Agent {
  readonly #proxy: URL;

  constructor(options: https.AgentOptions, proxy: URL) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(
    options: tls.ConnectionOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const proxy = this.#proxy;
    const authority = `${options.host ?? ""}:${options.port ?? 443}`;
    const finish = callback as (error: Error | null, stream?: Duplex) => void;
    const call = (proxy.protocol === "https:" ? https : http).request({
      method: "CONNECT",
      host: proxy.hostname.replace(/^\[(.*)\]$/u, "$1"),
      port: proxy.port || (proxy.protocol === "https:" ? 443 : 80),
      path: authority,
      headers: { host: authority, ...proxyLogin(proxy) },
      timeout: CONNECT_TIMEOUT_MS,
    });
    call.once("timeout", () => call.destroy(new HoldfastError("timeout", "the proxy does not answer")));
    call.once("error", (error) => finish(error));
    call.on("error", ignoreError);
    call.once("response", (message) => {
      message.destroy();
      finish(new HoldfastError("unavailable", "the proxy does not understand CONNECT"));
    });
    call.once("connect", (message, socket) => {
      if (message.statusCode === 200) {
        finish(null, tls.connect({ ...options, socket, servername: options.servername ?? options.host ?? "" }));
        return;
      }
      socket.destroy();
      const code = message.statusCode === 407 ? "denied" : "unavailable";
      finish(new HoldfastError(code, `the proxy answered ${message.statusCode ?? 0} to CONNECT`));
    });
    call.end();
    return undefined;
  }
}
