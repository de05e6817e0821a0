/** Binds the conformance suite to vitest. */
import { afterAll, beforeAll, describe, it } from "vitest";
import { conformanceCases, runCase } from "../../src/conformance/index.ts";
import type { ConformanceOptions } from "../../src/conformance/index.ts";
import type { Store } from "../../src/contract/store.ts";

/**
 * Describes one store: every case of the suite, on one store that `open` gave. Prints one line at the end: how many
 * passed, and which do not apply for what reason.
 */
export function describeConformance(
  label: string,
  options: Pick<ConformanceOptions, "open" | "quick" | "listCount">,
): void {
  describe(`conformance: ${label}`, () => {
    let store: Store;
    // By name: a case that is tried again counts as it ended.
    const passed = new Set<string>();
    const failed = new Set<string>();
    const notApplicable: string[] = [];
    beforeAll(async () => {
      store = await options.open();
    });
    afterAll(async () => {
      const total = passed.size + failed.size + notApplicable.length;
      console.info(
        `conformance of ${label}: ${total} cases, ${passed.size} passed, ${failed.size} failed, ${notApplicable.length} do not apply` +
          notApplicable.map((line) => `\n  - ${line}`).join(""),
      );
      await store.close();
    });
    for (const one of conformanceCases(options)) {
      // oxlint-disable-next-line vitest/expect-expect, vitest/valid-title -- a case has its name and its assertions
      it(one.name, async (context) => {
        const reason = one.needs?.(store.capabilities);
        if (reason !== undefined) {
          notApplicable.push(`${one.name}: ${reason}`);
          context.skip(reason);
        }
        try {
          await runCase(one, store, options);
          passed.add(one.name);
          failed.delete(one.name);
        } catch (error) {
          failed.add(one.name);
          throw error;
        }
      });
    }
  });
}
