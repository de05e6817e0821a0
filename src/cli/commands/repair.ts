/** `holdfast repair`: makes right what is missing or wrong. */
import type { CommandContext } from "../context.ts";
import { printActions, printFindings, reportRepair, scanOptions } from "../maintenance.ts";

export interface RepairFlags {
  readonly dryRun?: boolean;
  readonly quick?: boolean;
  readonly refill?: string[];
  readonly discardDamaged?: boolean;
  readonly trustStores?: boolean;
}

export async function repair(context: CommandContext, prefix: string, options: RepairFlags): Promise<void> {
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("repair", labels);
  const dryRun = options.dryRun === true;
  const { onFinding, told } = printFindings(context);
  const report = await pool.maintenance.repair({
    ...scanOptions(context, progress),
    prefix,
    quick: options.quick,
    dryRun,
    refill: options.refill,
    discardDamaged: options.discardDamaged,
    trustStores: options.trustStores,
    onAction: printActions(context, dryRun),
    onFinding,
  });
  progress.stop();
  await reportRepair(context, "repair", report, dryRun, prefix, told);
}
