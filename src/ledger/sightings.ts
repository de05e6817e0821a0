/**
 * How long this machine has known of something: of a lease that its writer renews, of a request that may still take effect.
 *
 * Machines' clocks are wrong, so another machine's time stamp says nothing of how old a thing is. What counts is how long
 * this machine has seen it unchanged, by its own clocks: the steady one in the process that saw it first, and the wall
 * clock, noted in the local index, for those that come later.
 */
import type { Runtime } from "../contract/runtime.ts";
import type { Version } from "./hybrid-clock.ts";
import type { LedgerIndex } from "./ledger-index.ts";

const PREFIX = "seen:";
/** What was seen for the first time so long ago is forgotten, in milliseconds: nothing waits longer than that. */
const FORGOTTEN_MS = 7 * 24 * 3_600_000;

export class Sightings {
  readonly #runtime: Pick<Runtime, "now" | "monotonicMs">;
  readonly #index: () => LedgerIndex;
  readonly #here = new Map<Version, number>();

  constructor(runtime: Pick<Runtime, "now" | "monotonicMs">, index: () => LedgerIndex) {
    this.#runtime = runtime;
    this.#index = index;
  }

  /** Notes that the thing that is known by this version has been seen. */
  note(version: Version): void {
    if (!this.#here.has(version)) this.#here.set(version, this.#runtime.monotonicMs());
    if (this.#index().getFact(PREFIX + version) === undefined) this.#write(version);
  }

  /** For how many milliseconds this machine has known of it; 0 where it is seen for the first time. */
  ageMs(version: Version): number {
    this.note(version);
    const here = this.#runtime.monotonicMs() - (this.#here.get(version) ?? 0);
    const before = this.#runtime.now() - Number(this.#index().getFact(PREFIX + version));
    // A wall clock that was set back, or a year ahead, is begun with anew.
    if (!(before >= 0 && before < FORGOTTEN_MS)) this.#write(version);
    return Math.max(here, before < FORGOTTEN_MS ? before : 0);
  }

  /** Forgets what nothing waits for any more. */
  prune(): void {
    for (const [key, atMs] of this.#index().facts(PREFIX)) {
      if (Math.abs(this.#runtime.now() - Number(atMs)) > FORGOTTEN_MS) this.#index().setFact(key, undefined);
    }
  }

  #write(version: Version): void {
    this.#index().setFact(PREFIX + version, String(Math.floor(this.#runtime.now())));
  }
}
