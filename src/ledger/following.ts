/**
 * What others say of a name while this process changes it.
 *
 * The index shows what all records come to; a record that was superseded, or a mark that was replaced, leaves no trace
 * there. Who changes a name has to know that another one did so too, whatever came of it: so records of a name that is
 * followed are kept as they arrive.
 */
import { mergeRecord } from "./record.ts";
import type { NameState, ObjectRecord } from "./record.ts";

export class Following {
  readonly #end: () => void;
  #known: NameState | undefined;
  /** The same without what this process wrote, which makes history of what others say. */
  #foreign: NameState | undefined;
  #news: ObjectRecord[] = [];

  constructor(known: NameState | undefined, end: () => void) {
    this.#known = known;
    this.#foreign = known;
    this.#end = end;
  }

  /** Takes a record that another process wrote; one that says nothing new is none. */
  hear(record: ObjectRecord): void {
    const after = mergeRecord(this.#known, record);
    if (JSON.stringify(after) === JSON.stringify(this.#known)) return;
    this.#known = after;
    this.#foreign = mergeRecord(this.#foreign, record);
    this.#news.push(record);
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
