/** Folders on file systems that take two names for one, or have no hard links: real ones, where they can be mounted. */
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { FileStore } from "../../../src/stores/file/file-store.ts";
import { localNames, traitsOf } from "../../../src/support/file-system-traits.ts";
import { foldedName, KeptNames } from "../../../src/support/kept-names.ts";
import { runCommand } from "../../helpers/command.ts";
import type { CommandResult } from "../../helpers/command.ts";
import { mountFolding, mountWithoutLinks } from "../../helpers/mounts.ts";
import { readText } from "../../helpers/store-answers.ts";

const folding = await mountFolding();
const linkless = await mountWithoutLinks();
afterAll(async () => {
  await folding?.end();
  await linkless?.end();
});

let home: string;
let count = 0;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-fs-"));
  count++;
});
afterEach(() => rm(home, { recursive: true, force: true }));

const holdfast = (...args: string[]): Promise<CommandResult> => runCommand(["-p", "pool.json", ...args], { cwd: home });
const poolOf = (...folders: string[]): Promise<void> =>
  writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores: folders.map((url) => ({ url })) }));

describe("what a file system does with names", () => {
  it("is found out, and nothing is left of it", async () => {
    expect(await traitsOf(home, "x")).toEqual({ folds: false, changes: false, hasLinks: true });
    expect(await readdir(home)).toEqual([]);
  });

  it.each([
    ["README", "readme"],
    ["stra\u00dfe", "STRASSE"],
    ["\u00e9", "e\u0301"],
    ["a./b", "a/b"],
  ])("%j and %j may be one file", (one, other) => {
    expect(foldedName(one)).toBe(foldedName(other));
  });

  it("names are looked at anew when what is known of them may be wrong", async () => {
    let now = 0;
    const kept = new KeptNames(localNames, () => now);
    await mkdir(join(home, "a"));
    await writeFile(join(home, "a/b"), "");
    expect(await kept.otherThan(home, ["a", "b"])).toBeUndefined();
    await rm(join(home, "a"), { recursive: true });
    now = 2000;
    expect(await kept.otherThan(home, ["a", "b"])).toBeUndefined();
  });
});

describe.runIf(folding !== undefined)("a folder on a file system that folds names", () => {
  let store: FileStore;
  let root: string;
  beforeEach(() => {
    root = join(folding?.folder ?? "", `s${count}`);
    store = new FileStore(root);
  });
  afterEach(() => store.close());

  it("refuses the second of two names that differ in case, and keeps the first", async () => {
    await store.put("dir/readme", toBody("first"));
    expect(store.capabilities.caseSensitive).toBe(false);
    for (const name of ["dir/README", "Dir/readme", "DIR/other"]) {
      await expect(store.put(name, toBody("second"))).rejects.toMatchObject({ code: "conflict" });
    }
    expect(await readText(store, "dir/readme")).toBe("first");
  });

  it("has nothing under another name than that of the object", async () => {
    await store.put("dir/readme", toBody("first"));
    await store.close();
    store = new FileStore(root);
    await mkdir(join(root, ".holdfast"), { recursive: true });
    for (const name of ["dir/README", "Dir/readme"]) {
      await expect(store.get(name)).rejects.toMatchObject({ code: "not-found" });
      await expect(store.stat(name)).rejects.toMatchObject({ code: "not-found" });
      await expect(store.hash?.(name)).rejects.toMatchObject({ code: "not-found" });
      expect(await store.delete(name)).toEqual({ existed: false });
    }
    const listed: string[] = [];
    for await (const { name } of store.list("Dir/")) listed.push(name);
    expect(listed).toEqual([]);
    expect(await readText(store, "dir/readme")).toBe("first");
  });

  it("acknowledges one of many names at once that are one file, at most", async () => {
    await store.put("other", toBody("x"));
    const names = ["name", "Name", "nAme", "naMe", "namE", "NAME"];
    const results = await Promise.allSettled(names.map((name) => store.put(name, toBody(name))));
    const taken = names.filter((_, place) => results[place]?.status === "fulfilled");
    expect(taken.length).toBeLessThanOrEqual(1);
    for (const name of taken) expect(await readText(store, name)).toBe(name);
  });

  it("does not take a name that it would change", async () => {
    await store.put("other", toBody("x"));
    await expect(store.put("New", toBody("x"))).rejects.toMatchObject({ code: "invalid" });
    expect(await readdir(root)).not.toContain("new");
  });

  it("cannot be made to write into Holdfast's own", async () => {
    await store.put("x", toBody("x"));
    await expect(store.put(".HOLDFAST/store.json", toBody("mine"))).rejects.toMatchObject({ code: "conflict" });
  });

  it("push says which object could not be stored", async () => {
    await poolOf(root);
    await mkdir(join(home, "dir"));
    await writeFile(join(home, "dir/README"), "upper");
    await writeFile(join(home, "dir/readme"), "lower");
    const push = await holdfast("push", "dir");
    expect([push.code, push.stderr]).toEqual([
      1,
      expect.stringMatching(/takes the name for "readme"|changes the name "README"/u),
    ]);
    expect((await holdfast("get", "readme", "-")).stdout).toBe("lower");
  });

  it("pull names objects that would be one file, and does not exit 0", async () => {
    await poolOf(join(home, "s"));
    await mkdir(join(home, "dir"));
    await writeFile(join(home, "dir/README"), "upper");
    await writeFile(join(home, "dir/readme"), "lower");
    expect((await holdfast("push", "dir")).code).toBe(0);
    const pull = await holdfast("pull", join(root, "out"));
    expect([pull.code, pull.stderr]).toEqual([1, expect.stringMatching(/"readme".*for one/u)]);
    const again = await holdfast("pull", "--delete", join(root, "out"));
    expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/nothing was deleted/u)]);
    expect(await readdir(join(root, "out"))).toHaveLength(1);
  });
});

describe.runIf(linkless !== undefined)("a folder on a file system without hard links", () => {
  it("joins the pool and takes objects", async () => {
    const root = join(linkless?.folder ?? "", `s${count}`);
    await poolOf(root, join(home, "other"));
    await writeFile(join(home, "f"), "hi");
    expect(await holdfast("put", "f", "x")).toMatchObject({ code: 0, stderr: "" });
    expect(await holdfast("repair")).toMatchObject({ code: 0, stderr: "" });
    expect(await readFile(join(root, "x"), "utf8")).toBe("hi");
  });

  it("says that it cannot decide ifAbsent", async () => {
    const store = new FileStore(join(linkless?.folder ?? "", `s${count}`));
    await expect(store.put("x", toBody("x"), { ifAbsent: true })).rejects.toMatchObject({ code: "unsupported" });
    expect(store.capabilities.conditionalPut).toBe(false);
    await store.close();
  });
});
