/**
 * The ledger of a pool: who its stores are, what was written, what is owed; kept on the stores, read from all of them.
 *
 * - `hear` asks every store who it is and which segments it has, and reads the segments not read before.
 * - `append` makes records durable on the stores, many callers in one segment.
 * - `initialise` sees to it that this machine may write: see `identities.ts`.
 * - `compact` and `sync` keep the segments few, and the same on every store.
 *
 * What is said of the stores is decided in `membership.ts`, by what one hearing brought.
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
  /** 8 lower-case hexadecimal digits: the machine. Writers with the same are one as far as certainty goes. */
  readonly machine: string;
  /** 16 digits that stand for this process, the machine's first. Default the machine's and 8 random ones. */
  readonly writer?: string | undefined;
  /** Opens the local index of a pool. */
  readonly openIndex: (pool: string) => LedgerIndex;
  /** The pool that a store at an address belonged to when this machine last saw it. Default: none is remembered. */
  readonly remembered?: Remembered | undefined;
  /** Told, with the pool's id, of stores that have said that they belong to it. */
  readonly onPool?: ((pool: string, members: readonly Member[]) => void) | undefined;
  /** Forgets what this machine remembers of a pool. */
  readonly onForget?: ((pool: string) => void | Promise<void>) | undefined;
  /** Called before the index is closed. */
  readonly onClose?: ((index: LedgerIndex) => void) | undefined;
  /** How old what was heard may be, in milliseconds, before an operation asks again. Default 1,000. */
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

