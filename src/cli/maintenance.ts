/** What verify, repair, drain, rebalance and drill share: progress, findings, and the words for them. */
import type { DrainReport, Finding, RepairAction, RepairReport, ScanOptions } from "../contract/pool.ts";
import { hint } from "../support/hint.ts";
import type { CommandContext } from "./context.ts";
import { DEFAULT_LEASE_MS } from "../contract/pool.ts";
import { count, formatBytes, formatMoment, printable } from "./terminal/format.ts";
import type { OutputRecord } from "./terminal/printer.ts";
import type { Progress } from "./terminal/progress.ts";

/** Lines of findings that are remembered, so that none is printed twice. */
const MAX_TOLD = 10_000;

const WORDS: Readonly<Record<Finding["kind"], string>> = {
  missing: "the copy is missing",
  stale: "the copy is of an older version",
  truncated: "the copy is cut short",
  corrupt: "the copy's bytes are wrong",
  stray: "a copy that should not be there",
  unrecorded: "the ledger does not know it",
  conflict: "copies differ",
  unsettled: "a write was begun and not finished",
  lost: "no good copy is left",
  unreadable: "the copy cannot be read",
  ledger: "a part of the ledger is missing or damaged",
};

export function findingRecord(finding: Finding): OutputRecord {
  return {
    type: "finding",
    kind: finding.kind,
    object: finding.object,
    ...(finding.store === undefined ? {} : { store: finding.store }),
    ...(finding.detail === undefined ? {} : { detail: finding.detail }),
  };
}

export function findingLine(finding: Finding): string {
  const where = finding.store === undefined ? "" : ` on ${printable(finding.store)}`;
  const detail = finding.detail === undefined ? "" : ` (${printable(finding.detail)})`;
  return `${finding.kind.padEnd(10)}  ${printable(finding.object)}${where}: ${WORDS[finding.kind]}${detail}`;
}

function actionRecord(action: RepairAction, dryRun: boolean): OutputRecord {
  return {
    type: "action",
    action: action.action,
    object: action.object,
    ...(action.store === undefined ? {} : { store: action.store }),
    ...(action.from === undefined ? {} : { from: action.from }),
    ...(action.bytes === undefined ? {} : { bytes: action.bytes }),
    why: action.why,
    ...(dryRun ? { dryRun } : {}),
  };
}

function actionLine(action: RepairAction): string {
  const to = action.store === undefined ? "" : action.action === "copy" ? ` to ${action.store}` : ` on ${action.store}`;
  const from = action.from === undefined ? "" : ` from ${action.from}`;
  const size = action.bytes === undefined ? "" : ` (${formatBytes(action.bytes)})`;
  return printable(`${action.action.padEnd(10)}  ${action.object}${from}${to}${size}: ${action.why}`);
}

/** Options of a scan that show its progress. */
export function scanOptions(context: CommandContext, progress: Progress): ScanOptions {
  return {
    signal: context.signal,
    onProgress: (at) => {
      progress.total(at.totalBytes, at.totalObjects);
      progress.reach(at.bytes, at.objects);
    },
  };
}

/** Prints each action as it is taken (or planned) and, where the run is to end with a report, what was found. */
export function printActions(context: CommandContext, dryRun: boolean): (action: RepairAction) => void {
  return (action) => {
    const { printer } = context;
    const line = actionLine(action);
    void (dryRun ? printer.data(actionRecord(action, true), line) : printer.step(actionRecord(action, false), line));
  };
}

/** Prints each finding as it is found. The set is of the lines that people have seen by then. */
export function printFindings({ printer, json, quiet }: CommandContext): {
  readonly onFinding: (finding: Finding) => void;
  readonly told: ReadonlySet<string>;
} {
  const told = new Set<string>();
  const onFinding = (finding: Finding): void => {
    const line = findingLine(finding);
    // What is found in every object of a large pool is not kept in memory: then it is told twice.
    if (!json && !quiet && told.size < MAX_TOLD) told.add(line);
    void printer.step(findingRecord(finding), line);
  };
  return { onFinding, told };
}

/** What is left, each by itself; for people what is owed by a store that was not heard in one line, and nothing twice. */
async function printLeft(
  { printer, json }: CommandContext,
  { left, unheard }: RepairReport,
  told: ReadonlySet<string>,
): Promise<void> {
  const owing = new Map<string, number>();
  let begun = 0;
  for (const finding of left) {
    const { store = "", detail, kind } = finding;
    const line = findingLine(finding);
    if (kind === "unsettled" && detail !== "a debt is not cleared") begun++;
    if (!json && detail === "still owed" && unheard.includes(store)) owing.set(store, (owing.get(store) ?? 0) + 1);
    else if (json || !told.has(line)) await printer.data({ ...findingRecord(finding), left: true }, line);
  }
  if (begun > 0 && !json) {
    const settled = `${count(begun, "write")} begun and not finished: where the writer is gone, a repair settles`;
    const when = formatMoment(Date.now() + DEFAULT_LEASE_MS);
    await printer.data({ type: "finding" }, `${settled} ${begun === 1 ? "it" : "them"} from ${when} on, or earlier`);
  }
  for (const [store, number] of owing) {
    const what = `${printable(store)} was not heard, and still owes ${count(number, "copy or delete", "copies and deletes")}`;
    await printer.data({ type: "finding" }, `${what}; to see which, run: ${hint("status", "--debts")}`);
  }
}

/** Ends a repair, drain or rebalance: what is left and was not `told`, the summary, and the exit code. */
export async function reportRepair(
  context: CommandContext,
  command: string,
  report: RepairReport | DrainReport,
  dryRun: boolean,
  prefix = "",
  told: ReadonlySet<string> = new Set(),
): Promise<void> {
  const { printer, outcome } = context;
  await printLeft(context, report, told);
  if (report.failed > 0 || report.left.some((finding) => finding.kind === "lost")) outcome.failed();
  const removable = "removable" in report ? report.removable : undefined;
  const good = removable ?? report.whole;
  // A dry run changes nothing, so whatever it planned is still wrong.
  if (dryRun ? report.planned > 0 || report.unheard.length > 0 : !good) outcome.degraded();
  // Nothing was looked at beside the prefix.
  const what = prefix === "" ? "the pool" : `what is under "${printable(prefix)}"`;
  const parts = dryRun
    ? [`${count(report.planned, "step")} planned, nothing changed`]
    : [
        `${count(report.done, "step")} done (${formatBytes(report.bytes)})`,
        ...(report.failed > 0 ? [`${report.failed} FAILED`] : []),
        ...(report.left.length > 0 ? [`${count(report.left.length, "finding")} left`] : []),
      ];
  if (report.unheard.length > 0) parts.push(`not heard: ${report.unheard.map(printable).join(", ")}`);
  if (!dryRun) {
    parts.push(
      removable === undefined
        ? report.whole
          ? `${what} is whole`
          : `${what} is NOT known to be whole`
        : removable
          ? "the store may be taken out of the pool's file now"
          : "the store may NOT be taken out yet",
    );
  }
  await printer.done(
    {
      type: "summary",
      command,
      dryRun,
      planned: report.planned,
      done: report.done,
      failed: report.failed,
      bytes: report.bytes,
      left: report.left.length,
      whole: report.whole,
      ...(removable === undefined ? {} : { removable }),
      unheard: report.unheard,
      exitCode: outcome.exitCode,
    },
    parts.join(", "),
  );
}
