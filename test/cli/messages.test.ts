/** What the command says when something is wrong: once, in words, with what to do about it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { mkdir, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { commandPath, mirrorHome, runCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";
import { shellWords } from "../helpers/command-usage.ts";

let home: string;

beforeAll(async () => {
  await commandPath();
});
beforeEach(async () => {
  ({ home } = await mirrorHome(["disk", "my nas"]));
  await mkdir(join(home, "dir"));
  for (const name of ["1", "2", "3"]) await writeFile(join(home, "dir", name), name);
});
afterEach(() => rm(home, { recursive: true, force: true }));

function holdfast(...args: string[]): Promise<CommandResult> {
  return runCommand(["-p", "pool.json", ...args], { cwd: home });
}

/** Takes a store away, as when it is not mounted. */
async function takeAway(store: string): Promise<void> {
  await rename(join(home, store), join(home, "kept"));
}

async function giveBack(store: string): Promise<void> {
  await rm(join(home, store), { recursive: true, force: true });
  await rename(join(home, "kept"), join(home, store));
}

function linesOf(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

describe("a store that misses many writes", () => {
  beforeEach(async () => {
    await holdfast("put", "dir/1", "first");
    await takeAway("my nas");
  });

  it("is warned of once, with how much it owes", async () => {
    const { stderr } = await holdfast("push", "dir");
    expect(linesOf(stderr).filter((line) => line.includes("my nas"))).toEqual([
      expect.stringMatching(
        /^warning: degraded: my nas owes 3 copies \(it holds nothing of this pool.*status --debts$/u,
      ),
    ]);
  });

  it("is warned of once in JSON, with the count and the reason", async () => {
    const warnings = (await holdfast("--json", "push", "dir")).json().filter(({ code }) => code === "degraded");
    expect(warnings.filter(({ store }) => store === "my nas")).toEqual([
      expect.objectContaining({ owes: "copy", count: 3, reason: expect.stringContaining("mounted") as string }),
    ]);
  });

  it("is told with every object's name by status --debts", async () => {
    await holdfast("push", "dir");
    const debts = (await holdfast("--json", "status", "--debts")).json().filter(({ type }) => type === "debt");
    expect(debts.map(({ store, object }) => [store, object])).toEqual(
      ["1", "2", "3", "first"].map((name) => ["my nas", name]),
    );
  });

  it("is to be brought back before a repair, says status", async () => {
    const { stdout } = await holdfast("status");
    expect(linesOf(stdout).at(-1)).toBe(
      "mirror of 2 stores, 1 object, 1 DEGRADED; first bring back my nas, then run: holdfast -p pool.json repair",
    );
  });

  it("has one line for all that it owes in what repair has left", async () => {
    await holdfast("push", "dir");
    expect(linesOf((await holdfast("repair")).stdout)).toEqual([
      expect.stringContaining("my nas was not heard, and still owes 3 copies and deletes") as string,
      expect.stringContaining("NOT known to be whole") as string,
    ]);
  });

  it("has nothing but a repair to come when it is back, says status", async () => {
    await holdfast("push", "dir");
    await giveBack("my nas");
    expect(linesOf((await holdfast("status")).stdout).at(-1)).toMatch(
      /3 DEGRADED; to put it right, run: holdfast -p pool\.json repair$/u,
    );
  });

  it("is not forgotten when the run fails later", async () => {
    await mkdir(join(home, "dir/folder"));
    const { stderr } = await holdfast("rm", "first", "absent");
    expect(stderr).toContain("my nas owes");
  });
});

it("a hint of a message can be run as it is printed", async () => {
  await holdfast("put", "dir/1");
  await rm(join(home, "my nas"), { recursive: true });
  const { stdout } = await holdfast("stores");
  const [, hint = ""] = /run: (holdfast .*)$/mu.exec(stdout) ?? [];
  const result = await runCommand(shellWords(hint).slice(1), { cwd: home });
  expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining("the pool is whole") as string });
});

