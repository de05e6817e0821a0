/**
 * The local index: the records of all stores' ledgers, merged and ordered by name.
 *
 * The index is a cache. Deleting it only costs time at the next opening, because the stores have everything in it. The
 * one exception are the marks of writes that this machine began (`pending`); they only make answers more certain.
 */
import { HoldfastError } from "../contract/errors.ts";
import { compareNames } from "../contract/names.ts";
import { currentRecord, isPut, isSettled, mergePoolRecord, mergeRecord, mergeStoreRecord } from "./record.ts";
import type { NameState, ObjectRecord, PoolRecord, StoreId, StoreRecord, WriterRecord } from "./record.ts";

export interface IndexCounts {
  /** Names whose current record is a put. */
  readonly objects: number;
  /** Names with a debt, an intent or concurrent records. */
  readonly unsettled: number;
}

export interface IndexChanges {
  readonly objects?: Iterable<ObjectRecord>;
  readonly stores?: Iterable<StoreRecord>;
  readonly pools?: Iterable<PoolRecord>;
  readonly writers?: Iterable<WriterRecord>;
  /** The segment that the records come from. It is remembered as read. */
  readonly segment?: string;
  /** Facts that change together with the records; undefined removes one. */
  readonly facts?: Iterable<readonly [string, string | undefined]>;
}

/**
 * Thrown by reads of an index that was damaged and is discarded: its records have to be read from the stores again. Such an
 * index accepts changes and forgets them, because the stores have them.
 */
export class IndexLost extends HoldfastError {
  constructor(cause?: unknown) {
    super("unavailable", "the local index is damaged, and is being made anew", { cause, retryable: true });
  }
}

export interface LedgerIndex {
  /**
   * Whether all processes of this machine share this index. If not, another process may know records that this one can
   * only learn from the stores. An index that is no longer shared is never shared again.
   */
  readonly isShared: boolean;
  get(name: string): NameState | undefined;
  /** Merges records into the index: all of them or none. */
  apply(changes: IndexChanges): void;
  /**
   * Names with the prefix, from `after` on (exclusive), in name order. Changes that are made meanwhile may be included
   * or not.
   */
  iterate(prefix: string, after?: string): Iterable<readonly [string, NameState]>;
  /** Names that are not settled, in name order. */
  unsettled(prefix: string): Iterable<readonly [string, NameState]>;
  counts(): IndexCounts;
  store(id: StoreId): StoreRecord | undefined;
  stores(): readonly StoreRecord[];
  /** The pool's record; undefined while none is known. */
  pool(): PoolRecord | undefined;
  /** Machines that are known to write. */
  writers(): readonly WriterRecord[];
  /** Whether a segment was read. */
  hasSegment(name: string): boolean;
  /** Forgets the segments that are not in `keep`. */
  forgetSegments(keep: ReadonlySet<string>): void;
  /** Removes a name and its records. Only for a tombstone that no store can contradict. */
  drop(name: string): void;
  /** Small facts of this machine: stores it has heard, the turn of the stripe, writes it has begun. */
  getFact(key: string): string | undefined;
  setFact(key: string, value: string | undefined): void;
  facts(prefix: string): Iterable<readonly [string, string]>;
  /** Reads the whole index once, so that a long operation does not meet damage halfway. Throws `IndexLost`. */
  check(): void;
  /** Makes all applied changes survive a power loss. */
  sync(): void;
  close(): Promise<void>;
}

/** A state's part of the counts. */
export function countsOf(state: NameState | undefined): IndexCounts {
  if (state === undefined) return { objects: 0, unsettled: 0 };
  return { objects: isPut(currentRecord(state)) ? 1 : 0, unsettled: isSettled(state) ? 0 : 1 };
}

/**
 * A process that changes only its own index sets this fact anew each time: the shared index is then incomplete. See
 * `Ledger`.
 */
export const SPOILT_FACT = "spoilt";

const POOL_FACT = "pool";
const WRITER_FACTS = "writer:";

/** The pool's and the writers' records in `changes` as facts of an index, merged with the `known` ones. */
export function* factsOf(
  changes: IndexChanges,
  known: (key: string) => string | undefined,
): Generator<[string, string]> {
  for (const record of changes.pools ?? []) {
    yield [POOL_FACT, JSON.stringify(mergePoolRecord(parsePoolFact(known(POOL_FACT)), record))];
  }
  for (const { machine, rev } of changes.writers ?? []) {
    const key = WRITER_FACTS + machine;
    if (rev > (known(key) ?? "")) yield [key, rev];
  }
}

