/**
 * A limit on how many operations a store below has to work on at once; the others wait in order.
 *
 * A put holds its place from beginning to end. Everything else shares as many places again and holds one only while the
 * store works: a reader that pauses holds none. So operations may feed each other (a put whose source is a get from the
 * same store) without ever waiting for one another in a circle.
 */
import type { Store } from "../contract/store.ts";
import { Places } from "../support/places.ts";
import { SteppedStore } from "./forward.ts";
import type { Call } from "./forward.ts";

export interface LimitOptions {
  /** How many puts, and how many other operations, at once: a whole number from 1. */
  readonly max: number;
}

export function limit(store: Store, options: LimitOptions): Store {
  return new LimitStore(store, options);
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
