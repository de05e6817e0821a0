/**
 * What the operations of a store behind a network have in common, whatever its protocol: they end with the caller's
 * signal and with `close`, their errors are mapped, redacted and told where they happened, and what a put that failed left
 * on the server is cleaned up within a limit.
 */
import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { Readable } from "node:stream";
import { HoldfastError, abortError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { Operation } from "../../contract/errors.ts";
import { checkName } from "../../contract/names.ts";
import type { StoreContext } from "./store-kind.ts";
import { redactError } from "../../support/redact.ts";
import { linkSignals } from "../../support/signals.ts";
import type { LinkedSignal } from "../../support/signals.ts";
import type { OperationOptions, PutOptions } from "../../contract/store.ts";

/** How long a put that failed may take to clean up behind itself, in milliseconds. */
const CLEAN_UP_MS = 10_000;

export interface StoreOperationsOptions {
  readonly context: StoreContext;
  /** Values that must not appear in an error. */
  readonly secrets: readonly string[];
  /** What the library or the server said, as an error of Holdfast. */
  readonly mapError: (error: unknown) => HoldfastError;
  /** Throws `invalid` for a name that the store cannot hold, beyond what no store can. */
  readonly checkName?: ((name: string) => void) | undefined;
}

/** What a server keeps of a body: size and digest, to be compared with what comes. */
export interface ExpectedBytes {
  /** In bytes. */
  readonly size: number;
  /** Lower-case hexadecimal. */
  readonly md5?: string | undefined;
}

export class StoreOperations {
  readonly #options: StoreOperationsOptions;
  readonly #closing = new AbortController();

  constructor(options: StoreOperationsOptions) {
    this.#options = options;
    // Every operation under way listens.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Fires when the store is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Ends everything that runs. Gives false when that was done before. */
  close(): boolean {
    if (this.#closing.signal.aborted) return false;
    this.#closing.abort(new HoldfastError("invalid", "the store is closed"));
    return true;
  }

  /** Runs one operation. `keep` leaves the signals linked, for a body that outlives the call (see `bytes`). */
  async run<T>(
    operation: Operation,
    name: string | undefined,
    options: OperationOptions,
    action: (link: LinkedSignal, keep: () => void) => Promise<T>,
  ): Promise<T> {
    const link = linkSignals(this.#closing.signal, options.signal);
    let kept = false;
    try {
      throwIfAborted(link.signal);
      if (name !== undefined) {
        checkName(name);
        this.#options.checkName?.(name);
      }
      return await action(link, () => (kept = true));
    } catch (error) {
      throw this.#error(error, operation, name, link.signal);
    } finally {
      if (!kept) link.release();
    }
  }

  /** Passes on what is iterated, with what it throws as an error of this operation. */
  async *within<T>(operation: Operation, options: OperationOptions, source: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* source;
    } catch (error) {
      const signal = options.signal?.aborted ? options.signal : this.#closing.signal;
      throw this.#error(error, operation, undefined, signal);
    }
  }

  /** What a library threw, as an error of Holdfast. */
  mapped(error: unknown): HoldfastError {
    return error instanceof HoldfastError ? error : this.#options.mapError(error);
  }

  /** Up to `attempts` tries, with growing pauses, while the errors say that another may help. */
  async attempts<T>(attempts: number, signal: AbortSignal, action: (attempt: number) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await action(attempt);
      } catch (error) {
        const mapped = this.mapped(error);
        if (attempt >= attempts || signal.aborted || !mapped.retryable) throw error;
        const { runtime } = this.#options.context;
        const backoff = 100 * 4 ** attempt * (0.5 + runtime.random());
        await runtime.sleep(Math.min(10_000, Math.max(backoff, mapped.retryAfterMs ?? 0)), signal);
      }
    }
  }

  /** The bytes of an answer: all of them, with the right digest where one is known, or an error. */
  async *bytes(
    stream: Readable,
    name: string,
    expected: ExpectedBytes,
    link: LinkedSignal,
  ): AsyncGenerator<Uint8Array> {
    const { size, md5 } = expected;
    const onAbort = (): void => void stream.destroy(abortError(link.signal));
    const hash = md5 === undefined ? undefined : createHash("md5");
    let total = 0;
    try {
      throwIfAborted(link.signal);
      link.signal.addEventListener("abort", onAbort, { once: true });
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        total += chunk.length;
        hash?.update(chunk);
        if (total > size) throw new HoldfastError("corrupt", `more bytes came than the ${size} that were announced`);
        yield chunk;
      }
      if (total < size) throw new HoldfastError("unavailable", `only ${total} of ${size} bytes came`);
      if (hash && hash.digest("hex") !== md5) {
        throw new HoldfastError("corrupt", "the bytes are not those of the object's digest (MD5)");
      }
    } catch (error) {
      throw this.#error(error, "get", name, link.signal);
    } finally {
      link.signal.removeEventListener("abort", onAbort);
      this.letGo(stream, link);
    }
  }

  /** Ends a stream that is not read to its end. */
  letGo(stream: Readable, link: LinkedSignal): void {
    link.release();
    // Whatever a destroyed stream still says has no listener any more.
    stream.on("error", () => undefined);
    if (!stream.readableEnded) stream.destroy();
  }

  /**
   * Waits for a promise, but not beyond the signal; `late` is done with what it gives afterwards. For requests that are not
   * to be cut off, because what they made on the server could not be named any more.
   */
  async unlessAborted<T>(promise: Promise<T>, signal: AbortSignal, late: (value: T) => Promise<void>): Promise<T> {
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(abortError(signal));
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    });
    try {
      return await Promise.race([promise, aborted]);
    } catch (error) {
      if (signal.aborted) {
        const cleanUp = promise.then(late).catch(() => undefined);
        await Promise.race([cleanUp, this.#options.context.runtime.sleep(CLEAN_UP_MS)]);
      }
      throw error;
    } finally {
      if (onAbort) signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Removes what a failed put left on the server: up to five attempts within 10 seconds, not ended by the caller's signal.
   * Never throws, as the error that led here is the one to be heard; what could not be removed is logged as `event`.
   */
  async cleanUp(event: string, name: string, action: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { runtime, logger, label } = this.#options.context;
    const link = linkSignals(this.#closing.signal);
    const stopTimer = runtime.timer(CLEAN_UP_MS, () => link.abort(new HoldfastError("timeout", "no time was left")));
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          await action(link.signal);
          return;
        } catch (error) {
          if (attempt >= 5 || link.signal.aborted) throw error;
          await runtime.sleep(50 * 2 ** attempt, link.signal);
        }
      }
    } catch (error) {
      const reason = redactError(this.mapped(error), this.#options.secrets).message;
      logger.warn(event, { store: label, object: name, reason });
    } finally {
      stopTimer();
      link.release();
    }
  }

  #error(error: unknown, operation: Operation, object: string | undefined, signal: AbortSignal): HoldfastError {
    // A library's own word for an abort says less than the signal's reason.
    const mapped = signal.aborted ? abortError(signal) : this.mapped(error);
    const within = mapped.within({ store: this.#options.context.label, operation, object });
    return toHoldfastError(redactError(within, this.#options.secrets));
  }
}

/** Throws for put options that a plain store does not know. */
export function refuseMetadata(options: PutOptions): void {
  if (options.metadata) {
    throw new HoldfastError("unsupported", "a plain store keeps no metadata; only a pool does");
  }
}
