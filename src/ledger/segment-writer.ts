/**
 * Writes records to the stores in segments, one segment after the other. One segment takes the records of many callers.
 *
 * Urgent records are written as soon as the previous segment is. Records that may follow later wait a moment for others
 * to share their segment, or go with the next urgent ones.
 */
import { toBody } from "../contract/body.ts";
import { toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Runtime } from "../contract/runtime.ts";
import { noteSegment } from "./member.ts";
import type { Member } from "./member.ts";
import { withLateMarks } from "./record.ts";
import type { ObjectRecord, PoolRecord, StoreRecord, WriterRecord } from "./record.ts";
import { countRecords, encodeSegment, segmentName } from "./segment.ts";
import type { Records } from "./segment.ts";
import type { LedgerState } from "./state.ts";

/** Each store's answer to a segment: undefined, or the error. */
export type Appended = ReadonlyMap<Member, Promise<HoldfastError | undefined>>;

interface Batch {
  readonly objects: ObjectRecord[];
  readonly stores: StoreRecord[];
  readonly pools: PoolRecord[];
  readonly writers: WriterRecord[];
  /** The records in this batch that no caller waits for. */
  readonly later: ObjectRecord[];
  readonly outcome: Map<
    Member,
    { promise: Promise<HoldfastError | undefined>; resolve: (error: HoldfastError | undefined) => void }
  >;
}

const MAX_BATCH_RECORDS = 1000;
/** This many records of recently written segments are kept in memory, for merging them. */
const RECENT_RECORDS = 20_000;

export interface SegmentWriterOptions {
  readonly runtime: Runtime;
  /** See `LedgerOptions.laterMs`. */
  readonly laterMs: number;
  /** Called when a written segment had records of stores, the pool or writers. */
  readonly onStores: () => void;
}

export class SegmentWriter {
  readonly #ledger: LedgerState;
  readonly #runtime: Runtime;
  readonly #laterMs: number;
  readonly #onStores: () => void;
  /** The batch that takes the next records. It is not in the queue while all of its records may follow later. */
  #batch: Batch | undefined;
  readonly #queue: Batch[] = [];
  #flushing: Promise<void> | undefined;
  /** Ends the waiting time of records that may follow later. */
  #waiting: AbortController | undefined;
  #hasWritten = false;
  /** The records of the segments that were written last. */
  readonly #recent = new Map<string, Records>();

  constructor(ledger: LedgerState, { runtime, laterMs, onStores }: SegmentWriterOptions) {
    this.#ledger = ledger;
    this.#runtime = runtime;
    this.#laterMs = laterMs;
    this.#onStores = onStores;
  }

  /** Whether this process has written to the ledger. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  /** The records of a segment that this process wrote, if they are still in memory. */
  recent(name: string): Records | undefined {
    return this.#recent.get(name);
  }

  /** Forgets the records of a segment that was removed. */
  forget(name: string): void {
    this.#recent.delete(name);
  }

  /**
   * Makes records durable. Returns a promise of the result for each store of the pool. The index gets the records once
   * one store has them. Callers that arrive while a segment is being written share the next one.
   */
  append(records: Partial<Records>): Appended {
    const batch = this.#gathering();
    batch.objects.push(...(records.objects ?? []));
    batch.stores.push(...(records.stores ?? []));
    batch.pools.push(...(records.pools ?? []));
    batch.writers.push(...(records.writers ?? []));
    this.#submit();
    return new Map([...batch.outcome].map(([member, { promise }]) => [member, promise]));
  }

  /** Like `append`, for records whose absence costs only time. They wait a moment for others to share their segment. */
  appendLater(records: readonly ObjectRecord[]): void {
    const batch = this.#gathering();
    batch.objects.push(...records);
    batch.later.push(...records);
    // The next change of the name must know of a request that may still take effect, even before the record is written.
    const open = records.flatMap((record) => withLateMarks(record) ?? []);
    if (open.length > 0) this.#ledger.noteBegun(open);
    this.#submitLater();
  }

