/**
 * Deadlines: every call to the store below ends, with `timeout`, even when that store never reacts.
 *
 * Short calls (opening a get, stat, delete, close, one page of a listing) have a deadline in all. Streams have one for
 * standing still: it runs only while the store is waited for, not while the caller reads or produces. Bytes that come at
 * less than a least rate are as good as none: a store that gives one a second would otherwise hold a read up for ever,
 * though another has the object. A store that has to
 * bring a whole object to its server, or from it, out of sight, says that it gets on (`OperationOptions.onAlive`), which
 * puts the deadline off. When one passes,
 * the call below is aborted through its signal, and the caller is told at once.
 */
import { HoldfastError, abortError, throwIfAborted } from "../contract/errors.ts";
import type { Operation } from "../contract/errors.ts";
import type { Runtime } from "../contract/runtime.ts";
import { linkSignals } from "../support/signals.ts";
import type { LinkedSignal } from "../support/signals.ts";
import type {
  Body,
  DeleteResult,
  GetOptions,
  GetResult,
  HashOperation,
  ListOptions,
  NamesOperation,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";
import { ForwardingStore, pulling, throughBody } from "./forward.ts";

export interface DeadlineOptions {
  readonly runtime: Runtime;
  /** For a short call, in milliseconds. Default 60,000. */
  readonly callMs?: number | undefined;
  /** For a stream that makes no progress, in milliseconds. Default 60,000. */
  readonly idleMs?: number | undefined;
  /**
   * Bytes a second that a store being read from must give, on average over `idleMs` of waiting for it. Default 1,024: no
   * link is slower.
   */
  readonly leastBytesPerSecond?: number | undefined;
  /**
   * How long a call that the caller has aborted may take to clean up before the caller is told regardless, in
   * milliseconds. Default 2,000.
   */
  readonly graceMs?: number | undefined;
}

export function deadline(store: Store, options: DeadlineOptions): Store {
  return new DeadlineStore(store, options);
}

/** A countdown that can be stopped while the caller has the floor. */
class Watch {
  readonly #runtime: Runtime;
  readonly #fire: (ms: number) => void;
  #cancel: (() => void) | undefined;

  constructor(runtime: Runtime, fire: (ms: number) => void) {
    this.#runtime = runtime;
    this.#fire = fire;
  }

  start(ms: number): void {
    this.stop();
    this.#cancel = this.#runtime.timer(ms, () => this.#fire(ms));
  }

  /** Begins anew, where it runs. */
  renew(ms: number): void {
    if (this.#cancel !== undefined) this.start(ms);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}

class DeadlineStore extends ForwardingStore {
  readonly #runtime: Runtime;
  readonly #callMs: number;
  readonly #idleMs: number;
  readonly #graceMs: number;
  readonly #leastPerMs: number;

  constructor(inner: Store, options: DeadlineOptions) {
    super(inner);
    this.#runtime = options.runtime;
    this.#callMs = options.callMs ?? 60_000;
    this.#idleMs = options.idleMs ?? 60_000;
    this.#graceMs = options.graceMs ?? 2000;
    this.#leastPerMs = (options.leastBytesPerSecond ?? 1024) / 1000;
  }

  override put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.#within("put", name, options.signal, undefined, (signal, watch) => {
      // The last flush or the joining of many parts may take longer than a chunk does.
      const finishMs = Math.max(this.#idleMs, this.#callMs);
      watch.start(finishMs);
      const watched = throughBody(body, (chunks) =>
        pulling(chunks, async (next) => {
          // The caller's source may take its time.
          watch.stop();
          const result = await next();
          watch.start(result.done ? finishMs : this.#idleMs);
          return result;
        }),
      );
      const onAlive = (): void => {
        watch.renew(finishMs);
        options.onAlive?.();
      };
      return this.inner.put(name, watched, { ...options, signal, onAlive });
    });
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const linked = linkSignals(options.signal);
    let result: GetResult;
    try {
      result = await this.#within(
        "get",
        name,
        linked.signal,
        (late) => late.close(),
        (signal, watch) => {
          watch.start(this.#callMs);
          // The stream outlives this call: it has the outer signal, which this call's deadline fires too.
          signal.addEventListener("abort", () => linked.abort(signal.reason), { once: true });
          const onAlive = (): void => {
            watch.renew(this.#callMs);
            options.onAlive?.();
          };
          return this.inner.get(name, { ...options, signal: linked.signal, onAlive });
        },
      );
    } catch (error) {
      linked.release();
      throw error;
    }
    const worthMs = (chunk: Uint8Array): number => chunk.byteLength / this.#leastPerMs;
    const body = this.#stream(result.body, linked, this.#idleMs, "get", name, worthMs);
    const close = async (): Promise<void> => {
      try {
        await this.#within("get", name, undefined, undefined, (_, watch) => {
          watch.start(this.#callMs);
          return result.close();
        });
      } finally {
        linked.release();
      }
    };
    return { ...result, body, close };
  }

  override stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#within("stat", name, options.signal, undefined, (signal, watch) => {
      watch.start(this.#callMs);
      return this.inner.stat(name, { ...options, signal });
    });
  }

  override list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    return this.#listing(options, (within) => this.inner.list(prefix, within));
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return (prefix, options = {}) => this.#listing(options, (within) => inner(prefix, within));
  }

  async *#listing<T>(options: ListOptions, open: (options: ListOptions) => AsyncIterable<T>): AsyncGenerator<T> {
    const linked = linkSignals(options.signal);
    try {
      const inner = open({ ...options, signal: linked.signal });
      yield* this.#stream(inner, linked, this.#callMs, "list", undefined);
    } finally {
      linked.release();
    }
  }

  protected override hashing(inner: HashOperation): HashOperation {
    return (name, options = {}) =>
      this.#within("get", name, options.signal, undefined, (signal, watch) => {
        watch.start(this.#callMs);
        const onAlive = (): void => {
          watch.renew(this.#callMs);
          options.onAlive?.();
        };
        return inner(name, { ...options, signal, onAlive });
      });
  }

  override delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#within("delete", name, options.signal, undefined, (signal, watch) => {
      watch.start(this.#callMs);
      return this.inner.delete(name, { ...options, signal });
    });
  }

  override sweep(options: OperationOptions = {}): Promise<void> {
    return this.#within("delete", undefined, options.signal, undefined, async (signal, watch) => {
      watch.start(this.#callMs);
      await this.inner.sweep?.({ ...options, signal });
    });
  }

  override close(): Promise<void> {
    return this.#within("close", undefined, undefined, undefined, (_, watch) => {
      watch.start(this.#callMs);
      return this.inner.close();
    });
  }

  /**
   * Passes a stream on; the countdown runs while its next piece is waited for. `worthMs`: how long a piece may have taken;
   * what took longer is missing from the time for the next. Default: any piece is worth all of the time.
   */
  #stream<T>(
    source: AsyncIterable<T>,
    linked: LinkedSignal,
    idleMs: number,
    operation: Operation,
    object: string | undefined,
    worthMs: (item: T) => number = () => Infinity,
  ): AsyncGenerator<T> {
    let behindMs = 0;
    const context = { store: this.label, operation, object };
    const { signal } = linked;
    let hanging = false;
    let fail: (error: HoldfastError) => void = () => undefined;
    const grace = new Watch(this.#runtime, () => fail(abortError(signal).within(context)));
    const watch = new Watch(this.#runtime, (ms) => {
      const slow = ms < idleMs ? "gave hardly anything" : "made no progress";
      const error = new HoldfastError("timeout", `the store ${slow} for ${idleMs} ms`, context);
      fail(error);
      linked.abort(error);
    });
    signal.addEventListener(
      "abort",
      () => {
        watch.stop();
        if (hanging) grace.start(this.#graceMs);
      },
      { once: true },
    );
    return pulling(
      source,
      (next) =>
        new Promise((resolve, reject) => {
          if (signal.aborted) {
            reject(abortError(signal).within(context));
            return;
          }
          const settle = (): void => {
            hanging = false;
            watch.stop();
            grace.stop();
          };
          hanging = true;
          fail = reject;
          const sinceMs = this.#runtime.monotonicMs();
          watch.start(Math.max(0, idleMs - behindMs));
          next().then(
            (result) => {
              settle();
              if (result.done !== true) {
                const waitedMs = this.#runtime.monotonicMs() - sinceMs;
                behindMs = Math.max(0, behindMs + waitedMs - worthMs(result.value));
              }
              // A caller's signal lives for long: each stream lets go of it at its end, closed or not.
              if (result.done === true) linked.release();
              resolve(result);
            },
            (error: unknown) => {
              settle();
              linked.release();
              reject(error instanceof HoldfastError ? error.within(context) : (error as Error));
            },
          );
        }),
      () => !hanging && !signal.aborted,
    );
  }

  /** Runs one call. `late` is given the result of a call that nobody waits for any more. */
  #within<T>(
    operation: Operation,
    object: string | undefined,
    outer: AbortSignal | undefined,
    late: ((result: T) => Promise<void>) | undefined,
    work: (signal: AbortSignal, watch: Watch) => Promise<T>,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const context = { store: this.label, operation, object };
      const linked = linkSignals(outer);
      let settled = false;
      // The store did not let go of it in time, and may yet carry it out.
      const grace = new Watch(this.#runtime, () => fail(abandoned(abortError(linked.signal)).within(context)));
      const watch = new Watch(this.#runtime, (ms) => {
        const error = new HoldfastError("timeout", `the store made no progress for ${ms} ms`, context);
        fail(error);
        linked.abort(error);
      });
      const end = (): void => {
        settled = true;
        watch.stop();
        grace.stop();
        outer?.removeEventListener("abort", onAbort);
        linked.release();
      };
      const fail = (error: HoldfastError): void => {
        if (settled) return;
        end();
        reject(error);
      };
      const onAbort = (): void => {
        watch.stop();
        grace.start(this.#graceMs);
      };
      outer?.addEventListener("abort", onAbort, { once: true });
      (async () => {
        throwIfAborted(linked.signal);
        return work(linked.signal, watch);
      })().then(
        (value) => {
          if (settled) {
            late?.(value).catch(() => undefined);
            return;
          }
          end();
          resolve(value);
        },
        (error: unknown) => {
          if (settled) return;
          end();
          reject(error instanceof HoldfastError ? error.within(context) : (error as Error));
        },
      );
    });
  }
}

/** The error of a call that was given up while the store was still at it. */
function abandoned({ code, message, cause }: HoldfastError): HoldfastError {
  return new HoldfastError(code, message, { cause, mayLand: true });
}
