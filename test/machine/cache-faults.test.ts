/** The command with a cache that cannot be made, is full, cut short, or holds other bytes than were written: it goes on. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { runCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";

const root = mkdtempSync(join(tmpdir(), "holdfast-cache-"));
let home = "";
let made = 0;

afterAll(() => {
  rmSync(root, { recursive: true, force: true });
});

beforeEach(() => {
  home = join(root, String(made++));
  mkdirSync(join(home, "source"), { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(join(home, "source", `f${i}`), `content ${i}`);
  const stores = ["a", "b", "c"].map((label) => {
    mkdirSync(join(home, label));
    return { url: `file://${home}/${label}`, description: label };
  });
  writeFileSync(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
});

const run = (args: readonly string[], cache = join(home, "cache")): Promise<CommandResult> =>
  runCommand(args, { cwd: home, env: { HOLDFAST_CACHE: cache, HOLDFAST_POOL: join(home, "pool.json") } });

/** Every command that reads or changes something ends well, and says what is so. */
async function expectAll(cache?: string): Promise<void> {
  const names = async (): Promise<number> => (await run(["ls"], cache)).stdout.trim().split("\n").length;
  expect(await names()).toBe(40);
  expect(await run(["get", "f7", "-"], cache)).toMatchObject({ code: 0, stdout: "content 7" });
  writeFileSync(join(home, "new"), "new");
  expect(await run(["put", join(home, "new"), "f7"], cache)).toMatchObject({ code: 0 });
  expect(await run(["get", "f7", "-"], cache)).toMatchObject({ code: 0, stdout: "new" });
  expect(await run(["status"], cache)).toMatchObject({ code: 0 });
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((file) => join(folder, file))
    .filter((file) => statSync(file).isFile());
}

describe("a command whose cache", { timeout: 120_000 }, () => {
  it.each([
    ["is below /proc", () => "/proc/x"],
    ["is a file", () => join(home, "new")],
    ["is in a file", () => join(home, "new", "x")],
  ])("%s goes on without one", async (_, cacheOf) => {
    writeFileSync(join(home, "new"), "");
    expect(await run(["push", join(home, "source")], cacheOf())).toMatchObject({ code: 0 });
    expect((await run(["ls"], cacheOf())).stdout.trim().split("\n")).toHaveLength(40);
    expect(await run(["get", "f7", "-"], cacheOf())).toMatchObject({ code: 0, stdout: "content 7" });
  });

  it.each<[string, (bytes: Buffer) => Buffer]>([
    ["is cut short", (bytes) => bytes.subarray(0, bytes.length / 2)],
    ["is empty", () => Buffer.alloc(0)],
    ["holds zeros", (bytes) => Buffer.alloc(bytes.length)],
    [
      "holds a flipped bit in each file",
      (bytes) => bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 1 : byte)) as Buffer,
    ],
  ])("%s goes on, and says what is so", async (_, spoil) => {
    expect(await run(["push", join(home, "source")])).toMatchObject({ code: 0 });
    const files = filesBelow(join(home, "cache"));
    expect(files.length).toBeGreaterThan(5);
    for (const file of files) writeFileSync(file, spoil(readFileSync(file)));
    await expectAll();
  });

  it("has a folder in place of each file goes on", async () => {
    expect(await run(["push", join(home, "source")])).toMatchObject({ code: 0 });
    for (const file of filesBelow(join(home, "cache"))) {
      rmSync(file);
      mkdirSync(file);
    }
    await expectAll();
  });

  it("is removed between two commands goes on", async () => {
    expect(await run(["push", join(home, "source")])).toMatchObject({ code: 0 });
    rmSync(join(home, "cache", "pools"), { recursive: true });
    await expectAll();
  });
});

const canMount = spawnSync("unshare", ["--mount", "true"]).status === 0;

describe.runIf(canMount)("a command whose cache's disk is full", { timeout: 120_000 }, () => {
  it("goes on, and the next ones know what it did", async () => {
    const cache = join(home, "cache");
    mkdirSync(cache);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=100k", "tmpfs", cache]);
    try {
      for (let i = 0; i < 1500; i++)
        writeFileSync(join(home, "source", `a-rather-long-name-for-an-object-${i}`), String(i));
      const pushed = await run(["push", join(home, "source"), "p"]);
      expect(pushed.code).toBe(0);
      expect(readdirSync(join(home, "a", "p"))).toHaveLength(1540);
      expect(pushed.stderr.match(/local index cannot be kept/gu) ?? []).toHaveLength(1);
      writeFileSync(join(cache, "filler"), Buffer.alloc(1));
      expect((await run(["ls"])).stdout.trim().split("\n")).toHaveLength(1540);
      expect(await run(["get", "p/f7", "-"])).toMatchObject({ code: 0, stdout: "content 7" });
      expect(await run(["verify"])).toMatchObject({ code: 0 });
    } finally {
      execFileSync("umount", [cache]);
    }
  });
});
