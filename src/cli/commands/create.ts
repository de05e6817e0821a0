/** `holdfast create`: makes a new pool although some of its stores do not answer. */
import type { CommandContext } from "../context.ts";
import { refusalOf } from "../refusal.ts";
import { count } from "../terminal/format.ts";
import { positionOf, troubleWords } from "./stores.ts";

export async function create(context: CommandContext): Promise<void> {
  const { pool } = await context.openTarget();
  const refused = await refusalOf(pool, context.signal);
  if (refused) throw refused;
  const before = await pool.maintenance.stores({ signal: context.signal });
  await pool.maintenance.create();
  const stores = await pool.maintenance.stores({ signal: context.signal });
  for (const [index, store] of stores.entries()) {
    if (store.reachable) continue;
    context.outcome.degraded();
    await context.printer.warning(`${store.label} joins the pool when it answers: ${troubleWords(store)}`, {
      ...positionOf(stores, index),
      store: store.label,
    });
  }
  const joined = stores.filter(({ reachable }) => reachable).length;
  // A store has its identity in the pool from when it joins.
  const made = before.every(({ id }) => id === undefined);
  await context.printer.data(
    { type: "summary", command: "create", made, stores: stores.length, joined, exitCode: context.outcome.exitCode },
    `the pool ${made ? "is made" : "was there already,"} on ${joined} of ${count(stores.length, "store")}`,
  );
}
