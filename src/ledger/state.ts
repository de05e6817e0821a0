/** The part of the ledger that its own parts may use. They cannot import the ledger, because it imports them. */
import type { HybridClock } from "./hybrid-clock.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import type { Member } from "./member.ts";
import type { ObjectRecord, StoreRecord } from "./record.ts";
import type { Segment } from "./segment.ts";

export interface LedgerState {
  readonly members: readonly Member[];
  /** The pool's id; undefined while it is not known. */
  readonly pool: string | undefined;
  /** The current index. A lost index is replaced by a new one. */
  readonly index: LedgerIndex;
  readonly clock: HybridClock;
  /** Stores of the pool that its file does not name. */
  readonly absentees: readonly StoreRecord[];
  /** One segment from one store, checked. */
  fetchSegment(member: Member, name: string): Promise<Segment>;
  /** Notes records of this process that are sent to the stores now. */
  noteSent(objects: readonly ObjectRecord[]): void;
  /** Notes that a store has a segment with these records. */
  noteWritten(segment: string, objects: readonly ObjectRecord[]): void;
  /** Notes records that are still to be written. */
  noteBegun(objects: readonly ObjectRecord[]): void;
}
