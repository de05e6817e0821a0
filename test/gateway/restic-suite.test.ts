/** restic's own tests of its stores, built from Debian's source, against the REST and the S3 gateway. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { prepareSuite } from "../helpers/suites.ts";

const suite = await prepareSuite("restic");
/** Tests of which restic 0.14's suite for stores consists. */
const COUNT = 11;

describe.runIf(suite !== undefined)("restic's own suite for stores", () => {
  let gateways: TestGateways;

  beforeAll(async () => {
    gateways = await startTestGateways({ protocols: ["restic", "s3"], on: "folders" });
  });
  afterAll(() => gateways?.end());

  /** Runs a program of tests; gives the names of its tests that passed. Rejects when it fails. */
  const run = async (kind: "rest" | "s3", name: string, env: Record<string, string>): Promise<string[]> => {
    const child = spawn(path.join(suite ?? "", `${kind}.test`), ["-test.v", "-test.run", `^${name}$`], {
      cwd: suite,
      env: { PATH: "/usr/bin:/bin", HOME: gateways.folder, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    }
    const [code] = (await once(child, "close")) as [number | null];
    expect([code, code === 0 ? "" : said]).toEqual([0, ""]);
    return [...said.matchAll(new RegExp(`^ +--- PASS: ${name}/(\\w+) `, "gmu"))].map((match) => match[1] ?? "");
  };

  const byRest = (port: number, folder: string): Promise<string[]> => {
    const user = `${credential.user}:${encodeURIComponent(credential.password)}`;
    const url = `rest:http://${user}@127.0.0.1:${port}/${folder}/`;
    return run("rest", "TestBackendRESTExternalServer", { RESTIC_TEST_REST_REPOSITORY: url });
  };

  test("finds nothing wrong by REST, version 2", async () => {
    const port = Number(new URL(gateways.url("restic")).port);
    expect(new Set(await byRest(port, "second"))).toHaveLength(COUNT);
  });

  test("finds nothing wrong by REST, version 1", async () => {
    // A client of version 1 is one that does not ask for the second in its Accept header.
    let listings = 0;
    const { hostname, port } = new URL(gateways.url("restic"));
    const between = createServer((incoming, answer) => {
      const { accept, ...headers } = incoming.headers;
      if (accept !== undefined) listings++;
      const outgoing = request({ hostname, port, path: incoming.url, method: incoming.method, headers }, (back) => {
        answer.writeHead(back.statusCode ?? 502, back.headers);
        back.pipe(answer);
      });
      outgoing.on("error", () => answer.destroy());
      answer.on("close", () => outgoing.destroy());
      incoming.pipe(outgoing);
    });
    between.listen(0, "127.0.0.1");
    await once(between, "listening");
    try {
      expect(new Set(await byRest((between.address() as AddressInfo).port, "first"))).toHaveLength(COUNT);
      expect(listings).toBeGreaterThan(0);
    } finally {
      between.closeAllConnections();
      between.close();
    }
  });

  test("finds nothing wrong by S3", async () => {
    const passed = await run("s3", "TestBackendS3", {
      RESTIC_TEST_S3_KEY: credential.user,
      RESTIC_TEST_S3_SECRET: credential.password,
      RESTIC_TEST_S3_REPOSITORY: `s3:${gateways.url("s3")}/restic-suite`,
    });
    expect(new Set(passed)).toHaveLength(COUNT);
  });
});
