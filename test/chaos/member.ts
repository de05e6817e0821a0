/** What the processes of a run have in common: their orders, their pool, and an orderly end. */
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { runtimeOf } from "./clocks.ts";
import type { Clock } from "./clocks.ts";
import { Journal } from "./journal.ts";

/** Given to a process, as JSON, on its command line. */
export interface Orders {
  /** The pool's file. */
  readonly pool: string;
  readonly cache: string;
  readonly journal: string;
  readonly seed: number;
  /** When the round began, by the one clock. */
  readonly beganMs: number;
  readonly clock: Clock;
  /** Which process this is, and which of those that had its place. */
  readonly label: string;
  /** Of a writer: which one. */
  readonly writer: number;
  readonly isStripe: boolean;
}

export interface Member {
  readonly orders: Orders;
  readonly pool: Pool;
  readonly journal: Journal;
  /** Fires when the process is asked to end. */
  readonly stop: AbortSignal;
}

/**
 * Runs until SIGTERM, then ends when what is under way has ended. Ends at once when the process that started it has died.
 */
export async function serve(work: (member: Member) => Promise<void>): Promise<void> {
  process.on("disconnect", () => process.exit(1));
  const orders = JSON.parse(process.argv[2] ?? "") as Orders;
  const stop = new AbortController();
  process.on("SIGTERM", () => stop.abort());
  const pool = await openPool(orders.pool, { cache: orders.cache, runtime: runtimeOf(orders.clock, orders.beganMs) });
  await work({ orders, pool, journal: new Journal(orders.journal), stop: stop.signal });
  await pool.close();
  process.removeAllListeners("disconnect");
  process.disconnect();
}
