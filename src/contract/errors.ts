/**
 * The one error class of Holdfast.
 *
 * Every failure that crosses a public boundary is a {@link HoldfastError}: a code from a closed set, the store, the
 * operation and the object it happened to, whether trying again can help, and the error beneath it as `cause`. Messages
 * never hold a credential: whoever builds one passes text that has gone through `redact` (see `redact.ts`).
 */

import { systemWordsOfPath } from "./system-words.ts";

/** What went wrong, in words that hold for every kind of store. */
export type ErrorCode =
  /** The store answered, and has no such object. Never used when the store could not be asked. */
  | "not-found"
  /** The credentials are missing, wrong, expired or do not permit the operation. */
  | "denied"
  /** The store could not be reached, dropped the connection, or said that it is out of order. */
  | "unavailable"
  /** The store did not answer, or made no progress, before the deadline. */
  | "timeout"
  /** The store asked for fewer requests; see `retryAfterMs`. */
  | "throttled"
  /** No space or quota is left. */
  | "full"
  /** Bytes that are not what was stored: a wrong digest, length or structure. */
  | "corrupt"
  /** A condition does not hold: the object exists already, was changed meanwhile, or copies disagree. */
  | "conflict"
  /** This kind of store cannot do that at all. */
  | "unsupported"
  /** An argument is not acceptable: a name the store cannot hold, a range beyond the end. */
  | "invalid"
  /** The configuration (URL, pool file, environment) is wrong; nothing was tried. */
  | "config"
  /** The caller's AbortSignal fired. */
  | "aborted"
  /** The answer may lack something, because a store that could know more was not heard. */
  | "incomplete"
  /** A defect in Holdfast or in a library below it. */
  | "internal";

/** Codes for which the same call may succeed later without any change by the caller. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["unavailable", "timeout", "throttled"]);

/** Codes of calls that were given up before the store said how they ended: they may still take effect. */
const MAY_LAND: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["timeout"]);

/** The operations of a store, as named in errors, logs and metrics. */
export type Operation = "open" | "put" | "get" | "stat" | "list" | "delete" | "close";

export interface HoldfastErrorOptions {
  /** Label of the store (its description, or its URL without credentials). */
  readonly store?: string | undefined;
  readonly operation?: Operation | undefined;
  /** Name of the object. */
  readonly object?: string | undefined;
  readonly cause?: unknown;
  /** Overrides what the code says about trying again. */
  readonly retryable?: boolean | undefined;
  /** Overrides what the code says of whether the call may still take effect. */
  readonly mayLand?: boolean | undefined;
  /** The store's own word on when to come back, in milliseconds from now. */
  readonly retryAfterMs?: number | undefined;
  /** Where several stores failed: each one's error, in the pool's order. */
  readonly errors?: readonly HoldfastError[] | undefined;
}

export class HoldfastError extends Error {
  readonly code: ErrorCode;
  readonly store: string | undefined;
  readonly operation: Operation | undefined;
  readonly object: string | undefined;
  readonly retryable: boolean;
  /** Of a put or delete: the call ended without an answer, and may still take effect some time later. */
  readonly mayLand: boolean;
  readonly retryAfterMs: number | undefined;
  readonly errors: readonly HoldfastError[];

  constructor(code: ErrorCode, message: string, options: HoldfastErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "HoldfastError";
    this.code = code;
    this.store = options.store;
    this.operation = options.operation;
    this.object = options.object;
    this.retryable = options.retryable ?? RETRYABLE.has(code);
    this.mayLand = options.mayLand ?? MAY_LAND.has(code);
    this.retryAfterMs = options.retryAfterMs;
    this.errors = options.errors ?? [];
  }

  /** The same error of a call that is over. */
  ended(): HoldfastError {
    return this.#copy({ mayLand: false });
  }

  /** The same error with the store, operation and object filled in where they are missing. The first writer wins. */
  within(context: { store?: string; operation?: Operation; object?: string | undefined }): HoldfastError {
    const store = this.store ?? context.store;
    const operation = this.operation ?? context.operation;
    const object = this.object ?? context.object;
    if (store === this.store && operation === this.operation && object === this.object) return this;
    return this.#copy({ store, operation, object });
  }

  #copy(changed: HoldfastErrorOptions): HoldfastError {
    const { store, operation, object, cause, retryable, mayLand, retryAfterMs, errors } = this;
    const error = new HoldfastError(this.code, this.message, {
      store,
      operation,
      object,
      cause,
      retryable,
      mayLand,
      retryAfterMs,
      errors,
      ...changed,
    });
    if (this.stack !== undefined) error.stack = this.stack;
    return error;
  }
}

export function isHoldfastError(error: unknown, code?: ErrorCode): error is HoldfastError {
  return error instanceof HoldfastError && (code === undefined || error.code === code);
}

/** Anything thrown, as a HoldfastError: one passes through, an abort becomes `aborted`, the rest becomes `fallback`. */
export function toHoldfastError(error: unknown, fallback: ErrorCode = "internal"): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (error instanceof Error && error.name === "AbortError") {
    return new HoldfastError("aborted", "the operation was cancelled", { cause: error });
  }
  return new HoldfastError(fallback, systemWordsOfPath(error), { cause: error });
}

/** Throws `aborted` (or the signal's own HoldfastError) when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

/** The error that a fired signal stands for: its reason where that is a HoldfastError (a deadline's), else `aborted`. */
export function abortError(signal: AbortSignal): HoldfastError {
  const reason: unknown = signal.reason;
  // Whether the call that it ends may still take effect is known to who gives up waiting for it, not by the reason.
  if (reason instanceof HoldfastError) return reason.mayLand ? reason.ended() : reason;
  return new HoldfastError("aborted", "the operation was cancelled", { cause: reason });
}
