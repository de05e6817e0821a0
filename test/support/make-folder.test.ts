/** Folders that are made with those above them, also where Node's own call would never come back. */
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { makeFolder, makeFolderSync } from "../../src/support/make-folder.ts";
import { commandPath, exitOf, startCommand } from "../helpers/command.ts";

let home: string;
let child: ChildProcess | undefined;

beforeAll(async () => {
  await commandPath();
});
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-folder-"));
  child = undefined;
});
afterEach(async () => {
  // One that makes a folder for ever hears no other signal.
  child?.kill("SIGKILL");
  await rm(home, { recursive: true, force: true });
});

async function holdfast(...args: string[]): Promise<{ code: number | null; stderr: string }> {
  child = await startCommand(args, { cwd: home });
  child.stdin?.end();
  child.stdout?.resume();
  const [code, stderr] = await Promise.all([exitOf(child), child.stderr === null ? "" : text(child.stderr)]);
  return { code, stderr };
}

describe("a folder and those above it", () => {
  it("are made with the bits that are asked for, and the topmost new one is told", async () => {
    expect(await makeFolder(join(home, "a/b/c"), 0o700)).toBe(join(home, "a"));
    const modes = await Promise.all(["a", "a/b", "a/b/c"].map(async (path) => (await stat(join(home, path))).mode));
    expect(modes.map((mode) => mode & 0o777)).toEqual([0o700, 0o700, 0o700]);
  });

  it("are left alone where they are there", async () => {
    expect(await makeFolder(home)).toBeUndefined();
  });

  it("are made once by several at the same time", async () => {
    const made = await Promise.all(Array.from({ length: 8 }, async () => makeFolder(join(home, "a/b/c"))));
    expect(made.filter((first) => first === join(home, "a"))).toHaveLength(1);
  });

  it("are not made below a file, or in place of one", async () => {
    await writeFile(join(home, "file"), "");
    await expect(makeFolder(join(home, "file/b"))).rejects.toMatchObject({ code: "ENOTDIR" });
    await expect(makeFolder(join(home, "file"))).rejects.toMatchObject({ code: "EEXIST" });
    expect(() => makeFolderSync(join(home, "file"))).toThrow("EEXIST");
  });
});

describe("below /proc, where no folder can be made,", () => {
  it("check-store says so", async () => {
    const { code, stderr } = await holdfast("check-store", "/proc/x");
    expect([code, stderr]).toEqual([1, expect.stringContaining("there is no such file or folder: /proc/x")]);
  });

  it("put says so of the store", async () => {
    await writeFile(join(home, "file"), "bytes");
    const { code, stderr } = await holdfast("-p", "/proc/x", "put", "file");
    expect([code, stderr]).toEqual([expect.toBeOneOf([1, 2]), expect.stringContaining("/proc/x")]);
  });

  it("pull says so of the folder", async () => {
    const { code, stderr } = await holdfast("-p", `file://${home}/store`, "pull", "/proc/x");
    expect([code, stderr]).toEqual([2, "error: cannot make the folder /proc/x: there is no such file or folder\n"]);
  });

  it("a gateway says so of its spool", async () => {
    const { code, stderr } = await holdfast("-p", `file://${home}/store`, "serve", "--s3", "0", "--spool", "/proc/x");
    expect([code, stderr]).toEqual([expect.toBeOneOf([1, 2]), expect.stringContaining("/proc/x")]);
  });
});
