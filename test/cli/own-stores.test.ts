/** Folders that are pushed, or pulled into, and hold or lie in the pool's own stores. */
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { commandPath, runCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";

let home: string;

beforeAll(async () => {
  await commandPath();
});
/** A mirror of the stores DISK, which stands in the folder `dir`, and OTHER, which does not. */
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-own-"));
  const stores = [
    { url: `file://${home}/dir/disk`, description: "DISK" },
    { url: `file://${home}/other`, description: "OTHER" },
  ];
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
  await file("dir/a", "1");
  await mkdir(join(home, "dir/disk"));
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function file(path: string, content: string): Promise<void> {
  await mkdir(join(home, dirname(path)), { recursive: true });
  await writeFile(join(home, path), content);
}

function holdfast(...args: string[]): Promise<CommandResult> {
  return runCommand(["-p", "pool.json", ...args], { cwd: home });
}

async function listed(): Promise<string[]> {
  return (await holdfast("ls")).stdout.split("\n").slice(0, -1);
}

/** Puts an object that is called like something in the folder of the store. */
async function given(name: string): Promise<void> {
  const result = await runCommand(["-p", "pool.json", "put", "-", name], { cwd: home, input: "1" });
  expect([result.code, result.stderr]).toEqual([0, ""]);
}

describe("push", () => {
  it("leaves a store in the folder out, each time, names it and exits 3", async () => {
    for (const put of [1, 0]) {
      const result = await holdfast("push", "dir", "bk");
      expect([result.code, result.stderr]).toEqual([
        3,
        "warning: left out: disk belongs to the pool's own store DISK\n",
      ]);
      expect(result.stdout).toContain(`${1 - put} unchanged, 1 skipped`);
      expect(await listed()).toEqual(["bk/a"]);
    }
    expect((await holdfast("--json", "push", "dir", "bk")).json()[0]).toMatchObject({
      type: "warning",
      code: "skipped",
      file: "disk",
      store: "DISK",
    });
  });

  it("leaves out what links lead to in a store, where links are followed", async () => {
    await given("x/y");
    await symlink("disk", join(home, "dir/to-store"));
    await symlink("../other/x", join(home, "dir/into-store"));
    await symlink("../other/x/y", join(home, "dir/to-file"));
    const result = await holdfast("push", "--links", "follow", "dir", "bk");
    expect([result.code, result.stderr.split("\n").sort()]).toEqual([
      3,
      [
        "",
        "warning: left out: disk belongs to the pool's own store DISK",
        "warning: left out: into-store belongs to the pool's own store OTHER",
        "warning: left out: to-file belongs to the pool's own store OTHER",
        "warning: left out: to-store belongs to the pool's own store DISK",
      ],
    ]);
    expect(await listed()).toEqual(["bk/a", "x/y"]);
  });

  it("finds a store in the folder through a link to the folder", async () => {
    await symlink("dir", join(home, "link"));
    expect((await holdfast("push", "link")).stderr).toMatch(/left out: disk /u);
    expect(await listed()).toEqual(["a"]);
  });

  it("--delete judges nothing by what is left out, and deletes what is superfluous elsewhere", async () => {
    for (const name of ["disk/kept", "disk-gone", "gone"]) await given(name);
    const result = await holdfast("push", "--delete", "dir");
    expect([result.code, result.stderr]).toEqual([3, expect.stringMatching(/^warning: left out: disk .*\n$/u)]);
    expect(await listed()).toEqual(["a", "disk/kept"]);
  });

  it.each([["dir/disk"], ["dir/disk/sub"], ["link"], ["link/sub"]])(
    "refuses a folder that is a store or lies in one: %s",
    async (folder) => {
      await given("sub/x");
      await symlink("dir/disk", join(home, "link"));
      const result = await holdfast("push", folder);
      expect([result.code, result.stdout]).toEqual([2, ""]);
      expect(result.stderr).toBe(
        `error: ${home}/${folder} belongs to the pool's own store DISK, and cannot be pushed: name a folder outside of it\n`,
      );
      expect(await listed()).toEqual(["sub/x"]);
    },
  );

  it("refuses the folder that is the whole pool", async () => {
    expect(await runCommand(["-p", join(home, "dir"), "push", "dir"], { cwd: home })).toMatchObject({ code: 2 });
  });

  it("leaves out the stores of a pool in the pool", async () => {
    const stores = [
      { url: `multi://${home}/pool.json?mode=mirror`, description: "IN" },
      { url: `file://${home}/third` },
    ];
    await writeFile(join(home, "outer.json"), JSON.stringify({ mode: "mirror", stores }));
    const result = await runCommand(["-p", "outer.json", "push", "dir"], { cwd: home });
    expect(result.stderr).toBe("warning: left out: disk belongs to the pool's own store IN > DISK\n");
  });
});

describe("pull", () => {
  it.each([["dir/disk"], ["other/new/folder"], ["link/new"]])(
    "refuses a folder that lies in a store: %s",
    async (folder) => {
      await given("x");
      await symlink("other", join(home, "link"));
      const result = await holdfast("pull", "--delete", "--force", folder);
      expect([result.code, result.stderr]).toEqual([
        2,
        expect.stringMatching(/belongs to the pool's own store (?:DISK|OTHER), and cannot be pulled into/u),
      ]);
      expect((await readdir(join(home, "other"))).filter((name) => name !== ".holdfast")).toEqual(["x"]);
    },
  );

  it("--delete deletes nothing of a store in the folder", async () => {
    await given("x");
    await file("dir/superfluous", "1");
    const result = await holdfast("pull", "--delete", "dir");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect((await readdir(join(home, "dir"))).sort()).toEqual(["disk", "x"]);
    expect(await readFile(join(home, "dir/disk/x"), "utf8")).toBe("1");
    expect(await holdfast("verify")).toMatchObject({ code: 0 });
  });

  it("writes no object into a store in the folder, and gets the others", async () => {
    await given("disk/x");
    await given("y");
    for (const more of [["--dry-run"], []]) {
      const result = await holdfast("pull", ...more, "dir");
      expect([result.code, result.stderr]).toEqual([
        1,
        "error: disk/x: it would be written into the folder of the pool's own store DISK\n",
      ]);
    }
    expect(await readdir(join(home, "dir/disk"))).not.toContain("x");
    expect(await readFile(join(home, "dir/y"), "utf8")).toBe("1");
  });
});
