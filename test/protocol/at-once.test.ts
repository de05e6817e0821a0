/** Two machines write one name at once: each is told what became of its own, and one version stands, whole. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { gate } from "../helpers/gate.ts";
import { memoryPool, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import { bodyThrough, textOrCode } from "../helpers/pool-answers.ts";

describe("an acknowledged put", () => {
  it("is read with any one store silent although another put came over one of its copies", async () => {
    const stores = [switched("A"), switched("B"), switched("C")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const first = memoryPool(views, { machine: "00000001", min: 2 });
    const second = memoryPool(stores, { machine: "00000002", min: 2 });
    await first.pool.put("x", toBody("v1"));
    await second.pool.put("of the second", toBody("2"));
    // The second's put begins before the first's, and its bytes come after those of the first on B and C, before on A.
    const [through, begun, toA, landed] = [gate(), gate(), gate(), gate()];
    let waiting = 2;
    views[0].onCall = async (operation, name) => {
      if (operation === "put" && name === "x") await toA.opened;
    };
    for (const view of [views[1], views[2]]) {
      view.afterCall = (operation, name) => {
        if (operation === "put" && name === "x" && --waiting === 0) landed.open();
      };
    }
    const acknowledged = second.pool.put("x", bodyThrough("acknowledged", through, begun));
    await begun.opened;
    const other = first.pool.put("x", toBody("the other"));
    await landed.opened;
    through.open();
    expect(await acknowledged).toMatchObject({ owed: [] });
    toA.open();
    // Both began before either had ended: one of them is the later one, whatever the other one is told.
    expect(await other).toMatchObject({ owed: [{ store: "A", owes: "copy" }] });
    for (const silent of stores) {
      silent.down = true;
      for (const { pool } of [first, second]) {
        expect([silent.store.label, await textOrCode(pool, "x")]).toEqual([silent.store.label, "acknowledged"]);
      }
      silent.down = false;
    }
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["acknowledged", "acknowledged", "acknowledged"]);
  });
});

describe("a put that was begun before another machine deleted the object and put it anew", () => {
  for (const mode of ["mirror", "stripe"] as const) {
    it(`does not take the new object's bytes away unnoticed (${mode})`, async () => {
      const stores = [switched("A"), switched("B"), switched("C")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
      const first = memoryPool(views, { machine: "00000001", mode });
      const second = memoryPool(stores, { machine: "00000002", mode });
      await first.pool.put("x", toBody("v1"));
      await second.pool.put("of the second", toBody("2"));
      await second.ledger.flushed();
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      const [begun, held] = [gate(), gate()];
      for (const view of views) {
        view.onCall = async (operation, name) => {
          if (operation !== "put" || name !== "x") return;
          begun.open();
          await held.opened;
        };
      }
      const slow = first.pool.put("x", toBody("slow"));
      await begun.opened;
      await second.pool.delete("x");
      const { owed } = await second.pool.put("x", toBody("anew"));
      expect(owed.filter(({ owes }) => owes === "copy")).toEqual([]);
      held.open();
      await slow.catch(() => undefined);
      const text = await textOrCode(second.pool, "x");
      expect(["slow", "anew"]).toContain(text);
      expect(await textOrCode(first.pool, "x")).toBe(text);
      expect(await second.pool.maintenance.verify()).not.toMatchObject({ byKind: { lost: 1 } });
      expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(await textOrCode(memoryPool(stores, { machine: "00000003", mode }).pool, "x")).toBe(text);
    });
  }
});

describe("a put of a stripe whose first store refuses it before it takes a byte", () => {
  it("is not called taken back while it goes on to the next store", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const first = memoryPool(stores, { machine: "00000001", mode: "stripe" });
    const second = memoryPool(views, { machine: "00000002", mode: "stripe" });
    await first.pool.put("x", toBody("v1"));
    const holder = stores[0].objects.get("x") === undefined ? 1 : 0;
    await second.pool.put("of the second", toBody("2"));
    views[holder].onCall = (operation, name) => {
      if (operation === "put" && name === "x") throw new HoldfastError("denied", "not here");
    };
    await second.pool.put("x", toBody("v2"));
    views[holder].onCall = undefined;
    await second.ledger.flushed();
    await first.ledger.hear();
    for (const { ledger } of [first, second]) {
      const [record, ...others] = ledger.index.get("x")?.records ?? [];
      expect(others).toEqual([]);
      // A machine that heard so would let any other write win over it.
      expect(record?.settles ?? []).not.toContain(record?.version);
    }
    expect(await textOrCode(first.pool, "x")).toBe("v2");
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
  });
});

describe("a record that a store lists before it has answered", () => {
  it("is no news to the process that writes it", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const { pool, ledger } = memoryPool(views);
    await pool.put("x", toBody("v1"));
    const [record] = ledger.index.get("x")?.records ?? [];
    if (record === undefined) throw new Error("the put left no record");
    const [landed, answered] = [gate(), gate()];
    for (const view of views) {
      view.afterCall = async () => {
        landed.open();
        await answered.opened;
      };
    }
    const following = ledger.follow("x");
    const copies = Object.fromEntries(
      Object.keys(record.copies).map((id) => [id, { state: "copy", rev: ledger.stamp(record) } as const]),
    );
    const appended = ledger.append({ objects: [{ ...record, copies }] });
    await landed.opened;
    await ledger.hear();
    expect(following.take()).toEqual([]);
    answered.open();
    await Promise.all(appended.values());
    await ledger.hear();
    expect(following.take()).toEqual([]);
    following.end();
  });
});

describe("a put that fails because its store falls silent", () => {
  it("does not hide another machine's put that came over it", async () => {
    const store = switched("A");
    const view = viewOf(store);
    const first = memoryPool([store], { machine: "00000001" });
    const second = memoryPool([view], { machine: "00000002" });
    await first.pool.put("of the first", toBody("1"));
    await second.pool.put("of the second", toBody("2"));
    const recorded = gate();
    const [over, silent] = [gate(), { is: false, reads: 0 }];
    view.afterCall = async (operation, name) => {
      // The intent, the bytes, and then the record.
      if (operation !== "put" || store.objects.get("x") === undefined || name === "x" || silent.is) return;
      recorded.open();
      await over.opened;
      silent.is = true;
    };
    view.onCall = (operation, name) => {
      if (silent.is && operation === "get" && name.startsWith(".holdfast/ledger/") && silent.reads++ > 0)
        throw new HoldfastError("unavailable", "connection refused");
    };
    const failing = second.pool.put("x", toBody("fails"));
    await recorded.opened;
    expect(await first.pool.put("x", toBody("stands"))).toMatchObject({ owed: [] });
    over.open();
    await expect(failing).rejects.toMatchObject({ code: "unavailable" });
    view.onCall = undefined;
    await second.ledger.hear();
    await second.ledger.flushed();
    const third = memoryPool([store], { machine: "00000003" });
    for (const { pool } of [first, second, third]) expect(await textOrCode(pool, "x")).toBe("stands");
  });
});
