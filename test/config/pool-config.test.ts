import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { HoldfastError } from "../../src/contract/errors.ts";
import { findJsonFault } from "../../src/config/json-fault.ts";
import { parsePool } from "../../src/config/pool-config.ts";
import type { ParsePoolOptions, PoolDescription } from "../../src/config/pool-config.ts";
import type { PoolFile } from "../../src/config/pool-file.ts";
import { poolSchema } from "../../src/config/pool-schema.ts";
import { SECRET, wrongPools } from "../helpers/wrong-pools.ts";

/** A file system of pool files. */
function files(content: Record<string, string | Uint8Array>, mode = 0o600): ParsePoolOptions {
  return {
    cwd: "/cwd",
    readFile: (path): Promise<PoolFile | "folder"> => {
      const found = content[path];
      if (found === undefined) {
        return Promise.reject(new HoldfastError("config", `there is no pool file or folder ${path}`));
      }
      if (found === "folder") return Promise.resolve("folder");
      return Promise.resolve({ bytes: typeof found === "string" ? Buffer.from(found) : found, mode });
    },
  };
}

async function pool(url: string, options: ParsePoolOptions): Promise<PoolDescription> {
  const parsed = await parsePool(url, options);
  if (parsed.kind !== "pool") throw new Error(`${url} is no pool`);
  return parsed;
}

