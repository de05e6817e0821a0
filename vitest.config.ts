import { defineConfig } from "vitest/config";
import { SlowestFirst } from "./test/helpers/slowest-first.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Tests on servers wait more than they compute.
    maxWorkers: 3,
    globalSetup: ["test/helpers/global-setup.ts"],
    setupFiles: process.env["CI"] === undefined ? [] : ["test/helpers/file-limit.ts"],
    reporters: ["default", "./test/helpers/run-reporter.ts"],
    sequence: { sequencer: SlowestFirst },
  },
});
