/** `holdfast drain`: moves everything off a store. */
import { HoldfastError } from "../../contract/errors.ts";
import { hint } from "../../support/hint.ts";
import type { CommandContext } from "../context.ts";
import { printable } from "../terminal/format.ts";
import { printActions, reportRepair, scanOptions } from "../maintenance.ts";

export interface DrainFlags {
  readonly dryRun?: boolean;
  readonly leaveCopies?: number;
  readonly cancel?: boolean;
}

export async function drain(context: CommandContext, store: string, options: DrainFlags): Promise<void> {
  if (store.length === 0)
    throw new HoldfastError("config", `drain needs a STORE; to see the stores, run: ${hint("stores")}`);
  const { pool, labels } = await context.openTarget();
  if (options.cancel === true) {
    if (options.dryRun === true || options.leaveCopies !== undefined)
      throw new HoldfastError("config", "--cancel goes with no other option");
    await pool.maintenance.cancelDrain(store);
    await context.printer.data(
      { type: "summary", command: "drain", store, cancelled: true, exitCode: context.outcome.exitCode },
      `${printable(store)} takes objects again; to bring back what was moved, run: ${hint("repair")}`,
    );
    return;
  }
  const progress = await context.startProgress("drain", labels);
  const dryRun = options.dryRun === true;
  const report = await pool.maintenance.drain(store, {
    ...scanOptions(context, progress),
    dryRun,
    leaveCopies: options.leaveCopies,
    onAction: printActions(context, dryRun),
  });
  progress.stop();
  await reportRepair(context, "drain", report, dryRun);
}