async function refusal(text: string, options?: ParsePoolOptions): Promise<HoldfastError> {
  try {
    await parsePool(text, options);
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
  throw new Error(`${text} was accepted`);
}

const THREE = JSON.stringify([{ url: "file:///a" }, { url: "file:///b" }, { url: "file:///c" }]);
const three = files({ "/pool.json": THREE });

describe("the pool's URL", () => {
  it.each([
    ["", "stripe", "continue"],
    ["?", "stripe", "continue"],
    ["?mode=mirror", "mirror", "continue"],
    ["?mode=stripe", "stripe", "continue"],
    ["?onfail=abort", "stripe", "abort"],
    ["?onfail=continue", "stripe", "continue"],
    ["?mode=mirror&onfail=abort", "mirror", "abort"],
    ["?onfail=abort&mode=mirror", "mirror", "abort"],
    ["?mode=mirror&onfail=continue", "mirror", "continue"],
    ["?mode=stripe&onfail=abort", "stripe", "abort"],
    ["?%6Dode=%6Dirror", "mirror", "continue"],
  ])("%s means mode %s, onfail %s", async (query, mode, onfail) => {
    const description = await pool(`multi:///pool.json${query}`, three);
    expect([description.mode, description.onfail]).toEqual([mode, onfail]);
  });

  it("reads every further parameter", async () => {
    const query = "?mode=mirror&min=2&read=fastest&limit-up=1.5M&limit-down=10K&deadline=90s&attempts=7&subpath=/s+p";
    expect(await pool(`multi:///pool.json${query}`, three)).toMatchObject({
      mode: "mirror",
      min: 2,
      read: "fastest",
      limitUp: 1.5 * 1024 * 1024,
      limitDown: 10_240,
      deadlineMs: 90_000,
      attempts: 7,
      subpath: "/s p",
      sourcePath: "/pool.json",
    });
    expect(await pool("multi:///pool.json?place=free&deadline=1h", three)).toMatchObject({
      place: "free",
      deadlineMs: 3_600_000,
    });
  });

  it("gives defaults to what is left out", async () => {
    const description = await pool("multi:///pool.json", three);
    expect(description).toMatchObject({ min: 1, read: "first", place: "round-robin", warnings: [] });
    expect(Object.keys(description)).not.toContain("deadlineMs");
  });

  it("appends the subpath to each store's URL, before its query", async () => {
    const file = JSON.stringify([{ url: "file:///a" }, { url: "s3://h/b?region=x" }, { url: "file:///c?d" }]);
    const description = await pool("multi:///p?subpath=/2024", files({ "/p": file }));
    expect(description.stores.map((store) => store.url)).toEqual([
      "file:///a/2024",
      "s3://h/b/2024?region=x",
      "file:///c?d/2024",
    ]);
    expect(description.stores.map((store) => store.label)).toEqual([
      "file:///a/2024",
      "s3://h/b/2024?region=***",
      "file:///c?d/2024",
    ]);
  });

  it("reads a path that is percent-encoded or relative", async () => {
    const options = files({ "/my pool.json": THREE, "/cwd/sub/pool.json": THREE });
    expect((await pool("multi:///my%20pool.json", options)).sourcePath).toBe("/my pool.json");
    expect((await pool("MULTI://sub/pool.json", options)).sourcePath).toBe("/cwd/sub/pool.json");
  });

  it("takes a pool file's path, a folder's path and a store's URL for what they are", async () => {
    const options = files({ "/pool.json": THREE, "/folder": "folder", "/cwd/pool.json": THREE });
    expect(await parsePool("/pool.json", options)).toMatchObject({ kind: "pool", sourcePath: "/pool.json" });
    expect(await parsePool("pool.json", options)).toMatchObject({ kind: "pool", sourcePath: "/cwd/pool.json" });
    expect(await parsePool("/folder", options)).toMatchObject({ kind: "single", url: "/folder" });
    expect(await parsePool("sftp://u@h/x", options)).toMatchObject({ kind: "single", url: "sftp://u@h/x" });
    expect(await parsePool("file:///folder", options)).toMatchObject({ kind: "single" });
  });
});

describe("the pool's file", () => {
  it("is duplicity's list, with what duplicity ignores said and ignored", async () => {
    const file = JSON.stringify([
      {
        description: "a comment",
        url: "abackend://myuser@domain.com/backup",
        env: [
          { name: "MYENV", value: "xyz" },
          { name: "FOO", value: "bar" },
        ],
      },
      {
        url: "file:///path/to/dir",
        comment: 1,
        description: 2,
        env: [
          { name: "A", value: "1", x: 2 },
          { name: "A", value: "2" },
        ],
      },
    ]);
    const description = await pool("multi:///pool.json", files({ "/pool.json": file }));
    expect(description.stores.map(({ label, env }) => ({ label, env }))).toEqual([
      { label: "a comment", env: { MYENV: "xyz", FOO: "bar" } },
      { label: "file:///path/to/dir", env: { A: "2" } },
    ]);
    expect(description.warnings).toHaveLength(4);
    expect(description.warnings.join("\n")).toMatch(
      /store 2: unknown key "comment"[^]*"description" is a string[^]*unknown key "x"[^]*A is there twice/u,
    );
  });

  it("may be an object with the parameters", async () => {
    const file = JSON.stringify({
      $schema: "x",
      mode: "mirror",
      min: 2,
      deadline: "30s",
      "limit-up": 4096,
      stores: JSON.parse(THREE) as unknown,
    });
    const options = files({ "/pool.json": file });
    expect(await pool("/pool.json", options)).toMatchObject({
      mode: "mirror",
      min: 2,
      deadlineMs: 30_000,
      limitUp: 4096,
    });
    // Saying the same twice, in the file and in the URL, is no contradiction.
    expect(await pool("multi:///pool.json?limit-up=4K&mode=mirror", options)).toMatchObject({ limitUp: 4096 });
  });

  it("keeps prefixes of a mirror and weights of a stripe", async () => {
    const mirror = JSON.stringify([{ url: "file:///a", prefixes: ["x", "x", "y"] }, { url: "file:///b" }]);
    expect((await pool("multi:///p?mode=mirror", files({ "/p": mirror }))).stores[0]?.prefixes).toEqual(["x", "y"]);
    const stripe = JSON.stringify([{ url: "file:///a", weight: 2.5 }, { url: "file:///b" }]);
    const stores = (await pool("multi:///p?place=weighted", files({ "/p": stripe }))).stores;
    expect(stores.map((store) => store.weight)).toEqual([2.5, 1]);
  });

  const labelsOf = async (...stores: unknown[]): Promise<string[]> =>
    (await pool("multi:///p", files({ "/p": JSON.stringify(stores) }))).stores.map((store) => store.label);

  it("calls a store by its description, or else its URL, without control characters", async () => {
    const labels = await labelsOf(
      { url: "file:///c", description: "\u001b[31mred\n" },
      { url: "sftp://u:pw@h/d", description: "  " },
    );
    expect(labels).toEqual(["[31mred", "sftp://u:***@h/d"]);
  });

  it("tells stores of one description apart by their URLs, the first one too", async () => {
    const disk = { description: "disk" };
    const labels = await labelsOf({ url: "file:///a", ...disk }, { url: "file:///b", ...disk }, { url: "file:///c" });
    expect(labels).toEqual(["disk (file:///a)", "disk (file:///b)", "file:///c"]);
  });

  it("numbers stores of one description and one URL, and gives no label twice for that", async () => {
    const account = (value: string, description?: string): unknown => ({
      url: "azure://backup",
      description,
      env: [{ name: "AZURE_ACCOUNT_NAME", value }],
    });
    expect(await labelsOf(account("1"), account("2"))).toEqual(["azure://backup (1)", "azure://backup (2)"]);
    const taken = { url: "file:///a", description: "old (2)" };
    expect(await labelsOf(account("1", "old"), taken, account("2", "old"), { ...taken, url: "file:///b" })).toEqual([
      "old (1)",
      "old (2) (file:///a)",
      "old (3)",
      "old (2) (file:///b)",
    ]);
    expect(await labelsOf(account("1", "old"), taken, account("2", "old"))).toEqual(["old (1)", "old (2)", "old (3)"]);
  });

  it("nests: the outer pool's env and subpath reach the inner stores", async () => {
    const options = files({
      "/outer.json": JSON.stringify([
        {
          url: "multi:///inner.json?mode=stripe&subpath=/in",
          env: [
            { name: "A", value: "outer" },
            { name: "B", value: "outer" },
          ],
        },
        { url: "file:///c" },
      ]),
      "/inner.json": JSON.stringify([{ url: "file:///a", env: [{ name: "B", value: "inner" }] }, { url: "file:///b" }]),
    });
    const outer = await pool("multi:///outer.json?mode=mirror&subpath=/out", options);
    const inner = outer.stores[0]?.pool;
    expect(inner?.stores.map(({ url, env }) => ({ url, env }))).toEqual([
      { url: "file:///a/in/out", env: { A: "outer", B: "inner" } },
      { url: "file:///b/in/out", env: { A: "outer", B: "outer" } },
    ]);
    expect(outer.stores[1]?.env).toEqual({});
  });

  it("may not nest in a circle, however long", async () => {
    const options = files({
      "/a.json": JSON.stringify([{ url: "multi:///b.json" }]),
      "/b.json": JSON.stringify([{ url: "file:///x" }, { url: "multi:///a.json?mode=mirror" }]),
    });
    const error = await refusal("multi:///a.json", options);
    expect(error.message).toBe('a pool cannot be a store of itself: "/a.json" → "/b.json" → "/a.json"');
  });

  it("may use one pool's file twice side by side, with different subpaths", async () => {
    const options = files({
      "/a.json": JSON.stringify([{ url: "multi:///b.json?subpath=/1" }, { url: "multi:///b.json?subpath=/2" }]),
      "/b.json": JSON.stringify([{ url: "file:///x" }]),
    });
    expect((await pool("multi:///a.json", options)).stores).toHaveLength(2);
  });

  it("is warned about when it holds credentials that others can read", async () => {
    const secret = {
      "/p": JSON.stringify([{ url: "s3://h/b", env: [{ name: "AWS_SECRET_ACCESS_KEY", value: SECRET }] }]),
    };
    const warning = (await pool("/p", files(secret, 0o644))).warnings.join();
    expect(warning).toMatch(/holds credentials and can be read by others \(mode 644\)/u);
    expect(warning).not.toContain(SECRET);
    expect((await pool("/p", files(secret, 0o600))).warnings).toEqual([]);
    expect((await pool("/pool.json", files({ "/pool.json": THREE }, 0o644))).warnings).toEqual([]);
    const url = { "/p": JSON.stringify([{ url: `sftp://u:${SECRET}@h/b` }]) };
    expect((await pool("/p", files(url, 0o640))).warnings).toHaveLength(1);
  });

  it("may set no own property by a strange name", async () => {
    const file = '[{"url":"file:///a","env":[{"name":"__proto__","value":"x"},{"name":"constructor","value":"y"}]}]';
    const env = (await pool("/p", files({ "/p": file }))).stores[0]?.env ?? {};
    expect(Object.entries(env)).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
  });
});

describe("wrong configurations", () => {
  const wrong = wrongPools();

  it("number at least 500", () => {
    expect(wrong.length).toBeGreaterThanOrEqual(500);
    expect(new Set(wrong.map(({ query, file }) => `${query} ${String(file)}`)).size).toBeGreaterThanOrEqual(500);
  });

  it.each(wrong)("$title: a clear config error without a secret", async ({ query, file, names }) => {
    const error = await refusal(`multi:///pool.json${query}`, files({ "/pool.json": file }));
    expect(error.code).toBe("config");
    expect(error.retryable).toBe(false);
    expect(error.message).toMatch(names);
    expect(error.message.length).toBeGreaterThan(20);
    expect(error.message).not.toContain(SECRET);
    // oxlint-disable-next-line eslint/no-control-regex -- a message goes to a terminal
    expect(error.message).not.toMatch(/[\u0000-\u001f]/u);
  });
});

describe("JSON faults", () => {
  it.each([
    ['[\n  {"url": "a"},\n  {"url" "b"}\n]', 3, 10, /colon/u],
    ['[\n  {"url": "a"}\n', 3, 1, /ends where a comma or \]/u],
    ['{"a":1,\n"a":2}', 2, 1, /"a" is there twice/u],
    ['["a\tb"]', 1, 2, /string/u],
  ])("in %j are at line %i, column %i", (text, line, column, what) => {
    expect(findJsonFault(text)).toMatchObject({ line, column });
    expect(findJsonFault(text)?.what).toMatch(what);
  });

  it("are found exactly where JSON.parse finds one", () => {
    const base = '{"a":[1,-0.5e+3,"x\\u00e9\\n",true,null,{}],"b":{"c":[]}} ';
    let checked = 0;
    for (let at = 0; at < base.length; at++) {
      for (const text of [
        base.slice(0, at) + base.slice(at + 1),
        ...'{}[]",:\\0e. \n'.split("").map((c) => base.slice(0, at) + c + base.slice(at)),
      ]) {
        let valid = true;
        try {
          JSON.parse(text);
        } catch {
          valid = false;
        }
        const fault = findJsonFault(text);
        // Only this knows of keys that are there twice.
        const repeated = fault?.what.includes("twice") === true;
        expect([text, fault === undefined || repeated]).toEqual([text, valid]);
        checked++;
      }
    }
    expect(checked).toBeGreaterThan(500);
  });
});

