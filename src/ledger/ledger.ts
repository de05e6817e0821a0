/**
 * The ledger of a pool: who its stores are, what was written, what is owed; kept on the stores, read from all of them.
 *
 * - `hear` asks every store who it is and which segments it has, and reads the segments not read before.
 * - `append` makes records durable on the stores, many callers in one segment.
 * - `initialise` gives stores of a new pool, and new stores of an old one, their identity.
 * - `compact` and `sync` keep the segments few, and the same on every store.
 */
import { collect, toBody } from "../body.ts";
import { forEachBounded } from "../bounded.ts";
import { HoldfastError, toHoldfastError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { isReserved } from "../names.ts";
import type { Runtime } from "../runtime.ts";
import { HybridClock } from "./hybrid-clock.ts";
import type { Version } from "./hybrid-clock.ts";
import { formatIdentity, IDENTITY_NAME, parseIdentity } from "./identity.ts";
import type { Identity } from "./identity.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import { MemoryIndex } from "./ledger-index.ts";
import type { Member } from "./member.ts";
import { isPut } from "./record.ts";
import type { CopyMark, ObjectRecord, StoreId, StoreRecord } from "./record.ts";
import { decodeSegment, parseSegmentName, SEGMENT_PREFIX } from "./segment.ts";
import type { Segment } from "./segment.ts";
import { SegmentWriter } from "./segment-writer.ts";
import type { Appended } from "./segment-writer.ts";
import { Compaction, isReplaced } from "./compaction.ts";
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
  /** The pool that these stores belonged to when this machine last saw them. */
  readonly knownPool?: string | undefined;
  /** Told the pool's id as soon as it is known. */
  readonly onPool?: ((pool: string) => void) | undefined;
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
  /** Whether a writer (16 hexadecimal digits) of this machine still runs; undefined for another machine's. Default: unknown. */
  readonly isLiveWriter?: ((writer: string) => boolean | undefined) | undefined;
}

/** Requests of one store's ledger at a time. */
export const REQUESTS_AT_ONCE = 8;
/** How many times `freshMs` what was heard may be old, at most, where nobody else writes. */
const STALE_FACTOR = 4;
/** How many times a store's segments are listed again because one was gone when it was to be read. */
const RELISTS = 8;

/** How long a pool that is closed goes on to merge segments, in milliseconds. */
const CLOSE_MERGE_MS = 3000;

export class Ledger {
  readonly members: readonly Member[];
  /** This process as a writer: the machine and 8 digits of its own. */
  readonly writer: string;
  readonly clock: HybridClock;
  readonly #options: LedgerOptions;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #freshMs: number;
  readonly #hearMs: number;
  #index: LedgerIndex = new MemoryIndex();
  #pool: string | undefined;
  /** What the pool is to be, should this process make it. */
  #newPool: string | undefined;
  #heardAtMs = -Infinity;
  #hearing: Promise<void> | undefined;
  #nextHearing: Promise<void> | undefined;
  readonly #asking = new Map<Member, Promise<Answer>>();
  /** What the index says of the stores, and whether nobody else writes: see `#lookAgain`. */
  readonly #stores = new Map<StoreId, StoreRecord>();
  #sole: boolean | undefined;
  #initialising: Promise<void> | undefined;
  readonly #segments: SegmentWriter;
  readonly #compaction: Compaction;
  /** Segments that no store gave whole: what they held is unknown. */
  #unreadable: ReadonlySet<string> = new Set();
  /** Members that have said who they are. */
  readonly #named = new Set<Member>();

