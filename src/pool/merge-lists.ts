/** Merges several listings and a walk of the index, all in name order, into one: each name once. */
import { throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Member } from "../ledger/member.ts";
import type { NameState } from "../ledger/record.ts";
import { compareNames } from "../contract/names.ts";
import type { ListOptions, ObjectInfo, Store } from "../contract/store.ts";

/** A listing's entry: an object's facts, or its name alone. */
export type Listed = ObjectInfo | string;

export interface Merged<T extends Listed> {
  readonly name: string;
  readonly state: NameState | undefined;
  /** Each listing's entry, in the order of the listings; undefined if it does not have the name. */
  readonly all: readonly (T | undefined)[];
}

/** At most this many names are handed on together. */
const BATCH = 256;

/**
 * Streams: holds one batch of each listing at a time, and hands on the merged names before it waits for a listing's next
 * batch. Batches come in name order.
 */
export async function* mergeLists<T extends Listed>(
  lists: readonly AsyncIterable<readonly T[]>[],
  index: Iterable<readonly [string, NameState]>,
): AsyncGenerator<readonly Merged<T>[]> {
  const cursors = lists.map((list) => new Cursor(list[Symbol.asyncIterator]()));
  const walk = index[Symbol.iterator]();
  try {
    await Promise.all(cursors.map((cursor) => cursor.fill()));
    let known = walk.next();
    let merged: Merged<T>[] = [];
    for (;;) {
      let name = known.done === true ? undefined : known.value[0];
      for (const cursor of cursors) {
        const head = cursor.name;
        if (head !== undefined && (name === undefined || compareNames(head, name) < 0)) name = head;
      }
      if (name === undefined) break;
      const state = known.done !== true && known.value[0] === name ? known.value[1] : undefined;
      if (state !== undefined) known = walk.next();
      const all: (T | undefined)[] = [];
      let isEmpty = false;
      for (const cursor of cursors) {
        all.push(cursor.take(name));
        isEmpty ||= cursor.isEmpty;
      }
      merged.push({ name, state, all });
      if (!isEmpty && merged.length < BATCH) continue;
      yield merged;
      merged = [];
      if (isEmpty) await Promise.all(cursors.map((cursor) => cursor.fill()));
    }
    if (merged.length > 0) yield merged;
  } finally {
    await Promise.all(cursors.map((cursor) => cursor.close()));
    walk.return?.();
  }
}

/** The position in one listing. */
class Cursor<T extends Listed> {
  readonly #reader: AsyncIterator<readonly T[]>;
  #batch: readonly T[] = [];
  #at = 0;
  #isDone = false;
  /** The next name; undefined at the end. */
  name: string | undefined;

  constructor(reader: AsyncIterator<readonly T[]>) {
    this.#reader = reader;
  }

  /** Whether the next name has to be waited for. */
  get isEmpty(): boolean {
    return !this.#isDone && this.#at === this.#batch.length;
  }

  /** Reads the next batch if the next name is not known yet. */
  async fill(): Promise<void> {
    while (this.isEmpty) {
      const next = await this.#reader.next();
      this.#isDone = next.done === true;
      this.#batch = next.done === true ? [] : next.value;
      this.#at = 0;
      this.name = nameOf(this.#batch[0]);
    }
  }

  /** The entry of a name, if that is the next one. */
  take(name: string): T | undefined {
    if (this.name !== name) return undefined;
    const item = this.#batch[this.#at++];
    this.name = nameOf(this.#batch[this.#at]);
    return item;
  }

  async close(): Promise<void> {
    await this.#reader.return?.();
  }
}

function nameOf(item: Listed | undefined): string | undefined {
  return typeof item === "object" ? item.name : item;
}

/**
 * A member's listing, in name order, for a merge. With `namesDo` it is of names alone, if the store lists those at less cost.
 * A listing that fails ends, and `onFailure` is called.
 */
export function listMember(
  member: Member,
  namesDo: boolean,
  prefix: string,
  options: ListOptions,
  onFailure: (error: HoldfastError) => void,
): AsyncIterable<readonly Listed[]> {
  const names = namesDo ? member.store.listNames?.(prefix, options) : undefined;
  return untilFailure<Listed>(names ?? inBatches(member.store, prefix, options), member, options, onFailure);
}

async function* untilFailure<T>(
  batches: AsyncIterable<readonly T[]>,
  { store }: Member,
  { signal }: ListOptions,
  onFailure: (error: HoldfastError) => void,
): AsyncGenerator<readonly T[]> {
  try {
    for await (const batch of batches) yield batch;
  } catch (error) {
    throwIfAborted(signal);
    onFailure(toHoldfastError(error, "unavailable").within({ store: store.label, operation: "list" }));
  }
}

/** Each entry as soon as it comes; of a store that lists in no order, all entries at the end. */
async function* inBatches(store: Store, prefix: string, options: ListOptions): AsyncGenerator<readonly ObjectInfo[]> {
  const isOrdered = store.capabilities.orderedList;
  const all: ObjectInfo[] = [];
  for await (const info of store.list(prefix, options)) {
    if (isOrdered) yield [info];
    else all.push(info);
  }
  if (all.length > 0) yield all.sort((a, b) => compareNames(a.name, b.name));
}
