import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { commandPath, exitOf, runCommand, startCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";
import { SECRET, wrongPools } from "../helpers/wrong-pools.ts";

let home: string;

beforeAll(async () => {
  await commandPath();
});
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-cli-"));
  await writePool("pool.json");
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function writePool(name: string, extra: Record<string, unknown> = { mode: "mirror" }): Promise<void> {
  const stores = ["a", "b", "c"].map((store) => ({ url: `file://${home}/${store}`, description: store.toUpperCase() }));
  await writeFile(join(home, name), JSON.stringify({ ...extra, stores }));
}

function holdfast(...args: string[]): Promise<CommandResult> {
  return runCommand(["-p", "pool.json", ...args], { cwd: home });
}

/** Puts an object from a string, to begin with. */
async function given(name: string, content: string, pool = "pool.json"): Promise<void> {
  const result = await runCommand(["-p", pool, "put", "-", name], { cwd: home, input: content });
  expect([result.code, result.stderr]).toEqual([0, ""]);
}

/** Paths of all files of a folder, Holdfast's own left out. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(join(home, folder), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(join(home, folder).length + 1))
    .filter((path) => !path.startsWith(".holdfast"))
    .sort();
}

async function tree(files: Record<string, string>, folder = "dir"): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(home, folder, path, ".."), { recursive: true });
    await writeFile(join(home, folder, path), content);
  }
}

/** Takes a store away, as when its disk is not there: a file is in its place. */
async function takeAway(store: string): Promise<void> {
  await rm(join(home, store), { recursive: true, force: true });
  await writeFile(join(home, store), "not a folder");
}

describe("put and get", () => {
  it("put a file under its own name on every store, as a plain file", async () => {
    await tree({ "hello.txt": "hello" });
    const put = await holdfast("put", "dir/hello.txt");
    expect(put).toMatchObject({ code: 0, stdout: "put hello.txt (5 B)\n", stderr: "" });
    for (const store of ["a", "b", "c"]) {
      expect(await readFile(join(home, store, "hello.txt"), "utf8")).toBe("hello");
    }
    const got = await holdfast("get", "hello.txt", "-");
    expect(got).toMatchObject({ code: 0, stdout: "hello", stderr: "" });
    const json = await holdfast("--json", "get", "hello.txt", "-");
    expect([json.stdout, JSON.parse(json.stderr)]).toEqual([
      "hello",
      expect.objectContaining({ type: "get", size: 5 }),
    ]);
  });

  it("restores a file's time and permissions", async () => {
    await tree({ x: "1" });
    await utimes(join(home, "dir/x"), 1_000_000, 1_000_000);
    await holdfast("put", "dir/x");
    await holdfast("get", "x", "y");
    expect((await stat(join(home, "y"))).mtimeMs).toBe(1_000_000_000);
  });

  it("restores a time before 1970", async () => {
    await tree({ x: "1" });
    await utimes(join(home, "dir/x"), "-86400.25", "-86400.25");
    await holdfast("put", "dir/x");
    await holdfast("get", "x", "y");
    await holdfast("pull", "out");
    const times = await Promise.all(["y", "out/x"].map(async (path) => (await stat(join(home, path))).mtimeMs));
    expect(times).toEqual([-86_400_250, -86_400_250]);
  });

  it("get into a folder that is not there makes no file of its name", async () => {
    await given("x", "1");
    const result = await holdfast("get", "x", "none/");
    expect([result.code, result.stderr]).toEqual([2, expect.stringContaining("there is no folder none/")]);
    expect(await readdir(home)).not.toContain("none");
  });

  it("get into a link to a folder writes into the folder", async () => {
    await given("a/x", "1");
    await mkdir(join(home, "real"));
    await symlink("real", join(home, "link"));
    expect((await holdfast("get", "a/x", "link")).code).toBe(0);
    expect(await filesIn("real")).toEqual(["x"]);
  });

  it.each([
    ["get", "x", ""],
    ["put", "", "x"],
    ["push", ""],
    ["pull", ""],
    ["pull", "--delete", "--force", ""],
  ])("an empty path is refused, and is not the working directory (%s %s %s)", async (...args) => {
    await given("x", "1");
    const before = await filesIn(".");
    const result = await holdfast(...args);
    expect([result.code, result.stderr]).toEqual([2, expect.stringMatching(/(FILE|DIR) cannot be empty/u)]);
    expect(await filesIn(".")).toEqual(before);
  });

  it("get writes into the folder given, or under the name's last part", async () => {
    await given("deep/name.txt", "content");
    await mkdir(join(home, "into"));
    expect((await holdfast("get", "deep/name.txt", "into")).code).toBe(0);
    expect((await holdfast("get", "deep/name.txt")).code).toBe(0);
    expect(await readFile(join(home, "into/name.txt"), "utf8")).toBe("content");
    expect(await readFile(join(home, "name.txt"), "utf8")).toBe("content");
  });

  it("takes -p behind the command, and HOLDFAST_POOL", async () => {
    await given("x", "1");
    expect((await runCommand(["ls", "-p", "pool.json"], { cwd: home })).stdout).toBe("x\n");
    expect((await runCommand(["ls"], { cwd: home, env: { HOLDFAST_POOL: "pool.json" } })).stdout).toBe("x\n");
    const two = await runCommand(["-p", "pool.json", "ls", "-p", "other.json"], { cwd: home });
    expect([two.code, two.stdout]).toEqual([2, ""]);
    expect((await runCommand(["-p", `multi://${home}/pool.json?mode=mirror`, "ls"], { cwd: home })).stdout).toBe("x\n");
  });

  it("works on a single store's URL", async () => {
    const single = `file://${home}/single`;
    const put = await runCommand(["-p", single, "put", "-", "x"], { cwd: home, input: "1" });
    expect([put.code, put.stderr]).toEqual([0, ""]);
    expect(await readFile(join(home, "single/x"), "utf8")).toBe("1");
  });

  it("get leaves the file that is there alone when it fails", async () => {
    await writeFile(join(home, "kept"), "old");
    const result = await holdfast("get", "absent", "kept");
    expect(result.code).toBe(4);
    expect(result.stderr).toMatch(/error: .*absent/u);
    expect(await readFile(join(home, "kept"), "utf8")).toBe("old");
    expect(await readdir(home)).not.toContainEqual(expect.stringContaining("holdfast-part"));
  });

  it("get replaces a link instead of writing through it", async () => {
    await given("x", "new");
    await writeFile(join(home, "target"), "old");
    await symlink("target", join(home, "link"));
    expect((await holdfast("get", "x", "link")).code).toBe(0);
    expect(await readFile(join(home, "target"), "utf8")).toBe("old");
    expect(await readFile(join(home, "link"), "utf8")).toBe("new");
  });
});

describe("ls, stat and rm", () => {
  beforeEach(async () => {
    await tree({ "b.txt": "1", "a/x": "22", "a/y": "333", "a-b": "4444" });
    await holdfast("push", "dir");
  });

  it("ls lists in name order, whole or by prefix", async () => {
    expect((await holdfast("ls")).stdout).toBe("a-b\na/x\na/y\nb.txt\n");
    expect((await holdfast("ls", "a/")).stdout).toBe("a/x\na/y\n");
    expect((await holdfast("ls", "-0", "a/")).stdout).toBe("a/x\0a/y\0");
    expect((await holdfast("ls", "-l", "b")).stdout).toMatch(/^ +1 {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}b\.txt\n$/u);
    expect(await holdfast("ls", "zzz")).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });

  it("ls --json prints an object a line", async () => {
    const result = await holdfast("ls", "--json", "a/");
    expect(result.json()).toEqual([
      expect.objectContaining({
        type: "object",
        object: "a/x",
        size: 2,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/u) as string,
      }),
      expect.objectContaining({ type: "object", object: "a/y", size: 3 }),
    ]);
  });

  it("stat shows size and digest; what is absent exits 4", async () => {
    expect((await holdfast("stat", "a/x")).stdout).toMatch(/name +a\/x\nsize +2 \(2 B\)\nsha256 +[0-9a-f]{64}\n/u);
    const absent = await holdfast("--json", "stat", "a");
    expect(absent.code).toBe(4);
    expect(absent.json()).toEqual([expect.objectContaining({ type: "error", code: "not-found", object: "a" })]);
  });

  it("rm deletes from every store; what is absent exits 4, unless forced", async () => {
    const result = await holdfast("rm", "a/x", "b.txt");
    expect([result.code, result.stdout.split("\n").sort()]).toEqual([0, ["", "deleted a/x", "deleted b.txt"]]);
    for (const store of ["a", "b", "c"]) expect(await filesIn(store)).toEqual(["a-b", "a/y"]);
    expect((await holdfast("rm", "a/x")).code).toBe(4);
    expect(await holdfast("rm", "--force", "a/x", "a/y")).toMatchObject({ code: 0, stderr: "" });
  });
});

