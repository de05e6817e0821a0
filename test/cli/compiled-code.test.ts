/** What V8 compiled is kept between starts, in processes of their own. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import * as nodeModule from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { commandPath } from "../helpers/command.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
/** Newer versions of Node keep the code themselves, in files of their own form. */
const isNodesOwn = "enableCompileCache" in nodeModule;

let home: string;
let kept: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-compiled-"));
  kept = join(home, "cache", "compiled");
});
afterEach(() => rm(home, { recursive: true, force: true }));

type Environment = Readonly<Record<string, string>>;

/** Starts a process that loads the module with this source, and gives what it prints of it. */
async function load(
  source: string,
  print: string,
  env: Environment = { HOLDFAST_CACHE: join(home, "cache") },
  cwd = tmpdir(),
): Promise<string> {
  const path = join(home, "loaded.cjs");
  await writeFile(path, source);
  const keeper = pathToFileURL(join(dirname(await commandPath()), "compiled-code.js")).href;
  const code = `
    import { createRequire } from "node:module";
    import { keepCompiled } from ${JSON.stringify(keeper)};
    keepCompiled(${JSON.stringify(path)});
    const loaded = createRequire(${JSON.stringify(path)})(${JSON.stringify(path)});
    console.log(${print});`;
  const args = ["--input-type=module", "-e", code];
  const { stdout, stderr } = await run(process.execPath, args, { cwd, env: { HOME: home, ...env } });
  expect(stderr).toBe("");
  return stdout.trim();
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function onlyFile(): Promise<string> {
  const [file, ...others] = await filesIn(kept);
  expect(others).toEqual([]);
  return file ?? "none was kept";
}

function sha256(...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

const FIRST = 'exports.value = "first";';
const OTHER = 'exports.value = "other";';

/** Makes what was compiled of FIRST stand as what was compiled of OTHER. V8 sees no difference: they are of one length. */
async function plant(): Promise<string> {
  await load(FIRST, "loaded.value");
  const file = await onlyFile();
  const compiled = (await readFile(file)).subarray(32);
  const planted = file.replace(sha256(FIRST).toString("hex"), sha256(OTHER).toString("hex"));
  await rm(file);
  await writeFile(planted, Buffer.concat([sha256(sha256(OTHER), compiled), compiled]), { mode: 0o600 });
  return planted;
}

describe.runIf(!isNodesOwn)("the code that V8 compiled", () => {
  it("is what the next start runs", async () => {
    await plant();
    expect(await load(OTHER, "loaded.value")).toBe("first");
  });

  it("is of one source: another of the same length is compiled anew, and kept beside it", async () => {
    expect(await load(FIRST, "loaded.value")).toBe("first");
    expect(await load(OTHER, "loaded.value")).toBe("other");
    expect(await filesIn(kept)).toHaveLength(2);
  });

  it("is passed over where one byte of it is wrong, and made anew", async () => {
    const planted = await plant();
    const bytes = await readFile(planted);
    for (const at of [0, 31, 32, bytes.length >> 1, bytes.length - 1]) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      await writeFile(planted, damaged);
      expect([at, await load(OTHER, "loaded.value")]).toEqual([at, "other"]);
      expect(sha256(await readFile(await onlyFile()))).not.toEqual(sha256(damaged));
    }
    for (const length of [0, 31, 32, bytes.length - 1]) {
      await writeFile(planted, bytes.subarray(0, length));
      expect([length, await load(OTHER, "loaded.value")]).toEqual([length, "other"]);
    }
  });

  it("is not taken from a folder that others could write into", async () => {
    await plant();
    for (const mode of [0o770, 0o701, 0o777]) {
      await chmod(kept, mode);
      expect(await load(OTHER, "loaded.value")).toBe("other");
    }
    await chmod(kept, 0o700);
    expect(await load(OTHER, "loaded.value")).toBe("first");
  });

  it.runIf(process.getuid?.() === 0)("is not taken from another user's folder", async () => {
    await plant();
    await chown(kept, 4321, 4321);
    expect(await load(OTHER, "loaded.value")).toBe("other");
  });

  it("is not taken where others could put another folder in its place", async () => {
    await plant();
    for (const mode of [0o770, 0o707, 0o777]) {
      await chmod(dirname(kept), mode);
      expect(await load(OTHER, "loaded.value")).toBe("other");
    }
    await chmod(dirname(kept), 0o1777);
    expect(await load(OTHER, "loaded.value")).toBe("first");
    if (process.getuid?.() !== 0) return;
    await chown(dirname(kept), 4321, 4321);
    expect(await load(OTHER, "loaded.value")).toBe("other");
  });

  it("is all that is removed from its folder", async () => {
    await mkdir(kept, { recursive: true, mode: 0o700 });
    const others = Array.from({ length: 12 }, (_, at) => join(kept, `other-${at}`));
    for (const file of others) await writeFile(file, "x");
    await load(FIRST, "loaded.value");
    expect((await filesIn(kept)).filter((file) => others.includes(file))).toHaveLength(12);
    expect(await filesIn(kept)).toHaveLength(13);
  });

  it("is kept for the eight that were last made", async () => {
    for (let i = 10; i < 20; i++) await load(`exports.value = "${i}";`, "loaded.value");
    const names = await filesIn(kept);
    const all = Array.from({ length: 10 }, (_, at) => sha256(`exports.value = "${at + 10}";`).toString("hex"));
    expect(all.filter((one) => names.some((name) => name.endsWith(one)))).toEqual(all.slice(-8));
    expect(names).toHaveLength(8);
  });
});

describe("code loaded as it was kept", () => {
  it("has its positions, its names and what it requires, at the first start and at the next", async () => {
    const source = `"use strict"; exports.at = () => new Error("here").stack.split("\\n").slice(0, 2).join();
exports.names = [__filename, __dirname, require.main === module, module.id, module.loaded, this === exports].join();
exports.required = () => require("./beside.cjs") + require("node:path").sep + require("./loaded.cjs").names.length;`;
    await writeFile(join(home, "beside.cjs"), 'module.exports = "beside";');
    const print = "loaded.at(), loaded.names, loaded.required()";
    const plain = await load(source, print, { HOLDFAST_NO_COMPILED_CODE: "1" });
    expect(plain).toMatch(/loaded\.cjs:1:\d+.*beside\/\d+/su);
    expect(await filesIn(home)).toHaveLength(2);
    expect(await load(source, print)).toBe(plain);
    expect(await filesIn(kept)).not.toEqual([]);
    expect(await load(source, print)).toBe(plain);
  });

  it("is none where the folder cannot be made, and none is made in a home that is not there", async () => {
    await writeFile(join(home, "file"), "");
    expect(await load(FIRST, "loaded.value", { HOLDFAST_CACHE: join(home, "file", "cache") })).toBe("first");
    expect(await load(FIRST, "loaded.value", { HOME: join(home, "nowhere") })).toBe("first");
    expect(await readdir(home)).toEqual(["file", "loaded.cjs"]);
    expect(await load(FIRST, "loaded.value", { XDG_CACHE_HOME: join(home, "xdg") })).toBe("first");
    expect(await filesIn(join(home, "xdg", "holdfast", "compiled"))).not.toEqual([]);
    expect(await load(FIRST, "loaded.value", {})).toBe("first");
    expect(await filesIn(join(home, ".cache", "holdfast", "compiled"))).not.toEqual([]);
  });

  it("is none below the working directory, and in the usual place where a setting says nothing", async () => {
    const relative = basename(home);
    const below = join(home, relative);
    const usual = join(home, ".cache", "holdfast", "compiled");
    expect(await load(FIRST, "loaded.value", { HOLDFAST_CACHE: relative }, home)).toBe("first");
    expect([await filesIn(below), await filesIn(usual)]).toEqual([[], []]);
    expect(await load(FIRST, "loaded.value", { HOLDFAST_CACHE: "", XDG_CACHE_HOME: relative }, home)).toBe("first");
    expect(await filesIn(below)).toEqual([]);
    expect(await filesIn(usual)).not.toEqual([]);
    expect((await readdir(home)).sort()).toEqual([".cache", "loaded.cjs"]);
  });

  it("is not written into a folder that others may read or write", async () => {
    await mkdir(kept, { recursive: true });
    await chmod(kept, 0o755);
    expect(await load(FIRST, "loaded.value")).toBe("first");
    expect(await readdir(kept)).toEqual([]);
  });

  it("is the bundled command's", { timeout: 120_000 }, async () => {
    const bundled = join(root, "dist-test", `bundled-${process.pid}`);
    try {
      await run(process.execPath, [join(root, "scripts/bundle-command.mjs"), bundled]);
      const stores = ["a", "b"].map((store) => ({ url: `file://${home}/${store}` }));
      await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
      const env = { HOME: home, HOLDFAST_CACHE: join(home, "cache") };
      const ls = async (): Promise<unknown> =>
        run(process.execPath, [join(bundled, "main.js"), "-p", "pool.json", "ls"], { cwd: home, env });
      const nothing = { stdout: "", stderr: "" };
      expect(await ls()).toEqual(nothing);
      const [file = "none was kept"] = await filesIn(kept);
      const made = await stat(file);
      expect(made.size).toBeGreaterThan(100_000);
      expect(await ls()).toEqual(nothing);
      // What V8 refuses is made anew.
      expect((await stat(file)).ino).toBe(made.ino);
      await writeFile(file, "damaged");
      expect(await ls()).toEqual(nothing);
      expect((await stat(file)).size).toBeGreaterThan(100_000);
    } finally {
      await rm(bundled, { recursive: true, force: true });
    }
  });
});
