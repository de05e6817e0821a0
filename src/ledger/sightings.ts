/**
 * Sightings: how long this machine has known of a renewed intent, or of a request that may still take effect.
 *
 * Machines' clocks may be wrong, so another machine's time stamp does not tell a thing's age. Its age is the time that
 * this machine has seen it unchanged, by its own clocks: by the steady clock in the process that saw it first, and by the
 * wall clock, noted in the local index, in later processes.
 */
import type { Runtime } from "../contract/runtime.ts";
import type { Version } from "./hybrid-clock.ts";
import type { LedgerIndex } from "./ledger-index.ts";

const PREFIX = "seen:";
/** First sightings are forgotten after this many milliseconds. Nothing waits longer than that. */
const FORGOTTEN_MS = 7 * 24 * 3_600_000;

export class Sightings {
  readonly #runtime: Pick<Runtime, "now" | "monotonicMs">;
  readonly #index: () => LedgerIndex;
  readonly #here = new Map<Version, number>();

  constructor(runtime: Pick<Runtime, "now" | "monotonicMs">, index: () => LedgerIndex) {
    this.#runtime = runtime;
    this.#index = index;
  }

  /** Notes that this version has been seen. */
  note(version: Version): void {
    if (!this.#here.has(version)) this.#here.set(version, this.#runtime.monotonicMs());
    if (this.#index().getFact(PREFIX + version) === undefined) this.#write(version);
  }

  /** How many milliseconds this machine has known of the version; 0 at the first sight. */
  ageMs(version: Version): number {
    this.note(version);
    const here = this.#runtime.monotonicMs() - (this.#here.get(version) ?? 0);
    const before = this.#runtime.now() - Number(this.#index().getFact(PREFIX + version));
    // After the wall clock was set back, or far ahead, the count starts anew.
    if (!(before >= 0 && before < FORGOTTEN_MS)) this.#write(version);
    return Math.max(here, before < FORGOTTEN_MS ? before : 0);
  }

  /** Forgets the sightings that nothing waits for any more. */
  prune(): void {
    for (const [key, atMs] of this.#index().facts(PREFIX)) {
      if (Math.abs(this.#runtime.now() - Number(atMs)) > FORGOTTEN_MS) this.#index().setFact(key, undefined);
    }
  }

  #write(version: Version): void {
    this.#index().setFact(PREFIX + version, String(Math.floor(this.#runtime.now())));
  }
}
