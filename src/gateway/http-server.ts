/**
 * The HTTP server under every gateway: limits, TLS, logs, metrics and an orderly end.
 *
 * A gateway is a function of one {@link Exchange}. What must hold whatever it does stands here: headers are bounded in
 * size and time, a body must make progress, an answer must be taken, a client that goes away cancels its work, and an
 * error that the gateway lets out becomes an answer, never a crash.
 */
import { randomBytes } from "node:crypto";
import { createServer as createPlainServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Exchange, Gateway, HttpLimits } from "./exchange.ts";
import { ClientError } from "./http-tools.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { Ready } from "./readiness.ts";
import { systemCode } from "../support/network-errors.ts";
import { wordsOfCode } from "../contract/system-words.ts";

export const defaultHttpLimits: HttpLimits = {
  headerBytes: 32 * 1024,
  headers: 200,
  headersMs: 20_000,
  bodyIdleMs: 60_000,
  bodyMinBytes: 4096,
  answerIdleMs: 120_000,
  keepAliveMs: 65_000,
  connections: 1024,
  requests: 256,
};

export interface HttpServerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** PEM texts. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
  readonly runtime: Runtime;
  readonly limits?: Partial<HttpLimits> | undefined;
  /**
   * Whether anybody may come in without a credential. Then only requests that name this machine as their host, and that
   * no web page of another origin has sent, are taken.
   */
  readonly open?: boolean | undefined;
  /** The answer at `READY_PATH`. */
  readonly ready: () => Promise<Ready>;
}

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  /** `http://host:port` or `https://host:port`. */
  readonly url: string;
  /** Takes no new request, gives those at work up to `graceMs` to finish, cancels the rest. Default 30,000. */
  stop(graceMs?: number): Promise<void>;
}

/** Path that every gateway answers without a credential; no object can have this name. */
export const HEALTH_PATH = "/.holdfast/healthz";

/** The same for whether the pool is as it should be: 200, or 503. */
export const READY_PATH = "/.holdfast/readyz";

/** Starts a gateway's server. Rejects with `config` when the address cannot be had. */
export async function startHttpServer(gateway: Gateway, options: HttpServerOptions): Promise<HttpServer> {
  const server = new GatewayServer(gateway, options);
  await server.listen();
  return server.description;
}

/** A node server for the limits, without a listener. */
function createServer(limits: HttpLimits, tls: HttpServerOptions["tls"]): Server {
  const settings = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersMs,
    // The whole of a large upload may take hours; its progress is watched instead (see `bodyIdleMs`).
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.min(5000, limits.headersMs),
    noDelay: true,
    highWaterMark: 256 * 1024,
  };
  const server: Server = tls
    ? createTlsServer({ ...settings, ...tls, minVersion: "TLSv1.2" })
    : createPlainServer(settings);
  server.maxConnections = limits.connections;
  // Node drops the headers beyond this number without a word; one more than the limit shows that there are too many.
  server.maxHeadersCount = limits.headers + 1;
  return server;
}

/** One listener: the requests at work, the open connections, and their end. */
class GatewayServer {
  readonly #gateway: Gateway;
  readonly #options: HttpServerOptions;
  readonly #limits: HttpLimits;
  readonly #server: Server;
  readonly #running = new Map<Exchange, AbortController>();
  readonly #sockets = new Set<Socket>();
  #stopped: Promise<void> | undefined;
  /** Called when the last request has ended, while stopping. */
  #idle: (() => void) | undefined;

