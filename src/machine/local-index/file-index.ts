/**
 * The local index in files of its own: ordered by the bytes of names, shared by the processes of a machine, never held in memory.
 *
 * It can be made anew from the stores. So no damage to it fails a command:
 * - Everything is checked by its digest when it is read. An index with a wrong digest is discarded, and its callers get
 *   `IndexLost`.
 * - A failed write (the disk is full, the folder is gone) ends the sharing: the process continues with an index in memory. Before
 *   that it discards the shared index, which lacks its changes. It marks any index that others make later at each of its changes.
 */
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import { IndexLost, MemoryIndex, SPOILT_FACT } from "../../ledger/ledger-index.ts";
import type { IndexChanges, IndexCounts, LedgerIndex } from "../../ledger/ledger-index.ts";
import { isSettled } from "../../ledger/record.ts";
import type { NameState, PoolRecord, StoreId, StoreRecord, WriterRecord } from "../../ledger/record.ts";
import { INDEX_NOT_KEPT } from "../../contract/log.ts";
import type { Logger } from "../../contract/log.ts";
import { makeFolderSync } from "../../support/make-folder.ts";
import { compareNames } from "../../contract/names.ts";
import { systemWords } from "../../contract/system-words.ts";
import { attempt, discardIndex, makeIndex, removeRemains } from "./index-folder.ts";
import { Merging } from "./merging.ts";
import type { Change } from "./overlay.ts";
import { entriesOf, keyOf, lookUp, unpackFact, unpackState } from "./runs.ts";
import { SharedView } from "./shared-view.ts";

/** The number of entries read at a time. The files may change before the next ones are read. */
const ENTRIES_AT_ONCE = 500;
/** The most records in one frame of the log. */
const FRAME_RECORDS = 5000;
/** See `FileIndexOptions`. */
const LOG_BYTES = 256 * 1024;
const BULK_FACTOR = 32;
/** Attempts to open an index that other processes make and discard at the same time. */
const OPENINGS = 5;
/** Prefix of the facts about running processes, which all processes must know. See `live-writers.ts`. */
const PROCESS_FACTS = "process:";

export interface FileIndexOptions {
  readonly logger: Logger;
  /**
   * The size in bytes at which a log is ended and made into a run. Default 256 KiB; 32 times as much while many records
   * are read at once.
   */
  readonly logBytes?: number;
}

/**
 * Opens or makes the index of a pool in a folder of its own. Needs `loadDigests`. A damaged index is discarded. Throws if none
 * can be made.
 */
export function openFileIndex(place: string, options: FileIndexOptions): LedgerIndex {
  const folder = folderOf(place);
  let failure: unknown;
  for (let more = OPENINGS; more > 0; more--) {
    try {
      return new FileIndex(place, new SharedView(folder), options);
    } catch (error) {
      failure = error;
      const { code = "" } = error as NodeJS.ErrnoException;
      // This error does not come from the index.
      if (code === "EMFILE" || code === "ENFILE") throw error;
      if (code !== "ENOENT") {
        options.logger.warn("the local index is made anew", { folder, reason: systemWords(error) });
        discardIndex(place, folder);
      }
      makeFolderSync(place);
      removeRemains(folder, place);
      // Files of an earlier version.
      for (const name of ["index.lmdb", "index.lmdb-lock"]) attempt(() => rmSync(join(place, name), { force: true }));
      makeIndex(place, folder);
    }
  }
  throw failure;
}

class FileIndex implements LedgerIndex {
  readonly #place: string;
  readonly #folder: string;
  readonly #view: SharedView;
  readonly #merging: Merging;
  readonly #options: FileIndexOptions;
  readonly #others: OtherIndexes | undefined;
  #isShared = true;
  #lost: IndexLost | undefined;
  #isClosed = false;

  /** `isGuest`: opened only to tell other processes that this process's index is not shared. */
  constructor(place: string, view: SharedView, options: FileIndexOptions, isGuest = false) {
    this.#place = place;
    this.#folder = view.folder;
    this.#view = view;
    this.#options = options;
    if (!isGuest) this.#others = new OtherIndexes(place, options, () => this.facts(PROCESS_FACTS));
    this.#merging = new Merging(view, (error) => this.#onMaintenance(error));
    if (isGuest) return;
    if (view.hasSealed) this.#maintain(() => view.flush());
    this.#rotateFrom(2);
  }

