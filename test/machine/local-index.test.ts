/** The local index: the same answers in memory and in files, by one process or several, whatever befalls the files. */
import { execFile, spawn } from "node:child_process";
import * as fc from "fast-check";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDigests } from "../../src/ledger/digest.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { IndexLost, MemoryIndex, SPOILT_FACT } from "../../src/ledger/ledger-index.ts";
import type { LedgerIndex } from "../../src/ledger/ledger-index.ts";
import { isSettled } from "../../src/ledger/record.ts";
import type { ObjectRecord, StoreRecord } from "../../src/ledger/record.ts";
import { openFileIndex, UnsharedIndex } from "../../src/machine/local-index/file-index.ts";
import type { Logger } from "../../src/contract/log.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { commandPath } from "../helpers/command.ts";
import { hex, name, plain, recordsOf, STORES } from "../helpers/records.ts";

const folder = mkdtempSync(join(tmpdir(), "holdfast-index-"));
let made = 0;
const fresh = (): string => join(folder, `index-${made++}`);
/** A log is ended early: with about 45 records. */
const logBytes = 8 * 1024;
const open = (path: string, logger: Logger = silentLogger): LedgerIndex => openFileIndex(path, { logger, logBytes });
const filesOf = (path: string): string[] => readdirSync(join(path, "index")).map((file) => join(path, "index", file));
const logOf = (path: string): string => filesOf(path).find((file) => file.endsWith(".log")) ?? "";

function record(at: number, more: Partial<ObjectRecord> = {}): ObjectRecord {
  const version = `${hex(at + 1, 12)}0000-0000000000000001`;
  return {
    name: `n${String(at).padStart(6, "0")}`,
    version,
    base: "",
    kind: "put",
    content: { size: 1, sha256: "00".repeat(32), pieceBytes: 1, pieces: "" },
    copies: { "1111111111111111": { state: at % 10 === 0 ? "copy" : "holds", rev: version } },
    ...more,
  };
}

const many = (count: number, from = 0): ObjectRecord[] => Array.from({ length: count }, (_, at) => record(from + at));

function answers(index: LedgerIndex, prefix = "", after?: string): unknown {
  return {
    all: [...index.iterate(prefix, after)].map(([key, state]) => [key, plain(state)]),
    unsettled: [...index.unsettled(prefix)].map(([key]) => key),
    counts: index.counts(),
    stores: [...index.stores()].sort((one, other) => (one.id < other.id ? -1 : 1)),
    pool: index.pool(),
    writers: [...index.writers()].sort((one, other) => (one.machine < other.machine ? -1 : 1)),
    facts: [...index.facts("f:")].sort(([one], [other]) => (one < other ? -1 : 1)),
  };
}

beforeAll(loadDigests);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A logger that keeps what it is told at `warn`. */
function listening(): { logger: Logger; warnings: string[] } {
  const warnings: string[] = [];
  return { warnings, logger: { ...silentLogger, warn: (message) => void warnings.push(message) } };
}

