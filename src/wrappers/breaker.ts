/**
 * A circuit breaker: after several failures in a row that a retry could have mended, the store is left alone for a while
 * and every operation fails at once, so that a store that is down costs the others nothing. Then one operation is let
 * through to see; when it fails too, the pause doubles.
 *
 * Put a deadline below: an operation that never ends is never counted.
 */
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import { silentLogger } from "../contract/log.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Store } from "../contract/store.ts";
import { SteppedStore } from "./forward.ts";
import type { Call } from "./forward.ts";

export interface BreakerOptions {
  readonly runtime: Runtime;
  /** Failures in a row that open the circuit. Default 5. */
  readonly failures?: number | undefined;
  /** The first pause, in milliseconds. Default 10,000. */
  readonly coolDownMs?: number | undefined;
  /** The longest pause, in milliseconds. Default 300,000. */
  readonly maxCoolDownMs?: number | undefined;
  readonly logger?: Logger | undefined;
}

export function breaker(store: Store, options: BreakerOptions): Store {
  return new BreakerStore(store, options);
}

class BreakerStore extends SteppedStore {
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #failures: number;
  readonly #firstPauseMs: number;
  readonly #maxPauseMs: number;
  #inARow = 0;
  #pauseMs: number;
  /** Open until then, by the monotonic clock; undefined while closed. */
  #openUntilMs: number | undefined;
  #probing = false;
  #last: HoldfastError | undefined;

  constructor(inner: Store, options: BreakerOptions) {
    super(inner);
    this.#runtime = options.runtime;
    this.#logger = options.logger ?? silentLogger;
    this.#failures = options.failures ?? 5;
    this.#firstPauseMs = options.coolDownMs ?? 10_000;
    this.#maxPauseMs = options.maxCoolDownMs ?? 300_000;
    this.#pauseMs = this.#firstPauseMs;
  }

  protected override async begin<T>({ operation, name, options }: Call, work: () => Promise<T>): Promise<T> {
    throwIfAborted(options.signal);
    const until = this.#openUntilMs;
    if (until === undefined) return this.#counted(false, work);
    const leftMs = until - this.#runtime.monotonicMs();
    if (leftMs > 0 || this.#probing) {
      throw new HoldfastError(
        "unavailable",
        `the store failed ${this.#inARow} times in a row and is left alone for now (${this.#last?.message ?? ""})`,
        {
          store: this.label,
          operation,
          object: name,
          cause: this.#last,
          retryAfterMs: leftMs > 0 ? Math.ceil(leftMs) : undefined,
        },
      );
    }
    this.#probing = true;
    return this.#counted(true, work);
  }

  protected override step<T>(_call: Call, work: () => Promise<T>): Promise<T> {
    return this.#counted(false, work);
  }

  async #counted<T>(probe: boolean, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      this.#answered();
      return result;
    } catch (error) {
      const failure = toHoldfastError(error);
      if (failure.retryable) this.#failed(failure, probe);
      // An abort says nothing about the store; every other error is an answer.
      else if (failure.code !== "aborted") this.#answered();
      throw error;
    } finally {
      if (probe) this.#probing = false;
    }
  }

  #answered(): void {
    this.#inARow = 0;
    if (this.#openUntilMs === undefined) return;
    this.#openUntilMs = undefined;
    this.#pauseMs = this.#firstPauseMs;
    this.#logger.info("breaker.closed", { store: this.label });
  }

  #failed(error: HoldfastError, probe: boolean): void {
    this.#inARow++;
    this.#last = error;
    const open = this.#openUntilMs !== undefined;
    // Operations that were under way when the circuit opened do not prolong the pause.
    if (open ? !probe : this.#inARow < this.#failures) return;
    if (open) this.#pauseMs = Math.min(this.#maxPauseMs, this.#pauseMs * 2);
    this.#openUntilMs = this.#runtime.monotonicMs() + this.#pauseMs;
    this.#logger.warn("breaker.opened", { store: this.label, pauseMs: this.#pauseMs, reason: error.message });
  }
}