  get isShared(): boolean {
    this.#refresh();
    return this.#isShared && this.#lost === undefined;
  }

  // ---------------------------------------------------------------------------------------------------------- reading

  #refresh(): void {
    if (!this.#isShared || this.#isClosed) return;
    try {
      if (!this.#view.refresh()) this.#part("it was removed");
    } catch (error) {
      this.#part(error);
    }
  }

  /** Reads the present state. A failed read is an error, not an empty answer. */
  #read<T>(work: (view: SharedView) => T): T {
    if (this.#lost !== undefined) throw this.#lost;
    this.#refresh();
    try {
      return work(this.#view);
    } catch (error) {
      this.#part(error);
      this.#lost = new IndexLost(error);
      throw this.#lost;
    }
  }

  get(name: string): NameState | undefined {
    return this.#read((view) => stateOf(view, name));
  }

  *iterate(prefix: string, after?: string): Generator<readonly [string, NameState]> {
    yield* this.#walk(prefix, after, "n", (view, name, value) =>
      value === undefined ? view.overlay.state(name) : unpackState(value),
    );
  }

  *unsettled(prefix: string): Generator<readonly [string, NameState]> {
    yield* this.#walk(prefix, undefined, "u", (view, name) => {
      const state = stateOf(view, name);
      return state !== undefined && !isSettled(state) ? state : undefined;
    });
  }

  /** Walks the index in batches. Each batch is from the moment when it is read. */
  *#walk(
    prefix: string,
    after: string | undefined,
    kind: "n" | "u",
    stateAt: (view: SharedView, name: string, value: Buffer | undefined) => NameState | undefined,
  ): Generator<readonly [string, NameState]> {
    let last = after !== undefined && compareNames(after, prefix) >= 0 ? after : undefined;
    for (;;) {
      const batch: (readonly [string, NameState])[] = [];
      const reached = this.#read((view) => {
        let name: string | undefined;
        for (const [next, value] of namesFrom(view, kind, prefix, last)) {
          name = next;
          const state = stateAt(view, next, value);
          if (state !== undefined) batch.push([next, state]);
          if (batch.length === ENTRIES_AT_ONCE) return name;
        }
        return undefined;
      });
      yield* batch;
      if (reached === undefined) return;
      last = reached;
    }
  }

  counts(): IndexCounts {
    return this.#read(({ runs, overlay }) => {
      const below = runs.at(-1)?.counts ?? { objects: 0, unsettled: 0 };
      const { objects, unsettled } = overlay.counts();
      return { objects: below.objects + objects, unsettled: below.unsettled + unsettled };
    });
  }

  store(id: StoreId): StoreRecord | undefined {
    return this.#read(({ overlay }) => overlay.store(id));
  }

  stores(): readonly StoreRecord[] {
    return this.#read(({ runs, overlay }) => {
      const ids = new Set([...entriesOf(runs, "t", "")].map(([id]) => id));
      for (const id of overlay.storeIds()) ids.add(id);
      return [...ids].sort().flatMap((id) => overlay.store(id) ?? []);
    });
  }

  pool(): PoolRecord | undefined {
    return this.#read(({ overlay }) => overlay.pool());
  }

  writers(): readonly WriterRecord[] {
    return this.#read(({ runs, overlay }) => {
      const revs = new Map([...entriesOf(runs, "w", "")].map(([machine, rev]) => [machine, rev.toString()]));
      for (const [machine, rev] of overlay.writers()) revs.set(machine, rev);
      return [...revs].map(([machine, rev]) => ({ machine, rev }));
    });
  }

  hasSegment(name: string): boolean {
    const key = segmentKey(name);
    return this.#read(({ runs, overlay }) => overlay.segments.get(key) ?? lookUp(runs, keyOf("s", key)) !== undefined);
  }

  getFact(key: string): string | undefined {
    return this.#read(({ runs, overlay }) => {
      if (overlay.facts.has(key)) return overlay.facts.get(key);
      const value = lookUp(runs, keyOf("f", key));
      return value === undefined ? undefined : unpackFact(value);
    });
  }

  *facts(prefix: string): Generator<readonly [string, string]> {
    yield* this.#read(({ runs, overlay }) => {
      const known = new Map([...entriesOf(runs, "f", prefix)].map(([key, value]) => [key, unpackFact(value)]));
      for (const [key, value] of overlay.facts) {
        if (!key.startsWith(prefix)) continue;
        if (value === undefined) known.delete(key);
        else known.set(key, value);
      }
      return [...known].sort(([a], [b]) => compareNames(a, b));
    });
  }

  check(): void {
    this.#read(({ runs }) => {
      for (const { file } of runs) file.check();
    });
  }

  // --------------------------------------------------------------------------------------------------------- changing

  apply(changes: IndexChanges): void {
    const objects = [...(changes.objects ?? [])];
    const isBulk = objects.length > FRAME_RECORDS / 5;
    // A segment counts as read only with all of its records, so it is noted with the last of them.
    let at = 0;
    for (; objects.length - at > FRAME_RECORDS; at += FRAME_RECORDS)
      this.#change({ objects: objects.slice(at, at + FRAME_RECORDS) });
    const { segment, ...others } = changes;
    this.#change({
      ...others,
      objects: objects.slice(at),
      ...(segment === undefined ? {} : { segment: segmentKey(segment) }),
    });
    this.#rotateFrom(isBulk ? BULK_FACTOR : 1);
  }

  drop(name: string): void {
    this.#change({ dropped: name });
  }

  setFact(key: string, value: string | undefined): void {
    this.#change({ facts: [[key, value]] });
  }

  forgetSegments(keep: ReadonlySet<string>): void {
    if (this.#lost !== undefined) return;
    const kept = new Set([...keep].map(segmentKey));
    const forgotten = this.#read(({ runs, overlay }) => {
      const known = new Set([...entriesOf(runs, "s", "")].map(([name]) => name));
      for (const [name, isRead] of overlay.segments) if (isRead) known.add(name);
      return [...known].filter((name) => !kept.has(name) && overlay.segments.get(name) !== false);
    });
    if (forgotten.length > 0) this.#change({ forgotten });
  }

  #change(change: Change): void {
    if (this.#lost !== undefined || this.#isClosed) return;
    // The iterables are read once here, and once below.
    const whole: Change = { ...change, facts: [...(change.facts ?? [])], pools: [...(change.pools ?? [])] };
    if (this.#isShared) {
      try {
        if (this.#view.append(whole)) return;
        this.#part("it was removed");
      } catch (error) {
        this.#part(error);
      }
    }
    this.#view.overlay.apply(whole);
    this.#others?.tell();
  }

  sync(): void {
    if (this.#lost !== undefined || this.#isClosed) return;
    if (!this.#isShared) return this.#others?.sync();
    try {
      this.#view.sync();
    } catch (error) {
      this.#part(error);
    }
  }

  // ---------------------------------------------------------------------------------------------------------- sharing

  /** Ends the sharing. No process may go on using an index that lacks this process's changes. */
  #part(reason: unknown): void {
    if (!this.#isShared) return;
    this.#isShared = false;
    this.#merging.close();
    discardIndex(this.#place, this.#folder, this.#view.epoch);
    if (this.#others === undefined) return;
    this.#options.logger.warn(INDEX_NOT_KEPT, {
      folder: this.#folder,
      reason: systemWords(reason),
    });
  }

  // ------------------------------------------------------------------------------------------------------ maintenance

  /** Ends the log if it is this many times longer than its limit. */
  #rotateFrom(times: number): void {
    if (!this.#isShared || this.#others === undefined || this.#isClosed) return;
    if (this.#view.logBytes < times * (this.#options.logBytes ?? LOG_BYTES)) return;
    this.#maintain(() => {
      this.#view.seal();
      this.#view.flush();
      this.#merging.start();
    });
  }

  #maintain(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#onMaintenance(error);
    }
  }

  /** An index that could not be made shorter can still be used, unless it is damaged. */
  #onMaintenance(error: unknown): void {
    if (error instanceof HoldfastError) return this.#part(error);
    this.#options.logger.debug("the local index could not be made shorter", { reason: systemWords(error) });
    try {
      this.#view.reload();
    } catch (failure) {
      this.#part(failure);
    }
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#rotateFrom(1);
    if (this.#isShared) this.#maintain(() => this.#merging.close());
    this.#isClosed = true;
    this.#view.close();
    this.#others?.close();
    return Promise.resolve();
  }
}

