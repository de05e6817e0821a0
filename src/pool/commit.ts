/**
 * Commit, the end of a put: makes its record durable, and finds out whether the put stands.
 *
 * After the record is written the stores are heard once more. That hearing proves that each store is still the intended
 * one, and it shows whether another process wrote the name. Of two processes that write a name at once, at least one
 * hears of the other, because each writes its record before it hears. A put that hears of another write looks at the
 * copies on the stores, and writes a new record, whose version is above all that it heard of:
 *
 * - The first time, the put counts as the later of the two, because the other write may be older.
 * - A write that is heard of after that was certainly made at the same moment. The higher version stays; the lower one
 *   was overwritten.
 * - A store that another process may be changing at this moment does not count as holding the put. It owes the copy.
 */
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isOpenAttempt, isPut, openIntents } from "../ledger/record.ts";
import type { Content, CopyMark, ObjectRecord, PutRecord, StoreId } from "../ledger/record.ts";
import type { PoolPutResult } from "../contract/pool.ts";
import type { Debt, ObjectMetadata } from "../contract/store.ts";
import { readDigest } from "./copy.ts";
import { debtsBelow, formerStores, isAnother, mayStillChange } from "./pool-answers.ts";
import type { PoolContext } from "./pool-context.ts";
import { pendingKey } from "./pool-context.ts";
import type { PoolDeletes } from "./pool-deletes.ts";
import type { PutInProgress } from "./put-in-progress.ts";

/** The record is written anew at most this often because others write the same name. */
const MAX_ROUNDS = 8;
/** Stands for the digest of a copy that could not be read. */
const UNREADABLE = "unreadable";

export interface Committed {
  readonly answer: PoolPutResult;
  readonly record: PutRecord;
  /** All versions under which the put was recorded. */
  readonly versions: readonly Version[];
  readonly holders: readonly Member[];
  /** Whether its bytes went to a store that is another one now, or is missing, or were taken away: no record can name it. */
  readonly isUnheld: boolean;
}

export class Commit {
  readonly #pool: PoolContext;
  readonly #deletes: PoolDeletes;
  readonly #put: PutInProgress;
  readonly #content: Content;
  readonly #failed: Map<Member, HoldfastError>;
  readonly #metadata: ObjectMetadata | undefined;
  #version: Version;
  /** The versions of this put's earlier records. */
  readonly #formerVersions: Version[] = [];
  /** Versions that the record makes history: its own former ones, and other writes' versions that it replaces. */
  readonly #settles: Set<Version>;
  /** The highest version known to this put, or to a write that it replaces. */
  #base: Version;
  #holders: readonly Member[];
  #owedDeletes: readonly Member[] = [];
  /**
   * Intended stores that were replaced or are missing now. A record that is already written may say that they hold the
   * put.
   */
  readonly #moved = new Set<StoreId>();
  /**
   * Intended stores that may not be the ones that took the bytes. Earlier records' `holds` marks of them are withdrawn.
   */
  readonly #unproven = new Set<StoreId>();
  /** Another write has taken its bytes away from every store. */
  #isTakenAway = false;

  /** `took`: the stores that have the bytes. `failed`: those that missed them, with the errors; more are added. */
  constructor(
    pool: PoolContext,
    deletes: PoolDeletes,
    put: PutInProgress,
    content: Content,
    took: readonly Member[],
    failed: Map<Member, HoldfastError>,
    metadata: ObjectMetadata | undefined,
  ) {
    this.#pool = pool;
    this.#deletes = deletes;
    this.#put = put;
    this.#content = content;
    this.#failed = failed;
    this.#metadata = metadata;
    this.#version = put.version;
    this.#settles = new Set(put.settles);
    this.#base = put.base;
    this.#holders = took;
  }

