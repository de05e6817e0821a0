/** `holdfast exec` and `holdfast serve` as people call them. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { exitOf, runCommand, startCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";
import { waitUntil } from "../helpers/wait-until.ts";

let home: string;

beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), "holdfast-exec-"));
  const stores = ["a", "b"].map((name) => ({ url: `file://${home}/${name}`, description: name }));
  await writeFile(path.join(home, "pool.json"), JSON.stringify({ mode: "mirror", attempts: 1, stores }));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const holdfast = (args: string[], env: Record<string, string> = {}): Promise<CommandResult> =>
  runCommand(["-p", "pool.json", ...args], { cwd: home, env });

/** A program that puts a file with the credential from its environment, and prints its arguments. */
const program = `
const [url, ...rest] = process.argv.slice(2);
const authorization = "Basic " + btoa(process.env.WEBDAV_USER + ":" + process.env.WEBDAV_PASSWORD);
const put = await fetch(url + "from-program", { method: "PUT", body: "written", headers: { authorization } });
const open = await fetch(url + "from-program");
console.log(JSON.stringify({ put: put.status, open: open.status, rest, same: process.env.HOLDFAST_URL === url }));
process.exit(Number(rest[0] ?? 0));
`;

describe("exec", () => {
  beforeEach(() => writeFile(path.join(home, "program.mjs"), program));

  test("hands the command its address and a credential that nobody else has", async () => {
    const result = await holdfast([
      "exec",
      "--for",
      "webdav",
      "--",
      process.execPath,
      "program.mjs",
      "{url}",
      "0",
      "x{bucket}y",
    ]);
    expect(JSON.parse(result.stdout)).toEqual({ put: 201, open: 401, rest: ["0", "xholdfasty"], same: true });
    expect(result).toMatchObject({ code: 0, stderr: expect.stringContaining("1 object, none degraded") });
    for (const store of ["a", "b"]) {
      expect(await readFile(path.join(home, store, "from-program"), "utf8")).toBe("written");
    }
  });

  test("ends with the command's exit code, and with 3 where that is 0 and the pool is degraded", async () => {
    const run = (code: string): Promise<CommandResult> =>
      holdfast(["exec", "--for", "webdav", "--", process.execPath, "program.mjs", "{url}", code]);
    expect((await run("7")).code).toBe(7);
    await rm(path.join(home, "b"), { recursive: true });
    await writeFile(path.join(home, "b"), "a file where the folder was");
    const degraded = await run("0");
    expect(degraded.code).toBe(3);
    expect(degraded.stderr).toMatch(/b: owes 1 copy \(7 B\); MISSING/u);
    expect((await run("7")).code).toBe(7);
  });

  test("says when the exit code is the command's own", async () => {
    const result = await holdfast(["exec", "--for", "webdav", "--", process.execPath, "program.mjs", "{url}", "3"]);
    expect(result).toMatchObject({ code: 3, stderr: expect.stringContaining("node ended with exit code 3") });
  });

  test("ends with the code of --degraded-exit where the pool alone is degraded", async () => {
    const run = (code: string): Promise<CommandResult> =>
      holdfast([
        "exec",
        "--for",
        "webdav",
        "--degraded-exit",
        "30",
        "--",
        process.execPath,
        "program.mjs",
        "{url}",
        code,
      ]);
    expect([(await run("0")).code, (await run("3")).code]).toEqual([0, 3]);
    await rm(path.join(home, "b"), { recursive: true });
    await writeFile(path.join(home, "b"), "a file where the folder was");
    expect([(await run("0")).code, (await run("3")).code]).toEqual([30, 3]);
  });

  test("names what is lost, and does not end with 0 then", async () => {
    await holdfast(["exec", "--for", "webdav", "--", process.execPath, "program.mjs", "{url}", "0"]);
    for (const store of ["a", "b"]) await rm(path.join(home, store), { recursive: true });
    const result = await holdfast(["exec", "--for", "webdav", "--", process.execPath, "-e", "0"]);
    expect(result).toMatchObject({ code: 3, stderr: expect.stringContaining("1 LOST") });
  });

  test("says what is wrong before it runs anything", async () => {
    const unknown = await holdfast(["exec", "--", "tar", "{url}"]);
    expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining("--for") });
    const missing = await holdfast(["exec", "--for", "s3", "--", "no-such-program"]);
    expect(missing).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("cannot run no-such-program: there is no such program"),
    });
  });
});

describe("serve", () => {
  test("serves until it is told to stop, logs without secrets, and ends in order", async () => {
    const env = { HOLDFAST_GATEWAY_USER: "someone", HOLDFAST_GATEWAY_PASSWORD: "very secret word" };
    const args = ["-p", "pool.json", "serve", "--webdav", "0", "--restic", "127.0.0.1:0", "--metrics", "0"];
    const serving = await startCommand(args, { cwd: home, env });
    let said = "";
    let logged = "";
    serving.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
    serving.stderr?.on("data", (chunk: Buffer) => (logged += chunk.toString()));
    const ended = exitOf(serving);
    await waitUntil(() => /metrics at http:\S+\n/u.test(said));
    const webdav = /WebDAV at (http:\S+)/u.exec(said)?.[1] ?? "";
    const metrics = /metrics at (http:\S+)/u.exec(said)?.[1] ?? "";
    const authorization = `Basic ${btoa("someone:very secret word")}`;
    expect((await fetch(`${webdav}/file`, { method: "PUT", body: "x" })).status).toBe(401);
    expect((await fetch(`${webdav}/file`, { method: "PUT", body: "x", headers: { authorization } })).status).toBe(201);
    expect((await fetch(`${webdav}/.holdfast/healthz`)).status).toBe(200);
    expect(await (await fetch(`${metrics}/metrics`)).text()).toContain(
      'holdfast_gateway_requests_total{protocol="webdav"',
    );
    serving.kill("SIGTERM");
    expect(await ended).toBe(143);
    const lines = logged
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string });
    expect(lines.map((line) => line.event)).toEqual(
      expect.arrayContaining(["listening", "request", "stopping", "stopped"]),
    );
    expect(logged).not.toContain("very secret word");
    expect(logged).not.toContain(authorization.slice(6));
  });

  test("refuses what would be unsafe or makes no sense", async () => {
    const refused = async (...args: string[]): Promise<string> => {
      const result = await holdfast(["serve", ...args]);
      expect(result.code).toBe(2);
      return result.stderr;
    };
    expect(await refused("--s3", "0.0.0.0:0")).toContain("credentials");
    expect(await refused()).toContain("--webdav");
    expect(await refused("--s3", "nonsense")).toContain("HOST:PORT");
    expect(await refused("--s3", "0", "--cert", "x.pem")).toContain("--key");
    await writeFile(path.join(home, "users.json"), '[{"user": "a", "pass": "word"}]');
    expect(await refused("--s3", "0", "--credentials", "users.json")).toContain("users.json must be");
  });
});
