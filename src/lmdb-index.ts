/**
 * The local index in LMDB: ordered by the bytes of names, shared by the processes of a machine, never held in memory.
 *
 * It is written without waiting for the disk: a crash of the process loses nothing, a crash of the machine may damage
 * it. So the boot it was last written in is noted, and an index that was not closed in an earlier boot is thrown away
 * and read again from the stores.
 */
import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, readSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Database, RootDatabase } from "lmdb";
import { HoldfastError } from "./errors.ts";
import { compareNames } from "./names.ts";
import { countsOf, factsOf, poolOf, writersOf } from "./ledger/ledger-index.ts";
import type { IndexChanges, IndexCounts, LedgerIndex } from "./ledger/ledger-index.ts";
import { mergeRecord, mergeStoreRecord } from "./ledger/record.ts";
import type { NameState, PoolRecord, StoreId, StoreRecord, WriterRecord } from "./ledger/record.ts";
import { packRecord, unpackRecord } from "./ledger/segment.ts";

// Every command loads it: as a CommonJS bundle it takes 20 ms, as a graph of ES modules 29.
const { open } = createRequire(import.meta.url)("lmdb") as typeof import("lmdb");

/** Raised when what is kept changes its form: an index of another form is thrown away. */
const INDEX_FORM = "2";
/** Pages of an index, and the number that LMDB keeps at this place of the first two. */
const PAGE_BYTES = 4096;
const MAGIC_OFFSET = 24;
const MAGIC = 0xbeefc0de;
/** Entries that are read at a time. Between them no cursor is held, so that the file may be opened anew. */
const ENTRIES_AT_ONCE = 500;
/** After so many names of one walk the file is opened anew: pages that were read stay in memory as long as it is open. */
const NAMES_BETWEEN_OPENINGS = 4_000;
const NO_TABLE: ReadonlyMap<string, number> = new Map();
const damaged = (why: string): HoldfastError => new HoldfastError("corrupt", `the local index is damaged: ${why}`);

/** Opens (or makes) the index in a folder of its own. */
export function openLmdbIndex(folder: string): LedgerIndex {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, "index.lmdb");
  const boot = bootId();
  const first = isForeign(path) ? undefined : tryOpen(path);
  if (first !== undefined) {
    const form = first.facts.get("index:form");
    const openedIn = first.facts.get("index:boot");
    if (form === undefined || (form === INDEX_FORM && (openedIn === boot || openedIn === ""))) {
      return start(path, first, boot);
    }
    void first.root.close();
  }
  rmSync(path, { force: true });
  rmSync(`${path}-lock`, { force: true });
  const fresh = tryOpen(path);
  if (fresh === undefined) throw new HoldfastError("unavailable", "the local index cannot be opened");
  return start(path, fresh, boot);
}

/** LMDB maps what it opens into memory and ends the process over a file that is not its own: so that is looked at first. */
function isForeign(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return false;
  }
  try {
    const bytes = Buffer.alloc(2 * PAGE_BYTES);
    const length = readSync(file, bytes, 0, bytes.length, 0);
    if (length === 0) return false;
    return (
      length < bytes.length ||
      [0, PAGE_BYTES].some((page) => bytes.readUInt32LE(page + MAGIC_OFFSET) !== MAGIC && !isBlank(bytes, page))
    );
  } finally {
    closeSync(file);
  }
}

/** A page that is not written yet. */
function isBlank(bytes: Buffer, page: number): boolean {
  return bytes.subarray(page, page + PAGE_BYTES).every((byte) => byte === 0);
}

interface Tables {
  readonly root: RootDatabase;
  readonly names: Database<string, Buffer>;
  readonly unsettled: Database<string, Buffer>;
  readonly segments: Database<string, string>;
  readonly stores: Database<StoreRecord, string>;
  readonly facts: Database<string, string>;
}

