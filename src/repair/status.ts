/**
 * Status: judges a pool by its ledger and by the states of its stores. Reads no object.
 *
 * Every object is judged by its placement. A store that is missing, foreign, removed, twin or outdated does not count as
 * having the copies that the ledger says it holds. A silent store counts as having them until more is known.
 */
import { throwIfAborted } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import { isIndexLost } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import type { Outdated } from "../ledger/outdated.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, PutRecord } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { compareNames } from "../contract/names.ts";
import type { PoolStatus, StoreReport, StoreStatus } from "../contract/pool.ts";
import type { Debt, OperationOptions } from "../contract/store.ts";

interface Tally {
  copies: number;
  bytes: number;
  deletes: number;
  sinceMs: number | undefined;
}

/** One store's debt of an object. */
interface Missed {
  readonly member: Member;
  readonly owes: Debt["owes"];
  readonly mark: CopyMark | undefined;
}

/** The verdict on one object. */
type Standing = "whole" | "degraded" | "lost";

export async function statusOf(pool: PoolContext, options: OperationOptions): Promise<PoolStatus> {
  await beUpToDate(pool);
  return pool.ledger.withIndex(async () => (await judgeOf(pool)).judge(options));
}

/** Every copy and delete that `statusOf` counts as owed, in the order of names. */
export async function* debtsOf(pool: PoolContext, options: OperationOptions): AsyncGenerator<Debt> {
  await beUpToDate(pool);
  let last: string | undefined;
  for (;;) {
    try {
      for (const [name, debts] of (await judgeOf(pool)).debts(options)) {
        if (last !== undefined && compareNames(name, last) <= 0) continue;
        yield* debts;
        last = name;
      }
      return;
    } catch (error) {
      if (!isIndexLost(error)) throw error;
      await pool.ledger.renewIndex();
    }
  }
}

async function beUpToDate(pool: PoolContext): Promise<void> {
  await pool.listen();
  // Recent changes may not be recorded yet.
  await pool.ledger.flushed();
}

async function judgeOf(pool: PoolContext): Promise<Judge> {
  return new Judge(pool, await pool.findOutdated());
}

class Judge {
  readonly #pool: PoolContext;
  readonly #outdated: Outdated;
  readonly #tally = new Map<Member, Tally>();

  constructor(pool: PoolContext, outdated: Outdated) {
    this.#pool = pool;
    this.#outdated = outdated;
  }

  judge({ signal }: OperationOptions): PoolStatus {
    const { ledger } = this.#pool;
    let degraded = 0;
    let lost = 0;
    let unsettled = 0;
    for (const [name, state] of this.#states()) {
      throwIfAborted(signal);
      const current = currentRecord(state);
      if (state.records.length > 1 || current === undefined) unsettled++;
      const standing = this.#standing(name, state, current);
      if (standing === "lost") lost++;
      if (standing === "degraded") degraded++;
    }
    const stores = ledger.members.map((member) => this.#storeStatus(member));
    const { mode } = this.#pool;
    const absent = ledger.absentees.map(({ label }) => label);
    return { mode, stores, objects: ledger.index.counts().objects, degraded, lost, unsettled, absent };
  }

  /** Each name's debts. */
  *debts({ signal }: OperationOptions): Generator<readonly [string, readonly Debt[]]> {
    for (const [name, state] of this.#states()) {
      throwIfAborted(signal);
      const current = currentRecord(state);
      if (current === undefined) continue;
      const { missed } = this.#missed(name, current);
      const debts = missed.map(({ member, owes, mark }) => ({
        object: this.#pool.shownName(name),
        store: member.label,
        owes,
        sinceMs: versionMs(mark?.rev ?? current.version),
        ...(mark?.reason === undefined ? {} : { reason: mark.reason }),
      }));
      yield [name, debts];
    }
  }

  /**
   * The names to judge: all of them if a store lacks copies that the ledger says it holds, else only the owing ones.
   */
  #states(): Iterable<readonly [string, NameState]> {
    const { index } = this.#pool.ledger;
    return this.#isPlain() ? index.unsettled("") : index.iterate("");
  }

