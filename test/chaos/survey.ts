/** What stands on the stores of a mirror and should not, or does not and should, seen past Holdfast. */
import type { History, Write } from "./oracle.ts";
import type { Identity, Site } from "./sites.ts";

/** A copy that is not what the object's last write put. */
export interface Fault {
  readonly name: string;
  readonly store: string;
  /** Since when it is known. */
  readonly sinceMs: number;
  /** The file, as it was found. */
  readonly identity: Identity;
  /** What the name is. */
  readonly write: Write;
  /** After what it was seen first. */
  readonly why: string;
}

export class Survey {
  readonly #sites: readonly Site[];
  readonly #histories: ReadonlyMap<string, History>;
  readonly #isStripe: boolean;
  #faults = new Map<string, Fault>();

  constructor(sites: readonly Site[], histories: ReadonlyMap<string, History>, isStripe: boolean) {
    this.#sites = sites;
    this.#histories = histories;
    this.#isStripe = isStripe;
  }

  /** Looks at all names that are settled, on the stores that are in their place. To be called while nothing moves. */
  look(nowMs: number, here: ReadonlySet<string>, why: string): void {
    const before = this.#faults;
    this.#faults = new Map();
    if (this.#isStripe) return;
    for (const { name, only } of this.#histories.values()) {
      if (only === undefined) continue;
      for (const site of this.#sites) {
        if (!here.has(site.label) || site.sha256(name) === only.value) continue;
        const key = `${name} ${site.label}`;
        const identity = site.identity(name);
        const known = before.get(key);
        const isKnown = known !== undefined && known.identity === identity && known.write === only;
        this.#faults.set(
          key,
          isKnown ? known : { name, store: site.label, sinceMs: nowMs, identity, write: only, why },
        );
      }
    }
  }

  /** Names whose acknowledged bytes are nowhere. To be called while nothing moves and every store is in its place. */
  nowhere(): readonly string[] {
    return [...this.#histories.values()]
      .filter(({ name, only }) => {
        return only?.value !== undefined && !this.isSomewhere(name, only.value);
      })
      .map(({ name }) => name);
  }

  isSomewhere(name: string, value: string): boolean {
    return this.#sites.some((site) => site.sha256(name) === value);
  }

  /** Faults that were there before `beforeMs`, and are still: neither the copy nor the name has changed since. */
  standing(beforeMs: number): readonly Fault[] {
    return [...this.#faults.values()].filter(
      (fault) =>
        fault.sinceMs < beforeMs && this.#histories.get(fault.name)?.only === fault.write && this.#stands(fault),
    );
  }

  #stands({ name, store, identity }: Fault): boolean {
    return this.#sites.find(({ label }) => label === store)?.identity(name) === identity;
  }
}