function tryOpen(path: string): Tables | undefined {
  try {
    const root = open({ path, noSync: true, maxDbs: 8, noSubdir: true, compression: false });
    const byName = { keyEncoding: "binary", encoding: "string" } as const;
    return {
      root,
      names: root.openDB<string, Buffer>({ name: "names", ...byName }),
      unsettled: root.openDB<string, Buffer>({ name: "unsettled", ...byName }),
      segments: root.openDB<string, string>({ name: "segments", encoding: "string" }),
      stores: root.openDB<StoreRecord, string>({ name: "stores", encoding: "json" }),
      facts: root.openDB<string, string>({ name: "facts", encoding: "string" }),
    };
  } catch {
    // Damaged beyond opening: the caller starts afresh, which loses nothing but time.
    return undefined;
  }
}

function start(path: string, tables: Tables, boot: string): LedgerIndex {
  tables.root.transactionSync(() => {
    tables.facts.putSync("index:form", INDEX_FORM);
    tables.facts.putSync("index:boot", boot);
  });
  return new LmdbIndex(path, tables);
}

/** Which file stands at a path: another process may have thrown one away and begun another. */
function fileAt(path: string): string {
  const { dev, ino } = statSync(path, { bigint: true });
  return `${dev}:${ino}`;
}

function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}

class LmdbIndex implements LedgerIndex {
  readonly #path: string;
  readonly #file: string;
  #tables: Tables;
  #closed = false;

  constructor(path: string, tables: Tables) {
    this.#path = path;
    this.#file = fileAt(path);
    this.#tables = tables;
  }

