/**
 * Who the stores of a pool are: the one place that decides it. Pure but for the members, to which it says what they are.
 *
 * The rules:
 * 1. Each store of the pool's file has one vote on which pool this is: its own word; where it is silent or empty, what
 *    this machine remembers of its address; else the word of the pool's ledger, where it names the address. The pool is
 *    the one that more than half of the votes name. Stores that are empty, and of which nobody knows anything, have none.
 * 2. A store is what its identity says, unless the ledger has given that identity up, or two stores have the same one.
 * 3. A silent store is recognised by its address. One that nobody recognises owes what it misses to its address.
 * 4. An empty store is new only when every store that the ledger knows has said who it is: otherwise it may be the place
 *    where one of those should be. So it is while a part of the ledger could not be read, which may name others. Nor is it
 *    new where this machine remembers another pool there.
 */
import type { HoldfastError } from "../contract/errors.ts";
import type { Identity } from "./identity.ts";
import { addressId } from "./member.ts";
import type { Member } from "./member.ts";
import type { StoreId, StoreRecord } from "./record.ts";

/** What a store said of itself: its identity (undefined: it has none) and its segments, or why it said nothing. */
export interface Answer {
  readonly identity?: Identity | undefined;
  readonly segments: Set<string>;
  readonly error?: HoldfastError;
  /** `identified` of the member when it was asked. */
  readonly asOf?: number;
}

/** What this machine remembers: the pool that a store at this address belonged to. */
export type Remembered = (address: string) => string | undefined;

export interface Election {
  /** The pool with the most votes; the first of them in the pool's order where they are even. */
  readonly pool: string | undefined;
  /** More than half of the votes are for it. */
  readonly isSure: boolean;
}

/** Rule 1. `known`: what the ledger of the pool that is asked about says of its stores. */
export function electPool(
  answers: ReadonlyMap<Member, Pick<Answer, "identity" | "error">>,
  remembered: Remembered,
  known?: { readonly pool: string; readonly stores: readonly StoreRecord[] },
): Election {
  const votes = new Map<string, number>();
  let cast = 0;
  for (const [member, { identity, error }] of answers) {
    const vote =
      identity?.pool ??
      rememberedPool(member, remembered) ??
      (known !== undefined && error !== undefined && isKnown(member, known.stores) ? known.pool : undefined);
    if (vote !== undefined) votes.set(vote, (votes.get(vote) ?? 0) + 1);
    if (vote !== undefined || error !== undefined) cast++;
  }
  const [pool, count] = [...votes].sort((a, b) => b[1] - a[1])[0] ?? [];
  return { pool, isSure: count !== undefined && count * 2 > cast };
}

export function rememberedPool({ fingerprint }: Member, remembered: Remembered): string | undefined {
  return remembered(fingerprint);
}

function isKnown(member: Member, stores: readonly StoreRecord[]): boolean {
  return stores.some((record) => record.state !== "removed" && isAt(record, member));
}

function isAt({ addresses }: StoreRecord, member: Member): boolean {
  return addresses.some((address) => member.addresses.includes(address));
}

/** Whether the store at a member's address was given up, and none is known to have come in its place. */
export function isForgotten(member: Member, stores: readonly StoreRecord[]): boolean {
  const here = stores.filter((record) => isAt(record, member));
  return here.length > 0 && here.every(({ state }) => state === "removed" || state === "expected");
}

/** Stores of the ledger that have been reached and not been given up. */
export function knownStores(stores: readonly StoreRecord[]): readonly StoreRecord[] {
  return stores.filter(({ state }) => state !== "expected" && state !== "removed");
}

/** The ledger of a pool, as far as it tells who the pool's stores are. */
export interface KnownPool {
  /** Undefined: no store has said yet which pool this is. */
  readonly pool: string | undefined;
  readonly stores: readonly StoreRecord[];
  /** A part of it could not be read from any store. */
  readonly isDamaged: boolean;
}

/** Rules 2 to 4: says to each member what it is. `answers`: what those that were asked just now said. */
export function decideMembers(
  members: readonly Member[],
  answers: ReadonlyMap<Member, Answer>,
  { pool, stores, isDamaged }: KnownPool,
  remembered: Remembered,
): void {
  const byId = new Map(stores.map((record) => [record.id, record]));
  for (const [member, { identity, error }] of answers) {
    member.error = error;
    if (error !== undefined) member.state = "unreachable";
    else if (identity === undefined) member.state = "new";
    else {
      const isOurs = identity.pool === pool;
      member.id = identity.store;
      member.isNamed = true;
      member.state = !isOurs ? "foreign" : byId.get(identity.store)?.state === "removed" ? "removed" : "ready";
    }
  }
  markTwins(members, byId);
  const taken = new Set(members.filter((member) => member.ready).map(({ id }) => id));
  const isAnyMissed = knownStores(stores).some(({ id }) => !taken.has(id));
  const isUnread = isDamaged || members.some((member) => isUnreadStore(member, byId));
  for (const member of members) {
    if (member.state === "new" && (isAnyMissed || isUnread || isOfAnother(member, pool, remembered))) {
      member.state = "missing";
    }
    // A stranger in a store's place is known by what should stand there.
    if (!member.ready) recognise(member, stores, taken);
    member.aliases = aliasesOf(member, stores);
  }
}

/** Two that say they are the same store would count one copy as two: the one at an address known for it stays. */
function markTwins(members: readonly Member[], byId: ReadonlyMap<StoreId, StoreRecord>): void {
  const seen = new Map<StoreId, Member>();
  for (const member of members) {
    if (!member.ready || member.id === undefined) continue;
    const other = seen.get(member.id);
    const record = byId.get(member.id);
    const isFirst = other === undefined || (record !== undefined && isAt(record, member) && !isAt(record, other));
    if (other !== undefined) (isFirst ? other : member).state = "twin";
    if (isFirst) seen.set(member.id, member);
  }
}

/** Whether a store has said that it is one of the pool's, and fell silent before it told what it knows. */
function isUnreadStore({ ready, isNamed, id }: Member, known: ReadonlyMap<StoreId, StoreRecord>): boolean {
  return !ready && isNamed && id !== undefined && !known.has(id);
}

/** Whether this machine remembers another pool in the place of an empty store. */
function isOfAnother(member: Member, pool: string | undefined, remembered: Remembered): boolean {
  const before = rememberedPool(member, remembered);
  return before !== undefined && before !== pool;
}

function recognise(member: Member, stores: readonly StoreRecord[], taken: Set<StoreId | undefined>): void {
  // What it said of itself goes before what its address says.
  if (member.state === "unreachable" && member.isNamed && !taken.has(member.id)) {
    taken.add(member.id);
    return;
  }
  const [record] = knownStores(stores)
    .filter((one) => isAt(one, member) && !taken.has(one.id))
    .sort((a, b) => (a.rev < b.rev ? 1 : -1));
  member.id = record?.id;
  if (record !== undefined) taken.add(record.id);
}

function aliasesOf(member: Member, stores: readonly StoreRecord[]): readonly StoreId[] {
  return stores
    .filter((record) => record.state === "expected" && record.id !== member.id && isAliasOf(record, member))
    .map(({ id }) => id);
}

function isAliasOf(record: StoreRecord, member: Member): boolean {
  return isAt(record, member) || member.addresses.some((address) => addressId(address) === record.id);
}
