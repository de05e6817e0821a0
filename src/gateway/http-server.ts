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
  const limits: HttpLimits = { ...defaultHttpLimits, ...options.limits };
  const { logger, metrics, runtime } = options;
  const running = new Map<Exchange, AbortController>();
  const sockets = new Set<Socket>();
  let stopping = false;
  let idle: (() => void) | undefined;

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
  const server: Server = options.tls
    ? createTlsServer({ ...settings, ...options.tls, minVersion: "TLSv1.2" })
    : createPlainServer(settings);
  server.maxConnections = limits.connections;
  // Node drops the headers beyond this number without a word; one more than the limit shows that there are too many.
  server.maxHeadersCount = limits.headers + 1;

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const controller = new AbortController();
    const url = request.url ?? "/";
    const question = url.indexOf("?");
    const exchange: Exchange = {
      request,
      response,
      id: randomBytes(8).toString("hex"),
      method: request.method ?? "GET",
      rawPath: question === -1 ? url : url.slice(0, question),
      rawQuery: question === -1 ? "" : url.slice(question + 1),
      signal: controller.signal,
      limits,
      fields: {},
      failed: (error) => logFailure(gateway, exchange, error, logger),
    };
    const startedMs = runtime.monotonicMs();
    running.set(exchange, controller);
    let over = false;
    response.on("close", () => {
      if (over) return;
      over = true;
      if (!response.writableFinished) {
        controller.abort(new HoldfastError("aborted", "the client went away before the answer was complete"));
      }
    });
    // Both report the client's going away, which `close` has noticed.
    request.on("error", () => undefined);
    response.on("error", () => undefined);

    const work = async (): Promise<void> => {
      if (stopping || running.size > limits.requests) {
        throw new ClientError("throttled", stopping ? "the gateway is stopping" : "too many requests at once", {
          retryAfterMs: 1000,
        });
      }
      if (exchange.rawPath === HEALTH_PATH && (exchange.method === "GET" || exchange.method === "HEAD")) {
        response.writeHead(200, { "Content-Type": "text/plain" }).end("ok\n");
        return;
      }
      if (exchange.rawPath === READY_PATH && (exchange.method === "GET" || exchange.method === "HEAD")) {
        const { isReady, text } = await options.ready();
        response.writeHead(isReady ? 200 : 503, { "Content-Type": "text/plain" }).end(`${text}\n`);
        return;
      }
      if (request.rawHeaders.length > 2 * limits.headers) {
        refuse(response, 431, `a request has at most ${limits.headers} headers`);
        return;
      }
      const refusal = options.open ? refusalOf(request) : undefined;
      if (refusal !== undefined) {
        refuse(response, 403, refusal);
        return;
      }
      await gateway.handle(exchange);
    };
    void work()
      .catch((error: unknown) => {
        answerError(gateway, exchange, error, logger);
      })
      .then(async () => {
        await finish(exchange);
        over = true;
        running.delete(exchange);
        const seconds = (runtime.monotonicMs() - startedMs) / 1000;
        metrics.request(gateway.protocol, exchange.method, response.statusCode, seconds);
        logger[response.statusCode >= 500 ? "warn" : "info"]("request", {
          protocol: gateway.protocol,
          id: exchange.id,
          method: exchange.method,
          path: exchange.rawPath,
          status: response.statusCode,
          complete: response.writableFinished,
          ms: Math.round(seconds * 1000),
          ...exchange.fields,
        });
        if (stopping && running.size === 0) idle?.();
      })
      .catch((error: unknown) => {
        logger.error("request-end", { id: exchange.id, error: toHoldfastError(error).message });
      });
  };
  server.on("request", serve);
  // With a listener of its own, `100 Continue` is sent only when the gateway begins to read the body.
  server.on("checkContinue", serve);
  server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
    if (request.headers.expect === "") serve(request, response);
    else response.writeHead(417).end();
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    metrics.connections(gateway.protocol, sockets.size);
    socket.on("close", () => {
      sockets.delete(socket);
      metrics.connections(gateway.protocol, sockets.size);
    });
  });
  server.on("clientError", (error: Error & { code?: string }, socket: Socket) => {
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
    logger.info("bad-request", { protocol: gateway.protocol, status, reason: error.code ?? error.message });
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  });

  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(
        new HoldfastError(
          "config",
          `cannot listen on ${options.host} port ${options.port}: ${wordsOfCode(systemCode(error)) ?? error.message}`,
          {
            cause: error,
          },
        ),
      );
    });
    server.listen(options.port, options.host, resolve);
  });
  server.on("error", (error) => {
    logger.error("listener", { protocol: gateway.protocol, error: error.message });
  });
  const address = server.address() as AddressInfo;
  const shown = address.family === "IPv6" ? `[${address.address}]` : address.address;

  let stopped: Promise<void> | undefined;
  const stop = async (graceMs: number): Promise<void> => {
    stopping = true;
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    server.closeIdleConnections();
    if (running.size > 0) {
      const finished = new Promise<void>((resolve) => {
        idle = resolve;
      });
      const giveUp = runtime.timer(graceMs, () => {
        for (const controller of running.values()) {
          controller.abort(new HoldfastError("unavailable", "the gateway is stopping"));
        }
      });
      // A store that does not heed the signal must not keep the process.
      const cut = runtime.timer(graceMs + 10_000, () => idle?.());
      await finished;
      giveUp();
      cut();
    }
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return {
    host: address.address,
    port: address.port,
    url: `${options.tls ? "https" : "http"}://${shown}:${address.port}`,
    stop: (graceMs = 30_000) => (stopped ??= stop(graceMs)),
  };
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
