/** `holdfast rebalance`: spreads objects over the stores again. */
import type { CommandContext } from "./context.ts";
import { printActions, reportRepair, scanOptions } from "./maintenance.ts";

export async function rebalance(context: CommandContext, options: { readonly dryRun?: boolean }): Promise<void> {
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("rebalance", labels);
  const dryRun = options.dryRun === true;
  const report = await pool.rebalance({
    ...scanOptions(context, progress),
    dryRun,
    onAction: printActions(context, dryRun),
  });
  progress.stop();
  await reportRepair(context, "rebalance", report, dryRun);
}
