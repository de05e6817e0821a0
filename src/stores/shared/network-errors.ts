/** Errors of sockets and TLS, as Node reports them, in Holdfast's words. */
import { HoldfastError, abortError } from "../../errors.ts";
import type { ErrorCode } from "../../errors.ts";

const CERTIFICATE =
  /^(?:CERT_|ERR_TLS_CERT|DEPTH_ZERO_SELF_SIGNED_CERT$|SELF_SIGNED_CERT_IN_CHAIN$|UNABLE_TO_(?:GET_ISSUER|VERIFY)|INVALID_CA$|HOSTNAME_MISMATCH$|PATH_LENGTH_EXCEEDED$|INVALID_PURPOSE$)/u;

const CODES: Readonly<Record<string, ErrorCode>> = {
  ETIMEDOUT: "timeout",
  ESOCKETTIMEDOUT: "timeout",
  ENOSPC: "full",
  EDQUOT: "full",
};

/** The error's `code`, or that of an error beneath it. */
export function errorCode(error: unknown): string | undefined {
  let one: unknown = error;
  for (let depth = 0; depth < 4 && one instanceof Error; depth++) {
    if ("code" in one && typeof one.code === "string") return one.code;
    // Node tries several addresses and gathers what went wrong.
    one = one.cause ?? (one instanceof AggregateError ? one.errors[0] : undefined);
  }
  return undefined;
}

/**
 * What failed between us and the server: `denied` for a certificate that is not to be trusted, `timeout`, `full`, or
 * `unavailable`. A HoldfastError passes through; when the signal has fired, it is the signal's error.
 */
export function networkError(error: unknown, server: string, signal?: AbortSignal): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (signal?.aborted) return abortError(signal);
  const code = errorCode(error);
  const text = error instanceof Error && error.message !== "" ? error.message : (code ?? String(error));
  if (code !== undefined && CERTIFICATE.test(code)) {
    return new HoldfastError("denied", `the certificate of ${server} is not trusted: ${text}`, { cause: error });
  }
  const known = code === undefined ? undefined : CODES[code];
  // What Node's parser says of an answer that is no HTTP, or whose headers are too large.
  if (code?.startsWith("HPE_")) {
    return new HoldfastError("corrupt", `the answer from ${server} is no proper HTTP: ${text}`, { cause: error });
  }
  return new HoldfastError(known ?? "unavailable", `no proper answer from ${server}: ${text}`, { cause: error });
}
