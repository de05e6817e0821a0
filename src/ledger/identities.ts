/**
 * Identities: decides whether this machine may write, and gives stores their identities. No other file does that.
 *
 * - A pool is made only when all of its stores answer, belong to no pool, and are not remembered by this machine; or
 *   when the user says so.
 * - A store joins a pool only when every store that the ledger knows told its identity in a hearing just before.
 * - A machine writes only after most of the stores have its writer record. So a machine that hears most of the stores
 *   knows every machine that ever wrote.
 */
import { toBody } from "../contract/body.ts";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import { isReserved } from "../contract/names.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Version } from "./hybrid-clock.ts";
import { formatIdentity, IDENTITY_NAME } from "./identity.ts";
import type { Identity } from "./identity.ts";
import { addressId } from "./member.ts";
import type { Member } from "./member.ts";
import { knownStores, rememberedPool } from "./membership.ts";
import type { Remembered } from "./membership.ts";
import { currentRecord, isPut } from "./record.ts";
import type { PoolRecord, StoreId, StoreRecord } from "./record.ts";
import type { Appended } from "./segment-writer.ts";
import type { Records } from "./segment.ts";
import type { LedgerState } from "./state.ts";

/** The part of the ledger that identities need. */
export interface IdentitiesLedger extends LedgerState {
  readonly machine: string;
  readonly epoch: Pick<PoolRecord, "mode" | "min" | "sure">;
  readonly staleMs: number;
  readonly completeness: string;
  hear(): Promise<void>;
  checkEpoch(): void;
  storeOf(member: Member): StoreRecord | undefined;
  isGivenUp(member: Member): boolean;
  nextRev(record: StoreRecord | undefined): Version;
  append(records: Records): Appended;
  noteComplete(completeness: string): void;
}

export interface IdentitiesOptions {
  readonly runtime: Runtime;
  readonly remembered: Remembered;
  readonly readIdentity: (member: Member) => Promise<Identity | undefined>;
  readonly adoptPool: (pool: string) => void;
}

/** How many times another process may be faster before this one gives up. */
const ROUNDS = 4;
/** In a pool without a pool record, this many objects are looked at to tell a mirror from a stripe. */
const SAMPLE = 20;
const REGISTERED_FACT = "registered";

export class Identities {
  readonly #ledger: IdentitiesLedger;
  readonly #options: IdentitiesOptions;
  /**
   * The id of the pool that this process may make. All attempts use the same one, because an attempt may take effect
   * late.
   */
  #newPool: string | undefined;
  #running: Promise<void> | undefined;

  constructor(ledger: IdentitiesLedger, options: IdentitiesOptions) {
    this.#ledger = ledger;
    this.#options = options;
  }

  // ----------------------------------------------------------------------------------- the file against the ledger

  /** Throws if it is not sure which pool the stores belong to, or if the pool's file contradicts the ledger. */
  check(declared: Pick<PoolRecord, "mode" | "min">, isSure: boolean): void {
    const { members, index, pool } = this.#ledger;
    if (pool === undefined) return;
    if (!isSure) throw this.#unsure();
    const recorded = index.pool();
    const mode = recorded?.mode ?? this.#inferredMode();
    if (mode !== undefined && mode !== declared.mode) {
      throw new HoldfastError(
        "config",
        `the pool is a ${mode}, and is opened as a ${declared.mode}: give mode=${mode} in its URL or file (to make it a ${declared.mode}, run: ${hint("rebalance", "--mode", declared.mode)})`,
      );
    }
    if (recorded !== undefined && recorded.mode === "mirror" && recorded.min !== declared.min) {
      throw new HoldfastError(
        "config",
        `the pool has min=${recorded.min}, and is opened with min=${declared.min}: give min=${recorded.min} in its URL or file (to change it, run: ${hint("rebalance", "--min", String(declared.min))})`,
      );
    }
    if (mode !== "mirror") return;
    for (const member of members) {
      // A silent store, or one in another's place, is known by its address.
      const { prefixes } = this.#ledger.storeOf(member) ?? {};
      if (prefixes === undefined || sameTexts(prefixes, member.prefixes)) continue;
      throw new HoldfastError(
        "config",
        `${member.label} has ${describePrefixes(prefixes)} in this pool, and ${describePrefixes(member.prefixes)} in the pool's file: change the file back, or the pool with: ${hint("rebalance", "--prefixes")}`,
        { store: member.label },
      );
    }
  }