describe.each<[string, () => LedgerIndex]>([
  ["memory", () => new MemoryIndex()],
  ["files", () => open(fresh())],
  ["memory, where files cannot be kept", () => new UnsharedIndex(fresh(), { logger: silentLogger })],
])("an index in %s", (_, make) => {
  const store: StoreRecord = {
    id: STORES[0] ?? "",
    rev: `${hex(1, 12)}0000-${hex(1, 16)}`,
    addresses: ["a"],
    label: "A",
    state: "member",
    censused: true,
  };

  it("merges records of a name, and counts it once", () => {
    const index = make();
    const rev = record(5).version;
    index.apply({ objects: [record(1), record(1, { copies: { "2222222222222222": { state: "copy", rev } } })] });
    expect(index.get("n000001")?.records).toHaveLength(1);
    expect(index.counts()).toEqual({ objects: 1, unsettled: 1 });
  });

  it("gives names in the order of their bytes, from one on, within a prefix", () => {
    const index = make();
    const names = ["b", "a/2", "\u{10000}", "\uffff", "a/1", "a"];
    index.apply({ objects: names.map((one) => record(1, { name: one })) });
    const walk = (prefix: string, after?: string): string[] => [...index.iterate(prefix, after)].map(([one]) => one);
    expect(walk("")).toEqual(["a", "a/1", "a/2", "b", "\uffff", "\u{10000}"]);
    expect(walk("a/")).toEqual(["a/1", "a/2"]);
    expect(walk("", "a/2")).toEqual(["b", "\uffff", "\u{10000}"]);
    expect(walk("a/", "a")).toEqual(["a/1", "a/2"]);
  });

  it("forgets a name that is dropped, and takes it anew", () => {
    const index = make();
    index.apply({ objects: [record(10)] });
    index.drop("n000010");
    expect(index.get("n000010")).toBeUndefined();
    expect(index.counts()).toEqual({ objects: 0, unsettled: 0 });
    index.apply({ objects: [record(10)] });
    expect([...index.unsettled("")].map(([one]) => one)).toEqual(["n000010"]);
  });

  it("keeps facts, an empty one too, until they are removed", () => {
    const index = make();
    index.apply({
      facts: [
        ["f:a", "1"],
        ["f:b", ""],
        ["g", "2"],
      ],
    });
    index.setFact("f:a", undefined);
    expect([...index.facts("f:")]).toEqual([["f:b", ""]]);
    expect([index.getFact("f:a"), index.getFact("f:b"), index.getFact("g")]).toEqual([undefined, "", "2"]);
  });

  it("knows stores, the pool and its writers, each by its latest record", () => {
    const index = make();
    const later = `${hex(2, 12)}0000-${hex(1, 16)}`;
    const pool = { rev: later, mode: "mirror", min: 2, sure: 1 } as const;
    index.apply({ stores: [store], pools: [pool], writers: [{ machine: "0000abcd", rev: later }] });
    index.apply({
      stores: [{ ...store, rev: later, addresses: ["b"], state: "draining" }],
      pools: [{ ...pool, rev: store.rev, min: 1 }],
      writers: [{ machine: "0000abcd", rev: store.rev }],
    });
    expect(index.stores()).toEqual([{ ...store, rev: later, addresses: ["a", "b"], state: "draining" }]);
    expect(index.pool()).toEqual(pool);
    expect(index.writers()).toEqual([{ machine: "0000abcd", rev: later }]);
  });

  it("remembers which segments were read, of any length of name, until it is to forget them", () => {
    const index = make();
    const long = "x".repeat(5000);
    for (const segment of ["a", "b", long]) index.apply({ segment });
    expect(["a", "b", long, "c"].map((one) => index.hasSegment(one))).toEqual([true, true, true, false]);
    index.forgetSegments(new Set(["b", long]));
    expect(["a", "b", long].map((one) => index.hasSegment(one))).toEqual([false, true, true]);
  });
});

