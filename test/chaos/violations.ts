/** What must not be, with all that is needed to look into it. */

/** The rules, and what it means when one is broken. */
export const RULES = {
  lost: "what was acknowledged is gone, or is said not to exist, or is missing in a complete listing",
  back: "what was deleted is back",
  older: "a read gave a version that had certainly been overwritten",
  unknown: "a read gave bytes, or a listing a name, that were never put",
  "called good": "verify found nothing, repair called the pool whole, or status nothing wrong, where something was",
  "called lost": "verify called an object lost that is not",
  "silent debt": "a write was called whole, and a store that it did not call missing lacks it",
  filled: "a folder in a store's place was taken for the store",
  refused: "an operation failed although all was well",
  endless: "an operation did not end",
  defect: "a process ended by itself, or an error was no word of Holdfast's, or an internal one",
  "not whole": "the pool did not become whole when everything was well again",
  copies: "a store does not hold what it should when the pool is whole",
} as const;

export type Rule = keyof typeof RULES;

/** Printed of one rule in one round; the others are counted. */
const SHOWN = 5;

export class Violations {
  readonly #print: (text: string) => void;
  readonly #seen = new Set<string>();
  readonly #counts = new Map<Rule, number>();
  #round = 0;
  #heading = "";
  #shown = new Map<Rule, number>();
  #inRound = 0;

  constructor(print: (text: string) => void) {
    this.#print = print;
  }

  /** `heading` is printed with each: the seed and what else leads back to the round. */
  beginRound(heading: string): void {
    this.#round++;
    this.#heading = heading;
    this.#shown = new Map();
    this.#inRound = 0;
  }

  /** The same of one name (or `about` something else) counts once in a round. */
  add(rule: Rule, about: string, text: string, details: readonly string[] = []): void {
    const key = `${this.#round} ${rule} ${about}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#inRound++;
    this.#counts.set(rule, (this.#counts.get(rule) ?? 0) + 1);
    const shown = (this.#shown.get(rule) ?? 0) + 1;
    this.#shown.set(rule, shown);
    if (shown > SHOWN) return;
    const more = shown === SHOWN ? ["  (others like it are counted and not shown)"] : [];
    const lines = [`VIOLATION: ${rule}: ${text}`, `  ${this.#heading}`, ...details.map((line) => `  ${line}`), ...more];
    this.#print(lines.join("\n"));
  }

  get inRound(): number {
    return this.#inRound;
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** How often each rule was broken, a line for each that was. */
  summary(): readonly string[] {
    return [...this.#counts].map(([rule, count]) => `${String(count).padStart(6)}  ${rule}: ${RULES[rule]}`);
  }
}
