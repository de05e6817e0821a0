/**
 * A pool of many small objects: open, status, ls and a put stay fast and in bounded memory.
 * HOLDFAST_SCALE sets how many objects (default 100,000); the figures are printed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { formatIdentity, IDENTITY_NAME } from "../../src/ledger/identity.ts";
import type { ObjectRecord, StoreRecord } from "../../src/ledger/record.ts";
import { loadDigests } from "../../src/ledger/digest.ts";
import { encodeSegment, segmentName } from "../../src/ledger/segment.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { openFileIndex } from "../../src/machine/local-index/file-index.ts";
import type { ObjectInfo, Store } from "../../src/contract/store.ts";
import { MemoryStore } from "../../src/stores/memory.ts";
import { memoryPool } from "../helpers/memory-pool.ts";
import type { MemoryPool } from "../helpers/memory-pool.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

const COUNT = Number(process.env["HOLDFAST_SCALE"] ?? "100000");
const POOL = "ab".repeat(16);
const IDS = ["1111111111111111", "2222222222222222", "3333333333333333"];
const VERSION = `${"1".padStart(12, "0")}0000-${"a".repeat(16)}`;
const BYTES = Buffer.from("x");
const SHA256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

const nameOf = (i: number): string =>
  `dir-${String(Math.floor(i / 1000)).padStart(5, "0")}/${String(i % 1000).padStart(4, "0")}`;
const isMade = (name: string): boolean => {
  const match = /^dir-(\d{5})\/(\d{4})$/u.exec(name);
  return match !== null && Number(match[1]) * 1000 + Number(match[2]) < COUNT;
};

/** A store that holds COUNT objects without holding them: what is in memory is only what was put. */
function vast(inner: MemoryStore): Store {
  const infoOf = (name: string): ObjectInfo => ({ name, size: BYTES.length });
  return storeLike(inner, {
    close: () => Promise.resolve(),
    async stat(name, options) {
      return isMade(name) ? infoOf(name) : inner.stat(name, options);
    },
    async get(name, options) {
      if (!isMade(name)) return inner.get(name, options);
      async function* body(): AsyncGenerator<Uint8Array> {
        yield BYTES;
      }
      return { info: infoOf(name), body: body(), close: () => Promise.resolve() };
    },
    async *list(prefix, options) {
      if (prefix.startsWith(".holdfast/")) return yield* inner.list(prefix, options);
      for (let i = 0; i < COUNT; i++) if (nameOf(i).startsWith(prefix)) yield infoOf(nameOf(i));
      // What was put since then is named to come behind.
      for await (const info of inner.list(prefix, options)) if (!info.name.startsWith(".holdfast/")) yield info;
    },
  });
}

let folder: string;
let stores: { store: Store }[];

beforeAll(async () => {
  await loadDigests();
  folder = mkdtempSync(join(tmpdir(), "holdfast-scale-"));
  const inner = IDS.map((_, i) => new MemoryStore({ label: `S${i}` }));
  stores = inner.map((store) => ({ store: vast(store) }));
  const records: StoreRecord[] = IDS.map((id, i) => ({
    id,
    rev: VERSION,
    addresses: [`place of S${i}`],
    label: `S${i}`,
    state: "member",
    censused: true,
  }));
  for (const [i, store] of inner.entries()) {
    await store.put(IDENTITY_NAME, toBody(formatIdentity({ pool: POOL, store: IDS[i] ?? "" })));
  }
  for (let from = 0, part = 0; from < COUNT; from += 20_000, part++) {
    const objects: ObjectRecord[] = [];
    for (let i = from; i < Math.min(COUNT, from + 20_000); i++) {
      // One in ten thousand is owed by the last store.
      const owed = i % 10_000 === 9999;
      objects.push({
        name: nameOf(i),
        version: VERSION,
        base: "",
        kind: "put",
        content: { size: 1, sha256: SHA256, pieceBytes: 1, pieces: "" },
        copies: Object.fromEntries(
          IDS.map((id, place) => [id, { state: owed && place === 2 ? "copy" : "holds", rev: VERSION }]),
        ),
      });
    }
    const bytes = encodeSegment({ pool: POOL, replaces: [], stores: part === 0 ? records : [], objects });
    const at = `${part.toString(16).padStart(12, "0")}0000-${"a".repeat(16)}`;
    for (const store of inner) await store.put(segmentName(9, at, objects.length), toBody(bytes));
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it(`opens, tells the status of, lists and writes to a pool of ${COUNT} objects`, { timeout: 900_000 }, async () => {
  const figures: string[] = [];
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<{ result: T; ms: number }> => {
    const started = performance.now();
    const result = await work();
    const ms = performance.now() - started;
    const { rss, heapUsed } = process.memoryUsage();
    const mib = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;
    figures.push(`${what}: ${ms.toFixed(ms < 100 ? 1 : 0)} ms (heap ${mib(heapUsed)}, RSS ${mib(rss)})`);
    return { result, ms };
  };
  const open = async (): Promise<MemoryPool> => {
    const opened = memoryPool(stores, {
      index: openFileIndex(folder, { logger: silentLogger }),
      machine: "aaaaaaaa",
      freshMs: 1000,
    });
    await opened.pool.maintenance.status();
    return opened;
  };
  const list = async (pool: Store, prefix: string): Promise<number> => {
    let seen = 0;
    for await (const { name } of pool.list(prefix)) seen += name.length > 0 ? 1 : 0;
    return seen;
  };

  const first = await timed("first opening, reading the whole ledger", open);
  await first.result.pool.close();
  const { result: opened, ms: openMs } = await timed("opening again", open);
  const { pool } = opened;
  const status = await timed("status", () => pool.maintenance.status());
  expect(status.result).toMatchObject({ objects: COUNT, degraded: Math.floor(COUNT / 10_000), unsettled: 0 });
  const put = await timed("put", () => pool.put("zz/new", toBody("new")));
  expect(put.result.owed).toEqual([]);
  const stat = await timed("stat", () => pool.stat(nameOf(COUNT - 1)));
  expect(stat.result.size).toBe(1);
  await expect(pool.stat("never")).rejects.toThrow(HoldfastError);
  expect((await timed("ls of one folder", () => list(pool, "dir-00042/"))).result).toBe(1000);
  expect((await timed("ls of everything", () => list(pool, ""))).result).toBe(COUNT + 1);
  await pool.close();
  const heapMib = process.memoryUsage().heapUsed / 1024 / 1024;
  console.info(`scale, ${COUNT} objects:\n  ${figures.join("\n  ")}`);
  // Generous, for machines under load: what grows with the number of objects would be far beyond.
  for (const ms of [openMs, status.ms, put.ms, stat.ms]) expect(ms).toBeLessThan(2000);
  expect(heapMib).toBeLessThan(400);
});
