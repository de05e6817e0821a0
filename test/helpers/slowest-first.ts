/** The order of test files: those that take longest begin first, so that none of them is left for the end alone. */
import { BaseSequencer } from "vitest/node";
import type { TestSpecification } from "vitest/node";

/** As `.ci/run` lists them; a file that is not here begins later, the largest first. */
const SLOWEST = [
  "simulation/simulation",
  "stores/rsync",
  "stores/ftp",
  "stores/swift",
  "pool/six-stores",
  "stores/connection-faults",
  "pool/pool-conformance",
  "cli/cli",
  "stores/s3/s3",
  "gateway/s3-suites",
];

export class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const at = SLOWEST.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return at === -1 ? SLOWEST.length : at;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}