describe("push and pull", () => {
  it("copy a folder there and back; the second time nothing", async () => {
    await tree({ x: "1", "sub/y": "22", "sub/deeper/z": "", "name with spaces\u00e9\u{1f600}": "4" });
    expect((await holdfast("push", "dir", "photos")).stdout).toMatch(/put 4 files \(4 B\), 0 unchanged\n$/u);
    expect((await holdfast("push", "dir", "photos")).stdout).toBe("put 0 files (0 B), 4 unchanged\n");
    expect((await holdfast("pull", "out", "photos/")).stdout).toMatch(/got 4 objects \(4 B\), 0 unchanged\n$/u);
    expect(await filesIn("out")).toEqual(await filesIn("dir"));
    expect((await holdfast("pull", "out", "photos")).stdout).toBe("got 0 objects (0 B), 4 unchanged\n");
  });

  it("give many small files back as they were, and name the one that cannot be written", async () => {
    const paths = Array.from({ length: 300 }, (_, at) => (at % 2 === 0 ? `f${at}` : `sub/f${at}`));
    await tree(Object.fromEntries(paths.map((path, at) => [path, at === 9 ? "" : `content ${at}`])));
    for (const [at, path] of paths.entries()) {
      await chmod(join(home, "dir", path), at % 2 === 0 ? 0o640 : 0o700);
      await utimes(join(home, "dir", path), 1_000_000_000, 1_000_000_000 + at);
    }
    expect((await holdfast("push", "dir")).code).toBe(0);
    await mkdir(join(home, "out/f298/in-the-way"), { recursive: true });
    const result = await holdfast("pull", "out");
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: cannot write .*f298: it is a folder\n$/u),
    ]);
    expect(result.stdout).toMatch(/got 299 objects .*1 FAILED\n$/u);
    expect(await filesIn("out")).toEqual(paths.filter((path) => path !== "f298").sort());
    for (const [at, path] of paths.entries()) {
      if (path === "f298") continue;
      const { mode, mtimeMs } = await stat(join(home, "out", path));
      const content = await readFile(join(home, "out", path), "utf8");
      expect([content, mode & 0o777, mtimeMs]).toEqual([
        at === 9 ? "" : `content ${at}`,
        at % 2 === 0 ? 0o640 : 0o700,
        (1_000_000_000 + at) * 1000,
      ]);
    }
  });

  it("notice a change that keeps size and time", async () => {
    await tree({ x: "old" });
    await holdfast("push", "dir");
    const before = (await stat(join(home, "dir/x"))).mtimeMs / 1000;
    await writeFile(join(home, "dir/x"), "new");
    await utimes(join(home, "dir/x"), before, before);
    expect((await holdfast("push", "dir")).stdout).toMatch(/put 1 file/u);
    await writeFile(join(home, "dir/x"), "bad");
    await holdfast("pull", "dir");
    expect(await readFile(join(home, "dir/x"), "utf8")).toBe("new");
  });

  it("find the one file among very many that changed, in the folder and in the pool", async () => {
    const names = Array.from({ length: 1100 }, (_, place) => `d/${String(place).padStart(4, "0")}`);
    await tree(Object.fromEntries(names.map((name) => [name, name])));
    expect((await holdfast("push", "--quiet", "dir")).code).toBe(0);
    await writeFile(join(home, "dir/d/0777"), "d/0778");
    expect((await holdfast("push", "dir")).stdout).toBe("put d/0777 (6 B)\nput 1 file (6 B), 1099 unchanged\n");
    await writeFile(join(home, "dir/d/0900"), "d/0901");
    await writeFile(join(home, "dir/d/0901"), "longer than it was");
    expect((await holdfast("pull", "dir")).stdout).toMatch(/\ngot 2 objects \(12 B\), 1098 unchanged\n$/u);
    expect(await readFile(join(home, "dir/d/0900"), "utf8")).toBe("d/0900");
  });

  it("push --delete makes an exact copy, and touches nothing outside the prefix", async () => {
    await given("p/gone", "1");
    await given("q/kept", "1");
    await given("p-kept", "1");
    await tree({ x: "1" });
    expect((await holdfast("push", "--dry-run", "--delete", "dir", "p")).stdout).toMatch(/would delete p\/gone/u);
    expect((await holdfast("ls")).stdout).toBe("p-kept\np/gone\nq/kept\n");
    const result = await holdfast("push", "--delete", "dir", "p");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect((await holdfast("ls")).stdout).toBe("p-kept\np/x\nq/kept\n");
  });

  it("push --delete keeps the object of a file that is moved while its folder is read", async () => {
    for (const name of ["moved", "superfluous"]) await given(name, "1");
    await tree({ a: "1", moved: "1" });
    // It is moved after the folder was read, when it is looked at.
    const hook = `
      import fs from "node:fs/promises";
      import { syncBuiltinESMExports } from "node:module";
      const { lstat } = fs;
      fs.lstat = async (path) => {
        if (String(path).endsWith("/dir/moved")) await fs.rename(path, path + "-away");
        return lstat(path);
      };
      syncBuiltinESMExports();`;
    await writeFile(join(home, "hook.mjs"), hook);
    const env = { NODE_OPTIONS: `--import ${join(home, "hook.mjs")}` };
    const result = await runCommand(["-p", "pool.json", "push", "--delete", "dir"], { cwd: home, env });
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect((await holdfast("ls")).stdout).toBe("a\nmoved\n");
    expect((await holdfast("push", "--delete", "dir")).code).toBe(0);
    expect((await holdfast("ls")).stdout).toBe("a\nmoved-away\n");
  });

  it("push --delete of a folder without files deletes nothing, unless forced", async () => {
    await given("x", "1");
    await mkdir(join(home, "empty"));
    const refused = await holdfast("push", "--delete", "empty");
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/nothing was deleted/u)]);
    expect((await holdfast("ls")).stdout).toBe("x\n");
    expect((await holdfast("push", "--delete", "--force", "empty")).code).toBe(0);
    expect((await holdfast("ls")).stdout).toBe("");
  });

  it("push --delete deletes nothing when a file could not be stored", async () => {
    await given("gone", "1");
    await tree({ good: "1" });
    await writeFile(Buffer.concat([Buffer.from(`${home}/dir/bad`), Buffer.from([0xff, 0xfe])]), "1");
    const result = await holdfast("push", "--delete", "dir");
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/is not UTF-8/u);
    expect(result.stderr).toMatch(/nothing was deleted: 1 file could not be stored/u);
    expect(result.stdout).toMatch(/put 1 file .*1 FAILED/u);
    expect((await holdfast("ls")).stdout).toBe("gone\ngood\n");
  });

  it("push --delete follows files that became folders, and folders that became files", async () => {
    await tree({ a: "1", "b/x/y": "2", "b/z": "3", other: "4" });
    expect((await holdfast("push", "dir", "p")).code).toBe(0);
    await rm(join(home, "dir"), { recursive: true });
    await tree({ "a/x": "5", "a/deep/er": "6", b: "7" });
    const plain = await holdfast("push", "dir", "p");
    expect([plain.code, plain.stderr]).toEqual([1, expect.stringMatching(/a folder cannot hold both/u)]);
    const result = await holdfast("push", "--delete", "dir", "p");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect((await holdfast("ls")).stdout).toBe("p/a/deep/er\np/a/x\np/b\n");
    expect(await readFile(join(home, "a/p/b"), "utf8")).toBe("7");
  });

  it("push --delete removes nothing that stands in the way while another file could not be stored", async () => {
    await tree({ a: "1", other: "4" });
    expect((await holdfast("push", "dir")).code).toBe(0);
    await rm(join(home, "dir"), { recursive: true });
    await tree({ "a/x": "5", [`${"n".repeat(100)}/${"n".repeat(200)}`]: "too long" });
    await mkdir(join(home, "dir/none"));
    await symlink("nowhere", join(home, "dir/none/link"));
    const result = await holdfast("push", "--delete", "--links", "follow", "dir");
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/nothing was deleted/u)]);
    expect((await holdfast("ls")).stdout).toContain("a\nn");
  });

  it("pull --delete follows files that became folders, and folders that became files", async () => {
    await tree({ "a/x": "1", "a/deep/er": "2", b: "3", c: "4" });
    expect((await holdfast("push", "dir")).code).toBe(0);
    await tree({ a: "5", "b/x/y": "6", "b/z": "7", other: "8" }, "out");
    await mkdir(join(home, "out/c/empty"), { recursive: true });
    const plain = await holdfast("pull", "out");
    expect([plain.code, plain.stderr]).toEqual([1, expect.stringMatching(/is in the way|it is a folder/u)]);
    const result = await holdfast("pull", "--delete", "out");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(await filesIn("out")).toEqual(["a/deep/er", "a/x", "b", "c"]);
  });

  it("pull --delete removes no empty folder that a link leads to", async () => {
    await tree({ "a/x": "1", k: "2" });
    expect((await holdfast("push", "dir")).code).toBe(0);
    await mkdir(join(home, "elsewhere/x"), { recursive: true });
    await tree({ k: "2" }, "out");
    await symlink(join(home, "elsewhere"), join(home, "out/a"));
    expect((await holdfast("pull", "--delete", "out")).code).toBe(0);
    expect(await readdir(join(home, "elsewhere"))).toEqual(["x"]);
    expect(await filesIn("out")).toEqual(["a/x", "k"]);
  });

  it("push --delete and pull --delete act on no incomplete listing", async () => {
    await writePool("stripe.json", { mode: "stripe" });
    for (const name of ["1", "2", "3", "4", "5", "6"]) await given(name, name, "stripe.json");
    await tree({ "0": "0", "1": "1" });
    // Without the index and with a store's ledger gone, nobody knows what that store holds.
    await takeAway("a");
    await rm(join(home, ".cache"), { recursive: true });
    const before = await filesIn("b");
    const push = await runCommand(["-p", "stripe.json", "push", "--delete", "dir"], { cwd: home });
    expect(push.code).not.toBe(0);
    for (const name of before) expect(await filesIn("b")).toContain(name);
    await tree({ mine: "1" }, "out");
    const pull = await runCommand(["-p", "stripe.json", "pull", "--delete", "out"], { cwd: home });
    expect(pull.code).not.toBe(0);
    expect(pull.stderr).toMatch(/nothing was deleted/u);
    expect(await filesIn("out")).toContain("mine");
  });

  it("pull --delete makes an exact copy of the folder", async () => {
    await given("x", "1");
    await given("sub/y", "1");
    await tree({ "other/deep/z": "1", "sub/w": "1", x: "2" }, "out");
    await symlink("/etc", join(home, "out/link"));
    const result = await holdfast("pull", "--delete", "out");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(await filesIn("out")).toEqual(["sub/y", "x"]);
    expect(await readdir(join(home, "out"))).toEqual(["sub", "x"]);
    expect(await readdir("/etc")).not.toEqual([]);
  });

  it("push names links and other odd things, and exits 3", async () => {
    await tree({ x: "1" });
    await symlink("x", join(home, "dir/link"));
    const result = await holdfast("push", "dir");
    expect([result.code, result.stderr]).toEqual([3, "warning: not stored: link is a symbolic link\n"]);
    expect((await holdfast("push", "--links", "ignore", "dir")).code).toBe(0);
    expect((await holdfast("push", "--links", "follow", "dir")).code).toBe(0);
    expect((await holdfast("ls")).stdout).toBe("link\nx\n");
    await symlink(".", join(home, "dir/loop"));
    const loop = await holdfast("push", "--links", "follow", "dir");
    expect([loop.code, loop.stderr]).toEqual([1, expect.stringMatching(/loop.*leads back/u)]);
  });

  it("pull writes through no link out of the folder", async () => {
    await given("fine", "1");
    await mkdir(join(home, "outside"));
    await mkdir(join(home, "out"));
    await symlink("../outside", join(home, "out/dir"));
    await given("dir/file", "1");
    const result = await holdfast("pull", "out");
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/in the way/u)]);
    expect(await readdir(join(home, "outside"))).toEqual([]);
    expect(await readFile(join(home, "out/fine"), "utf8")).toBe("1");
  });
});

