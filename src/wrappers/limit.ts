/**
 * A limit on how many operations a store below has to work on at once; the others wait in order.
 *
 * A put holds its place from beginning to end. Everything else shares as many places again and holds one only while the
 * store works: a reader that pauses holds none. So operations may feed each other (a put whose source is a get from the
 * same store) without ever waiting for one another in a circle.
 */
import { abortError, throwIfAborted } from "../contract/errors.ts";
import type {
  Body,
  DeleteResult,
  GetOptions,
  GetResult,
  HashOperation,
  NamesOperation,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";
import { ForwardingStore, pulling } from "./forward.ts";

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

class LimitStore extends ForwardingStore {
  readonly #puts: Places;
  readonly #others: Places;

  constructor(inner: Store, options: LimitOptions) {
    super(inner);
    this.#puts = new Places(options.max);
    this.#others = new Places(options.max);
  }

  override put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.#puts.run(options.signal, () => this.inner.put(name, body, options));
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const result = await this.#others.run(options.signal, () => this.inner.get(name, options));
    return { ...result, body: pulling(result.body, (next) => this.#others.run(options.signal, next)) };
  }

  override stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#others.run(options.signal, () => this.inner.stat(name, options));
  }

  override list(prefix: string, options: OperationOptions = {}): AsyncIterable<ObjectInfo> {
    return pulling(this.inner.list(prefix, options), (next) => this.#others.run(options.signal, next));
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return (prefix, options = {}) => pulling(inner(prefix, options), (next) => this.#others.run(options.signal, next));
  }

  protected override hashing(inner: HashOperation): HashOperation {
    return (name, options = {}) => this.#others.run(options.signal, () => inner(name, options));
  }

  override delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#others.run(options.signal, () => this.inner.delete(name, options));
  }
}
