/**
 * Which stores have gone back in time: put back from an image or a snapshot, or replaced by an older disk.
 *
 * A store that holds a version has its record in its own ledger: a put that was not recorded there does not count. So what
 * the other stores' ledgers say that it holds, or has not, and its own does not say, is what it has lost or got back. That
 * is told by the segments alone, without a look at an object.
 */
import { toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Version } from "./hybrid-clock.ts";
import type { Ledger } from "./ledger.ts";
import type { Member } from "./member.ts";
import { currentRecord, isPut } from "./record.ts";
import type { CopyMark, ObjectRecord } from "./record.ts";

/** Names that members are recorded to hold, or to have nothing of, without knowing it themselves. */
export type Outdated = ReadonlyMap<Member, ReadonlySet<string>>;

/**
 * Reads the segments in which the stores differ; nothing where they do not. Needs what the last hearing brought. Rejects
 * where a store that was heard then does not answer any more.
 * `isWanted`: whether an object should be on a store, whatever its record says of it.
 */
export async function findOutdated(
  ledger: Ledger,
  isWanted: (name: string, member: Member) => boolean,
): Promise<Outdated> {
  const outdated = new Map<Member, Set<string>>();
  for (const { member, missing, surplus } of ledger.ledgerGaps()) {
    // One that was not filled yet is judged by what it should hold.
    if (missing.length === 0 || !ledger.vouches(member)) continue;
    const said = new Map<string, Version>();
    for (const name of missing) {
      for (const record of await recordsOf(ledger, name, member)) noteSaid(ledger, member, record, isWanted, said);
    }
    if (said.size === 0) continue;
    // Of what was merged since, it may have the segments from before.
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
 * The records of a segment, from a store that has it; none where it is damaged: then nothing is known of them. Rejects
 * where no store that has it answers any more.
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

/** Notes what a record says that a store has done, or should have been told, where that is still how things stand. */
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
  // It was no store of the pool's file when the object was put.
  if (now === undefined && isPut(current) && isWanted(record.name, member)) said.set(record.name, current.version);
}
