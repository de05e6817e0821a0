/**
 * Notices a signed request that is sent again.
 *
 * A signature has no number used once; a copied request stays good for as long as its date does. A write that comes again
 * later could undo what was written since, so a signature that changes something is taken for a short while only after it
 * was first seen: long enough for a client that repeats a request as it is, which happens within seconds.
 */

/** A repetition is taken for this long, in milliseconds. */
export const REPEAT_MS = 15_000;

export class Replays {
  readonly #seen = new Map<string, number>();
  readonly #keptMs: number;
  readonly #entries: number;

  /** `keptMs`: how long a signature can be good. */
  constructor(keptMs: number, entries = 250_000) {
    this.#keptMs = keptMs;
    this.#entries = entries;
  }

  /** Whether a write with this signature may go on. */
  admit(signature: string, nowMs: number): boolean {
    for (const [old, firstMs] of this.#seen) {
      if (nowMs - firstMs <= this.#keptMs && this.#seen.size < this.#entries) break;
      this.#seen.delete(old);
    }
    const firstMs = this.#seen.get(signature);
    if (firstMs === undefined) {
      this.#seen.set(signature, nowMs);
      return true;
    }
    return nowMs - firstMs <= REPEAT_MS;
  }
}
