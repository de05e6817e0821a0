/** What is not there is said only by those who can know: whoever syncs from a listing deletes what it lacks. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { memoryPool, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched, View } from "../helpers/memory-pool.ts";
import { namesOn, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

type Three<T> = [T, T, T];

const three = (): Three<Switched> => [switched("A"), switched("B"), switched("C")];

const viewsOf = ([a, b, c]: Three<Switched>): Three<View> => [viewOf(a), viewOf(b), viewOf(c)];

/** No machine says that `name` does not exist, nor gives a listing without it as a whole one. */
async function expectUncertain({ pool }: MemoryPool, name: string): Promise<void> {
  expect(await textOrCode(pool, name)).toBe("error: unavailable");
  expect(await codeOf(pool.stat(name))).toBe("unavailable");
  expect((await namesOn(pool)).at(-1)).toBe("error: incomplete");
}

describe("p05: a store that another machine alone reaches", () => {
  it("may have what the others have not heard of", async () => {
    const stores = three();
    const [ofFirst, ofSecond] = [viewsOf(stores), viewsOf(stores)];
    const first = memoryPool(ofFirst, { machine: "00000001" });
    const second = memoryPool(ofSecond, { machine: "00000002" });
    await first.pool.put("founded", toBody("1"));
    await second.pool.put("of the second", toBody("2"));
    ofFirst[2].down = ofSecond[0].down = ofSecond[1].down = true;
    expect((await second.pool.put("x", toBody("on C alone"))).owed).toHaveLength(2);
    await expectUncertain(first, "x");
    ofFirst[2].down = false;
    expect(await textOrCode(first.pool, "x")).toBe("on C alone");
  });

  it("takes nothing of a machine that never wrote before: the others would not know that it writes", async () => {
    const stores = three();
    const [ofFirst, ofSecond] = [viewsOf(stores), viewsOf(stores)];
    const first = memoryPool(ofFirst, { machine: "00000001" });
    const second = memoryPool(ofSecond, { machine: "00000002" });
    await first.pool.put("founded", toBody("1"));
    ofFirst[2].down = ofSecond[0].down = ofSecond[1].down = true;
    expect(await codeOf(second.pool.put("x", toBody("on C alone")))).toBe("unavailable");
    expect(textOn(stores[2], "x")).toBeUndefined();
    expect(await textOrCode(first.pool, "x")).toBe("error: not-found");
    expect(await namesOn(first.pool)).toEqual(["founded"]);
  });
});

describe("p06: an object that was put when fewer copies were enough", () => {
  /** A pool with `min=1`, of which A alone has x. */
  async function thinlyPut(): Promise<Three<Switched>> {
    const stores = three();
    const { pool } = memoryPool(stores, { machine: "00000001" });
    await pool.put("founded", toBody("1"));
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    stores[1].down = stores[2].down = true;
    expect((await pool.put("x", toBody("precious"))).owed).toHaveLength(2);
    await pool.close();
    stores[1].down = stores[2].down = false;
    return stores;
  }

  it("is not denied by a file that asks for more: the pool says how many it needs", async () => {
    const stores = await thinlyPut();
    stores[0].down = true;
    const { pool } = memoryPool(stores, { machine: "00000002", min: 2 });
    expect(await textOrCode(pool, "x")).toBe("error: config");
    expect(await namesOn(pool)).toEqual(["error: config"]);
    expect(await codeOf(pool.put("x", toBody("other")))).toBe("config");
  });

  it("is not denied once the pool needs more, before a repair has seen every store", async () => {
    const stores = await thinlyPut();
    stores[0].down = true;
    const second = memoryPool(stores, { machine: "00000002", min: 2 });
    expect(await second.pool.maintenance.rebalance({ min: 2 })).toMatchObject({ whole: false, unheard: ["A"] });
    await expectUncertain(second, "x");
    await expectUncertain(memoryPool(stores, { machine: "00000003", min: 2 }), "x");
    stores[0].down = false;
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["precious", "precious", "precious"]);
  });

  it("makes nothing uncertain any more after that repair: then fewer silent stores than are needed hide nothing", async () => {
    const stores = await thinlyPut();
    const second = memoryPool(stores, { machine: "00000002", min: 2 });
    expect(await second.pool.maintenance.rebalance({ min: 2 })).toMatchObject({ whole: true });
    await second.pool.close();
    for (const store of stores) {
      store.down = true;
      const { pool } = memoryPool(stores, { machine: "00000003", min: 2 });
      expect(await textOrCode(pool, "x")).toBe("precious");
      expect(await textOrCode(pool, "y")).toBe("error: not-found");
      expect(await namesOn(pool)).toEqual(["founded", "x"]);
      store.down = false;
    }
  });
});

