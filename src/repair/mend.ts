/** Mend: carries out the plan for one object in steps. No step makes the object worse. */
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion, isPut } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, PutRecord, StoreId } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { copyTo } from "../pool/copy.ts";
import { isAnother } from "../pool/pool-answers.ts";
import type { RepairAction } from "../contract/pool.ts";
import { contentOf } from "./assess.ts";
import type { ObjectPlan } from "./assess.ts";
import { claimName, sameVersions } from "./claim.ts";
import type { Claim } from "./claim.ts";

export interface Mended {
  readonly done: number;
  readonly failed: number;
  readonly bytes: number;
  /** The errors of the steps that failed. */
  readonly errors: readonly HoldfastError[];
}

/** The steps of a plan, for people and for `--dry-run`. */
export function describePlan(name: string, plan: ObjectPlan): readonly RepairAction[] {
  const actions: RepairAction[] = [];
  if ("renew" in plan.decision) {
    actions.push({ action: plan.decision.from === undefined ? "record" : "settle", object: name, why: plan.why });
  }
  const content = contentOf(plan);
  for (const { member, why } of plan.copyTo) {
    const from = plan.good[0];
    actions.push({
      action: "copy",
      object: name,
      store: member.label,
      ...(from === undefined ? {} : { from: from.label }),
      ...(content === undefined ? {} : { bytes: content.size }),
      why,
    });
  }
  for (const { member, why } of plan.deleteFrom)
    actions.push({ action: "delete", object: name, store: member.label, why });
  for (const member of plan.confirm)
    actions.push({ action: "clear", object: name, store: member.label, why: "confirmed" });
  return actions;
}

/**
 * `kept`: the bytes of the plan's content, if the scan kept them. Call it only while holding the name. Other processes
 * are told by a claim: see `claim.ts`.
 */
