/**
 * Sightings: how long this machine has known of a renewed intent, or of a request that may still take effect.
 *
 * Machines' clocks may be wrong, so another machine's time stamp does not tell a thing's age. Its age is the time that
 * this machine has seen it unchanged: by the steady clock in the process that sees it, and before that by what an earlier
 * process noted in the local index. There the clock since the machine's start counts, if it is still the same start; only
 * otherwise the wall clock, which may have been set meanwhile.
 */
import type { Runtime } from "../contract/runtime.ts";
import type { Version } from "./hybrid-clock.ts";
import type { LedgerIndex } from "./ledger-index.ts";

const PREFIX = "seen:";
/** First sightings are forgotten after this many milliseconds. Nothing waits longer than that. */
const FORGOTTEN_MS = 7 * 24 * 3_600_000;

interface Sighting {
  /** When this process saw it first, by the steady clock. */
  readonly atMs: number;
  /** How long this machine had known of it by then. */
  readonly ageMs: number;
}

export class Sightings {
  readonly #runtime: Pick<Runtime, "now" | "monotonicMs" | "sinceBoot">;
  readonly #index: () => LedgerIndex;
  readonly #here = new Map<Version, Sighting>();

  constructor(runtime: Pick<Runtime, "now" | "monotonicMs" | "sinceBoot">, index: () => LedgerIndex) {
    this.#runtime = runtime;
    this.#index = index;
  }

  /** Notes that this version has been seen. */
  note(version: Version): void {
    this.#sight(version);
  }

  /** How many milliseconds this machine has known of the version; 0 at the first sight. */
  ageMs(version: Version): number {
    const { atMs, ageMs } = this.#sight(version);
    return ageMs + this.#runtime.monotonicMs() - atMs;
  }

  /** Forgets the sightings that nothing waits for any more. */
  prune(): void {
    for (const [key, noted] of this.#index().facts(PREFIX)) {
      if (Math.abs(this.#runtime.now() - Number.parseInt(noted, 10)) > FORGOTTEN_MS)
        this.#index().setFact(key, undefined);
    }
  }

  #sight(version: Version): Sighting {
    const noted = this.#index().getFact(PREFIX + version);
    const ageMs = noted === undefined ? undefined : this.#ageOf(noted);
    // Nobody noted it, or by a wall clock that has been set since: for later processes the count starts here.
    if (ageMs === undefined) this.#write(version);
    const known = this.#here.get(version);
    if (known !== undefined) return known;
    const sighting = { atMs: this.#runtime.monotonicMs(), ageMs: ageMs ?? 0 };
    this.#here.set(version, sighting);
    return sighting;
  }

  /** How long ago something was noted; undefined if the clocks do not tell. */
  #ageOf(noted: string): number | undefined {
    const [wallMs, bootMs, boot] = noted.split(" ");
    const since = this.#runtime.sinceBoot?.();
    const ageMs =
      since !== undefined && boot === since.boot ? since.ms - Number(bootMs) : this.#runtime.now() - Number(wallMs);
    return ageMs >= 0 && ageMs < FORGOTTEN_MS ? ageMs : undefined;
  }

  #write(version: Version): void {
    const since = this.#runtime.sinceBoot?.();
    const steady = since === undefined ? "" : ` ${since.ms} ${since.boot}`;
    this.#index().setFact(PREFIX + version, `${Math.floor(this.#runtime.now())}${steady}`);
  }
}
