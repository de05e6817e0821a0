/** Figures of a run: a line now and then, and a table at the end. */
import type { Counts, Judge } from "./judge.ts";
import type { Round } from "./plan.ts";

/** Counts what happened, by words. */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  /** Sum of all whose words begin so. */
  of(prefix: string): number {
    return [...this.#counts].reduce((sum, [what, count]) => sum + (what.startsWith(prefix) ? count : 0), 0);
  }

  /** A line for each, in order. */
  lines(): readonly string[] {
    return [...this.#counts].sort(([one], [other]) => (one < other ? -1 : 1)).map(([what, count]) => row(count, what));
  }
}

/** One round's result. */
export interface RoundResult {
  readonly round: Round;
  readonly counts: Counts;
  readonly care: Judge["care"]["counts"];
  readonly tally: Tally;
  readonly violations: number;
  readonly repairs: number;
  readonly seconds: number;
}

function row(count: number, what: string): string {
  return `${String(count).padStart(8)}  ${what}`;
}

function byCode(refused: ReadonlyMap<string, number>): string {
  const parts = [...refused].sort(([, one], [, other]) => other - one).map(([code, count]) => `${code} ${count}`);
  return parts.length === 0 ? "none refused" : `refused: ${parts.join(", ")}`;
}

/** How far a round is. */
export function progressLine(round: Round, judge: Judge, tally: Tally, seconds: number, violations: number): string {
  const { operations, acknowledged, refused } = judge.counts;
  const { verifies, repairs } = judge.care.counts;
  return [
    `${Math.round(seconds)} s, round ${round.number} (${round.kind}): ${operations} operations, ${acknowledged} acknowledged`,
    byCode(refused),
    `outages ${tally.of("outage")}, damages ${tally.of("damage")}, rollbacks ${tally.of("rollback")}`,
    `kills ${tally.of("kill")}, stops ${tally.of("stop")}`,
    `verified ${verifies}, repaired ${repairs}`,
    `violations ${violations}`,
  ].join("; ");
}

const COLUMNS = ["round", "pool", "s", "operations", "acked", "stale", "verify", "clean", "repair", "whole", "wrong"];

/** The table at the end. */
export function table(results: readonly RoundResult[]): string {
  const rows = results.map(({ round, counts, care, violations, seconds }) => [
    round.number,
    round.kind,
    Math.round(seconds),
    counts.operations,
    counts.acknowledged,
    counts.stale,
    care.verifies,
    care.clean,
    care.repairs,
    care.whole,
    violations,
  ]);
  const widths = COLUMNS.map((column, index) =>
    Math.max(column.length, ...rows.map((one) => String(one[index]).length)),
  );
  const line = (cells: readonly (string | number)[]): string =>
    cells.map((cell, index) => String(cell).padStart(widths[index] ?? 0)).join("  ");
  return [line(COLUMNS), ...rows.map(line)].join("\n");
}

/** What happened in all rounds, and what was refused. */
export function totals(results: readonly RoundResult[]): string {
  const all = new Map<string, number>();
  const add = (what: string, count: number): void => void all.set(what, (all.get(what) ?? 0) + count);
  for (const { tally, counts } of results) {
    for (const line of tally.lines()) add(line.slice(10), Number(line.slice(0, 8)));
    for (const [verb, count] of counts.verbs) add(`asked: ${verb}`, count);
    for (const [code, count] of counts.refused) add(`refused: ${code}`, count);
  }
  return [...all]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([what, count]) => row(count, what))
    .join("\n");
}
