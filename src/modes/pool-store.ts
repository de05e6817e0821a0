/**
 * A pool as a store: mirror and stripe over the same records.
 *
 * The two modes differ in where bytes go (`#putMirror`, `#putStripe`). All else follows from the ledger: what is current,
 * who holds it, who owes it. See docs/decisions/0001-ledger.md for why each step comes when it does.
 */
import { checkedBytes } from "../body.ts";
import { ContentDigest, loadDigests } from "../digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../errors.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion, isPut, mayBeUnfinished, openIntents } from "../ledger/record.ts";
import type { Content, CopyMark, NameState, ObjectRecord, PutRecord, StoreId } from "../ledger/record.ts";
import type { Logger } from "../log.ts";
import { nestedLabel } from "../nested-label.ts";
import { checkName, compareNames, isReserved, MAX_NAME_BYTES, RESERVED_PREFIX } from "../names.ts";
import type { Mode, OnFail, PoolDeleteResult, PoolObjectInfo, PoolPutResult } from "../pool.ts";
import { resolveRange } from "../ranges.ts";
import type { Runtime } from "../runtime.ts";
import type {
  Body,
  Capabilities,
  Debt,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  ObjectMetadata,
  OperationOptions,
  PutOptions,
  Store,
} from "../store.ts";
import { fanOut } from "./fan-out.ts";
import type { FanOutBranch } from "./fan-out.ts";
import { mergeLists } from "./merge-lists.ts";
import { targetsOf, turnOrder, weightedOrder } from "./placement.ts";
import type { Place } from "./placement.ts";
import { copyTo } from "./copy.ts";
import { unrecordedRead } from "./unrecorded-read.ts";
import { noGoodCopy, verifiedRead } from "./verified-read.ts";
import type { Source } from "./verified-read.ts";

export interface PoolStoreOptions {
  readonly label: string;
  readonly ledger: Ledger;
  readonly mode: Mode;
  readonly onfail: OnFail;
  /** Copies that a mirror's put needs at least. Default 1. */
  readonly min?: number | undefined;
  readonly place?: Place | undefined;
  /** Mirror: which copy is read first. Default `first`, the pool's order. */
  readonly read?: "first" | "fastest" | undefined;
  /**
   * Mirror with `onfail=continue`: whether a put waits for all stores (the default), or only for `min` of them and as
   * long again for the others. What those still miss is owed, and brought after the caller was answered.
   */
  readonly wait?: "all" | "min" | undefined;
  readonly runtime: Runtime;
  readonly logger: Logger;
  /** A body that gives its bytes once, as one that can be opened again; needed for stripe to go on to the next store. */
  readonly replayable: (body: Body) => { readonly body: Body; dispose(): Promise<void> };
  /** This pool is a store of another one: the other's own names are kept under a name of their own. Default false. */
  readonly nested?: boolean | undefined;
  /** How long an intent of another machine is left alone, in milliseconds. Default one hour. */
  readonly leaseMs?: number | undefined;
}

/** Where a pool keeps the reserved names of a pool above it. */
const ABOVE_PREFIX = ".holdfast/above/";
export const DEFAULT_LEASE_MS = 3_600_000;
const MAX_METADATA_BYTES = 8192;
/** How long, at least, stores may take longer than the first `min`, in milliseconds. */
const GRACE_MS = 100;
/** How long a store may hold up the reading of the source when others need not wait for it, in milliseconds. */
const PATIENCE_MS = 1000;
/** How long what was said of a store's free space is used, in milliseconds. */
const FREE_SPACE_MS = 10_000;

export class PoolStore implements Store {
  readonly label: string;
  readonly mode: Mode;
  readonly onfail: OnFail;
  readonly ledger: Ledger;
  readonly capabilities: Capabilities;
  readonly #options: PoolStoreOptions;
  readonly #min: number;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #locks = new Map<string, Promise<void>>();
  readonly #free = new Map<Member, { readonly atMs: number; readonly bytes: number | undefined }>();
  /** Work for a name that goes on after its caller was answered. */
  readonly #tails = new Map<string, Promise<void>>();
  readonly #renewals = new Map<string, () => void>();
  /** Names held by repair rather than by a write. */
  readonly #holding = new Set<string>();
  #opened: Promise<void> | undefined;
  #closed = false;

  constructor(options: PoolStoreOptions) {
    this.#options = options;
    this.label = options.label;
    this.mode = options.mode;
    this.onfail = options.onfail;
    this.ledger = options.ledger;
    this.#min = options.mode === "mirror" ? (options.min ?? 1) : 1;
    this.#runtime = options.runtime;
    this.#logger = options.logger;
    this.capabilities = capabilitiesOf(options.ledger.members.map((member) => member.store));
  }

  /** Loads what reads and writes need, and hears the stores for the first time. */
  open(): Promise<void> {
    this.#opened ??= loadDigests().then(() => this.ledger.hear());
    return this.#opened;
  }

