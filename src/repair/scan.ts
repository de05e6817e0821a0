/** Scan: looks at every object on every store, and gathers the facts. Changes nothing. */
import { ContentDigest } from "../ledger/digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Member } from "../ledger/member.ts";
import type { Outdated } from "../ledger/outdated.ts";
import { currentRecord, isPut, writerOf } from "../ledger/record.ts";
import type { Content, NameState } from "../ledger/record.ts";
import { listMember, mergeLists } from "../pool/merge-lists.ts";
import type { Listed } from "../pool/merge-lists.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { compareNames, isReserved } from "../contract/names.ts";
import { joinChunks } from "../support/parts.ts";
import { assess, contentOf, matches } from "./assess.ts";
import { sameVersions } from "./claim.ts";
import type { AssessInput, Assessment, CopyFact } from "./assess.ts";

export interface ScanScope {
  readonly prefix: string;
  /** Only names behind this one. */
  readonly after?: string | undefined;
  /** Compare sizes and the stores' own digests instead of reading. */
  readonly quick: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Keep the bytes of a small copy if another store lacks it, so that it can be copied there. Default false. */
  readonly keep?: boolean | undefined;
  /** The names in which stores are outdated, so that their copies have to be read. Default none. */
  readonly outdated?: Outdated | undefined;
  /** Stripe: chooses the one of several good copies that stays. Default: all stay. */
  readonly keepOne?: AssessInput["keepOne"];
  /** Whether the stores' copies of a lost object are accepted as the object. Default false. */
  readonly trustStores?: boolean | undefined;
}

/** How often an object is looked at again because it was changed meanwhile. */
const ROUNDS = 3;
/** Copies up to this size in bytes are kept with `keep`. */
const KEPT_BYTES = 1024 * 1024;

/** A name to be looked at, with its entries in the stores' listings. */
export interface ScanItem {
  readonly name: string;
  readonly state: NameState | undefined;
  readonly listed: ReadonlyMap<Member, Listed | undefined>;
}

/** All names on any store or in the ledger. Members whose listing fails are added to `unheard`. */
export async function* scanNames(
  pool: PoolContext,
  scope: ScanScope,
  unheard: Map<Member, HoldfastError>,
): AsyncGenerator<ScanItem> {
  for (const member of pool.ledger.members) if (!member.readable) unheard.set(member, member.trouble());
  const heard = pool.ledger.members.filter((member) => member.readable);
  const { signal, after } = scope;
  const lists = heard.map((member) =>
    // Only a quick scan needs sizes from the listings. Otherwise the copies are read anyway.
    listMember(member, !scope.quick, scope.prefix, { signal, after }, (error) => unheard.set(member, error)),
  );
  const known = pool.ledger.index.iterate(scope.prefix, after);
  for await (const batch of mergeLists(lists, known)) {
    for (const { name, state, all } of batch) {
      throwIfAborted(signal);
      if (isReserved(name) && !name.startsWith(".holdfast/above/")) continue;
      if (after !== undefined && compareNames(name, after) <= 0) continue;
      yield { name, state, listed: new Map(heard.map((member, place) => [member, all[place]])) };
    }
  }
}

export interface Inspected {
  readonly assessment: Assessment;
  readonly state: NameState | undefined;
  readonly copies: number;
  readonly bytes: number;
  /** Stores that could not be asked about this object. */
  readonly silent: readonly Member[];
  /** The bytes of the plan's content, if they were kept. */
  readonly kept: Uint8Array | undefined;
}

/**
 * Looks at one object on every store and assesses it. Looks again if the object was changed meanwhile, because facts
 * from two moments do not belong together.
 */