it("errors of one reason name every object, and the reason once", async () => {
  await holdfast("push", "dir");
  for (const store of ["disk", "my nas"]) await rm(join(home, store), { recursive: true });
  const errors = linesOf((await holdfast("push", "dir", "other")).stderr).filter((line) => line.startsWith("error:"));
  expect(errors.filter((line) => line.includes("every store failed"))).toHaveLength(1);
  expect(errors).toHaveLength(3);
});

it("a listing that lacks something says which stores were not heard", async () => {
  await holdfast("push", "dir");
  for (const store of ["disk", "my nas"]) await rm(join(home, store), { recursive: true });
  expect(linesOf((await holdfast("push", "dir")).stderr)).toContain(
    "warning: the listing may lack objects: not heard: disk, my nas",
  );
});

describe("wrong usage", () => {
  it("is said once", async () => {
    const { stdout, stderr } = await runCommand(["push", "--nope", "dir"], { cwd: home });
    expect([stdout, linesOf(stderr)]).toEqual([
      "",
      ["error: unknown option '--nope'; for help, run: holdfast push --help"],
    ]);
  });

  it.each([
    [["--json", "push"]],
    [["push", "--json"]],
    [["--json", "push", "--jobs", "0", "dir"]],
    [["--json", "nope"]],
  ])("is one JSON object, and nothing else, with --json: %j", async (args) => {
    const result = await runCommand(args, { cwd: home });
    expect([result.stderr, result.json()]).toEqual(["", [expect.objectContaining({ type: "error", code: "config" })]]);
  });

  it("of a program that exec runs is not taken for ours", async () => {
    const { stderr } = await runCommand(["exec", "--nope", "--", "program", "--json"], { cwd: home });
    expect(stderr).toContain("error: unknown option '--nope'");
  });

  it("says what a number may be", async () => {
    expect((await holdfast("push", "-j", "0", "dir")).stderr).toContain(
      "option '-j, --jobs <N>' argument '0' is invalid: give a whole number from 1 to 256; for help",
    );
  });
});

describe("what is wrong with a file or a name", () => {
  it.each([
    [["put", "absent"], /^error: cannot read \/.*\/absent: there is no such file or folder\n$/u],
    [["put", "dir"], /dir is a folder; to put its files, run: holdfast -p pool\.json push dir\n$/u],
    [["push", "absent"], /^error: cannot read the folder \/.*\/absent: there is no such file or folder\n$/u],
    [["get", "first", "/dev/null/x"], /cannot write \/dev\/null\/x: a part of the path is not a folder\n$/u],
    [["get", "absent"], /: absent: there is no such object\n$/u],
    [["stat", "absent"], /: absent: there is no such object\n$/u],
    [["rm", "absent"], /^error: absent: there is no such object\n$/u],
    [["serve", "--s3", "1", "--cert", "absent", "--key", "absent"], /^error: --cert: cannot read absent: there is no/u],
  ])("%j", async (args, said) => {
    await holdfast("put", "dir/1", "first");
    expect((await holdfast(...args)).stderr).toMatch(said);
  });
});

it("put refuses a stdin that is closed, and leaves what is there", async () => {
  await holdfast("put", "dir/1", "first");
  const script = `exec '${process.execPath}' '${await commandPath()}' -p pool.json put - first <&-`;
  const env = { PATH: process.env["PATH"], HOME: home, HOLDFAST_CACHE: join(home, ".cache") };
  const failure: unknown = await promisify(execFile)("sh", ["-c", script], { cwd: home, env }).catch(
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ code: 2, stderr: "error: stdin is closed: there is nothing to put\n" });
  expect((await holdfast("get", "first", "-")).stdout).toBe("1");
});

it("stat tells a file's time as a moment", async () => {
  await utimes(join(home, "dir/1"), 1_000_000, 1_000_000);
  await holdfast("put", "dir/1");
  expect((await holdfast("stat", "1")).stdout).toMatch(/^modified {2}1970-01-12 13:46:40Z$/mu);
});