  async #enter(signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    if (this.#closed) throw new HoldfastError("invalid", "the pool is closed", { store: this.label });
    await this.open();
    await this.ledger.keepFresh();
    throwIfAborted(signal);
  }

  #inner(name: string): string {
    if (!isReserved(name)) return name;
    if (this.#options.nested !== true || !name.startsWith(RESERVED_PREFIX)) {
      throw new HoldfastError("invalid", `names that begin with ${RESERVED_PREFIX} are Holdfast's own`, {
        store: this.label,
        object: name,
      });
    }
    return ABOVE_PREFIX + name.slice(RESERVED_PREFIX.length);
  }

  #outer(name: string): string {
    return name.startsWith(ABOVE_PREFIX) ? RESERVED_PREFIX + name.slice(ABOVE_PREFIX.length) : name;
  }

  // ----------------------------------------------------------------------------------- what repair needs to know

  /** The mode that holds for a name: a pool's own names are kept on all its stores. */
  modeFor(name: string): Mode {
    return name.startsWith(ABOVE_PREFIX) ? "mirror" : this.mode;
  }

  /** Where an object should be (mirror) or may be (stripe). */
  targets(name: string): readonly Member[] {
    return targetsOf(name, this.modeFor(name), this.ledger.members, (member) => this.ledger.isDraining(member));
  }

  /** The name as this pool's users know it. */
  shownName(name: string): string {
    return this.#outer(name);
  }

  /** Whether a change of the name is under way in this process. */
  isBusy(name: string): boolean {
    return this.#locks.has(name);
  }

  /** Whether the writer of an open intent is certainly gone. To be asked while holding the name (`exclusive`). */
  isDead(intent: ObjectRecord): boolean {
    const writer = intent.version.slice(17);
    if (writer === this.ledger.writer) return !this.isBusy(intent.name) || this.#holding.has(intent.name);
    const isLive = this.ledger.isLiveWriter(writer);
    if (isLive !== undefined) return !isLive;
    const renewed = Object.values(intent.copies).reduce(
      (rev, mark) => (mark.rev > rev ? mark.rev : rev),
      intent.version,
    );
    return this.#runtime.now() - versionMs(renewed) > (this.#options.leaseMs ?? DEFAULT_LEASE_MS);
  }

  // ---------------------------------------------------------------------------------------------------- certainty

  /** Stores whose silence means that more, or newer, could exist than is known of `name` (undefined: of any name). */
  mayHide(name?: string): readonly Member[] {
    const unheard = this.ledger.members.filter((member) => !member.readable);
    if (unheard.length === 0) return [];
    if (this.ledger.unreadableSegments.size > 0) return unheard;
    if (!unheard.every((member) => this.ledger.isCensused(member))) return unheard;
    // Every acknowledged put is on at least `min` stores, so fewer silent ones than that cannot hide one.
    if (this.mode === "mirror" && unheard.length < this.#min) return [];
    // Who else has begun to write meanwhile told every store that it reached: at least one has to answer.
    if (unheard.length === this.ledger.members.length) return unheard;
    // Nobody else ever wrote, and this machine's index knows all that it wrote itself.
    const own = this.ledger.soleWriter && unheard.every((member) => this.ledger.wasHeard(member));
    if (!own) return unheard;
    return this.#anyAbandoned(name) ? unheard : [];
  }

  /**
   * Whether a put of a new name was begun by this machine and never ended: what it left may stand on a silent store. One
   * that is still under way may count as not begun yet.
   */
  #anyAbandoned(name: string | undefined): boolean {
    const { index } = this.ledger;
    const key = name === undefined ? undefined : pendingKey(name);
    const version = key === undefined ? undefined : index.getFact(key);
    const begun =
      key === undefined ? index.facts(pendingKey("")) : version === undefined ? [] : [[key, version] as const];
    for (const [pending, by] of begun) {
      const writer = by.slice(17);
      const isLive =
        writer === this.ledger.writer
          ? this.isBusy(pending.slice(pendingKey("").length))
          : (this.ledger.isLiveWriter(writer) ?? false);
      if (!isLive) return true;
    }
    return false;
  }

  #absent(name: string, operation: "get" | "stat"): HoldfastError {
    const silent = this.mayHide(name);
    const context = { store: this.label, operation, object: name } as const;
    if (silent.length === 0 && this.ledger.unreadableSegments.size === 0) {
      return new HoldfastError("not-found", "there is no such object", context);
    }
    const who = silent.map((member) => member.label).join(", ");
    return new HoldfastError(
      "unavailable",
      silent.length === 0
        ? "a part of the ledger is damaged on every store, so it cannot be said whether the object exists"
        : `no store that answered has it, but ${who} did not answer and could hold it`,
      { ...context, errors: silent.map((member) => member.trouble()), cause: silent[0]?.trouble() },
    );
  }

  // ---------------------------------------------------------------------------------------------------------- put

  async put(name: string, body: Body, options: PutOptions = {}): Promise<PoolPutResult> {
    checkName(name);
    const inner = this.#inner(name);
    if (options.ifAbsent === true) {
      // What the ledgers say and what the stores decide are two moments: another machine may put in between.
      throw new HoldfastError("unsupported", "a pool cannot decide, for all machines, that an object is new", {
        store: this.label,
        operation: "put",
        object: name,
      });
    }
    if (typeof options.metadata !== "function") checkMetadata(options.metadata);
    await this.#enter(options.signal);
    try {
      return await this.#exclusive(inner, () => this.#putExclusively(inner, body, options));
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "put", object: name });
    }
  }

  async #putExclusively(name: string, body: Body, options: PutOptions): Promise<PoolPutResult> {
    await this.ledger.initialise();
    this.#checkHeld(name);
    this.#refuseNeighbours(name);
    try {
      return this.modeFor(name) === "mirror"
        ? await this.#putMirror(name, body, options)
        : await this.#putStripe(name, body, options);
    } finally {
      this.#stopRenewing(name);
      this.ledger.maintainSoon();
    }
  }

  /**
   * A name that one of the stores cannot hold is refused before anything is written: a debt of it could never be paid.
   * File systems give a meaning to empty parts, `.` and `..`.
   */
  #checkHeld(name: string): void {
    const { maxNameBytes, maxNamePartBytes, prefixNames } = this.capabilities;
    const parts = name.split("/");
    const why =
      Buffer.byteLength(name) > maxNameBytes
        ? `the name is longer than ${maxNameBytes} bytes`
        : maxNamePartBytes !== undefined && parts.some((part) => Buffer.byteLength(part) > maxNamePartBytes)
          ? `a part of the name is longer than ${maxNamePartBytes} bytes`
          : !prefixNames && parts.some((part) => part === "" || part === "." || part === "..")
            ? "a part of the name is empty, one dot or two"
            : undefined;
    if (why !== undefined) {
      throw new HoldfastError("invalid", `a store of this pool cannot hold the name ${JSON.stringify(name)}: ${why}`);
    }
  }

  /** Folders cannot hold both `a` and `a/b`; where they stand on different ones, repair could not move them. */
  #refuseNeighbours(name: string): void {
    if (this.capabilities.prefixNames) return;
    const { index } = this.ledger;
    const refuse = (other: string): never => {
      throw new HoldfastError(
        "conflict",
        `${JSON.stringify(this.#outer(other))} exists, and a folder cannot hold both`,
      );
    };
    for (let at = name.indexOf("/"); at !== -1; at = name.indexOf("/", at + 1)) {
      const above = name.slice(0, at);
      if (isPut(currentRecord(index.get(above)))) refuse(above);
    }
    if (isPut(currentRecord(index.get(name)))) return;
    for (const [below, state] of index.iterate(`${name}/`)) if (isPut(currentRecord(state))) refuse(below);
  }

  async #putMirror(name: string, body: Body, options: PutOptions): Promise<PoolPutResult> {
    const targets = this.targets(name);
    if (targets.length === 0) throw new HoldfastError("unavailable", "every store of the pool is being drained");
    const failed = new Map<Member, HoldfastError>();
    for (const member of targets) if (!member.ready) failed.set(member, member.trouble());
    this.#refuseOnAbort(failed);
    const begun = await this.#begin(name, targets, failed);
    const taking = targets.filter((member) => !failed.has(member));
    if (taking.length < this.#min || (this.onfail === "abort" && failed.size > 0)) {
      this.#cancel(begun);
      this.#refuseOnAbort(failed);
      throw this.#tooFew(targets, failed);
    }

    const late =
      this.#options.wait === "min" && this.onfail === "continue" ? new Map<Member, Promise<boolean>>() : undefined;
    const stored = await this.#spread(begun, body, taking, failed, options.signal, late);
    const holders = taking.filter((member) => !failed.has(member));
    if (stored === undefined || holders.length === 0) {
      this.#refuseOnAbort(failed);
      throw this.#tooFew(targets, failed);
    }
    const result = await this.#commit(begun, stored, holders, failed, options);
    if (late !== undefined && late.size > 0) {
      this.#tails.set(name, this.#finishLate(result.record, result.holders, late));
    }
    // After the commit, so that what the half-done put left is one state, and known.
    this.#refuseOnAbort(failed);
    if (result.holders.length < this.#min) throw this.#tooFew(targets, failed);
    return result.answer;
  }

  /** Sends the body to every member of `taking` at once. Members that fail are added to `failed`. */
  async #spread(
    begun: Begun,
    body: Body,
    taking: readonly Member[],
    failed: Map<Member, HoldfastError>,
    signal: AbortSignal | undefined,
    late?: Map<Member, Promise<boolean>>,
  ): Promise<Content | undefined> {
    const { name } = begun;
    const digest = new ContentDigest(body.size);
    // A store that has to begin anew reads the source for itself; it must read the same.
    let content: Content | undefined;
    const agree = (read: Content): void => {
      content ??= read;
      if (content.sha256 !== read.sha256) {
        throw new HoldfastError("conflict", "the source changed while it was read", { operation: "put", object: name });
      }
    };
    const stop = new AbortController();
    const ends = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    const fan = fanOut(checkedBytes(body, ends), {
      readers: taking.length,
      onChunk: (chunk) => digest.update(chunk),
      onEnd: () => agree(digest.finish()),
      signal: ends,
      ...(late === undefined
        ? {}
        : { enough: { readers: this.#min, patienceMs: PATIENCE_MS, runtime: this.#runtime } }),
    });
    let sourceError: HoldfastError | undefined;
    const source = fan.source.then(
      () => undefined,
      (error: unknown) => {
        sourceError = toHoldfastError(error).within({ operation: "put", object: name });
      },
    );
    const put = async (member: Member, branch: FanOutBranch | undefined): Promise<boolean> => {
      if (branch === undefined) return false;
      try {
        const { owed } = await member.store.put(name, branchBody(branch, body, agree), { signal: ends });
        if (owed !== undefined && owed.length > 0) begun.below.set(member, owed);
        return true;
      } catch (error) {
        const failure = toHoldfastError(error).within({ store: member.label, operation: "put", object: name });
        failed.set(member, failure);
        if (this.onfail === "abort" && sourceError === undefined) stop.abort(failure);
        return false;
      } finally {
        branch.stop();
      }
    };
    const puts = new Map(taking.map((member, index) => [member, put(member, fan.branches[index])]));
    if (late === undefined) await Promise.all(puts.values());
    else await this.#waitForEnough(puts, failed, late);
    // No store listens any more: then the source is not waited for, it may never give another byte.
    if (taking.every((member) => failed.has(member) && late?.has(member) !== true)) stop.abort();
    else await source;
    // No store can have the whole of what never ended, so there is nothing left to settle.
    const delivered = content !== undefined || (body.size !== undefined && digest.size >= body.size);
    if (!delivered) this.#cancel(begun);
    throwIfAborted(signal);
    if (sourceError !== undefined) throw sourceError;
    return content;
  }

  /** Resolves when all puts have ended, or enough have and the others had as long again; those are then `late`. */
  async #waitForEnough(
    puts: ReadonlyMap<Member, Promise<boolean>>,
    failed: Map<Member, HoldfastError>,
    late: Map<Member, Promise<boolean>>,
  ): Promise<void> {
    const started = this.#runtime.monotonicMs();
    const waiting = new Set(puts.keys());
    let taken = 0;
    let cancel = (): void => undefined;
    await new Promise<void>((resolve) => {
      for (const [member, put] of puts) {
        void put.then((ok) => {
          waiting.delete(member);
          if (ok) taken++;
          if (waiting.size === 0) resolve();
          else if (ok && taken === this.#min) {
            const again = Math.max(GRACE_MS, this.#runtime.monotonicMs() - started);
            cancel = this.#runtime.timer(again, resolve);
          }
        });
      }
    });
    cancel();
    for (const [member, put] of puts) {
      if (!waiting.has(member)) continue;
      late.set(member, put);
      const message = `${member.label} is slower than the others and still being written to`;
      failed.set(member, new HoldfastError("timeout", message, { store: member.label, operation: "put" }));
    }
  }

  /** Sees the puts that were not waited for to their end, and brings what failed of them by a copy. */
  async #finishLate(
    record: PutRecord,
    holders: readonly Member[],
    late: ReadonlyMap<Member, Promise<boolean>>,
  ): Promise<void> {
    await Promise.all(
      [...late].map(async ([member, put]) => {
        try {
          if (!(await put)) await copyTo(record, holders, member, undefined);
        } catch (error) {
          this.#logger.warn("copy still owed", {
            object: record.name,
            store: member.label,
            reason: toHoldfastError(error).message,
          });
          return;
        }
        if (member.id === undefined) return;
        const mark: CopyMark = { state: "holds", rev: this.ledger.stamp(record) };
        this.ledger.appendLater([{ ...record, copies: { [member.id]: mark } }]);
      }),
    );
  }

  /** Notes that a put changed nothing. May follow later: until then it is an unfinished one that changed nothing. */
  #cancel(begun: Begun): void {
    if (!begun.hasIntent) {
      this.ledger.index.setFact(pendingKey(begun.name), undefined);
      return;
    }
    const current = currentRecord(begun.state);
    if (current !== undefined) {
      this.ledger.appendLater([{ ...current, copies: {}, settles: [begun.version] }]);
    }
  }

  async #putStripe(name: string, body: Body, options: PutOptions): Promise<PoolPutResult> {
    const targets = this.targets(name);
    const order = await this.#order(name, targets);
    const failed = new Map<Member, HoldfastError>();
    if (order[0] !== undefined && !order[0].ready) failed.set(order[0], order[0].trouble());
    this.#refuseOnAbort(failed);
    // A store that has not heard of the intent takes no bytes; that the others have heard of it does not matter to it.
    const deaf = new Map<Member, HoldfastError>();
    const begun = await this.#begin(name, order, deaf);
    // Stores on which this put may have left its bytes.
    const missed = new Map<Member, HoldfastError>();
    const replay = this.onfail === "continue" && order.length > 1 ? this.#options.replayable(body) : undefined;
    try {
      for (const member of order) {
        throwIfAborted(options.signal);
        const reason = deaf.get(member) ?? (member.ready ? undefined : member.trouble());
        if (reason !== undefined) {
          failed.set(member, reason);
          this.#refuseOnAbort(failed);
          continue;
        }
        const stored = await this.#spread(begun, replay?.body ?? body, [member], missed, options.signal);
        if (stored !== undefined && !missed.has(member)) {
          const { answer, holders } = await this.#commit(begun, stored, [member], missed, options);
          if (holders.length > 0) {
            for (const [store, error] of failed)
              this.#logger.warn("store passed over", { store: store.label, object: name, reason: error.message });
            return answer;
          }
        }
        for (const [store, error] of missed) failed.set(store, error);
        this.#refuseOnAbort(failed);
      }
    } finally {
      await replay?.dispose();
    }
    throw this.#tooFew(targets, failed);
  }

  /** Whose turn it is: counted in the local index, so that many runs of one put each go round too. */
  /** An object stays where it is: what need not move leaves nothing behind that would have to be deleted. */
  async #order(name: string, targets: readonly Member[]): Promise<readonly Member[]> {
    const current = currentRecord(this.ledger.index.get(name));
    const holder = targets.find(
      (member) => member.ready && member.id !== undefined && current?.copies[member.id]?.state === "holds",
    );
    const order = await this.#turn(targets);
    return holder === undefined ? order : [holder, ...order.filter((member) => member !== holder)];
  }

  async #turn(targets: readonly Member[]): Promise<readonly Member[]> {
    const known = this.ledger.index.getFact("turn");
    const turn = known === undefined ? Math.floor(this.#runtime.random() * 1024) : Number(known);
    this.ledger.index.setFact("turn", String((turn + 1) % 1_000_000_007));
    if (this.#options.place === "weighted") return weightedOrder(targets, turn);
    const order = turnOrder(targets, turn);
    if (this.#options.place !== "free") return order;
    const free = new Map(
      await Promise.all(order.map(async (member) => [member, await this.#freeBytes(member)] as const)),
    );
    return [...order].sort((a, b) => compareNumbers(free.get(b) ?? -1, free.get(a) ?? -1));
  }

  /** What a store says of its free space; undefined where it does not tell. */
  async #freeBytes(member: Member): Promise<number | undefined> {
    if (!member.ready || member.store.freeBytes === undefined) return undefined;
    const now = this.#runtime.monotonicMs();
    const known = this.#free.get(member);
    if (known !== undefined && now - known.atMs < FREE_SPACE_MS) return known.bytes;
    const bytes = await member.store.freeBytes().catch(() => undefined);
    this.#free.set(member, { atMs: now, bytes });
    return bytes;
  }

  /**
   * What is durable before the first byte changes. A name that may exist gets an intent on every store that will take
   * bytes; a store where it could not be written is out of this put. A new name gets a mark in the local index.
   */
  async #begin(name: string, targets: readonly Member[], failed: Map<Member, HoldfastError>): Promise<Begun> {
    const state = this.ledger.index.get(name);
    const version = this.ledger.stamp(...(state?.records ?? []));
    const base = highestVersion(state);
    const isNew =
      state === undefined &&
      this.ledger.soleWriter &&
      this.ledger.index.getFact(pendingKey(name)) === undefined &&
      this.ledger.members.every((member) => this.ledger.isCensused(member));
    if (isNew) {
      this.ledger.index.setFact(pendingKey(name), version);
      return { name, version, base, state, hasIntent: false, below: new Map() };
    }
    const copies: Record<StoreId, CopyMark> = {};
    // Only stores that may get bytes: what stands on another one is certainly not this write's.
    for (const member of targets) {
      if (member.id !== undefined && member.ready && !failed.has(member)) {
        copies[member.id] = { state: "copy", rev: version };
      }
    }
    const intent: ObjectRecord = { name, version, base, kind: "intent", copies };
    const appended = this.ledger.append({ objects: [intent] });
    this.#renew(intent);
    await Promise.all(
      targets.map(async (member) => {
        if (failed.has(member)) return;
        const error = await appended.get(member);
        if (error !== undefined) failed.set(member, error);
      }),
    );
    return { name, version, base, state, hasIntent: true, below: new Map() };
  }

  /** An intent says that its writer is alive; while a long put runs, it says so again. */
  #renew(intent: ObjectRecord): void {
    const { name } = intent;
    const every = (this.#options.leaseMs ?? DEFAULT_LEASE_MS) / 4;
    this.#renewals.set(
      name,
      this.#runtime.timer(every, () => {
        const rev = this.ledger.stamp(intent);
        const copies = Object.fromEntries(Object.entries(intent.copies).map(([id, mark]) => [id, { ...mark, rev }]));
        this.ledger.append({ objects: [{ ...intent, copies }] });
        this.#renew(intent);
      }),
    );
  }

  #stopRenewing(name: string): void {
    this.#renewals.get(name)?.();
    this.#renewals.delete(name);
  }

  /**
   * Makes the record of a put durable on the stores that took its bytes, before the caller is told. A store that has
   * the bytes and not the record counts as one that missed the put; that, too, is recorded on the others first.
   */
  async #commit(
    begun: Begun,
    content: Content,
    took: readonly Member[],
    failed: Map<Member, HoldfastError>,
    options: PutOptions,
  ): Promise<{ answer: PoolPutResult; record: PutRecord; holders: readonly Member[] }> {
    const { name } = begun;
    const version = await this.#versionToCommit(begun);
    const metadata = typeof options.metadata === "function" ? options.metadata() : options.metadata;
    checkMetadata(metadata);
    // Of a new name that is on every store, each one that answers later has the object, with its record or without.
    if (!begun.hasIntent && failed.size === 0 && took.length === this.ledger.members.length) {
      const { record } = this.#recordOf(begun, version, version, content, took, failed, metadata);
      await this.ledger.appendKnown(record, pendingKey(name));
      const answer = { size: content.size, sha256: content.sha256, owed: this.#owedBelow(begun, took) };
      return { answer, record, holders: took };
    }
    let holders = took;
    let record: PutRecord;
    let owedDeletes: readonly Member[];
    // The marks of the intent, and of an earlier attempt, were made before: these come after them.
    const isFirst = !begun.hasIntent && failed.size === 0;
    for (let rev: Version = isFirst ? version : this.ledger.clock.next(); ; rev = this.ledger.clock.next()) {
      ({ record, owedDeletes } = this.#recordOf(begun, version, rev, content, holders, failed, metadata));
      const appended = this.ledger.append({ objects: [record] });
      const errors = await Promise.all(holders.map(async (member) => [member, await appended.get(member)] as const));
      const lost = errors.filter(([, error]) => error !== undefined);
      for (const [member, error] of lost) if (error !== undefined) failed.set(member, error);
      holders = holders.filter((member) => !failed.has(member));
      if (lost.length === 0 || holders.length === 0) break;
    }
    if (holders.length > 0 && !begun.hasIntent) this.ledger.index.setFact(pendingKey(name), undefined);
    const deletes = await this.#deleteFrom(record, owedDeletes);
    const sinceMs = versionMs(version);
    const owed: Debt[] = [];
    if (this.modeFor(name) === "mirror") {
      for (const [member, error] of failed) {
        owed.push({ object: this.#outer(name), store: member.label, owes: "copy", sinceMs, reason: error.message });
      }
    }
    owed.push(...deletes);
    if (owed.length > 0) {
      this.#logger.warn("degraded", { object: name, owing: owed.map((debt) => debt.store) });
    }
    owed.push(...this.#owedBelow(begun, holders));
    return { answer: { size: content.size, sha256: content.sha256, owed }, record, holders };
  }

  /** What stores that are pools themselves owe of a put, by their own ledgers. They have logged it. */
  #owedBelow({ below }: Begun, holders: readonly Member[]): readonly Debt[] {
    return holders.flatMap((member) => debtsBelow(member, below.get(member)));
  }

  /** The record of a put, with marks of revision `rev`, and the members that owe a delete by it. */
  #recordOf(
    begun: Begun,
    version: Version,
    rev: Version,
    content: Content,
    holders: readonly Member[],
    failed: ReadonlyMap<Member, HoldfastError>,
    metadata: ObjectMetadata | undefined,
  ): { readonly record: PutRecord; readonly owedDeletes: readonly Member[] } {
    const { name, base, state } = begun;
    const mirrored = this.modeFor(name) === "mirror";
    const copies: Record<StoreId, CopyMark> = {};
    const owedDeletes: Member[] = [];
    for (const member of this.ledger.members) {
      if (member.id === undefined) continue;
      const error = failed.get(member);
      if (holders.includes(member)) copies[member.id] = { state: "holds", rev };
      else if (error !== undefined && mirrored) copies[member.id] = { state: "copy", rev, reason: error.code };
      else if (error !== undefined || this.#mayHold(member, begun)) {
        copies[member.id] = { state: "delete", rev };
        owedDeletes.push(member);
      }
    }
    for (const id of formerStores(state)) copies[id] ??= { state: "delete", rev };
    const former = currentRecord(state);
    const record: PutRecord = {
      name,
      version,
      base,
      kind: "put",
      content,
      copies,
      ...(version === begun.version ? {} : { settles: [begun.version] }),
      ...(isPut(former) ? { former: former.content.sha256 } : {}),
      ...(metadata === undefined ? {} : { metadata }),
    };
    return { record, owedDeletes };
  }

  /**
   * The version a put was begun with, unless another write that began later took its intent for history. The bytes of the
   * two may stand on the stores in any order: so both records must stand, and this put takes a version of its own again.
   */
  async #versionToCommit(begun: Begun): Promise<Version> {
    if (!begun.hasIntent) return begun.version;
    if (!this.ledger.soleWriter) await this.ledger.hear();
    const records = this.ledger.index.get(begun.name)?.records ?? [];
    const isHistory = records.some((record) => record.version !== begun.version && record.base >= begun.version);
    return isHistory ? this.ledger.stamp(...records) : begun.version;
  }

  /** Whether a copy of an earlier version may stand on a member that this put did not go to. */
  #mayHold(member: Member, begun: Begun): boolean {
    if (member.id === undefined) return false;
    if (formerStores(begun.state).has(member.id)) return true;
    // An object from before the ledger may stand anywhere; a put of this name that did not end as well.
    return (
      begun.hasIntent &&
      this.modeFor(begun.name) === "stripe" &&
      (begun.state === undefined || !this.ledger.isCensused(member))
    );
  }

  #refuseOnAbort(failed: ReadonlyMap<Member, HoldfastError>): void {
    const first = [...failed.values()].find((error) => error.code !== "aborted") ?? failed.values().next().value;
    if (this.onfail === "abort" && first !== undefined) {
      throw new HoldfastError(first.code, first.message, {
        store: first.store,
        operation: "put",
        cause: first,
        errors: [...failed.values()],
        retryable: first.retryable,
        retryAfterMs: first.retryAfterMs,
      });
    }
  }

  /** Fewer stores than needed hold the put: the last failure's error, with every store's cause. */
  #tooFew(targets: readonly Member[], failed: ReadonlyMap<Member, HoldfastError>): HoldfastError {
    const errors = targets.flatMap((member) => failed.get(member) ?? []);
    const last = errors.at(-1) ?? new HoldfastError("unavailable", "no store took it");
    const causes = errors.map((error) => `${error.store ?? "a store"}: ${error.message}`).join("; ");
    const wanted = this.#min > 1 ? `fewer than ${this.#min} stores took it` : "every store failed";
    return new HoldfastError(last.code, `${wanted} (${causes})`, {
      store: this.label,
      operation: "put",
      cause: last,
      errors,
      retryable: errors.some((error) => error.retryable),
      retryAfterMs: last.retryAfterMs,
    });
  }

  /** For repair: nobody else in this process changes the name while `work` runs. */
  exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#exclusive(name, async () => {
      this.#holding.add(name);
      try {
        return await work();
      } finally {
        this.#holding.delete(name);
      }
    });
  }

  /** One change of a name at a time in this process; other processes are told apart by their versions. */
  async #exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const result = before.then(work);
    const done = result
      .then(
        () => undefined,
        () => undefined,
      )
      // A put that was not waited for must not land on top of a later one.
      .then(() => this.#tails.get(name))
      .then(() => {
        this.#tails.delete(name);
      });
    this.#locks.set(name, done);
    void done.then(() => {
      if (this.#locks.get(name) === done) this.#locks.delete(name);
    });
    return result;
  }

  // ---------------------------------------------------------------------------------------------------------- get

  async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    checkName(name);
    const inner = this.#inner(name);
    await this.#enter(options.signal);
    try {
      return await this.#get(inner, name, options);
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "get", object: name });
    }
  }

  async #get(inner: string, name: string, options: GetOptions): Promise<GetResult> {
    let state = this.ledger.index.get(inner);
    for (let again = true; ; again = false) {
      try {
        return await this.#getFrom(state, inner, name, options);
      } catch (error) {
        throwIfAborted(options.signal);
        // What this machine knows may be behind another's: ask the stores once more before giving up.
        if (!again || (error instanceof HoldfastError && error.code === "invalid")) throw error;
        // A write of this process that is under way has changed copies that its record does not yet name.
        await this.#locks.get(inner);
        await this.ledger.hear();
        const fresh = this.ledger.index.get(inner);
        if (JSON.stringify(fresh) === JSON.stringify(state)) throw error;
        state = fresh;
      }
    }
  }

  async #getFrom(state: NameState | undefined, inner: string, name: string, options: GetOptions): Promise<GetResult> {
    const current = currentRecord(state);
    const unheard = this.mayHide(inner).map((member) => member.label);
    if (state === undefined || current === undefined) return this.#getUnrecorded(state, inner, name, unheard, options);
    let failure: unknown;
    // The newest version decides. Only when every store has answered and none has it good is an older one, written at
    // the same time elsewhere, what the object is.
    for (const record of state.records) {
      if (record.kind === "intent") continue;
      if (!isPut(record)) throw this.#absent(inner, "get");
      try {
        return await this.#getVersion(record, inner, name, unheard, options);
      } catch (error) {
        failure ??= error;
        const isLost = error instanceof HoldfastError && error.code === "corrupt";
        if (!isLost || !this.#allHeard(record)) throw error;
      }
    }
    if (openIntents(state).length > 0) return this.#getUnrecorded(state, inner, name, unheard, options);
    throw failure;
  }

  /** Whether every store that may have a copy of this version answers now. */
  #allHeard(record: ObjectRecord): boolean {
    return this.ledger.members.every(
      (member) => member.readable || (member.id !== undefined && record.copies[member.id]?.state === "none"),
    );
  }

  async #getVersion(
    record: PutRecord,
    inner: string,
    name: string,
    unheard: readonly string[],
    options: GetOptions,
  ): Promise<GetResult> {
    const { content } = record;
    const { start, end } = resolveRange(options.range, content.size);
    const stop = new AbortController();
    const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
    const { sources, silent } = this.#sources(record);
    const failures: HoldfastError[] = [];
    const bytes = verifiedRead(sources, {
      name: inner,
      content,
      start,
      end,
      signal,
      onFailure: (error) => {
        failures.push(error);
        this.#logger.warn("copy passed over", { object: inner, store: error.store, reason: error.message });
      },
    });
    // The first piece is checked before anything is promised.
    let first: IteratorResult<Uint8Array>;
    try {
      first = await bytes.next();
    } catch (error) {
      throwIfAborted(options.signal);
      const lost = error instanceof HoldfastError && error.code === "corrupt";
      if (lost && silent.length > 0) throw noGoodCopy(name, [...failures, ...silent]);
      throw error;
    }
    const close = async (): Promise<void> => {
      stop.abort();
      // oxlint-disable-next-line unicorn/no-useless-undefined -- ends a generator whose return type is void
      await bytes.return(undefined);
    };
    return {
      info: infoOf(name, record),
      body: joined(first, bytes),
      ...(unheard.length > 0 ? { unheard } : {}),
      close,
    };
  }

  /** Stores to read a version from, those that are known to hold it first; and those that would be asked if they answered. */
  #sources(record: PutRecord): { sources: Source[]; silent: HoldfastError[] } {
    const rank = (member: Member): number => {
      const mark = member.id === undefined ? undefined : record.copies[member.id]?.state;
      return mark === "holds" ? 0 : mark === "copy" || mark === undefined ? 1 : 2;
    };
    const latency = (member: Member): number => (this.#options.read === "fastest" ? (member.latencyMs ?? Infinity) : 0);
    const possible = this.ledger.members
      .filter((member) => rank(member) < 2)
      .sort((a, b) => rank(a) - rank(b) || compareNumbers(latency(a), latency(b)) || a.position - b.position);
    return {
      sources: possible
        .filter((member) => member.readable)
        .map((member) => ({
          store: member.store,
          onWrong: (error) => {
            if (rank(member) === 0) this.#noteWrong(record, member, error);
          },
        })),
      silent: possible.filter((member) => !member.readable).map((member) => member.trouble()),
    };
  }

  /** A copy that was found missing or wrong becomes a debt. Reading needs no write access, so this may fail unheard. */
  #noteWrong(record: PutRecord, member: Member, error: HoldfastError): void {
    if (member.id === undefined) return;
    const mark: CopyMark = {
      state: "copy",
      rev: this.ledger.stamp(record),
      reason: error.code === "not-found" ? "missing" : "wrong",
    };
    this.ledger.appendLater([{ ...record, copies: { [member.id]: mark } }]);
  }

  /**
   * An object without a record, or of which only an unfinished write is known: the first store, in order, that has it.
   * With nothing to check by, a read goes on from another store only if that one's bytes were the same so far.
   */
  async #getUnrecorded(
    state: NameState | undefined,
    inner: string,
    name: string,
    unheard: readonly string[],
    options: GetOptions,
  ): Promise<GetResult> {
    const failures: HoldfastError[] = this.mayHide(inner).map((member) => member.trouble());
    if (state !== undefined) await this.#refuseUndecided(inner, state);
    const readable = this.ledger.members.filter((member) => member.readable && mayBeUnfinished(state, member.id));
    for (const [place, member] of readable.entries()) {
      try {
        const found = await member.store.get(inner, options);
        let opened = found;
        const others = readable.slice(place + 1).map(({ store }) => store);
        return {
          info: { ...found.info, name },
          body: unrecordedRead(inner, member.label, found, others, options, (next) => {
            opened = next;
          }),
          close: () => opened.close(),
          ...(unheard.length > 0 ? { unheard } : {}),
        };
      } catch (error) {
        throwIfAborted(options.signal);
        const failure = toHoldfastError(error).within({ store: member.label, operation: "get", object: inner });
        if (failure.code === "invalid") throw failure;
        if (failure.code !== "not-found") failures.push(failure);
      }
    }
    if (failures.length === 0) throw this.#absent(inner, "get");
    throw new HoldfastError(
      "unavailable",
      `no store that answered has it (${failures.map((failure) => `${failure.store ?? ""}: ${failure.message}`).join("; ")})`,
      {
        errors: failures,
        cause: failures.at(-1),
      },
    );
  }

  /** What an unfinished write left is read only when all stores answer and their copies are alike. */
  async #refuseUndecided(name: string, state: NameState): Promise<void> {
    const seen = new Set<string>();
    for (const member of this.ledger.members) {
      if (!mayBeUnfinished(state, member.id)) continue;
      if (!member.readable) throw this.#undecided(name, member.trouble());
      try {
        const { body } = await member.store.get(name);
        const digest = new ContentDigest();
        for await (const chunk of body) digest.update(chunk);
        seen.add(digest.finish().sha256);
      } catch (error) {
        const failure = toHoldfastError(error);
        if (failure.code !== "not-found") throw this.#undecided(name, failure);
      }
    }
    if (seen.size > 1) {
      throw new HoldfastError(
        "conflict",
        "a write was not finished and the copies differ: holdfast repair settles it",
        {
          object: name,
        },
      );
    }
  }

  #undecided(name: string, cause: HoldfastError): HoldfastError {
    return new HoldfastError(
      "unavailable",
      `a write was not finished, and it cannot be told what it left while ${cause.store ?? "a store"} does not answer`,
      { object: name, cause, errors: [cause] },
    );
  }

  // --------------------------------------------------------------------------------------------------------- stat

  async stat(name: string, options: OperationOptions = {}): Promise<PoolObjectInfo> {
    checkName(name);
    const inner = this.#inner(name);
    await this.#enter(options.signal);
    try {
      const info = await this.#stat(inner, options);
      return { ...info, name };
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "stat", object: name });
    }
  }

  async #stat(inner: string, options: OperationOptions): Promise<PoolObjectInfo> {
    const current = currentRecord(this.ledger.index.get(inner));
    if (isPut(current)) {
      // That it exists is known without asking; but an object of which no copy can be reached is not there to be had.
      const { sources, silent } = this.#sources(current);
      if (sources.length === 0) throw noGoodCopy(inner, silent);
      return infoOf(inner, current);
    }
    if (current !== undefined) throw this.#absent(inner, "stat");
    const answers = await this.#statAll(inner, options);
    const failures: HoldfastError[] = [];
    for (const [, answer] of answers) {
      if (!(answer instanceof HoldfastError)) return answer;
      if (answer.code !== "not-found") failures.push(answer);
    }
    const failure = failures[0];
    // The name is none that this pool's stores can hold: the answer of one is that of all.
    if (failure?.code === "invalid") throw failure;
    if (failure !== undefined) {
      throw new HoldfastError("unavailable", `no store that answered has it (${failure.message})`, {
        cause: failure,
        errors: failures,
      });
    }
    throw this.#absent(inner, "stat");
  }

  /** All stores that answer, asked at once: what they have of a name, or the error. In the pool's order. */
  #statAll(name: string, options: OperationOptions): Promise<(readonly [Member, ObjectInfo | HoldfastError])[]> {
    return Promise.all(
      this.ledger.members
        .filter((member) => member.readable)
        .map(async (member) => {
          try {
            return [member, await member.store.stat(name, options)] as const;
          } catch (error) {
            throwIfAborted(options.signal);
            return [
              member,
              toHoldfastError(error).within({ store: member.label, operation: "stat", object: name }),
            ] as const;
          }
        }),
    );
  }

  // --------------------------------------------------------------------------------------------------------- list

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<PoolObjectInfo> {
    await this.#enter(options.signal);
    const above = this.#options.nested === true && prefix.startsWith(RESERVED_PREFIX);
    const inner = above ? ABOVE_PREFIX + prefix.slice(RESERVED_PREFIX.length) : prefix;
    const unheard = new Map<string, HoldfastError>();
    for (const member of this.mayHide()) unheard.set(member.label, member.trouble());
    const lists = this.ledger.members
      .filter((member) => member.readable)
      .map((member) => this.#listOf(member, inner, options, (error) => unheard.set(member.label, error)));
    const after = options.after === undefined ? undefined : this.#inner(options.after);
    const known = this.ledger.index.iterate(inner, after);
    for await (const { name, found, state } of mergeLists(lists, known, compareNames)) {
      throwIfAborted(options.signal);
      if (after !== undefined && compareNames(name, after) <= 0) continue;
      if (above ? !name.startsWith(ABOVE_PREFIX) : isReserved(name)) continue;
      const current = currentRecord(state);
      if (current !== undefined) {
        if (isPut(current)) yield infoOf(this.#outer(name), current);
      } else if (found !== undefined) {
        yield { ...found, name: this.#outer(name) };
      }
    }
    if (unheard.size > 0 || this.ledger.unreadableSegments.size > 0) {
      const who = [...unheard.keys()].join(", ");
      throw new HoldfastError(
        "incomplete",
        unheard.size > 0
          ? `the listing may lack objects: ${who} could not be heard`
          : "the listing may be wrong: a part of the ledger is damaged on every store",
        { store: this.label, operation: "list", errors: [...unheard.values()], cause: [...unheard.values()][0] },
      );
    }
  }

  async *#listOf(
    member: Member,
    prefix: string,
    options: ListOptions,
    onFailure: (error: HoldfastError) => void,
  ): AsyncGenerator<ObjectInfo> {
    try {
      if (member.store.capabilities.orderedList) {
        yield* member.store.list(prefix, options);
      } else {
        const all: ObjectInfo[] = [];
        for await (const info of member.store.list(prefix, options)) all.push(info);
        yield* all.sort((a, b) => compareNames(a.name, b.name));
      }
    } catch (error) {
      throwIfAborted(options.signal);
      onFailure(toHoldfastError(error, "unavailable").within({ store: member.label, operation: "list" }));
    }
  }

  // ------------------------------------------------------------------------------------------------------- delete

  async delete(name: string, options: OperationOptions = {}): Promise<PoolDeleteResult> {
    checkName(name);
    const inner = this.#inner(name);
    await this.#enter(options.signal);
    return this.#exclusive(inner, () => this.#delete(inner, options)).catch((error: unknown) => {
      throw toHoldfastError(error).within({ store: this.label, operation: "delete", object: name });
    });
  }

  async #delete(name: string, options: OperationOptions): Promise<PoolDeleteResult> {
    await this.ledger.initialise();
    const state = this.ledger.index.get(name);
    const current = currentRecord(state);
    let existed = isPut(current);
    if (state === undefined) {
      this.#checkHeld(name);
      const answers = await this.#statAll(name, options);
      existed = answers.some(([, answer]) => !(answer instanceof HoldfastError));
      const certain = answers.every(([, answer]) => !(answer instanceof HoldfastError) || answer.code === "not-found");
      if (!existed && certain && this.ledger.members.every((member) => member.readable))
        return { existed: false, owed: [] };
    } else if (current?.kind === "delete" && state.records.length === 1) {
      const owed = this.#debtsOf(current);
      return { existed: false, owed };
    }
    // The tombstone says first that every store owes the delete: what is not confirmed below stays owed.
    const version = this.ledger.stamp(...(state?.records ?? []));
    const copies: Record<StoreId, CopyMark> = {};
    for (const member of this.ledger.members) {
      if (member.id !== undefined) copies[member.id] = { state: "delete", rev: version };
    }
    for (const id of formerStores(state)) copies[id] ??= { state: "delete", rev: version };
    const record: ObjectRecord = { name, version, base: highestVersion(state), kind: "delete", copies };
    const appended = this.ledger.append({ objects: [record] });
    const failed = new Map<Member, HoldfastError>();
    await Promise.all(
      this.ledger.members.map(async (member) => {
        const error = await appended.get(member);
        if (error !== undefined) failed.set(member, error);
      }),
    );
    const told = this.ledger.members.filter((member) => !failed.has(member));
    if (told.length < Math.max(1, Math.min(this.#min, this.ledger.members.length)))
      throw this.#tooFew(this.ledger.members, failed);
    this.ledger.index.setFact(pendingKey(name), undefined);
    const owed = await this.#deleteFrom(record, this.ledger.members, failed);
    if (owed.length > 0) this.#logger.warn("degraded", { object: name, owing: owed.map((debt) => debt.store) });
    this.ledger.maintainSoon();
    return { existed, owed };
  }

  /** Deletes what `record` says that `members` owe, and notes what was done. Gives what is still owed. */
  async #deleteFrom(
    record: ObjectRecord,
    members: readonly Member[],
    failed: ReadonlyMap<Member, HoldfastError> = new Map(),
  ): Promise<Debt[]> {
    const owed: Debt[] = [];
    const done: Record<StoreId, CopyMark> = {};
    if (members.length === 0) return owed;
    // What stands on a store now may be what another process has just put there: then repair decides, on what it sees.
    const contested = await this.#contested(record);
    await Promise.all(
      members.map(async (member) => {
        let error = failed.get(member) ?? contested ?? (member.ready ? undefined : member.trouble());
        try {
          if (error === undefined) owed.push(...debtsBelow(member, (await member.store.delete(record.name)).owed));
        } catch (caught) {
          error = toHoldfastError(caught).within({ store: member.label, operation: "delete", object: record.name });
        }
        if (error !== undefined) {
          owed.push({
            object: this.#outer(record.name),
            store: member.label,
            owes: "delete",
            sinceMs: versionMs(record.version),
            reason: error.message,
          });
        } else if (member.id !== undefined) {
          done[member.id] = { state: "none", rev: this.ledger.stamp(record) };
        }
      }),
    );
    // May follow later: until then the delete is owed, which is true as far as anyone else can know.
    if (Object.keys(done).length > 0) this.ledger.appendLater([{ ...record, copies: done }]);
    return owed.sort((a, b) => compareNames(a.store, b.store));
  }

  /** Why nothing may be deleted on the word of `record`: another process changes the name too. */
  async #contested(record: ObjectRecord): Promise<HoldfastError | undefined> {
    if (!this.ledger.soleWriter) await this.ledger.hear();
    const state = this.ledger.index.get(record.name);
    if (state?.records.length === 1 && state.records[0]?.version === record.version) return undefined;
    return new HoldfastError("conflict", "another process changes it at the same moment");
  }

  /** What a record says that stores of this pool owe. */
  #debtsOf(record: ObjectRecord): Debt[] {
    return this.ledger.members.flatMap((member): Debt[] => {
      const mark = member.id === undefined ? undefined : record.copies[member.id];
      if (mark?.state !== "copy" && mark?.state !== "delete") return [];
      return [
        {
          object: this.#outer(record.name),
          store: member.label,
          owes: mark.state,
          sinceMs: versionMs(mark.rev),
          ...(mark.reason === undefined ? {} : { reason: mark.reason }),
        },
      ];
    });
  }

  /** The debts of all names, in name order. */
  async *debts(options: OperationOptions = {}): AsyncGenerator<Debt> {
    await this.#enter(options.signal);
    // What was paid a moment ago may not be noted yet.
    await this.ledger.flushed();
    for (const [, state] of this.ledger.index.unsettled("")) {
      const current = currentRecord(state);
      if (current !== undefined) yield* this.#debtsOf(current);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#locks.values());
    if (this.#opened !== undefined) await this.#opened.catch(() => undefined);
    await this.ledger.close();
    await Promise.all(this.ledger.members.map((member) => member.store.close()));
  }
}

/** A put that has begun. */
interface Begun {
  readonly name: string;
  readonly version: Version;
  readonly base: Version;
  readonly state: NameState | undefined;
  readonly hasIntent: boolean;
  /** What members that are pools themselves still owe of it. */
  readonly below: Map<Member, readonly Debt[]>;
}

function debtsBelow(member: Member, owed: readonly Debt[] | undefined): readonly Debt[] {
  return owed?.map((debt) => ({ ...debt, store: nestedLabel(member.label, debt.store) })) ?? [];
}

function compareNumbers(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Key of the mark, in the local index, of a put of a new name that has not ended. */
export function pendingKey(name: string): string {
  return `pending:${name}`;
}

/** Stores on which some version of a name may stand. */
function formerStores(state: NameState | undefined): ReadonlySet<StoreId> {
  const ids = new Set<StoreId>();
  for (const record of state?.records ?? []) {
    for (const [id, mark] of Object.entries(record.copies)) if (mark.state !== "none") ids.add(id);
  }
  return ids;
}

function infoOf(name: string, record: PutRecord): PoolObjectInfo {
  return {
    name,
    size: record.content.size,
    modifiedMs: versionMs(record.version),
    sha256: record.content.sha256,
    digests: { sha256: record.content.sha256 },
    ...(record.metadata === undefined ? {} : { metadata: record.metadata }),
  };
}

function branchBody(branch: FanOutBranch, body: Body, agree: (read: Content) => void): Body {
  let opened = false;
  return {
    size: body.size,
    reopenable: body.reopenable,
    open() {
      // The first reading shares the source; only a store that has to begin anew reads it for itself.
      if (opened) return digested(body, agree);
      opened = true;
      return branch;
    },
  };
}

/** A body read once more, whose end is an error where it was not the same as before. */
async function* digested(body: Body, agree: (read: Content) => void): AsyncGenerator<Uint8Array> {
  const digest = new ContentDigest(body.size);
  for await (const chunk of body.open()) {
    digest.update(chunk);
    yield chunk;
  }
  agree(digest.finish());
}

async function* joined(
  first: IteratorResult<Uint8Array>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}

function checkMetadata(metadata: ObjectMetadata | undefined): void {
  if (metadata !== undefined && Buffer.byteLength(JSON.stringify(metadata)) > MAX_METADATA_BYTES) {
    throw new HoldfastError("invalid", `metadata may have at most ${MAX_METADATA_BYTES} bytes`);
  }
}

/** A pool can hold what every one of its stores can. */
function capabilitiesOf(stores: readonly Store[]): Capabilities {
  const all = stores.map((store) => store.capabilities);
  const smallest = (values: (number | undefined)[]): number | undefined => {
    const known = values.filter((value) => value !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  };
  const maxObjectBytes = smallest(all.map((one) => one.maxObjectBytes));
  const maxNamePartBytes = smallest(all.map((one) => one.maxNamePartBytes));
  return {
    orderedList: true,
    // Decided by this process from what the ledgers say, not by the stores at one instant.
    conditionalPut: false,
    prefixNames: all.every((one) => one.prefixNames),
    ...(maxObjectBytes === undefined ? {} : { maxObjectBytes }),
    maxNameBytes: Math.min(MAX_NAME_BYTES, ...all.map((one) => one.maxNameBytes)),
    ...(maxNamePartBytes === undefined ? {} : { maxNamePartBytes }),
    caseSensitive: all.every((one) => one.caseSensitive),
    storeDigests: ["sha256"],
  };
}
