/** An HTTP proxy that goes wrong request by request. See index.ts. */
import { createServer, request as forward } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import type { Certificate } from "./certificates.ts";
import { closeServer, kill } from "./tcp.ts";

export interface SeenRequest {
  readonly method: string;
  /** Path and query, as sent. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

export interface Answer {
  /** Default 200. */
  readonly status?: number;
  readonly headers?: OutgoingHttpHeaders;
  /** Chunks of an iterable are sent one by one; it may be endless. Default empty. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export type HttpFault =
  /** Answers so, without asking the server. The request's body is read first. */
  | ({ readonly kind: "respond" } & Answer)
  /** The same, made for each request; undefined passes it on. */
  | {
      readonly kind: "answer";
      readonly with: (request: SeenRequest) => Answer | undefined | Promise<Answer | undefined>;
    }
  /** Redirects (default 307) to the same path there. */
  | { readonly kind: "redirect"; readonly to: string; readonly status?: number }
  /** Resets the connection when so many bytes of the request's body have come. Default 0. The server sees nothing. */
  | { readonly kind: "reset"; readonly byte?: number }
  /** Passes the request on and resets the connection instead of answering: done, but the answer is lost. */
  | { readonly kind: "lost-answer" }
  /** Never answers. The server sees nothing. */
  | { readonly kind: "hang" }
  /** Sends so many bytes of the answer's body, then nothing more. */
  | { readonly kind: "hang-at"; readonly byte: number }
  /** Sends so many bytes of the answer's body, then resets the connection; its Content-Length stays as it was. */
  | { readonly kind: "truncate"; readonly byte: number }
  /** Sends so many bytes of the answer's body and ends properly, with a Content-Length to match: a lie. */
  | { readonly kind: "shorten"; readonly byte: number }
  /** Sends so many bytes more than the answer has; `honest`: with a Content-Length to match. */
  | { readonly kind: "pad"; readonly bytes: number; readonly honest?: boolean }
  /** Adds this to the Content-Length and sends the body as it is. */
  | { readonly kind: "wrong-length"; readonly by: number }
  /** One bit of this byte of the answer's body is another. */
  | { readonly kind: "flip"; readonly byte: number }
  /** Sends the answer's body so fast. */
  | { readonly kind: "trickle"; readonly bytesPerSecond: number }
  /** Waits before it passes the request on, in milliseconds. */
  | { readonly kind: "delay"; readonly ms: number }
  /** Changes the answer: its whole body, as text. */
  | { readonly kind: "change"; readonly body: (text: string) => string };

export interface HttpFaultRule {
  /** Default: every method. */
  readonly method?: string;
  /** Of path and query. Default: all. */
  readonly path?: string | RegExp;
  /** Further conditions. */
  readonly when?: (request: SeenRequest) => boolean;
  /** From which matching request on, counted from 1. Default 1. */
  readonly nth?: number;
  /** For how many matching requests. Default: all. */
  readonly times?: number;
  readonly fault: HttpFault;
}

export interface HttpFaultProxy {
  /** `http://127.0.0.1:port`, or `https://localhost:port` with TLS. */
  readonly url: string;
  readonly port: number;
  /** Every request so far, in order. */
  readonly requests: SeenRequest[];
  /** How many requests met a fault. */
  readonly struck: number;
  add(rule: HttpFaultRule): void;
  /** Forgets all rules. */
  clear(): void;
  /** Resets every open connection. */
  cut(): void;
  close(): Promise<void>;
}

export interface HttpFaultOptions {
  /** Origin of the real server: `http://127.0.0.1:9000`. */
  readonly target?: string;
  readonly tls?: Certificate;
}

export async function startHttpFaults(options: HttpFaultOptions = {}): Promise<HttpFaultProxy> {
  let rules: { readonly rule: HttpFaultRule; seen: number }[] = [];
  const requests: SeenRequest[] = [];
  const sockets = new Set<Socket>();
  let struck = 0;

  const faultOf = (request: SeenRequest): HttpFault | undefined => {
    for (const one of rules) {
      const { method, path, when, nth = 1, times = Number.POSITIVE_INFINITY, fault } = one.rule;
      if (method !== undefined && method !== request.method) continue;
      if (typeof path === "string" ? path !== request.url : path && !path.test(request.url)) continue;
      if (when && !when(request)) continue;
      one.seen++;
      if (one.seen >= nth && one.seen < nth + times) return fault;
    }
    return undefined;
  };
  const serve = (incoming: IncomingMessage, response: ServerResponse): void => {
    const request = { method: incoming.method ?? "", url: incoming.url ?? "", headers: incoming.headers };
    requests.push(request);
    const fault = faultOf(request);
    if (fault) struck++;
    // A client that goes away is none of our business.
    const { socket } = incoming;
    handle(request, incoming, response, fault, options.target).catch(() => kill(socket));
  };
  const server = options.tls ? createTlsServer(options.tls, serve) : createServer(serve);
  server.requestTimeout = 0;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  const cut = (): void => {
    for (const socket of sockets) kill(socket);
  };
  return {
    url: options.tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    port,
    requests,
    get struck() {
      return struck;
    },
    add: (rule) => void rules.push({ rule, seen: 0 }),
    clear: () => {
      rules = [];
    },
    cut,
    close: () => closeServer(server, cut),
  };
}

async function handle(
  request: SeenRequest,
  incoming: IncomingMessage,
  response: ServerResponse,
  fault: HttpFault | undefined,
  target: string | undefined,
): Promise<void> {
  // A message that has been let go of no longer knows its connection.
  const { socket } = incoming;
  switch (fault?.kind) {
    case "respond":
      await drain(incoming);
      return answer(response, fault);
    case "answer": {
      const made = await fault.with(request);
      if (!made) break;
      await drain(incoming);
      return answer(response, made);
    }
    case "redirect":
      await drain(incoming);
      return answer(response, { status: fault.status ?? 307, headers: { location: fault.to + request.url } });
    case "reset": {
      let bytes = 0;
      if ((fault.byte ?? 0) > 0) {
        for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
          bytes += (chunk as Buffer).length;
          if (bytes >= (fault.byte ?? 0)) break;
        }
      }
      kill(socket);
      return;
    }
    case "hang":
      await drain(incoming);
      return;
    case "delay":
      await new Promise((resolve) => {
        setTimeout(resolve, fault.ms);
      });
      break;
    default:
  }
  if (target === undefined) {
    await drain(incoming);
    return answer(response, { status: 502, body: "no server behind the fault proxy" });
  }
  const upstream = await pass(request, incoming, response, target);
  await reply(upstream, response, fault, request.method);
}