describe("p31: a store that was wiped and is filled again", () => {
  it("proves nothing before the repair that fills it has ended", async () => {
    const stores = three();
    const [a, b, c] = stores;
    const first = memoryPool(stores, { machine: "00000001", min: 2 });
    const second = memoryPool(stores, { machine: "00000002", min: 2 });
    await first.pool.put("founded", toBody("1"));
    await second.pool.put("of the second", toBody("2"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    c.down = true;
    expect((await second.pool.put("x", toBody("on A and B"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
    c.down = false;
    for (let name = a.objects.next("", false); name !== undefined; name = a.objects.next("", false))
      a.objects.delete(name);
    // All that a repair does first, and then it dies.
    const killed = memoryPool(stores, { machine: "00000001", min: 2, index: first.index });
    await killed.ledger.hear();
    const [member] = killed.ledger.members;
    if (member === undefined) throw new Error("no A");
    expect(member.state).toBe("missing");
    await killed.ledger.refill(member);
    b.down = true;
    await expectUncertain(memoryPool(stores, { machine: "00000003", min: 2 }), "x");
    b.down = false;
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["on A and B", "on A and B", "on A and B"]);
  });
});

describe("p33: a store that the pool's file does not name", () => {
  it("counts as silent, until it is given up", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c], { machine: "00000001" });
    await first.pool.put("founded", toBody("1"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    b.down = c.down = true;
    expect((await first.pool.put("x", toBody("on A alone"))).owed).toHaveLength(2);
    await first.pool.close();
    b.down = c.down = false;
    const second = memoryPool([b, c], { machine: "00000002" });
    await expectUncertain(second, "x");
    expect((await second.pool.maintenance.status()).absent).toEqual(["A"]);
    expect(await second.pool.maintenance.verify()).toMatchObject({ unheard: ["A"] });
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["A"] });
    await expectUncertain(second, "x");
    await second.pool.maintenance.forget("A");
    expect(await textOrCode(second.pool, "x")).toBe("error: not-found");
    expect(await namesOn(second.pool)).toEqual(["founded"]);
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true, unheard: [] });
  });

  it("that was given up is a stranger when it comes back, and what it brings is not the pool's", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c], { machine: "00000001" });
    await first.pool.put("founded", toBody("1"));
    await first.pool.close();
    const second = memoryPool([b, c], { machine: "00000002" });
    await second.pool.maintenance.forget("A");
    await second.pool.delete("founded");
    await second.pool.close();
    const third = memoryPool([a, b, c], { machine: "00000003" });
    expect((await third.pool.maintenance.stores()).map((store) => store.trouble)).toEqual([
      "removed",
      undefined,
      undefined,
    ]);
    expect(await textOrCode(third.pool, "founded")).toBe("error: not-found");
    expect(await namesOn(third.pool)).toEqual([]);
    expect(await third.pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["A"] });
    expect([a, b, c].map((store) => textOn(store, "founded"))).toEqual(["1", undefined, undefined]);
  });
});

describe("p18: segments that were merged while they were read", () => {
  it("are not taken for read from a store that says only that they are gone", async () => {
    const stores = three();
    const views = viewsOf(stores);
    const first = memoryPool(stores, { machine: "00000001", min: 2 });
    const second = memoryPool(views, {
      machine: "00000002",
      min: 2,
      freshMs: 60_000,
      runtime: new MachineClock().runtime(),
    });
    await first.pool.put("x", toBody("v1"));
    await first.pool.put("y", toBody("1"));
    await second.pool.put("of the second", toBody("2"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    await second.ledger.hear();
    await first.pool.delete("x");
    await first.pool.put("y", toBody("longer now"));
    await first.ledger.flushed();
    let merged: Promise<unknown> | undefined;
    for (const view of views) {
      view.onCall = async (operation, name) => {
        if (operation !== "get" || !/ledger\/\d-/u.test(name)) return;
        merged ??= first.ledger.compact().then(() => {
          views[2].down = true;
        });
        await merged;
        if (view.down) throw new Error("connection reset");
      };
    }
    await second.ledger.hear();
    expect(merged).toBeDefined();
    // Whoever says something says what is so: C alone is silent, and every acknowledged write is on two stores.
    expect(await namesOn(second.pool)).toEqual(["of the second", "y"]);
    expect(await codeOf(second.pool.stat("x"))).toBe("not-found");
    expect((await second.pool.stat("y")).size).toBe(10);
  });
});

describe("p19: a delete that too few stores have heard of", () => {
  it("has not happened, for no machine and whichever store is silent", async () => {
    const stores = three();
    const [a, b, c] = stores;
    const first = memoryPool(stores, { machine: "00000001", min: 2 });
    const second = memoryPool(stores, { machine: "00000002", min: 2 });
    await first.pool.put("x", toBody("v1"));
    await second.pool.put("of the second", toBody("2"));
    for (const store of [b, c]) {
      store.onCall = (operation, name) => {
        if (operation === "put" && name.startsWith(".holdfast/ledger")) throw new Error("quota");
      };
    }
    expect(await codeOf(first.pool.delete("x"))).toBe("unavailable");
    await first.ledger.flushed();
    b.onCall = c.onCall = undefined;
    const reads = async (): Promise<string[]> => [
      await textOrCode(first.pool, "x"),
      await textOrCode(second.pool, "x"),
    ];
    expect(await reads()).toEqual(["v1", "v1"]);
    a.down = true;
    expect(await reads()).toEqual(["v1", "v1"]);
    a.down = false;
    expect(await reads()).toEqual(["v1", "v1"]);
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v1", "v1", "v1"]);
    expect(await reads()).toEqual(["v1", "v1"]);
  });
});
