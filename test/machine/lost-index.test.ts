/** A machine whose index is lost, damaged, or kept by some of its processes only: no answer of the pool is wrong for it. */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { loadDigests } from "../../src/ledger/digest.ts";
import { IndexLost, MemoryIndex } from "../../src/ledger/ledger-index.ts";
import type { LedgerIndex } from "../../src/ledger/ledger-index.ts";
import { openFileIndex } from "../../src/machine/local-index/file-index.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { memoryPool, switched } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

const folder = mkdtempSync(join(tmpdir(), "holdfast-lost-index-"));
let path = "";
let made = 0;
const open = (): LedgerIndex => openFileIndex(path, { logger: silentLogger, logBytes: 4096 });

beforeAll(loadDigests);
beforeEach(() => {
  path = join(folder, String(made++));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const three = (): [Switched, Switched, Switched] => [switched("A"), switched("B"), switched("C")];
const machine = "00000001";

/** Overwrites the middle of every run: foot and log stay whole. */
function damageRuns(): void {
  const files = readdirSync(join(path, "index")).filter((file) => file.endsWith(".run"));
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    const fd = openSync(join(path, "index", file), "r+");
    writeSync(fd, Buffer.alloc(statSync(join(path, "index", file)).size - 1200, 0x55), 0, undefined, 0);
    closeSync(fd);
  }
}

describe("a machine that lost its index, and not its name", () => {
  /** `x` is acknowledged on C alone, which is silent then. */
  async function onlyOnC(stores: [Switched, Switched, Switched]): Promise<void> {
    const [a, b, c] = stores;
    const { pool } = memoryPool(stores, { machine });
    await pool.put("w", toBody("w"));
    [a.down, b.down] = [true, true];
    await pool.put("x", toBody("x"));
    await pool.close();
    [a.down, b.down, c.down] = [false, false, true];
  }

  it("does not say that there is no such object where a silent store may have what it put", async () => {
    const stores = three();
    await onlyOnC(stores);
    const { pool } = memoryPool(stores, { machine });
    expect(await codeOf(pool.stat("x"))).toBe("unavailable");
    // Nor when it has written again.
    await pool.put("y", toBody("y"));
    expect(await codeOf(pool.stat("x"))).toBe("unavailable");
  });

  it("is sure again after a repair that saw everything", async () => {
    const stores = three();
    await onlyOnC(stores);
    stores[2].down = false;
    const index = new MemoryIndex();
    const { pool, ledger } = memoryPool(stores, { machine, index });
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(ledger.soleWriter).toBe(true);
    stores[2].down = true;
    expect(await codeOf(pool.stat("never"))).toBe("not-found");
    expect(await textOrCode(pool, "x")).toContain("x");
  });
});

describe("processes of one machine", () => {
  /** The first one does not ask the stores before it answers, since nobody else writes. */
  async function two(): Promise<{ reader: MemoryPool; writer: MemoryPool }> {
    const stores = three();
    const reader = memoryPool(stores, { machine, index: open(), freshMs: 1_000_000 });
    await reader.pool.put("w", toBody("w"));
    const writer = memoryPool(stores, { machine, index: open(), freshMs: 1_000_000 });
    await writer.pool.stat("w");
    expect([reader.ledger.soleWriter, writer.ledger.soleWriter]).toEqual([true, true]);
    return { reader, writer };
  }

  it("see at once what the other puts, overwrites and deletes", async () => {
    const { reader, writer } = await two();
    await writer.pool.put("x", toBody("1"));
    expect(await textOrCode(reader.pool, "x")).toBe("1");
    await writer.pool.put("x", toBody("22"));
    expect(await reader.pool.stat("x")).toMatchObject({ size: 2 });
    await writer.pool.delete("x");
    expect(await codeOf(reader.pool.stat("x"))).toBe("not-found");
    expect(reader.ledger.soleWriter).toBe(true);
  });

  it.each<[string, () => void]>([
    [
      "the log is gone",
      () => rmSync(join(path, "index", readdirSync(join(path, "index")).find((one) => one.endsWith(".log")) ?? "")),
    ],
    ["the folder is gone", () => rmSync(path, { recursive: true })],
  ])("see at once what the other does when their index can be kept no longer: %s", async (_, spoil) => {
    const { reader, writer } = await two();
    spoil();
    await writer.pool.put("x", toBody("1"));
    expect(await textOrCode(reader.pool, "x")).toBe("1");
    await writer.pool.delete("w");
    expect(await codeOf(reader.pool.stat("w"))).toBe("not-found");
  });

  it("are not taken for all of them by one that began when the index had been made anew, and repaired", async () => {
    const { writer } = await two();
    rmSync(path, { recursive: true });
    await writer.pool.put("x", toBody("1"));
    const stores = writer.ledger.members.map(({ store }) => ({ store }));
    const later = memoryPool(stores, { machine, index: open(), freshMs: 1_000_000 });
    expect(await later.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(later.ledger.soleWriter).toBe(true);
    await writer.pool.put("z", toBody("2"));
    expect(later.ledger.soleWriter).toBe(false);
    expect(await later.pool.stat("z")).toMatchObject({ size: 1 });
  });
});

describe("a pool whose index is found damaged", () => {
  const names = Array.from({ length: 40 }, (_, at) => `n${String(at).padStart(3, "0")}`);

  async function damaged(): Promise<MemoryPool> {
    const stores = three();
    const first = memoryPool(stores, { machine, index: open() });
    for (const name of names) await first.pool.put(name, toBody(name));
    await first.pool.close();
    const pool = memoryPool(stores, { machine, index: open(), openIndex: open, freshMs: 1_000_000 });
    await pool.context.open();
    damageRuns();
    return pool;
  }

  it("throws from the index itself, rather than to say that a name is not known", async () => {
    const { index } = await damaged();
    expect(() => index.get("n000")).toThrow(IndexLost);
    expect(() => [...index.iterate("")]).toThrow(IndexLost);
  });

  it.each<[string, (pool: MemoryPool["pool"]) => Promise<unknown>, unknown]>([
    ["reads", (pool) => textOrCode(pool, "n000"), "n000"],
    ["says what an object is", async (pool) => (await pool.stat("n001")).size, 4],
    ["says that there is none", (pool) => codeOf(pool.stat("never")), "not-found"],
    ["puts what exists", async (pool) => (await pool.put("n002", toBody("new"))).owed, []],
    ["puts what is new", async (pool) => (await pool.put("o", toBody("new"))).owed, []],
    ["deletes", async (pool) => (await pool.delete("n003")).existed, true],
    ["counts", async (pool) => (await pool.maintenance.status()).objects, names.length],
    ["verifies", async (pool) => (await pool.maintenance.verify()).objects, names.length],
    ["repairs", async (pool) => (await pool.maintenance.repair()).whole, true],
    [
      "lists",
      async (pool) => {
        const listed: string[] = [];
        for await (const info of pool.list("")) listed.push(info.name);
        return listed;
      },
      names,
    ],
    [
      "names its debts",
      async (pool) => {
        const owed: unknown[] = [];
        for await (const debt of pool.maintenance.debts()) owed.push(debt);
        return owed;
      },
      [],
    ],
  ])("%s all the same", async (_, work, wanted) => {
    const { pool } = await damaged();
    expect(await work(pool)).toEqual(wanted);
    expect(await textOrCode(pool, "n010")).toBe("n010");
    await pool.close();
  });
});

describe("facts about segments that were replaced", () => {
  it("are forgotten once no store has these segments or those that replaced them", async () => {
    const stores = three();
    const { pool, ledger } = memoryPool(stores, { machine, index: open(), mergeAt: 2 });
    const other = memoryPool(stores, { machine: "00000002", index: new MemoryIndex(), mergeAt: 2 });
    for (let i = 0; i < 30; i++) await pool.put(`n${i}`, toBody("x"));
    await ledger.settle();
    expect(await other.pool.maintenance.status()).toMatchObject({ objects: 30 });
    await ledger.hear();
    const segments = ledger.members[0]?.segments ?? new Set();
    for (const { index } of [ledger, other.ledger]) {
      for (const [replaced, by] of index.facts("replaced:"))
        expect([replaced, segments.has(by)]).toEqual([replaced, true]);
      for (const name of segments) expect(index.hasSegment(name)).toBe(true);
    }
  });
});
