/** The WebDAV gateway under litmus, the protocol's own test-suite, from Debian. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateways, credential } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { client, runClient } from "../helpers/clients.ts";

const litmus = client("litmus");

describe.runIf(litmus.there)("litmus", () => {
  let gateways: TestGateways;
  let folder: string;

  beforeAll(async () => {
    gateways = await startTestGateways({ protocols: ["webdav"], on: "folders" });
    folder = await mkdtemp(`${tmpdir()}/holdfast-litmus-`);
  });

  afterAll(async () => {
    await gateways?.end();
    await rm(folder, { recursive: true, force: true });
  });

  test.each([
    ["basic", 16],
    ["copymove", 13],
    ["props", 30],
    ["locks", 41],
    ["http", 4],
  ])("finds nothing wrong in %s", async (suite, count) => {
    const { stdout } = await runClient(
      "litmus",
      ["-k", `${gateways.url("webdav")}/`, credential.user, credential.password],
      {
        cwd: folder,
        env: { TESTS: suite },
      },
    );
    expect(stdout).toMatch(new RegExp(`summary for .${suite}.: of ${count} tests run: ${count} passed, 0 failed`, "u"));
    expect(stdout).not.toMatch(/FAIL|WARNING: (?!.*Expect)/u);
  });
});
