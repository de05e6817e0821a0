/** `holdfast stores`: each store, reachable or not. */
import type { CommandContext } from "../context.ts";
import { printable, table } from "../terminal/format.ts";
import type { StoreReport } from "../../contract/pool.ts";

/** Why a store cannot be used, in words. */
export function troubleWords(report: Pick<StoreReport, "reachable" | "trouble" | "reason" | "draining">): string {
  const said = standsAs(report);
  if (!report.draining) return said;
  // A reason may end with a command to copy.
  return said === "ok" ? "ok, being drained" : `being drained; ${said}`;
}

function standsAs(report: Pick<StoreReport, "reachable" | "trouble" | "reason">): string {
  const reason = report.reason === undefined ? "" : `: ${printable(report.reason)}`;
  switch (report.trouble) {
    case "missing":
      return `MISSING${reason || ": it should hold a part of this pool, and is empty"}`;
    case "foreign":
      return `FOREIGN${reason || ": it belongs to another pool"}`;
    case "removed":
      return `GIVEN UP${reason || ": it was replaced, and came back as it was"}`;
    case "twin":
      return `A COPY${reason || ": it has the identity of another store"}`;
    default:
      return report.reachable ? "ok" : `unreachable${reason}`;
  }
}

/** Place in the pool's file, from 1. Stores of a pool below have none in this one's. */
export function positionOf(reports: readonly { readonly within?: string }[], index: number): { position?: number } {
  if (reports[index]?.within !== undefined) return {};
  return { position: reports.slice(0, index + 1).filter(({ within }) => within === undefined).length };
}

export async function stores(context: CommandContext): Promise<void> {
  const { pool } = await context.openTarget();
  const reports = await pool.maintenance.stores({ signal: context.signal });
  const rows = table(
    reports.map((report) => [
      printable(report.label),
      report.latencyMs === undefined ? "-" : `${report.latencyMs.toFixed(1)} ms`,
      report.id ?? "new",
      troubleWords(report),
    ]),
  );
  for (const [index, report] of reports.entries()) {
    const position = positionOf(reports, index);
    if (!report.reachable || report.trouble !== undefined) context.outcome.degraded();
    await context.printer.data({ type: "store", ...position, ...report }, rows[index] ?? "");
  }
}