function parsePoolFact(text: string | undefined): PoolRecord | undefined {
  return text === undefined ? undefined : (JSON.parse(text) as PoolRecord);
}

/** The pool's record, from the facts of an index. */
export function poolOf(index: Pick<LedgerIndex, "getFact">): PoolRecord | undefined {
  return parsePoolFact(index.getFact(POOL_FACT));
}

/** The known writers, from the facts of an index. */
export function writersOf(index: Pick<LedgerIndex, "facts">): readonly WriterRecord[] {
  return [...index.facts(WRITER_FACTS)].map(([key, rev]) => ({ machine: key.slice(WRITER_FACTS.length), rev }));
}

/** An index in memory: for simulations, and for machines without a cache. */
export class MemoryIndex implements LedgerIndex {
  readonly isShared: boolean = true;
  readonly #names = new Map<string, NameState>();
  readonly #unsettled = new Set<string>();
  readonly #stores = new Map<StoreId, StoreRecord>();
  readonly #segments = new Set<string>();
  readonly #facts = new Map<string, string>();
  #objects = 0;
  #sorted: string[] | undefined;

  get(name: string): NameState | undefined {
    return this.#names.get(name);
  }

  apply(changes: IndexChanges): void {
    for (const record of changes.objects ?? []) {
      const before = this.#names.get(record.name);
      const after = mergeRecord(before, record);
      if (before === undefined) this.#sorted = undefined;
      this.#names.set(record.name, after);
      const counts = countsOf(after);
      this.#objects += counts.objects - countsOf(before).objects;
      if (counts.unsettled > 0) this.#unsettled.add(record.name);
      else this.#unsettled.delete(record.name);
    }
    for (const record of changes.stores ?? []) {
      this.#stores.set(record.id, mergeStoreRecord(this.#stores.get(record.id), record));
    }
    for (const [key, value] of factsOf(changes, (one) => this.getFact(one))) this.setFact(key, value);
    if (changes.segment !== undefined) this.#segments.add(changes.segment);
    for (const [key, value] of changes.facts ?? []) this.setFact(key, value);
  }

  *iterate(prefix: string, after?: string): Generator<readonly [string, NameState]> {
    this.#sorted ??= [...this.#names.keys()].sort(compareNames);
    const names = this.#sorted;
    let low = 0;
    let high = names.length;
    const start = after !== undefined && compareNames(after, prefix) >= 0 ? after : prefix;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareNames(names[middle] ?? "", start) < 0) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < names.length; i++) {
      const name = names[i] ?? "";
      if (!name.startsWith(prefix)) return;
      if (name === after) continue;
      const state = this.#names.get(name);
      if (state !== undefined) yield [name, state];
    }
  }

  *unsettled(prefix: string): Generator<readonly [string, NameState]> {
    for (const name of [...this.#unsettled].filter((name) => name.startsWith(prefix)).sort(compareNames)) {
      const state = this.#names.get(name);
      if (state !== undefined) yield [name, state];
    }
  }

  counts(): IndexCounts {
    return { objects: this.#objects, unsettled: this.#unsettled.size };
  }

  store(id: StoreId): StoreRecord | undefined {
    return this.#stores.get(id);
  }

  stores(): readonly StoreRecord[] {
    return [...this.#stores.values()];
  }

  pool(): PoolRecord | undefined {
    return poolOf(this);
  }

  writers(): readonly WriterRecord[] {
    return writersOf(this);
  }

  hasSegment(name: string): boolean {
    return this.#segments.has(name);
  }

  forgetSegments(keep: ReadonlySet<string>): void {
    for (const name of this.#segments) if (!keep.has(name)) this.#segments.delete(name);
  }

  drop(name: string): void {
    this.#objects -= countsOf(this.#names.get(name)).objects;
    this.#names.delete(name);
    this.#unsettled.delete(name);
    this.#sorted = undefined;
  }

  getFact(key: string): string | undefined {
    return this.#facts.get(key);
  }

  setFact(key: string, value: string | undefined): void {
    if (value === undefined) this.#facts.delete(key);
    else this.#facts.set(key, value);
  }

  *facts(prefix: string): Generator<readonly [string, string]> {
    for (const [key, value] of this.#facts) if (key.startsWith(prefix)) yield [key, value];
  }

  check(): void {
    // There is no disk.
  }

  sync(): void {
    // There is no disk.
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