  /**
   * A new machine may write only after most of the stores took its writer record. `outcomes`: each store's answer to
   * that record.
   */
  #tooFewToBegin(counting: readonly Member[], outcomes: ReadonlyMap<Member, HoldfastError | undefined>): HoldfastError {
    const silent = counting.filter((member) => !member.ready);
    const errors = counting.flatMap((member) => (member.ready ? (outcomes.get(member) ?? []) : member.trouble()));
    const { absentees } = this.#ledger;
    const failed = errors.map((error) => `${error.store ?? "a store"}: ${error.message}`);
    const unnamed = absentees.map(({ label }) => `${label}: the pool's file does not name it`);
    const gone = [...silent, ...absentees].map(({ label }) => hint("forget", label));
    return new HoldfastError(
      errors.find(({ code }) => code === "denied") === undefined ? "unavailable" : "denied",
      "this machine has not written to the pool before, and may begin only when most of the stores take its first record " +
        `(${[...failed, ...unnamed].join("; ")})` +
        (gone.length === 0 ? "" : `. For each store that is gone for good, run: ${gone.join("; ")}`),
      { errors, cause: errors[0] },
    );
  }

  #unsure(): HoldfastError {
    const silent = this.#ledger.members.filter((member) => member.state === "unreachable");
    const others = this.#ledger.members.filter((member) => member.state === "foreign");
    return new HoldfastError(
      others.length > 0 && silent.length === 0 ? "config" : "unavailable",
      `it is not certain which pool this is: its stores do not agree, or ${labels(silent) || "some"} did not answer and this machine does not remember them (if they are gone, take them out of the pool's file)`,
      { errors: silent.map((member) => member.trouble()), cause: silent[0]?.trouble() },
    );
  }

  /** The mode of a pool without a pool record, as far as its objects' records show it. */
  #inferredMode(): PoolRecord["mode"] | undefined {
    if (this.#ledger.members.length < 2) return undefined;
    let looked = 0;
    let single = 0;
    for (const [, state] of this.#ledger.index.iterate("")) {
      const current = currentRecord(state);
      if (!isPut(current)) continue;
      const wanted = Object.values(current.copies).filter((mark) => mark.state === "holds" || mark.state === "copy");
      if (wanted.length > 1) return "mirror";
      single++;
      if (++looked === SAMPLE) break;
    }
    // Few objects prove nothing: they may have been put while a mirror had a single store.
    return single > 3 ? "stripe" : undefined;
  }

  // ------------------------------------------------------------------------------------------------------- initialise

  /**
   * Makes sure that this machine may write: every store that answers has an identity, and the ledger knows the stores,
   * the pool and this machine. `isTold`: the user wants the pool made although some of its stores are silent.
   */
  async initialise(isTold: boolean): Promise<void> {
    // Another operation may have begun it before some of the stores answered.
    if (this.#running !== undefined) await this.#running.catch(() => undefined);
    if (this.#isDone()) return;
    this.#running ??= this.#run(isTold).finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  #isDone(): boolean {
    const { members, index } = this.#ledger;
    return (
      members.every((member) => this.#isKnown(member)) &&
      index.pool() !== undefined &&
      index.getFact(REGISTERED_FACT) === this.#ledger.machine
    );
  }

  /** Whether the ledger has all it needs to know of a member. */
  #isKnown(member: Member): boolean {
    if (member.state === "new") return false;
    if (!member.ready) return member.owingId !== undefined || member.state !== "unreachable";
    const record = this.#ledger.storeOf(member);
    return record !== undefined && record.prefixes !== undefined && record.addresses.includes(member.fingerprint);
  }

  async #run(isTold: boolean): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      // Identities are given only by a fresh hearing.
      await this.#ledger.hear();
      if (!(await this.#giveIdentities(isTold))) return;
    }
  }

  /** True: another process was faster on some store, and the stores have to be heard again. */
  async #giveIdentities(isTold: boolean): Promise<boolean> {
    const ledger = this.#ledger;
    const records: StoreRecord[] = [];
    let isNewPool = false;
    if (ledger.pool === undefined) {
      if (await this.#makePool(isTold, records)) return true;
      isNewPool = true;
    } else {
      ledger.checkEpoch();
      isNewPool = ledger.index.stores().length === 0;
    }
    const { pool } = ledger;
    if (pool === undefined) return false;
    const fresh = ledger.members.filter((member) => member.state === "new");
    const outrun = await Promise.all(fresh.map((member) => this.#tryJoin(member, pool, isNewPool, records)));
    if (outrun.includes(true)) return true;
    for (const member of ledger.members) {
      if (!this.#isKnown(member) && !records.some(({ id }) => id === member.id))
        records.push(...this.#told(member, isNewPool));
    }
    await this.#register(records, isTold && isNewPool);
    return false;
  }

  /**
   * Makes the pool on one store first. All processes that make it at once choose the same store. True: another process
   * was faster.
   */
  async #makePool(isTold: boolean, records: StoreRecord[]): Promise<boolean> {
    const { members } = this.#ledger;
    const fresh = members.filter((member) => member.state === "new");
    const others = members.filter((member) => member.state !== "new");
    const known = members.filter((member) => rememberedPool(member, this.#options.remembered) !== undefined);
    if (fresh.length === 0 || known.length > 0 || (others.length > 0 && !isTold)) {
      const silent = others.length > 0 ? others : known;
      throw new HoldfastError(
        "unavailable",
        `no store says which pool this is, and ${labels(silent)} ${others.length > 0 ? "did not answer" : "belonged to one before"}: the pool may exist already (to make a new one all the same, run: ${others.length > 0 ? hint("create") : hint("forget", "--whole-pool")})`,
        { errors: silent.map((member) => member.trouble()), cause: silent[0]?.trouble() },
      );
    }
    this.#newPool ??= this.#options.runtime.randomHex(16);
    for (const member of [...fresh].sort((a, b) => (a.fingerprint < b.fingerprint ? -1 : 1))) {
      if (await this.#tryJoin(member, this.#newPool, true, records)) return true;
      if (records.length === 0) continue;
      this.#options.adoptPool(this.#newPool);
      await this.#ledger.hear();
      return false;
    }
    const [first] = fresh;
    throw first?.trouble() ?? new HoldfastError("internal", "a pool without stores");
  }

  /** True: another process gave the store an identity at the same moment. */
  async #tryJoin(member: Member, pool: string, isNewPool: boolean, records: StoreRecord[]): Promise<boolean> {
    try {
      records.push(await this.#join(member, pool, isNewPool ? "member" : "joining"));
      return false;
    } catch (error) {
      const failure = toHoldfastError(error, "unavailable").within({ store: member.label, operation: "put" });
      if (failure.code === "conflict") return true;
      member.state = "unreachable";
      member.error = failure;
      return false;
    }
  }

  async #join(member: Member, pool: string, state: StoreRecord["state"]): Promise<StoreRecord> {
    const censused = await this.#isEmpty(member);
    member.intended ??= this.#options.runtime.randomHex(8);
    const { intended } = member;
    await this.#identify(member, pool, intended, member.store.capabilities.conditionalPut);
    member.intended = undefined;
    return this.#record(member, intended, state, censused);
  }

  /** Writes an identity and reads it back. The identity on the store counts, whichever process wrote it. */
  async #identify(member: Member, pool: string, store: StoreId, ifAbsent: boolean): Promise<void> {
    try {
      await member.store.put(IDENTITY_NAME, toBody(formatIdentity({ pool, store })), ifAbsent ? { ifAbsent } : {});
    } catch (error) {
      // Some stores, such as a folder without hard links, find out only at the first such put that they cannot do it.
      if (!ifAbsent || !isHoldfastError(error, "unsupported")) throw error;
      await this.#identify(member, pool, store, false);
      return;
    }
    const identity = await this.#options.readIdentity(member);
    if (identity?.pool !== pool || identity.store !== store) {
      throw new HoldfastError("conflict", `${member.label} was given an identity by another process at this moment`, {
        store: member.label,
      });
    }
    member.id = store;
    member.state = "ready";
    member.isNamed = true;
    member.identified++;
    member.error = undefined;
  }

  async #isEmpty(member: Member): Promise<boolean> {
    for await (const { name } of member.store.list("")) if (!isReserved(name)) return false;
    return true;
  }

  #record(member: Member, id: StoreId, state: StoreRecord["state"], censused: boolean): StoreRecord {
    const { fingerprint, label, prefixes } = member;
    return { id, rev: this.#ledger.clock.next(), addresses: [fingerprint], label, state, censused, prefixes };
  }

  /** Records of a member that the ledger does not know well enough. */
  #told(member: Member, isNewPool: boolean): readonly StoreRecord[] {
    if (member.ready && member.id !== undefined) {
      const known = this.#ledger.storeOf(member);
      // Another process gave it an identity and died before recording it.
      if (known === undefined) return this.#adopted(member, member.id, isNewPool);
      const addresses = [...new Set([...known.addresses, member.fingerprint])].sort();
      const rev = this.#ledger.nextRev(known);
      return [{ ...known, rev, addresses, prefixes: known.prefixes ?? member.prefixes }];
    }
    if (member.state !== "unreachable") return [];
    const id = addressId(member.fingerprint);
    return [this.#record(member, id, "expected", false)];
  }

  /** Records of a store whose identity is in no record: the process that gave the identity died too early. */
  #adopted(member: Member, id: StoreId, isNewPool: boolean): readonly StoreRecord[] {
    const { index, members } = this.#ledger;
    if (isNewPool) return [this.#record(member, id, "member", false)];
    // At the address of a known store, only a refill gives an identity; but the known store may have moved to a silent address.
    const mayHaveMoved = members.some(({ state }) => state === "unreachable");
    const former = knownStores(index.stores()).filter(
      (record) =>
        !mayHaveMoved &&
        record.addresses.includes(member.fingerprint) &&
        !members.some((other) => other.ready && other.id === record.id),
    );
    const removed = former.map((record) => ({
      ...record,
      rev: this.#ledger.nextRev(record),
      state: "removed" as const,
    }));
    return [...removed, this.#record(member, id, "joining", former.length > 0)];
  }

  /** Writes the records that the stores lack: of stores, of the pool, and of this machine as a writer. */
  async #register(stores: readonly StoreRecord[], isTold: boolean): Promise<void> {
    const ledger = this.#ledger;
    const { index, machine, members } = ledger;
    const { mode, min, sure } = ledger.epoch;
    const isKnown = index.pool() !== undefined;
    const isRegistered = index.getFact(REGISTERED_FACT) === machine;
    const pools = isKnown
      ? []
      : [{ rev: ledger.clock.next(), mode, min, sure: index.counts().objects > 0 ? sure : min }];
    const writers = isRegistered ? [] : [{ machine, rev: ledger.clock.next() }];
    if (stores.length + pools.length + writers.length === 0) return;
    this.#noteBeginning(isTold);
    const outcomes = new Map<Member, HoldfastError | undefined>();
    for (const [member, outcome] of ledger.append({ objects: [], stores, pools, writers })) {
      outcomes.set(member, await outcome);
    }
    const told = [...outcomes.values()].filter((error) => error === undefined).length;
    const counting = members.filter((member) => !ledger.isGivenUp(member));
    const all = counting.length + ledger.absentees.length;
    if (!isRegistered && told * 2 <= all && !isTold) {
      throw this.#tooFewToBegin(counting, outcomes);
    }
    if (!isRegistered) {
      index.setFact(REGISTERED_FACT, machine);
      // A machine that was alone relies for a while on its last hearing. The wait lets it hear of this machine before
      // this one writes.
      if (index.writers().length === 2) await this.#options.runtime.sleep(ledger.staleMs);
    }
    // The records that were just written count for this operation.
    const known = index.stores();
    for (const member of members) {
      if (member.id === undefined && known.some(({ id }) => id === addressId(member.fingerprint)))
        member.aliases = [addressId(member.fingerprint)];
    }
  }

  /**
   * A machine that most of the stores do not know has written nothing, so its index is complete. This is noted before the machine
   * is registered, because afterwards it could not be seen.
   */
  #noteBeginning(isTold: boolean): void {
    const { index, machine, members, absentees, completeness } = this.#ledger;
    if (index.getFact(REGISTERED_FACT) === machine || index.writers().some((one) => one.machine === machine)) return;
    const counting = members.filter((member) => !this.#ledger.isGivenUp(member));
    const heard = counting.filter((member) => member.ready).length;
    if (isTold || heard * 2 > counting.length + absentees.length) this.#ledger.noteComplete(completeness);
  }

  // ----------------------------------------------------------------------------------------------------------- refill

  /**
   * Gives a store that lost everything, a stranger that was a store of this pool, or a copy of another store an identity
   * of its own. The former identity is given up, so that a disk that comes back with it is recognised as a stranger.
   */
  async refill(member: Member): Promise<void> {
    const { pool, index } = this.#ledger;
    if (pool === undefined || !["missing", "removed", "twin", "new"].includes(member.state)) return;
    const former = member.id === undefined ? undefined : index.store(member.id);
    member.intended ??= this.#options.runtime.randomHex(8);
    member.segments = new Set();
    await this.#identify(member, pool, member.intended, false);
    const joined = this.#record(member, member.intended, "joining", true);
    const given =
      former === undefined ? [] : [{ ...former, rev: this.#ledger.nextRev(former), state: "removed" as const }];
    await Promise.all(this.#ledger.append({ objects: [], stores: [...given, joined] }).values());
    member.intended = undefined;
  }
}

function labels(members: readonly Member[]): string {
  return members.map((member) => member.label).join(", ");
}

function describePrefixes(prefixes: readonly string[]): string {
  return prefixes.length === 0 ? "no prefixes" : `the prefixes ${prefixes.join(", ")}`;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return [...a].sort().join("\0") === [...b].sort().join("\0");
}
