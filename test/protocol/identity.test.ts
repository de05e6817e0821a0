/** Which store is which, and which pool they are: never decided over the head of those that are silent. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { memoryPool, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { namesOn, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

type Three = [Switched, Switched, Switched];

const three = (): Three => [switched("A"), switched("B"), switched("C")];

const troubles = async (pool: Pool): Promise<string[]> =>
  (await pool.maintenance.stores()).map(({ label, trouble }) => `${label} ${trouble ?? "ok"}`);

const isBare = (store: Switched): boolean => store.objects.next("", false) === undefined;

const idOn = (store: Switched): unknown =>
  (JSON.parse(textOn(store, ".holdfast/store.json") ?? "{}") as { store?: unknown }).store;

const debtsOf = async (pool: Pool): Promise<string[]> => {
  const found: string[] = [];
  for await (const { object, store, owes } of pool.maintenance.debts()) found.push(`${object} on ${store}: ${owes}`);
  return found;
};

describe("p08: a store whose URL is changed while it is down", () => {
  it("owes what it missed when it comes back", async () => {
    const stores = three();
    const first = memoryPool(stores, { machine: "00000001" });
    await first.pool.put("old", toBody("v1"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    await first.pool.close();
    stores[2].down = true;
    const fingerprints = ["place of A", "place of B", "new place of C"];
    const { pool } = memoryPool(stores, { machine: "00000001", index: first.index, fingerprints });
    expect((await pool.put("new", toBody("n"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
    expect((await pool.put("old", toBody("v2"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
    stores[2].down = false;
    const status = await pool.maintenance.status();
    expect(status).toMatchObject({ degraded: 2, absent: [] });
    expect(status.stores.map(({ owedCopies, owedDeletes }) => [owedCopies, owedDeletes])).toEqual([
      [0, 0],
      [0, 0],
      [2, 0],
    ]);
    expect(await debtsOf(pool)).toEqual(["new on C: copy", "old on C: copy"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    for (const store of stores) expect([textOn(store, "new"), textOn(store, "old")]).toEqual(["n", "v2"]);
    expect(await pool.maintenance.status()).toMatchObject({ degraded: 0, absent: [] });
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
  });
});

describe("p09: a store that two machines know by different URLs", () => {
  const OTHER_URL = ["place of A", "place of B", "sftp://nas/c"];

  for (const isRepaired of [true, false]) {
    it(`is known to be missing where the mount point is bare (${isRepaired ? "after" : "without"} the other's repair)`, async () => {
      const stores = three();
      const index = new MemoryIndex();
      const first = memoryPool(stores, { machine: "00000001", index });
      await first.pool.put("x", toBody("v1"));
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      await first.pool.close();
      const second = memoryPool(stores, { machine: "00000002", fingerprints: OTHER_URL });
      await second.pool.put("of the second", toBody("2"));
      if (isRepaired) await second.pool.maintenance.repair();
      await second.pool.close();
      const bare = switched("C");
      const { pool } = memoryPool([stores[0], stores[1], bare], { machine: "00000001", index });
      expect(await troubles(pool)).toEqual(["A ok", "B ok", "C missing"]);
      expect((await pool.put("y", toBody("acked"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
      expect(await pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["C"] });
      expect(isBare(bare)).toBe(true);
    });
  }
});

describe("p11: a folder with files of its own that is added to a pool", () => {
  it("keeps each of them: those that the pool has otherwise, or has deleted, are conflicts", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const first = memoryPool([a, b], { machine: "00000001" });
    await first.pool.put("report.txt", toBody("the pool's"));
    await first.pool.put("same.txt", toBody("the same"));
    await first.pool.put("old.txt", toBody("gone"));
    await first.pool.delete("old.txt");
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    await first.pool.close();
    const joining = switched("D");
    for (const name of ["report.txt", "old.txt", "mine.txt"]) await joining.store.put(name, toBody(`D's own ${name}`));
    await joining.store.put("same.txt", toBody("the same"));
    const { pool } = memoryPool([a, b, joining], { machine: "00000001", index: first.index });
    await pool.put("another", toBody("1"));
    for (let round = 0; round < 2; round++) {
      const report = await pool.maintenance.repair();
      expect(report.whole).toBe(false);
      expect(report.left.map(({ kind, object, store }) => `${kind} ${object} ${store}`).sort()).toEqual([
        "conflict old.txt D",
        "conflict report.txt D",
      ]);
      expect(textOn(joining, "report.txt")).toBe("D's own report.txt");
      expect(textOn(joining, "old.txt")).toBe("D's own old.txt");
    }
    expect([a, b, joining].map((store) => textOn(store, "mine.txt"))).toEqual(Array(3).fill("D's own mine.txt"));
    expect([a, b].map((store) => textOn(store, "report.txt"))).toEqual(["the pool's", "the pool's"]);
    expect(await textOrCode(pool, "report.txt")).toBe("the pool's");
    expect(await textOrCode(pool, "same.txt")).toBe("the same");
    expect(await textOrCode(pool, "old.txt")).toBe("error: not-found");
    // What is moved out of the way is a conflict no more.
    joining.objects.delete("report.txt");
    joining.objects.delete("old.txt");
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(textOn(joining, "report.txt")).toBe("the pool's");
  });

  it("does not lose one of them to a put or a delete of that name before repair has looked at it", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const first = memoryPool([a, b], { machine: "00000001" });
    await first.pool.put("report.txt", toBody("the pool's"));
    await first.pool.put("deleted.txt", toBody("the pool's"));
    await first.pool.close();
    const joining = switched("D");
    for (const name of ["report.txt", "deleted.txt"]) await joining.store.put(name, toBody(`D's own ${name}`));
    const { pool } = memoryPool([a, b, joining], { machine: "00000001", index: first.index });
    await pool.put("another", toBody("1"));
    expect((await pool.put("report.txt", toBody("v2"))).owed).toMatchObject([{ store: "D", owes: "copy" }]);
    expect((await pool.delete("deleted.txt")).owed).toMatchObject([{ store: "D", owes: "delete" }]);
    const report = await pool.maintenance.repair();
    expect(report.left.map(({ kind, object, store }) => `${kind} ${object} ${store}`).sort()).toEqual([
      "conflict deleted.txt D",
      "conflict report.txt D",
    ]);
    expect(textOn(joining, "report.txt")).toBe("D's own report.txt");
    expect(textOn(joining, "deleted.txt")).toBe("D's own deleted.txt");
  });
});

describe("a pool that is opened by its file", () => {
  const folders: string[] = [];

  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  /** A pool p of a, b and c, and one q of another store. `places`: other disks that are in the place of these. */
  async function machines(): Promise<{
    readonly stores: Readonly<Record<string, Switched>>;
    readonly open: (file: string, machine: string, places?: Record<string, string>) => Promise<Pool>;
  }> {
    const folder = await mkdtemp(path.join(tmpdir(), "holdfast-identity-"));
    folders.push(folder);
    const file = (name: string, urls: readonly string[]): Promise<void> =>
      writeFile(path.join(folder, `${name}.json`), JSON.stringify(urls.map((url) => ({ url: `memory://${url}` }))), {
        mode: 0o600,
      });
    await file("p", ["a", "b", "c"]);
    await file("q", ["q"]);
    const stores = Object.fromEntries(["a", "b", "c", "q", "bare"].map((one) => [one, switched(one.toUpperCase())]));
    return {
      stores,
      open: (name, machine, places = {}) =>
        openPool(`multi://${folder}/${name}.json?mode=mirror&onfail=continue&attempts=1`, {
          cache: path.join(folder, machine),
          openStore: async (url) => {
            const at = url.slice("memory://".length);
            const found = stores[places[at] ?? at];
            if (found === undefined) throw new Error(`no store ${url}`);
            return found.store;
          },
        }),
    };
  }

  it("p26: stays that pool though the only store that answers once has another pool's disk in its place", async () => {
    const { stores, open } = await machines();
    const theirs = await open("q", "other machine");
    await theirs.put("theirs", "another pool's");
    await theirs.close();
    let pool = await open("p", "machine");
    await pool.put("x", "P's x");
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    await pool.close();
    const { a, b, q } = stores as { a: Switched; b: Switched; q: Switched };
    a.down = b.down = true;
    pool = await open("p", "machine", { c: "q" });
    expect(await codeOf(pool.put("y", "P's y"))).toBe("unavailable");
    expect(await textOrCode(pool, "theirs")).toBe("error: unavailable");
    expect((await namesOn(pool)).at(-1)).toMatch(/^error: (?:incomplete|unavailable)$/u);
    await pool.close();
    expect(textOn(q, "y")).toBeUndefined();
    a.down = b.down = false;
    pool = await open("p", "machine", { c: "q" });
    expect(await troubles(pool)).toEqual(["A ok", "B ok", "Q foreign"]);
    expect(await textOrCode(pool, "x")).toMatch(/^P's x(?: \(unheard: [A-Z,]+\))?$/u);
    await pool.close();
    pool = await open("p", "machine");
    expect(await troubles(pool)).toEqual(["A ok", "B ok", "C ok"]);
    expect([await textOrCode(pool, "x"), await textOrCode(pool, "y")]).toEqual(["P's x", "error: not-found"]);
    await pool.close();
  });

  it("p28: is not made anew by a new machine's first run with one store bare and the others down", async () => {
    const { stores, open } = await machines();
    let pool = await open("p", "first machine");
    await pool.put("x", "P's x");
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    await pool.close();
    const { a, b, bare } = stores as { a: Switched; b: Switched; bare: Switched };
    a.down = b.down = true;
    pool = await open("p", "second machine", { c: "bare" });
    expect(await codeOf(pool.put("y", "y"))).toBe("unavailable");
    await pool.close();
    expect(isBare(bare)).toBe(true);
    a.down = b.down = false;
    pool = await open("p", "second machine", { c: "bare" });
    expect(await troubles(pool)).toEqual(["A ok", "B ok", "BARE missing"]);
    expect(await textOrCode(pool, "x")).toBe("P's x (unheard: BARE)");
    expect((await pool.put("z", "z")).owed).toMatchObject([{ store: "BARE", owes: "copy" }]);
    await pool.close();
    expect(isBare(bare)).toBe(true);
  });
});

