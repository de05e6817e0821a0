/** Mend: carries out the plan for one object, step by step, each of which leaves the object no worse. */
import { HoldfastError, throwIfAborted, toHoldfastError } from "../errors.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion, isPut } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, StoreId } from "../ledger/record.ts";
import type { PoolStore } from "../modes/pool-store.ts";
import { copyTo } from "../modes/copy.ts";
import type { RepairAction } from "../pool.ts";
import { contentOf } from "./assess.ts";
import type { ObjectPlan } from "./assess.ts";
import { sameState } from "./scan.ts";

export interface Mended {
  readonly done: number;
  readonly failed: number;
  readonly bytes: number;
  /** Why steps failed. */
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
 * `kept`: the bytes of the plan's content, where the scan kept them.
 * Nobody else in this process changes the object meanwhile; that no other process did is checked before each step. */
export async function mend(
  core: PoolStore,
  name: string,
  plan: ObjectPlan,
  seen: NameState | undefined,
  kept: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<Mended> {
  const { ledger } = core;
  let state = seen;
  const errors: HoldfastError[] = [];
  let done = 0;
  let bytes = 0;
  const unchanged = async (): Promise<boolean> => {
    throwIfAborted(signal);
    await ledger.freshen();
    return sameState(ledger.index.get(name), state);
  };
  if (!(await unchanged())) return { done: 0, failed: 0, bytes: 0, errors };

  let record: ObjectRecord;
  if ("renew" in plan.decision) {
    record = renewed(core, name, plan, state);
    // Where it cannot be written, the ledger lags; at least one store must have it before anything else is done.
    const outcomes = await Promise.all(ledger.append({ objects: [record] }).values());
    if (outcomes.every((error) => error !== undefined)) {
      return { done: 0, failed: 1, bytes: 0, errors: outcomes.filter((error) => error !== undefined) };
    }
    state = ledger.index.get(name);
    done++;
  } else {
    record = plan.decision.keep;
  }

  const marks: Record<StoreId, CopyMark> = {};
  const mark = (member: Member, next: CopyMark["state"]): void => {
    if (member.id !== undefined) marks[member.id] = { state: next, rev: ledger.stamp(record) };
  };
  for (const member of plan.confirm) {
    mark(member, plan.good.includes(member) ? "holds" : isOwedCopy(core, record, member) ? "copy" : "none");
    done++;
  }
  const copied: Member[] = [];
  if (isPut(record)) {
    for (const { member } of plan.copyTo) {
      try {
        if (!(await unchanged())) break;
        await copyTo(record, plan.good, member, signal, kept);
        bytes += record.content.size;
        copied.push(member);
        mark(member, "holds");
        done++;
      } catch (error) {
        throwIfAborted(signal);
        errors.push(toHoldfastError(error).within({ store: member.label, operation: "put", object: name }));
        // What stands there now is not known: it owes a copy until it is confirmed.
        mark(member, "copy");
      }
    }
  }
  // A copy is removed only where enough good ones stand elsewhere.
  const staying = [...plan.good, ...copied].filter((member) => !plan.deleteFrom.some((one) => one.member === member));
  const enough = !isPut(record) || (staying.length > 0 && plan.copyTo.every(({ member }) => copied.includes(member)));
  if (enough && (await owe(core, record, plan))) {
    for (const { member } of plan.deleteFrom) {
      try {
        if (!(await unchanged())) break;
        await member.store.delete(name, { signal });
        mark(member, "none");
        done++;
      } catch (error) {
        throwIfAborted(signal);
        errors.push(toHoldfastError(error).within({ store: member.label, operation: "delete", object: name }));
        mark(member, "delete");
      }
    }
  }
  await noteMarks(core, name, record, marks, state, [...copied, ...plan.deleteFrom.map(({ member }) => member)]);
  return { done, failed: errors.length, bytes, errors };
}

/**
 * Notes that stores owe the delete of what the record says they hold, should this be cut short before it says that they have
 * none. False: the note could not be written.
 */
async function owe({ ledger }: PoolStore, record: ObjectRecord, plan: ObjectPlan): Promise<boolean> {
  const copies: Record<StoreId, CopyMark> = {};
  for (const { member } of plan.deleteFrom) {
    if (member.id !== undefined && record.copies[member.id]?.state === "holds") {
      copies[member.id] = { state: "delete", rev: ledger.stamp(record) };
    }
  }
  if (Object.keys(copies).length === 0) return true;
  const outcomes = await Promise.all(ledger.append({ objects: [{ ...record, copies }] }).values());
  return outcomes.includes(undefined);
}

function isOwedCopy(core: PoolStore, record: ObjectRecord, member: Member): boolean {
  return record.kind === "put" && core.modeFor(record.name) === "mirror" && core.targets(record.name).includes(member);
}

function renewed(core: PoolStore, name: string, plan: ObjectPlan, state: NameState | undefined): ObjectRecord {
  const { ledger } = core;
  const version = ledger.stamp(...(state?.records ?? []));
  const decision = "renew" in plan.decision ? plan.decision : undefined;
  const former = decision?.from;
  const copies: Record<StoreId, CopyMark> = {};
  const content = contentOf(plan);
  for (const member of ledger.members) {
    if (member.id === undefined) continue;
    if (content === undefined) copies[member.id] = { state: "delete", rev: version };
    else if (plan.good.includes(member)) copies[member.id] = { state: "holds", rev: version };
    else if (core.modeFor(name) === "stripe" && !plan.copyTo.some((one) => one.member === member)) {
      copies[member.id] = { state: "delete", rev: version };
    } else copies[member.id] = { state: "copy", rev: version };
  }
  for (const { member } of plan.deleteFrom)
    if (member.id !== undefined) copies[member.id] = { state: "delete", rev: version };
  const settles = state?.records.filter((record) => record.kind === "intent").map((record) => record.version) ?? [];
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

/** Writes marks; where the object was changed meanwhile, what was touched is owed anew under the newer record. */
async function noteMarks(
  core: PoolStore,
  name: string,
  record: ObjectRecord,
  marks: Readonly<Record<StoreId, CopyMark>>,
  state: NameState | undefined,
  touched: readonly Member[],
): Promise<void> {
  const { ledger } = core;
  // Not waited for: until it is written the debt stands, which costs another look and nothing else. So the marks of many
  // objects share a segment, where otherwise a long repair would leave a segment for every few of them.
  if (Object.keys(marks).length > 0) ledger.appendLater([{ ...record, copies: marks }]);
  if (touched.length === 0) return;
  await ledger.freshen();
  const now = ledger.index.get(name);
  if (sameState(now, state)) return;
  const newer = currentRecord(now);
  if (newer === undefined || newer.version === record.version) return;
  const ids = touched.flatMap(({ id }) => id ?? []);
  const owed = ledger.owedAnew(newer, ids, "changed during repair");
  await Promise.all(ledger.append({ objects: [owed] }).values());
}
