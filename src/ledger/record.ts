/**
 * Records: the ledger's knowledge of one name, and how the records of several writers merge.
 *
 * A name's state is a small set of records. Applying the same records in any order, any number of times, gives the same
 * state. Almost always the set holds one record. It holds more while an overwrite is under way (the former record and
 * the intent), and after machines wrote the same name at once (each one's record, until a later write that knows of them
 * supersedes them).
 */
import type { Mode } from "../contract/pool.ts";
import type { ObjectMetadata } from "../contract/store.ts";
import { lowestVersion, versionWriter } from "./hybrid-clock.ts";
import type { Version } from "./hybrid-clock.ts";

/** Identity of a store: 16 lower-case hexadecimal digits, kept on the store itself. */
export type StoreId = string;

/**
 * A store's state for one version of an object.
 * - `holds`: it has a confirmed copy.
 * - `copy`: it owes a copy, because it missed the write, or because its copy was found missing or wrong.
 * - `delete`: it owes a delete, because it may have a copy that should not be there.
 * - `none`: it was confirmed to have no copy, and needs none.
 */
export type CopyState = "holds" | "copy" | "delete" | "none";

export interface CopyMark {
  readonly state: CopyState;
  /** The version of the mark. Of two marks for the same store, the later one counts. */
  readonly rev: Version;
  /** The reason for the debt, in a word or two. */
  readonly reason?: string;
  /**
   * A request to the store ended without an answer and may still take effect; this is the version of the mark that
   * noted it. Until that request has certainly ended, the store's copy may still change.
   */
  readonly late?: Version;
}

/**
 * - `put`: the object has these bytes since this version.
 * - `delete`: it does not exist since this version (a tombstone).
 * - `intent`: a change was begun. The stores that it marks may have its bytes. It supersedes nothing.
 */
export type RecordKind = "put" | "delete" | "intent";

/** The size and digests that identify the bytes of a version. */
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
  /**
   * The highest version of this name that the writer knew; "" when it knew none. This record supersedes all versions up
   * to it.
   */
  readonly base: Version;
  readonly kind: RecordKind;
  /** Present for `put`. */
  readonly content?: Content;
  /** SHA-256 of the previous version, if known, so that verify can tell a stale copy from a damaged one. */
  readonly former?: string;
  readonly metadata?: ObjectMetadata;
  readonly copies: Readonly<Record<StoreId, CopyMark>>;
  /**
   * Intents, and older puts and deletes, that this record supersedes besides the versions up to `base`. This record's
   * `base` is at least as high as that of any put or delete among them.
   */
  readonly settles?: readonly Version[];
  /**
   * Writes that failed and were taken back. They count as never written. The record carries them for machines that
   * heard of one.
   */
  readonly undone?: readonly Version[];
  /** True for an intent of repair, which copies or deletes a recorded version and brings no new bytes. */
  readonly repair?: boolean;
}

export type PutRecord = ObjectRecord & { readonly kind: "put"; readonly content: Content };

/** Everything known of a name: at least one record, highest version first. */
export interface NameState {
  readonly records: readonly ObjectRecord[];
}

/** A store of the pool. The record with the highest `rev` counts; the addresses of all records are kept. */
export interface StoreRecord {
  readonly id: StoreId;
  readonly rev: Version;
  /**
   * Digests of the addresses under which machines know it, without credentials. A silent store, or one that is empty by
   * mistake, is recognised by them. The id of an `expected` store is made from its one address.
   */
  readonly addresses: readonly string[];
  /** The name that people know: its description, or its URL without credentials. */
  readonly label: string;
  /**
   * - `expected`: an address of the pool's file that was never reached. It takes the debts of the store that will be
   *   found there.
   * - `joining`: it has an identity. It may lack objects that it should hold, and records that the others have.
   * - `member`: it holds all objects that it should, except for its debts.
   * - `draining`: it is being emptied, and takes no new objects.
   * - `drained`: it was emptied. No object of the pool is on it alone.
   * - `removed`: it was given up, or has a new identity. If it comes back, it counts as a stranger.
   */
  readonly state: "expected" | "joining" | "member" | "draining" | "drained" | "removed";
  /**
   * Whether every object on it was recorded when this record was written: it was empty at first, or a repair saw all of
   * it.
   */
  readonly censused: boolean;
  /** Mirror: the store's prefixes: see `targetsOf`. Absent in records of format 1. */
  readonly prefixes?: readonly string[];
}

/** One epoch of the pool: its mode and policies. The record with the highest `rev` counts. */
export interface PoolRecord {
  readonly rev: Version;
  readonly mode: Mode;
  /** The least number of copies that a put needs. */
  readonly min: number;
  /** The least number of copies that every acknowledged put had, in this epoch and all before it. */
  readonly sure: number;
}

/** A machine that writes to the pool. Most of the stores have this record before the machine's first write. */
export interface WriterRecord {
  /** 8 hexadecimal digits. */
  readonly machine: string;
  readonly rev: Version;
}

export function isPut(record: ObjectRecord | undefined): record is PutRecord {
  return record?.kind === "put" && record.content !== undefined;
}

/** The current record: the highest version among puts and deletes; undefined while there are only intents. */
export function currentRecord(state: NameState | undefined): ObjectRecord | undefined {
  return state?.records.find((record) => record.kind !== "intent");
}

