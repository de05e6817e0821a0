/**
 * The ledger of a pool: its stores, its writes and its debts. It is kept on the stores, and read from all of them.
 *
 * - `hear` asks every store for its identity and its list of segments, and reads the new segments.
 * - `append` makes records durable on the stores. One segment takes the records of many callers.
 * - `initialise` makes sure that this machine may write: see `identities.ts`.
 * - `compact` and `sync` keep the number of segments small, and the segments the same on every store.
 *
 * After each hearing, `membership.ts` decides the members' states.
 *
 * The file is longer than others because it is the one entrance to the ledger: most of it is short methods over one state
 * (index, pool, hearing), and the parts with a state of their own are in files beside it.
 */
import { collect } from "../contract/body.ts";
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import type { Mode } from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";
import { HybridClock, versionMachine, versionMs, versionWriter } from "./hybrid-clock.ts";
import type { Version } from "./hybrid-clock.ts";
import { Following } from "./following.ts";
import { Identities } from "./identities.ts";
import type { IdentitiesLedger } from "./identities.ts";
import { IDENTITY_NAME, MAX_IDENTITY_BYTES, parseIdentity } from "./identity.ts";
import type { Identity } from "./identity.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import { IndexLost, MemoryIndex, SPOILT_FACT } from "./ledger-index.ts";
import type { Member } from "./member.ts";
import { decideMembers, electPool, isForgotten, knownStores } from "./membership.ts";
import type { Answer, Remembered } from "./membership.ts";
import { isOpenAttempt, isPut, markOf } from "./record.ts";
import type { CopyMark, ObjectRecord, PoolRecord, StoreId, StoreRecord } from "./record.ts";
import type { Records, Segment } from "./segment.ts";
import { REPLACED } from "./replaced.ts";
import { SegmentReader } from "./segment-reader.ts";
import { SegmentWriter } from "./segment-writer.ts";
import type { Appended } from "./segment-writer.ts";
import { Sightings } from "./sightings.ts";
import { Compaction } from "./compaction.ts";
import type { LedgerGap } from "./compaction.ts";

export interface LedgerOptions {
  readonly members: readonly Member[];
  readonly runtime: Runtime;
  readonly logger: Logger;
  /**
   * 8 lower-case hexadecimal digits that stand for the machine. Its writers count as one where the pool asks who
   * writes.
   */
  readonly machine: string;
  /** 16 digits that stand for this process, the machine's first. Default the machine's and 8 random ones. */
  readonly writer?: string | undefined;
  /** Opens the local index of a pool. */
  readonly openIndex: (pool: string) => LedgerIndex;
  /** The pool that a store at an address belonged to when this machine last saw it. Default: none is remembered. */
  readonly remembered?: Remembered | undefined;
  /** Called with the pool's id and the members whose identity names that pool. */
  readonly onPool?: ((pool: string, members: readonly Member[]) => void) | undefined;
  /** Makes this machine forget a pool. */
  readonly onForget?: ((pool: string) => void | Promise<void>) | undefined;
  /** Called before the index is closed. */
  readonly onClose?: ((index: LedgerIndex) => void) | undefined;
  /** The age of the last hearing, in milliseconds, from which an operation hears the stores again. Default 1,000. */
  readonly freshMs?: number | undefined;
  /** How long `hear` waits for a store that does not answer, in milliseconds. Default 10,000. */
  readonly hearMs?: number | undefined;
  /** How many segments of one level may gather before they are merged. Default 32. */
  readonly mergeAt?: number | undefined;
  /** How long a record that may follow later waits for others to share its segment, in milliseconds. Default 500. */
  readonly laterMs?: number | undefined;
  /** How long a request that ended without an answer may still take effect, in milliseconds. Default 60,000. */
  readonly lateMs?: number | undefined;
  /** Whether a writer (16 hexadecimal digits) of this machine still runs; undefined for another machine's. Default: unknown. */
  readonly isLiveWriter?: ((writer: string) => boolean | undefined) | undefined;
}

