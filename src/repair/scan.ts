/** Scan: looks at every object on every store, and says of each what is there. Changes nothing. */
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
  /** Names behind this one only. */
  readonly after?: string | undefined;
  /** Compare sizes and the stores' own digests instead of reading. */
  readonly quick: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Keep the bytes of a small copy, where one is missing, for the copies that are to be made of it. Default false. */
  readonly keep?: boolean | undefined;
  /** What stores that went back in time cannot be believed of. Default none. */
  readonly outdated?: Outdated | undefined;
  /** Stripe: which of several good copies is to stay alone. Default: all stay. */
  readonly keepOne?: AssessInput["keepOne"];
  /** Of a lost object, what the stores have is taken for what it is. Default false. */
  readonly trustStores?: boolean | undefined;
}

/** How often an object is looked at again because it was changed meanwhile. */
const ROUNDS = 3;
/** Bytes of copies up to this size are kept where `keep` says so. */
const KEPT_BYTES = 1024 * 1024;

/** A name to be looked at, with what the stores' listings said of it. */
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
    // Copies that are read are looked at then; only a quick scan takes the listing's word for their sizes.
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
  /** The bytes of what the plan copies, where they were kept: their digest is that of the plan's content. */
  readonly kept: Uint8Array | undefined;
}

/**
 * Looks at one object on every store and says what is wrong. Looks again when the object was changed meanwhile: what was
 * seen of two moments is no fact.
 */
export async function inspect(
  pool: PoolContext,
  item: Pick<ScanItem, "name" | "state"> & { readonly listed?: ScanItem["listed"] | undefined },
  scope: Pick<ScanScope, "quick" | "signal" | "keep" | "outdated" | "keepOne" | "trustStores">,
  unheard: ReadonlyMap<Member, HoldfastError>,
): Promise<Inspected> {
  let { state, listed } = item;
  let { quick } = scope;
  let isHeard = false;
  for (let round = 0; ; round++) {
    const facts = await gather(pool, item.name, state, listed, { ...scope, quick }, unheard);
    const now = pool.ledger.index.get(item.name);
    if (round < ROUNDS && state !== now && !sameVersions(state, now)) {
      state = now;
      // The listing is of an earlier moment too.
      listed = undefined;
      continue;
    }
    const assessment = assess({
      ...inputOf(pool, item.name, state, facts),
      keepOne: scope.keepOne,
      trustStores: scope.trustStores,
    });
    // A size is not enough to take the copies elsewhere for good ones.
    if (quick && (assessment.plan?.deleteFrom.length ?? 0) > 0) {
      quick = false;
      continue;
    }
    // What another machine wrote since the stores were heard is no fault: nothing is called wrong before they are heard anew.
    if (assessment.findings.length > 0 && !isHeard) {
      isHeard = true;
      await pool.ledger.hear();
      if (!sameVersions(pool.ledger.index.get(item.name), state)) {
        state = pool.ledger.index.get(item.name);
        listed = undefined;
        continue;
      }
    }
    // What this process itself is writing is looked at when it is done. Repair holds the name, and need not wait.
    const lock = assessment.plan === undefined && isOpen(pool, state) ? pool.lockOf(item.name) : undefined;
    if (lock !== undefined && !pool.isHeld(item.name) && round < ROUNDS) {
      await lock;
      state = pool.ledger.index.get(item.name);
      listed = undefined;
      continue;
    }
    let copies = 0;
    let bytes = 0;
    for (const fact of facts.values()) {
      if (fact.kind === "content") bytes += fact.content.size;
      if (fact.kind === "content" || fact.kind === "size") copies++;
    }
    const silent = [...facts].filter(([, fact]) => fact.kind === "unheard").map(([member]) => member);
    return { assessment, state, copies, bytes, silent, kept: keptBytes(facts, assessment) };
  }
}

/** Whether a change of the name was begun and not finished. */
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
): Promise<ReadonlyMap<Member, CopyFact>> {
  const present = pool.ledger.members.filter((member) => listed === undefined || listed.get(member) !== undefined);
  // One that is read for its bytes will do.
  const kept = scope.keep === true && present.length < pool.ledger.members.length ? present[0] : undefined;
  const facts = await Promise.all(
    pool.ledger.members.map(async (member): Promise<readonly [Member, CopyFact]> => {
      if (!member.readable || unheard.has(member)) return [member, { kind: "unheard" }];
      const info = listed?.get(member);
      // A listing may be older than the record: what was put since its folder was read is not in it.
      const isHere = pool.ledger.holds(currentRecord(state), member);
      if (listed !== undefined && info === undefined && !isHere) return [member, { kind: "absent" }];
      // What has no record, or more than one, can only be told by its bytes; so can a copy that was owed.
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

/** What a store says of its copy. */
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

/** What a store's copy is. */
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

/** What a record says that a store's copy is, where the digest of all its bytes says the same. */
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
  // A store that stopped answering says nothing of its copy; one that answers with an error has a copy it cannot give.
  if (failure.retryable || failure.code === "unavailable") return { kind: "unheard" };
  return { kind: "unreadable", reason: failure.message, corrupt: failure.code === "corrupt" };
}