  constructor(gateway: Gateway, options: HttpServerOptions) {
    this.#gateway = gateway;
    this.#options = options;
    this.#limits = { ...defaultHttpLimits, ...options.limits };
    this.#server = createServer(this.#limits, options.tls);
    const serve = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    this.#server.on("request", serve);
    // With a listener of its own, `100 Continue` is sent only when the gateway begins to read the body.
    this.#server.on("checkContinue", serve);
    this.#server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
      if (request.headers.expect === "") serve(request, response);
      else response.writeHead(417).end();
    });
    this.#server.on("connection", (socket: Socket) => this.#connected(socket));
    this.#server.on("clientError", (error: Error, socket: Socket) => this.#clientError(error, socket));
  }

  async listen(): Promise<void> {
    const { host, port, logger } = this.#options;
    const server = this.#server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => {
        const reason = wordsOfCode(systemCode(error)) ?? error.message;
        reject(new HoldfastError("config", `cannot listen on ${host} port ${port}: ${reason}`, { cause: error }));
      });
      server.listen(port, host, resolve);
    });
    server.on("error", (error) => {
      logger.error("listener", { protocol: this.#gateway.protocol, error: error.message });
    });
  }

  /** What the caller is given, once it listens. */
  get description(): HttpServer {
    const { address, port, family } = this.#server.address() as AddressInfo;
    const shown = family === "IPv6" ? `[${address}]` : address;
    return {
      host: address,
      port,
      url: `${this.#options.tls ? "https" : "http"}://${shown}:${port}`,
      stop: (graceMs = 30_000) => (this.#stopped ??= this.#stop(graceMs)),
    };
  }

  #connected(socket: Socket): void {
    const note = (): void => this.#options.metrics.connections(this.#gateway.protocol, this.#sockets.size);
    this.#sockets.add(socket);
    note();
    socket.on("close", () => {
      this.#sockets.delete(socket);
      note();
    });
  }

  /** Answers bytes that are no request. */
  #clientError(error: Error & { code?: string }, socket: Socket): void {
    if (!socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const status =
      error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
          ? "408 Request Timeout"
          : "400 Bad Request";
    const { protocol } = this.#gateway;
    this.#options.logger.info("bad-request", { protocol, status, reason: error.code ?? error.message });
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { logger, runtime } = this.#options;
    const controller = new AbortController();
    const exchange = this.#exchange(request, response, controller.signal);
    const startedMs = runtime.monotonicMs();
    this.#running.set(exchange, controller);
    const onClose = (): void => {
      if (response.writableFinished) return;
      controller.abort(new HoldfastError("aborted", "the client went away before the answer was complete"));
    };
    response.once("close", onClose);
    // Both report the client's going away, which `close` has noticed.
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    void this.#answer(exchange)
      .catch((error: unknown) => {
        answerError(this.#gateway, exchange, error, logger);
      })
      .then(async () => {
        await finish(exchange);
        response.off("close", onClose);
        this.#ended(exchange, (runtime.monotonicMs() - startedMs) / 1000);
      })
      .catch((error: unknown) => {
        logger.error("request-end", { id: exchange.id, error: toHoldfastError(error).message });
      });
  }

  #exchange(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Exchange {
    const url = request.url ?? "/";
    const question = url.indexOf("?");
    const exchange: Exchange = {
      request,
      response,
      id: randomBytes(8).toString("hex"),
      method: request.method ?? "GET",
      rawPath: question === -1 ? url : url.slice(0, question),
      rawQuery: question === -1 ? "" : url.slice(question + 1),
      signal,
      limits: this.#limits,
      fields: {},
      failed: (error) => logFailure(this.#gateway, exchange, error, this.#options.logger),
    };
    return exchange;
  }

  /** Answers what every gateway answers alike, and hands on the rest. */
  async #answer(exchange: Exchange): Promise<void> {
    const { request, response, method, rawPath } = exchange;
    const stopping = this.#stopped !== undefined;
    if (stopping || this.#running.size > this.#limits.requests) {
      throw new ClientError("throttled", stopping ? "the gateway is stopping" : "too many requests at once", {
        retryAfterMs: 1000,
      });
    }
    const reads = method === "GET" || method === "HEAD";
    if (reads && rawPath === HEALTH_PATH) {
      response.writeHead(200, { "Content-Type": "text/plain" }).end("ok\n");
      return;
    }
    if (reads && rawPath === READY_PATH) {
      const { isReady, text } = await this.#options.ready();
      response.writeHead(isReady ? 200 : 503, { "Content-Type": "text/plain" }).end(`${text}\n`);
      return;
    }
    if (request.rawHeaders.length > 2 * this.#limits.headers) {
      refuse(response, 431, `a request has at most ${this.#limits.headers} headers`);
      return;
    }
    const refusal = this.#options.open ? refusalOf(request) : undefined;
    if (refusal !== undefined) {
      refuse(response, 403, refusal);
      return;
    }
    await this.#gateway.handle(exchange);
  }

  #ended(exchange: Exchange, seconds: number): void {
    const { logger, metrics } = this.#options;
    const { response, method } = exchange;
    const { protocol } = this.#gateway;
    this.#running.delete(exchange);
    metrics.request(protocol, method, response.statusCode, seconds);
    logger[response.statusCode >= 500 ? "warn" : "info"]("request", {
      protocol,
      id: exchange.id,
      method,
      path: exchange.rawPath,
      status: response.statusCode,
      complete: response.writableFinished,
      ms: Math.round(seconds * 1000),
      ...exchange.fields,
    });
    if (this.#running.size === 0) this.#idle?.();
  }

  async #stop(graceMs: number): Promise<void> {
    const { runtime } = this.#options;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeIdleConnections();
    if (this.#running.size > 0) {
      const finished = new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
      const giveUp = runtime.timer(graceMs, () => {
        for (const controller of this.#running.values()) {
          controller.abort(new HoldfastError("unavailable", "the gateway is stopping"));
        }
      });
      // A store that does not heed the signal must not keep the process.
      const cut = runtime.timer(graceMs + 10_000, () => this.#idle?.());
      await finished;
      giveUp();
      cut();
    }
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function logFailure(gateway: Gateway, exchange: Exchange, error: unknown, logger: Logger): void {
  const problem = toHoldfastError(error);
  // An error about several stores holds each one's; an answer in the protocol's words holds the error beneath it.
  const beneath = [problem, problem.cause].flatMap((one) => (one instanceof HoldfastError ? one.errors : []));
  const causes = problem.cause instanceof HoldfastError ? [problem.cause] : [];
  const reasons = [...new Set([...beneath, ...causes].map((one) => one.message))].filter(
    (one) => one !== problem.message,
  );
  if (error instanceof HoldfastError || problem.code === "internal") {
    logger[problem.code === "internal" ? "error" : "info"]("request-failed", {
      protocol: gateway.protocol,
      id: exchange.id,
      code: problem.code,
      error: problem.message,
      store: problem.store,
      object: problem.object,
      ...(reasons.length === 0 ? {} : { reasons }),
      ...(problem.code === "internal" ? { stack: problem.stack } : {}),
    });
  }
}

function answerError(gateway: Gateway, exchange: Exchange, error: unknown, logger: Logger): void {
  const { response } = exchange;
  logFailure(gateway, exchange, error, logger);
  if (response.headersSent) {
    // The client must not take what it has for the whole.
    response.destroy();
    return;
  }
  if (response.destroyed) return;
  // Content-Range belongs to the answer to a range that cannot be had.
  for (const name of response.getHeaderNames()) if (name !== "content-range") response.removeHeader(name);
  gateway.fail(exchange, error);
}

/** How long a client may go on sending a body that nobody wants, so that it reads the answer instead of an error. */
const DRAIN_MS = 2000;

/** Waits until the answer has been taken, and makes sure that the connection can be used for the next request or ends. */
async function finish(exchange: Exchange): Promise<void> {
  const { request, response } = exchange;
  if (!response.writableEnded && !response.destroyed) response.end();
  if (!response.writableFinished && !response.destroyed) {
    await new Promise<void>((resolve) => {
      const timeout = setTimeout(() => response.destroy(), exchange.limits.answerIdleMs);
      const end = (): void => {
        clearTimeout(timeout);
        resolve();
      };
      response.once("finish", end);
      response.once("close", end);
    });
  }
  if (request.complete || request.destroyed) {
    // Lets node parse the next request of this connection.
    request.resume();
    return;
  }
  if (request.socket.destroyed) return;
  await new Promise<void>((resolve) => {
    const { socket } = request;
    const timeout = setTimeout(() => socket.destroy(), DRAIN_MS);
    const end = (): void => {
      clearTimeout(timeout);
      socket.off("close", end);
      resolve();
    };
    request.once("end", end);
    request.once("close", end);
    // Once the answer is out, node tells a request no more that its connection is gone.
    socket.once("close", end);
    request.resume();
  });
}

/** Answers in plain text, whatever the protocol, and ends the connection. */
function refuse(response: ServerResponse, status: number, reason: string): void {
  response.writeHead(status, { "Content-Type": "text/plain", Connection: "close" }).end(`${reason}\n`);
}

/** Why a request is refused that a web page may have sent: what a browser must not do where no credential is asked for. */
function refusalOf(request: IncomingMessage): string | undefined {
  const host = (request.headers.host ?? "").replace(/:\d+$/u, "").toLowerCase();
  if (!/^(localhost|127(\.\d{1,3}){3}|\[::1\])$/u.test(host)) {
    return "without credentials only requests to localhost are taken";
  }
  const origin = request.headers.origin;
  if (origin !== undefined && origin.replace(/^https?:\/\//u, "") !== request.headers.host) {
    return "without credentials no request of a web page is taken";
  }
  return undefined;
}