/**
 * Set while the index has all that this machine ever wrote: the machine, and the value of `SPOILT_FACT` at that time.
 */
const COMPLETE_FACT = "complete";
/** The greatest age of a hearing that is used while no other machine writes, as a multiple of `freshMs`. */
const STALE_FACTOR = 4;
/** How many times an index is made anew for one operation. */
const RENEWALS = 2;
/** How long a pool that is closed goes on to merge segments, in milliseconds. */
const CLOSE_MERGE_MS = 3000;
/** A clock this many milliseconds ahead of this machine's is reported. */
const FAR_AHEAD_MS = 24 * 3_600_000;

export class Ledger implements IdentitiesLedger {
  readonly members: readonly Member[];
  /** This process as a writer: the machine and 8 digits of its own. */
  readonly writer: string;
  readonly machine: string;
  readonly clock: HybridClock;
  readonly lateMs: number;
  readonly sightings: Sightings;
  readonly #options: LedgerOptions;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #freshMs: number;
  readonly #hearMs: number;
  #index: LedgerIndex = new MemoryIndex();
  /** Replaces a lost index as soon as everything has been read into it. */
  #nextIndex: LedgerIndex | undefined;
  #renewing: Promise<void> | undefined;
  #pool: string | undefined;
  /** Whether more than half of the votes were for this pool: see `electPool`. */
  #isSure = false;
  #declared: Pick<PoolRecord, "mode" | "min"> = { mode: "mirror", min: 1 };
  #heardAtMs = -Infinity;
  #hearing: Promise<void> | undefined;
  #nextHearing: Promise<void> | undefined;
  readonly #asking = new Map<Member, Promise<Answer>>();
  /** The index's records of stores, cached until `#lookAgain`. */
  readonly #stores = new Map<StoreId, StoreRecord>();
  #absentees: readonly StoreRecord[] | undefined;
  #sole: boolean | undefined;
  readonly #identities: Identities;
  readonly #reader: SegmentReader;
  readonly #segments: SegmentWriter;
  readonly #compaction: Compaction;
  readonly #following = new Map<string, Set<Following>>();
  /** Segments that this process has read, written, or found read when it began. */
  #seen = new Set<string>();
  /** Whether a heard segment replaces others. */
  #hasReplaced = false;
  #isAheadTold = false;

