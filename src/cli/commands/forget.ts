/** `holdfast forget`: gives up what is gone for good, a store or (on this machine) the whole pool. */
import { HoldfastError } from "../../contract/errors.ts";
import { hint } from "../../support/hint.ts";
import type { CommandContext } from "../context.ts";
import { printable } from "../terminal/format.ts";

export async function forget(
  context: CommandContext,
  store: string | undefined,
  options: { readonly wholePool?: boolean },
): Promise<void> {
  if ((store === undefined) !== (options.wholePool === true)) {
    throw new HoldfastError(
      "config",
      `forget needs a STORE or --whole-pool; to see the stores, run: ${hint("status")}`,
    );
  }
  const { pool } = await context.openTarget();
  if (store === undefined) await pool.maintenance.forgetPool();
  else await pool.maintenance.forget(store);
  const said =
    store === undefined
      ? "this machine has forgotten which pool these stores are: a new one can be made in their places"
      : `${printable(store)} is no store of this pool any more: take it out of the pool's file`;
  await context.printer.data(
    {
      type: "summary",
      command: "forget",
      ...(store === undefined ? {} : { store }),
      exitCode: context.outcome.exitCode,
    },
    said,
  );
}
