/** What happened to the stores, and when. */
import type { Span } from "./plan.ts";

export interface Trouble extends Span {
  readonly store: string;
}

interface Spell {
  readonly store: string;
  readonly fromMs: number;
  /** From then on it was certainly there: a server may answer until it has been stopped. */
  surelyFromMs: number;
  /** Until then it certainly lasted: a server that goes on may answer before its outage counts as over. */
  surelyToMs: number;
  toMs: number;
}

export class Weather {
  /** Stores that were out of reach, also for reading. */
  readonly #outages: Spell[] = [];
  /** From the start of a drain until it was called off. */
  readonly #drains: Spell[] = [];
  readonly #rollbacks: { store: string; atMs: number }[] = [];

  begins(what: "outage" | "drain", store: string, nowMs: number): void {
    const never = Number.POSITIVE_INFINITY;
    this.#listOf(what).push({ store, fromMs: nowMs, surelyFromMs: never, surelyToMs: never, toMs: never });
  }

  /** An outage has begun. */
  holds(store: string, nowMs: number): void {
    for (const one of this.#outages) if (one.store === store) one.surelyFromMs = Math.min(one.surelyFromMs, nowMs);
  }

  /** An outage is being ended. */
  clears(store: string, nowMs: number): void {
    for (const one of this.#outages) if (one.store === store) one.surelyToMs = Math.min(one.surelyToMs, nowMs);
  }

  ends(what: "outage" | "drain", store: string, nowMs: number): void {
    for (const one of this.#listOf(what)) {
      if (one.store !== store || one.toMs !== Number.POSITIVE_INFINITY) continue;
      one.toMs = nowMs;
      one.surelyToMs = Math.min(one.surelyToMs, nowMs);
    }
  }

  #listOf(what: "outage" | "drain"): Spell[] {
    return what === "outage" ? this.#outages : this.#drains;
  }

  rolledBack(store: string, nowMs: number): void {
    this.#rollbacks.push({ store, atMs: nowMs });
  }

  /** The last time that a store was rolled back. */
  get lastRollback(): { readonly store: string; readonly atMs: number } | undefined {
    return this.#rollbacks.at(-1);
  }

  /** Stores that were out, or drained, at any time of the span. */
  during(what: "outage" | "drain", fromMs: number, toMs: number): Set<string> {
    const stores = this.#listOf(what).filter((one) => one.fromMs <= toMs && one.toMs >= fromMs);
    return new Set(stores.map(({ store }) => store));
  }

  /** Stores that were certainly out from before the span to after it. */
  throughout(fromMs: number, toMs: number): string[] {
    return this.#outages.filter((one) => one.surelyFromMs < fromMs && one.surelyToMs > toMs).map(({ store }) => store);
  }
}
