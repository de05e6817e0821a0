/**
 * The oracle: which values each name may have, given what callers were told.
 *
 * A write takes effect between its start and its end; one that failed, timed out or died may take effect later too,
 * until a later write that was acknowledged, or a read that saw everything, has decided. A write only makes history of
 * those that its writer could know of: a machine that reached nothing but stores that missed a write cannot.
 */

/** What a name has: bytes, as text, or nothing. */
export type Value = string | undefined;

export interface Write {
  readonly value: Value;
  /** Place in the order of events. */
  readonly start: number;
  end: number | undefined;
  acknowledged: boolean;
  /** Its process died before it ended. */
  hasDied?: boolean;
  /** The cache of the machine that wrote. */
  readonly cache: object;
  /** The process that wrote; undefined for what stood before, and for what a read decided. */
  readonly by: object | undefined;
  /** Every store was heard, and nothing failed, while it ran: it knew of everything that had ended before. */
  clean: boolean;
  /** No machine can have missed it: it was clean when it was written, whatever a read made of it since. */
  known: boolean;
  /** It was never acknowledged, and a read found it: no record says so. */
  found: boolean;
  /** It is in the ledger of every store: whoever wrote later, wherever, knew of it. */
  everywhere: boolean;
  /** Disks that had the value, by the answer. */
  holders: readonly string[];
}

export class NameModel {
  readonly name: string;
  /** The name had no value before the first write. */
  readonly writes: Write[] = [
    {
      value: undefined,
      start: -1,
      end: -1,
      acknowledged: true,
      cache: {},
      by: undefined,
      clean: true,
      known: true,
      found: false,
      everywhere: true,
      holders: [],
    },
  ];
  /** Every value that was ever put. */
  readonly ever = new Set<Value>([undefined]);
  /** Disks whose copy was damaged since the last acknowledged write. */
  readonly damaged = new Set<string>();
  /** Since when the name may be lost: see `mayLose`. */
  #lossAt: number | undefined;
  /** Since when nothing decides what the name is: see `taint`. */
  #taintedAt: number | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /**
   * From `now` on what was put may be nowhere: two processes wrote the name at one moment, and one of them died or failed
   * when its bytes were there and its record was not; or one of them deleted what the other one had put (stores have no
   * delete on a condition). It is an error to read it then, and never another value than one of those. A later write that
   * is acknowledged ends it.
   */
  mayLose(now: number): void {
    this.#lossAt = now;
  }

  /**
   * From `now` on anything that was ever there may be taken for the value, since nothing decides: a copy was damaged while
   * a write was not finished, or the only store that knew better went back in time. A later write that is acknowledged
   * ends it.
   */
  taint(now: number): void {
    this.#taintedAt = now;
  }

  get tainted(): boolean {
    return this.#isSince(this.#taintedAt);
  }

  get mayBeLost(): boolean {
    return this.tainted || this.#isSince(this.#lossAt);
  }

  #isSince(at: number | undefined): boolean {
    if (at === undefined) return false;
    return !this.writes.some((write) => write.acknowledged && write.clean && write.start > at);
  }

  begin(value: Value, now: number, cache: object, by?: object): Write {
    const write: Write = {
      value,
      start: now,
      end: undefined,
      acknowledged: false,
      cache,
      by,
      clean: false,
      known: false,
      found: false,
      everywhere: false,
      holders: [],
    };
    this.writes.push(write);
    this.ever.add(value);
    return write;
  }

  get busy(): boolean {
    return this.writes.some((write) => write.end === undefined);
  }

  /** Whether a write overlaps the time from `start` on. */
  changedSince(start: number): boolean {
    return this.writes.some((write) => write.end === undefined || write.end >= start || write.start >= start);
  }

  /** Writes whose value the name may have for an operation that ran from `start` to `end`. */
  legal(start: number, end: number): Write[] {
    return this.writes.filter(
      (write) =>
        write.start < end &&
        !this.writes.some(
          (later) =>
            later.acknowledged &&
            later.end !== undefined &&
            later.end < start &&
            write.end !== undefined &&
            later.start > write.end &&
            (later.clean || later.cache === write.cache || write.everywhere),
        ),
    );
  }

  /** A store lost what it was told: who hears that one alone may know of nothing. */
  forgetWhoKnows(): void {
    for (const write of this.writes) {
      write.known = false;
      write.everywhere = write.start < 0;
    }
  }

  /** A read that saw everything decides. */
  observe(value: Value, start: number, now: number): void {
    if (this.changedSince(start) || this.mayBeLost) return;
    const legal = this.legal(start, now);
    const seen = legal.find((write) => write.value === value);
    if (seen === undefined || legal.length === 1) return;
    const write = this.begin(value, start, {});
    write.end = now;
    write.acknowledged = true;
    write.clean = true;
    write.known = seen.known;
    write.everywhere = seen.everywhere;
    write.found = !seen.acknowledged || seen.found;
    // Of two that were acknowledged at once each may stand on some stores, and all of them are needed to tell.
    write.holders = legal.filter((one) => one.acknowledged).length === 1 && seen.acknowledged ? seen.holders : [];
  }
}
