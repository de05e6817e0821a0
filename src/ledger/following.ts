/**
 * The records that others write of a name while this process changes it.
 *
 * The index has only the merged state: a superseded record or a replaced mark leaves no trace in it. But a process that
 * changes a name has to know of every other change, whatever its result. So the records of a followed name are kept as
 * they arrive.
 */
import { mergeRecord } from "./record.ts";
import type { Version } from "./hybrid-clock.ts";
import type { NameState, ObjectRecord } from "./record.ts";

export class Following {
  readonly #end: () => void;
  #known: NameState | undefined;
  /** The state without the records of this process, which make history of others' records. */
  #foreign: NameState | undefined;
  /** Each version that others wrote, with all that was recorded of it. */
  readonly #versions = new Map<Version, ObjectRecord>();
  #news: ObjectRecord[] = [];

  constructor(known: NameState | undefined, end: () => void) {
    this.#known = known;
    this.#foreign = known;
    this.#end = end;
    for (const record of known?.records ?? []) this.#versions.set(record.version, record);
  }

  /** Takes a record of another process. A record that says nothing new is ignored. */
  hear(record: ObjectRecord): void {
    const after = mergeRecord(this.#known, record);
    const isSaidAnew = this.#hearVersion(record);
    if (!isSaidAnew && JSON.stringify(after) === JSON.stringify(this.#known)) return;
    this.#known = after;
    this.#foreign = mergeRecord(this.#foreign, record);
    this.#news.push(record);
  }

  /**
   * Whether the record adds something to a version that was heard before. Its writer may have learnt of this process's
   * write meanwhile.
   */
  #hearVersion(record: ObjectRecord): boolean {
    const before = this.#versions.get(record.version);
    const [after = record] = mergeRecord(before && { records: [before] }, record).records;
    this.#versions.set(record.version, after);
    return before !== undefined && JSON.stringify(after) !== JSON.stringify(before);
  }

  /** Takes a record of this process, so that neither it nor a record into which another process merged it is anything new. */
  note(record: ObjectRecord): void {
    this.#known = mergeRecord(this.#known, record);
    this.#hearVersion(record);
  }

  /** The records that came since the last call. */
  take(): readonly ObjectRecord[] {
    const news = this.#news;
    this.#news = [];
    return news;
  }

  /** The state known at first, with others' records since then. */
  get foreign(): NameState | undefined {
    return this.#foreign;
  }

  end(): void {
    this.#end();
  }
}