export async function inspect(
  pool: PoolContext,
  item: Pick<ScanItem, "name" | "state"> & { readonly listed?: ScanItem["listed"] | undefined },
  scope: Pick<ScanScope, "quick" | "signal" | "keep" | "outdated" | "keepOne" | "trustStores">,
  unheard: ReadonlyMap<Member, HoldfastError>,
): Promise<Inspected> {
  let { state, listed } = item;
  let { quick } = scope;
  let hearings = 0;
  let facts: ReadonlyMap<Member, CopyFact> = new Map();
  const lookAnew = (now: NameState | undefined): void => {
    state = now;
    // The facts and the listing are from an earlier moment.
    facts = new Map();
    listed = undefined;
  };
  for (let round = 0; ; round++) {
    facts = await gather(pool, item.name, state, listed, { ...scope, quick }, unheard, facts);
    const now = pool.ledger.index.get(item.name);
    if (round < ROUNDS && state !== now && !sameVersions(state, now)) {
      lookAnew(now);
      continue;
    }
    const assessment = assess({
      ...inputOf(pool, item.name, state, facts),
      keepOne: scope.keepOne,
      trustStores: scope.trustStores,
    });
    // Sizes do not prove that the copies elsewhere are good, so all copies are read before one is deleted.
    if (quick && (assessment.plan?.deleteFrom.length ?? 0) > 0) {
      quick = false;
      facts = new Map();
      continue;
    }
    // Another machine may have written since the last hearing, and a store may have been unmounted for a moment while it
    // was asked. So the stores are heard and asked again before anything is called wrong, and once more before an object
    // is called lost.
    const isLost = assessment.findings.some(({ kind }) => kind === "lost");
    if (hearings === 0 ? assessment.findings.length > 0 : hearings === 1 && isLost) {
      hearings++;
      await pool.ledger.hear();
      const heard = pool.ledger.index.get(item.name);
      if (!sameVersions(heard, state)) {
        lookAnew(heard);
        continue;
      }
      const doubted = assessment.findings.flatMap(({ member }) => member ?? []);
      const sure = [...facts].filter(([member]) =>
        hearings === 1 ? !isLost && !doubted.includes(member) : member.readable,
      );
      if (sure.length < facts.size) {
        facts = new Map(sure);
        listed = undefined;
        continue;
      }
    }
    // An object that this process is writing is looked at after the write. Repair holds the name, and need not wait.
    const lock = assessment.plan === undefined && isOpen(pool, state) ? pool.lockOf(item.name) : undefined;
    if (lock !== undefined && !pool.isHeld(item.name) && round < ROUNDS) {
      await lock;
      lookAnew(pool.ledger.index.get(item.name));
      continue;
    }
    return { assessment, state, ...totalsOf(facts), kept: keptBytes(facts, assessment) };
  }
}

function totalsOf(facts: ReadonlyMap<Member, CopyFact>): Pick<Inspected, "copies" | "bytes" | "silent"> {
  let copies = 0;
  let bytes = 0;
  const silent: Member[] = [];
  for (const [member, fact] of facts) {
    if (fact.kind === "content") bytes += fact.content.size;
    if (fact.kind === "content" || fact.kind === "size") copies++;
    if (fact.kind === "unheard") silent.push(member);
  }
  return { copies, bytes, silent };
}

/** Whether this process has begun a change of the name and not finished it. */
function isOpen(pool: PoolContext, state: NameState | undefined): boolean {
  return state?.records.some((record) => record.kind === "intent" && writerOf(record) === pool.ledger.writer) ?? false;
}

function inputOf(
  pool: PoolContext,
  name: string,
  state: NameState | undefined,
  facts: ReadonlyMap<Member, CopyFact>,
): AssessInput {
  const { ledger } = pool;
  return {
    name,
    state,
    facts,
    mode: pool.modeFor(name),
    targets: pool.targets(name),
    isDead: (intent) => pool.isDead(intent),
    markOf: (record, member) => ledger.markOf(record, member),
    mayChange: (member) => pool.mayChange(member, state),
    hasOwnFiles: (member) => ledger.storeOf(member)?.state === "joining" && !ledger.isCensused(member),
    absent: ledger.absentees
      .filter(({ id }) => (state?.records ?? []).some((record) => (record.copies[id]?.state ?? "none") !== "none"))
      .map(({ label }) => label),
  };
}

function keptBytes(facts: ReadonlyMap<Member, CopyFact>, { plan }: Assessment): Uint8Array | undefined {
  const wanted = plan === undefined ? undefined : contentOf(plan);
  if (wanted === undefined) return undefined;
  for (const fact of facts.values())
    if (fact.kind === "content" && matches(fact, wanted) && fact.bytes) return fact.bytes;
  return undefined;
}

