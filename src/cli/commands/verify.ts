/** `holdfast verify`: reads and compares every copy. */
import type { CommandContext } from "../context.ts";
import { count, formatBytes, formatSpan, printable } from "../terminal/format.ts";
import { findingLine, findingRecord, scanOptions } from "../maintenance.ts";

export interface VerifyFlags {
  readonly quick?: boolean;
  readonly sample?: number;
  readonly restart?: boolean;
}

export async function verify(context: CommandContext, prefix: string, options: VerifyFlags): Promise<void> {
  const { printer, outcome } = context;
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress("verify", labels);
  const wrong = new Map<string, number>();
  const start = performance.now();
  const report = await pool.maintenance.verify({
    ...scanOptions(context, progress),
    prefix,
    quick: options.quick,
    samplePercent: options.sample,
    resume: options.restart !== true,
    onFinding: (finding) => {
      if (finding.store !== undefined) {
        const number = (wrong.get(finding.store) ?? 0) + 1;
        wrong.set(finding.store, number);
        progress.store(finding.store, count(number, "finding"));
      }
      void printer.data(findingRecord(finding), findingLine(finding));
    },
  });
  progress.stop();
  if (report.findings > 0 || report.unheard.length > 0) outcome.degraded();
  if ((report.byKind.lost ?? 0) > 0) outcome.failed();
  const kinds = Object.entries(report.byKind).filter(([, number]) => number > 0);
  const parts = [
    `verified ${count(report.objects, "object")}, ${count(report.copies, "copy", "copies")} (${formatBytes(report.bytes)}) in ${formatSpan(performance.now() - start)}`,
    kinds.length === 0
      ? report.unheard.length === 0
        ? "nothing wrong"
        : "nothing wrong where it could be read"
      : kinds.map(([kind, number]) => `${number} ${kind}`).join(", "),
    ...(report.unheard.length === 0 ? [] : [`not heard: ${report.unheard.map(printable).join(", ")}`]),
  ];
  await printer.done({ type: "summary", command: "verify", ...report, exitCode: outcome.exitCode }, parts.join("; "));
}
