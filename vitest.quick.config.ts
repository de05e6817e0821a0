/** `npm run test:quick` and `npm run test:watch`: what needs no server, and takes below 90 s on two quiet cores. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vitest/config";
import whole from "./vitest.config.ts";

/** Each takes more than ten seconds of a whole run, most of them for processes that they start. */
const LONG = new Set([
  "cli/cli",
  "cli/completion",
  "cli/lost-output",
  "cli/messages",
  "cli/own-stores",
  "docs/api-surface",
  "docs/examples",
  "docs/release",
  "gateway/abuse",
  "gateway/duplicity",
  "gateway/exec",
  "gateway/limits",
  "gateway/restic-killed",
  "gateway/s3-cases",
  "machine/cache-faults",
  "machine/local-index",
  "pool/large",
  "pool/pool-conformance",
  "pool/scale",
  "repair/corruptions",
  "simulation/explore/explore",
  "simulation/simulation",
]);
const NEEDS_SERVER = /\/helpers\/(?:clients|mounts|servers|suites)\.ts"|\.\/servers\.ts"/u;

const folder = join(import.meta.dirname, "test");
const isLeftOut = (name: string): boolean =>
  LONG.has(name.replace(".test.ts", "")) || NEEDS_SERVER.test(readFileSync(join(folder, name), "utf8"));
const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));

export default defineConfig({
  test: {
    ...whole.test,
    exclude: names.filter(isLeftOut).map((name) => `test/${name}`),
    globalSetup: [],
    // `npm run test:coverage`: what these tests reach, printed; nobody has to reach a figure.
    coverage: { provider: "v8", include: ["src/**/*.ts"], reporter: ["text-summary"] },
  },
});
