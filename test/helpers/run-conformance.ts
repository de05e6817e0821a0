/** Binds the conformance suite to vitest. */
import { afterAll, beforeAll, describe, it } from "vitest";
import { conformanceCases, runCase } from "../../src/conformance/index.ts";
import type { ConformanceOptions } from "../../src/conformance/index.ts";
import type { Store } from "../../src/store.ts";

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
    let passed = 0;
    let failed = 0;
    const notApplicable: string[] = [];
    beforeAll(async () => {
      store = await options.open();
    });
    afterAll(async () => {
      const total = passed + failed + notApplicable.length;
      console.info(
        `conformance of ${label}: ${total} cases, ${passed} passed, ${failed} failed, ${notApplicable.length} do not apply` +
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
          passed++;
        } catch (error) {
          failed++;
          throw error;
        }
      });
    }
  });
}
