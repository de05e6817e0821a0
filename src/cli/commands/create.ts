/** `holdfast create`: makes a new pool although some of its stores do not answer. */
import type { CommandContext } from "../context.ts";
import { count } from "../terminal/format.ts";
import { positionOf, troubleWords } from "./stores.ts";

export async function create(context: CommandContext): Promise<void> {
  const { pool } = await context.openTarget();
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
  await context.printer.data(
    { type: "summary", command: "create", stores: stores.length, joined, exitCode: context.outcome.exitCode },
    `the pool is made on ${joined} of ${count(stores.length, "store")}`,
  );
}