describe("an index in files", () => {
  /** What is done to an index; numbers choose an instance. */
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ apply: recordsOf(name), segment: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ fact: fc.nat(5), value: fc.option(fc.string(), { nil: undefined }) }) },
    fc.record({ drop: fc.nat(30) }),
    fc.record({ keep: fc.nat(20) }),
    fc.record({ bulk: fc.integer({ min: 1, max: 3 }) }),
    fc.constant({ reopen: true }),
  );

  it("gives the same answers as one in memory, through changes, merges and openings by several at once", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(step, fc.nat(2)), { minLength: 1, maxLength: 25 }),
        fc.constantFrom("", "a", "a/", "n0", "\u{10000}"),
        fc.option(name, { nil: undefined }),
        async (steps, prefix, after) => {
          const path = fresh();
          const memory = new MemoryIndex();
          const files = [open(path), open(path), open(path)];
          let bulk = 0;
          for (const [one, at] of steps) {
            const disk = files[at] ?? open(path);
            const both = [memory, disk];
            if ("apply" in one)
              for (const index of both) index.apply({ objects: one.apply, segment: `s${one.segment}` });
            if ("fact" in one) for (const index of both) index.setFact(`f:${one.fact}`, one.value);
            if ("drop" in one) {
              const gone = [...memory.iterate("")][one.drop]?.[0];
              if (gone !== undefined) for (const index of both) index.drop(gone);
            }
            if ("keep" in one) for (const index of both) index.forgetSegments(new Set([`s${one.keep}`]));
            if ("bulk" in one) {
              // Enough that a log is ended.
              for (const index of both) index.apply({ objects: many(60, bulk * 30) });
              bulk += one.bulk;
            }
            if ("reopen" in one) {
              await disk.close();
              files[at] = open(path);
            }
          }
          const wanted = answers(memory, prefix, after);
          for (const index of files) {
            expect(answers(index, prefix, after)).toEqual(wanted);
            expect(index.isShared).toBe(true);
            for (let i = 0; i < 20; i++) expect(index.hasSegment(`s${i}`)).toBe(memory.hasSegment(`s${i}`));
          }
          expect(memory.counts().unsettled).toBe([...memory.iterate("")].filter(([, one]) => !isSettled(one)).length);
          await Promise.all(files.map((index) => index.close()));
          const again = open(path);
          expect(answers(again, prefix, after)).toEqual(wanted);
          await again.close();
        },
      ),
      { numRuns: 60 },
    );
  }, 240_000);

  it("is walked by several at once while it changes, and gives each name that stays once", async () => {
    const index = open(fresh());
    const total = 12_000;
    index.apply({ objects: many(total) });
    const outer = index.iterate("")[Symbol.iterator]();
    const seen: string[] = [];
    for (let i = 0; i < 500; i++) seen.push((outer.next().value as readonly [string, unknown])[0]);
    // The walk stands at the end of a batch: its last name goes, and another, and the files are others.
    index.drop("n000499");
    index.drop("n000501");
    for (let i = 0; i < 4; i++) index.apply({ objects: many(900, total + 900 * i) });
    expect([...index.iterate("")]).toHaveLength(total + 3600 - 2);
    for (let next = outer.next(); next.done !== true; next = outer.next())
      seen.push((next.value as readonly [string, unknown])[0]);
    const wanted = many(total + 3600).map((one) => one.name);
    expect(seen).toEqual(wanted.filter((one) => one !== "n000501"));
    await index.close();
  });

  it("keeps its files few, and the log short", async () => {
    const path = fresh();
    const index = open(path);
    for (let i = 0; i < 200; i++) index.apply({ objects: many(60, (i * 7919) % 4000) });
    await index.close();
    expect(filesOf(path).length).toBeLessThan(14);
  });

  it("takes no more memory to be walked the larger it is", { timeout: 120_000 }, async () => {
    const script = await scriptOf(
      "walker.mjs",
      `const [path, count, walks] = process.argv.slice(2);
       const index = open(path);
       const content = { size: 1, sha256: "00".repeat(32), pieceBytes: 1, pieces: "" };
       const objects = Array.from({ length: Number(count) }, (_, i) => {
         const version = (i + 1).toString(16).padStart(12, "0") + "0000-0000000000000001";
         return { name: "n" + String(i).padStart(7, "0") + "x".repeat(200), version, base: "", kind: "put", content,
           copies: { "1111111111111111": { state: "holds", rev: version } } };
       });
       for (let at = 0; at < objects.length; at += 10_000) index.apply({ objects: objects.slice(at, at + 10_000) });
       let walked = 0;
       for (const _ of index.iterate("")) if (++walked === Number(walks)) break;
       console.log(walked, process.resourceUsage().maxRSS / 1024);
       await index.close();`,
    );
    const path = fresh();
    const walk = async (count: number, walks: number): Promise<readonly number[]> => {
      const { stdout } = await promisify(execFile)(process.execPath, [script, path, String(count), String(walks)]);
      return stdout.trim().split(" ").map(Number);
    };
    await walk(150_000, 1);
    const [, few = 0] = await walk(0, 15_000);
    const [all, whole = 0] = await walk(0, 1_000_000);
    expect(all).toBe(150_000);
    // The whole index is 80 MiB.
    expect(whole).toBeLessThan(few + 60);
  });
});

