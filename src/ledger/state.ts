/** What the parts of a ledger know of the whole of it: the ledger imports them, so that they cannot import it. */
import type { HybridClock } from "./hybrid-clock.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import type { Member } from "./member.ts";
import type { ObjectRecord, StoreRecord } from "./record.ts";
import type { Segment } from "./segment.ts";

export interface LedgerState {
  readonly members: readonly Member[];
  /** The pool's id; undefined while it is not known. */
  readonly pool: string | undefined;
  /** The index of the moment: it is made anew where one is lost. */
  readonly index: LedgerIndex;
  readonly clock: HybridClock;
  /** Stores of the pool that its file does not name. */
  readonly absentees: readonly StoreRecord[];
  /** One segment from one store, checked. */
  fetchSegment(member: Member, name: string): Promise<Segment>;
  /** A segment with these records stands on a store. */
  noteWritten(segment: string, objects: readonly ObjectRecord[]): void;
  /** The same of records that are yet to be written. */
  noteBegun(objects: readonly ObjectRecord[]): void;
}
