/** Placement: which stores of a pool an object goes to. Pure: the same inputs give the same answer. */
import type { Member } from "../ledger/member.ts";
import type { Mode } from "../contract/pool.ts";

export type Place = "round-robin" | "weighted" | "free";

/**
 * Mirror: the stores that should hold `name`, in the pool's order: those with a prefix that the name bears; those
 * without prefixes also; all when none of the prefixes fits. Stores being drained take nothing new.
 * Stripe: the stores it may be put on, any one of which will do.
 */
export function targetsOf(
  name: string,
  mode: Mode,
  members: readonly Member[],
  isDraining: (member: Member) => boolean,
): readonly Member[] {
  const taking = members.filter((member) => !isDraining(member));
  if (mode === "stripe") return taking;
  const matching = taking.filter((member) => member.prefixes.some((prefix) => name.startsWith(prefix)));
  return matching.length > 0 ? matching : taking;
}

/** Stripe: the order in which stores are tried, starting with the one whose turn it is. */
export function turnOrder(targets: readonly Member[], turn: number): readonly Member[] {
  if (targets.length === 0) return [];
  const first = turn % targets.length;
  return [...targets.slice(first), ...targets.slice(0, first)];
}

/** Stripe with weights: the store that has got the least for its weight so far comes first. `turn` counts all puts. */
export function weightedOrder(targets: readonly Member[], turn: number): readonly Member[] {
  const total = targets.reduce((sum, member) => sum + member.weight, 0);
  if (total <= 0) return turnOrder(targets, turn);
  // Smooth weighted round robin: spread evenly over each cycle instead of in runs.
  const credits = new Map(targets.map((member) => [member, 0]));
  let first = targets[0];
  for (let i = 0; i <= turn % Math.max(1, Math.round(total)); i++) {
    for (const member of targets) credits.set(member, (credits.get(member) ?? 0) + member.weight);
    first = [...credits].sort((a, b) => b[1] - a[1] || a[0].position - b[0].position)[0]?.[0];
    if (first !== undefined) credits.set(first, (credits.get(first) ?? 0) - total);
  }
  const position = first === undefined ? 0 : targets.indexOf(first);
  return turnOrder(targets, position);
}

export function compareNumbers(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
