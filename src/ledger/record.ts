/**
 * Records: what the ledger knows of one name, and how what two writers know becomes one.
 *
 * A name's state is a small set of records that merges without regard to order: applying the same records in any order,
 * any number of times, gives the same state. Almost always the set holds one record. It holds more while an overwrite is
 * under way (the former record and the intent), and when machines wrote the same name at once (each one's record, until
 * a later write, which knows of them, supersedes them).
 */
import type { Mode } from "../contract/pool.ts";
import type { ObjectMetadata } from "../contract/store.ts";
import { versionWriter } from "./hybrid-clock.ts";
import type { Version } from "./hybrid-clock.ts";

/** Identity of a store: 16 lower-case hexadecimal digits, kept on the store itself. */
export type StoreId = string;

/**
 * What a store has to do with one version of an object.
 * - `holds`: it has a copy that was confirmed.
 * - `copy`: it owes a copy: it missed the write, or its copy was found missing or wrong.
 * - `delete`: it owes a delete: a copy may stand there that should not.
 * - `none`: it has no copy and needs none, confirmed.
 */
export type CopyState = "holds" | "copy" | "delete" | "none";

export interface CopyMark {
  readonly state: CopyState;
  /** When the mark was made; of two marks for the same store the later wins. */
  readonly rev: Version;
  /** Why it owes, in a word or two. */
  readonly reason?: string;
  /**
   * A request to the store that ended without an answer, by the mark that noted it, and may still take effect: what the
   * store is found to have before that request has certainly ended is not what it will have.
   */
  readonly late?: Version;
}

/**
 * - `put`: the object has these bytes since this version.
 * - `delete`: it does not exist since this version (a tombstone).
 * - `intent`: a change was begun; its bytes may stand on the stores it marks. Supersedes nothing.
 */
export type RecordKind = "put" | "delete" | "intent";

/** What identifies the bytes of a version. */
export interface Content {
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of the whole, lower-case hexadecimal. */
  readonly sha256: string;
  /** Bytes of a piece; the last one may be shorter. */
  readonly pieceBytes: number;
  /** XXH64 of each piece, 16 lower-case hexadecimal digits each; empty for an object of one piece. */
  readonly pieces: string;
}

export interface ObjectRecord {
  readonly name: string;
  readonly version: Version;
  /** The highest version of this name that the writer knew; "" when it knew none. This record supersedes up to there. */
  readonly base: Version;
  readonly kind: RecordKind;
  /** Present for `put`. */
  readonly content?: Content;
  /** SHA-256 of the version before, where known, so that verify can tell a stale copy from a damaged one. */
  readonly former?: string;
  readonly metadata?: ObjectMetadata;
  readonly copies: Readonly<Record<StoreId, CopyMark>>;
  /**
   * Intents, and older puts and deletes, that this record makes history besides those at or below `base`; which is no
   * lower than that of any put or delete among them.
   */
  readonly settles?: readonly Version[];
  /** Writes that failed and were taken back: they count as never written. A record carries them for whoever heard of one. */
  readonly undone?: readonly Version[];
  /** Of an intent: repair is about to copy or delete what is recorded already. It brings no bytes of its own. */
  readonly repair?: boolean;
}

export type PutRecord = ObjectRecord & { readonly kind: "put"; readonly content: Content };

/** All that is known of a name: at least one record, highest version first. */
export interface NameState {
  readonly records: readonly ObjectRecord[];
}

/** What is known of a store of the pool; the record with the highest `rev` wins, and what is known of addresses adds up. */
export interface StoreRecord {
  readonly id: StoreId;
  readonly rev: Version;
  /**
   * Digests of the addresses under which machines know it, without credentials: how a store that is down, or empty when
   * it should not be, is recognised. Of an `expected` store the id is made of its one address.
   */
  readonly addresses: readonly string[];
  /** What people call it: description or URL without credentials. */
  readonly label: string;
  /**
   * - `expected`: an address of the pool's file that was never reached; debts of whichever store turns out to be there.
   * - `joining`: has its identity; it is not known to hold what it should, nor to know what the others know.
   * - `member`: holds what it should but for its debts.
   * - `draining`: being emptied: takes no new objects.
   * - `drained`: emptied: nothing of the pool is on it alone.
   * - `removed`: given up for good, or replaced under a new identity. What it brings back is a stranger's.
   */
  readonly state: "expected" | "joining" | "member" | "draining" | "drained" | "removed";
  /** Every object on it was recorded when this was written (it was empty at first, or a repair saw it whole). */
  readonly censused: boolean;
  /** Mirror: only names with one of these prefixes go there. Empty: see `targetsOf`. Absent in records of format 1. */
  readonly prefixes?: readonly string[];
}