describe("the published schema", () => {
  it("is the one that is made from the parser's table", async () => {
    const published: unknown = JSON.parse(
      await readFile(new URL("../../src/config/pool.schema.json", import.meta.url), "utf8"),
    );
    expect(published).toEqual(poolSchema());
  });

  it("accepts what the parser accepts and refuses what it can tell is wrong", async () => {
    const schema = z.fromJSONSchema(poolSchema());
    const good: unknown[] = [
      JSON.parse(THREE),
      [{ url: "x", description: 1, other: 2 }],
      { mode: "mirror", min: 1, stores: [{ url: "file:///a", prefixes: ["p"], env: [{ name: "A", value: "b" }] }] },
      {
        place: "weighted",
        "limit-up": "1.5M",
        "limit-down": 100,
        deadline: "500ms",
        attempts: 3,
        stores: [{ url: "file:///a", weight: 2 }],
      },
    ];
    for (const value of good) {
      expect([value, schema.safeParse(value).success]).toEqual([value, true]);
      await pool("/p", files({ "/p": JSON.stringify(value) }));
    }
    const bad: unknown[] = [
      [],
      {},
      [{}],
      [{ url: 1 }],
      { stores: [] },
      { mode: "raid", stores: [{ url: "a" }] },
      { modes: 1, stores: [{ url: "a" }] },
      { stores: [{ url: "a", desc: 1 }] },
      { deadline: 30, stores: [{ url: "a" }] },
      { attempts: 0, stores: [{ url: "a" }] },
      { "limit-up": "fast", stores: [{ url: "a" }] },
      [{ url: "a", env: [{ name: "A B", value: "" }] }],
    ];
    for (const value of bad) {
      expect([value, schema.safeParse(value).success]).toEqual([value, false]);
      await refusal("/p", files({ "/p": JSON.stringify(value) }));
    }
  });
});

describe("files on the disk", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-config-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("are read, with their permissions", async () => {
    const path = join(folder, "pool.json");
    await writeFile(path, JSON.stringify([{ url: `ftp://u:${SECRET}@h/x` }]), { mode: 0o600 });
    expect((await pool(path, {})).warnings).toEqual([]);
    await chmod(path, 0o644);
    expect((await pool(path, {})).warnings).toHaveLength(1);
  });

  it("that are absent, folders or huge are config errors", async () => {
    expect((await refusal(join(folder, "absent"))).message).toMatch(/there is no pool file or folder/u);
    expect((await refusal(`multi://${folder}`)).message).toMatch(/is a folder/u);
    await writeFile(join(folder, "huge"), Buffer.alloc(2 * 1024 * 1024, 0x20));
    expect((await refusal(join(folder, "huge"))).message).toMatch(/larger than/u);
    expect((await refusal("/dev/zero")).message).toMatch(/larger than/u);
    expect((await refusal("")).message).toMatch(/empty/u);
  });
});
