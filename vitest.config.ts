import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    // Real servers on a busy machine answer late now and then. A test that needed another try is printed as such.
    retry: process.env["CI"] === undefined ? 0 : 2,
    globalSetup: ["test/helpers/global-setup.ts"],
  },
});
