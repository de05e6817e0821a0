/**
 * Puts of a pool. The two modes send bytes to different stores (`#putMirror`, `#putStripe`). The order of durable steps is
 * the same for both; docs/decisions/0001-ledger.md has the reasons for it.
 *
 * The file is longer than others because that order is best read in one place: announcing, sending, taking back and following
 * slow stores share what a put in progress knows.
 */
import { checkedBytes } from "../contract/body.ts";
import { ContentDigest } from "../ledger/digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Following } from "../ledger/following.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut, takenBackTombstone } from "../ledger/record.ts";
import type { Content, CopyMark, NameState, ObjectRecord, PutRecord, StoreId } from "../ledger/record.ts";
import { DEFAULT_LEASE_MS } from "../contract/pool.ts";
import type { PoolPutResult } from "../contract/pool.ts";
import type { Body, ObjectMetadata, PutOptions } from "../contract/store.ts";
import { checkHeld } from "./capabilities.ts";
import { Commit } from "./commit.ts";
import type { Committed } from "./commit.ts";
import { copyTo, readDigest } from "./copy.ts";
import { fanOut } from "./fan-out.ts";
import type { FanOutBranch } from "./fan-out.ts";
import { compareNumbers, turnOrder, weightedOrder } from "./placement.ts";
import { isAnother, mayStillChange, tooFew } from "./pool-answers.ts";
import { ownFile, pendingKey } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import type { PoolDeletes } from "./pool-deletes.ts";
import type { PutInProgress } from "./put-in-progress.ts";
import { keepAnnounced } from "./renewal.ts";

const MAX_METADATA_BYTES = 8192;
/** The least time that stores may take beyond the first `min`, in milliseconds. */
const GRACE_MS = 10;
/** How long a store may hold up the reading of the source while enough others keep pace, in milliseconds. */
const PATIENCE_MS = 1000;
/** How long a put waits at first for an earlier change, before it hears the stores again, in milliseconds. */
const LONG_WAIT_MS = 1000;
/** How long a store's answer about its free space is used, in milliseconds. */
const FREE_SPACE_MS = 10_000;

export class PoolPuts {
  readonly #pool: PoolContext;
  readonly #deletes: PoolDeletes;
  readonly #free = new Map<Member, { readonly atMs: number; readonly bytes: number | undefined }>();
  readonly #renewals = new Map<string, () => void>();

  constructor(pool: PoolContext, deletes: PoolDeletes) {
    this.#pool = pool;
    this.#deletes = deletes;
  }