  get(name: string): NameState | undefined {
    return unpack(this.#tables.names.get(Buffer.from(name)));
  }

  apply(changes: IndexChanges): void {
    const { root, names, unsettled, segments, stores, facts } = this.#tables;
    root.transactionSync(() => {
      let objects = 0;
      let open = 0;
      for (const record of changes.objects ?? []) {
        const key = Buffer.from(record.name);
        const before = unpack(names.get(key));
        const after = mergeRecord(before, record);
        names.putSync(key, pack(after));
        const was = countsOf(before);
        const is = countsOf(after);
        objects += is.objects - was.objects;
        open += is.unsettled - was.unsettled;
        if (is.unsettled > was.unsettled) unsettled.putSync(key, "");
        else if (is.unsettled < was.unsettled) unsettled.removeSync(key);
      }
      for (const record of changes.stores ?? []) {
        stores.putSync(record.id, mergeStoreRecord(stores.get(record.id), record));
      }
      for (const [key, value] of factsOf(changes, (one) => this.getFact(one))) this.setFact(key, value);
      if (changes.segment !== undefined) segments.putSync(segmentKey(changes.segment), "");
      for (const [key, value] of changes.facts ?? []) this.setFact(key, value);
      if (objects !== 0) facts.putSync("count:objects", String(this.#count("count:objects") + objects));
      if (open !== 0) facts.putSync("count:unsettled", String(this.#count("count:unsettled") + open));
    });
  }

  *iterate(prefix: string, after?: string): Generator<readonly [string, NameState]> {
    const from = after === undefined || compareNames(after, prefix) < 0 ? prefix : after;
    const bytes = Buffer.from(prefix);
    let walked = 0;
    for (const { key, value } of inBatches<Buffer, string>(Buffer.from(from), (start) =>
      this.#tables.names.getRange(start),
    )) {
      if (!startsWith(key, bytes)) return;
      if (++walked % NAMES_BETWEEN_OPENINGS === 0) this.#openAnew();
      const name = key.toString();
      if (name === after) continue;
      const state = unpack(value);
      if (state !== undefined) yield [name, state];
    }
  }

  /** Lets go of the pages that were read. Needs that nobody holds a cursor. */
  #openAnew(): void {
    // What another process threw away is read to its end.
    if (this.#closed || fileAt(this.#path) !== this.#file) return;
    void this.#tables.root.close();
    const tables = tryOpen(this.#path);
    if (tables === undefined || fileAt(this.#path) !== this.#file) {
      throw new HoldfastError("unavailable", "the local index was replaced while it was read");
    }
    this.#tables = tables;
  }

  *unsettled(prefix: string): Generator<readonly [string, NameState]> {
    const bytes = Buffer.from(prefix);
    for (const { key } of inBatches<Buffer, string>(bytes, (start) => this.#tables.unsettled.getRange(start))) {
      if (!startsWith(key, bytes)) return;
      const state = unpack(this.#tables.names.get(key));
      if (state !== undefined) yield [key.toString(), state];
    }
  }

  counts(): IndexCounts {
    return { objects: this.#count("count:objects"), unsettled: this.#count("count:unsettled") };
  }

  store(id: StoreId): StoreRecord | undefined {
    return this.#tables.stores.get(id);
  }

  stores(): readonly StoreRecord[] {
    return [...this.#tables.stores.getRange()].map((entry) => entry.value);
  }

  pool(): PoolRecord | undefined {
    return poolOf(this);
  }

  writers(): readonly WriterRecord[] {
    return writersOf(this);
  }

  hasSegment(name: string): boolean {
    return this.#tables.segments.get(segmentKey(name)) !== undefined;
  }

  forgetSegments(keep: ReadonlySet<string>): void {
    const { root, segments } = this.#tables;
    const kept = new Set([...keep].map(segmentKey));
    const gone = [...segments.getKeys()].filter((name) => !kept.has(name));
    if (gone.length === 0) return;
    root.transactionSync(() => {
      for (const name of gone) segments.removeSync(name);
    });
  }

  drop(name: string): void {
    const { root, names, unsettled, facts } = this.#tables;
    const key = Buffer.from(name);
    root.transactionSync(() => {
      const was = countsOf(unpack(names.get(key)));
      names.removeSync(key);
      unsettled.removeSync(key);
      facts.putSync("count:objects", String(this.#count("count:objects") - was.objects));
      facts.putSync("count:unsettled", String(this.#count("count:unsettled") - was.unsettled));
    });
  }

  getFact(key: string): string | undefined {
    return this.#tables.facts.get(factKey(key));
  }

  setFact(key: string, value: string | undefined): void {
    const { facts } = this.#tables;
    if (value === undefined) facts.removeSync(factKey(key));
    else facts.putSync(factKey(key), value);
  }

  *facts(prefix: string): Generator<readonly [string, string]> {
    const start = `fact:${prefix}`;
    for (const { key, value } of inBatches(start, (range) => this.#tables.facts.getRange(range))) {
      if (!key.startsWith(start)) return;
      yield [key.slice("fact:".length), value];
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#tables.root.close();
  }

  #count(key: string): number {
    return Number(this.#tables.facts.get(key) ?? "0");
  }
}

/** Entries from `start` on, as they stand when their batch is read. Holds no cursor while the caller has the floor. */
function* inBatches<K extends string | Buffer, V>(
  start: K,
  read: (range: { start: K; limit: number; snapshot: false }) => Iterable<{ key: K; value: V }>,
): Generator<{ key: K; value: V }> {
  let last: K | undefined;
  for (;;) {
    const batch = [...read({ start: last ?? start, limit: ENTRIES_AT_ONCE, snapshot: false })];
    // It begins with the last one of the batch before, unless that is gone by now.
    const isRepeated = last !== undefined && String(batch[0]?.key) === String(last);
    yield* isRepeated ? batch.slice(1) : batch;
    last = batch.at(-1)?.key;
    if (last === undefined || batch.length < ENTRIES_AT_ONCE) return;
  }
}

function factKey(key: string): string {
  // LMDB keys are limited to 1,978 bytes; names have at most 1,024.
  return `fact:${key}`;
}

function segmentKey(name: string): string {
  return name.length <= 200 ? name : createHash("sha256").update(name).digest("hex");
}

function startsWith(key: Buffer, prefix: Buffer): boolean {
  return key.length >= prefix.length && key.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

function pack(state: NameState): string {
  return JSON.stringify(state.records.map((record) => packRecord(record, NO_TABLE)));
}

function unpack(text: string | undefined): NameState | undefined {
  if (text === undefined) return undefined;
  const records: unknown = JSON.parse(text);
  if (!Array.isArray(records)) throw damaged("an entry is no list");
  return { records: records.map((record: unknown) => unpackRecord(record, [], damaged)) };
}
