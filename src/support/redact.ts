/**
 * Keeps credentials out of what people see.
 *
 * Two nets: the values that are known to be secret (from a store's URL and `env`), in every spelling they may take on
 * their way through a library; and shapes that are always secret (user information in a URL, an Authorization header, a
 * signature in a query), for what nobody told us about.
 */
import { HoldfastError } from "../contract/errors.ts";
import type { StoreUrl } from "../contract/store-url.ts";

/** What stands where a secret stood. */
export const REDACTED = "***";

/** Shorter values are too common in ordinary text to be replaced wherever they stand ("1", "true", "eu"). */
const MIN_SECRET_CHARS = 4;

/** Names of variables and parameters whose values are secret. */
const SECRET_NAME =
  /pass|secret|token|credential|api_?key|access_?key|account_?key|private|auth|signature|sas|connection_?string|cookie|session/iu;

/** Whether the value of a variable or parameter of this name is to be kept secret. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** The secret values of a store: its URL's password and query values, and its environment's by their names. */
export function secretsOf(url: StoreUrl, env: Readonly<Record<string, string | undefined>> = {}): string[] {
  const secrets = new Set<string>();
  if (url.password !== undefined) secrets.add(url.password);
  for (const pair of url.query?.split("&") ?? []) {
    const equals = pair.indexOf("=");
    if (equals !== -1 && isSecretName(pair.slice(0, equals))) secrets.add(decodeLoosely(pair.slice(equals + 1)));
  }
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !isSecretName(name)) continue;
    secrets.add(value);
    // A connection string holds its secret among public parts.
    for (const part of value.split(";")) {
      const equals = part.indexOf("=");
      if (equals !== -1 && isSecretName(part.slice(0, equals))) secrets.add(part.slice(equals + 1));
    }
  }
  return [...secrets].filter((secret) => secret.length >= MIN_SECRET_CHARS);
}

/** Text without the given secrets (as they are, percent-encoded, in base64 and as JSON) and without secret shapes. */
export function redactText(text: string, secrets: Iterable<string> = []): string {
  const spellings = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < MIN_SECRET_CHARS) continue;
    spellings.add(secret);
    spellings.add(JSON.stringify(secret).slice(1, -1));
    const base64 = Buffer.from(secret).toString("base64");
    spellings.add(base64);
    spellings.add(base64.replace(/=+$/u, ""));
    spellings.add(Buffer.from(secret).toString("base64url"));
    if (secret.isWellFormed()) {
      const encoded = encodeURIComponent(secret);
      spellings.add(encoded);
      spellings.add(encoded.replace(/%[0-9A-F]{2}/gu, (code) => code.toLowerCase()));
      spellings.add(encodeURI(secret));
      spellings.add(encoded.replaceAll("%20", "+"));
    }
  }
  let result = text;
  // The longest first, so that a secret that holds another is replaced whole.
  for (const spelling of [...spellings].sort((a, b) => b.length - a.length)) {
    result = result.replaceAll(spelling, REDACTED);
  }
  return redactShapes(result);
}

function redactShapes(text: string): string {
  return (
    text
      // user:password@ in a URL; the user stays, as it helps to find the mistake.
      .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s/?#:@"']*):[^\s/?#"']*@/giu, `$1:${REDACTED}@`)
      .replace(
        /\b((?:proxy-)?authorization|x-auth-token|x-amz-security-token|cookie|set-cookie)(["']?\s*[:=]\s*["']?)[^\r\n"']+/giu,
        `$1$2${REDACTED}`,
      )
      .replace(/\b(Bearer|Basic|Digest)\s+[A-Za-z0-9+/=._~-]{8,}/gu, `$1 ${REDACTED}`)
      .replace(
        /([?&;](?:sig|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|signature|token|access_token|password|key)=)[^&\s"';]+/giu,
        `$1${REDACTED}`,
      )
      .replace(/\b(AccountKey|SharedAccessKey|SharedAccessSignature)=[^;\s"']+/giu, `$1=${REDACTED}`)
      .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/gu, REDACTED)
  );
}

/**
 * An error without secrets in its message, its stack and its causes. Causes become plain errors with their name, message
 * and code alone, since libraries hang whole requests, headers included, on theirs.
 */
export function redactError(error: unknown, secrets: Iterable<string> = []): Error {
  return redactOne(error, [...secrets], 0);
}

/** A chain of causes is followed this far; a longer one, or one that bites its tail, is cut. */
const MAX_CAUSES = 8;

function redactOne(error: unknown, secrets: readonly string[], depth: number): Error {
  if (!(error instanceof Error)) return new Error(redactText(String(error), secrets));
  const message = redactText(error.message, secrets);
  const cause =
    error.cause === undefined || depth >= MAX_CAUSES ? undefined : redactOne(error.cause, secrets, depth + 1);
  if (error instanceof HoldfastError) {
    const copy = new HoldfastError(error.code, message, {
      store: error.store === undefined ? undefined : redactText(error.store, secrets),
      operation: error.operation,
      object: error.object,
      cause,
      retryable: error.retryable,
      retryAfterMs: error.retryAfterMs,
      errors:
        depth >= MAX_CAUSES
          ? []
          : error.errors.flatMap((one) => {
              const redacted = redactOne(one, secrets, depth + 1);
              return redacted instanceof HoldfastError ? [redacted] : [];
            }),
    });
    if (error.stack !== undefined) copy.stack = redactText(error.stack, secrets);
    return copy;
  }
  const copy: Error & { code?: string } = new Error(message, cause === undefined ? undefined : { cause });
  copy.name = error.name;
  if (error.stack !== undefined) copy.stack = redactText(error.stack, secrets);
  if ("code" in error && typeof error.code === "string") copy.code = error.code;
  return copy;
}

function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
