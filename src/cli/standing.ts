/** How a pool stands, in one line with what to do about it: the last line of status and of exec. */
import { hint } from "../support/hint.ts";
import type { PoolStatus, StoreStatus } from "../contract/pool.ts";
import { count, formatBytes, printable } from "./terminal/format.ts";

/** Whether nothing is missing and every store can be used. */
export function isWhole(found: PoolStatus): boolean {
  return found.degraded + found.lost + found.unsettled + found.absent.length === 0 && awayIn(found).length === 0;
}

/** What a store owes: `3 copies (12 KiB) and 1 delete`; undefined for nothing. */
export function owedWords({ owedCopies, owedBytes, owedDeletes }: StoreStatus): string | undefined {
  const copies = owedCopies > 0 ? [`${count(owedCopies, "copy", "copies")} (${formatBytes(owedBytes)})`] : [];
  const deletes = owedDeletes > 0 ? [count(owedDeletes, "delete")] : [];
  return copies.length + deletes.length === 0 ? undefined : [...copies, ...deletes].join(" and ");
}

/** Labels of the stores that cannot be used now. */
function awayIn(found: PoolStatus): string[] {
  return found.stores
    .filter((store) => !store.reachable || store.trouble !== undefined)
    .map(({ label }) => printable(label));
}

/** `mirror of 3 stores, 12 objects, 2 DEGRADED; first bring back nas, then run: holdfast repair`. */
export function standingLine(found: PoolStatus): string {
  const away = awayIn(found);
  const parts = [
    `${found.mode} of ${count(found.stores.filter(({ within }) => within === undefined).length, "store")}`,
    count(found.objects, "object"),
    found.degraded === 0 ? "none degraded" : `${found.degraded} DEGRADED`,
    ...(found.lost === 0 ? [] : [`${found.lost} LOST`]),
    ...(found.unsettled === 0 ? [] : [`${count(found.unsettled, "write")} neither finished nor undone`]),
  ];
  return [parts.join(", "), ...adviceOn(found, away)].join("; ");
}

function adviceOn(found: PoolStatus, away: readonly string[]): string[] {
  const repair = found.degraded + found.unsettled > 0;
  // A repair while the store is away could not put anything on it.
  if (away.length > 0) {
    const bring = `bring back ${away.join(", ")}`;
    return [repair ? `first ${bring}, then run: ${hint("repair")}` : `${bring} (${hint("stores")} says why)`];
  }
  if (repair) return [`to put it right, run: ${hint("repair")}`];
  return found.lost > 0 ? [`to see which objects are lost, run: ${hint("verify")}`] : [];
}
