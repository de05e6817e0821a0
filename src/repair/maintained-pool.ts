/** Puts a pool together: its operations and its maintenance, over one context. */
import { PoolContext } from "../pool/pool-context.ts";
import type { PoolStoreOptions } from "../pool/pool-context.ts";
import { PoolStore } from "../pool/pool-store.ts";
import { NestedMaintenance } from "./nested-maintenance.ts";
import type { PoolBelow } from "./nested-maintenance.ts";
import { PoolMaintenance } from "./pool-maintenance.ts";

export interface PoolParts {
  readonly pool: PoolStore;
  readonly context: PoolContext;
}

/** `below`: its stores that are pools themselves. */
export function maintainedPool(options: PoolStoreOptions, below: readonly PoolBelow[] = []): PoolParts {
  const context = new PoolContext(options);
  const maintenance = below.length === 0 ? new PoolMaintenance(context) : new NestedMaintenance(context, below);
  return { pool: new PoolStore(context, maintenance), context };
}
