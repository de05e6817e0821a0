/**
 * Faults on purpose: a store that fails, hangs and lies as it is told to, the same way each time.
 *
 * ```ts
 * const faults = new Faults({ seed: 7 });
 * faults.script({ operation: "put", nth: 3, fault: { kind: "fail-after", code: "unavailable" } });
 * faults.chance({ operation: "get", probability: 0.1, faults: [{ kind: "flip", byte: 0 }] });
 * const store = faulty(new MemoryStore(), faults);
 * ```
 */
import { collect } from "../contract/body.ts";
import { HoldfastError, abortError, throwIfAborted } from "../contract/errors.ts";
import type { ErrorCode, Operation } from "../contract/errors.ts";
import { nameBatches } from "../support/name-batches.ts";
import { compareNames } from "../contract/names.ts";
import { resolveRange } from "../contract/ranges.ts";
import { systemRuntime } from "../contract/runtime.ts";
import type { Runtime } from "../contract/runtime.ts";
import type {
  Body,
  DeleteResult,
  GetOptions,
  GetResult,
  ListOptions,
  NamesOperation,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";
import { ForwardingStore, throughBody } from "./forward.ts";

/** What can be made to go wrong. `code` is `unavailable` where it is left out. */
export type Fault =
  /** Rejects before anything has happened. */
  | {
      readonly kind: "fail";
      readonly code?: ErrorCode;
      readonly retryAfterMs?: number;
    }
  /** Fails in mid-stream: when `byte` bytes of a put or a get, or `byte` entries of a listing, have passed. */
  | { readonly kind: "fail-at"; readonly byte: number; readonly code?: ErrorCode }
  /** Does the work and then rejects: the answer was lost. A get fails at its end. */
  | { readonly kind: "fail-after"; readonly code?: ErrorCode }
  /** Never settles, until the signal fires. */
  | { readonly kind: "hang" }
  /** Stands still when so many bytes (entries) have passed, until the signal fires. */
  | { readonly kind: "hang-at"; readonly byte: number }
  /** Waits first, in milliseconds. */
  | { readonly kind: "delay"; readonly ms: number }
  /** A lie: a put stores only so many bytes and says all is well; a get gives so many and ends. */
  | { readonly kind: "truncate"; readonly byte: number }
  /** A lie: one bit of the byte at this offset (counted from the object's end where negative) is another. */
  | { readonly kind: "flip"; readonly byte: number; readonly bit?: number }
  /** A lie: get and stat say that the object does not exist; a delete says so and does nothing. */
  | { readonly kind: "not-found" }
  /** A lie: get and stat answer with the object as it was before its last change (see `FaultsOptions.remember`). */
  | { readonly kind: "stale-read" }
  /** A lie: a listing is as it was before the last `changes` changes (default 1; see `FaultsOptions.remember`). */
  | { readonly kind: "stale-list"; readonly changes?: number }
  /** A lie: a put or a delete does nothing and says that it did. */
  | { readonly kind: "lost" };

interface Where {
  /** Default: every operation. */
  readonly operation?: Operation | undefined;
  /** Name of the object, or of the prefix of a listing. Default: all. */
  readonly name?: string | RegExp | undefined;
}

export interface ScriptedFault extends Where {
  /** From which of the matching operations on, counted from 1. Default 1. */
  readonly nth?: number | undefined;
  /** How many matching operations in a row. Default 1; Infinity for a store that stays broken. */
  readonly times?: number | undefined;
  readonly fault: Fault;
}

export interface ChanceOfFault extends Where {
  /** From 0 to 1. */
  readonly probability: number;
  /** One of these is chosen. */
  readonly faults: readonly Fault[];
}

export interface InjectedFault {
  readonly operation: Operation;
  readonly name: string;
  readonly fault: Fault;
}

export interface FaultsOptions {
  /** Of the random choices. Default 1. */
  readonly seed?: number | undefined;
  /** For delays. Default the system's. */
  readonly runtime?: Runtime | undefined;
  /** Keep what is overwritten and deleted, for stale reads and listings. Default false. */
  readonly remember?: boolean | undefined;
}

/** A pseudo-random generator, the same for the same seed: numbers from 0 (inclusive) to 1 (exclusive). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What is to go wrong, and what has. One may serve several stores. */
export class Faults {
  readonly runtime: Runtime;
  readonly remember: boolean;
  /** Every fault that was injected, in order. */
  readonly injected: InjectedFault[] = [];
  readonly #random: () => number;
  #scripted: { readonly rule: ScriptedFault; seen: number }[] = [];
  #chances: ChanceOfFault[] = [];

  constructor(options: FaultsOptions = {}) {
    this.#random = seededRandom(options.seed ?? 1);
    this.runtime = options.runtime ?? systemRuntime;
    this.remember = options.remember ?? false;
  }

  /** Adds a fault for certain operations. Several may meet one operation; then all happen. Returns itself. */
  script(rule: ScriptedFault): this {
    this.#scripted.push({ rule, seen: 0 });
    return this;
  }

  /** Adds faults that happen now and then. Returns itself. */
  chance(rule: ChanceOfFault): this {
    this.#chances.push(rule);
    return this;
  }

  /** From now on nothing goes wrong, until something is added. What was injected stays recorded. */
  clear(): void {
    this.#scripted = [];
    this.#chances = [];
  }

  /** The faults of one operation. Called once for each. */
  draw(operation: Operation, name: string): readonly Fault[] {
    const drawn: Fault[] = [];
    for (const one of this.#scripted) {
      const { nth = 1, times = 1 } = one.rule;
      if (!matches(one.rule, operation, name)) continue;
      one.seen++;
      if (one.seen >= nth && one.seen < nth + times) drawn.push(one.rule.fault);
    }
    for (const rule of this.#chances) {
      if (!matches(rule, operation, name) || this.#random() >= rule.probability) continue;
      const fault = rule.faults[Math.floor(this.#random() * rule.faults.length)];
      if (fault) drawn.push(fault);
    }
    for (const fault of drawn) this.injected.push({ operation, name, fault });
    return drawn;
  }
}

function matches(where: Where, operation: Operation, name: string): boolean {
  if (where.operation !== undefined && where.operation !== operation) return false;
  if (where.name === undefined) return true;
  return typeof where.name === "string" ? where.name === name : where.name.test(name);
}

/** The store, with these faults. Without any it is the store as it is. */
export function faulty(store: Store, faults: Faults): Store {
  return new FaultyStore(store, faults);
}

/** How many changes are remembered. */
const MAX_CHANGES = 64;
/** Few, so that the ends of batches are met often. */
const NAMES_BATCH = 3;

interface Change {
  readonly name: string;
  readonly before: { readonly info: ObjectInfo; readonly bytes: Uint8Array } | undefined;
}

class FaultyStore extends ForwardingStore {
  readonly #faults: Faults;
  readonly #changes: Change[] = [];

  constructor(inner: Store, faults: Faults) {
    super(inner);
    this.#faults = faults;
  }

  override async put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    const faults = await this.#before("put", name, options);
    if (faults.some((fault) => fault.kind === "lost")) {
      let size = 0;
      for await (const chunk of body.open()) size += chunk.length;
      return { size };
    }
    const change = await this.#remember(name);
    let passed = 0;
    let stored: Body = throughBody(body, (chunks) =>
      this.#stream(chunks, faults, "put", name, options, (bytes) => {
        passed += bytes;
      }),
    );
    const cut = faults.find((fault) => fault.kind === "truncate");
    if (cut) {
      const whole = stored;
      stored = { ...whole, size: undefined, open: () => truncated(whole.open(), cut.byte) };
    }
    const result = await this.inner.put(name, stored, options);
    if (change) this.#changed(change);
    this.#after(faults, "put", name);
    return cut ? { ...result, size: passed } : result;
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const faults = await this.#before("get", name, options);
    if (faults.some((fault) => fault.kind === "not-found")) throw this.#notFound("get", name);
    if (faults.some((fault) => fault.kind === "stale-read")) {
      const stale = this.#changes.findLast((change) => change.name === name);
      if (stale) {
        const { before } = stale;
        if (!before) throw this.#notFound("get", name);
        const { start, end } = resolveRange(options.range, before.bytes.length);
        const body = (async function* () {
          if (end > start) yield before.bytes.slice(start, end);
        })();
        return { info: before.info, body, close: async () => undefined };
      }
    }
    const result = await this.inner.get(name, options);
    const { start } = resolveRange(options.range, result.info.size);
    let body = this.#stream(result.body, faults, "get", name, options, undefined, start, result.info.size);
    const cut = faults.find((fault) => fault.kind === "truncate");
    if (cut) body = truncated(body, cut.byte);
    return { ...result, body };
  }

  override async stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    const faults = await this.#before("stat", name, options);
    if (faults.some((fault) => fault.kind === "not-found")) throw this.#notFound("stat", name);
    if (faults.some((fault) => fault.kind === "stale-read")) {
      const stale = this.#changes.findLast((change) => change.name === name);
      if (stale && !stale.before) throw this.#notFound("stat", name);
      if (stale?.before) return stale.before.info;
    }
    const info = await this.inner.stat(name, options);
    this.#after(faults, "stat", name);
    return info;
  }

  override async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const faults = await this.#before("list", prefix, options);
    const stale = faults.find((fault) => fault.kind === "stale-list");
    const source = stale ? this.#staleList(prefix, options, stale.changes ?? 1) : this.inner.list(prefix, options);
    let given = 0;
    const check = async (): Promise<void> => {
      for (const fault of faults) {
        if (fault.kind === "fail-at" && given >= fault.byte) throw this.#error(fault.code, "list", prefix);
        if (fault.kind === "hang-at" && given >= fault.byte) await hang(options.signal);
      }
    };
    await check();
    for await (const info of source) {
      yield info;
      given++;
      await check();
    }
    this.#after(faults, "list", prefix);
  }

  /** The same faults strike. */
  protected override naming(): NamesOperation {
    return (prefix, options) => nameBatches(this.list(prefix, options), NAMES_BATCH);
  }

  override async delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    const faults = await this.#before("delete", name, options);
    if (faults.some((fault) => fault.kind === "not-found")) return { existed: false };
    if (faults.some((fault) => fault.kind === "lost")) return { existed: true };
    const change = await this.#remember(name);
    const result = await this.inner.delete(name, options);
    if (change) this.#changed(change);
    this.#after(faults, "delete", name);
    return result;
  }

  /** Draws, and does what comes first: waiting, hanging, failing. */
  async #before(operation: Operation, name: string, options: OperationOptions): Promise<readonly Fault[]> {
    const faults = this.#faults.draw(operation, name);
    for (const fault of faults) {
      throwIfAborted(options.signal);
      if (fault.kind === "delay") await this.#faults.runtime.sleep(fault.ms, options.signal);
      if (fault.kind === "hang") await hang(options.signal);
      if (fault.kind === "fail") throw this.#error(fault.code, operation, name, fault.retryAfterMs);
    }
    return faults;
  }

  #after(faults: readonly Fault[], operation: Operation, name: string): void {
    for (const fault of faults) {
      if (fault.kind === "fail-after") throw this.#error(fault.code, operation, name);
    }
  }

  /** Bytes with what happens to them on the way. `offset` and `size` say where in the object they stand. */
  async *#stream(
    source: AsyncIterable<Uint8Array>,
    faults: readonly Fault[],
    operation: "put" | "get",
    name: string,
    options: OperationOptions,
    onBytes?: (bytes: number) => void,
    offset = 0,
    size?: number,
  ): AsyncGenerator<Uint8Array> {
    const stops = faults.filter((fault) => fault.kind === "fail-at" || fault.kind === "hang-at");
    const flips = faults.filter((fault) => fault.kind === "flip");
    let passed = 0;
    const stop = async (): Promise<void> => {
      for (const fault of stops) {
        if (passed < fault.byte) continue;
        if (fault.kind === "hang-at") await hang(options.signal);
        else throw this.#error(fault.code, operation, name);
      }
    };
    await stop();
    for await (const chunk of source) {
      let rest = chunk;
      onBytes?.(chunk.length);
      while (rest.length > 0) {
        // Cut where something stops, so that it is at that byte exactly.
        const next = Math.min(rest.length, ...stops.map((fault) => fault.byte - passed).filter((bytes) => bytes > 0));
        let piece = rest.subarray(0, next);
        rest = rest.subarray(next);
        for (const fault of flips) {
          const at = (fault.byte < 0 ? (size ?? 0) + fault.byte : fault.byte) - offset - passed;
          if (at >= 0 && at < piece.length) {
            piece = piece.slice();
            piece[at] = (piece[at] ?? 0) ^ (1 << (fault.bit ?? 0));
          }
        }
        passed += piece.length;
        yield piece;
        await stop();
      }
    }
    if (operation === "get") this.#after(faults, operation, name);
  }

  async *#staleList(prefix: string, options: OperationOptions, changes: number): AsyncGenerator<ObjectInfo> {
    const listed = new Map<string, ObjectInfo>();
    for await (const info of this.inner.list(prefix, options)) listed.set(info.name, info);
    for (const change of this.#changes.slice(-changes).toReversed()) {
      if (!change.name.startsWith(prefix)) continue;
      if (change.before) listed.set(change.name, change.before.info);
      else listed.delete(change.name);
    }
    yield* [...listed.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  async #remember(name: string): Promise<Change | undefined> {
    if (!this.#faults.remember) return undefined;
    try {
      const { info, body } = await this.inner.get(name);
      return { name, before: { info, bytes: await collect(body) } };
    } catch (error) {
      if (error instanceof HoldfastError && error.code === "not-found") return { name, before: undefined };
      throw error;
    }
  }

  #changed(change: Change): void {
    this.#changes.push(change);
    if (this.#changes.length > MAX_CHANGES) this.#changes.shift();
  }

  #error(code: ErrorCode | undefined, operation: Operation, object: string, retryAfterMs?: number): HoldfastError {
    return new HoldfastError(code ?? "unavailable", "a fault that was injected", {
      store: this.label,
      operation,
      object: operation === "list" ? undefined : object,
      retryAfterMs,
    });
  }

  #notFound(operation: Operation, object: string): HoldfastError {
    return new HoldfastError("not-found", "there is no such object", { store: this.label, operation, object });
  }
}

async function* truncated(source: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array> {
  let passed = 0;
  // Read to its end all the same: who lies has heard everything.
  for await (const chunk of source) {
    const left = bytes - passed;
    passed += chunk.length;
    if (left > 0) yield chunk.length <= left ? chunk : chunk.subarray(0, left);
  }
}

function hang(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(abortError(signal));
    signal?.addEventListener("abort", () => reject(abortError(signal)), { once: true });
  });
}