/** A script that has `open(path)`. */
async function scriptOf(file: string, text: string): Promise<string> {
  const compiled = await commandPath();
  const url = (part: string): string => JSON.stringify(pathToFileURL(compiled.replace("/cli/main.js", part)).href);
  const path = join(folder, file);
  writeFileSync(
    path,
    `import { openFileIndex } from ${url("/machine/local-index/file-index.js")};
     import { loadDigests } from ${url("/ledger/digest.js")};
     import { silentLogger } from ${url("/contract/log.js")};
     await loadDigests();
     const open = (path) => openFileIndex(path, { logger: silentLogger });
     ${text}`,
  );
  return path;
}

const WRITER = `const [path, who, count] = process.argv.slice(2);
  const index = open(path);
  const put = (name, i) => {
    const version = (i + 1).toString(16).padStart(12, "0") + "0000-" + who.padStart(16, "0");
    const content = { size: 1, sha256: "00".repeat(32), pieceBytes: 1, pieces: "" };
    return { name, version, base: "", kind: "put", content,
      copies: { "1111111111111111": { state: i % 10 === 0 ? "copy" : "holds", rev: version } } };
  };
  for (let i = 0; i < Number(count); i++) {
    index.apply({ objects: [put(who + "/" + i, i), put("both/" + i, i)], segment: who + "-" + i });
    if (!index.isShared) throw new Error("not shared");
    console.log(i);
  }
  await index.close();`;

describe("an index in files, of several processes", () => {
  it("has what all of them put, and counts right", { timeout: 180_000 }, async () => {
    const script = await scriptOf("writers.mjs", WRITER);
    const path = fresh();
    const run = promisify(execFile);
    const writers = ["1", "2", "3", "4"];
    await Promise.all(writers.map((who) => run(process.execPath, [script, path, who, "900"])));
    const index = open(path);
    expect(index.counts().objects).toBe(900 * 5);
    expect([...index.iterate("")]).toHaveLength(900 * 5);
    const unsettled = [...index.iterate("")].filter(([, state]) => !isSettled(state)).length;
    expect(index.counts().unsettled).toBe(unsettled);
    expect([...index.unsettled("")]).toHaveLength(unsettled);
    expect(index.isShared).toBe(true);
    await index.close();
  });

  it("has all that was put before they were killed, at any moment", { timeout: 180_000 }, async () => {
    const script = await scriptOf("killed.mjs", WRITER);
    const path = fresh();
    for (let round = 0; round < 4; round++) {
      const told = await Promise.all(
        ["1", "2", "3"].map(async (who, at) => {
          const child = spawn(process.execPath, [script, path, `${round}${who}`, "100000"], {
            stdio: ["ignore", "pipe", "inherit"],
          });
          let text = "";
          for await (const chunk of child.stdout) {
            text += String(chunk);
            if (text.length > 1500 + 700 * at) child.kill("SIGKILL");
          }
          // The last line may be cut.
          return { who: `${round}${who}`, last: Number(text.split("\n").at(-2)) };
        }),
      );
      const { logger, warnings } = listening();
      const index = open(path, logger);
      for (const { who, last } of told)
        for (let i = 0; i <= last; i++) {
          expect(index.get(`${who}/${i}`), `${who}/${i}`).toBeDefined();
          expect(index.hasSegment(`${who}-${i}`)).toBe(true);
        }
      expect(index.counts().objects).toBe([...index.iterate("")].length);
      expect([warnings, index.isShared]).toEqual([[], true]);
      await index.close();
    }
  });

  it("is the same for all, when they make it at once", { timeout: 120_000 }, async () => {
    const script = await scriptOf("makers.mjs", WRITER);
    const path = fresh();
    const run = promisify(execFile);
    await Promise.all(["1", "2", "3", "4", "5", "6"].map((who) => run(process.execPath, [script, path, who, "5"])));
    const index = open(path);
    expect(index.counts().objects).toBe(35);
    await index.close();
  });
});

