/** Telling what writes left owed. */
import { hint } from "../support/hint.ts";
import type { Debt } from "../contract/store.ts";
import type { CommandContext } from "./context.ts";
import { count } from "./terminal/format.ts";
import type { Progress } from "./terminal/progress.ts";

/** What one store owes for one reason. */
interface Sum {
  readonly store: string;
  readonly owes: Debt["owes"];
  readonly reason: string | undefined;
  /** The first object. */
  readonly object: string;
  count: number;
}

/**
 * Gathers debts, and makes the run a degraded one. One warning is given for each store and reason, not for each object:
 * with a store down a push of a thousand files would say the same thing a thousand times.
 */
export class OwedCounter {
  readonly #context: CommandContext;
  readonly #progress: Progress | undefined;
  readonly #byStore = new Map<string, number>();
  #sums = new Map<string, Sum>();
  #objects = 0;

  constructor(context: CommandContext, progress?: Progress) {
    this.#context = context;
    this.#progress = progress;
    // Also where the run ends by an error or is stopped.
    context.closeLater(async () => this.tell());
  }

  /** Objects that were written degraded. */
  get objects(): number {
    return this.#objects;
  }

  add(owed: readonly Debt[] | undefined): void {
    if (owed === undefined || owed.length === 0) return;
    this.#objects++;
    this.#context.outcome.degraded();
    for (const { store, owes, object, reason } of owed) {
      const owing = (this.#byStore.get(store) ?? 0) + 1;
      this.#byStore.set(store, owing);
      this.#progress?.store(store, `owes ${owing}${reason === undefined ? "" : `: ${reason}`}`);
      // Reasons differ in the object's name alone, where they hold it.
      const key = JSON.stringify([store, owes, reason?.replaceAll(object, "")]);
      const sum = this.#sums.get(key) ?? { store, owes, reason, object, count: 0 };
      sum.count++;
      this.#sums.set(key, sum);
    }
  }

  /** Warns of what was gathered since the last time. */
  async tell(): Promise<void> {
    const sums = [...this.#sums.values()];
    this.#sums = new Map();
    for (const { store, owes, reason, object, count: number } of sums) {
      const one = owes === "copy" ? "a copy" : "the delete";
      const what = number === 1 ? `${one} of ${object}` : count(number, owes, owes === "copy" ? "copies" : "deletes");
      const why = reason === undefined ? "" : ` (${reason})`;
      const more = number === 1 ? "" : `; to see which, run: ${hint("status", "--debts")}`;
      await this.#context.printer.warning(`degraded: ${store} owes ${what}${why}${more}`, {
        code: "degraded",
        ...(number === 1 ? { object } : {}),
        store,
        owes,
        ...(reason === undefined ? {} : { reason }),
        count: number,
      });
    }
  }

  /** For the last line: `; degraded: 3 objects (nas owes 3); …`, or nothing. */
  get summary(): string {
    if (this.#objects === 0) return "";
    const stores = [...this.#byStore].map(([store, owing]) => `${store} owes ${owing}`).join(", ");
    const them = this.#byStore.size === 1 ? "it works" : "they work";
    return `; degraded: ${count(this.#objects, "object")} (${stores}); when ${them} again, run: ${hint("repair")}`;
  }
}
