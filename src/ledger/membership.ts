/**
 * Membership: decides which stores are the pool's. No other file does that. Pure, but for setting the members' states.
 *
 * The rules:
 * 1. Each store of the pool's file has one vote on which pool this is. The vote is its identity. For a silent or empty
 *    store it is the pool that this machine remembers at its address, else the pool whose ledger names the address. The
 *    pool with more than half of the votes is elected. Empty stores that neither knows have no vote.
 * 2. A store's identity decides which store it is, unless the ledger has given that identity up, or two stores have the
 *    same one.
 * 3. A silent store is recognised by its address. If it is not recognised, its debts are recorded under its address.
 * 4. An empty store is new only when every store that the ledger knows has told its identity. Otherwise it may stand in
 *    the place of one of those. It is not new either while a part of the ledger is unreadable, which may name more stores,
 *    or when this machine remembers another pool there.
 */
import type { HoldfastError } from "../contract/errors.ts";
import type { Identity } from "./identity.ts";
import { addressId } from "./member.ts";
import type { Member } from "./member.ts";
import type { StoreId, StoreRecord } from "./record.ts";

/** A store's answer: its identity (undefined: it has none) and its segments, or the error. */
export interface Answer {
  readonly identity?: Identity | undefined;
  readonly segments: Set<string>;
  readonly error?: HoldfastError;
  /** `identified` of the member when it was asked. */
  readonly asOf?: number;
}

/** The pool that a store at this address belonged to, as this machine remembers it. */
export type Remembered = (address: string) => string | undefined;

export interface Election {
  /** The pool with the most votes; of several with as many votes, the first in the pool's order. */
  readonly pool: string | undefined;
  /** Whether it has more than half of the votes. */
  readonly isSure: boolean;
}

/** Rule 1. `known`: a pool, and the store records of its ledger. */
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

/** Whether the store at a member's address was given up, and no other store is recorded in its place. */
export function isForgotten(member: Member, stores: readonly StoreRecord[]): boolean {
  const here = stores.filter((record) => isAt(record, member));
  return here.length > 0 && here.every(({ state }) => state === "removed" || state === "expected");
}

/** Stores of the ledger that were reached at least once and not given up. */
export function knownStores(stores: readonly StoreRecord[]): readonly StoreRecord[] {
  return stores.filter(({ state }) => state !== "expected" && state !== "removed");
}

/** The part of a pool's ledger that names its stores. */
export interface KnownPool {
  /** Undefined: no store has told yet which pool this is. */
  readonly pool: string | undefined;
  readonly stores: readonly StoreRecord[];
  /** Whether a part of the ledger could not be read from any store. */
  readonly isDamaged: boolean;
}

/** Rules 2 to 4: sets each member's state. `answers`: those of the members that were asked just now. */
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
    // A stranger in a store's place is treated as the store that should stand there.
    if (!member.ready) recognise(member, stores, taken);
    member.aliases = aliasesOf(member, stores);
  }
}

/** Two stores with one identity would count one copy as two. The one at a known address of that identity stays. */
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

/** Whether a store told its identity, but fell silent before its ledger was read. */
function isUnreadStore({ ready, isNamed, id }: Member, known: ReadonlyMap<StoreId, StoreRecord>): boolean {
  return !ready && isNamed && id !== undefined && !known.has(id);
}

/** Whether this machine remembers another pool at an empty store's address. */
function isOfAnother(member: Member, pool: string | undefined, remembered: Remembered): boolean {
  const before = rememberedPool(member, remembered);
  return before !== undefined && before !== pool;
}

function recognise(member: Member, stores: readonly StoreRecord[], taken: Set<StoreId | undefined>): void {
  // An identity that the store told itself counts more than its address.
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
