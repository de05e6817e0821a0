/** Stores of a simulation: what is durable on them (`Disk`), and how one process reaches it (`SimStore`). */
import { checkedBytes } from "../../src/contract/body.ts";
import { HoldfastError, toHoldfastError } from "../../src/contract/errors.ts";
import type { ErrorCode, Operation } from "../../src/contract/errors.ts";
import { nameBatches } from "../../src/support/name-batches.ts";
import { compareNames, isReserved } from "../../src/contract/names.ts";
import { resolveRange } from "../../src/contract/ranges.ts";
import type {
  Body,
  Capabilities,
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
} from "../../src/contract/store.ts";
import { MemoryStore } from "../../src/stores/memory.ts";
import type { Owner, World } from "./world.ts";

/** What stores can do that are simulated: all that one in memory can. */
export const { capabilities: simulatedCapabilities } = new MemoryStore();

/** When a fault strikes a call. `hang…`: nothing is heard until the deadline. */
export type FaultKind = "before" | "middle" | "after" | "hang-before" | "hang-after" | "slow" | "full" | "denied";

/** A fault that waits for its call. */
export interface Fault {
  readonly kind: FaultKind;
  readonly operation: Operation | "any";
  readonly on: "ledger" | "data" | "any";
  /** Matching calls that go by before. */
  skip: number;
  /** Calls that it strikes. */
  times: number;
}

/** How long a store that hangs is waited for, in virtual milliseconds; stands for the deadline wrapper of a real pool. */
export const DEADLINE_MS = 5000;
/** A change of an object that a store carries out slowly takes less than this many deadlines. */
const SLOW_CHANGE_DEADLINES = 4;

/**
 * What went wrong so far, and what still hangs. An operation during which neither changed had no excuse to fail. Hanging is
 * counted in deadlines.
 */
export class Trouble {
  /** Faults that struck, and stores that went down or came back. */
  count = 0;
  /** When the last of them did, in the world's milliseconds. */
  atMs = -Infinity;
  /** Calls that take long. */
  hangs = 0;
  hanging = 0;
  /** When the last call that hung came back, in the world's milliseconds: what asked it may still count it as silent. */
  hungUntilMs = -Infinity;
}

export class Disk {
  readonly label: string;
  objects = new Map<string, Buffer>();
  /** What it holds really, while something empty stands in its place. */
  #mounted: Map<string, Buffer> | undefined;
  /** What stood in its place at first. */
  #standIn: ReadonlyMap<string, Buffer> = new Map();
  /** What it was at an earlier moment. */
  image: ReadonlyMap<string, Buffer> | undefined;
  down = false;
  full = false;
  /** It lost everything, and nobody has said yet that it is to be filled again. */
  isWiped = false;
  /** Since it was wiped, somebody said so. */
  mayBeFilled = false;
  faults: Fault[] = [];
  readonly trouble = new Trouble();
  /** Requests that nobody waits for any more, and that have yet to take effect. */
  readonly landing = new Set<() => void>();
  /** Changes of any kind that took effect. */
  writes = 0;
  /** Told of each change when it takes effect. */
  onWrite: ((name: string) => void) | undefined;

  /** Names in order, by prefix, as far as they were asked for since they changed. */
  readonly #sorted = new Map<string, readonly string[]>();

  constructor(label: string) {
    this.label = label;
  }

  /** Names with the prefix, in order. They are all ASCII. */
  names(prefix: string): readonly string[] {
    let names = this.#sorted.get(prefix);
    if (names === undefined) {
      names =
        prefix === "" ? [...this.objects.keys()].sort() : this.names("").filter((name) => name.startsWith(prefix));
      this.#sorted.set(prefix, names);
    }
    return names;
  }

