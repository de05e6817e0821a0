/** One request and its answer, as the HTTP server hands it to a gateway. */
import type { IncomingMessage, ServerResponse } from "node:http";

export interface HttpLimits {
  /** Bytes of a request's line and headers. Default 32 KiB. */
  readonly headerBytes: number;
  /** Headers of a request. More of them get 431, like longer ones. Default 200. */
  readonly headers: number;
  /** Milliseconds a client may take to send them. Default 20,000. */
  readonly headersMs: number;
  /** A body that is waited for must bring `bodyMinBytes` in each span of this many milliseconds. Default 60,000. */
  readonly bodyIdleMs: number;
  /** See `bodyIdleMs`. A body that ends is never held against this. Default 4,096. */
  readonly bodyMinBytes: number;
  /** Milliseconds that a client may leave an answer untaken. Default 120,000. */
  readonly answerIdleMs: number;
  /** Milliseconds that an idle connection is kept. Default 65,000. */
  readonly keepAliveMs: number;
  /** Connections at once; further ones are closed. Default 1,024. */
  readonly connections: number;
  /** Requests at work at once; further ones get 503. Default 256. */
  readonly requests: number;
}

/** One request and its answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** 16 hexadecimal digits, in the log and in error answers. */
  readonly id: string;
  readonly method: string;
  /** The path as it came, still percent-encoded. */
  readonly rawPath: string;
  /** What followed `?`, or "". */
  readonly rawQuery: string;
  /** Fires when the client has gone away or the server's patience at its end is over. */
  readonly signal: AbortSignal;
  readonly limits: HttpLimits;
  /** Fields for the log line of this request; a gateway may add some. */
  readonly fields: Record<string, string | number | boolean>;
  /** Logs an error that the gateway answers itself, in an answer about several objects or one that has begun. */
  readonly failed: (error: unknown) => void;
}

export interface Gateway {
  /** Word for logs and metrics: `s3`, `webdav`, `restic`. */
  readonly protocol: string;
  handle(exchange: Exchange): Promise<void>;
  /** The answer that stands for an error, in the protocol's form. Called only while no header has been sent. */
  fail(exchange: Exchange, error: unknown): void;
}
