/**
 * Rebalance: spreads objects over the stores again, or fills stores that were added later. Changes the pool's mode and
 * policies.
 */
import { HoldfastError } from "../contract/errors.ts";
import type { RebalanceOptions, RepairReport } from "../contract/pool.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { repair } from "./repair.ts";
import { Spread } from "./spread.ts";

export async function rebalance(pool: PoolContext, options: RebalanceOptions): Promise<RepairReport> {
  await changePool(pool, options);
  await pool.listen();
  if (pool.mode !== "stripe") return repair(pool, options);
  const spread = new Spread(pool);
  const report = await repair(pool, options, spread);
  const moved = await spread.move(options);
  return {
    ...report,
    planned: report.planned + moved.planned,
    done: report.done + moved.done,
    failed: report.failed + moved.failed,
    bytes: report.bytes + moved.bytes,
    whole: report.whole && moved.failed === 0,
  };
}

/** Begins a new epoch of the pool before any object is moved. Every object can be read throughout. */
async function changePool(pool: PoolContext, { mode, min, prefixes, dryRun }: RebalanceOptions): Promise<void> {
  if ((mode === undefined && min === undefined && prefixes !== true) || dryRun === true) return;
  const { ledger } = pool;
  await pool.open();
  await ledger.hear();
  ledger.accept({ mode, min });
  const known = prefixes === true ? ledger.members.filter((member) => ledger.storeOf(member) !== undefined) : [];
  for (const { id, prefixes: wanted } of known)
    if (id !== undefined) await ledger.recordStore(id, { prefixes: wanted });
  await ledger.initialise();
  const next = { ...ledger.epoch, ...(mode === undefined ? {} : { mode }), ...(min === undefined ? {} : { min }) };
  if (next.mode === "mirror" && next.min > ledger.members.length) {
    throw new HoldfastError("invalid", `a pool of ${ledger.members.length} stores cannot have min=${next.min}`);
  }
  await ledger.changeEpoch(next.mode === "stripe" ? { ...next, min: 1, sure: 1 } : next);
}
