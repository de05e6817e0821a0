/** `holdfast stores`: each store, reachable or not. */
import type { CommandContext } from "./context.ts";
import { printable, table } from "./format.ts";
import type { StoreReport } from "../pool.ts";

/** Why a store cannot be used, in words. */
export function troubleWords(report: Pick<StoreReport, "reachable" | "trouble" | "reason" | "draining">): string {
  const reason = report.reason === undefined ? "" : `: ${printable(report.reason)}`;
  const draining = report.draining ? ", being drained" : "";
  switch (report.trouble) {
    case "missing":
      return `MISSING${reason || ": it should hold a part of this pool, and is empty"}${draining}`;
    case "foreign":
      return `FOREIGN${reason || ": it belongs to another pool"}${draining}`;
    default:
      return `${report.reachable ? "ok" : `unreachable${reason}`}${draining}`;
  }
}

export async function stores(context: CommandContext): Promise<void> {
  const { pool } = await context.openTarget();
  const reports = await pool.stores({ signal: context.signal });
  const rows = table(
    reports.map((report) => [
      printable(report.label),
      report.latencyMs === undefined ? "-" : `${report.latencyMs.toFixed(1)} ms`,
      report.id ?? "new",
      troubleWords(report),
    ]),
  );
  for (const [index, report] of reports.entries()) {
    if (!report.reachable || report.trouble !== undefined) context.outcome.degraded();
    await context.printer.data({ type: "store", position: index + 1, ...report }, rows[index] ?? "");
  }
}