describe("an index whose files are damaged", () => {
  const [run, total] = [300, 20];

  /** A run and a log, both with something in them; copied for each damage. */
  async function example(): Promise<{ path: string; contents: Map<string, Buffer> }> {
    const path = fresh();
    const index = open(path);
    index.apply({ objects: many(run), segment: "s0" });
    index.apply({ objects: many(total, run), segment: "s1", facts: [["f:a", "1"]] });
    await index.close();
    return { path, contents: new Map(filesOf(path).map((file) => [file, readFileSync(file)])) };
  }

  /** What is right to be known after damage: all, or that it is not known. Nothing else, and no error but `IndexLost`. */
  function look(path: string): string {
    const index = open(path);
    try {
      const seen = [...index.iterate("")];
      for (const [one, state] of seen)
        expect(plain(state)).toEqual(
          [record(Number(one.slice(1)))].map((each) => ({ ...each, copies: Object.entries(each.copies) })),
        );
      const counts = index.counts();
      const isWhole = index.hasSegment("s1")
        ? seen.length === run + total
        : index.hasSegment("s0")
          ? seen.length === run
          : true;
      if (!isWhole || counts.objects !== seen.length) return "wrong";
      return index.hasSegment("s1") ? "all" : "less";
    } catch (error) {
      if (error instanceof IndexLost) return "lost";
      throw error;
    } finally {
      void index.close();
    }
  }

  it(
    "gives right answers, or none, whichever byte is changed and wherever they are cut",
    { timeout: 240_000 },
    async () => {
      const { path, contents } = await example();
      const seen = new Set<string>();
      const damage = (file: string, bytes: Uint8Array): void => {
        rmSync(join(path, "index"), { recursive: true, force: true });
        mkdirSync(join(path, "index"));
        for (const [one, whole] of contents) writeFileSync(one, one === file ? bytes : whole);
        seen.add(look(path));
        // The next one finds an index that is whole.
        const next = open(path);
        expect(next.isShared).toBe(true);
        next.apply({ objects: many(1) });
        expect(next.get("n000000")).toBeDefined();
        void next.close();
      };
      for (const [file, whole] of contents) {
        const stride = Math.max(1, Math.floor(whole.length / 60));
        for (let at = 0; at < whole.length; at += whole.length - at < 80 ? 1 : stride) {
          const changed = Buffer.from(whole);
          changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
          damage(file, changed);
          damage(file, whole.subarray(0, at));
          const zeros = Buffer.from(whole);
          zeros.fill(0, at, Math.min(at + 4096, zeros.length));
          damage(file, zeros);
        }
      }
      expect(seen).not.toContain("wrong");
      expect([...seen].sort()).toEqual(["less", "lost"]);
    },
  );

  it("says once that it is made anew", async () => {
    const { path } = await example();
    truncateSync(filesOf(path).find((file) => file.endsWith(".run")) ?? "", 100);
    const { logger, warnings } = listening();
    const index = open(path, logger);
    expect(index.counts().objects).toBe(0);
    expect(warnings).toEqual(["the local index is made anew"]);
    await index.close();
  });

  it("is thrown away by whoever finds a wrong block, who is told", async () => {
    const { path, contents } = await example();
    const [run, whole] = [...contents].find(([file]) => file.endsWith(".run")) ?? ["", Buffer.alloc(0)];
    const { logger, warnings } = listening();
    const index = open(path, logger);
    const other = open(path);
    const changed = Buffer.from(whole);
    changed.fill(0x55, 0, whole.length - 2000);
    writeFileSync(run, changed);
    expect(() => index.get("n000001")).toThrow(IndexLost);
    expect([...warnings]).toHaveLength(1);
    expect(other.isShared).toBe(false);
    const next = open(path);
    expect(next.counts().objects).toBe(0);
    await Promise.all([index, other, next].map((one) => one.close()));
  });

  it("is read past a frame that was written in part, once another stands behind it", async () => {
    const path = fresh();
    const index = open(path);
    const other = open(path);
    index.apply({ objects: many(3) });
    appendFileSync(logOf(path), readFileSync(logOf(path)).subarray(0, 50));
    expect(other.counts().objects).toBe(3);
    index.apply({ objects: many(3, 10) });
    expect([index.counts().objects, other.counts().objects]).toEqual([6, 6]);
    await Promise.all([index.close(), other.close()]);
  });

  it.each([
    ["a file stands in its place", (path: string) => writeFileSync(join(path, "index"), "x")],
    ["its folder is empty", (path: string) => mkdirSync(join(path, "index"))],
    ["it is one of LMDB", (path: string) => writeFileSync(join(path, "index.lmdb"), Buffer.alloc(8192, 0x55))],
  ])("is made where %s", async (_, spoil) => {
    const path = fresh();
    mkdirSync(path);
    spoil(path);
    const index = open(path);
    index.setFact("a", "b");
    expect([index.getFact("a"), index.isShared, existsSync(join(path, "index.lmdb"))]).toEqual(["b", true, false]);
    await index.close();
  });
});

