/** Whether the pool behind the gateways is as its operator wants it, for load balancers and for those who watch. */
import type { Pool, PoolStatus } from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";

/**
 * From when on a gateway is ready: `whole`, when each store answers and each object is on all stores that it should be
 * on; `readable`, when what was put can be read, though on fewer stores.
 */
export type ReadyWhen = "whole" | "readable";

export interface Ready {
  readonly isReady: boolean;
  /** One line without names of stores or objects: anybody may ask. */
  readonly text: string;
}

/** How long what the pool said is used, in milliseconds: asking it asks all stores. */
const AGE_MS = 5000;

export class Readiness {
  readonly #pool: Pool;
  readonly #runtime: Runtime;
  readonly #when: ReadyWhen;
  #asked: { readonly atMs: number; readonly answer: Promise<Ready> } | undefined;

  constructor(pool: Pool, runtime: Runtime, when: ReadyWhen) {
    this.#pool = pool;
    this.#runtime = runtime;
    this.#when = when;
  }

  ask(): Promise<Ready> {
    const now = this.#runtime.monotonicMs();
    if (this.#asked === undefined || now - this.#asked.atMs >= AGE_MS) {
      this.#asked = { atMs: now, answer: this.#find() };
    }
    return this.#asked.answer;
  }

  async #find(): Promise<Ready> {
    try {
      return judge(await this.#pool.maintenance.status(), this.#when);
    } catch {
      return { isReady: false, text: "unknown: the pool cannot be asked" };
    }
  }
}

function judge(status: PoolStatus, when: ReadyWhen): Ready {
  const silent = status.stores.filter((store) => !store.reachable).length + status.absent.length;
  const owed = status.degraded + status.unsettled;
  const all = status.stores.length + status.absent.length;
  // In a stripe each object is on one store.
  const isReadable = status.lost === 0 && (status.mode === "mirror" ? silent < all : silent === 0);
  const isWhole = isReadable && silent === 0 && owed === 0;
  const state = isWhole ? "whole" : status.lost > 0 ? "lost" : isReadable ? "degraded" : "unreadable";
  return {
    isReady: when === "whole" ? isWhole : isReadable,
    text: `${state}: ${status.lost} objects lost, ${status.degraded} degraded, ${silent} of ${all} stores not reached`,
  };
}
