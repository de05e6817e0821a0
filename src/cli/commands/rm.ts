/** `holdfast rm`: deletes objects. */
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import { forEachBounded } from "../../support/bounded.ts";
import type { CommandContext } from "../context.ts";
import { printable } from "../terminal/format.ts";
import { nameArgument } from "../names.ts";
import { OwedCounter } from "../owed.ts";
import { debtRecord } from "../terminal/printer.ts";

const AT_A_TIME = 8;

export async function rm(
  context: CommandContext,
  names: readonly string[],
  options: { readonly force?: boolean },
): Promise<void> {
  for (const name of names) nameArgument(name);
  const { pool } = await context.openTarget();
  const owed = new OwedCounter(context);
  const { printer, outcome } = context;
  await forEachBounded(
    new Set(names),
    AT_A_TIME,
    async (name) => {
      try {
        const result = await pool.delete(name, { signal: context.signal });
        owed.add(result.owed);
        if (!result.existed && options.force !== true && result.owed.length === 0) {
          throw new HoldfastError("not-found", "there is no such object", { operation: "delete", object: name });
        }
        await printer.step(
          { type: "rm", object: name, existed: result.existed, owed: result.owed.map(debtRecord) },
          // With --force: nothing was there to be deleted, and no store may still hold it.
          !result.existed && result.owed.length === 0
            ? `${printable(name)} was not there`
            : `deleted ${printable(name)}`,
        );
      } catch (error) {
        if (isHoldfastError(error, "aborted")) throw error;
        const failure = toHoldfastError(error).within({ operation: "delete", object: name });
        outcome.error(failure);
        await printer.error(failure);
      }
    },
    context.signal,
  );
}