describe("an index that cannot be kept", () => {
  it("goes on with what it knows when its folder is removed, and says so once", async () => {
    const path = fresh();
    const { logger, warnings } = listening();
    const index = open(path, logger);
    index.apply({ objects: many(2000) });
    rmSync(path, { recursive: true });
    expect(index.isShared).toBe(false);
    index.apply({ objects: many(100, 2000) });
    expect([...index.iterate("")]).toHaveLength(2100);
    expect(index.counts().objects).toBe(2100);
    expect(warnings).toHaveLength(1);
    await index.close();
  });

  it("is known not to be all by who has it open", async () => {
    const path = fresh();
    const [one, other] = [open(path), open(path)];
    one.apply({ objects: many(10) });
    expect(other.isShared).toBe(true);
    rmSync(logOf(path));
    one.apply({ objects: many(10, 10) });
    expect([one.isShared, other.isShared]).toEqual([false, false]);
    expect(one.counts().objects).toBe(20);
    await Promise.all([one.close(), other.close()]);
  });

  it("marks one that others make later, at each change", async () => {
    const path = fresh();
    const first = open(path);
    first.setFact("process:w", "1 2");
    rmSync(path, { recursive: true });
    expect(first.isShared).toBe(false);
    const later = open(path);
    expect(later.getFact(SPOILT_FACT)).toBeUndefined();
    first.apply({ objects: many(1) });
    const mark = later.getFact(SPOILT_FACT);
    expect(mark).toMatch(/^[0-9a-f]{16}$/u);
    expect(later.getFact("process:w")).toBe("1 2");
    first.apply({ objects: many(1) });
    expect(later.getFact(SPOILT_FACT)).not.toBe(mark);
    expect(later.isShared).toBe(true);
    await Promise.all([first.close(), later.close()]);
  });

  it("cannot be made below /proc, and says so at once", () => {
    expect(() => open("/proc/x/pools/y")).toThrow("ENOENT");
  });

  it("cannot be made where a file stands in the way", () => {
    const path = fresh();
    writeFileSync(path, "x");
    expect(() => open(join(path, "pool"))).toThrow("ENOTDIR");
  });
});

describe("errors of an index", () => {
  it("are such that the same may succeed later", () => {
    const error = new IndexLost();
    expect(error).toBeInstanceOf(HoldfastError);
    expect(error.retryable).toBe(true);
  });
});
