/**
 * Tries again what another attempt may mend: errors whose `retryable` is true, a bounded number of times, with pauses
 * that grow and are spread at random, and not before the store's own `Retry-After`.
 *
 * A put is repeated when its body can be opened again, or was not opened yet. A get goes on at the byte it reached,
 * provided that the object is still the same; a listing goes on behind its last name where listings are ordered, and
 * otherwise begins again only when it has given nothing yet.
 */
import { HoldfastError, abortError, isHoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Operation } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import { silentLogger } from "../contract/log.ts";
import { compareNames } from "../contract/names.ts";
import { resolveRange } from "../contract/ranges.ts";
import type { Runtime } from "../contract/runtime.ts";
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
import { ForwardingStore } from "./forward.ts";

export interface RetryOptions {
  readonly runtime: Runtime;
  /** How often an operation is tried in all. A stream that has got on by 64 KiB begins to count again. Default 4. */
  readonly attempts?: number | undefined;
  /** The first pause is chosen from 0 to this; each further one from twice as much. In milliseconds; default 250. */
  readonly baseMs?: number | undefined;
  /** No pause is longer, in milliseconds, whatever the store asks for. Default 30,000. */
  readonly maxPauseMs?: number | undefined;
  readonly logger?: Logger | undefined;
}

/** A stream must have got on by so much before its attempts are counted from the beginning. */
const PROGRESS_BYTES = 64 * 1024;

export function retry(store: Store, options: RetryOptions): Store {
  return new RetryStore(store, options);
}

class RetryStore extends ForwardingStore {
  readonly #runtime: Runtime;
  readonly #attempts: number;
  readonly #baseMs: number;
  readonly #maxPauseMs: number;
  readonly #logger: Logger;

  constructor(inner: Store, options: RetryOptions) {
    super(inner);
    this.#runtime = options.runtime;
    this.#attempts = options.attempts ?? 4;
    this.#baseMs = options.baseMs ?? 250;
    this.#maxPauseMs = options.maxPauseMs ?? 30_000;
    this.#logger = options.logger ?? silentLogger;
  }