/** Writes that were begun and not finished. Intents of repair are left out, because they bring no new bytes. */
export function openIntents(state: NameState | undefined): readonly ObjectRecord[] {
  return state?.records.filter((record) => record.kind === "intent" && record.repair !== true) ?? [];
}

/**
 * Whether a store's copy that is not the finished version may come from an unfinished write. An intent names every
 * store that may have its bytes; on any other store the copy is stale or damaged.
 */
export function mayBeUnfinished(state: NameState | undefined, store: StoreId | undefined): boolean {
  if (currentRecord(state) === undefined || store === undefined) return true;
  return openIntents(state).some((intent) => intent.copies[store] !== undefined);
}

/**
 * Chooses, of stores whose copies may come from an unfinished write, those whose copies decide. An intent marks a store
 * that may still have an older copy as owing a delete. If other stores have copies, the copy of such a store decides
 * nothing.
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

/** Whether there is, beside the current record, another write that did not know of it, or one that is unfinished. */
export function isContested(state: NameState | undefined): boolean {
  if (state === undefined || state.records.length < 2 || currentRecord(state) === undefined) return false;
  return state.records.filter((record) => record.repair !== true).length > 1;
}

/** The highest version in a state; "" for none. A writer uses it as `base`. */
export function highestVersion(state: NameState | undefined): Version {
  return state?.records[0]?.version ?? "";
}

/** Whether every copy is where it should be, and no change is under way. */
export function isSettled(state: NameState): boolean {
  if (state.records.length !== 1) return false;
  const record = state.records[0];
  if (record === undefined || record.kind === "intent") return false;
  return Object.values(record.copies).every((mark) => mark.state === "holds" || mark.state === "none");
}

/**
 * A record's latest mark of a store; undefined if it has none. `ids`: all ids of the store, its own first. Marks under
 * the id of its address count for the store too.
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
 * Whether a mark says that its store may be changed at this moment: by a request without an answer, by a delete of the
 * record whose end is not noted yet, or by a repair.
 */
export function isOpenAttempt(record: ObjectRecord, mark: CopyMark): boolean {
  if (mark.late !== undefined) return true;
  if (record.kind === "intent") return record.repair === true;
  return mark.state === "delete" && mark.reason === undefined;
}

/** The record with only the marks of late requests; undefined if there are none. */
export function withLateMarks(record: ObjectRecord): ObjectRecord | undefined {
  const late = Object.entries(record.copies).filter(([, mark]) => mark.late !== undefined);
  return late.length === 0 ? undefined : { ...record, copies: Object.fromEntries(late) };
}

/** The process that drew a record's version. */
export function writerOf(record: ObjectRecord): string {
  return versionWriter(record.version);
}

/**
 * A tombstone that takes back a writer's versions of a name of which nothing else is known, so that no other record can carry
 * the list. It is below every write: one that this writer has not heard of wins over it.
 */
export function takenBackTombstone(
  name: string,
  writer: string,
  undone: readonly Version[],
  copies: Readonly<Record<StoreId, CopyMark>>,
): ObjectRecord {
  return { name, version: lowestVersion(writer), base: "", kind: "delete", copies, undone: [...undone].sort() };
}

/** Adds one record to a state. Commutative, associative, idempotent. */
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
 * Keeps known which versions are history or were taken back, even when the record that said so is history itself: every
 * finished record carries the list, without the versions up to its base. Otherwise the order of merging would matter.
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

/** Whether `a` makes `b` history. Only finished writes supersede, because an intent's bytes may never arrive. */
function supersedes(a: ObjectRecord, b: ObjectRecord): boolean {
  if (a.kind === "intent" || a.version === b.version) return false;
  if (a.base >= b.version) return true;
  return (a.settles?.includes(b.version) ?? false) && (b.kind === "intent" || mayFollow(a, b));
}

/**
 * Whether a finished write can have been made over another one: its version is higher, and its writer knew at least as
 * much.
 */
function mayFollow(a: ObjectRecord, b: ObjectRecord): boolean {
  return a.kind !== "intent" && a.version > b.version && a.base >= b.base;
}

/** Merges two records of one version. The finished one has the content; of each store's marks, the later one counts. */
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

/**
 * A writer's clock never gives two equal revisions, but damaged segments might. Then the mark with a debt counts, so
 * that no debt is lost.
 */
function laterMark(a: CopyMark, b: CopyMark): boolean {
  if (a.rev !== b.rev) return a.rev > b.rev;
  if (a.state !== b.state) return weight(a) > weight(b);
  return (a.reason ?? "") > (b.reason ?? "");
}

function weight(mark: CopyMark): number {
  return ["none", "holds", "copy", "delete"].indexOf(mark.state);
}

/** Merges two records of a store. */
export function mergeStoreRecord(known: StoreRecord | undefined, record: StoreRecord): StoreRecord {
  if (known === undefined) return record;
  const addresses = [...new Set([...known.addresses, ...record.addresses])].sort();
  return { ...(record.rev > known.rev ? record : known), addresses };
}

/** Merges two records of the pool. */
export function mergePoolRecord(known: PoolRecord | undefined, record: PoolRecord): PoolRecord {
  return known === undefined || record.rev > known.rev ? record : known;
}
