/** The overlay: changes in the logs that no run covers yet, by key, in memory. They count over those of the runs. */
import { countsOf } from "../../ledger/ledger-index.ts";
import type { IndexChanges, IndexCounts } from "../../ledger/ledger-index.ts";
import { mergePoolRecord, mergeRecord, mergeStoreRecord } from "../../ledger/record.ts";
import type { NameState, ObjectRecord, PoolRecord, StoreId, StoreRecord } from "../../ledger/record.ts";
import { packRecord, unpackRecord } from "../../ledger/segment.ts";
import type { PackedRecord } from "../../ledger/segment.ts";
import { compareNames } from "../../contract/names.ts";
import { damagedFile } from "./block-file.ts";

/** One change of an index: the content of one frame of a log. */
export interface Change extends IndexChanges {
  readonly dropped?: string;
  /** Segments that are no longer known as read. */
  readonly forgotten?: readonly string[];
}

interface ChangeForm {
  o?: PackedRecord[];
  t?: StoreRecord[];
  p?: PoolRecord[];
  w?: { machine: string; rev: string }[];
  g?: string;
  f?: [string, string | null][];
  d?: string;
  x?: string[];
}

/** A frame begins with this many bytes, which make it unique. */
export const NONCE_BYTES = 12;
const NO_TABLE: ReadonlyMap<string, number> = new Map();

export function packChange(change: Change, nonce: Buffer): Buffer {
  const form: ChangeForm = {};
  const objects = [...(change.objects ?? [])];
  const [stores, pools, writers] = [[...(change.stores ?? [])], [...(change.pools ?? [])], [...(change.writers ?? [])]];
  const facts = [...(change.facts ?? [])];
  if (objects.length > 0) form.o = objects.map((record) => packRecord(record, NO_TABLE));
  if (stores.length > 0) form.t = stores;
  if (pools.length > 0) form.p = pools;
  if (writers.length > 0) form.w = writers;
  if (change.segment !== undefined) form.g = change.segment;
  if (facts.length > 0) form.f = facts.map(([key, value]) => [key, value ?? null]);
  if (change.dropped !== undefined) form.d = change.dropped;
  if (change.forgotten !== undefined && change.forgotten.length > 0) form.x = [...change.forgotten];
  return Buffer.concat([nonce, Buffer.from(JSON.stringify(form))]);
}

export function unpackChange(payload: Buffer): Change {
  const form = JSON.parse(payload.toString("utf8", NONCE_BYTES)) as ChangeForm;
  return {
    objects: (form.o ?? []).map((record) => unpackRecord(record, [], damagedFile)),
    stores: form.t ?? [],
    pools: form.p ?? [],
    writers: form.w ?? [],
    facts: (form.f ?? []).map(([key, value]) => [key, value ?? undefined] as const),
    ...(form.g === undefined ? {} : { segment: form.g }),
    ...(form.d === undefined ? {} : { dropped: form.d }),
    ...(form.x === undefined ? {} : { forgotten: form.x }),
  };
}

interface NameEntry {
  /** Whether the name was removed for good before these records. */
  isAnew: boolean;
  records: ObjectRecord[];
  /** The merged state of runs and records, computed when it is first needed. */
  whole?: { was: IndexCounts; state: NameState | undefined } | undefined;
}

/** The content of the runs. */
export interface Below {
  name(name: string): NameState | undefined;
  store(id: StoreId): StoreRecord | undefined;
  pool(): PoolRecord | undefined;
  /** The version of a machine's writer record. */
  writer(machine: string): string | undefined;
}

export class Overlay {
  readonly #below: Below;
  readonly #names = new Map<string, NameEntry>();
  readonly #stores = new Map<StoreId, StoreRecord>();
  readonly #pools: PoolRecord[] = [];
  readonly #writers = new Map<string, string>();
  readonly segments = new Map<string, boolean>();
  readonly facts = new Map<string, string | undefined>();
  #sorted: readonly string[] | undefined;

  constructor(below: Below) {
    this.#below = below;
  }

  apply(change: Change): void {
    for (const record of change.objects ?? []) this.#add(record);
    for (const record of change.stores ?? [])
      this.#stores.set(record.id, mergeStoreRecord(this.#stores.get(record.id), record));
    this.#pools.push(...(change.pools ?? []));
    for (const { machine, rev } of change.writers ?? [])
      if (rev > (this.#writers.get(machine) ?? "")) this.#writers.set(machine, rev);
    if (change.segment !== undefined) this.segments.set(change.segment, true);
    for (const name of change.forgotten ?? []) this.segments.set(name, false);
    for (const [key, value] of change.facts ?? []) this.facts.set(key, value);
    if (change.dropped !== undefined) this.#drop(change.dropped);
  }

  #add(record: ObjectRecord): void {
    let entry = this.#names.get(record.name);
    if (entry === undefined) {
      entry = { isAnew: false, records: [] };
      this.#names.set(record.name, entry);
      this.#sorted = undefined;
    }
    const { whole } = entry;
    if (whole === undefined) entry.records.push(record);
    else whole.state = mergeRecord(whole.state, record);
  }

  #drop(name: string): void {
    const was = this.#names.get(name)?.whole?.was;
    if (!this.#names.has(name)) this.#sorted = undefined;
    this.#names.set(name, {
      isAnew: true,
      records: [],
      ...(was === undefined ? {} : { whole: { was, state: undefined } }),
    });
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** A name's state; undefined also if only the runs may have one. */
  state(name: string): NameState | undefined {
    return this.#whole(name)?.state;
  }

  #whole(name: string): { was: IndexCounts; state: NameState | undefined } | undefined {
    const entry = this.#names.get(name);
    if (entry === undefined || entry.whole !== undefined) return entry?.whole;
    const below = this.#below.name(name);
    const state = entry.records.reduce(mergeRecord, entry.isAnew ? undefined : below);
    entry.whole = { was: countsOf(below), state };
    entry.records = [];
    return entry.whole;
  }

  /** The difference between the counts and those of the runs. */
  counts(): IndexCounts {
    let objects = 0;
    let unsettled = 0;
    for (const name of this.#names.keys()) {
      const whole = this.#whole(name);
      if (whole === undefined) continue;
      const is = countsOf(whole.state);
      objects += is.objects - whole.was.objects;
      unsettled += is.unsettled - whole.was.unsettled;
    }
    return { objects, unsettled };
  }

  wasUnsettled(name: string): boolean {
    return (this.#whole(name)?.was.unsettled ?? 0) > 0;
  }

  /** All changed names, in order. */
  names(): readonly string[] {
    this.#sorted ??= [...this.#names.keys()].sort(compareNames);
    return this.#sorted;
  }

  store(id: StoreId): StoreRecord | undefined {
    const own = this.#stores.get(id);
    const below = this.#below.store(id);
    return own === undefined ? below : mergeStoreRecord(below, own);
  }

  storeIds(): Iterable<StoreId> {
    return this.#stores.keys();
  }

  writers(): readonly (readonly [string, string])[] {
    return [...this.#writers].map(([machine, rev]) => {
      const below = this.#below.writer(machine) ?? "";
      return [machine, rev > below ? rev : below] as const;
    });
  }

  pool(): PoolRecord | undefined {
    return this.#pools.reduce<PoolRecord | undefined>(mergePoolRecord, this.#below.pool());
  }

  get hasPool(): boolean {
    return this.#pools.length > 0;
  }
}
