/**
 * Finds outdated stores: restored from an image or a snapshot, or replaced by an older disk.
 *
 * A store that holds a version has the record of it in its own ledger: a put does not count where its record is missing.
 * So if other stores' ledgers say that a store holds or deleted a copy, and its own ledger does not, the store is outdated
 * in that name. The segments alone show this, without a look at any object.
 */
import { toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Version } from "./hybrid-clock.ts";
import type { Ledger } from "./ledger.ts";
import type { Member } from "./member.ts";
import { currentRecord, isPut } from "./record.ts";
import type { CopyMark, ObjectRecord } from "./record.ts";

/** For each outdated member, the names whose marks its own ledger lacks. */
export type Outdated = ReadonlyMap<Member, ReadonlySet<string>>;

/**
 * Reads only the segments in which the stores differ. Call `hear` before. Rejects if a store that was heard then does
 * not answer any more. `isWanted`: whether an object should be on a store, whatever its record says.
 */
export async function findOutdated(
  ledger: Ledger,
  isWanted: (name: string, member: Member) => boolean,
): Promise<Outdated> {
  const outdated = new Map<Member, Set<string>>();
  for (const { member, missing, surplus } of ledger.ledgerGaps()) {
    // A store that was not filled yet is judged by the objects that it should hold.
    if (missing.length === 0 || !ledger.vouches(member)) continue;
    const said = new Map<string, Version>();
    for (const name of missing) {
      for (const record of await recordsOf(ledger, name, member)) noteSaid(ledger, member, record, isWanted, said);
    }
    if (said.size === 0) continue;
    // It may still have the segments from before a merge.
    for (const name of surplus) {
      const segment = await ledger.fetchSegment(member, name).catch(() => undefined);
      for (const record of segment?.objects ?? []) {
        if (said.get(record.name) === ledger.markOf(record, member)?.rev) said.delete(record.name);
      }
    }
    if (said.size > 0) outdated.set(member, new Set(said.keys()));
  }
  return outdated;
}

/**
 * The records of a segment, from a store that has it; none if it is damaged, because then they are unknown. Rejects if
 * no store that has it answers any more.
 */
async function recordsOf(ledger: Ledger, name: string, lacking: Member): Promise<readonly ObjectRecord[]> {
  let silence: HoldfastError | undefined;
  for (const member of ledger.members) {
    if (member === lacking || !member.ready || !member.segments.has(name)) continue;
    try {
      return (await ledger.fetchSegment(member, name)).objects;
    } catch (error) {
      const failure = toHoldfastError(error, "unavailable");
      if (failure.retryable) silence = failure;
    }
  }
  if (silence !== undefined) throw silence;
  return [];
}

/** Notes a record's mark of a store, or that the store should have the object, if the current record still says so. */
function noteSaid(
  ledger: Ledger,
  member: Member,
  record: ObjectRecord,
  isWanted: (name: string, member: Member) => boolean,
  said: Map<string, Version>,
): void {
  const current = currentRecord(ledger.index.get(record.name));
  if (current === undefined || current.version !== record.version) return;
  const mark = ledger.markOf(record, member);
  const now: CopyMark | undefined = ledger.markOf(current, member);
  const isDone = mark?.state === "holds" || mark?.state === "none";
  if (isDone && mark.rev === now?.rev) said.set(record.name, mark.rev);
  // The store was not in the pool's file when the object was put.
  if (now === undefined && isPut(current) && isWanted(record.name, member)) said.set(record.name, current.version);
}
