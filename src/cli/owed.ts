/** Telling what a write left owed. */
import type { Debt } from "../store.ts";
import type { CommandContext } from "./context.ts";
import { count } from "./format.ts";
import type { Progress } from "./progress.ts";

/** Counts debts by store, warns of each in words, and makes the run a degraded one. */
export class OwedCounter {
  readonly #context: CommandContext;
  readonly #progress: Progress | undefined;
  readonly #byStore = new Map<string, number>();
  #objects = 0;

  constructor(context: CommandContext, progress?: Progress) {
    this.#context = context;
    this.#progress = progress;
  }

  /** Objects that were written degraded. */
  get objects(): number {
    return this.#objects;
  }

  async add(owed: readonly Debt[] | undefined): Promise<void> {
    if (owed === undefined || owed.length === 0) return;
    this.#objects++;
    this.#context.outcome.degraded();
    for (const debt of owed) {
      const owing = (this.#byStore.get(debt.store) ?? 0) + 1;
      this.#byStore.set(debt.store, owing);
      this.#progress?.store(debt.store, `owes ${owing}${debt.reason === undefined ? "" : `: ${debt.reason}`}`);
      const what = debt.owes === "copy" ? "a copy" : "the delete";
      await this.#context.printer.warning(
        `degraded: ${debt.store} owes ${what} of ${debt.object}${debt.reason === undefined ? "" : ` (${debt.reason})`}`,
        { code: "degraded", object: debt.object, store: debt.store, owes: debt.owes },
      );
    }
  }

  /** For the last line: `; degraded: 3 objects (nas owes 3)`, or nothing. */
  get summary(): string {
    if (this.#objects === 0) return "";
    const stores = [...this.#byStore].map(([store, owing]) => `${store} owes ${owing}`).join(", ");
    return `; degraded: ${count(this.#objects, "object")} (${stores}); holdfast repair puts it right`;
  }
}