export async function mend(
  pool: PoolContext,
  name: string,
  plan: ObjectPlan,
  seen: NameState | undefined,
  kept: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<Mended> {
  return new Mending(pool, name, plan, seen, kept, signal).run();
}

const NOTHING: Mended = { done: 0, failed: 0, bytes: 0, errors: [] };

class Mending {
  readonly #pool: PoolContext;
  readonly #name: string;
  readonly #plan: ObjectPlan;
  readonly #seen: NameState | undefined;
  readonly #kept: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #errors: HoldfastError[] = [];
  readonly #marks: Record<StoreId, CopyMark> = {};
  readonly #copied: Member[] = [];
  readonly #ids: ReadonlyMap<Member, StoreId | undefined>;
  #claim: Claim | undefined;
  #done = 0;
  #bytes = 0;

  constructor(
    pool: PoolContext,
    name: string,
    plan: ObjectPlan,
    seen: NameState | undefined,
    kept: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#pool = pool;
    this.#name = name;
    this.#plan = plan;
    this.#seen = seen;
    this.#kept = kept;
    this.#signal = signal;
    this.#ids = new Map(pool.ledger.members.map((member) => [member, member.id]));
  }

  async run(): Promise<Mended> {
    throwIfAborted(this.#signal);
    const touched = this.#touched();
    if (touched.size > 0 || "renew" in this.#plan.decision) {
      this.#claim = await claimName(this.#pool, this.#name, this.#seen, touched);
      if (this.#claim === undefined) return NOTHING;
    } else if (!(await this.#isUnchanged())) return NOTHING;
    try {
      return await this.#carryOut([...touched.keys()]);
    } finally {
      this.#claim?.stopRenewing();
    }
  }

  async #carryOut(touched: readonly Member[]): Promise<Mended> {
    const record = await this.#record();
    if (record === undefined) return { ...NOTHING, failed: 1, errors: this.#errors };
    for (const member of this.#plan.confirm) {
      const state = this.#plan.good.includes(member) ? "holds" : this.#isOwedCopy(record, member) ? "copy" : "none";
      this.#mark(record, member, state);
      this.#done++;
    }
    try {
      if (isPut(record)) await this.#copy(record);
      await this.#delete(record);
    } finally {
      await this.#note(record, touched);
    }
    return { done: this.#done, failed: this.#errors.length, bytes: this.#bytes, errors: this.#errors };
  }

  /** The stores whose copies the plan changes. */
  #touched(): ReadonlyMap<Member, "copy" | "delete"> {
    const touched = new Map<Member, "copy" | "delete">();
    for (const { member } of this.#plan.copyTo) touched.set(member, "copy");
    for (const { member } of this.#plan.deleteFrom) touched.set(member, "delete");
    return touched;
  }

  async #isUnchanged(): Promise<boolean> {
    throwIfAborted(this.#signal);
    await this.#pool.ledger.freshen();
    return sameVersions(this.#pool.ledger.index.get(this.#name), this.#now(), this.#claim?.version);
  }

  /** The records that the name has unless another process changes it. */
  #now(): NameState | undefined {
    return this.#renewed === undefined ? this.#seen : { records: [this.#renewed] };
  }

  #renewed: ObjectRecord | undefined;

  /** The record that is current from now on. Undefined: no store took it. */
  async #record(): Promise<ObjectRecord | undefined> {
    const { decision } = this.#plan;
    if ("keep" in decision) return decision.keep;
    const { ledger } = this.#pool;
    const version = this.#claim?.version ?? ledger.stamp(...(this.#seen?.records ?? []));
    const record = renewed(this.#pool, this.#name, this.#plan, this.#seen, version, ledger.clock.next());
    // A store that cannot take the record gets it later. At least one store must have it before the next step.
    const outcomes = await Promise.all(ledger.append({ objects: [record] }).values());
    if (outcomes.every((error) => error !== undefined)) {
      this.#errors.push(...outcomes.filter((error) => error !== undefined));
      return undefined;
    }
    this.#renewed = record;
    this.#done++;
    return record;
  }

  #mark(record: ObjectRecord, member: Member, state: CopyMark["state"], error?: HoldfastError): void {
    const rev = this.#pool.ledger.stamp(record);
    const why = error === undefined ? {} : { reason: error.code, ...(error.mayLand ? { late: rev } : {}) };
    for (const id of member.ids) {
      if (id === member.owingId || record.copies[id] !== undefined) this.#marks[id] = { state, rev, ...why };
    }
  }

  async #copy(record: PutRecord): Promise<void> {
    for (const { member } of this.#plan.copyTo) {
      if (!(await this.#isUnchanged())) break;
      if (this.#claim?.members.has(member) !== true) {
        this.#errors.push(this.#claim?.refused.get(member) ?? member.trouble());
        continue;
      }
      try {
        await copyTo(record, this.#plan.good, member, this.#signal, this.#kept);
        this.#bytes += record.content.size;
        this.#done++;
        // A late request may still change the copy, so a later repair confirms it.
        if (this.#pool.mayChange(member, this.#seen)) continue;
        this.#copied.push(member);
        this.#mark(record, member, "holds");
      } catch (error) {
        throwIfAborted(this.#signal);
        const failure = toHoldfastError(error).within({ store: member.label, operation: "put", object: this.#name });
        this.#errors.push(failure);
        // The state of the copy is unknown now, so it is owed until it is confirmed.
        this.#mark(record, member, "copy", failure);
      }
    }
  }

  /** Deletes surplus copies, but only if every store that should have a copy has one. */
  async #delete(record: ObjectRecord): Promise<void> {
    const { deleteFrom, good, wanted } = this.#plan;
    if (deleteFrom.length === 0) return;
    const staying = [...good, ...this.#copied].filter((member) => !deleteFrom.some((one) => one.member === member));
    const isEnough = !isPut(record) || (staying.length > 0 && wanted.every((member) => staying.includes(member)));
    if (!isEnough || !(await this.#haveCopied(record)) || !(await this.#owe(record))) return;
    for (const { member } of deleteFrom) {
      if (!(await this.#isUnchanged())) break;
      if (this.#claim?.members.has(member) !== true) {
        this.#errors.push(this.#claim?.refused.get(member) ?? member.trouble());
        continue;
      }
      try {
        await member.store.delete(this.#name, { signal: this.#signal });
        this.#mark(record, member, "none");
        this.#done++;
      } catch (error) {
        throwIfAborted(this.#signal);
        const failure = toHoldfastError(error).within({ store: member.label, operation: "delete", object: this.#name });
        this.#errors.push(failure);
        this.#mark(record, member, "delete", failure);
      }
    }
  }

  /**
   * Whether the stores that were copied to are still the intended ones, and have the copies. One that was unmounted meanwhile
   * gave them to a folder in its place, or has them no longer.
   */
  async #haveCopied(record: ObjectRecord): Promise<boolean> {
    if (this.#copied.length === 0) return true;
    await this.#pool.ledger.hear();
    const troubles = await Promise.all(
      this.#copied.map(async (member) => [member, await this.#lacks(member)] as const),
    );
    throwIfAborted(this.#signal);
    for (const [member, trouble] of troubles) {
      if (trouble === undefined) continue;
      this.#errors.push(trouble);
      this.#mark(record, member, "copy", trouble);
    }
    return troubles.every(([, trouble]) => trouble === undefined);
  }

  /** Why a store that was copied to does not count as having the copy; undefined if it does. */
  async #lacks(member: Member): Promise<HoldfastError | undefined> {
    if (!member.ready) return member.trouble();
    if (member.id !== this.#ids.get(member)) return isAnother(member);
    try {
      await member.store.stat(this.#name, { signal: this.#signal });
      return undefined;
    } catch (error) {
      return toHoldfastError(error).within({ store: member.label, operation: "stat", object: this.#name });
    }
  }

  /**
   * Records the new holders, and the deletes as owed, in case the mending is cut short before the deletes are confirmed.
   * False: a store that needs the record did not take it.
   */
  async #owe(record: ObjectRecord): Promise<boolean> {
    const { ledger } = this.#pool;
    const copies: Record<StoreId, CopyMark> = { ...this.#marks };
    for (const { member } of this.#plan.deleteFrom) {
      const id = member.owingId;
      if (id !== undefined && ledger.holds(record, member)) {
        copies[id] = { state: "delete", rev: ledger.stamp(record), reason: "too many" };
      }
    }
    if (Object.keys(copies).length === 0) return true;
    const appended = ledger.append({ objects: [{ ...record, copies }] });
    const outcomes = await Promise.all(
      [...appended].map(async ([member, outcome]) => [member, await outcome] as const),
    );
    // A store counts as a holder only when its own ledger has the record of it.
    const missed = outcomes.filter(([, error]) => error !== undefined).map(([member]) => member);
    return missed.length < outcomes.length && !this.#copied.some((member) => missed.includes(member));
  }

  #isOwedCopy(record: ObjectRecord, member: Member): boolean {
    return record.kind === "put" && isOwedHere(this.#pool, record.name, member);
  }

  /** Writes the marks. If the object was changed meanwhile, the touched stores owe the newer version. */
  async #note(record: ObjectRecord, touched: readonly Member[]): Promise<void> {
    const { ledger } = this.#pool;
    const settles = this.#claim === undefined || this.#renewed !== undefined ? {} : { settles: [this.#claim.version] };
    if (Object.keys(this.#marks).length === 0 && !("settles" in settles)) return;
    // A mark counts only if the store is still the intended one.
    await ledger.hear();
    for (const member of ledger.members) {
      if (member.ready && member.id === this.#ids.get(member)) continue;
      const isOwed = touched.includes(member) && isPut(record) && this.#isOwedCopy(record, member);
      for (const id of member.ids) {
        if (isOwed && this.#marks[id] !== undefined)
          this.#marks[id] = { state: "copy", rev: ledger.stamp(record), reason: "moved" };
        else delete this.#marks[id];
      }
    }
    // These marks may follow later. Until then the debt stays recorded, which only costs another look. So the marks of
    // many objects share a segment; otherwise a long repair would write a segment for every few of them.
    ledger.appendLater([{ ...record, copies: this.#marks, ...settles }]);
    const now = ledger.index.get(this.#name);
    if (touched.length === 0 || sameVersions(now, this.#now(), this.#claim?.version)) return;
    const newer = currentRecord(now);
    if (newer === undefined || newer.version === record.version) return;
    const ids = touched.flatMap(({ owingId }) => owingId ?? []);
    const owed = ledger.owedAnew(newer, ids, "changed during repair");
    await Promise.all(ledger.append({ objects: [owed] }).values());
  }
}

function isOwedHere(pool: PoolContext, name: string, member: Member): boolean {
  return pool.modeFor(name) === "mirror" && pool.targets(name).includes(member);
}

/** The record that settles the open writes, with marks of revision `rev`. */
function renewed(
  pool: PoolContext,
  name: string,
  plan: ObjectPlan,
  state: NameState | undefined,
  version: Version,
  rev: Version,
): ObjectRecord {
  const { ledger } = pool;
  const decision = "renew" in plan.decision ? plan.decision : undefined;
  const former = decision?.from;
  const copies: Record<StoreId, CopyMark> = {};
  const content = contentOf(plan);
  for (const member of ledger.members) {
    const id = member.owingId;
    if (id === undefined) continue;
    const isOwed = plan.copyTo.some((one) => one.member === member);
    const late = pool.lateOn(member, state);
    // The claim names the stores that repair changes. These marks only record the present state.
    if (late !== undefined) {
      copies[id] = {
        state: content === undefined || !isOwedHere(pool, name, member) ? "delete" : "copy",
        rev,
        reason: "late",
        late,
      };
    } else if (content === undefined) copies[id] = { state: "delete", rev, reason: "settled" };
    else if (plan.good.includes(member)) copies[id] = { state: "holds", rev };
    else if (pool.modeFor(name) === "stripe" && !isOwed) copies[id] = { state: "delete", rev, reason: "settled" };
    else copies[id] = { state: "copy", rev };
  }
  for (const { member } of plan.deleteFrom)
    if (member.owingId !== undefined) copies[member.owingId] = { state: "delete", rev, reason: "settled" };
  const settles = state?.records.filter((record) => record.version !== version).map((record) => record.version) ?? [];
  const metadata = former?.metadata;
  const shared = {
    name,
    version,
    base: highestVersion(state),
    copies,
    ...(settles.length > 0 ? { settles } : {}),
  };
  if (content === undefined) return { ...shared, kind: "delete" };
  return { ...shared, kind: "put", content, ...(metadata === undefined ? {} : { metadata }) };
}