describe("a store that is gone", () => {
  it("put is degraded: exit 3, named, owed; repair puts it right", async () => {
    await given("before", "1");
    await takeAway("b");
    const put = await runCommand(["--json", "-p", "pool.json", "put", "-", "x"], { cwd: home, input: "data" });
    expect(put.code).toBe(3);
    expect(put.json()).toEqual([
      expect.objectContaining({ type: "warning", code: "degraded", object: "x", store: "B", owes: "copy" }),
      expect.objectContaining({
        type: "put",
        object: "x",
        size: 4,
        owed: [expect.objectContaining({ object: "x", store: "B", owes: "copy" })],
      }),
    ]);
    const status = await holdfast("--json", "status", "--debts");
    expect(status.code).toBe(3);
    // What stood there is gone as well.
    expect(status.json()).toContainEqual(
      expect.objectContaining({ type: "store-status", label: "B", trouble: "missing", owedCopies: 2 }),
    );
    expect(status.json()).toContainEqual(
      expect.objectContaining({ type: "debt", object: "x", store: "B", owes: "copy" }),
    );
    expect(status.json().at(-1)).toMatchObject({ type: "status", mode: "mirror", degraded: 2, exitCode: 3 });
    expect((await holdfast("get", "x", "-")).stdout).toBe("data");

    await rm(join(home, "b"));
    const plain = await holdfast("repair");
    expect(plain.code).toBe(3);
    const repair = await holdfast("repair", "--refill", "B");
    expect([repair.code, repair.stderr]).toEqual([0, ""]);
    expect(repair.stdout).toMatch(/the pool is whole\n$/u);
    expect(await readFile(join(home, "b/x"), "utf8")).toBe("data");
    expect((await holdfast("status")).code).toBe(0);
    expect((await holdfast("verify")).stdout).toMatch(/nothing wrong/u);
  });

  it("a push that finds everything unchanged says that the pool is degraded", async () => {
    await tree({ x: "1" });
    await given("before", "1");
    await takeAway("b");
    expect((await holdfast("push", "dir")).code).toBe(3);
    const again = await holdfast("push", "dir");
    expect(again).toMatchObject({ code: 3, stdout: "put 0 files (0 B), 1 unchanged\n" });
    expect(again.stderr).toMatch(/2 objects degraded in the pool/u);
  });

  it("rm owes the delete, and the object stays deleted", async () => {
    await given("x", "1");
    await rm(join(home, "keep"), { recursive: true, force: true });
    const { rename } = await import("node:fs/promises");
    await rename(join(home, "c"), join(home, "keep"));
    await writeFile(join(home, "c"), "not a folder");
    const removed = await holdfast("--json", "rm", "x");
    expect(removed.code).toBe(3);
    expect(removed.json()).toContainEqual(
      expect.objectContaining({
        type: "rm",
        object: "x",
        owed: [expect.objectContaining({ store: "C", owes: "delete" })],
      }),
    );
    await rm(join(home, "c"));
    await rename(join(home, "keep"), join(home, "c"));
    expect((await holdfast("ls")).stdout).toBe("");
    expect((await holdfast("get", "x", "-")).code).toBe(4);
    expect((await holdfast("repair")).code).toBe(0);
    expect(await filesIn("c")).toEqual([]);
  });

  it("stores says which and why", async () => {
    await given("x", "1");
    await rm(join(home, "b"), { recursive: true });
    const result = await holdfast("--json", "stores");
    expect(result.code).toBe(3);
    expect(result.json().map(({ type, label, trouble }) => [type, label, trouble])).toEqual([
      ["store", "A", undefined],
      ["store", "B", "missing"],
      ["store", "C", undefined],
    ]);
    expect((await holdfast("stores")).stdout).toMatch(/B .*MISSING/u);
  });
});