async function gather(
  pool: PoolContext,
  name: string,
  state: NameState | undefined,
  listed: ScanItem["listed"] | undefined,
  scope: Pick<ScanScope, "quick" | "signal" | "keep" | "outdated">,
  unheard: ReadonlyMap<Member, HoldfastError>,
  /** Facts that need not be gathered. */
  known: ReadonlyMap<Member, CopyFact>,
): Promise<ReadonlyMap<Member, CopyFact>> {
  const present = pool.ledger.members.filter((member) => listed === undefined || listed.get(member) !== undefined);
  // It is enough to keep the bytes of one copy.
  const kept = scope.keep === true && present.length < pool.ledger.members.length ? present[0] : undefined;
  const facts = await Promise.all(
    pool.ledger.members.map(async (member): Promise<readonly [Member, CopyFact]> => {
      const fact = known.get(member);
      if (fact !== undefined) return [member, fact];
      if (!member.readable || unheard.has(member)) return [member, { kind: "unheard" }];
      const info = listed?.get(member);
      // A listing may be older than the record, so a recorded holder is asked even if the listing lacks the name.
      const isHere = pool.ledger.holds(currentRecord(state), member);
      if (listed !== undefined && info === undefined && !isHere) return [member, { kind: "absent" }];
      // Without exactly one record, or without a confirmed copy, only the bytes can prove the copy.
      const isUnproven = scope.outdated?.get(member)?.has(name) === true;
      const quick = scope.quick && state?.records.length === 1 && isHere && !isUnproven;
      return [
        member,
        quick
          ? await glance(member, name, info, scope.signal)
          : await look(member, name, state, scope.signal, kept === member),
      ];
    }),
  );
  return new Map(facts);
}

/** A store's word about its copy, without reading the bytes. */
async function glance(
  member: Member,
  name: string,
  listed: Listed | undefined,
  signal: AbortSignal | undefined,
): Promise<CopyFact> {
  try {
    const info = typeof listed === "object" ? listed : await member.store.stat(name, { signal });
    const sha256 = info.digests?.sha256;
    return { kind: "size", size: info.size, ...(sha256 === undefined ? {} : { sha256 }) };
  } catch (error) {
    throwIfAborted(signal);
    return failedLook(error);
  }
}

/** The content of a store's copy, by all its bytes. */
async function look(
  member: Member,
  name: string,
  state: NameState | undefined,
  signal: AbortSignal | undefined,
  keep: boolean,
): Promise<CopyFact> {
  try {
    const content = keep ? undefined : await recordedContent(member, name, state, signal);
    if (content !== undefined) return { kind: "content", content };
    const { info, body } = await member.store.get(name, { signal });
    const digest = new ContentDigest(info.size);
    const kept: Uint8Array[] | undefined = keep && info.size <= KEPT_BYTES ? [] : undefined;
    for await (const chunk of body) {
      digest.update(chunk);
      kept?.push(chunk);
    }
    return { kind: "content", content: digest.finish(), ...(kept === undefined ? {} : { bytes: joinChunks(kept) }) };
  } catch (error) {
    throwIfAborted(signal);
    return failedLook(error);
  }
}

/** The recorded content of a store's copy, if the digest that the store computes of all its bytes is the same. */
async function recordedContent(
  { store }: Member,
  name: string,
  state: NameState | undefined,
  signal: AbortSignal | undefined,
): Promise<Content | undefined> {
  const puts = state?.records.filter(isPut) ?? [];
  if (store.hash === undefined || puts.length === 0) return undefined;
  const { size, sha256 } = await store.hash(name, { signal });
  return puts.find(({ content }) => content.size === size && content.sha256 === sha256)?.content;
}

function failedLook(error: unknown): CopyFact {
  const failure = toHoldfastError(error);
  if (failure.code === "not-found") return { kind: "absent" };
  // A store that stopped answering tells nothing about its copy. A store that answers with an error has a copy that it
  // cannot give.
  if (failure.retryable || failure.code === "unavailable") return { kind: "unheard" };
  return { kind: "unreadable", reason: failure.message, corrupt: failure.code === "corrupt" };
}
