/** Sweep: removes the leftovers of killed puts from the stores, after a repair has listed them. */
import { toHoldfastError } from "../contract/errors.ts";
import type { OperationOptions } from "../contract/store.ts";
import type { PoolContext } from "../pool/pool-context.ts";

/**
 * Sweeps the stores that were heard. A leftover is in no listing and breaks no promise, so the repair does not fail if one
 * could not be removed.
 */
export async function sweep(
  { ledger, logger }: PoolContext,
  unheard: readonly string[],
  { signal }: OperationOptions,
): Promise<void> {
  const heard = ledger.members.filter(({ label }) => !unheard.includes(label));
  await Promise.all(
    heard.map(async ({ label, store }) => {
      try {
        await store.sweep?.({ signal });
      } catch (error) {
        logger.debug("store not swept", { store: label, reason: toHoldfastError(error).message });
      }
    }),
  );
}