/** What the pool is: an epoch of it. The record with the highest `rev` holds. */
export interface PoolRecord {
  readonly rev: Version;
  readonly mode: Mode;
  /** Copies that a put needs at least. */
  readonly min: number;
  /** Copies, at least, that every acknowledged put is known to have, in this epoch and all before it. */
  readonly sure: number;
}

/** A machine that writes to the pool: written on most of its stores before the machine's first write. */
export interface WriterRecord {
  /** 8 hexadecimal digits. */
  readonly machine: string;
  readonly rev: Version;
}

export function isPut(record: ObjectRecord | undefined): record is PutRecord {
  return record?.kind === "put" && record.content !== undefined;
}

/** The record that decides: the highest version among puts and deletes; undefined while there are only intents. */
export function currentRecord(state: NameState | undefined): ObjectRecord | undefined {
  return state?.records.find((record) => record.kind !== "intent");
}

/** Writes that were begun and not finished. Those of repair bring no bytes of their own. */
export function openIntents(state: NameState | undefined): readonly ObjectRecord[] {
  return state?.records.filter((record) => record.kind === "intent" && record.repair !== true) ?? [];
}

/**
 * Whether what stands on a store, and is no good copy of the finished version, can be what an unfinished write left. An
 * intent names every store that may have got its bytes; what any other one has is stale or damaged.
 */
export function mayBeUnfinished(state: NameState | undefined, store: StoreId | undefined): boolean {
  if (currentRecord(state) === undefined || store === undefined) return true;
  return openIntents(state).some((intent) => intent.copies[store] !== undefined);
}

/**
 * Of stores whose copies may be what an unfinished write left, those whose copies count. An intent marks a store that had
 * an older copy all the same as owing a delete: beside the copies of others, what is on it decides nothing.
 */
export function countingStores<T extends { readonly id: StoreId | undefined }>(
  state: NameState | undefined,
  present: readonly T[],
): readonly T[] {
  const intents = openIntents(state);
  if (currentRecord(state) === undefined) return present;
  const counting = present.filter(
    ({ id }) => id === undefined || intents.some((intent) => intent.copies[id]?.state === "copy"),
  );
  return counting.length > 0 ? counting : present;
}

/** Whether beside the current record another write stands that did not know of it, or one that was begun. */
export function isContested(state: NameState | undefined): boolean {
  if (state === undefined || state.records.length < 2 || currentRecord(state) === undefined) return false;
  return state.records.filter((record) => record.repair !== true).length > 1;
}

/** The highest version in a state; "" for none. What a writer gives as `base`. */
export function highestVersion(state: NameState | undefined): Version {
  return state?.records[0]?.version ?? "";
}

/** Whether every copy is where it should be, and nothing is under way. */
export function isSettled(state: NameState): boolean {
  if (state.records.length !== 1) return false;
  const record = state.records[0];
  if (record === undefined || record.kind === "intent") return false;
  return Object.values(record.copies).every((mark) => mark.state === "holds" || mark.state === "none");
}

/**
 * What a store has to do with a record; undefined where nothing is said of it. `ids`: all by which it is known, its own
 * first. What was said of it and, at the same time, of an address where it turned out to be, is true of itself.
 */
export function markOf(record: ObjectRecord | undefined, ids: readonly StoreId[]): CopyMark | undefined {
  let found: CopyMark | undefined;
  if (record === undefined) return found;
  for (const id of ids) {
    const mark = record.copies[id];
    if (mark !== undefined && (found === undefined || mark.rev > found.rev)) found = mark;
  }
  return found;
}

/**
 * Whether a mark says that its store may be changed at this moment: by a request without an answer, by a delete that the
 * record began and whose end is not noted yet, or by a repair.
 */
export function isOpenAttempt(record: ObjectRecord, mark: CopyMark): boolean {
  if (mark.late !== undefined) return true;
  if (record.kind === "intent") return record.repair === true;
  return mark.state === "delete" && mark.reason === undefined;
}

/** Of what a record says of stores, the requests of which nobody knows the end; undefined: there are none. */
export function withLateMarks(record: ObjectRecord): ObjectRecord | undefined {
  const late = Object.entries(record.copies).filter(([, mark]) => mark.late !== undefined);
  return late.length === 0 ? undefined : { ...record, copies: Object.fromEntries(late) };
}

/** The process that drew a record's version. */
export function writerOf(record: ObjectRecord): string {
  return versionWriter(record.version);
}

