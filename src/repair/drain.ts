/** Drain: moves all objects off a store. Forget: gives up a store that is gone. */
import { HoldfastError } from "../contract/errors.ts";
import type { DrainOptions, DrainReport } from "../contract/pool.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { StoreId } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { hint } from "../support/hint.ts";
import { repair } from "./repair.ts";
import { storeCalled, storeNames } from "./store-names.ts";

export async function drain(pool: PoolContext, store: string, options: DrainOptions): Promise<DrainReport> {
  await pool.listenToAll();
  const { ledger } = pool;
  await ledger.initialise();
  const member = storeCalled(store, ledger.members);
  // A store that never answered has no objects to move.
  if (member.id === undefined) throw member.trouble();
  refuseDrain(pool, member, options.leaveCopies);
  if (options.dryRun !== true) await beginDrain(pool, member, member.id, options.leaveCopies);
  const report = await repair(pool, options);
  const removable =
    options.dryRun !== true &&
    isDispensable(pool, member) &&
    report.left.every((finding) => finding.store === member.label);
  if (removable) await ledger.recordStore(member.id, { state: "drained" });
  return { ...report, removable };
}

/**
 * Records that a store is being drained. Takes that back if another machine began a drain at the same moment that
 * leaves too few stores.
 */
async function beginDrain(
  pool: PoolContext,
  member: Member,
  id: StoreId,
  leaveCopies: number | undefined,
): Promise<void> {
  const { ledger } = pool;
  const state = ledger.storeOf(member)?.state;
  await ledger.recordStore(id, { state: "draining" });
  await ledger.hear();
  try {
    refuseDrain(pool, member, leaveCopies);
  } catch (error) {
    if (state !== undefined) await ledger.recordStore(id, { state });
    throw error;
  }
}

/** Throws if the drain would leave fewer copies than needed and the user has not allowed it. */
function refuseDrain(pool: PoolContext, member: Member, leaveCopies: number | undefined): void {
  const { ledger, mode } = pool;
  const staying = ledger.members.filter((one) => one !== member && !ledger.isDraining(one));
  if (staying.length === 0) {
    throw new HoldfastError("invalid", "the last store of a pool cannot be drained", { store: member.label });
  }
  if (mode !== "mirror") return;
  if (staying.length < ledger.epoch.min) {
    throw new HoldfastError(
      "conflict",
      `draining ${member.label} would leave ${staying.length} of the ${ledger.epoch.min} stores that every put needs: nothing was changed (to need fewer, run: ${hint("rebalance", "--min", String(staying.length))})`,
      { store: member.label },
    );
  }
  if (staying.length >= (leaveCopies ?? 2)) return;
  const copies = staying.length === 1 ? "1 copy" : `${staying.length} copies`;
  throw new HoldfastError(
    "conflict",
    `draining ${member.label} would leave ${copies} of every object, on ${staying.map((one) => one.label).join(", ")}: nothing was changed (if that is meant: --leave-copies ${staying.length})`,
    { store: member.label },
  );
}

export async function cancelDrain(pool: PoolContext, store: string): Promise<void> {
  await pool.listenToAll();
  const { ledger } = pool;
  await ledger.initialise();
  const member = storeCalled(store, ledger.members);
  const record = ledger.storeOf(member);
  if (record?.state !== "draining" && record?.state !== "drained") {
    throw new HoldfastError("invalid", `${member.label} is not being drained`, { store: member.label });
  }
  // The store has to get the moved objects back before it counts as a full member.
  await ledger.recordStore(record.id, { state: "joining" });
}

export async function forget(pool: PoolContext, store: string): Promise<void> {
  await pool.listenToAll();
  const { ledger } = pool;
  const absent = ledger.absentees.find((record) => storeNames(record).includes(store));
  const member = absent === undefined ? storeCalled(store, ledger.members) : undefined;
  const id = absent?.id ?? member?.id;
  if (member?.ready === true) {
    throw new HoldfastError(
      "conflict",
      `${member.label} answers: to drain it first, run: ${hint("drain", member.label)}`,
      {
        store: member.label,
      },
    );
  }
  if (id === undefined)
    throw new HoldfastError("invalid", `the pool never knew ${store}: take it out of the pool's file`);
  await ledger.recordStore(id, { state: "removed" });
}

/** Whether the other stores hold every object, by the records. */
function isDispensable(pool: PoolContext, member: Member): boolean {
  const { ledger } = pool;
  for (const [name, state] of ledger.index.iterate("")) {
    const current = currentRecord(state);
    if (state.records.length > 1) return false;
    if (!isPut(current)) continue;
    const holders = ledger.members.filter((one) => one !== member && ledger.holds(current, one));
    const enough = pool.modeFor(name) === "mirror" ? holders.length === pool.targets(name).length : holders.length > 0;
    if (!enough) return false;
  }
  return true;
}
