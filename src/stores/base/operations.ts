/**
 * One lifecycle for the operations of every store: a closed store refuses, closing ends the operations under way, a signal
 * is obeyed even while the service hangs, and every error says store, operation and object, without secrets. Beside it
 * stands the help that stores behind a network need: further attempts, waits that end with the signal, and the removal,
 * within a limit, of what a failed put left on the server.
 */
import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { Readable } from "node:stream";
import { abortable } from "../../contract/body.ts";
import { HoldfastError, abortError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { Operation } from "../../contract/errors.ts";
import { checkName } from "../../contract/names.ts";
import type { StoreContext } from "./store-kind.ts";
import { redactError } from "../../support/redact.ts";
import { linkSignals, raceSignal } from "../../support/signals.ts";
import type { LinkedSignal } from "../../support/signals.ts";
import type { GetResult, OperationOptions, PutOptions } from "../../contract/store.ts";

/** How long a put that failed may take to clean up behind itself, in milliseconds. */
const CLEAN_UP_MS = 10_000;

export interface OperationsOptions {
  readonly context: Pick<StoreContext, "label" | "runtime" | "logger">;
  /** Values that must not appear in an error. Left out where errors hold nothing of the kind. */
  readonly secrets?: readonly string[] | undefined;
  /** Makes an error of Holdfast of what a library or the server said. Default: `internal`. */
  readonly mapError?: ((error: unknown) => HoldfastError) | undefined;
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

/** One operation under way. Its signal is made when it is first asked for: a store that needs none does not pay for it. */
export class Running {
  readonly #closing: AbortSignal;
  readonly #outer: AbortSignal | undefined;
  #link: LinkedSignal | undefined;

  constructor(closing: AbortSignal, outer: AbortSignal | undefined) {
    this.#closing = closing;
    this.#outer = outer;
    this.check();
  }

  /** Fires with the caller's signal, when the store is closed, and by `abort`. */
  get signal(): AbortSignal {
    return this.#linked().signal;
  }

  /** The signal that has fired, if one has that the operation obeys. */
  get fired(): AbortSignal | undefined {
    return [this.#link?.signal, this.#outer].find((signal) => signal?.aborted);
  }

  /** Throws when the caller's signal has fired, or the store is closed. */
  check(): void {
    throwIfAborted(this.#outer);
    throwIfAborted(this.#closing);
  }

  abort(reason: unknown): void {
    this.#linked().abort(reason);
  }

  release(): void {
    this.#link?.release();
  }

  #linked(): LinkedSignal {
    this.#link ??= linkSignals(this.#closing, this.#outer);
    return this.#link;
  }
}

export class Operations {
  readonly #options: OperationsOptions;
  readonly #closing = new AbortController();
  readonly #running = new Set<Running>();
  #onIdle: (() => void) | undefined;

  constructor(options: OperationsOptions) {
    this.#options = options;
    // Every operation under way listens.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Fires when the store is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Refuses further operations and ends those under way. Gives false when that was done before. */
  end(): boolean {
    if (this.#closing.signal.aborted) return false;
    this.#closing.abort(new HoldfastError("invalid", "the store is closed"));
    return true;
  }

  /** The same, and resolves when nothing is under way: no operation, no listing, no read whose body is open. */
  async close(): Promise<void> {
    this.end();
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  /**
   * Runs one operation. `action` must end by itself soon after its signal fires, so that nothing of it goes on behind the
   * caller's back.
   */
  async run<T>(
    operation: Operation,
    name: string | undefined,
    options: OperationOptions,
    action: (running: Running) => Promise<T>,
  ): Promise<T> {
    let running: Running | undefined;
    try {
      running = this.#begin(options);
      if (name !== undefined) this.#checkName(name);
      return await action(running);
    } catch (error) {
      throw this.failure(error, operation, name, running);
    } finally {
      this.#end(running);
    }
  }

  /** The same for a listing, which is under way until its consumer stops. */
  async *iterate<T>(options: OperationOptions, source: (running: Running) => AsyncIterable<T>): AsyncGenerator<T> {
    let running: Running | undefined;
    try {
      running = this.#begin(options);
      yield* abortable(source(running), running.signal);
    } catch (error) {
      throw this.failure(error, "list", undefined, running);
    } finally {
      this.#end(running);
    }
  }

  /** The same for a read, which is under way until its body has been read to the end, or it is closed. */
  async get(
    name: string,
    options: OperationOptions,
    action: (running: Running) => Promise<GetResult>,
  ): Promise<GetResult> {
    let running: Running | undefined;
    try {
      running = this.#begin(options);
      this.#checkName(name);
      const result = await action(running);
      return await this.#opened(name, result, running);
    } catch (error) {
      this.#end(running);
      throw this.failure(error, "get", name, running);
    }
  }

  async #opened(name: string, result: GetResult, running: Running): Promise<GetResult> {
    const { signal } = running;
    let ending: Promise<void> | undefined;
    const close = (): Promise<void> => {
      ending ??= result.close().finally(() => this.#end(running));
      return ending;
    };
    if (signal.aborted) {
      await close();
      throw abortError(signal);
    }
    // A read that nobody reads or closes still lets go of what it holds when its signal fires.
    signal.addEventListener("abort", () => void close().catch(() => undefined), { once: true });
    const failed = (error: unknown): HoldfastError => this.failure(error, "get", name, running);
    const body = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield* abortable(result.body, signal);
      } catch (error) {
        throw failed(error);
      } finally {
        await close().catch(() => undefined);
      }
    };
    return { ...result, body: body(), close };
  }

  #begin(options: OperationOptions): Running {
    const running = new Running(this.#closing.signal, options.signal);
    this.#running.add(running);
    return running;
  }

  #end(running: Running | undefined): void {
    if (!running || !this.#running.delete(running)) return;
    running.release();
    if (this.#running.size === 0) this.#onIdle?.();
  }

  #checkName(name: string): void {
    checkName(name);
    this.#options.checkName?.(name);
  }

  /** What a library threw, as an error of Holdfast. */
  mapped(error: unknown): HoldfastError {
    return error instanceof HoldfastError ? error : (this.#options.mapError ?? toHoldfastError)(error);
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

  /**
   * Waits for a promise, but not beyond the signal; `late` is done with what it gives afterwards. For requests that are not
   * to be cut off, because what they made on the server could not be named any more.
   */
  async unlessAborted<T>(promise: Promise<T>, signal: AbortSignal, late: (value: T) => Promise<void>): Promise<T> {
    try {
      return await raceSignal(promise, signal);
    } catch (error) {
      if (signal.aborted) {
        const cleanUp = promise.then(late).catch(() => undefined);
        await Promise.race([cleanUp, this.#options.context.runtime.sleep(CLEAN_UP_MS)]);
      }
      throw error;
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
      const reason = redactError(this.mapped(error), this.#options.secrets ?? []).message;
      logger.warn(event, { store: label, object: name, reason });
    } finally {
      stopTimer();
      link.release();
    }
  }

  /** The error of an operation, as its caller is to see it. */
  failure(error: unknown, operation: Operation, object: string | undefined, running?: Running): HoldfastError {
    // Whatever an aborted operation fails with, it failed because it was aborted.
    const fired = running?.fired;
    const mapped = fired ? abortError(fired) : this.mapped(error);
    const within = mapped.within({ store: this.#options.context.label, operation, object });
    const { secrets } = this.#options;
    return secrets ? toHoldfastError(redactError(within, secrets)) : within;
  }
}

/** The bytes of an answer: all of them, with the right digest where one is known, or an error. */
export async function* expectedBytes(
  stream: AsyncIterable<Uint8Array>,
  { size, md5 }: ExpectedBytes,
): AsyncGenerator<Uint8Array> {
  const hash = md5 === undefined ? undefined : createHash("md5");
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    hash?.update(chunk);
    if (total > size) throw new HoldfastError("corrupt", `more bytes came than the ${size} that were announced`);
    yield chunk;
  }
  if (total < size) throw new HoldfastError("unavailable", `only ${total} of ${size} bytes came`);
  if (hash && hash.digest("hex") !== md5) {
    throw new HoldfastError("corrupt", "the bytes are not those of the object's digest (MD5)");
  }
}

/** Ends a stream that is not read to its end. */
export function letGo(stream: Readable): void {
  // Whatever a destroyed stream still says has no listener any more.
  stream.on("error", () => undefined);
  if (!stream.readableEnded) stream.destroy();
}

/**
 * Throws `unsupported` for put options that a plain store does not know; `noCondition` is why the store cannot put an object
 * only if there is none, where it cannot.
 */
export function refuseUnsupported(options: PutOptions, noCondition?: string): void {
  if (options.metadata) {
    throw new HoldfastError("unsupported", "a plain store keeps no metadata; only a pool does");
  }
  if (options.ifAbsent && noCondition !== undefined) throw new HoldfastError("unsupported", noCondition);
}

/** The error for what is not there. */
export function notFound(cause?: unknown): HoldfastError {
  return new HoldfastError("not-found", "there is no such object", { cause });
}

/** Why most kinds of store cannot put an object only if there is none. */
export const NOT_ATOMIC = "this kind of store cannot decide atomically whether an object exists";