/** Adds one record to what is known. Commutative, associative, idempotent. */
export function mergeRecord(state: NameState | undefined, record: ObjectRecord): NameState {
  const seen = [...(state?.records ?? []), record];
  const undone = new Set(seen.flatMap((one) => one.undone ?? []));
  const records = (state?.records ?? []).filter((known) => !undone.has(known.version));
  if (undone.has(record.version)) return { records };
  const same = records.find((known) => known.version === record.version);
  const joined = same === undefined ? record : joinVersions(same, record);
  const others = records.filter((known) => known !== same);
  const kept = others.filter((known) => !supersedes(joined, known));
  if (!others.some((known) => supersedes(known, joined))) kept.push(joined);
  kept.sort((a, b) => (a.version < b.version ? 1 : -1));
  return { records: keepSaid(kept, seen, undone) };
}

/**
 * That a version is history, or was taken back, stays known when the record that said so is history itself: every finished
 * record says it, but for what is history by its base anyway. Otherwise it would matter which of them came first.
 */
function keepSaid(
  kept: readonly ObjectRecord[],
  seen: readonly ObjectRecord[],
  undone: ReadonlySet<Version>,
): readonly ObjectRecord[] {
  if (undone.size === 0 && seen.every((record) => record.settles === undefined)) return kept;
  let base: Version = "";
  for (const record of kept) if (record.kind !== "intent" && record.base > base) base = record.base;
  const all = new Set(seen.flatMap((record) => record.settles ?? []));
  const above = (versions: ReadonlySet<Version>): readonly Version[] =>
    [...versions].filter((version) => version > base).sort();
  const settles = above(all);
  const takenBack = above(undone);
  const isHistory = (record: ObjectRecord): boolean =>
    all.has(record.version) && (record.kind === "intent" || kept.some((other) => mayFollow(other, record)));
  return kept
    .filter((record) => !isHistory(record))
    .map((record): ObjectRecord => {
      if (record.kind === "intent") return record;
      const { settles: _, undone: __, ...rest } = record;
      return {
        ...rest,
        ...(settles.length > 0 ? { settles } : {}),
        ...(takenBack.length > 0 ? { undone: takenBack } : {}),
      };
    });
}

/** Whether `a` makes `b` history. Only finished writes supersede: an intent's own bytes may never arrive. */
function supersedes(a: ObjectRecord, b: ObjectRecord): boolean {
  if (a.kind === "intent" || a.version === b.version) return false;
  if (a.base >= b.version) return true;
  return (a.settles?.includes(b.version) ?? false) && (b.kind === "intent" || mayFollow(a, b));
}

/** Whether a finished write can have been made over another one: it is above it, and knew what that one knew. */
function mayFollow(a: ObjectRecord, b: ObjectRecord): boolean {
  return a.kind !== "intent" && a.version > b.version && a.base >= b.base;
}

/** Two records of one version: a finished one knows the content; each store's later mark wins. */
function joinVersions(a: ObjectRecord, b: ObjectRecord): ObjectRecord {
  const first = a.kind === "intent" && b.kind !== "intent" ? b : a;
  const copies: Record<StoreId, CopyMark> = { ...a.copies };
  for (const [id, mark] of Object.entries(b.copies)) {
    const known = copies[id];
    if (known === undefined || laterMark(mark, known)) copies[id] = mark;
  }
  const settles = [...new Set([...(a.settles ?? []), ...(b.settles ?? [])])].sort();
  const base = a.base > b.base ? a.base : b.base;
  return { ...first, base, copies, ...(settles.length > 0 ? { settles } : {}) };
}

/** Ties (one writer's clock never gives them, damaged segments might) are broken by what is owed: never lose a debt. */
function laterMark(a: CopyMark, b: CopyMark): boolean {
  if (a.rev !== b.rev) return a.rev > b.rev;
  if (a.state !== b.state) return weight(a) > weight(b);
  return (a.reason ?? "") > (b.reason ?? "");
}

function weight(mark: CopyMark): number {
  return ["none", "holds", "copy", "delete"].indexOf(mark.state);
}

/** Merges knowledge of a store. */
export function mergeStoreRecord(known: StoreRecord | undefined, record: StoreRecord): StoreRecord {
  if (known === undefined) return record;
  const addresses = [...new Set([...known.addresses, ...record.addresses])].sort();
  return { ...(record.rev > known.rev ? record : known), addresses };
}

/** Merges knowledge of what the pool is. */
export function mergePoolRecord(known: PoolRecord | undefined, record: PoolRecord): PoolRecord {
  return known === undefined || record.rev > known.rev ? record : known;
}