/**
 * The other processes' indexes, for a process whose own index is not shared. At each change it notes in them that they are
 * incomplete, and which processes run. An index that cannot take the note is discarded.
 */
class OtherIndexes {
  readonly #place: string;
  readonly #options: FileIndexOptions;
  readonly #processes: () => Iterable<readonly [string, string]>;
  #guest: FileIndex | undefined;

  constructor(place: string, options: FileIndexOptions, processes: () => Iterable<readonly [string, string]>) {
    this.#place = place;
    this.#options = options;
    this.#processes = processes;
  }

  tell(): void {
    const mark = randomBytes(8).toString("hex");
    for (let more = OPENINGS; more > 0; more--) {
      try {
        this.#guest ??= this.#open();
        this.#guest.setFact(SPOILT_FACT, mark);
        if (this.#guest.isShared) return;
      } catch (error) {
        // There is no such index.
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
        discardIndex(this.#place, folderOf(this.#place));
      }
      this.close();
    }
  }

  #open(): FileIndex {
    const guest = new FileIndex(this.#place, new SharedView(folderOf(this.#place)), this.#options, true);
    const facts = [...(attempt(this.#processes) ?? [])].filter(([key]) => guest.getFact(key) === undefined);
    if (facts.length > 0) guest.apply({ facts });
    return guest;
  }

  sync(): void {
    this.#guest?.sync();
  }

  close(): void {
    void this.#guest?.close();
    this.#guest = undefined;
  }
}

/** An index in memory, for a process that cannot keep one in the cache although other processes of this machine may. */
export class UnsharedIndex extends MemoryIndex {
  override readonly isShared = false;
  readonly #others: OtherIndexes;

  constructor(place: string, options: FileIndexOptions) {
    super();
    this.#others = new OtherIndexes(place, options, () => this.facts(PROCESS_FACTS));
  }

  override apply(changes: IndexChanges): void {
    super.apply(changes);
    this.#others.tell();
  }

  override setFact(key: string, value: string | undefined): void {
    super.setFact(key, value);
    this.#others.tell();
  }

  override sync(): void {
    this.#others.sync();
  }

  override close(): Promise<void> {
    this.#others.close();
    return super.close();
  }
}

function folderOf(place: string): string {
  return join(place, "index");
}

function stateOf({ runs, overlay }: SharedView, name: string): NameState | undefined {
  if (overlay.has(name)) return overlay.state(name);
  const value = lookUp(runs, keyOf("n", name));
  return value === undefined ? undefined : unpackState(value);
}

/** The names behind `last`, in order, with their value in the runs if the overlay does not change them. */
function* namesFrom(
  { runs, overlay }: SharedView,
  kind: "n" | "u",
  prefix: string,
  last: string | undefined,
): Generator<[string, Buffer | undefined]> {
  const changed = overlay.names();
  let at = firstFrom(changed, last ?? prefix);
  const isMeant = (name: string | undefined): name is string => name?.startsWith(prefix) === true;
  for (const [name, value] of entriesOf(runs, kind, prefix, last ?? prefix)) {
    for (let own = changed[at]; isMeant(own) && compareNames(own, name) < 0; own = changed[++at])
      if (own !== last) yield [own, undefined];
    if (name !== last && !overlay.has(name)) yield [name, value];
  }
  for (let own = changed[at]; isMeant(own); own = changed[++at]) if (own !== last) yield [own, undefined];
}

function firstFrom(names: readonly string[], start: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareNames(names[middle] ?? "", start) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Stores may hold segments with any name. */
function segmentKey(name: string): string {
  return name.length <= 200 ? name : createHash("sha256").update(name).digest("hex");
}