  /** Call it only while holding the name (`exclusive`). */
  async put(name: string, body: Body, options: PutOptions): Promise<PoolPutResult> {
    await this.#pool.ledger.initialise();
    checkHeld(name, this.#pool.capabilities);
    this.#refuseNeighbours(name);
    const following = this.#pool.ledger.follow(name);
    try {
      return this.#pool.modeFor(name) === "mirror"
        ? await this.#putMirror(name, body, options, following)
        : await this.#putStripe(name, body, options, following);
    } finally {
      following.end();
      this.#renewals.get(name)?.();
      this.#renewals.delete(name);
      this.#pool.ledger.maintainSoon();
    }
  }

  /** Folders cannot hold both `a` and `a/b`. If they were put on different stores, repair could not move them. */
  #refuseNeighbours(name: string): void {
    if (this.#pool.capabilities.prefixNames) return;
    const { index } = this.#pool.ledger;
    const refuse = (other: string): never => {
      throw new HoldfastError(
        "conflict",
        `${JSON.stringify(this.#pool.shownName(other))} exists, and a folder cannot hold both`,
      );
    };
    for (let at = name.indexOf("/"); at !== -1; at = name.indexOf("/", at + 1)) {
      const above = name.slice(0, at);
      if (isPut(currentRecord(index.get(above)))) refuse(above);
    }
    if (isPut(currentRecord(index.get(name)))) return;
    for (const [below, state] of index.iterate(`${name}/`)) if (isPut(currentRecord(state))) refuse(below);
  }

  async #putMirror(name: string, body: Body, options: PutOptions, following: Following): Promise<PoolPutResult> {
    const targets = this.#pool.targets(name);
    if (targets.length === 0) throw new HoldfastError("unavailable", "every store of the pool is being drained");
    const failed = new Map<Member, HoldfastError>();
    for (const member of targets) if (!member.ready) failed.set(member, member.trouble());
    this.#refuseOnAbort(failed);
    const begun = await this.#begin(name, targets, failed, following, options.signal);
    const taking = targets.filter((member) => !failed.has(member));
    if (taking.length < this.#pool.min || (this.#pool.onfail === "abort" && failed.size > 0)) {
      this.#cancel(begun);
      this.#refuseOnAbort(failed);
      throw tooFew(this.#pool, targets, failed);
    }

    const slow =
      this.#pool.options.wait === "min" && this.#pool.onfail === "continue"
        ? new Map<Member, Promise<boolean>>()
        : undefined;
    const stored = await this.#spread(begun, body, taking, failed, options.signal, slow).finally(() =>
      this.#cancelUnoffered(begun),
    );
    const holders = taking.filter((member) => !failed.has(member));
    if (stored === undefined || holders.length === 0) {
      await this.#noteLanding(begun, failed);
      this.#refuseOnAbort(failed);
      throw tooFew(this.#pool, targets, failed);
    }
    const result = await this.#commit(begun, stored, holders, failed, options);
    if (slow !== undefined && slow.size > 0) {
      this.#pool.keepUntil(name, this.#finishSlow(begun, result, slow, failed));
    }
    if (result.holders.length === 0 && result.isUnheld) await this.#takeBack(begun, result);
    // Only after the commit, so that the copies of the failed put are recorded.
    this.#refuseOnAbort(failed);
    if (result.holders.length < this.#pool.min) throw tooFew(this.#pool, targets, failed);
    return result.answer;
  }

  /** Sends the body to every member of `taking` at once. Members that fail are added to `failed`. */
  async #spread(
    begun: PutInProgress,
    body: Body,
    taking: readonly Member[],
    failed: Map<Member, HoldfastError>,
    signal: AbortSignal | undefined,
    slow?: Map<Member, Promise<boolean>>,
  ): Promise<Content | undefined> {
    const { name } = begun;
    const digest = new ContentDigest(body.size);
    const readings = new Readings(name);
    const agree = (read: Content): void => readings.add(read);
    const stop = new AbortController();
    const ends = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    const fan = fanOut(checkedBytes(body, ends), {
      readers: taking.length,
      onChunk: (chunk) => digest.update(chunk),
      onEnd: () => agree(digest.finish()),
      signal: ends,
      ...(slow === undefined
        ? {}
        : {
            enough: {
              readers: this.#pool.min,
              patienceMs: taking.map((member) => (member.slow ? 0 : PATIENCE_MS)),
              runtime: this.#pool.runtime,
            },
          }),
    });
    let sourceError: HoldfastError | undefined;
    const source = fan.source.then(
      () => undefined,
      (error: unknown) => {
        // The put was called off because of a store. That store's failure is the reason.
        if (stop.signal.aborted && signal?.aborted !== true) return;
        sourceError = toHoldfastError(error).within({ operation: "put", object: name });
      },
    );
    const put = async (member: Member, branch: FanOutBranch | undefined): Promise<boolean> => {
      if (branch === undefined) return false;
      try {
        begun.sentTo.add(member);
        const { owed, mayLand } = await member.store.put(name, branchBody(branch, body, agree), { signal: ends });
        if (mayLand === true) begun.landing.add(member);
        if (owed !== undefined && owed.length > 0) begun.below.set(member, owed);
        return true;
      } catch (error) {
        const failure = toHoldfastError(error).within({ store: member.label, operation: "put", object: name });
        failed.set(member, failure);
        if (this.#pool.onfail === "abort" && sourceError === undefined) stop.abort(failure);
        return false;
      } finally {
        branch.stop();
      }
    };
    const puts = new Map(taking.map((member, index) => [member, put(member, fan.branches[index])]));
    if (slow === undefined) await Promise.all(puts.values());
    else await this.#waitForEnough(puts, failed, slow);
    // If no store listens any more, the source is not waited for, because it may never give another byte.
    if (taking.every((member) => failed.has(member) && slow?.has(member) !== true)) stop.abort();
    else await source;
    if (readings.content !== undefined || (body.size !== undefined && digest.size >= body.size))
      for (const member of taking) begun.offered.add(member);
    if (signal?.aborted === true) await this.#noteLanding(begun, failed);
    throwIfAborted(signal);
    if (sourceError !== undefined) throw sourceError;
    return readings.content;
  }

  /**
   * Resolves when all puts have ended, or when enough have ended and the others had as long again. Members that are not
   * done then are `slow`. Slow members do not get that time again until they keep up.
   */
  async #waitForEnough(
    puts: ReadonlyMap<Member, Promise<boolean>>,
    failed: Map<Member, HoldfastError>,
    slow: Map<Member, Promise<boolean>>,
  ): Promise<void> {
    const { runtime, min } = this.#pool;
    const started = runtime.monotonicMs();
    const waiting = new Set(puts.keys());
    let taken = 0;
    let until = Infinity;
    let cancel = (): void => undefined;
    await new Promise<void>((resolve) => {
      for (const [member, put] of puts) {
        void put.then((ok) => {
          waiting.delete(member);
          member.slow = runtime.monotonicMs() > until;
          if (ok) taken++;
          if (ok && taken === min) {
            const now = runtime.monotonicMs();
            const againMs = Math.max(GRACE_MS, now - started);
            until = now + againMs;
            cancel = runtime.timer(againMs, resolve);
          }
          if (waiting.size === 0 || (taken >= min && [...waiting].every((other) => other.slow))) resolve();
        });
      }
    });
    cancel();
    for (const [member, put] of puts) {
      if (!waiting.has(member)) continue;
      member.slow = true;
      slow.set(member, put);
      const message = `${member.label} is slower than the others and still being written to`;
      failed.set(member, new HoldfastError("timeout", message, { store: member.label, operation: "put" }));
    }
  }

  /** Follows the puts of slow members to their end, and makes copies in place of those that failed. */
  async #finishSlow(
    begun: PutInProgress,
    { record, holders }: Pick<Committed, "record" | "holders">,
    slow: ReadonlyMap<Member, Promise<boolean>>,
    failed: ReadonlyMap<Member, HoldfastError>,
  ): Promise<void> {
    await Promise.all(
      [...slow].map(async ([member, put]) => {
        try {
          const isPut = await put;
          const mayLand = isPut ? begun.landing.has(member) : failed.get(member)?.mayLand === true;
          if (mayLand) return await this.#noteLandingOf(record, member);
          if (!isPut) await this.#bringSlow(record, holders, member);
          await this.#noteSlow(begun, record, member);
        } catch (error) {
          this.#pool.logger.warn("copy still owed", {
            object: record.name,
            store: member.label,
            reason: toHoldfastError(error).message,
          });
        }
      }),
    );
  }

  /** Notes that a slow member's put ended without an answer, and may take effect at any time from now on. */
  async #noteLandingOf(record: PutRecord, member: Member): Promise<void> {
    const { ledger } = this.#pool;
    const id = member.owingId;
    if (id === undefined) return;
    const rev = ledger.stamp(record);
    const mark: CopyMark = { state: "copy", rev, reason: "timeout", late: rev };
    await Promise.all(ledger.append({ objects: [{ ...record, copies: { [id]: mark } }] }).values());
  }

  /** Copies the object to a slow member whose put failed, if the record is still the current one. */
  async #bringSlow(record: PutRecord, holders: readonly Member[], member: Member): Promise<void> {
    const { ledger } = this.#pool;
    await ledger.hear();
    const current = currentRecord(ledger.index.get(record.name));
    if (current?.version === record.version) await copyTo(record, holders, member, undefined);
  }

  /**
   * Notes the copy of a slow member. If another process changed the name meanwhile, that copy may have overwritten a
   * newer one.
   */
  async #noteSlow(begun: PutInProgress, record: PutRecord, member: Member): Promise<void> {
    const { ledger } = this.#pool;
    const id = member.owingId;
    if (id === undefined) return;
    // The store may have the copy of another write by now.
    const digest = await readDigest(member, record.name, record.content.size, undefined);
    await ledger.hear();
    // A copy that went to another store than the intended one is not noted.
    if (!member.ready || member.id !== begun.ids.get(member)) return;
    const newer = currentRecord(ledger.index.get(record.name)) ?? record;
    if (newer.version === record.version && digest === record.content.sha256) {
      ledger.appendLater([{ ...record, copies: { [id]: { state: "holds", rev: ledger.stamp(record) } } }]);
      return;
    }
    ledger.appendLater([ledger.owedAnew(newer, [id], "an older copy came late")]);
  }

  /** Notes late requests of a put that failed or was called off, because other processes have to know of them. */
  async #noteLanding(begun: PutInProgress, failed: ReadonlyMap<Member, HoldfastError>): Promise<void> {
    const { ledger } = this.#pool;
    const { name, version, base, sentTo } = begun;
    const landing = [...sentTo].filter((member) => failed.get(member)?.mayLand === true);
    if (landing.length === 0) return;
    const rev = ledger.clock.next();
    const copies: Record<StoreId, CopyMark> = {};
    for (const { owingId } of landing) if (owingId !== undefined) copies[owingId] = { state: "copy", rev, late: rev };
    await Promise.all(ledger.append({ objects: [{ name, version, base, kind: "intent", copies }] }).values());
  }

  /**
   * Takes back the record of a put whose bytes went only to other stores than the intended ones. The put then counts as cut
   * short.
   */
  async #takeBack(
    { name, sentTo, following, ids }: PutInProgress,
    { record, versions }: Pick<Committed, "record" | "versions">,
  ): Promise<void> {
    const { ledger } = this.#pool;
    const known = following.foreign;
    const former = currentRecord(known);
    const records = ledger.index.get(name)?.records ?? [];
    if (currentRecord({ records })?.version !== record.version) return;
    const version = ledger.stamp(record, ...records);
    // The bytes may be on the intended store, or on the one in its place.
    const touched = [...sentTo].flatMap((member) => [ids.get(member), member.id]).filter((id) => id !== undefined);
    const marked = (state: CopyMark["state"], reason?: string): Record<StoreId, CopyMark> =>
      Object.fromEntries(
        touched.map((id) => [id, { state, rev: version, ...(reason === undefined ? {} : { reason }) }]),
      );
    const owed = marked(isPut(former) ? "copy" : "delete", "not confirmed");
    const objects: ObjectRecord[] = [];
    if (former === undefined) objects.push(takenBackTombstone(name, ledger.writer, versions, owed));
    else {
      const undone = [...(former.undone ?? []), ...versions];
      objects.push({ ...former, copies: { ...former.copies, ...owed }, undone });
      objects.push(...(known?.records ?? []).filter((one) => one !== former));
    }
    if (isPut(former)) {
      const base = former.version;
      objects.push({ name, version: ledger.clock.next(), base, kind: "intent", copies: marked("copy") });
    }
    const outcomes = await Promise.all(ledger.append({ objects }).values());
    if (outcomes.includes(undefined)) return;
    // No store took the records, so they are written later. Until then this machine uses the former records, if there
    // are any.
    if (former !== undefined) ledger.noteBegun(objects);
    ledger.appendLater(objects);
  }

  /**
   * Notes that a put changed nothing if its source never ended: no store can have the whole object then. While a store of a
   * stripe is still to be tried, the put may change something yet.
   */
  #cancelUnoffered(begun: PutInProgress): void {
    if (begun.offered.size === 0) this.#cancel(begun);
  }

  /** Notes that a put changed nothing. The note may follow later: until then the put counts as unfinished. */
  #cancel(begun: PutInProgress): void {
    if (!begun.hasIntent) {
      this.#pool.ledger.index.setFact(pendingKey(begun.name), undefined);
      return;
    }
    const current = currentRecord(begun.state);
    if (current !== undefined) {
      this.#pool.ledger.appendLater([{ ...current, copies: {}, settles: [begun.version, ...begun.settles] }]);
    }
  }

  async #putStripe(name: string, body: Body, options: PutOptions, following: Following): Promise<PoolPutResult> {
    const targets = this.#pool.targets(name);
    const order = await this.#order(name, targets);
    const failed = new Map<Member, HoldfastError>();
    if (order[0] !== undefined && !order[0].ready) failed.set(order[0], order[0].trouble());
    this.#refuseOnAbort(failed);
    // Stores without the intent take no bytes. They count as failed only when their turn comes.
    const refused = new Map<Member, HoldfastError>();
    const begun = await this.#begin(name, order, refused, following, options.signal);
    // Stores that may have bytes of this put although it failed there.
    const missed = new Map<Member, HoldfastError>();
    let unheld: Committed | undefined;
    const replay =
      this.#pool.onfail === "continue" && order.length > 1 ? this.#pool.options.replayable(body) : undefined;
    try {
      for (const member of order) {
        throwIfAborted(options.signal);
        const reason = refused.get(member) ?? (member.ready ? undefined : member.trouble());
        if (reason !== undefined) {
          failed.set(member, reason);
          this.#refuseOnAbort(failed);
          continue;
        }
        const stored = await this.#spread(begun, replay?.body ?? body, [member], missed, options.signal);
        if (stored !== undefined && !missed.has(member)) {
          const committed = await this.#commit(begun, stored, [member], missed, options);
          if (committed.isUnheld) unheld = committed;
          if (committed.holders.length > 0) {
            unheld = undefined;
            for (const [store, error] of failed)
              this.#pool.logger.warn("store passed over", { store: store.label, object: name, reason: error.message });
            return committed.answer;
          }
        }
        for (const [store, error] of missed) failed.set(store, error);
        await this.#noteLanding(begun, missed);
        this.#refuseOnAbort(failed);
      }
    } finally {
      await replay?.dispose();
      this.#cancelUnoffered(begun);
      if (unheld !== undefined) await this.#takeBack(begun, unheld);
    }
    throw tooFew(this.#pool, targets, failed);
  }

  /**
   * The order in which stores are tried. An object's holder comes first, because a move would leave a copy to delete.
   */
  async #order(name: string, targets: readonly Member[]): Promise<readonly Member[]> {
    const state = this.#pool.ledger.index.get(name);
    const current = currentRecord(state);
    const holder = targets.find((member) => member.ready && this.#pool.ledger.holds(current, member));
    const order = await this.#turn(targets);
    const inTurn = holder === undefined ? order : [holder, ...order.filter((member) => member !== holder)];
    // On a store with a late request, the new copy might be overwritten, so such stores come last.
    const isOpen = (member: Member): boolean => this.#pool.mayChange(member, state);
    return [...inTurn.filter((member) => !isOpen(member)), ...inTurn.filter(isOpen)];
  }

  /**
   * The stores in turn. The turn is counted in the local index, so that processes that put one object each take turns
   * too.
   */
  async #turn(targets: readonly Member[]): Promise<readonly Member[]> {
    const known = this.#pool.ledger.index.getFact("turn");
    const turn = known === undefined ? Math.floor(this.#pool.runtime.random() * 1024) : Number(known);
    this.#pool.ledger.index.setFact("turn", String((turn + 1) % 1_000_000_007));
    if (this.#pool.options.place === "weighted") return weightedOrder(targets, turn);
    const order = turnOrder(targets, turn);
    if (this.#pool.options.place !== "free") return order;
    const free = new Map(
      await Promise.all(order.map(async (member) => [member, await this.#freeBytes(member)] as const)),
    );
    return [...order].sort((a, b) => compareNumbers(free.get(b) ?? -1, free.get(a) ?? -1));
  }

  /** A store's free space in bytes; undefined if the store does not tell it. */
  async #freeBytes(member: Member): Promise<number | undefined> {
    if (!member.ready || member.store.freeBytes === undefined) return undefined;
    const now = this.#pool.runtime.monotonicMs();
    const known = this.#free.get(member);
    if (known !== undefined && now - known.atMs < FREE_SPACE_MS) return known.bytes;
    const bytes = await member.store.freeBytes().catch(() => undefined);
    this.#free.set(member, { atMs: now, bytes });
    return bytes;
  }

  /**
   * Makes the put known before the first byte changes. A name that may exist gets an intent on every store that will
   * take bytes; a store that did not take the intent gets no bytes. A new name gets a mark in the local index.
   */
  async #begin(
    name: string,
    targets: readonly Member[],
    failed: Map<Member, HoldfastError>,
    following: Following,
    signal: AbortSignal | undefined,
  ): Promise<PutInProgress> {
    const { ledger } = this.#pool;
    const state = ledger.index.get(name);
    const version = ledger.stamp(...(state?.records ?? []));
    const put: PutInProgress = {
      name,
      version,
      ...this.#pool.groundOf(state),
      state,
      following,
      hasIntent: !this.#isNew(name, state),
      ids: new Map(ledger.members.map((member) => [member, member.id])),
      sentTo: new Set(),
      offered: new Set(),
      landing: new Set(),
      below: new Map(),
    };
    if (!put.hasIntent) {
      ledger.index.setFact(pendingKey(name), version);
      return put;
    }
    await this.#announce(put, targets, failed);
    return this.#lookAround(put, targets, failed, signal);
  }

  /** Writes the intent. From then on no other process begins to change these stores' copies. */
  async #announce(
    { name, version, base, state }: PutInProgress,
    targets: readonly Member[],
    failed: Map<Member, HoldfastError>,
  ): Promise<void> {
    const { ledger } = this.#pool;
    for (const member of targets)
      if (this.#pool.hasOwnFiles(member, state)) failed.set(member, ownFile(member, name, "put"));
    const copies: Record<StoreId, CopyMark> = {};
    // Only stores that may get bytes, so that another store's copy is certainly not from this write.
    for (const member of targets) {
      if (member.id !== undefined && member.ready && !failed.has(member)) {
        const mark = ledger.markOf(currentRecord(state), member)?.state;
        // The store already owes something, so it may have an older copy. If this write is cut short, that copy is not
        // from it.
        copies[member.id] = { state: mark === "copy" || mark === "delete" ? "delete" : "copy", rev: version };
      }
    }
    const intent: ObjectRecord = { name, version, base, kind: "intent", copies };
    const appended = ledger.append({ objects: [intent] });
    // An intent's age shows whether its writer is alive.
    const leaseMs = this.#pool.options.leaseMs ?? DEFAULT_LEASE_MS;
    this.#renewals.set(name, keepAnnounced(this.#pool, intent, leaseMs));
    await Promise.all(
      targets.map(async (member) => {
        if (failed.has(member)) return;
        const error = await appended.get(member);
        if (error !== undefined) failed.set(member, error);
      }),
    );
  }

  /**
   * Hears of processes that began to change the name before they could see the intent, while no byte is changed yet. A
   * store that another process or a late request may still change is left out after a while. If too few stores are left,
   * the put waits for the end of that change.
   */
  async #lookAround(
    put: PutInProgress,
    targets: readonly Member[],
    failed: Map<Member, HoldfastError>,
    signal: AbortSignal | undefined,
  ): Promise<PutInProgress> {
    const { ledger } = this.#pool;
    const { following } = put;
    const open = (which: "any" | "soon-over"): readonly Member[] =>
      targets.filter((member) => !failed.has(member) && this.#pool.mayChange(member, following.foreign, which));
    await ledger.hear();
    await this.#pool.outwait(() => open("soon-over").length > 0);
    await this.#outlast(
      put,
      targets.filter((member) => member.ready && !failed.has(member)),
      () => open("any"),
      signal,
    );
    ledger.checkEpoch();
    for (const member of targets) {
      // A silent store may still take bytes. The hearing after the record decides.
      if (failed.has(member) || member.state === "unreachable") continue;
      if (!member.ready) failed.set(member, member.trouble());
      else if (member.id !== put.ids.get(member)) failed.set(member, isAnother(member));
    }
    for (const member of open("any")) failed.set(member, mayStillChange(member));
    if (following.take().length === 0) return put;
    // Writes from before the intent are known now. This put comes after them.
    const state = following.foreign;
    const ground = this.#pool.groundOf(state);
    const version = ledger.stamp(...(state?.records ?? []));
    return { ...put, ...ground, state, version, settles: [put.version, ...ground.settles] };
  }

  /** Waits for other changes to end if too few stores would be left without those that they may change. */
  async #outlast(
    { name, following }: PutInProgress,
    usable: readonly Member[],
    open: () => readonly Member[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { ledger, onfail, min, logger, runtime } = this.#pool;
    const needed = onfail === "abort" ? usable.length : min;
    const until = runtime.monotonicMs() + ledger.lateMs;
    for (let waitMs = LONG_WAIT_MS; usable.length >= needed; waitMs *= 2) {
      const changing = open();
      const leftMs = until - runtime.monotonicMs();
      if (usable.length - changing.length >= needed || leftMs <= 0) return;
      const changesMs = Math.max(...changing.map((member) => this.#pool.changesForMs(member, following.foreign)));
      logger.info("waits for an earlier change to end", { object: name, ms: Math.ceil(changesMs) });
      await runtime.sleep(Math.min(waitMs, changesMs, leftMs), signal);
      await ledger.hear();
    }
  }

  /** Whether no other process can know the name, so that the put needs no intent. */
  #isNew(name: string, state: NameState | undefined): boolean {
    const { ledger } = this.#pool;
    return (
      state === undefined &&
      ledger.soleWriter &&
      ledger.absentees.length === 0 &&
      ledger.index.getFact(pendingKey(name)) === undefined &&
      ledger.members.every((member) => ledger.isCensused(member))
    );
  }

  /** Makes the record of a put durable, and finds out whether the put stands: see `commit.ts`. */
  #commit(
    put: PutInProgress,
    content: Content,
    took: readonly Member[],
    failed: Map<Member, HoldfastError>,
    options: PutOptions,
  ): Promise<Committed> {
    const metadata = typeof options.metadata === "function" ? options.metadata() : options.metadata;
    checkMetadata(metadata);
    return new Commit(this.#pool, this.#deletes, put, content, took, failed, metadata).run();
  }

  #refuseOnAbort(failed: ReadonlyMap<Member, HoldfastError>): void {
    const first = [...failed.values()].find((error) => error.code !== "aborted") ?? failed.values().next().value;
    if (this.#pool.onfail === "abort" && first !== undefined) {
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
}

/** What was read of a source. A store that has to begin anew reads it again, and must read the same bytes. */
class Readings {
  readonly #name: string;
  content: Content | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  add(read: Content): void {
    this.content ??= read;
    if (this.content.sha256 === read.sha256) return;
    const context = { operation: "put", object: this.#name } as const;
    throw new HoldfastError("conflict", "the source changed while it was read", context);
  }
}

function branchBody(branch: FanOutBranch, body: Body, agree: (read: Content) => void): Body {
  let opened = false;
  return {
    size: body.size,
    reopenable: body.reopenable,
    open() {
      // The first reading shares the source. Only a store that has to begin anew reads it again.
      if (opened) return digested(body, agree);
      opened = true;
      return branch;
    },
  };
}

/** A body that is read again. It ends with an error if its bytes differ from those of the first reading. */
async function* digested(body: Body, agree: (read: Content) => void): AsyncGenerator<Uint8Array> {
  const digest = new ContentDigest(body.size);
  for await (const chunk of body.open()) {
    digest.update(chunk);
    yield chunk;
  }
  agree(digest.finish());
}

/** Throws `invalid` if the metadata is too large for a record. */
export function checkMetadata(metadata: ObjectMetadata | undefined): void {
  if (metadata !== undefined && Buffer.byteLength(JSON.stringify(metadata)) > MAX_METADATA_BYTES) {
    throw new HoldfastError("invalid", `metadata may have at most ${MAX_METADATA_BYTES} bytes`);
  }
}
