/** What goes wrong between here and a server, as codes of Holdfast: HTTP statuses, sockets, TLS. One place for every kind. */
import { HoldfastError, abortError } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { ownCode, systemWords, wordsOfCode } from "../contract/system-words.ts";

/** The longest `Retry-After` that is believed, in milliseconds: a hostile server could otherwise name next year. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** The wait that a `Retry-After` header asks for, in milliseconds: whole seconds or a date. Undefined when it is neither. */
export function parseRetryAfter(header: string | null | undefined, nowMs: number): number | undefined {
  if (header === null || header === undefined) return undefined;
  const text = header.trim();
  const ms = /^\d+$/u.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

export interface HttpFailure {
  readonly status: number;
  /** What the server said, without secrets; the status line where it said nothing. */
  readonly message: string;
  readonly retryAfter?: string | null | undefined;
  readonly nowMs: number;
  readonly cause?: unknown;
}

const statusCodes: Readonly<Record<number, ErrorCode>> = {
  401: "denied",
  402: "denied",
  403: "denied",
  404: "not-found",
  405: "unsupported",
  407: "denied",
  408: "timeout",
  409: "conflict",
  410: "not-found",
  412: "conflict",
  423: "conflict",
  425: "throttled",
  429: "throttled",
  501: "unsupported",
  505: "unsupported",
  507: "full",
  509: "throttled",
};

/** The error for an HTTP status that is not a success. A redirect is one: it is never followed with credentials. */
export function httpError(failure: HttpFailure): HoldfastError {
  const { status, message, cause } = failure;
  const code = statusCodes[status] ?? (status >= 500 ? "unavailable" : status >= 400 ? "invalid" : "unavailable");
  const retryAfterMs = parseRetryAfter(failure.retryAfter, failure.nowMs);
  // A lock goes away by itself; a permanent redirect and an answer that HTTP does not know (1xx, 2xx here) do not.
  const retryable = status === 423 ? true : [301, 308].includes(status) || status < 300 ? false : undefined;
  return new HoldfastError(code, message, { cause, retryAfterMs, retryable });
}

/** The server's certificate proves nothing. */
const CERTIFICATE_CODE =
  /^(?:CERT_|ERR_TLS_CERT|UNABLE_TO_(?:GET|VERIFY)|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_(?:CA|PURPOSE)|PATH_LENGTH_EXCEEDED|CRL_)/u;
/** Errors of TLS that stay until someone changes something: trying again only repeats them. */
const TLS_CODE = /^(?:ERR_SSL_|ERR_TLS_|EPROTO$)/u;
/** No connection came about: there is no answer that could be improper. */
const UNREACHED_CODE =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL)$/u;
/** The other end sent something else than TLS: most often it is a server of plain HTTP. */
const NO_TLS_CODE =
  /^(?:ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|HTTPS_PROXY_REQUEST)|EPROTO)$/u;
const NO_TLS =
  "the server does not speak TLS on this port: if it serves plain HTTP, the store's URL has to say so (http:// or tls=off, docs/stores.md)";
const TIMEOUT_CODE = /^(?:ETIMEDOUT|ESOCKETTIMEDOUT|UND_ERR_(?:CONNECT|HEADERS|BODY)_TIMEOUT)$/u;
/** `HPE_`: an answer that is no HTTP, or whose headers have no end. It says nothing of the object's bytes: not `corrupt`. */
const UNAVAILABLE_CODE =
  /^(?:ECONN(?:REFUSED|RESET|ABORTED)|EPIPE|ENOTFOUND|EAI_\w+|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|EMFILE|ENFILE|ENOBUFS|ERR_STREAM_PREMATURE_CLOSE|ERR_STREAM_DESTROYED|UND_ERR_(?!\w*TIMEOUT)\w+|HPE_\w+|ERR_HTTP\w*|ERR_SOCKET\w*)$/u;

/** The error and those beneath it. Several addresses of one host are tried (happy eyeballs): the first one's counts. */
function* chainOf(error: unknown): Generator<Error> {
  let one = error;
  for (let depth = 0; depth < 5 && one instanceof Error; depth++) {
    yield one;
    one = one instanceof AggregateError && one.errors.length > 0 ? one.errors[0] : one.cause;
  }
}

/** The system's or library's code of an error (`ECONNRESET` …), or of one beneath it. */
export function systemCode(error: unknown): string | undefined {
  for (const one of chainOf(error)) if (ownCode(one) !== "") return ownCode(one);
  return undefined;
}

/**
 * Whether no server has the host's name: asking again does not help. A name server that did not answer (`EAI_AGAIN`, "try
 * again") is something else.
 */
export function isUnknownHost(error: unknown): boolean {
  return systemCode(error) === "ENOTFOUND";
}

/** The same in what a program says. */
export const UNKNOWN_HOST = /name or service not known|nodename nor servname|no such host|unknown host/iu;

/** The error for a failure of a socket, of name resolution or of TLS; undefined when it is none. Looks into causes. */
export function networkError(error: unknown): HoldfastError | undefined {
  for (const one of chainOf(error)) {
    const code = ownCode(one);
    const words = systemWords(one);
    const message = words === "" ? code : words;
    if (CERTIFICATE_CODE.test(code)) {
      return new HoldfastError("denied", `the certificate is not trusted: ${message}`, { cause: error });
    }
    if (TLS_CODE.test(code)) {
      return new HoldfastError("unavailable", NO_TLS_CODE.test(code) ? NO_TLS : `TLS: ${message}`, {
        cause: error,
        retryable: false,
      });
    }
    // By the code first: the AWS SDK calls a reset connection a timeout.
    if (UNAVAILABLE_CODE.test(code)) {
      return new HoldfastError("unavailable", message, {
        cause: error,
        retryable: isUnknownHost(error) ? false : undefined,
      });
    }
    if (TIMEOUT_CODE.test(code) || one.name === "TimeoutError") {
      return new HoldfastError("timeout", message, { cause: error });
    }
    if (one.message === "aborted" || one.message === "terminated" || one.message === "socket hang up") {
      return new HoldfastError("unavailable", "the connection ended early", { cause: error });
    }
  }
  return undefined;
}

/**
 * What failed in a conversation with a server, which the message names. A HoldfastError passes through; when the signal
 * has fired, it is the signal's error; what is not known otherwise is `unavailable`.
 */
export function conversationError(error: unknown, server: string, signal?: AbortSignal): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (signal?.aborted) return abortError(signal);
  const known = networkError(error);
  const code = systemCode(error);
  const message = UNREACHED_CODE.test(code ?? "")
    ? `cannot reach ${server}: ${wordsOfCode(code) ?? code}`
    : `no proper answer from ${server}: ${known?.message ?? systemWords(error)}`;
  return new HoldfastError(known?.code ?? "unavailable", message, {
    cause: error,
    retryable: known?.retryable,
  });
}