  /** Something else stands in its place: nothing, unless said otherwise. */
  unmount(standIn: ReadonlyMap<string, Buffer> = new Map()): void {
    if (this.#mounted !== undefined) return;
    this.#mounted = this.objects;
    this.#standIn = new Map(standIn);
    this.objects = new Map(standIn);
    this.forget();
  }

  /** What is on the disk itself, wherever it is. */
  get own(): ReadonlyMap<string, Buffer> {
    return this.#mounted ?? this.objects;
  }

  /** What is on each of two is on the other from now on. */
  swap(other: Disk): void {
    [this.objects, other.objects] = [other.objects, this.objects];
    [this.image, other.image] = [other.image, this.image];
    this.forget();
    other.forget();
  }

  /** Loses everything for good: another disk stands in its place, empty. */
  wipe(): void {
    this.objects = new Map();
    this.image = undefined;
    this.forget();
    this.isWiped = true;
    this.mayBeFilled = false;
  }

  /** It is a store of the pool again once it has its identity. */
  noteFilled(identity: string): void {
    if (this.objects.has(identity)) this.isWiped = false;
  }

  /** Whether it is unmounted now. */
  get isUnmounted(): boolean {
    return this.#mounted !== undefined;
  }

  /** Gives the names that were written in its place meanwhile. */
  mount(): readonly string[] {
    if (this.#mounted === undefined) return [];
    const written = [...this.objects]
      .filter(([name, bytes]) => this.#standIn.get(name) !== bytes)
      .map(([name]) => name);
    this.objects = this.#mounted;
    this.#mounted = undefined;
    this.forget();
    return written;
  }

  /** Something happens to it: what runs meanwhile has an excuse to fail. */
  struck(overall: Trouble, nowMs: number): void {
    for (const trouble of [overall, this.trouble]) {
      trouble.count++;
      trouble.atMs = nowMs;
    }
  }

  /** Drops what is kept of the names; for whoever changes `objects` itself. */
  forget(): void {
    this.#sorted.clear();
  }

  set(name: string, bytes: Buffer): void {
    if (!this.objects.has(name)) this.forget();
    this.objects.set(name, bytes);
    this.writes++;
    this.onWrite?.(name);
  }

  delete(name: string): boolean {
    const existed = this.objects.delete(name);
    // Deleting what is not there changes nothing.
    if (existed) {
      this.writes++;
      this.forget();
    }
    if (existed) this.onWrite?.(name);
    return existed;
  }
}

/** A store's own work goes on when the process that asked for it dies. */
const SERVER: Owner = { dead: false };

/** Few, so that the ends of batches are met often. */
const NAMES_BATCH = 3;

export interface SimStoreOptions {
  readonly world: World;
  readonly disk: Disk;
  readonly owner: Owner;
  readonly trouble: Trouble;
  /** How often a call of a step parks: from 0 (only where it must) to 1. */
  readonly parking: number;
  /** Whether it gives names by themselves. */
  readonly listNames: boolean;
  /** How often a change whose answer never comes takes effect only after nobody waits for it any more. */
  readonly lands: number;
}

export class SimStore implements Store {
  readonly label: string;
  readonly capabilities: Capabilities = simulatedCapabilities;
  readonly #world: World;
  readonly #disk: Disk;
  readonly #owner: Owner;
  readonly #trouble: Trouble;
  readonly #parking: number;
  readonly #lands: number;
  readonly listNames: NamesOperation | undefined;

  constructor(options: SimStoreOptions) {
    this.listNames = options.listNames
      ? (prefix, within) => nameBatches(this.list(prefix, within), NAMES_BATCH)
      : undefined;
    this.label = options.disk.label;
    this.#world = options.world;
    this.#disk = options.disk;
    this.#owner = options.owner;
    this.#trouble = options.trouble;
    this.#parking = options.parking;
    this.#lands = options.lands;
  }

  async put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    this.#owner.changes = (this.#owner.changes ?? 0) + 1;
    const fault = this.#goesOn ? undefined : await this.#arrive("put", name, options.signal);
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of checkedBytes(body, options.signal)) {
        chunks.push(chunk);
        if (!this.#world.calm && this.#world.random.chance(this.#parking))
          await this.#world.park(this.#owner, options.signal);
        if (this.#disk.down) throw this.#error("unavailable", "put", name);
      }
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "put", object: name });
    }
    // A copy always: the chunks are the caller's.
    const bytes = Buffer.concat(chunks);
    const apply = (): void => {
      if (this.#disk.down) throw this.#error("unavailable", "put", name);
      if (this.#disk.full) throw this.#error("full", "put", name);
      if (options.ifAbsent === true && this.#disk.objects.has(name)) throw this.#error("conflict", "put", name);
      this.#disk.set(name, bytes);
    };
    if (this.#goesOn) apply();
    else await this.#effect("put", name, options.signal, fault, apply);
    return { size: bytes.length };
  }

  async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const fault = this.#goesOn ? undefined : await this.#arrive("get", name, options.signal);
    if (fault !== undefined && fault !== "slow") await this.#strike(fault, "get", name, options.signal);
    const bytes = this.#disk.objects.get(name);
    if (bytes === undefined) throw this.#error("not-found", "get", name);
    const { start, end } = resolveRange(options.range, bytes.length);
    // Copies: chunks belong to the consumer.
    if (fault === undefined && (this.#world.calm || isReserved(name))) {
      const body = new Given([Buffer.from(bytes.subarray(start, end))]);
      return { info: this.#info(name, bytes), body, close: nothing };
    }
    const chunks = async function* (this: SimStore): AsyncGenerator<Uint8Array> {
      let at = start;
      while (at < end) {
        const length = isReserved(name) ? end - at : 1 + this.#world.random.below(12);
        const stop = Math.min(end, at + length);
        yield Buffer.from(bytes.subarray(at, stop));
        at = stop;
        if (at < end || fault === "middle") {
          if (this.#world.random.chance(this.#parking)) await this.#world.park(this.#owner, options.signal);
          if (this.#disk.down || fault === "middle") {
            this.#disk.struck(this.#trouble, this.#world.nowMs);
            throw this.#error("unavailable", "get", name);
          }
        }
      }
    };
    return { info: this.#info(name, bytes), body: chunks.call(this), close: nothing };
  }

  async stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    const fault = this.#goesOn ? undefined : await this.#arrive("stat", name, options.signal);
    if (fault !== undefined) await this.#strike(fault, "stat", name, options.signal);
    const bytes = this.#disk.objects.get(name);
    if (bytes === undefined) throw this.#error("not-found", "stat", name);
    return this.#info(name, bytes);
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    if (!this.#goesOn) return this.#list(prefix, options);
    const infos: ObjectInfo[] = [];
    for (const name of this.#disk.names(prefix)) {
      const bytes = this.#disk.objects.get(name);
      if (bytes !== undefined) infos.push(this.#info(name, bytes));
    }
    return new Given(infos);
  }

  async *#list(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const fault = await this.#arrive("list", prefix, options.signal);
    if (fault !== undefined && fault !== "middle") await this.#strike(fault, "list", prefix, options.signal);
    let last: string | undefined;
    let names = this.#disk.names(prefix);
    for (let place = 0; place < names.length; place++) {
      const name = names[place] ?? "";
      const bytes = this.#disk.objects.get(name);
      if (bytes !== undefined) yield this.#info(name, bytes);
      last = name;
      if (fault === "middle") {
        this.#disk.struck(this.#trouble, this.#world.nowMs);
        throw this.#error("unavailable", "list", prefix);
      }
      if (this.#world.random.chance(this.#parking / 4)) {
        await this.#world.park(this.#owner, options.signal);
        if (this.#disk.down) throw this.#error("unavailable", "list", prefix);
        // What changed meanwhile behind this name is seen.
        const behind = last;
        names = this.#disk.names(prefix).filter((other) => compareNames(other, behind) > 0);
        place = -1;
      }
    }
  }

  async delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    this.#owner.changes = (this.#owner.changes ?? 0) + 1;
    if (this.#goesOn) return { existed: this.#disk.delete(name) };
    const fault = await this.#arrive("delete", name, options.signal);
    let existed = false;
    await this.#effect("delete", name, options.signal, fault, () => {
      if (this.#disk.down) throw this.#error("unavailable", "delete", name);
      existed = this.#disk.delete(name);
    });
    return { existed };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #info(name: string, bytes: Buffer): ObjectInfo {
    return { name, size: bytes.length, modifiedMs: 1 };
  }

  #error(code: ErrorCode, operation: Operation, object: string): HoldfastError {
    return new HoldfastError(code, `simulated: ${code}`, { store: this.label, operation, object });
  }

  /** Nothing can come between a call and its answer: it is given at once. */
  get #goesOn(): boolean {
    const disk = this.#disk;
    return !disk.down && !disk.full && disk.faults.length === 0 && this.#world.passes(this.#owner);
  }

  /** The call reaches the store. Gives the fault that is to strike it. */
  async #arrive(operation: Operation, name: string, signal: AbortSignal | undefined): Promise<FaultKind | undefined> {
    await this.#world.park(this.#owner, signal);
    const fault = this.#takeFault(operation, name);
    if (fault === "slow") await this.#hang(this.#world.random.below(this.#slowestMs(operation, name)), signal);
    if (this.#disk.down) throw this.#error("unavailable", operation, name);
    if (fault === "before" || fault === "denied" || fault === "hang-before") {
      await this.#strike(fault, operation, name, signal);
    }
    return fault;
  }

  #takeFault(operation: Operation, name: string): FaultKind | undefined {
    const { faults } = this.#disk;
    if (faults.length === 0) return undefined;
    const on = isReserved(name) ? "ledger" : "data";
    for (const fault of faults) {
      if (fault.operation !== "any" && fault.operation !== operation) continue;
      if (fault.on !== "any" && fault.on !== on) continue;
      if (fault.skip > 0) {
        fault.skip--;
        continue;
      }
      if (--fault.times <= 0) this.#disk.faults = faults.filter((other) => other !== fault);
      return fault.kind;
    }
    return undefined;
  }

  /** A change of an object may take far longer than a late request may: bytes keep flowing, so no deadline ends it. */
  #slowestMs(operation: Operation, name: string): number {
    const isLong = (operation === "put" || operation === "delete") && !isReserved(name);
    return isLong ? DEADLINE_MS * SLOW_CHANGE_DEADLINES : DEADLINE_MS;
  }

  /** Nothing is heard of the call for so long, and the process may die meanwhile. */
  async #hang(ms: number, signal: AbortSignal | undefined): Promise<void> {
    this.#disk.struck(this.#trouble, this.#world.nowMs);
    const troubles = [this.#trouble, this.#disk.trouble];
    const deadlines = Math.max(1, Math.ceil(ms / DEADLINE_MS));
    for (const trouble of troubles) {
      trouble.hangs += deadlines;
      trouble.hanging += deadlines;
    }
    const end = (): void => {
      for (const trouble of troubles) {
        trouble.hanging -= deadlines;
        trouble.hungUntilMs = this.#world.nowMs;
      }
    };
    try {
      await this.#world.pass(this.#owner, ms, signal, end);
    } finally {
      end();
    }
  }

  async #strike(fault: FaultKind, operation: Operation, name: string, signal: AbortSignal | undefined): Promise<void> {
    if (fault === "slow") return;
    if (fault === "hang-before" || fault === "hang-after") {
      await this.#hang(DEADLINE_MS, signal);
      throw this.#error("timeout", operation, name);
    }
    this.#disk.struck(this.#trouble, this.#world.nowMs);
    if (fault === "full" && operation !== "put") return;
    throw this.#error(fault === "full" || fault === "denied" ? fault : "unavailable", operation, name);
  }

  /** The change takes effect some time after the deadline, whatever has become of the process that asked for it. */
  #landLater(apply: () => void): void {
    const land = (): void => {
      cancel();
      if (!this.#disk.landing.delete(land)) return;
      try {
        apply();
      } catch {
        // The store refused it, and nobody is there to be told.
      }
    };
    this.#disk.landing.add(land);
    const cancel = this.#world.timer(SERVER, DEADLINE_MS + this.#world.random.below(DEADLINE_MS - 1000), land);
  }

  /** The change takes effect, and is acknowledged. What a process that dies had under way may take effect or not. */
  async #effect(
    operation: Operation,
    name: string,
    signal: AbortSignal | undefined,
    fault: FaultKind | undefined,
    apply: () => void,
  ): Promise<void> {
    if (fault === "middle" || fault === "full") await this.#strike(fault, operation, name, signal);
    if (fault === "hang-after" && this.#lands > 0 && !isReserved(name) && this.#world.random.chance(this.#lands)) {
      this.#landLater(apply);
      await this.#strike(fault, operation, name, signal);
    }
    if (this.#world.random.chance(this.#parking)) {
      await this.#world.park(this.#owner, signal, () => {
        if (!this.#world.random.chance(0.5)) return;
        try {
          apply();
        } catch {
          // The store refused it, and nobody is there to be told.
        }
      });
    }
    apply();
    if (fault === "after" || fault === "hang-after") await this.#strike(fault, operation, name, signal);
    await this.#world.park(this.#owner);
    if (this.#disk.down) throw this.#error("unavailable", operation, name);
  }
}

const nothing = (): Promise<void> => Promise.resolve();

/** What is there already, one after the other. An async generator would do, and costs several times as much. */
class Given<T> implements AsyncIterable<T>, AsyncIterator<T> {
  readonly #items: readonly T[];
  #place = 0;

  constructor(items: readonly T[]) {
    this.#items = items;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T>> {
    const value = this.#items[this.#place++];
    return Promise.resolve(value === undefined ? { done: true, value } : { done: false, value });
  }

  return(): Promise<IteratorResult<T>> {
    this.#place = this.#items.length;
    return Promise.resolve({ done: true, value: undefined });
  }
}
