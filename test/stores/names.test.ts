/**
 * 2,000 nasty names: each is held exactly, or refused; none is taken for another, and none gets out of a folder. The
 * names come from a seed, which is printed: `HOLDFAST_SEED=n npx vitest run test/stores/names.test.ts` repeats a run.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { hasCode, mapLimit, rejects } from "../../src/conformance/help.ts";
import { compareNames } from "../../src/contract/names.ts";
import type { Store } from "../../src/contract/store.ts";
import { FileStore } from "../../src/stores/file/file-store.ts";
import { MemoryStore } from "../../src/stores/memory.ts";

const COUNT = 2000;
const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 2 ** 31);

/** Parts that mean something to a file system, a shell, a protocol, or to people. */
const TELLING = [
  ["", ".", "..", "...", " ", ".. ", " ..", "a", "A", "b.", "b ", "~", "-", "%2e%2e", "%00", "..%2f", "\\", "..\\"],
  [
    "\n",
    "\r\n",
    "\u0000",
    "caf\u00e9",
    "cafe\u0301",
    "\ud800",
    "\udfff",
    "\u{1f680}",
    "con",
    "nul",
    ".holdfast",
    "tmp",
  ],
  ["etc", "passwd", "$HOME", "`id`", "*", "?", "#", "+", "\u202e", "\ufeff", "\u00df", "SS", "\u0130", "i\u0307"],
].flat();

const part = fc.oneof(
  { weight: 3, arbitrary: fc.string({ unit: "binary", maxLength: 12 }) },
  { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 8 }) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(...TELLING),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom("n", "\u00e4", "\u{1f680}"), fc.integer({ min: 60, max: 260 }))
      .map(([letter, count]) => letter.repeat(count)),
  },
  { weight: 1, arbitrary: fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((c) => String.fromCharCode(c)) }) },
);
const name = fc.oneof(
  { weight: 8, arbitrary: fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/")) },
  { weight: 1, arbitrary: part.map((last) => `../../../../${last}`) },
  { weight: 1, arbitrary: part.map((last) => `/${last}`) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1000, max: 1040 }).map((bytes) => "long/".repeat(210).slice(0, bytes - 1) + "e"),
  },
);

const names = [...new Set(fc.sample(name, { numRuns: COUNT * 2, seed }))].slice(0, COUNT);

beforeAll(() => console.info(`names of seed ${seed}`));

/** Puts every name, and fails unless the store then holds exactly those that it took. */
async function check(store: Store): Promise<{ held: number; refused: number }> {
  const held = new Map<string, string>();
  const refused: string[] = [];
  // `conflict`: a name below another one, which a folder cannot hold.
  const wanted = store.capabilities.prefixNames ? ["invalid"] : ["invalid", "conflict"];
  await mapLimit(names, 16, async (name, i) => {
    const content = `content ${i}`;
    try {
      await store.put(name, toBody(content));
      held.set(name, content);
    } catch (error) {
      const refusal = hasCode(error, "any", `put of ${JSON.stringify(name)}`);
      assert.ok(wanted.includes(refusal.code), `${JSON.stringify(name)}: ${refusal.message}`);
      assert.equal(refusal.object, name);
      refused.push(name);
    }
  });
  await mapLimit([...held], 16, async ([name, content]) => {
    const result = await store.get(name);
    assert.equal(Buffer.from(await collect(result.body)).toString(), content, JSON.stringify(name));
  });
  await mapLimit(refused, 16, (name) => rejects(store.get(name), ["invalid", "not-found"], JSON.stringify(name)));
  const listed = [];
  for await (const info of store.list("")) listed.push(info.name);
  assert.deepEqual(listed, [...held.keys()].sort(compareNames));
  return { held: held.size, refused: refused.length };
}

it("there are enough names, of every sort", () => {
  expect(names.length).toBe(COUNT);
  expect(names.some((name) => !name.isWellFormed())).toBe(true);
  expect(names.some((name) => name.includes("\0"))).toBe(true);
  expect(names.some((name) => name.includes("../"))).toBe(true);
  expect(names.some((name) => Buffer.byteLength(name) > 1024)).toBe(true);
});

it("memory holds every name that is one", async () => {
  const { held, refused } = await check(new MemoryStore());
  const wellFormed = names.filter(
    (name) => name !== "" && name.isWellFormed() && !name.includes("\0") && Buffer.byteLength(name) <= 1024,
  );
  expect(held).toBe(wellFormed.length);
  expect(refused).toBe(COUNT - wellFormed.length);
});

describe("a folder", () => {
  let base: string;
  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), "holdfast-names-"));
    await mkdir(join(base, "around/etc"), { recursive: true });
    await writeFile(join(base, "around/etc/passwd"), "untouched");
    await writeFile(join(base, "around/passwd"), "untouched");
  });
  afterAll(() => rm(base, { recursive: true }));

  it("holds names as files of exactly that name, or refuses them, and nothing gets out of it", async () => {
    const around = async (): Promise<string[]> =>
      (await readdir(join(base), { recursive: true })).filter((path) => !path.startsWith("around/root/")).sort();
    const root = join(base, "around/root");
    await mkdir(root);
    const before = await around();
    const store = new FileStore(root);
    const { held, refused } = await check(store);
    console.info(`folder: ${held} names held, ${refused} refused`);
    expect(held).toBeGreaterThan(COUNT / 5);
    await store.close();
    expect(await around()).toEqual(before);
    expect(await readFile(join(base, "around/etc/passwd"), "utf8")).toBe("untouched");
    expect(await readFile(join(base, "around/passwd"), "utf8")).toBe("untouched");

    // What is on the disk, byte by byte, is what the store lists.
    const files: string[] = [];
    for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) files.push(join(entry.parentPath, entry.name).slice(root.length + 1));
    }
    const reopened = new FileStore(root);
    const listed = [];
    for await (const info of reopened.list("")) listed.push(info.name);
    expect(files.sort(compareNames)).toEqual(listed);
    await mapLimit(listed, 16, (name) => reopened.delete(name));
    expect(await readdir(root)).toEqual([]);
  });
});
