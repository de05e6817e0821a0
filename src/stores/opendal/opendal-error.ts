/** OpenDAL's errors as Holdfast's. */
import { HoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { UNKNOWN_HOST } from "../../support/network-errors.ts";

const KINDS: Readonly<Record<string, ErrorCode>> = {
  NotFound: "not-found",
  PermissionDenied: "denied",
  AlreadyExists: "conflict",
  IsADirectory: "conflict",
  NotADirectory: "conflict",
  ConditionNotMatch: "conflict",
  ConfigInvalid: "config",
  RateLimited: "throttled",
  Unsupported: "unsupported",
  RangeNotSatisfied: "invalid",
};

/** OpenDAL's errors say their kind, and whether it passes, in the message alone. */
export function serviceError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const [, kind = "", lasting = ""] = /^(\w+) \((permanent|temporary|persistent)\)/u.exec(text) ?? [];
  const message = `OpenDAL: ${shorten(text)}`;
  if (/no space left|quota|insufficient ?storage|\b507\b/iu.test(text)) return new HoldfastError("full", message);
  if (/file name too long/iu.test(text)) return new HoldfastError("invalid", message);
  if (/not a directory|is a directory|os error (?:17|20|21|39)\b/iu.test(text)) {
    return new HoldfastError("conflict", message);
  }
  const code = KINDS[kind];
  if (code !== undefined) return new HoldfastError(code, message);
  if (/certificate|tls/iu.test(text)) return new HoldfastError("unavailable", message, { retryable: false });
  if (/\b401\b|unauthori[sz]ed|invalid_grant|expired/iu.test(text)) return new HoldfastError("denied", message);
  if (/timed? ?out/iu.test(text)) return new HoldfastError("timeout", message);
  if (lasting === "temporary" || lasting === "persistent" || /connect|reset|refused|eof|dns|5\d\d/iu.test(text)) {
    return new HoldfastError("unavailable", message, { retryable: UNKNOWN_HOST.test(text) ? false : undefined });
  }
  return new HoldfastError("internal", message);
}

/** The kind and the first lines: OpenDAL puts whole responses into its messages. */
function shorten(text: string): string {
  return text.replaceAll(/\s+/gu, " ").slice(0, 300);
}
