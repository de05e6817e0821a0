/** `holdfast drain`: moves everything off a store. */
import { HoldfastError } from "../errors.ts";
import type { CommandContext } from "./context.ts";
import { printActions, reportRepair, scanOptions } from "./maintenance.ts";

export async function drain(
  context: CommandContext,
  store: string,
  options: { readonly dryRun?: boolean },
): Promise<void> {
  if (store.length === 0) throw new HoldfastError("config", "drain needs a store, as holdfast stores shows it");
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("drain", labels);
  const dryRun = options.dryRun === true;
  const report = await pool.drain(store, {
    ...scanOptions(context, progress),
    dryRun,
    onAction: printActions(context, dryRun),
  });
  progress.stop();
  await reportRepair(context, "drain", report, dryRun);
}