/** Set where the index has known all that this machine ever wrote; the machine and the mark that it was not spoilt since. */
const COMPLETE_FACT = "complete";
/** How many times `freshMs` what was heard may be old, at most, where nobody else writes. */
const STALE_FACTOR = 4;
/** How many times an index is made anew for one operation. */
const RENEWALS = 2;
/** How long a pool that is closed goes on to merge segments, in milliseconds. */
const CLOSE_MERGE_MS = 3000;
/** A clock that is so far ahead of this machine's is told, in milliseconds. */
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
  /** Takes the place of one that was lost, as soon as all has been read into it. */
  #nextIndex: LedgerIndex | undefined;
  #renewing: Promise<void> | undefined;
  #pool: string | undefined;
  /** More than half of the stores say, or are known, to be this pool. */
  #isSure = false;
  #declared: Pick<PoolRecord, "mode" | "min"> = { mode: "mirror", min: 1 };
  #heardAtMs = -Infinity;
  #hearing: Promise<void> | undefined;
  #nextHearing: Promise<void> | undefined;
  readonly #asking = new Map<Member, Promise<Answer>>();
  /** What the index says of the stores, and who writes: see `#lookAgain`. */
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
  /** Something was heard that replaces other segments. */
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

  /** The index that takes what is heard. */
  get #heardIndex(): LedgerIndex {
    return this.#nextIndex ?? this.#index;
  }

  get pool(): string | undefined {
    return this.#pool;
  }

  /** Segments that could not be read from any store: while there are some, absence proves nothing. */
  get unreadableSegments(): ReadonlySet<string> {
    return this.#reader.unreadable;
  }

  memberById(id: StoreId): Member | undefined {
    return this.members.find((member) => member.ids.includes(id));
  }

  /** What a record says of a member; undefined where it says nothing. */
  markOf(record: ObjectRecord | undefined, member: Member): CopyMark | undefined {
    return markOf(record, member.ids);
  }

  /** Whether a record says that the member holds a copy. */
  holds(record: ObjectRecord | undefined, member: Member): boolean {
    return this.markOf(record, member)?.state === "holds";
  }

  /**
   * Whether no other machine has ever written (every one that does says so first, on most of the stores), and the index has all
   * that this one ever wrote.
   */
  get soleWriter(): boolean {
    this.#sole ??=
      this.#index.pool() !== undefined && this.#index.writers().every((one) => one.machine === this.machine);
    return this.#sole && this.isComplete;
  }

  /**
   * Whether the index has all that this machine ever wrote. One that was made anew since then has not, nor has one beside which a
   * process of this machine writes that could not write to it.
   */
  get isComplete(): boolean {
    return this.#index.isShared && this.#index.getFact(COMPLETE_FACT) === this.completeness;
  }

  /** What `noteComplete` takes: to be had before the stores are heard from which the index gets what it lacks. */
  get completeness(): string {
    return `${this.machine} ${this.#index.getFact(SPOILT_FACT) ?? ""}`;
  }

  /** The index has all that this machine ever wrote, as of when `completeness` was asked for. */
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

  /** Whether the member answers, and knows what every other store knows. */
  vouches(member: Member): boolean {
    const state = this.storeOf(member)?.state;
    return member.ready && (state === "member" || state === "draining" || state === "drained");
  }

  /** Whether a member is none of the pool's stores any more, or none yet: nothing of the pool can be on it alone. */
  isGivenUp(member: Member): boolean {
    if (member.readable || member.id !== undefined) return false;
    return member.state !== "unreachable" || isForgotten(member, this.#index.stores());
  }

  /** What is known of a member, looked up once for each time the stores are asked: every write needs it. */
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

  /** The index may say otherwise of the stores and of who writes. */
  #lookAgain(): void {
    this.#stores.clear();
    this.#absentees = undefined;
    this.#sole = undefined;
  }

  /** Whether the member is being emptied. Never all of them: two machines that each drain another one at once undo it. */
  isDraining(member: Member): boolean {
    return this.#isDrained(member) && !this.members.every((other) => this.#isDrained(other));
  }

  #isDrained(member: Member): boolean {
    const state = this.storeOf(member)?.state;
    return state === "draining" || state === "drained";
  }

  // ------------------------------------------------------------------------------------------------ what the pool is

  /** What the pool's file says that the pool is. */
  declare(declared: Pick<PoolRecord, "mode" | "min">): void {
    this.#declared = declared;
  }

  /** The pool is about to become what its user says, whatever its file says now. */
  accept({ mode, min }: { readonly mode?: Mode | undefined; readonly min?: number | undefined }): void {
    const recorded = this.#index.pool() ?? this.#declared;
    this.#declared = { mode: recorded.mode, min: recorded.min };
    if (this.#index.pool() === undefined) this.#declared = { mode: mode ?? recorded.mode, min: min ?? recorded.min };
  }

  /** What the pool is: by its ledger, or by its file while the ledger does not say. */
  get epoch(): Pick<PoolRecord, "mode" | "min" | "sure"> {
    return this.#index.pool() ?? { ...this.#declared, sure: 1 };
  }

  /** Throws where the file says otherwise of the pool than its ledger, or where it is not sure which pool this is. */
  checkEpoch(): void {
    this.#identities.check(this.#declared, this.#isSure);
  }

  /** Makes the pool another one: a new epoch, which counts from then on for all machines. */
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

  /** Asks all stores anew unless that was done within the last `freshMs`. */
  async freshen(): Promise<void> {
    if (this.#freshMs === 0) return this.hear();
    // One round that is under way serves all who come meanwhile.
    if (this.#ageMs() >= this.#freshMs) await (this.#hearing ?? this.hear());
  }

  /**
   * The same, but while nobody else is known to write, and all stores answered, what was heard a little longer ago will
   * do: then the stores are asked beside the operation.
   */
  async keepFresh(): Promise<void> {
    const freshened = this.freshen();
    const willDo = this.#ageMs() < this.staleMs && this.soleWriter && this.members.every(isReady);
    if (!willDo) return freshened;
    // The next caller that must wait gets the error.
    freshened.catch(() => undefined);
  }

  /** How old what was heard may be, at most, where a machine uses it because nobody else writes, in milliseconds. */
  get staleMs(): number {
    return this.#freshMs * STALE_FACTOR;
  }

  #ageMs(): number {
    return this.#runtime.monotonicMs() - this.#heardAtMs;
  }

  /** Asks all stores who they are and what their ledgers hold. One that does not answer is marked, not waited for. */
  hear(): Promise<void> {
    if (this.#hearing === undefined) {
      this.#hearing = this.#hear().finally(() => {
        this.#hearing = undefined;
      });
      return this.#hearing;
    }
    // What is under way may have asked before the caller's moment: a second round, shared by all who wait, will do.
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
    // Another process may have given a store its identity after the store was asked, and said so where this one read it.
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
      // A store that still has not answered the last time is not waited for again.
      if (this.#asking.has(member)) return [member, this.#late(member)];
      const asked = this.#ask(member).finally(() => this.#asking.delete(member));
      this.#asking.set(member, asked);
      return [member, await this.#within(asked, () => this.#late(member))];
    });
    return new Map(await Promise.all(answers));
  }

  /** What the stores answered becomes what is known of them, once the segments that are new have been read. */
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
    // The ledger of a store that says it is this pool's is read before it is decided what the others are.
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

  #late(member: Member): Answer {
    const message = `${member.label} did not answer in ${this.#hearMs} ms`;
    return {
      error: new HoldfastError("timeout", message, { store: member.label, operation: "open" }),
      segments: new Set(),
    };
  }

  async #within(work: Promise<Answer>, late: () => Answer): Promise<Answer> {
    let cancel = (): void => undefined;
    const timeout = new Promise<Answer>((resolve) => {
      cancel = this.#runtime.timer(this.#hearMs, () => resolve(late()));
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
   * Does something for which the index is needed. Where that is found damaged, and was thrown away, what it knew is read from the
   * stores anew, and it is done once more.
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

  /** Makes a lost index anew. Until all that the stores tell has been read, whoever asks gets no answer rather than a wrong one. */
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
      // Machines of before there were such records are known by what they wrote.
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

  /** Takes note of since when something is known to be under way. */
  #sight(record: ObjectRecord): void {
    if (record.kind === "intent") this.sightings.note(renewedAt(record));
    for (const mark of Object.values(record.copies))
      if (isOpenAttempt(record, mark)) this.sightings.note(mark.late ?? mark.rev);
  }

  /** The same of what another process wrote, which those who follow the name are told. */
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

  /** What others write of a name from now on; to be ended. */
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

  /** A segment that this process wrote says nothing new to it. */
  noteWritten(name: string, objects: readonly ObjectRecord[]): void {
    this.#seen.add(name);
    for (const record of objects) {
      this.#sight(record);
      for (const following of this.#following.get(record.name) ?? []) following.note(record);
    }
  }

  /** The same of records that are yet to be written. */
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

  /** The record, to be written: by it the stores owe what it is, because what was done to them had another one in mind. */
  owedAnew(record: ObjectRecord, ids: readonly StoreId[], reason: string): ObjectRecord {
    const mark: CopyMark = { state: isPut(record) ? "copy" : "delete", rev: this.stamp(record), reason };
    return { ...record, copies: Object.fromEntries(ids.map((id) => [id, mark])) };
  }

  /**
   * Whether a mark's store may be changed at this moment by somebody else than this process, or by a request of which
   * nobody knows the end.
   */
  mayChange(record: ObjectRecord, mark: CopyMark): boolean {
    if (mark.late !== undefined) return this.sightings.ageMs(mark.late) < this.lateMs;
    if (!isOpenAttempt(record, mark)) return false;
    const writer = versionWriter(mark.rev);
    if (writer === this.writer || this.isLiveWriter(writer) === false) return false;
    return this.sightings.ageMs(mark.rev) < this.lateMs;
  }

  /**
   * Makes records durable. Gives, for each store of the pool, a promise of how that went; the index learns the records
   * once one store has them. Callers that arrive while a segment is being written share the next one.
   */
  append(records: Partial<Records>): Appended {
    return this.#segments.append(records);
  }

  /** The same for what costs nothing but time while it is not yet written. */
  appendLater(records: readonly ObjectRecord[]): void {
    this.#segments.appendLater(records);
  }

  /** Resolves when everything appended so far has been written or has failed. */
  flushed(): Promise<void> {
    return this.#segments.flushed();
  }

  /** Starts to merge segments where enough have gathered; nobody waits for it but `settle`. */
  maintainSoon(): void {
    this.#compaction.maintainSoon();
  }

  /** Writes everything that is known as a new base, and removes all segments that went into it. False: nowhere. */
  compact(): Promise<boolean> {
    return this.#compaction.compact();
  }

  /** Segments that a store lacks (to be copied there) and has beyond need (to be removed). Needs what `hear` learned. */
  ledgerGaps(): readonly LedgerGap[] {
    return this.#compaction.gaps();
  }

  /** Makes the ledger the same on every store that answers. Gives the labels of those that it changed. */
  sync(): Promise<readonly string[]> {
    return this.#compaction.sync();
  }

  /** Rewrites a segment that is damaged on a store from one where it is whole; true when it could. */
  mendSegment(member: Member, name: string): Promise<boolean> {
    return this.#compaction.mendSegment(member, name);
  }

  /**
   * Removes a segment that no store has whole. From then on the stores are no longer known to hold nothing but what is
   * recorded, until a repair has seen all of them. False: not every store answers, and one that is silent may have it whole.
   */
  async discardSegment(name: string): Promise<boolean> {
    if (!this.#reader.unreadable.has(name) || !this.members.every(isReady)) return false;
    for (const { id } of this.members) if (id !== undefined) await this.recordStore(id, { censused: false });
    await this.#compaction.removeEverywhere(name);
    this.#reader.forget(name);
    return true;
  }

  /** Waits until everything appended has been written or has failed, and keeps the ledger short. */
  async settle(): Promise<void> {
    await this.flushed();
    // One that is under way began before the last segments were written.
    await this.#compaction.ended();
    await this.#compaction.maintain();
  }

  /** Makes sure that this machine may write to the pool. Throws where it may not. See {@link Identities.initialise}. */
  initialise(isTold = false): Promise<void> {
    return this.#identities.initialise(isTold);
  }

  /** Makes this machine forget which pool the stores belong to, and what it knows of that. */
  async forgetPool(): Promise<void> {
    if (this.#pool === undefined) return;
    await this.#options.onForget?.(this.#pool);
  }

  /** Gives a store that lost everything, or a stranger, an identity, so that repair fills it. Only on the user's word. */
  refill(member: Member): Promise<void> {
    return this.#identities.refill(member);
  }

  /** Notes a fact about a store of the pool, on all stores. Throws where no store takes it. */
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

  /** A version for a record of a store that is above the one known of it, whatever the clock of who wrote that. */
  nextRev(known: StoreRecord | undefined): Version {
    if (known !== undefined) this.clock.observe(known.rev);
    return this.clock.next();
  }

  /** Writes what has yet to be written, and merges segments for a while where this process added some. */
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

/** Whether something failed because what the index knew could not be read. */
export function isIndexLost(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) if (one instanceof IndexLost) return true;
  return false;
}

/** When an intent was last said to be alive. */
export function renewedAt(intent: ObjectRecord): Version {
  return Object.values(intent.copies).reduce((rev, mark) => (mark.rev > rev ? mark.rev : rev), intent.version);
}

function isReady(member: Member): boolean {
  return member.ready;
}