  constructor(options: LedgerOptions) {
    this.#options = options;
    this.members = options.members;
    this.#runtime = options.runtime;
    this.#logger = options.logger;
    this.#freshMs = options.freshMs ?? 1000;
    this.#hearMs = options.hearMs ?? 10_000;
    this.lateMs = options.lateMs ?? 60_000;
    this.machine = options.machine;
    this.writer = options.writer ?? options.machine + options.runtime.randomHex(4);
    this.clock = new HybridClock(options.runtime, this.writer);
    this.sightings = new Sightings(options.runtime, () => this.#heardIndex);
    this.#identities = new Identities(this, {
      runtime: options.runtime,
      remembered: options.remembered ?? (() => undefined),
      readIdentity: (member) => this.#readIdentity(member),
      adoptPool: (pool) => {
        this.#adoptPool(pool);
        this.#isSure = true;
      },
    });
    this.#reader = new SegmentReader({
      members: options.members,
      logger: options.logger,
      index: () => this.#heardIndex,
      pool: () => this.#pool,
      isWanted: (name) => this.#following.size > 0 && !this.#seen.has(name),
      onSegment: (name, segment) => this.#learn(name, segment),
    });
    this.#segments = new SegmentWriter(this, {
      runtime: options.runtime,
      laterMs: options.laterMs ?? 500,
      onStores: () => this.#lookAgain(),
    });
    this.#compaction = new Compaction(this, this.#segments, { logger: options.logger, mergeAt: options.mergeAt ?? 32 });
  }

  get index(): LedgerIndex {
    return this.#index;
  }

  /** The index that takes the records of a hearing. */
  get #heardIndex(): LedgerIndex {
    return this.#nextIndex ?? this.#index;
  }

  get pool(): string | undefined {
    return this.#pool;
  }

  /** Segments that could not be read from any store. While there are some, a missing record proves nothing. */
  get unreadableSegments(): ReadonlySet<string> {
    return this.#reader.unreadable;
  }

  memberById(id: StoreId): Member | undefined {
    return this.members.find((member) => member.ids.includes(id));
  }

  /** A record's mark of a member; undefined if it has none. */
  markOf(record: ObjectRecord | undefined, member: Member): CopyMark | undefined {
    return markOf(record, member.ids);
  }

  /** Whether a record says that the member holds a copy. */
  holds(record: ObjectRecord | undefined, member: Member): boolean {
    return this.markOf(record, member)?.state === "holds";
  }

  /**
   * Whether no other machine has ever written, and the index has all that this one wrote. Every machine leaves a writer record
   * on most of the stores before its first write.
   */
  get soleWriter(): boolean {
    this.#sole ??=
      this.#index.pool() !== undefined && this.#index.writers().every((one) => one.machine === this.machine);
    return this.#sole && this.isComplete;
  }

  /**
   * Whether the index has all that this machine ever wrote. It does not if it was made anew since, or if a process of this
   * machine wrote without being able to change it.
   */
  get isComplete(): boolean {
    return this.#index.isShared && this.#index.getFact(COMPLETE_FACT) === this.completeness;
  }

  /** The argument of `noteComplete`. Read it before the hearing that completes the index. */
  get completeness(): string {
    return `${this.machine} ${this.#index.getFact(SPOILT_FACT) ?? ""}`;
  }

  /** Notes that the index has all that this machine wrote up to the time when `completeness` was read. */
  noteComplete(completeness: string): void {
    this.#index.setFact(COMPLETE_FACT, completeness);
  }

  /** Whether a writer (16 hexadecimal digits) of this machine still runs; undefined for another machine's. */
  isLiveWriter(writer: string): boolean | undefined {
    return this.#options.isLiveWriter?.(writer);
  }

  /** Whether every object on the member is known to be recorded. */
  isCensused(member: Member): boolean {
    return this.storeOf(member)?.censused ?? false;
  }

  /** Whether the member answers, and its ledger has everything that the other stores' ledgers have. */
  vouches(member: Member): boolean {
    const state = this.storeOf(member)?.state;
    return member.ready && (state === "member" || state === "draining" || state === "drained");
  }

  /** Whether a member is no longer a store of the pool, or not yet one. No object of the pool can be on it alone. */
  isGivenUp(member: Member): boolean {
    if (member.readable || member.id !== undefined) return false;
    return member.state !== "unreachable" || isForgotten(member, this.#index.stores());
  }

  /** The record of a member's store. It is looked up once for each hearing, because every write needs it. */
  storeOf(member: Member): StoreRecord | undefined {
    if (member.id === undefined) return undefined;
    const known = this.#stores.get(member.id) ?? this.#index.store(member.id);
    if (known !== undefined) this.#stores.set(member.id, known);
    return known;
  }

  /** Stores of the pool that its file does not name. */
  get absentees(): readonly StoreRecord[] {
    this.#absentees ??= knownStores(this.#index.stores()).filter(
      ({ id, state }) => state !== "drained" && this.memberById(id) === undefined,
    );
    return this.#absentees;
  }

  /** Discards the cached records of stores and writers, because the index may have changed. */
  #lookAgain(): void {
    this.#stores.clear();
    this.#absentees = undefined;
    this.#sole = undefined;
  }

  /**
   * Whether the member is being emptied. If all of them are, because two machines began at once, none counts as
   * draining.
   */
  isDraining(member: Member): boolean {
    return this.#isDrained(member) && !this.members.every((other) => this.#isDrained(other));
  }

  #isDrained(member: Member): boolean {
    const state = this.storeOf(member)?.state;
    return state === "draining" || state === "drained";
  }

  // ------------------------------------------------------------------------------------------------ the pool's epoch

  /** Sets the mode and `min` that the pool's file names. */
  declare(declared: Pick<PoolRecord, "mode" | "min">): void {
    this.#declared = declared;
  }

  /** Accepts a mode or `min` that the user is about to change to, whatever the pool's file says. */
  accept({ mode, min }: { readonly mode?: Mode | undefined; readonly min?: number | undefined }): void {
    const recorded = this.#index.pool() ?? this.#declared;
    this.#declared = { mode: recorded.mode, min: recorded.min };
    if (this.#index.pool() === undefined) this.#declared = { mode: mode ?? recorded.mode, min: min ?? recorded.min };
  }

  /** The pool's epoch by its ledger, or by its file while the ledger has none. */
  get epoch(): Pick<PoolRecord, "mode" | "min" | "sure"> {
    return this.#index.pool() ?? { ...this.#declared, sure: 1 };
  }

  /** Throws if the pool's file contradicts the ledger, or if it is not sure which pool this is. */
  checkEpoch(): void {
    this.#identities.check(this.#declared, this.#isSure);
  }

  /** Begins a new epoch of the pool, for all machines. */
  async changeEpoch(change: Partial<Pick<PoolRecord, "mode" | "min" | "sure">>): Promise<void> {
    const { mode, min, sure } = { ...this.epoch, ...change };
    this.#declared = { mode, min };
    const known = this.#index.pool();
    if (known?.mode === mode && known.min === min && known.sure === sure) return;
    if (known !== undefined) this.clock.observe(known.rev);
    await this.#everywhere({ objects: [], pools: [{ rev: this.clock.next(), mode, min, sure: Math.min(sure, min) }] });
  }

  async #everywhere(records: Records): Promise<void> {
    const errors = await Promise.all(this.append(records).values());
    const failure = errors.find((error) => error !== undefined);
    if (failure !== undefined && !errors.includes(undefined)) throw failure;
  }

  // ---------------------------------------------------------------------------------------------------------- hearing

  /** Hears all stores unless that was done within the last `freshMs`. */
  async freshen(): Promise<void> {
    if (this.#freshMs === 0) return this.hear();
    // A hearing that is under way serves all callers that come meanwhile.
    if (this.#ageMs() >= this.#freshMs) await (this.#hearing ?? this.hear());
  }

  /**
   * Like `freshen`, but an older hearing will do while no other machine writes and all stores answered. Then the stores
   * are heard beside the operation.
   */
  async keepFresh(): Promise<void> {
    const freshened = this.freshen();
    const willDo = this.#ageMs() < this.staleMs && this.soleWriter && this.members.every(isReady);
    if (!willDo) return freshened;
    // The next caller that must wait gets the error.
    freshened.catch(() => undefined);
  }

  /** The greatest age of a hearing that a machine uses while no other one writes, in milliseconds. */
  get staleMs(): number {
    return this.#freshMs * STALE_FACTOR;
  }

  #ageMs(): number {
    return this.#runtime.monotonicMs() - this.#heardAtMs;
  }

  /** Asks all stores for their identities and their ledgers' segments. A silent store is marked and not waited for. */
  hear(): Promise<void> {
    if (this.#hearing === undefined) {
      this.#hearing = this.#hear().finally(() => {
        this.#hearing = undefined;
      });
      return this.#hearing;
    }
    // A hearing that is under way may have asked too early for this caller. All callers that wait share the next one.
    this.#nextHearing ??= this.#hearing
      .catch(() => undefined)
      .then(() => {
        this.#nextHearing = undefined;
        return this.hear();
      });
    return this.#nextHearing;
  }

  async #hear(): Promise<void> {
    const started = this.#runtime.monotonicMs();
    let answers = await this.#askAll(this.members);
    await this.#take(answers);
    // Another process may have given a store an identity after this one asked it, and recorded that on a store that was
    // read later.
    const missing = this.members.filter((member) => member.state === "missing");
    if (missing.length > 0) {
      answers = new Map([...answers, ...(await this.#askAll(missing))]);
      await this.#take(answers);
    }
    this.#seen = new Set(this.members.flatMap((member) => [...member.segments]));
    this.#heardAtMs = started;
    if (this.#hasReplaced && this.#nextIndex === undefined) this.#compaction.forget();
    this.#hasReplaced = false;
  }

  async #askAll(members: readonly Member[]): Promise<ReadonlyMap<Member, Answer>> {
    const answers = members.map(async (member): Promise<[Member, Answer]> => {
      // A store that has not answered the previous hearing yet is not waited for again.
      if (this.#asking.has(member)) return [member, this.#silentAnswer(member)];
      const asked = this.#ask(member).finally(() => this.#asking.delete(member));
      this.#asking.set(member, asked);
      return [member, await this.#within(asked, () => this.#silentAnswer(member))];
    });
    return new Map(await Promise.all(answers));
  }

  /** Takes over the stores' answers, and reads the new segments. */
  async #take(answers: ReadonlyMap<Member, Answer>): Promise<void> {
    const remembered = this.#options.remembered ?? (() => undefined);
    if (!this.#isSure) {
      const { pool } = electPool(answers, remembered);
      if (pool !== undefined && pool !== this.#pool) this.#adoptPool(pool);
    }
    const current = new Map(
      [...answers].filter(([member, { asOf }]) => asOf === undefined || asOf === member.identified),
    );
    for (const [member, { segments, error }] of current) {
      if (error !== undefined)
        this.#logger.debug("store does not answer", { store: member.label, reason: error.message });
      for (const name of member.written) segments.add(name);
      member.segments = segments;
    }
    // The ledgers of stores that belong to this pool are read before the other members' states are decided.
    const decide = (): void => {
      const known = {
        pool: this.#pool,
        stores: this.#heardIndex.stores(),
        isDamaged: this.unreadableSegments.size > 0,
      };
      decideMembers(this.members, current, known, remembered);
    };
    decide();
    await this.#reader.readAll();
    const unheard = new Map(
      this.members
        .filter((member) => current.has(member) && member.state === "unreachable")
        .map((member) => [member, member.error]),
    );
    for (const [member, error] of unheard) {
      if (error !== undefined) current.set(member, { ...emptyAnswer(), error });
    }
    decide();
    this.#lookAgain();
    if (this.#pool !== undefined && !this.#isSure) {
      const known = { pool: this.#pool, stores: this.#heardIndex.stores() };
      this.#isSure = electPool(answers, remembered, known).isSure;
    }
    const named = this.members.filter(isReady);
    if (this.#isSure && this.#pool !== undefined && named.length > 0) this.#options.onPool?.(this.#pool, named);
  }

  #silentAnswer(member: Member): Answer {
    const message = `${member.label} did not answer in ${this.#hearMs} ms`;
    return {
      error: new HoldfastError("timeout", message, { store: member.label, operation: "open" }),
      segments: new Set(),
    };
  }

  async #within(work: Promise<Answer>, silent: () => Answer): Promise<Answer> {
    let cancel = (): void => undefined;
    const timeout = new Promise<Answer>((resolve) => {
      cancel = this.#runtime.timer(this.#hearMs, () => resolve(silent()));
    });
    const answer = await Promise.race([work, timeout]);
    cancel();
    return answer;
  }

  /** One store's identity and list of segments, both at once. */
  async #ask(member: Member): Promise<Answer> {
    const started = this.#runtime.monotonicMs();
    const asOf = member.identified;
    member.written = new Set();
    try {
      const [identity, segments] = await Promise.all([this.#readIdentity(member), this.#reader.list(member)]);
      member.latencyMs = this.#runtime.monotonicMs() - started;
      return { identity, segments, asOf };
    } catch (error) {
      const failure = toHoldfastError(error, "unavailable").within({ store: member.label, operation: "open" });
      return { ...emptyAnswer(), error: failure, asOf };
    }
  }

  async #readIdentity(member: Member): Promise<Identity | undefined> {
    try {
      const { body } = await member.store.get(IDENTITY_NAME);
      return parseIdentity(await collect(body, MAX_IDENTITY_BYTES), member.label);
    } catch (error) {
      if (error instanceof HoldfastError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  #adoptPool(pool: string): void {
    const former = this.#index;
    this.#pool = pool;
    this.#index = this.#options.openIndex(pool);
    this.#lookAgain();
    const latest = this.#index.getFact("clock");
    if (latest !== undefined) this.clock.observe(latest);
    for (const { rev } of this.#index.stores()) this.clock.observe(rev);
    // oxlint-disable-next-line typescript/no-floating-promises -- an index in memory, or one of a pool that is not ours
    if (former !== this.#index) former.close();
  }

  /**
   * Runs work that needs the index. If the index is found damaged, it is read from the stores again, and the work is run once
   * more.
   */
  async withIndex<T>(work: () => Promise<T>): Promise<T> {
    for (let more = RENEWALS; ; more--) {
      try {
        return await work();
      } catch (error) {
        if (more === 0 || !isIndexLost(error)) throw error;
        await this.renewIndex();
      }
    }
  }

  /** Makes a lost index anew. Until all segments are read, callers get an error rather than a wrong answer. */
  renewIndex(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renew(): Promise<void> {
    const { pool } = this;
    if (pool === undefined) return;
    await this.#hearing?.catch(() => undefined);
    const lost = this.#index;
    this.#nextIndex = this.#options.openIndex(pool);
    try {
      await this.hear();
      this.#index = this.#nextIndex;
    } finally {
      this.#nextIndex = undefined;
    }
    this.#lookAgain();
    await lost.close();
  }

  /** One segment from one store, checked. */
  fetchSegment(member: Member, name: string): Promise<Segment> {
    return this.#reader.fetch(member, name);
  }

  #learn(name: string, segment: Segment): void {
    const written = name.slice(name.lastIndexOf("/") + 3).replace(/-\d+$/u, "");
    this.#observe(written);
    const writers = new Set([versionMachine(written)]);
    for (const record of segment.objects) {
      writers.add(versionMachine(record.version));
      this.#observe(record.version);
      this.#see(record);
      for (const mark of Object.values(record.copies)) if (mark.rev !== record.version) this.#observe(mark.rev);
    }
    for (const record of segment.stores ?? []) this.#observe(record.rev);
    for (const record of segment.pools ?? []) this.#observe(record.rev);
    const unknown = [...writers].filter((machine) => machine !== this.machine);
    this.#heardIndex.apply({
      objects: segment.objects,
      stores: segment.stores ?? [],
      pools: segment.pools ?? [],
      // Machines that wrote before there were writer records are known by their versions.
      writers: [...(segment.writers ?? []), ...unknown.map((machine) => ({ machine, rev: written }))],
      segment: name,
      facts: [
        // The wall clock may be set back before the next run.
        ["clock", this.clock.latest],
        ...segment.replaces.map((replaced) => [REPLACED + replaced, name] as const),
      ],
    });
    if (segment.replaces.length > 0) this.#hasReplaced = true;
    this.#lookAgain();
  }

  /** Notes the first sighting of intents and of requests that may still take effect. */
  #sight(record: ObjectRecord): void {
    if (record.kind === "intent") this.sightings.note(renewedAt(record));
    for (const mark of Object.values(record.copies))
      if (isOpenAttempt(record, mark)) this.sightings.note(mark.late ?? mark.rev);
  }

  /** Notes another process's record: its sightings, and the news for the followers of the name. */
  #see(record: ObjectRecord): void {
    this.#sight(record);
    for (const following of this.#following.get(record.name) ?? []) following.hear(record);
  }

  #observe(version: Version): void {
    this.clock.observe(version);
    if (this.#isAheadTold || versionMs(version) < this.#runtime.now() + FAR_AHEAD_MS) return;
    this.#isAheadTold = true;
    this.#logger.warn("the clock of a machine that wrote to the pool was far ahead of this one's", {
      machine: versionMachine(version),
      aheadMs: Math.floor(versionMs(version) - this.#runtime.now()),
    });
  }

  /** Collects the records that others write of a name from now on. The caller has to end it. */
  follow(name: string): Following {
    const all = this.#following.get(name) ?? new Set();
    this.#following.set(name, all);
    const following = new Following(this.#index.get(name), () => {
      all.delete(following);
      if (all.size === 0) this.#following.delete(name);
    });
    all.add(following);
    return following;
  }

  /**
   * Notes records that this process sends. A store may list them, so that this process hears of them, before any store has
   * answered: they are no news to it.
   */
  noteSent(objects: readonly ObjectRecord[]): void {
    for (const record of objects)
      for (const following of this.#following.get(record.name) ?? []) following.note(record);
  }

  /** Notes a segment of this process that a store has. */
  noteWritten(name: string, objects: readonly ObjectRecord[]): void {
    this.#seen.add(name);
    for (const record of objects) this.#sight(record);
  }

  /** Notes records of this process that are still to be written. */
  noteBegun(objects: readonly ObjectRecord[]): void {
    for (const record of objects) this.#sight(record);
    this.#index.apply({ objects });
  }

  /** A version above all those in the records, and above every other that this process has seen or given. */
  stamp(...records: readonly ObjectRecord[]): Version {
    for (const record of records) {
      this.clock.observe(record.version);
      for (const mark of Object.values(record.copies)) this.clock.observe(mark.rev);
    }
    return this.clock.next();
  }

  /**
   * The record with marks by which the stores owe a copy or a delete of it, because an earlier step served another
   * record.
   */
  owedAnew(record: ObjectRecord, ids: readonly StoreId[], reason: string): ObjectRecord {
    const mark: CopyMark = { state: isPut(record) ? "copy" : "delete", rev: this.stamp(record), reason };
    return { ...record, copies: Object.fromEntries(ids.map((id) => [id, mark])) };
  }

  /** Whether another process, or a late request, may change a mark's store at this moment. */
  mayChange(record: ObjectRecord, mark: CopyMark): boolean {
    if (mark.late !== undefined) return this.sightings.ageMs(mark.late) < this.lateMs;
    if (!isOpenAttempt(record, mark)) return false;
    const writer = versionWriter(mark.rev);
    if (writer === this.writer || this.isLiveWriter(writer) === false) return false;
    return this.sightings.ageMs(mark.rev) < this.lateMs;
  }

  /**
   * Makes records durable. Returns a promise of the result for each store of the pool. The index gets the records once
   * one store has them. Callers that arrive while a segment is being written share the next one.
   */
  append(records: Partial<Records>): Appended {
    return this.#segments.append(records);
  }

  /** Like `append`, for records whose absence costs only time. */
  appendLater(records: readonly ObjectRecord[]): void {
    this.#segments.appendLater(records);
  }

  /** Resolves when everything appended so far has been written or has failed. */
  flushed(): Promise<void> {
    return this.#segments.flushed();
  }

  /** Starts to merge segments if enough have gathered. Only `settle` waits for it. */
  maintainSoon(): void {
    this.#compaction.maintainSoon();
  }

  /**
   * Writes the whole index as new base segments, and removes the segments that they replace. False: no store took them.
   */
  compact(): Promise<boolean> {
    return this.#compaction.compact();
  }

  /**
   * For each store, the segments that it lacks (to be copied there) and those it no longer needs (to be removed). Call
   * `hear` before.
   */
  ledgerGaps(): readonly LedgerGap[] {
    return this.#compaction.gaps();
  }

  /** Makes the ledger the same on every store that answers. Returns the labels of the stores that it changed. */
  sync(): Promise<readonly string[]> {
    return this.#compaction.sync();
  }

  /** Rewrites a store's damaged segment from a store that has it whole. True: it was rewritten. */
  mendSegment(member: Member, name: string): Promise<boolean> {
    return this.#compaction.mendSegment(member, name);
  }

  /**
   * Removes a segment that no store has whole. From then on stores may hold objects without a record, until a repair has
   * seen all of them. False: not every store answers, and a silent one may have the segment whole.
   */
  async discardSegment(name: string): Promise<boolean> {
    if (!this.#reader.unreadable.has(name) || !this.members.every(isReady)) return false;
    for (const { id } of this.members) if (id !== undefined) await this.recordStore(id, { censused: false });
    await this.#compaction.removeEverywhere(name);
    this.#reader.forget(name);
    return true;
  }

  /** Waits until everything appended has been written or has failed, and merges segments. */
  async settle(): Promise<void> {
    await this.flushed();
    // A merge that is under way began before the last segments were written, so another one follows.
    await this.#compaction.ended();
    await this.#compaction.maintain();
  }

  /** Makes sure that this machine may write to the pool. Throws if it may not. See {@link Identities.initialise}. */
  initialise(isTold = false): Promise<void> {
    return this.#identities.initialise(isTold);
  }

  /** Makes this machine forget which pool the stores belong to. */
  async forgetPool(): Promise<void> {
    if (this.#pool === undefined) return;
    await this.#options.onForget?.(this.#pool);
  }

  /**
   * Gives an identity to a store that lost everything, or to a stranger, so that repair fills it. Only at the user's
   * request.
   */
  refill(member: Member): Promise<void> {
    return this.#identities.refill(member);
  }

  /** Records a change of a store's record on all stores. Throws if no store takes it. */
  async recordStore(
    id: StoreId,
    change: Partial<Pick<StoreRecord, "state" | "censused" | "label" | "addresses" | "prefixes">>,
  ): Promise<void> {
    const known = this.#index.store(id);
    if (known === undefined) return;
    const next = {
      ...known,
      ...change,
      addresses: [...new Set([...known.addresses, ...(change.addresses ?? [])])].sort(),
    };
    if (JSON.stringify(next) === JSON.stringify(known)) return;
    await this.#everywhere({ objects: [], stores: [{ ...next, rev: this.nextRev(known) }] });
  }

  /** A version for a store's record, above that of the known one, even if its writer's clock was ahead. */
  nextRev(known: StoreRecord | undefined): Version {
    if (known !== undefined) this.clock.observe(known.rev);
    return this.clock.next();
  }

  /** Writes the remaining records, and merges segments for a while if this process added some. */
  async close(): Promise<void> {
    await this.#hearing?.catch(() => undefined);
    await this.flushed();
    if (this.#segments.hasWritten) await this.#compaction.finish(this.#runtime, CLOSE_MERGE_MS);
    this.#options.onClose?.(this.#index);
    await this.#index.close();
  }
}

function emptyAnswer(): Answer {
  return { segments: new Set() };
}

/** Whether an error comes from a lost index. */
export function isIndexLost(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) if (one instanceof IndexLost) return true;
  return false;
}

/** The version of an intent's last renewal. */
export function renewedAt(intent: ObjectRecord): Version {
  return Object.values(intent.copies).reduce((rev, mark) => (mark.rev > rev ? mark.rev : rev), intent.version);
}

function isReady(member: Member): boolean {
  return member.ready;
}