describe("p34: two stores with one address, both down", () => {
  it("owe each for itself", async () => {
    const stores = three();
    const fingerprints = ["one place", "one place", "place of C"];
    const first = memoryPool(stores, { machine: "00000001", fingerprints });
    await first.pool.put("founded", toBody("1"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    await first.pool.close();
    stores[0].down = stores[1].down = true;
    const { pool, ledger } = memoryPool(stores, { machine: "00000001", fingerprints, index: first.index });
    expect((await pool.put("x", toBody("v1"))).owed.map(({ store }) => store)).toEqual(["A", "B"]);
    expect(new Set(ledger.members.map(({ id }) => id)).size).toBe(3);
    stores[0].down = stores[1].down = false;
    expect((await pool.maintenance.status()).stores.map(({ owedCopies }) => owedCopies)).toEqual([1, 1, 0]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v1", "v1", "v1"]);
  });
});

describe("an identity that is written late", () => {
  /** A pool of A and B, and C, which is new, cannot decide that an object is absent, and is late with its identity. */
  async function lateIdentity(): Promise<{
    stores: Three;
    first: MemoryPool;
    second: () => MemoryPool;
    land: () => void;
  }> {
    const stores = three();
    const founder = memoryPool([stores[0], stores[1]], { machine: "00000001" });
    await founder.pool.put("x", toBody("v1"));
    await founder.pool.close();
    const view = viewOf(stores[2]);
    const plain = { store: { ...view.store, capabilities: { ...view.store.capabilities, conditionalPut: false } } };
    let written: Uint8Array | undefined;
    const late: typeof plain.store = {
      ...plain.store,
      put: async (name, body, options) => {
        if (name === ".holdfast/store.json" && written === undefined) {
          for await (const chunk of body.open()) written = Buffer.from(chunk);
          throw new HoldfastError("timeout", "no answer", { operation: "put", object: name });
        }
        return plain.store.put(name, body, options);
      },
    };
    const open = (): MemoryPool =>
      memoryPool([stores[0], stores[1], { store: late }], { machine: "00000001", index: founder.index });
    return {
      stores,
      first: open(),
      second: open,
      land: () => stores[2].objects.set(".holdfast/store.json", { bytes: written ?? new Uint8Array(), modifiedMs: 1 }),
    };
  }

  it("is the one that the store has already, where the same process tried again", async () => {
    const { stores, first, land } = await lateIdentity();
    expect((await first.pool.put("y", toBody("1"))).owed.map(({ store }) => store)).toEqual(["C"]);
    await first.pool.put("z", toBody("2"));
    const id = idOn(stores[2]);
    expect(id).toBeDefined();
    land();
    expect(idOn(stores[2])).toBe(id);
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    for (const name of ["x", "y", "z"]) expect(stores.every((store) => textOn(store, name) !== undefined)).toBe(true);
    expect((await first.pool.maintenance.status()).absent).toEqual([]);
  });

  it("loses no debt where another process had given it another one", async () => {
    const { stores, first, second, land } = await lateIdentity();
    await first.pool.put("y", toBody("1"));
    const next = second();
    await next.pool.put("z", toBody("2"));
    const id = idOn(stores[2]);
    land();
    expect(idOn(stores[2])).not.toBe(id);
    stores[2].objects.delete("z");
    const status = await next.pool.maintenance.status();
    expect(status.degraded).toBe(3);
    expect(status.stores[2]?.owedCopies).toBe(3);
    expect(await next.pool.maintenance.repair()).toMatchObject({ failed: 0 });
    for (const name of ["x", "y", "z"]) expect(stores.every((store) => textOn(store, name) !== undefined)).toBe(true);
  });
});