  async run(): Promise<Committed> {
    const { ledger } = this.#pool;
    const took = this.#holders;
    let record = await this.#write();
    if (this.#holders.length === 0) await this.#findThoseThatMoved(took);
    for (let round = 0; this.#holders.length > 0; round++) {
      await ledger.hear();
      ledger.checkEpoch();
      const heldBefore = this.#holders.length;
      this.#dropThoseThatMoved();
      await this.#dropThoseThatMayChange();
      const news = this.#put.following.take();
      // Without a holder, this put fails, and there is nothing for which others' copies would have to be looked at.
      if (news.length > 0 && this.#holders.length > 0) {
        if (round === MAX_ROUNDS) throw this.#outrun();
        const winner = await this.#settleWithOthers(round, news);
        if (winner !== undefined) return this.#yieldTo(winner, record);
      } else if (this.#holders.length === heldBefore) break;
      record = await this.#write();
    }
    if (this.#holders.length > 0 && !this.#put.hasIntent) ledger.index.setFact(pendingKey(this.#put.name), undefined);
    return this.#answer(record);
  }

  /**
   * Writes the record on every store. A holder that does not take the record no longer counts, and the record is
   * written again without it.
   */
  async #write(): Promise<PutRecord> {
    const { ledger } = this.#pool;
    // The marks must be later than those of the intent and of an earlier attempt.
    let rev = this.#put.hasIntent || this.#failed.size > 0 ? ledger.clock.next() : this.#version;
    for (;;) {
      const record = this.#record(rev);
      const appended = ledger.append({ objects: [record] });
      const errors = await Promise.all(
        this.#holders.map(async (member) => [member, await appended.get(member)] as const),
      );
      const lost = errors.filter(([, error]) => error !== undefined);
      for (const [member, error] of lost) {
        if (error !== undefined) this.#failed.set(member, error);
        if (member.state !== "unreachable" && !this.#isStillThere(member)) this.#noteMoved(member);
      }
      this.#holders = this.#holders.filter((member) => !this.#failed.has(member));
      // A put that fails must not take effect later, so the record's way to every store is waited for.
      if (this.#holders.length === 0) await Promise.all(appended.values());
      if (lost.length === 0 || this.#holders.length === 0) return record;
      rev = ledger.clock.next();
    }
  }

  /** The record of the put, with marks of revision `rev`. */
  #record(rev: Version): PutRecord {
    const { name, state } = this.#put;
    const mirrored = this.#pool.modeFor(name) === "mirror";
    const copies: Record<StoreId, CopyMark> = {};
    const owedDeletes: Member[] = [];
    for (const member of this.#pool.ledger.members) {
      const id = member.owingId;
      if (id === undefined) continue;
      const error = this.#failed.get(member);
      const late = this.#lateOn(member, error, rev);
      if (this.#holders.includes(member)) copies[id] = { state: "holds", rev, ...late };
      else if (error !== undefined && mirrored) copies[id] = { state: "copy", rev, reason: error.code, ...late };
      else if (error !== undefined || this.#mayHold(member)) {
        copies[id] = {
          state: "delete",
          rev,
          ...(late.late === undefined ? {} : { reason: error?.code ?? "late", ...late }),
        };
        owedDeletes.push(member);
      }
    }
    this.#owedDeletes = owedDeletes;
    for (const id of [...this.#moved, ...this.#unproven])
      copies[id] ??= { state: mirrored ? "copy" : "delete", rev, reason: "moved" };
    for (const id of this.#absentHolders())
      copies[id] ??= { state: mirrored ? "copy" : "delete", rev, reason: "absent" };
    const former = currentRecord(state);
    const settles = [...this.#settles].sort();
    return {
      name,
      version: this.#version,
      base: this.#base,
      kind: "put",
      content: this.#content,
      copies,
      ...(settles.length > 0 ? { settles } : {}),
      ...(isPut(former) ? { former: former.content.sha256 } : {}),
      ...(this.#metadata === undefined ? {} : { metadata: this.#metadata }),
    };
  }

  /** A late request to the store: one of this put, or an earlier one. */
  #lateOn(member: Member, error: HoldfastError | undefined, rev: Version): Pick<CopyMark, "late"> {
    const { sentTo, landing, following } = this.#put;
    const isOpen = sentTo.has(member) && (error?.mayLand === true || landing.has(member));
    if (isOpen) return { late: rev };
    // A holder's copy was checked after every earlier request to it had ended.
    if (this.#holders.includes(member)) return {};
    const late = this.#pool.lateOn(member, following.foreign);
    return late === undefined ? {} : { late };
  }

  /** Stores outside the pool's file that have a version of the name by its records. */
  #absentHolders(): readonly StoreId[] {
    const { ledger } = this.#pool;
    return [...formerStores(this.#put.state)].filter(
      (id) => ledger.memberById(id) === undefined && ledger.index.store(id)?.state !== "removed",
    );
  }

  /** Whether a copy of an earlier version may stand on a member that this put did not go to. */
  #mayHold(member: Member): boolean {
    const { state, hasIntent, name } = this.#put;
    if (member.ids.some((id) => formerStores(state).has(id))) return true;
    // An object from before the ledger may be on any store, and so may the bytes of an unfinished put.
    return (
      hasIntent &&
      this.#pool.modeFor(name) === "stripe" &&
      (state === undefined || !this.#pool.ledger.isCensused(member))
    );
  }

  /** Drops holders that another store has replaced, or that did not answer: where their bytes went is unknown. */
  #dropThoseThatMoved(): void {
    for (const member of this.#holders) {
      if (this.#isStillThere(member)) continue;
      const meant = this.#put.ids.get(member);
      if (meant !== undefined) this.#unproven.add(meant);
      // A silent store may well be the intended one.
      if (member.state !== "unreachable") this.#noteMoved(member);
      this.#drop(member, member.ready ? isAnother(member) : member.trouble());
    }
  }

  /** The record of a put that failed stands on other stores. It names stores that may not be the ones with the bytes. */
  async #findThoseThatMoved(took: readonly Member[]): Promise<void> {
    await this.#pool.ledger.hear();
    for (const member of took) {
      if (member.state !== "unreachable" && !this.#isStillThere(member)) this.#noteMoved(member);
    }
  }

  #isStillThere(member: Member): boolean {
    return member.ready && member.id === this.#put.ids.get(member);
  }

  #noteMoved(member: Member): void {
    const meant = this.#put.ids.get(member);
    if (meant !== undefined) this.#moved.add(meant);
  }

  #drop(member: Member, error: HoldfastError): void {
    this.#failed.set(member, error.within({ store: member.label, operation: "put", object: this.#put.name }));
    this.#holders = this.#holders.filter((one) => one !== member);
  }

  /**
   * Drops holders that another process may be changing at this moment; they owe the copy. With an intent that can only be
   * late requests: processes that began after the intent leave these stores alone, and earlier ones were waited for.
   */
  async #dropThoseThatMayChange(): Promise<void> {
    const { following, hasIntent } = this.#put;
    const open = (which: "any" | "soon-over" | "late"): readonly Member[] =>
      this.#holders.filter((member) => this.#pool.mayChange(member, following.foreign, which));
    if (!hasIntent) await this.#pool.outwait(() => open("soon-over").length > 0);
    const changing = open(hasIntent ? "late" : "any");
    if (changing.length === 0) return;
    if (this.#holders.length - changing.length < this.#pool.min) throw this.#outrun();
    for (const member of changing) this.#drop(member, mayStillChange(member));
  }

  /**
   * Another process wrote the name too. Looks at the stores' copies, and takes a version above the others' versions.
   * Returns the record of the other write if that one overwrote this put.
   */
  async #settleWithOthers(round: number, news: readonly ObjectRecord[]): Promise<ObjectRecord | undefined> {
    const { ledger, min } = this.#pool;
    const { name } = this.#put;
    const records = ledger.index.get(name)?.records ?? [];
    const others = records.filter(
      (one) => one.kind !== "intent" && one.version !== this.#version && !this.#settles.has(one.version),
    );
    const above = others.find((one) => one.version > this.#version);
    // A write that is still under way may already have replaced this put's bytes. Then it is the later one, and this
    // put still counts. It may end, and its record become known, while the copies are looked at: the next round sees that.
    const beingWritten = new Set(this.#holders.filter((member) => this.#isBeingWritten(member)));
    const standing = await this.#standing();
    const mine = this.#holders.filter(
      (member) => standing.get(member) === this.#content.sha256 || beingWritten.has(member),
    );
    const later = [...others, ...news].find((one) => this.#isKnownTo(one));
    if (later !== undefined) return later;
    const rivals = mine.length < min ? others : above !== undefined && round > 0 ? [above] : [];
    const winner = rivals.find((other) => this.#stands(other, standing));
    if (winner !== undefined) return winner;
    if (mine.length < min && !this.#isGone(standing)) throw this.#outrun();
    for (const member of this.#holders) {
      if (!mine.includes(member))
        this.#drop(member, new HoldfastError("conflict", "another process wrote it at the same moment"));
    }
    if (this.#holders.length === 0) {
      this.#isTakenAway = true;
      return undefined;
    }
    if (others.length === 0) return undefined;
    this.#settles.add(this.#version);
    for (const { version, base } of others) {
      this.#settles.add(version);
      if (base > this.#base) this.#base = base;
    }
    if (above === undefined) this.#settles.delete(this.#version);
    else {
      this.#formerVersions.push(this.#version);
      this.#version = ledger.stamp(...records);
    }
    return undefined;
  }

  /** Whether no store has this put's bytes any more, for certain: a move of the version before may take them away. */
  #isGone(standing: ReadonlyMap<Member, string | undefined>): boolean {
    return this.#holders.every((member) => {
      const digest = standing.get(member);
      return standing.has(member) && digest !== this.#content.sha256 && digest !== UNREADABLE;
    });
  }

  /**
   * Whether another write knew of this put, and so came after it. A write that removes copies of this put does so after
   * its record is written, and may not hear of a later version of this put before. So for such a write it is enough that
   * it knew an earlier version.
   */
  #isKnownTo(other: ObjectRecord): boolean {
    if (other.kind === "intent") return false;
    // Without an intent, a higher `base` does not prove that this put was known: see `groundOf`.
    const { hasIntent } = this.#put;
    const versions = this.#isTakenBy(other) ? [this.#version, ...this.#formerVersions] : [this.#version];
    return versions.some(
      (version) => (hasIntent && other.base >= version) || other.settles?.includes(version) === true,
    );
  }

  /** Whether another write removes a copy of this put: a delete, or a put to another store of a stripe. */
  #isTakenBy(other: ObjectRecord): boolean {
    return this.#holders.some((member) => {
      const state = this.#pool.ledger.markOf(other, member)?.state;
      return state === "delete" || state === "none";
    });
  }

  #isBeingWritten(member: Member): boolean {
    const { ledger } = this.#pool;
    return openIntents(ledger.index.get(this.#put.name)).some((intent) => ledger.markOf(intent, member) !== undefined);
  }

  /** The SHA-256 of each ready store's copy; undefined if the store has none, or cannot be read. */
  async #standing(): Promise<ReadonlyMap<Member, string | undefined>> {
    const { name } = this.#put;
    return new Map(
      await Promise.all(
        this.#pool.ledger.members
          .filter((member) => member.ready)
          .map(async (member) => {
            const digest = await readDigest(member, name, this.#content.size, undefined).catch((error: unknown) =>
              isHoldfastError(error, "not-found") ? undefined : UNREADABLE,
            );
            return [member, digest] as const;
          }),
      ),
    );
  }

  /** Whether the stores have the copy of a write that was made at the same moment. */
  #stands(other: ObjectRecord, standing: ReadonlyMap<Member, string | undefined>): boolean {
    if (!isPut(other)) return true;
    if (other.content.sha256 === this.#content.sha256) return true;
    return [...standing.values()].includes(other.content.sha256);
  }

  /** The put is done, and another write came after it. Stores whose copies are not that write's owe it. */
  async #yieldTo(winner: ObjectRecord, own: PutRecord): Promise<Committed> {
    const { ledger } = this.#pool;
    const standing = await this.#standing();
    const wanted = isPut(winner) ? winner.content.sha256 : undefined;
    const wrong = [...standing.keys()].filter(
      (member) => standing.get(member) !== wanted && (this.#holders.includes(member) || ledger.holds(winner, member)),
    );
    const settles = [...this.#settles, this.#version].filter((version) => version !== winner.version);
    const owing = {
      ...ledger.owedAnew(
        winner,
        wrong.flatMap((member) => member.owingId ?? []),
        "written at the same moment",
      ),
      settles,
    };
    const record = this.#withLanding(winner.version > this.#version ? owing : this.#overtaking(winner, wrong, settles));
    const outcomes = await Promise.all(ledger.append({ objects: [record] }).values());
    if (outcomes.every((error) => error !== undefined)) throw this.#outrun();
    const { size, sha256 } = this.#content;
    const owed = this.#pool.debtsOf(record);
    if (owed.length > 0 && this.#pool.onfail === "abort") throw this.#outrun();
    return { answer: { size, sha256, owed }, record: own, ...this.#outcome() };
  }

  /** The record of another write, with marks for this put's late requests, which may still overwrite it. */
  #withLanding(record: ObjectRecord): ObjectRecord {
    const { sentTo, landing } = this.#put;
    const open = [...sentTo].filter((member) => this.#failed.get(member)?.mayLand === true || landing.has(member));
    if (open.length === 0) return record;
    const rev = this.#pool.ledger.stamp(record);
    const mark: CopyMark = { state: isPut(record) ? "copy" : "delete", rev, reason: "late", late: rev };
    const ids = open.flatMap(({ owingId }) => owingId ?? []);
    return { ...record, copies: { ...record.copies, ...Object.fromEntries(ids.map((id) => [id, mark])) } };
  }

  /**
   * The record of a write that came after this put although its version is lower, with a new version above this put's.
   */
  #overtaking(winner: ObjectRecord, wrong: readonly Member[], settles: readonly Version[]): ObjectRecord {
    const { ledger } = this.#pool;
    const version = ledger.stamp(winner, ...(ledger.index.get(winner.name)?.records ?? []));
    const state = isPut(winner) ? "copy" : "delete";
    const copies: Record<StoreId, CopyMark> = {};
    // The end of a delete that is under way would be noted under the old version, so the delete counts as owed.
    for (const [id, mark] of Object.entries(winner.copies))
      copies[id] = isOpenAttempt(winner, mark) && mark.late === undefined ? { ...mark, reason: "settled" } : mark;
    for (const member of wrong) {
      if (member.owingId !== undefined)
        copies[member.owingId] = { state, rev: version, reason: "written at the same moment" };
    }
    const base = winner.base > this.#base ? winner.base : this.#base;
    return { ...winner, version, base, copies, settles: [...settles, winner.version].sort() };
  }

  #outrun(): HoldfastError {
    return new HoldfastError("conflict", "another process writes the same object at the same moment", {
      object: this.#put.name,
      retryable: true,
    });
  }

  async #answer(record: PutRecord): Promise<Committed> {
    const { name, below } = this.#put;
    const holders = this.#holders;
    // Nothing is deleted because of a record that no holder has.
    const deletes =
      holders.length === 0
        ? []
        : await this.#deletes.deleteFrom(record, this.#owedDeletes, this.#put.following.foreign);
    const owed: Debt[] = [];
    if (this.#pool.modeFor(name) === "mirror") {
      for (const [member, error] of this.#failed) {
        owed.push({
          object: this.#pool.shownName(name),
          store: member.label,
          owes: "copy",
          sinceMs: versionMs(record.version),
          reason: error.message,
        });
      }
    }
    owed.push(...deletes);
    if (owed.length > 0) {
      this.#pool.logger.warn("degraded", { object: name, owing: owed.map((debt) => debt.store) });
    }
    // Pools below have logged the debts of their stores.
    owed.push(...holders.flatMap((member) => debtsBelow(member, below.get(member))));
    return {
      answer: { size: this.#content.size, sha256: this.#content.sha256, owed },
      record,
      ...this.#outcome(),
    };
  }

  #outcome(): Pick<Committed, "versions" | "holders" | "isUnheld"> {
    return {
      versions: [...this.#formerVersions, this.#version],
      holders: this.#holders,
      isUnheld: this.#moved.size > 0 || this.#isTakenAway,
    };
  }
}
