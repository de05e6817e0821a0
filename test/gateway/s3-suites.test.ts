/** The S3 tests of MinIO's Go client and of OpenStack Swift, from Debian, against the S3 gateway. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { caseList, expectAsListed, prepareSuite } from "../helpers/suites.ts";

const minio = await prepareSuite("minio");
const swift = await prepareSuite("swift");

let gateways: TestGateways | undefined;

beforeAll(async () => {
  if (minio === undefined && swift === undefined) return;
  gateways = await startTestGateways({ protocols: ["s3"], on: "folders" });
});
afterAll(() => gateways?.end());

interface Ended {
  readonly code: number;
  readonly said: string;
}

const run = (program: string, args: readonly string[], env: Record<string, string>, cwd: string): Promise<Ended> =>
  new Promise((resolve) => {
    const options = { cwd, env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", HOME: cwd, ...env }, maxBuffer: 2 ** 26 };
    execFile(program, args, options, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code ?? 1) : 0, said: stdout + stderr });
    });
  });

describe.runIf(minio !== undefined)("MinIO's client", () => {
  const program = path.join(minio ?? "", "minio-tests");
  const list = caseList("minio");
  /** Moves gigabytes: run with HOLDFAST_SUITES=all. */
  const slow = process.env["HOLDFAST_SUITES"] === "all" ? [] : ["testPutObjectWithChecksums"];

  test("finds nothing wrong in what is offered", async () => {
    const all = (await run(program, ["list"], {}, minio ?? "")).said.trim().split("\n");
    const cwd = await mkdtemp(path.join(gateways?.folder ?? "", "minio-"));
    const env = {
      SERVER_ENDPOINT: gateways?.url("s3").replace("http://", "") ?? "",
      ACCESS_KEY: credential.user,
      SECRET_KEY: credential.password,
      ENABLE_HTTPS: "0",
      ENABLE_KMS: "0",
      MINT_MODE: "full",
    };
    const results = new Map<string, string>();
    const waiting = all.filter((name) => !slow.includes(name));
    const worker = async (): Promise<void> => {
      for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
        const { code, said } = await run(program, [name], env, cwd);
        const passed = code === 0 && said.includes('"status":"PASS"') && !said.includes('"status":"NA"');
        results.set(name, passed ? "ok" : said.slice(-500));
      }
    };
    await Promise.all([worker(), worker()]);
    for (const name of slow) process.stdout.write(`skipped: ${name} of MinIO's client, unless HOLDFAST_SUITES=all\n`);
    expect(results.size).toBe(all.length - slow.length);
    expectAsListed({ ...list, passing: list.passing.filter((name) => !slow.includes(name)) }, results);
    await rm(cwd, { recursive: true, force: true });
  }, 600_000);
});

describe.runIf(swift !== undefined)("OpenStack Swift's S3 tests", () => {
  test("find nothing wrong in what is offered", async () => {
    const script = path.join(import.meta.dirname, "..", "suites", "swift_cases.py");
    const source = path.join(swift ?? "", "source");
    // They empty the server: it is one of their own.
    const own = await startTestGateways({ protocols: ["s3"] });
    try {
      const args = [script, source, own.url("s3"), credential.user, credential.password];
      // Debian's python3, which has Debian's modules.
      const { said } = await run("/usr/bin/python3", args, {}, own.folder);
      const results = new Map<string, string>();
      for (const [, word = "", name = "", rest = ""] of said.matchAll(/^(ok|skip|FAIL) ([\w.]+)(.*)$/gmu)) {
        results.set(name, word === "ok" ? "ok" : rest);
      }
      expect(results.size).toBeGreaterThan(90);
      expectAsListed(caseList("swift"), results);
    } finally {
      await own.end();
    }
  }, 600_000);
});