describe("verify, repair, drain, rebalance and drill", () => {
  it("verify names a wrong copy, repair mends it", async () => {
    await given("x", "right");
    await writeFile(join(home, "b/x"), "wrong");
    const verify = await holdfast("--json", "verify");
    expect(verify.code).toBe(3);
    expect(verify.json()[0]).toMatchObject({ type: "finding", kind: "corrupt", object: "x", store: "B" });
    expect(verify.json().at(-1)).toMatchObject({
      type: "summary",
      command: "verify",
      objects: 1,
      copies: 3,
      findings: 1,
    });
    expect(await readFile(join(home, "b/x"), "utf8")).toBe("wrong");
    const plan = await holdfast("repair", "--dry-run");
    expect([plan.code, plan.stdout]).toEqual([3, expect.stringMatching(/copy .*x.*B/u)]);
    expect(await readFile(join(home, "b/x"), "utf8")).toBe("wrong");
    expect((await holdfast("repair")).code).toBe(0);
    expect(await readFile(join(home, "b/x"), "utf8")).toBe("right");
    expect((await holdfast("--json", "repair")).json().at(-1)).toMatchObject({ planned: 0, done: 0, whole: true });
  });

  it("verify of what no good copy is left of exits 1", async () => {
    await given("x", "right");
    for (const store of ["a", "b", "c"]) await writeFile(join(home, store, "x"), "wrong");
    expect((await holdfast("verify")).code).toBe(1);
    const got = await holdfast("get", "x", "out");
    expect(got.code).toBe(1);
    expect(await readdir(home)).not.toContain("out");
  });

  it("drain empties a store of a stripe, and says when it may go", async () => {
    await writePool("stripe.json", { mode: "stripe" });
    const stripe = (...args: string[]): Promise<CommandResult> =>
      runCommand(["-p", "stripe.json", ...args], { cwd: home });
    for (const name of ["1", "2", "3", "4", "5", "6"]) await given(name, name, "stripe.json");
    expect(await filesIn("b")).toHaveLength(2);
    const drained = await stripe("drain", "B");
    expect([drained.code, drained.stderr]).toEqual([0, ""]);
    expect(drained.stdout).toMatch(/may be taken out/u);
    expect(await filesIn("b")).toEqual([]);
    expect((await stripe("ls")).stdout).toBe("1\n2\n3\n4\n5\n6\n");
    expect((await stripe("drain", "nonsense")).code).not.toBe(0);
  });

  it("drill says what would be lost", async () => {
    await writePool("stripe.json", { mode: "stripe" });
    for (const name of ["1", "2", "3"]) await given(name, name, "stripe.json");
    const drill = await runCommand(["-p", "stripe.json", "--json", "drill", "--store", "B"], { cwd: home });
    expect(drill.code).toBe(3);
    expect(drill.json().filter(({ type }) => type === "lost")).toHaveLength(1);
    expect(drill.json().at(-1)).toMatchObject({ type: "summary", command: "drill", store: "B", lost: 1 });
    await rm(join(home, ".cache"), { recursive: true });
    for (const store of ["a", "b", "c"]) await rm(join(home, store), { recursive: true });
    await given("m", "1");
    expect((await holdfast("drill", "--store", "A")).stdout).toMatch(/nothing would be lost/u);
  });

  it("rebalance fills a store of a mirror that came late", async () => {
    await writeFile(
      join(home, "two.json"),
      JSON.stringify({ mode: "mirror", stores: ["a", "b"].map((s) => ({ url: `file://${home}/${s}` })) }),
    );
    await given("x", "1", "two.json");
    expect((await holdfast("rebalance")).code).toBe(0);
    expect(await filesIn("c")).toEqual(["x"]);
  });
});

