/** Placement: decides to which stores of a pool an object goes. Pure: the same inputs give the same answer. */
import type { Member } from "../ledger/member.ts";
import type { Mode } from "../contract/pool.ts";

export type Placement = "round-robin" | "weighted" | "free";

/**
 * Mirror: the stores that should hold `name`, in the pool's order. These are the stores with a prefix of the name, or
 * all stores if none has one. Stores being drained take no new objects. Stripe: the stores of which any one may hold
 * it.
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

/** Stripe: the order in which stores are tried. The store at `turn` comes first. */
export function turnOrder(targets: readonly Member[], turn: number): readonly Member[] {
  if (targets.length === 0) return [];
  const first = turn % targets.length;
  return [...targets.slice(first), ...targets.slice(0, first)];
}

/** Stripe with weights: the store with the fewest puts for its weight comes first. `turn` counts all puts. */
export function weightedOrder(targets: readonly Member[], turn: number): readonly Member[] {
  const total = targets.reduce((sum, member) => sum + member.weight, 0);
  if (total <= 0) return turnOrder(targets, turn);
  // Smooth weighted round robin spreads each store's turns evenly over a cycle instead of giving them in a row.
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
