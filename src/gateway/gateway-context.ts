/** What every gateway of one process works with. */
import type { Logger } from "../contract/log.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { DeleteResult, PutResult, Store } from "../contract/store.ts";
import type { Credential } from "./http-tools.ts";
import type { Exchange } from "./exchange.ts";
import type { Intake } from "./intake.ts";
import type { Listings } from "./listing.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { NameLocks } from "./name-locks.ts";

export interface GatewayContext {
  /** The pool, through `Listings.watched` and `Intake.watched`. It must keep metadata and list in name order, as pools do. */
  readonly store: Store;
  readonly listings: Listings;
  readonly locks: NameLocks;
  /** Takes in the bodies that clients send. */
  readonly intake: Intake;
  /** None: everybody may come in. */
  readonly credentials: readonly Credential[];
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
}

/** Counts, logs and marks an acknowledged write that stores still owe. */
export function noteWrite(
  context: GatewayContext,
  exchange: Exchange,
  object: string,
  result: PutResult | DeleteResult,
): void {
  const owed = result.owed ?? [];
  if (owed.length === 0) return;
  const stores = [...new Set(owed.map((debt) => debt.store))];
  context.metrics.degradedWrite();
  context.logger.warn("degraded", { id: exchange.id, object, stores });
  exchange.fields["owed"] = owed.length;
  if (!exchange.response.headersSent) exchange.response.setHeader("X-Holdfast-Owed", String(owed.length));
}