describe("check-store", () => {
  it("tries a folder, and leaves nothing", async () => {
    const result = await runCommand(["check-store", "--json", `file://${home}/tried`], { cwd: home });
    expect(result.code).toBe(0);
    const records = result.json();
    expect(records[0]).toMatchObject({ type: "capabilities", prefixNames: false });
    expect(records.filter(({ type, outcome }) => type === "case" && outcome === "passed").length).toBeGreaterThan(5);
    expect(records.find(({ type }) => type === "speed")).toMatchObject({ latencyMs: expect.any(Number) as number });
    expect(records.at(-1)).toMatchObject({ type: "summary", failed: 0 });
    expect(await filesIn("tried")).toEqual([]);
  });

  it("says what is wrong with a store that cannot be reached", async () => {
    await writeFile(join(home, "file"), "");
    const result = await runCommand(["check-store", join(home, "file/inside")], { cwd: home });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/^error: /u);
    expect((await runCommand(["check-store", "multi:///x"], { cwd: home })).code).toBe(2);
  });
});

describe("wrong usage exits 2, with a message and nothing on stdout", () => {
  it.each([
    [["ls", "--nonsense"]],
    [["nonsense"]],
    [["put"]],
    [["put", "-"]],
    [["put", "-", ""]],
    [["get", ""]],
    [["get", "a/"]],
    [["get", "x".repeat(1025)]],
    [["rm"]],
    [["push"]],
    [["push", "absent-folder"]],
    [["push", "pool.json"]],
    [["push", "--jobs", "0", "."]],
    [["push", "--links", "x", "."]],
    [["verify", "--sample", "0"]],
    [["verify", "--sample", "x"]],
    [["drain"]],
    [["completion", "tcsh"]],
  ])("holdfast %j", async (args) => {
    const result = await holdfast(...args);
    expect([result.code, result.stdout]).toEqual([2, ""]);
    expect(result.stderr).toMatch(/^error: .{10,}\n$/su);
    expect(result.stderr).not.toMatch(/\n +at /u);
  });

  it("no pool, and no pool file", async () => {
    expect(await runCommand(["ls"], { cwd: home })).toMatchObject({
      code: 2,
      stderr: "error: no pool is given: use -p POOL, or set HOLDFAST_POOL\n",
    });
    expect((await runCommand(["-p", "absent.json", "ls"], { cwd: home })).code).toBe(2);
    expect((await runCommand(["-p", "nonsense://x", "ls"], { cwd: home })).code).toBe(2);
  });

  it("a sample of the wrong pools, without their secrets", async () => {
    const wrong = wrongPools().filter((_, index) => index % 50 === 7);
    expect(wrong.length).toBeGreaterThan(8);
    for (const { query, file } of wrong) {
      await writeFile(join(home, "wrong.json"), file);
      const result = await runCommand(["-p", `multi://${home}/wrong.json${query}`, "--json", "--debug", "ls"], {
        cwd: home,
      });
      expect([query, result.code]).toEqual([query, 2]);
      expect(result.json()).toEqual([expect.objectContaining({ type: "error", code: "config" })]);
      expect(result.stdout + result.stderr).not.toContain(SECRET);
    }
  });
});

