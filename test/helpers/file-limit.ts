/** Under CI, a file whose tests all hang ends: each test that is still to come fails at once when its time is used up. */
import { beforeEach } from "vitest";

const LIMIT_MS = 600_000;
const start = performance.now();

beforeEach(() => {
  if (performance.now() - start > LIMIT_MS) throw new Error(`this file has had its ${LIMIT_MS / 1000} s`);
});
