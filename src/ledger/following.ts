/**
 * What others say of a name while this process changes it.
 *
 * The index shows what all records come to; a record that was superseded, or a mark that was replaced, leaves no trace
 * there. Who changes a name has to know that another one did so too, whatever came of it: so records of a name that is
 * followed are kept as they arrive.
 */
import { mergeRecord } from "./record.ts";
import type { Version } from "./hybrid-clock.ts";
import type { NameState, ObjectRecord } from "./record.ts";

export class Following {
  readonly #end: () => void;
  #known: NameState | undefined;
  /** The same without what this process wrote, which makes history of what others say. */
  #foreign: NameState | undefined;
  /** Each version that others wrote, by all that was said of it. */
  readonly #versions = new Map<Version, ObjectRecord>();
  #news: ObjectRecord[] = [];

  constructor(known: NameState | undefined, end: () => void) {
    this.#known = known;
    this.#foreign = known;
    this.#end = end;
    for (const record of known?.records ?? []) this.#versions.set(record.version, record);
  }

  /** Takes a record that another process wrote; one that says nothing new is none. */
  hear(record: ObjectRecord): void {
    const after = mergeRecord(this.#known, record);
    const isSaidAnew = this.#hearVersion(record);
    if (!isSaidAnew && JSON.stringify(after) === JSON.stringify(this.#known)) return;
    this.#known = after;
    this.#foreign = mergeRecord(this.#foreign, record);
    this.#news.push(record);
  }

  /** Whether more is said of a version that was heard of before: its writer may have learnt of this one's meanwhile. */
  #hearVersion(record: ObjectRecord): boolean {
    const before = this.#versions.get(record.version);
    const [after = record] = mergeRecord(before && { records: [before] }, record).records;
    this.#versions.set(record.version, after);
    return before !== undefined && JSON.stringify(after) !== JSON.stringify(before);
  }

  /** Takes a record that this process wrote: what another one merged it into says nothing new. */
  note(record: ObjectRecord): void {
    this.#known = mergeRecord(this.#known, record);
  }

  /** What came since the last time it was asked. */
  take(): readonly ObjectRecord[] {
    const news = this.#news;
    this.#news = [];
    return news;
  }

  /** What was known of the name, and what others have said of it since. */
  get foreign(): NameState | undefined {
    return this.#foreign;
  }

  end(): void {
    this.#end();
  }
}