describe("secrets", () => {
  it("are in no output, --debug included", async () => {
    const stores = [
      { url: `file://${home}/a` },
      { url: `sftp://user:${SECRET}@127.0.0.1:1/x`, env: [{ name: "SSH_PASSWORD", value: `${SECRET}2` }] },
      {
        url: "s3://127.0.0.1:1/bucket/x",
        env: [
          { name: "AWS_ACCESS_KEY_ID", value: "id" },
          { name: "AWS_SECRET_ACCESS_KEY", value: SECRET },
        ],
      },
    ];
    await writeFile(
      join(home, "secret.json"),
      JSON.stringify({ mode: "mirror", attempts: 1, deadline: "2s", stores }),
      { mode: 0o644 },
    );
    const debug = (args: string[]): Promise<CommandResult> =>
      runCommand(["-p", "secret.json", "--debug", ...args], { cwd: home, input: "1" });
    // Two of its stores do not answer: it is made only because it is to be.
    const early = await debug(["put", "-", "x"]);
    expect(early.code).toBe(1);
    const created = await debug(["create"]);
    const put = await debug(["put", "-", "x"]);
    expect(put.code).toBe(3);
    expect(put.stderr).toMatch(/holds credentials and can be read by others/u);
    for (const args of [["stores"], ["status", "--debts"], ["ls"], ["verify"]]) {
      const result = await debug(args);
      expect(result.stdout + result.stderr).not.toContain(SECRET);
    }
    for (const { stdout, stderr } of [early, created, put]) expect(stdout + stderr).not.toContain(SECRET);
  });
});

