/** Every program of examples/ runs, on folders, with what the package exports and nothing else. */
import { execFile } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { commandPath } from "../helpers/command.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const programs = readdirSync(join(root, "examples")).filter((name) => name.endsWith(".mjs"));
mkdirSync(join(root, "dist-test"), { recursive: true });
const app = mkdtempSync(join(root, "dist-test/examples-"));
const tried = new Set<string>();
let place: string;
let pool: string;

/** A program that has the package among its modules, as somebody's own program would. */
beforeAll(async () => {
  const home = join(app, "node_modules/holdfast");
  mkdirSync(home, { recursive: true });
  copyFileSync(join(root, "package.json"), join(home, "package.json"));
  symlinkSync(dirname(dirname(await commandPath())), join(home, "dist"));
  for (const name of programs) copyFileSync(join(root, "examples", name), join(app, name));
}, 180_000);

afterAll(() => rmSync(app, { recursive: true, force: true }));

beforeEach(() => {
  place = mkdtempSync(join(app, "place-"));
  pool = join(place, "pool.json");
  const stores = ["a", "b", "c"].map((name) => ({ description: name, url: join(place, name) }));
  for (const { url } of stores) mkdirSync(url);
  writeFileSync(pool, JSON.stringify({ mode: "mirror", stores }));
});

async function run(name: string, ...args: readonly string[]): Promise<string> {
  tried.add(name);
  const env = { PATH: process.env["PATH"], HOLDFAST_CACHE: join(place, "cache") };
  const { stdout } = await promisify(execFile)(process.execPath, [join(app, name), ...args], { cwd: place, env });
  return stdout;
}

it("mirror-stream.mjs mirrors a stream and reads it back", async () => {
  const file = join(root, "package.json");
  const { length } = readFileSync(file);
  expect(await run("mirror-stream.mjs", pool, file, "x")).toContain(`put ${length} bytes, read ${length}`);
});

it("watch-and-repair.mjs tells what is degraded, and repairs it", async () => {
  expect((await run("watch-and-repair.mjs", pool, join(place, "b"))).split("\n")).toEqual([
    "at first: 1 objects, 0 degraded, 0 lost",
    "the put is owed by 1",
    "without it: 2 objects, 1 degraded, 0 lost",
    "  b: away, owes 1",
    "  copies meanwhile to b",
    "repaired: whole",
    "afterwards: 2 objects, 0 degraded, 0 lost",
    "",
  ]);
});

it("own-store.mjs passes the conformance suite and counts the bytes of each store", async () => {
  mkdirSync(join(place, "suite"));
  const output = await run("own-store.mjs", pool, join(place, "suite"));
  expect(output).toMatch(/^the suite: \d{2,} passed, 0 failed\na: the object\nb: the object\nc: the object\n$/u);
});

it("verify-and-drill.mjs finds the copy that was damaged and gives it to nobody", async () => {
  expect((await run("verify-and-drill.mjs", pool, join(place, "a"))).split("\n")).toEqual([
    "read: Dear reader",
    "found: letter is corrupt on a",
    "verified 3 copies of 1 objects: 1 findings",
    "repaired: whole",
    "drill without a: 1 of 1 objects can be read",
    "",
  ]);
});

it("list-pages.mjs lists every name once, page by page", async () => {
  for (const name of ["p", "q", "r"]) {
    const file = join(place, name);
    writeFileSync(file, name);
    for (const copy of [1, 2]) await run("mirror-stream.mjs", pool, file, `${name}${copy}`);
  }
  expect(await run("list-pages.mjs", pool, "", "4")).toBe("page 1: p1 p2 q1 q2\npage 2: r1 r2\n");
});

it("counter.mjs loses no addition", async () => {
  expect(await run("counter.mjs", pool, "hits", "8")).toBe("hits: 0 + 8 = 8\n");
});

it("every program was run", () => {
  expect(programs.filter((name) => !tried.has(name))).toEqual([]);
});
