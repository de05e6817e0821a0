/**
 * A limit on how many operations a store below has to work on at once; the others wait in order.
 *
 * A put holds its place from beginning to end. Everything else shares as many places again and holds one only while the
 * store works: a reader that pauses holds none. So operations may feed each other (a put whose source is a get from the
 * same store) without ever waiting for one another in a circle.
 */
import { abortError, throwIfAborted } from "../contract/errors.ts";
import type { Store } from "../contract/store.ts";
import { SteppedStore } from "./forward.ts";
import type { Call } from "./forward.ts";

export interface LimitOptions {
  /** How many puts, and how many other operations, at once: a whole number from 1. */
  readonly max: number;
}

export function limit(store: Store, options: LimitOptions): Store {
  return new LimitStore(store, options);
}

/** Places, given in the order of asking. */
export class Places {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Runs the work in a place. One who is aborted while waiting leaves the queue. */
  async run<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    if (this.#free > 0) this.#free--;
    else await this.#wait(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) {
        this.#waiting.delete(next);
        next();
      } else {
        this.#free++;
      }
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiting.delete(go);
        if (signal) reject(abortError(signal));
      };
      this.#waiting.add(go);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

class LimitStore extends SteppedStore {
  readonly #puts: Places;
  readonly #others: Places;

  constructor(inner: Store, options: LimitOptions) {
    super(inner);
    this.#puts = new Places(options.max);
    this.#others = new Places(options.max);
  }

  protected override begin<T>(call: Call, work: () => Promise<T>): Promise<T> {
    return call.operation === "put" ? this.#puts.run(call.options.signal, work) : this.step(call, work);
  }

  protected override step<T>({ options }: Call, work: () => Promise<T>): Promise<T> {
    return this.#others.run(options.signal, work);
  }
}