describe("help and version", () => {
  it("are on stdout and exit 0", async () => {
    expect(await runCommand(["--version"], { cwd: home })).toMatchObject({ code: 0, stdout: "0.1.0\n", stderr: "" });
    const help = await runCommand(["--help"], { cwd: home });
    expect([help.code, help.stderr]).toEqual([0, ""]);
    expect(help.stdout).toMatch(/Exit codes:/u);
    expect((await runCommand(["help", "push"], { cwd: home })).stdout).toMatch(/--delete/u);
    expect((await runCommand(["completion", "bash"], { cwd: home })).stdout).toMatch(/complete .*holdfast/u);
  });
});

describe("being stopped", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s in the middle of a put leaves nothing and exits %i", async (signal, code) => {
    await given("x", "old");
    const child = await startCommand(["-p", "pool.json", "put", "-", "x"], { cwd: home });
    let stderr = "";
    child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const chunk = Buffer.alloc(1024 * 1024, 1);
    // When eight times as much as all pipes and buffers hold has gone, the put is under way.
    for (let i = 0; i < 32; i++) if (child.stdin?.write(chunk) === false) await once(child.stdin, "drain");
    child.kill(signal);
    expect(await exitOf(child)).toBe(code);
    expect(stderr).toBe("");
    for (const store of ["a", "b", "c"]) expect(await filesIn(store)).toEqual(["x"]);
    expect((await holdfast("get", "x", "-")).stdout).toBe("old");
  });

  it("a closed stdout ends ls without a stack", async () => {
    await tree(Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${"long-name-".repeat(20)}${i}`, "1"])));
    await holdfast("push", "-q", "dir");
    const child = await startCommand(["-p", "pool.json", "ls", "--json"], { cwd: home });
    let stderr = "";
    child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdout?.destroy();
    expect([await exitOf(child), stderr]).toEqual([141, ""]);
  });
});
