/** Whether a pool must not be used as its URL or file describes it: found out before others are let in or anything is made. */
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import type { Pool } from "../contract/pool.ts";

/**
 * The `config` error with which the pool refuses what its URL or file says (another mode, `min` or prefixes); undefined
 * where it does not, or cannot say so now because stores are down. Never rejects. Asks the stores, as status does.
 */
export async function refusalOf(pool: Pool, signal: AbortSignal): Promise<HoldfastError | undefined> {
  try {
    await pool.maintenance.status({ signal });
    return undefined;
  } catch (error) {
    return isHoldfastError(error, "config") ? error : undefined;
  }
}
