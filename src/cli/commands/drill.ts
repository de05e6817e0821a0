/** `holdfast drill`: what would be lost if a store were gone. */
import type { CommandContext } from "../context.ts";
import { count, formatBytes, formatSpan, printable } from "../terminal/format.ts";
import { scanOptions } from "../maintenance.ts";

export interface DrillFlags {
  readonly store?: string;
  readonly sample?: number;
}

export async function drill(context: CommandContext, options: DrillFlags): Promise<void> {
  const { printer, outcome } = context;
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("drill", labels);
  if (options.store !== undefined) progress.store(options.store, "pretended to be gone");
  const report = await pool.maintenance.drill({
    ...scanOptions(context, progress),
    store: options.store,
    samplePercent: options.sample,
  });
  progress.stop();
  for (const object of report.lost) {
    await printer.data({ type: "lost", object }, `would be lost: ${printable(object)}`);
  }
  if (report.lost.length > 0) outcome.degraded();
  const without = report.store === undefined ? "with every store" : `without ${printable(report.store)}`;
  const lost =
    report.lost.length === 0 ? "nothing would be lost" : `${count(report.lost.length, "object")} would be LOST`;
  await printer.done(
    {
      type: "summary",
      command: "drill",
      ...(report.store === undefined ? {} : { store: report.store }),
      objects: report.objects,
      bytes: report.bytes,
      lost: report.lost.length,
      elapsedMs: Math.round(report.elapsedMs),
      exitCode: outcome.exitCode,
    },
    `read ${count(report.objects, "object")} (${formatBytes(report.bytes)}) ${without} in ${formatSpan(report.elapsedMs)}; ${lost}`,
  );
}
