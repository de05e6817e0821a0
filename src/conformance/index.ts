/**
 * The suite that every store must pass: one case for each guarantee in `store.ts`, bound to no test framework.
 *
 * Every name a case uses stands under a random prefix, and what it leaves is deleted, so that the suite may be run on a
 * real store (`holdfast check-store` does). A case does not apply only for a reason that the store's own manifest gives.
 *
 * ```ts
 * import { runConformance } from "holdfast/conformance";
 * const results = await runConformance({ open: async () => myStore() });
 * ```
 */
import { randomBytes } from "node:crypto";
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Store } from "../contract/store.ts";
import type { ConformanceCase } from "./case.ts";
import { failureCases } from "./failures.ts";
import { mapLimit } from "./help.ts";
import { nameCases } from "./name-cases.ts";
import { objectCases } from "./objects.ts";
import { concurrencyCases } from "./concurrency.ts";
import { listCases } from "./lists.ts";

export type { ConformanceCase, ConformanceContext } from "./case.ts";

export interface ConformanceOptions {
  /** Opens the store. Each call gives a new Store on the same place. */
  readonly open: () => Promise<Store>;
  /** Only the quick subset. Default false. */
  readonly quick?: boolean | undefined;
  /** Length of the long listing. Default 1,100: more than a page of any service. */
  readonly listCount?: number | undefined;
  /** A case that takes longer has failed, in milliseconds. Default 120,000. */
  readonly caseTimeoutMs?: number | undefined;
  /** Stops between two cases. */
  readonly signal?: AbortSignal | undefined;
  readonly onResult?: ((result: ConformanceResult) => void) | undefined;
}

export interface ConformanceResult {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "not-applicable";
  /** Why the case does not apply. */
  readonly reason?: string;
  readonly error?: Error;
  /** In milliseconds. */
  readonly elapsedMs: number;
}

/** All cases, or the quick subset, in the order in which they are best run. */
export function conformanceCases(options: { readonly quick?: boolean | undefined } = {}): ConformanceCase[] {
  const all = [...objectCases, ...listCases, ...failureCases, ...concurrencyCases, ...nameCases];
  return options.quick ? all.filter((one) => one.quick) : all;
}

/**
 * Runs one case on an open store under a new prefix and deletes what it left. Rejects when the guarantee does not hold,
 * or when the clean-up fails. Does not look at `needs`.
 */
export async function runCase(
  one: ConformanceCase,
  store: Store,
  options: Pick<ConformanceOptions, "open" | "listCount">,
): Promise<void> {
  const prefix = `holdfast-check-${randomBytes(6).toString("hex")}/`;
  const others = new Set<string>();
  let failed = true;
  try {
    await one.run({
      store,
      open: options.open,
      prefix,
      cleanUp: (name) => void others.add(name),
      listCount: options.listCount ?? 1100,
    });
    failed = false;
  } finally {
    try {
      const left = [...others];
      for await (const info of store.list(prefix)) left.push(info.name);
      await mapLimit(left, 16, async (name) => {
        try {
          await store.delete(name);
        } catch (error) {
          // A name that the store refuses cannot have been put.
          if (toHoldfastError(error).code !== "invalid") throw error;
        }
      });
    } catch (error) {
      // The first failure is the one to tell.
      // oxlint-disable-next-line no-unsafe-finally -- only when there is no other failure
      if (!failed) throw error;
    }
  }
}

/** Opens the store, runs the cases one after the other and closes it. Rejects only when opening or closing fails. */
export async function runConformance(options: ConformanceOptions): Promise<ConformanceResult[]> {
  const results: ConformanceResult[] = [];
  const store = await options.open();
  try {
    for (const one of conformanceCases(options)) {
      if (options.signal?.aborted) break;
      const result = await resultOf(one, store, options);
      results.push(result);
      options.onResult?.(result);
    }
  } finally {
    await store.close();
  }
  return results;
}

async function resultOf(one: ConformanceCase, store: Store, options: ConformanceOptions): Promise<ConformanceResult> {
  const reason = one.needs?.(store.capabilities);
  if (reason !== undefined) return { name: one.name, outcome: "not-applicable", reason, elapsedMs: 0 };
  const start = performance.now();
  const timeoutMs = options.caseTimeoutMs ?? 120_000;
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      runCase(one, store, options),
      new Promise((_, reject) => {
        timer = setTimeout(() => {
          reject(new HoldfastError("timeout", `the case did not end within ${timeoutMs} ms`));
        }, timeoutMs);
      }),
    ]);
    return { name: one.name, outcome: "passed", elapsedMs: performance.now() - start };
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error));
    return { name: one.name, outcome: "failed", error: failure, elapsedMs: performance.now() - start };
  } finally {
    clearTimeout(timer);
  }
}
