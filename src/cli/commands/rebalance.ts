/** `holdfast rebalance`: spreads objects over the stores again, and changes what the pool is. */
import type { Mode } from "../../contract/pool.ts";
import type { CommandContext } from "../context.ts";
import { printActions, reportRepair, scanOptions } from "../maintenance.ts";

export interface RebalanceFlags {
  readonly dryRun?: boolean;
  readonly mode?: Mode;
  readonly min?: number;
  readonly prefixes?: boolean;
}

export async function rebalance(context: CommandContext, options: RebalanceFlags): Promise<void> {
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("rebalance", labels);
  const dryRun = options.dryRun === true;
  const report = await pool.maintenance.rebalance({
    ...scanOptions(context, progress),
    dryRun,
    mode: options.mode,
    min: options.min,
    prefixes: options.prefixes,
    onAction: printActions(context, dryRun),
  });
  progress.stop();
  await reportRepair(context, "rebalance", report, dryRun);
  const changed = [
    ...(options.mode === undefined ? [] : [`mode=${options.mode}`]),
    ...(options.min === undefined ? [] : [`min=${options.min}`]),
  ];
  if (changed.length > 0 && !dryRun) {
    await context.printer.warning(
      `the pool has ${changed.join(" and ")} now: its URL or file has to say so from now on`,
    );
  }
}