  /** Whether every store has the copies that the ledger says it holds, so that only owing objects need a look. */
  #isPlain(): boolean {
    const { ledger } = this.#pool;
    return (
      this.#outdated.size === 0 &&
      ledger.absentees.length === 0 &&
      ledger.members.every(
        (member) => !isGone(member) && ledger.storeOf(member) !== undefined && !this.#isJoining(member),
      )
    );
  }

  #isJoining(member: Member): boolean {
    const state = this.#pool.ledger.storeOf(member)?.state;
    return state === "joining" || state === "expected";
  }

  #standing(name: string, state: NameState, current: ObjectRecord | undefined): Standing {
    if (current === undefined) return "whole";
    const { holders, missed } = this.#missed(name, current);
    for (const { member, owes, mark } of missed) {
      const sum = this.#owes(member, mark?.rev ?? (owes === "copy" ? current.version : undefined));
      if (owes === "delete") {
        sum.deletes++;
      } else if (isPut(current)) {
        sum.copies++;
        sum.bytes += current.content.size;
      }
    }
    if (isPut(current) && holders === 0 && state.records.length === 1 && !this.#mayBeElsewhere(current)) return "lost";
    return missed.length > 0 ? "degraded" : "whole";
  }

  /** The stores that owe a copy or a delete of an object, and the number of those that hold it as they should. */
  #missed(name: string, current: ObjectRecord): { readonly holders: number; readonly missed: readonly Missed[] } {
    const missed: Missed[] = [];
    let holders = 0;
    const targets = this.#pool.modeFor(name) === "mirror" ? this.#pool.targets(name) : [];
    for (const member of this.#pool.ledger.members) {
      const mark = this.#pool.ledger.markOf(current, member);
      const isUntrue = isGone(member) || this.#outdated.get(member)?.has(name) === true;
      if (isPut(current)) {
        const has = mark?.state === "holds" && !isUntrue;
        if (has) holders++;
        const isMissed = !has && (targets.includes(member) || mark?.state === "holds" || mark?.state === "copy");
        if (isMissed) missed.push({ member, owes: "copy", mark });
      }
      const isStray = mark?.state === "delete" || (mark?.state === "none" && isUntrue && !isGone(member));
      if (isStray) missed.push({ member, owes: "delete", mark });
    }
    return { holders, missed };
  }

  /** Whether a store that the pool's file does not name holds a copy. */
  #mayBeElsewhere(record: PutRecord): boolean {
    return this.#pool.ledger.absentees.some(({ id }) => record.copies[id]?.state === "holds");
  }

  #owes(member: Member, since: string | undefined): Tally {
    const sum = this.#tally.get(member) ?? { copies: 0, bytes: 0, deletes: 0, sinceMs: undefined };
    if (since !== undefined) sum.sinceMs = Math.min(sum.sinceMs ?? Infinity, versionMs(since));
    this.#tally.set(member, sum);
    return sum;
  }

  #storeStatus(member: Member): StoreStatus {
    const sum = this.#tally.get(member);
    const outdated = this.#outdated.get(member)?.size ?? 0;
    return {
      ...describeMember(member),
      owedCopies: sum?.copies ?? 0,
      owedBytes: sum?.bytes ?? 0,
      owedDeletes: sum?.deletes ?? 0,
      ...(sum?.sinceMs === undefined ? {} : { owesSinceMs: sum.sinceMs }),
      ...(outdated > 0 ? { outdated } : {}),
      draining: this.#pool.ledger.isDraining(member),
    };
  }
}

/** Whether a store answers, but is not the one that the pool's objects were put on. */
function isGone({ state }: Member): boolean {
  return state === "missing" || state === "foreign" || state === "removed" || state === "twin";
}

export function describeMember(member: Member): Omit<StoreReport, "latencyMs" | "draining"> {
  const isTrouble = isGone(member) || member.state === "unreachable";
  return {
    label: member.label,
    ...(member.id === undefined ? {} : { id: member.id }),
    reachable: member.readable,
    ...(isTrouble
      ? { trouble: member.state as NonNullable<StoreReport["trouble"]>, reason: member.trouble().message }
      : {}),
  };
}