  override async put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    let opened = false;
    const noticed: Body = {
      ...body,
      open: () => {
        opened = true;
        return body.open();
      },
    };
    let unsure: HoldfastError | undefined;
    let mayLand = false;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await this.inner.put(name, noticed, options);
        return mayLand ? { ...result, mayLand } : result;
      } catch (error) {
        if (unsure && options.ifAbsent && isHoldfastError(error, "conflict")) {
          // The object may be our own, from the attempt whose answer was lost: neither success nor conflict is certain.
          throw new HoldfastError(unsure.code, `${unsure.message}; whether the object was stored is unknown`, {
            store: unsure.store,
            operation: "put",
            object: name,
            cause: unsure,
            retryable: false,
          });
        }
        const failure = landing(toHoldfastError(error), mayLand);
        mayLand = failure.mayLand;
        if (opened && !body.reopenable) throw failure;
        await this.#pause(failure, attempt, "put", name, options);
        unsure = failure;
      }
    }
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    let current = await this.#again("get", name, options, () => this.inner.get(name, options));
    const { info } = current;
    const { start, end } = resolveRange(options.range, info.size);
    let closed = false;
    const chunks = async function* (this: RetryStore): AsyncGenerator<Uint8Array> {
      let at = start;
      let attempt = 1;
      let countedFrom = start;
      for (;;) {
        try {
          for await (const chunk of current.body) {
            at += chunk.length;
            if (at > end) {
              throw new HoldfastError("corrupt", `the store gave more than the ${end - start} bytes asked for`);
            }
            yield chunk;
          }
          if (at === end) return;
          throw new HoldfastError("unavailable", `the store ended the object at byte ${at} of ${end}`);
        } catch (error) {
          await current.close().catch(() => undefined);
          const failure = toHoldfastError(error).within({ store: this.label, operation: "get", object: name });
          if (closed) throw failure;
          if (at - countedFrom >= PROGRESS_BYTES) {
            countedFrom = at;
            attempt = 1;
          }
          await this.#pause(failure, attempt++, "get", name, options);
          for (;;) {
            try {
              const next = await this.inner.get(name, { ...options, range: { offset: at, length: end - at } });
              if (sameVersion(next.info, info)) {
                current = next;
                break;
              }
              await next.close();
              throw new HoldfastError("conflict", "the object was replaced while it was read", { cause: failure });
            } catch (reopened) {
              const failure = toHoldfastError(reopened).within({ store: this.label, operation: "get", object: name });
              await this.#pause(failure, attempt++, "get", name, options);
            }
          }
        }
      }
    };
    return {
      ...current,
      body: chunks.call(this),
      close: () => {
        closed = true;
        return current.close();
      },
    };
  }

  override stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#again("stat", name, options, () => this.inner.stat(name, options));
  }

  override list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    return this.#listing(
      options,
      () => this.inner.list(prefix, options),
      (info) => info.name,
      (info, last) => (compareNames(info.name, last) > 0 ? info : undefined),
    );
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return (prefix, options = {}) =>
      this.#listing(
        options,
        () => inner(prefix, options),
        (names) => names.at(-1),
        (names, last) => {
          const from = names.findIndex((name) => compareNames(name, last) > 0);
          return from === 0 ? names : from > 0 ? names.slice(from) : undefined;
        },
      );
  }

  /** `endOf` gives the last name of what came; `behind` what of it stands behind a name, if anything does. */
  async *#listing<T>(
    options: ListOptions,
    open: () => AsyncIterable<T>,
    endOf: (item: T) => string | undefined,
    behind: (item: T, last: string) => T | undefined,
  ): AsyncGenerator<T> {
    const isOrdered = this.inner.capabilities.orderedList;
    let last: string | undefined;
    let attempt = 1;
    for (;;) {
      try {
        for await (const item of open()) {
          // One in no order is begun anew only while nothing has come.
          const fresh = last === undefined || !isOrdered ? item : behind(item, last);
          if (fresh === undefined) continue;
          yield fresh;
          if (isOrdered) attempt = 1;
          last = endOf(fresh);
        }
        return;
      } catch (error) {
        const failure = toHoldfastError(error);
        if (last !== undefined && !isOrdered) throw failure;
        await this.#pause(failure, attempt++, "list", undefined, options);
      }
    }
  }

  protected override hashing(inner: HashOperation): HashOperation {
    return (name, options = {}) => this.#again("get", name, options, () => inner(name, options));
  }

  override async delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    let attempts = 0;
    let mayLand = false;
    const result = await this.#again("delete", name, options, async () => {
      attempts++;
      try {
        return await this.inner.delete(name, options);
      } catch (error) {
        const failure = landing(toHoldfastError(error), mayLand);
        mayLand = failure.mayLand;
        throw failure;
      }
    });
    const owed = result.owed === undefined ? {} : { owed: result.owed };
    const landed = mayLand ? { mayLand } : {};
    if (attempts === 1 || result.existed !== false) return { ...result, ...landed };
    // An attempt whose answer was lost may have been the one that deleted it.
    return { ...owed, ...landed };
  }

  async #again<T>(operation: Operation, object: string, options: OperationOptions, work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        await this.#pause(toHoldfastError(error), attempt, operation, object, options);
      }
    }
  }

  /** Waits before the next attempt, or throws the failure when there is none. */
  async #pause(
    failure: HoldfastError,
    attempt: number,
    operation: Operation,
    object: string | undefined,
    options: OperationOptions,
  ): Promise<void> {
    if (!failure.retryable || attempt >= this.#attempts) throw failure;
    if (options.signal?.aborted) throw abortError(options.signal).within({ store: this.label, operation, object });
    const spread = this.#runtime.random() * this.#baseMs * 2 ** (attempt - 1);
    const pauseMs = Math.min(this.#maxPauseMs, Math.max(spread, failure.retryAfterMs ?? 0));
    this.#logger.info("retry", { store: this.label, operation, object, attempt, pauseMs, reason: failure.message });
    try {
      await this.#runtime.sleep(pauseMs, options.signal);
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation, object });
    }
  }
}

/** The failure of an attempt, which says so where an earlier attempt may still take effect. */
function landing(failure: HoldfastError, before: boolean): HoldfastError {
  if (!before || failure.mayLand) return failure;
  const { store, operation, object, retryable, retryAfterMs, errors } = failure;
  return new HoldfastError(failure.code, failure.message, {
    store,
    operation,
    object,
    retryable,
    retryAfterMs,
    errors,
    mayLand: true,
    cause: failure,
  });
}

/** Whether both could be of the same version, by all that both tell. */
function sameVersion(a: ObjectInfo, b: ObjectInfo): boolean {
  if (a.size !== b.size) return false;
  if (a.modifiedMs !== undefined && b.modifiedMs !== undefined && a.modifiedMs !== b.modifiedMs) return false;
  for (const [algorithm, value] of Object.entries(a.digests ?? {})) {
    const other = b.digests?.[algorithm as keyof typeof b.digests];
    if (other !== undefined && other !== value) return false;
  }
  return true;
}