  /** The batch that takes the next records. */
  #gathering(): Batch {
    if (sizeOf(this.#batch) >= MAX_BATCH_RECORDS) this.#submit();
    if (this.#batch === undefined || sizeOf(this.#batch) >= MAX_BATCH_RECORDS)
      this.#batch = newBatch(this.#ledger.members);
    return this.#batch;
  }

  /**
   * Writes the gathered records as soon as the batches before them are written. Until then other records may join them.
   */
  #submit(): void {
    this.#waiting?.abort();
    this.#waiting = undefined;
    if (this.#batch !== undefined && this.#queue.at(-1) !== this.#batch) this.#queue.push(this.#batch);
    this.#flushing ??= this.#flush();
  }

  #submitLater(): void {
    if (this.#waiting !== undefined || this.#queue.at(-1) === this.#batch) return;
    const waiting = new AbortController();
    this.#waiting = waiting;
    this.#runtime.sleep(this.#laterMs, waiting.signal).then(
      () => this.#submit(),
      () => undefined,
    );
  }

  async #flush(): Promise<void> {
    // Callers in the same turn of the event loop join the first batch.
    await Promise.resolve();
    for (let batch = this.#queue.shift(); batch !== undefined; batch = this.#queue.shift()) {
      if (batch === this.#batch) this.#batch = undefined;
      await this.#write(batch);
    }
    // In the same turn in which the queue was found empty, so that the next append starts a new run.
    this.#flushing = undefined;
  }

  async #write(batch: Batch): Promise<void> {
    const at = this.#ledger.clock.next();
    const { objects, stores, pools, writers } = batch;
    const name = segmentName(0, at, sizeOf(batch));
    const usable = this.#ledger.members.filter((member) => member.ready);
    for (const [member, { resolve }] of batch.outcome) if (!usable.includes(member)) resolve(member.trouble());
    if (usable.length === 0 || this.#ledger.pool === undefined) return this.#keep(batch.later);
    const bytes = encodeSegment({ pool: this.#ledger.pool, replaces: [], stores, pools, writers, objects });
    this.#ledger.noteSent(objects);
    let learned = false;
    const awaited: Promise<void>[] = [];
    for (const member of usable) {
      // A caller that needs the record on this store waits for its answer. The next segment does not wait for it.
      const isSlow = member.appending > 0 || member.slow;
      member.appending++;
      const written = member.store
        .put(name, toBody(bytes))
        .then(() => {
          if (!learned) {
            learned = true;
            this.#hasWritten = true;
            this.#keepRecent(name, { objects, stores, pools, writers });
            this.#ledger.noteWritten(name, objects);
            // The wall clock may be set back before the next run.
            this.#ledger.index.apply({ objects, stores, pools, writers, segment: name, facts: [["clock", at]] });
            if (stores.length + pools.length + writers.length > 0) this.#onStores();
            // If other stores are silent, this machine may soon be the only one that knows the record.
            if (usable.length < this.#ledger.members.length) this.#ledger.index.sync();
          }
          noteSegment(member, name);
          return undefined;
        })
        .catch((error: unknown) =>
          toHoldfastError(error, "unavailable").within({ store: member.label, operation: "put" }),
        )
        .then((error) => {
          if (error !== undefined) this.#ledger.index.sync();
          member.appending--;
          batch.outcome.get(member)?.resolve(error);
          return undefined;
        });
      if (!isSlow) awaited.push(written);
    }
    await Promise.all(awaited);
    if (!learned) this.#keep(batch.later);
  }

  /** No store took these records, which no caller waits for. They go with the next batch. */
  #keep(later: readonly ObjectRecord[]): void {
    if (later.length === 0) return;
    this.#batch ??= newBatch(this.#ledger.members);
    this.#batch.objects.push(...later);
    this.#batch.later.push(...later);
  }

  #keepRecent(name: string, records: Records): void {
    this.#recent.set(name, records);
    let kept = 0;
    for (const one of this.#recent.values()) kept += one.objects.length;
    for (const [oldest, { objects }] of this.#recent) {
      if (kept <= RECENT_RECORDS) break;
      kept -= objects.length;
      this.#recent.delete(oldest);
    }
  }

  /** Resolves when everything appended so far has been written or has failed. */
  async flushed(): Promise<void> {
    if (sizeOf(this.#batch) > 0) this.#submit();
    while (this.#flushing !== undefined) await this.#flushing;
  }
}

function newBatch(members: readonly Member[]): Batch {
  const outcome: Batch["outcome"] = new Map(members.map((member) => [member, withResolvers()]));
  return { objects: [], stores: [], pools: [], writers: [], later: [], outcome };
}

function sizeOf(batch: Batch | undefined): number {
  return batch === undefined ? 0 : countRecords(batch);
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
