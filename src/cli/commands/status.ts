/** `holdfast status`: what is degraded, from the ledger alone. */
import { hint } from "../../support/hint.ts";
import type { CommandContext } from "../context.ts";
import { count, formatMoment, printable, table } from "../terminal/format.ts";
import { debtRecord } from "../terminal/printer.ts";
import { isWhole, owedWords, standingLine } from "../standing.ts";
import { positionOf, troubleWords } from "./stores.ts";

export async function status(context: CommandContext, options: { readonly debts?: boolean }): Promise<void> {
  const { printer, outcome, signal } = context;
  const { pool } = await context.openTarget();
  const found = await pool.maintenance.status({ signal });
  if (!isWhole(found)) outcome.degraded();
  const rows = table(
    found.stores.map((store) => {
      const since = store.owesSinceMs === undefined ? "" : ` since ${formatMoment(store.owesSinceMs)}`;
      return [
        printable(store.label),
        `owes ${owedWords(store) ?? "nothing"}${since}`,
        store.outdated === undefined
          ? troubleWords(store)
          : `OUTDATED: it lacks what was done with ${count(store.outdated, "object")} since`,
      ];
    }),
  );
  for (const [index, store] of found.stores.entries()) {
    const { owesSinceMs, ...rest } = store;
    const since = owesSinceMs === undefined ? {} : { owesSince: new Date(owesSinceMs).toISOString() };
    await printer.data(
      { type: "store-status", ...positionOf(found.stores, index), ...rest, ...since },
      rows[index] ?? "",
    );
  }
  for (const label of found.absent) {
    await printer.warning(
      `${label} is a store of this pool, and the pool's file does not name it (if it is gone for good, run: ${hint("forget", label)})`,
      { store: label },
    );
  }
  if (options.debts) {
    for await (const debt of pool.maintenance.debts({ signal })) {
      const why = debt.reason === undefined ? "" : `: ${printable(debt.reason)}`;
      await printer.data(
        { type: "debt", ...debtRecord(debt) },
        `${printable(debt.store)} owes ${debt.owes === "copy" ? "a copy" : "the delete"} of ${printable(debt.object)} since ${formatMoment(debt.sinceMs)}${why}`,
      );
    }
  }
  await printer.data(
    {
      type: "status",
      mode: found.mode,
      objects: found.objects,
      degraded: found.degraded,
      lost: found.lost,
      unsettled: found.unsettled,
      absent: found.absent,
      exitCode: outcome.exitCode,
    },
    standingLine(found),
  );
}