/** Sends the request on, header by header as it came: signatures stay right. */
function pass(
  request: SeenRequest,
  incoming: IncomingMessage,
  response: ServerResponse,
  target: string,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(target);
    const outgoing = forward({
      host: hostname,
      port,
      method: request.method,
      path: request.url,
      headers: incoming.rawHeaders,
      agent: false,
    });
    outgoing.on("response", resolve);
    outgoing.on("continue", () => response.writeContinue());
    outgoing.on("error", reject);
    response.on("close", () => outgoing.destroy());
    // The server may answer before it has read everything.
    pipeline(incoming, outgoing).catch(reject);
  });
}

async function reply(
  upstream: IncomingMessage,
  response: ServerResponse,
  fault: HttpFault | undefined,
  method: string,
): Promise<void> {
  if (fault?.kind === "lost-answer") {
    const { socket } = response;
    await drain(upstream);
    if (socket) kill(socket);
    return;
  }
  const headers: OutgoingHttpHeaders = {};
  for (let i = 0; i < upstream.rawHeaders.length; i += 2) {
    const name = upstream.rawHeaders[i] ?? "";
    const value = upstream.rawHeaders[i + 1] ?? "";
    const known = headers[name];
    headers[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [String(known)]), value];
  }
  const lengthName = Object.keys(headers).find((name) => name.toLowerCase() === "content-length");
  const length = lengthName === undefined ? undefined : Number(headers[lengthName]);
  const setLength = (value: number): void => {
    if (lengthName !== undefined) headers[lengthName] = String(value);
  };
  if (fault?.kind === "wrong-length" && length !== undefined) setLength(length + fault.by);
  if (fault?.kind === "pad" && fault.honest && length !== undefined) setLength(length + fault.bytes);
  if (fault?.kind === "shorten" && length !== undefined) setLength(Math.min(length, fault.byte));
  if (fault?.kind === "change") {
    const text = fault.body(Buffer.concat(await upstream.toArray()).toString());
    setLength(Buffer.byteLength(text));
    response.writeHead(upstream.statusCode ?? 502, headers);
    response.end(text);
    return;
  }
  response.writeHead(upstream.statusCode ?? 502, headers);
  response.flushHeaders();
  let sent = 0;
  const write = (bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      response.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  for await (const chunk of upstream) {
    let piece = chunk as Buffer;
    if (fault?.kind === "truncate" || fault?.kind === "hang-at" || fault?.kind === "shorten") {
      piece = piece.subarray(0, Math.max(0, fault.byte - sent));
    }
    if (fault?.kind === "flip" && fault.byte >= sent && fault.byte < sent + piece.length) {
      piece = Buffer.from(piece);
      piece[fault.byte - sent] = (piece[fault.byte - sent] ?? 0) ^ 1;
    }
    sent += piece.length;
    if (fault?.kind === "trickle") {
      for (const byte of piece) {
        await write(Buffer.of(byte));
        await new Promise((resolve) => {
          setTimeout(resolve, 1000 / fault.bytesPerSecond);
        });
      }
    } else if (piece.length > 0) {
      await write(piece);
    }
  }
  if (fault?.kind === "truncate" && method !== "HEAD") {
    if (response.socket) kill(response.socket);
    return;
  }
  if (fault?.kind === "hang-at" || (fault?.kind === "wrong-length" && fault.by > 0 && method !== "HEAD")) return;
  if (fault?.kind === "pad" && method !== "HEAD") await write(Buffer.alloc(fault.bytes, "X"));
  response.end();
}

async function answer(response: ServerResponse, { status = 200, headers = {}, body = "" }: Answer): Promise<void> {
  if (typeof body === "string" || body instanceof Uint8Array) {
    response.writeHead(status, { "content-length": Buffer.byteLength(body), ...headers });
    response.end(body);
    return;
  }
  response.writeHead(status, headers);
  // To a HEAD, Node throws all bytes away, without ever saying that it is enough.
  if (response.req.method === "HEAD") response.end();
  else await pipeline(body, response);
}

async function drain(incoming: IncomingMessage): Promise<void> {
  for await (const chunk of incoming) if (chunk === undefined) return;
}
