/** Telling which stores were not heard by reads, so that these may not be of the newest version. */
import type { GetResult } from "../contract/store.ts";
import type { CommandContext } from "./context.ts";
import { count } from "./terminal/format.ts";

/** Gathers reads that are not certain, makes the run a degraded one, and warns once for the same stores. */
export class UnheardCounter {
  readonly #context: CommandContext;
  #sums = new Map<string, { readonly stores: readonly string[]; readonly object: string; count: number }>();

  constructor(context: CommandContext) {
    this.#context = context;
    // Also where the run ends by an error or is stopped.
    context.closeLater(async () => this.tell());
  }

  add(object: string, { unheard: stores = [] }: Pick<GetResult, "unheard">): void {
    if (stores.length === 0) return;
    this.#context.outcome.degraded();
    const key = JSON.stringify(stores);
    const sum = this.#sums.get(key) ?? { stores, object, count: 0 };
    sum.count++;
    this.#sums.set(key, sum);
  }

  /** Warns of what was gathered since the last time. */
  async tell(): Promise<void> {
    const sums = [...this.#sums.values()];
    this.#sums = new Map();
    for (const { stores, object, count: number } of sums) {
      const what = number === 1 ? object : count(number, "object");
      await this.#context.printer.warning(`${what}: ${stores.join(", ")} did not answer and may hold something newer`, {
        code: "unheard",
        ...(number === 1 ? { object } : {}),
        stores,
        count: number,
      });
    }
  }
}