  constructor(options: LedgerOptions) {
    this.#options = options;
    this.members = options.members;
    this.#runtime = options.runtime;
    this.#logger = options.logger;
    this.#freshMs = options.freshMs ?? 1000;
    this.#hearMs = options.hearMs ?? 10_000;
    this.writer = options.writer ?? options.machine + options.runtime.randomHex(4);
    this.clock = new HybridClock(options.runtime, this.writer);
    this.#segments = new SegmentWriter(this, {
      runtime: options.runtime,
      laterMs: options.laterMs ?? 500,
      onStores: () => this.#lookAgain(),
    });
    this.#compaction = new Compaction(this, this.#segments, { logger: options.logger, mergeAt: options.mergeAt ?? 32 });
    if (options.knownPool !== undefined) this.#adoptPool(options.knownPool);
  }

  get index(): LedgerIndex {
    return this.#index;
  }

  get pool(): string | undefined {
    return this.#pool;
  }

  /** Segments that could not be read from any store: while there are some, absence proves nothing. */
  get unreadableSegments(): ReadonlySet<string> {
    return this.#unreadable;
  }

  memberById(id: StoreId): Member | undefined {
    return this.members.find((member) => member.id === id);
  }

  /** Whether every segment ever read was written by this machine. */
  get soleWriter(): boolean {
    this.#sole ??= this.#index.getFact("other-writer") === undefined;
    return this.#sole;
  }

  /** Whether this machine's index holds what the member's ledger held when it last answered. */
  wasHeard(member: Member): boolean {
    return member.id !== undefined && this.#index.getFact(`heard:${member.id}`) !== undefined;
  }

  /** Whether a writer (16 hexadecimal digits) of this machine still runs; undefined for another machine's. */
  isLiveWriter(writer: string): boolean | undefined {
    return this.#options.isLiveWriter?.(writer);
  }

  /** Whether every object on the member is known to be recorded. */
  isCensused(member: Member): boolean {
    return this.#storeOf(member)?.censused ?? false;
  }

  /** What is known of a member, looked up once for each time the stores are asked: every write needs it. */
  #storeOf(member: Member): StoreRecord | undefined {
    if (member.id === undefined) return undefined;
    const known = this.#stores.get(member.id) ?? this.#index.store(member.id);
    if (known !== undefined) this.#stores.set(member.id, known);
    return known;
  }

  /** The index may say otherwise of the stores and of who writes. */
  #lookAgain(): void {
    this.#stores.clear();
    this.#sole = undefined;
  }

  /** Whether the member is being emptied. Never all of them: two machines that each drain another one at once undo it. */
  isDraining(member: Member): boolean {
    return this.#isDrained(member) && !this.members.every((other) => this.#isDrained(other));
  }

  #isDrained(member: Member): boolean {
    return this.#storeOf(member)?.state === "draining";
  }

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
    const willDo = this.#ageMs() < this.#freshMs * STALE_FACTOR && this.soleWriter && this.members.every(isReady);
    if (!willDo) return freshened;
    // What keeps them from being heard is met by who next has to wait for it.
    freshened.catch(() => undefined);
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
    const answers = await this.#askAll(this.members);
    await this.#take(answers);
    // Another process may have given a store its identity after the store was asked, and said so where this one read it.
    const missing = this.members.filter((member) => member.state === "missing");
    if (missing.length > 0) await this.#take(await this.#askAll(missing));
    for (const member of this.members) {
      if (member.ready && member.id !== undefined && !this.wasHeard(member)) {
        this.#index.setFact(`heard:${member.id}`, "1");
      }
    }
    this.#lookAgain();
    this.#heardAtMs = this.#runtime.monotonicMs();
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

  /** What the stores answered becomes what is known of them; reads the segments that are new. */
  async #take(answers: ReadonlyMap<Member, Answer>): Promise<void> {
    this.#choosePool([...answers.values()].flatMap(({ identity }) => identity ?? []));
    for (const [member, { identity, segments, error, asOf }] of answers) {
      if (asOf !== undefined && asOf !== member.identified) continue;
      member.error = error;
      if (error !== undefined) {
        member.state = "unreachable";
        this.#logger.debug("store does not answer", { store: member.label, reason: error.message });
        continue;
      }
      for (const name of member.written) segments.add(name);
      member.segments = segments;
      if (identity === undefined) {
        member.state = "new";
      } else {
        member.id = identity.store;
        this.#named.add(member);
        member.state = identity.pool === this.#pool ? "ready" : "foreign";
      }
    }
    this.#refuseTwins();
    await this.#readSegments();
    for (const member of this.members) this.#recognise(member);
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
      const [identity, segments] = await Promise.all([this.#readIdentity(member), this.#listSegments(member)]);
      member.latencyMs = this.#runtime.monotonicMs() - started;
      return { identity, segments, asOf };
    } catch (error) {
      const failure = toHoldfastError(error, "unavailable").within({ store: member.label, operation: "open" });
      return { error: failure, segments: new Set(), asOf };
    }
  }

  async #readIdentity(member: Member): Promise<Identity | undefined> {
    try {
      const { body } = await member.store.get(IDENTITY_NAME);
      return parseIdentity(await collect(body), member.label);
    } catch (error) {
      if (error instanceof HoldfastError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  async #listSegments(member: Member): Promise<Set<string>> {
    const names = new Set<string>();
    for await (const { name } of member.store.list(SEGMENT_PREFIX)) {
      if (parseSegmentName(name) !== undefined) names.add(name);
    }
    return names;
  }

  /**
   * The pool that these stores are: the one known before, while any of them says so; else the one that most of them
   * belong to, the first in the pool's order where they are even. The others' stores are foreign.
   */
  #choosePool(identities: readonly Identity[]): void {
    const votes = new Map<string, number>();
    for (const { pool } of identities) votes.set(pool, (votes.get(pool) ?? 0) + 1);
    if (votes.size === 0 || (this.#pool !== undefined && votes.has(this.#pool))) return;
    const [best] = [...votes].sort((a, b) => b[1] - a[1])[0] ?? [];
    if (best !== undefined) this.#adoptPool(best);
  }

  #adoptPool(pool: string): void {
    const former = this.#index;
    this.#pool = pool;
    this.#index = this.#options.openIndex(pool);
    this.#lookAgain();
    const latest = this.#index.getFact("clock");
    if (latest !== undefined) this.clock.observe(latest);
    this.#options.onPool?.(pool);
    // oxlint-disable-next-line typescript/no-floating-promises -- an index in memory, or one of a pool that is not ours
    former.close();
  }

  /** Two entries of the pool's file that lead to the same store would count one copy as two. */
  #refuseTwins(): void {
    const seen = new Map<StoreId, Member>();
    for (const member of this.members) {
      if (!member.ready || member.id === undefined) continue;
      const twin = seen.get(member.id);
      if (twin !== undefined) {
        throw new HoldfastError("config", `${twin.label} and ${member.label} are the same store: take one out`);
      }
      seen.set(member.id, member);
    }
  }

  /** A store that is down, or holds nothing, is recognised by its URL. */
  #recognise(member: Member): void {
    if (member.ready || member.state === "foreign") return;
    // What it said of itself goes before what was made up while it had not been reached.
    if (member.state === "unreachable" && this.#named.has(member)) return;
    const taken = new Set(this.members.filter((other) => other.ready).map((other) => other.id));
    const known = this.#index
      .stores()
      .filter((record) => record.fingerprint === member.fingerprint && !taken.has(record.id))
      .sort((a, b) => (a.rev < b.rev ? 1 : -1))[0];
    if (known === undefined) return;
    member.id = known.id;
    if (member.state === "new" && known.state !== "expected") member.state = "missing";
  }

  /** Reads segments not read before, from whichever store gives them whole. */
  async #readSegments(): Promise<void> {
    const wanted = new Map<string, Member[]>();
    for (const member of this.members) {
      if (!member.ready) continue;
      for (const name of member.segments) {
        if (this.#index.hasSegment(name)) continue;
        const holders = wanted.get(name);
        if (holders === undefined) wanted.set(name, [member]);
        else holders.push(member);
      }
    }
    // The name of a segment begins with its level and its time.
    const inOrder = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1));
    // What a store that is silent now had damaged is still unknown.
    const damaged = new Set(this.members.every(isReady) ? [] : this.#unreadable);
    await forEachBounded(inOrder, REQUESTS_AT_ONCE, ([name, holders]) => this.#readSegment(name, holders, damaged));
    // What replaces a damaged one may have been read after it.
    const isRead = (name: string): boolean => this.#index.hasSegment(name);
    this.#unreadable = new Set([...damaged].filter((name) => !isRead(name) && !isReplaced(this.#index, name, isRead)));
  }

  /** Reads one segment; notes it in `damaged` where no store gave it whole. */
  async #readSegment(name: string, holders: readonly Member[], damaged: Set<string>): Promise<void> {
    let gone = false;
    for (const member of holders) {
      try {
        const segment = await this.fetchSegment(member, name);
        this.#learn(name, segment);
        return;
      } catch (error) {
        const failure = toHoldfastError(error, "unavailable");
        if (failure.code === "unsupported") throw failure;
        if (failure.code === "not-found") {
          // Merged into another segment by another machine since it was listed.
          member.segments.delete(name);
          gone = true;
        } else if (failure.code === "corrupt") {
          damaged.add(name);
          this.#logger.warn("segment of the ledger is damaged", { store: member.label, segment: name });
        } else {
          member.state = "unreachable";
          member.error = failure.within({ store: member.label, operation: "open" });
        }
      }
    }
    // What replaced it was written before it was removed.
    if (gone && holders.every(isReady)) await this.#relist(holders);
  }

  async #relist(holders: readonly Member[]): Promise<void> {
    for (const member of holders) {
      try {
        // What is merged on and on by others may be gone once more.
        for (let round = 0; !(await this.#readFresh(member, round === RELISTS)); round++);
      } catch (error) {
        member.state = "unreachable";
        member.error = toHoldfastError(error, "unavailable").within({ store: member.label, operation: "open" });
      }
    }
  }

  /** Lists a member's segments and reads those not read before. False: one was gone meanwhile; an error when `isLast`. */
  async #readFresh(member: Member, isLast: boolean): Promise<boolean> {
    const segments = await this.#listSegments(member);
    const fresh = [...segments].filter((name) => !member.segments.has(name) && !this.#index.hasSegment(name));
    member.segments = segments;
    for (const name of fresh) {
      try {
        const segment = await this.fetchSegment(member, name);
        this.#learn(name, segment);
      } catch (error) {
        member.segments.delete(name);
        if (isLast || !(error instanceof HoldfastError && error.code === "not-found")) throw error;
        return false;
      }
    }
    return true;
  }

  /** One segment from one store, checked. */
  async fetchSegment(member: Member, name: string): Promise<Segment> {
    const { body } = await member.store.get(name);
    const segment = decodeSegment(await collect(body));
    if (segment.pool !== this.#pool) {
      throw new HoldfastError("corrupt", "a segment of another pool's ledger stands in this one", {
        store: member.label,
        object: name,
      });
    }
    return segment;
  }

  #learn(name: string, segment: Segment): void {
    this.#noteWriter(name.slice(name.lastIndexOf("/") + 3));
    for (const record of segment.objects) this.#observe(record);
    for (const record of segment.stores) this.clock.observe(record.rev);
    this.#index.apply({ objects: segment.objects, stores: segment.stores, segment: name });
    for (const replaced of segment.replaces) this.#index.setFact(`replaced:${replaced}`, name);
    this.#lookAgain();
  }

  #observe(record: ObjectRecord): void {
    this.#noteWriter(record.version);
    this.clock.observe(record.version);
    for (const mark of Object.values(record.copies)) if (mark.rev !== record.version) this.clock.observe(mark.rev);
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

  #noteWriter(version: Version): void {
    if (version.slice(17, 25) !== this.#options.machine && this.soleWriter) {
      this.#index.setFact("other-writer", "1");
      this.#lookAgain();
    }
  }

  /** Makes sure that every store that answers has an identity. Throws when none can be written. */
  async initialise(): Promise<void> {
    // What another operation began may have met stores that answer only now.
    if (this.#initialising !== undefined) await this.#initialising.catch(() => undefined);
    this.#segments.recover();
    if (this.members.every((member) => this.#isKnown(member))) return;
    this.#initialising ??= this.#initialise().finally(() => {
      this.#initialising = undefined;
    });
    await this.#initialising;
  }

  /** Whether a member needs nothing of `initialise`: it has an identity, and the ledger knows of it. */
  #isKnown(member: Member): boolean {
    if (member.state === "new" || member.id === undefined) return false;
    return !member.ready || this.#storeOf(member) !== undefined;
  }

  async #initialise(): Promise<void> {
    // Another process may do the same at this moment: whoever loses a store to it learns from it what the pool is.
    for (let round = 0; round < 4; round++) {
      if (!(await this.#giveIdentities())) return;
      await this.hear();
    }
  }

  /** True when another process was first somewhere. */
  async #giveIdentities(): Promise<boolean> {
    const fresh = this.members.filter((member) => member.state === "new");
    const records: StoreRecord[] = [];
    let outrun = false;
    const join = async (member: Member, pool: string, isNewPool: boolean): Promise<void> => {
      try {
        records.push(await this.#join(member, pool, isNewPool));
      } catch (error) {
        const failure = toHoldfastError(error, "unavailable").within({ store: member.label, operation: "put" });
        if (failure.code === "conflict") outrun = true;
        else {
          member.state = "unreachable";
          member.error = failure;
        }
      }
    };
    const isNewPool =
      this.#pool === undefined || (this.#index.stores().length === 0 && !this.members.some((member) => member.ready));
    if (isNewPool) {
      // A store that is to be the first may take its identity and answer with an error, or this process may die: the next
      // attempt must make the same pool, whether that store answers then or not.
      this.#newPool ??= this.#pool ?? this.#runtime.randomHex(16);
      const pool = this.#newPool;
      this.#options.onPool?.(pool);
      // One store decides what the pool is, the same one for all that make it at once, whatever their order of stores.
      for (const member of [...fresh].sort((a, b) => (a.fingerprint < b.fingerprint ? -1 : 1))) {
        await join(member, pool, true);
        if (outrun) return true;
        if (records.length > 0) break;
      }
      if (records.length === 0) return false;
      if (this.#pool !== pool) this.#adoptPool(pool);
    }
    const pool = this.#pool;
    if (pool === undefined) return false;
    await Promise.all(fresh.filter((member) => member.state === "new").map((member) => join(member, pool, isNewPool)));
    for (const member of this.members) {
      if (this.#isKnown(member) || member.state === "new") continue;
      if (member.ready && member.id !== undefined) {
        if (records.some((record) => record.id === member.id)) continue;
        // Whoever gave it its identity died before saying so.
        records.push(this.#storeRecord(member, member.id, "joining", false));
      } else if (member.id === undefined && member.state === "unreachable") {
        member.id = this.#runtime.randomHex(8);
        records.push(this.#storeRecord(member, member.id, "expected", false));
      }
    }
    await Promise.all(this.append({ stores: records }).values());
    for (const member of fresh) {
      if (member.ready && member.id !== undefined) this.#index.setFact(`heard:${member.id}`, "1");
    }
    return outrun;
  }

  #storeRecord(member: Member, id: StoreId, state: StoreRecord["state"], censused: boolean): StoreRecord {
    const { fingerprint, label } = member;
    return { id, rev: this.clock.next(), fingerprint, label, state, censused };
  }

  async #join(member: Member, pool: string, isNewPool: boolean): Promise<StoreRecord> {
    const empty = await this.#isEmpty(member);
    const store = member.id ?? this.#runtime.randomHex(8);
    await member.store.put(IDENTITY_NAME, toBody(formatIdentity({ pool, store })), {
      ifAbsent: member.store.capabilities.conditionalPut,
    });
    // Another machine may have been first: what stands there decides.
    const identity = await this.#readIdentity(member);
    if (identity?.pool !== pool || identity.store !== store) {
      throw new HoldfastError(
        "conflict",
        `${member.label} was given an identity by another process at the same moment`,
        {
          store: member.label,
        },
      );
    }
    member.id = store;
    member.state = "ready";
    member.identified++;
    return this.#storeRecord(member, store, isNewPool ? "member" : "joining", empty);
  }

  /** Gives a store that lost everything its identity again, so that repair fills it. Only on the user's word. */
  async refill(member: Member): Promise<void> {
    if (member.state !== "missing" || member.id === undefined || this.#pool === undefined) return;
    const former = this.#index.store(member.id);
    await member.store.put(IDENTITY_NAME, toBody(formatIdentity({ pool: this.#pool, store: member.id })));
    member.state = "ready";
    member.identified++;
    member.error = undefined;
    member.segments = new Set();
    if (former !== undefined) {
      await Promise.all(
        this.append({ stores: [{ ...former, rev: this.clock.next(), state: "joining", censused: true }] }).values(),
      );
    }
  }

  async #isEmpty(member: Member): Promise<boolean> {
    for await (const { name } of member.store.list("")) if (!isReserved(name)) return false;
    return true;
  }

  /**
   * Makes records durable. Gives, for each store of the pool, a promise of how that went; the index learns the records
   * once one store has them. Callers that arrive while a segment is being written share the next one.
   */
  append(records: { objects?: readonly ObjectRecord[]; stores?: readonly StoreRecord[] }): Appended {
    return this.#segments.append(records);
  }

  /** The same for what costs nothing but time while it is not yet written. */
  appendLater(records: readonly ObjectRecord[]): void {
    this.#segments.appendLater(records);
  }

  /** The same for what the index may learn at once: see {@link SegmentWriter.appendKnown}. */
  appendKnown(record: ObjectRecord, clears: string): Promise<void> {
    return this.#segments.appendKnown(record, clears);
  }

  /** The record, where the index has it and the stores may not have it yet: see {@link SegmentWriter.appendKnown}. */
  unwritten(record: ObjectRecord | undefined): readonly ObjectRecord[] {
    return record !== undefined && this.#segments.isUnwritten(record) ? [record] : [];
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
    if (!this.#unreadable.has(name) || !this.members.every(isReady)) return false;
    for (const { id } of this.members) if (id !== undefined) await this.recordStore(id, { censused: false });
    await this.#compaction.removeEverywhere(name);
    this.#unreadable = new Set([...this.#unreadable].filter((other) => other !== name));
    return true;
  }

  /** Waits until everything appended has been written or has failed, and keeps the ledger short. */
  async settle(): Promise<void> {
    await this.flushed();
    // One that is under way began before the last segments were written.
    await this.#compaction.ended();
    await this.#compaction.maintain();
  }

  /** Notes a fact about a store of the pool, on all stores. */
  async recordStore(
    id: StoreId,
    change: Partial<Pick<StoreRecord, "state" | "censused" | "label" | "fingerprint">>,
  ): Promise<void> {
    const known = this.#index.store(id);
    if (known === undefined) return;
    const same = Object.entries(change).every(([key, value]) => known[key as keyof StoreRecord] === value);
    if (same) return;
    await Promise.all(this.append({ stores: [{ ...known, ...change, rev: this.clock.next() }] }).values());
  }

  /** Writes what has yet to be written, and merges segments for a while where this process added some. */
  async close(): Promise<void> {
    await this.#hearing?.catch(() => undefined);
    await this.flushed();
    if (this.#segments.hasWritten) await this.#compaction.finish(this.#runtime, CLOSE_MERGE_MS);
    const objects = this.#segments.unwritten;
    if (objects > 0)
      this.#logger.warn("records could not be written; the next run from this machine does it", { objects });
    this.#options.onClose?.(this.#index);
    await this.#index.close();
  }
}

/** What a store said of itself: its identity (undefined: it has none) and its segments, or why it said nothing. */
interface Answer {
  readonly identity?: Identity | undefined;
  readonly segments: Set<string>;
  readonly error?: HoldfastError;
  /** `identified` of the member when it was asked. */
  readonly asOf?: number;
}

function isReady(member: Member): boolean {
  return member.ready;
}
