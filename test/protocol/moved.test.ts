/** A store that is another one, or is not there, by the time that something is said of it. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { markOf } from "../../src/ledger/record.ts";
import type { ObjectRecord } from "../../src/ledger/record.ts";
import { gate } from "../helpers/gate.ts";
import { memoryPool, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { debtsOf, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

type Content = ReadonlyMap<string, Uint8Array>;

function contentOf({ objects }: Switched): Content {
  const content = new Map<string, Uint8Array>();
  for (let name = objects.next("", false); name !== undefined; name = objects.next(name, true))
    content.set(name, objects.get(name)?.bytes ?? Buffer.alloc(0));
  return content;
}

/** Something else stands in the store's place from now on. */
function replace(store: Switched, content: Content): void {
  for (const name of contentOf(store).keys()) store.objects.delete(name);
  for (const [name, bytes] of content) store.objects.set(name, { bytes, modifiedMs: 1 });
}

describe("a store that is unmounted while an object is put over its only copy", () => {
  for (const mode of ["stripe", "mirror"] as const) {
    it(`has the copy when it is back (${mode})`, async () => {
      const stores = mode === "mirror" ? [switched("A")] : [switched("A"), switched("B")];
      const { pool } = memoryPool(stores, { mode, onfail: "abort", machine: "00000001" });
      await pool.put("x", toBody("v1"));
      const holder = stores.find((store) => textOn(store, "x") !== undefined);
      if (holder === undefined) throw new Error("nobody has x");
      let mounted: Content = new Map();
      holder.onCall = (operation, name) => {
        if (operation !== "put" || name !== "x") return;
        holder.onCall = undefined;
        mounted = contentOf(holder);
        replace(holder, new Map());
      };
      expect(await codeOf(pool.put("x", toBody("v2")))).toBe("unavailable");
      replace(holder, mounted);
      expect(await textOrCode(pool, "x")).toBe("v1");
      expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
      const other = memoryPool(stores, { mode, machine: "00000002" });
      expect(await textOrCode(other.pool, "x")).toBe("v1");
    });
  }
});

describe("a store that is unmounted while an object is deleted", () => {
  for (const machines of [1, 2]) {
    it(`owes the delete, and is told so (${machines} ${machines === 1 ? "machine" : "machines"} write)`, async () => {
      const stores = [switched("A"), switched("B")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
      const { pool } = memoryPool(views, { machine: "00000001" });
      await pool.put("x", toBody("v1"));
      if (machines === 2) await memoryPool(stores, { machine: "00000002" }).pool.put("y", toBody("y"));
      const mounted = contentOf(stores[0]);
      views[0].onCall = (operation, name) => {
        if (operation === "delete" && name === "x") replace(stores[0], new Map());
      };
      expect((await pool.delete("x")).owed.map(({ store, owes }) => `${store}: ${owes}`)).toEqual(["A: delete"]);
      await pool.close();
      replace(stores[0], mounted);
      const later = memoryPool(stores, { machine: "00000001" });
      expect(await debtsOf(later.pool)).toEqual(["x on A: delete"]);
      expect(await later.pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(textOn(stores[0], "x")).toBe(undefined);
    });
  }
});

describe("a store that is unmounted while a delete is told to it", () => {
  it("was not told: with no other store the delete fails, and the object is there when the store is back", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const { pool } = memoryPool(stores, { machine: "00000001" });
    await pool.put("x", toBody("v1"));
    stores[1].down = true;
    const mounted = contentOf(stores[0]);
    stores[0].onCall = (operation, name) => {
      if (operation !== "put" || !name.startsWith(".holdfast/ledger/")) return;
      stores[0].onCall = undefined;
      replace(stores[0], new Map());
    };
    expect(await codeOf(pool.delete("x"))).toBe("unavailable");
    replace(stores[0], mounted);
    stores[1].down = false;
    expect(await textOrCode(pool, "x")).toBe("v1");
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(await textOrCode(memoryPool(stores, { machine: "00000002" }).pool, "x")).toBe("v1");
  });
});

describe("a store that is unmounted while an object is moved to it", () => {
  for (const until of ["the end", "the copy was read back"] as const) {
    it(`is no holder of it, and the object stays where it was (until ${until})`, async () => {
      const stores = [switched("A"), switched("B")] as const;
      const { pool } = memoryPool(stores, { mode: "stripe", machine: "00000001", freshMs: 60_000 });
      await pool.put("x", toBody("v1"));
      const [from, to] = textOn(stores[0], "x") === undefined ? [stores[1], stores[0]] : stores;
      const mounted = contentOf(to);
      const remount = (): void => {
        to.onCall = undefined;
        replace(to, mounted);
      };
      to.onCall = (operation, name) => {
        if (operation !== "put" || name !== "x") return;
        // Copies are read back at once.
        to.onCall = until === "the end" ? undefined : (_, next) => void (next !== "x" && remount());
        replace(to, new Map());
      };
      await pool.maintenance.drain(from.store.label, { leaveCopies: 1 }).catch(() => undefined);
      expect(textOn(from, "x")).toBe("v1");
      await pool.close();
      remount();
      const later = memoryPool(stores, { mode: "stripe", machine: "00000001" });
      expect(await textOrCode(later.pool, "x")).toBe("v1");
      await later.pool.maintenance.drain(from.store.label, { leaveCopies: 1 });
      expect([textOn(from, "x"), textOn(to, "x")]).toEqual([undefined, "v1"]);
    });
  }
});

describe("a store that is unmounted while a verify looks at it", () => {
  for (const until of ["for a moment", "until it is over", "twice"]) {
    it(`makes no object lost or missing (${until})`, async () => {
      const stores = [switched("A"), switched("B")];
      const { pool } = memoryPool(stores, { mode: "stripe", machine: "00000001" });
      await pool.put("x", toBody("v1"));
      expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
      const holder = stores.find((store) => textOn(store, "x") !== undefined);
      if (holder === undefined) throw new Error("nobody has x");
      let mounted: Content | undefined;
      let looks = 0;
      holder.onCall = (operation, name) => {
        if (operation === "get" && name === "x") {
          looks++;
          if (looks > 1 && until !== "twice") return;
          mounted = contentOf(holder);
          replace(holder, new Map());
        } else if (operation === "list" && mounted !== undefined && until !== "until it is over" && looks < 2) {
          replace(holder, mounted);
          mounted = undefined;
        }
      };
      const report = await pool.maintenance.verify();
      expect(looks).toBeGreaterThan(0);
      expect([report.byKind, report.unheard]).toEqual([{}, until === "for a moment" ? [] : [holder.store.label]]);
    });
  }
});

describe("two stores that change places while an object is put", () => {
  it("count as no holders of it, under neither name", async () => {
    const stores = [switched("A"), switched("B")];
    const { pool, ledger } = memoryPool(stores, { machine: "00000001" });
    await pool.put("y", toBody("y"));
    const [a, b] = stores;
    if (a === undefined || b === undefined) throw new Error("two stores");
    let calls = 0;
    a.onCall = (operation, name) => {
      if (operation !== "put" || name === "x" || calls++ > 0) return;
      const former = contentOf(a);
      replace(a, contentOf(b));
      replace(b, former);
    };
    expect(await codeOf(pool.put("x", toBody("v1")))).toBe("unavailable");
    await ledger.flushed();
    const marks = ledger.index.get("x")?.records.flatMap(({ copies }) => Object.values(copies)) ?? [];
    expect(marks.filter(({ state }) => state === "holds")).toEqual([]);
  });
});

describe("a pool's file that gives a store other prefixes", () => {
  it("is refused while that store is silent, too", async () => {
    const stores = [switched("A"), switched("B")];
    const { pool, index } = memoryPool(stores, { machine: "00000001" });
    await pool.put("x", toBody("v1"));
    const other = memoryPool(stores, { machine: "00000001", index, prefixes: [[], ["p/"]] });
    stores[1]?.objects.delete(".holdfast/store.json");
    expect(await codeOf(other.pool.put("y", toBody("v1")))).toBe("config");
    const [a, b] = stores;
    if (b !== undefined) b.down = true;
    expect(await codeOf(other.pool.put("y", toBody("v1")))).toBe("config");
    expect(a === undefined ? undefined : textOn(a, "y")).toBe(undefined);
  });
});

describe("what an address owed where a store turns out to be", () => {
  it("does not go before what the same record says of the store itself", () => {
    const rev = "018bcfe4cd340000-36244a16b2b6064a";
    const record: ObjectRecord = {
      name: "x",
      version: rev,
      base: "",
      kind: "put",
      copies: { own: { state: "holds", rev }, address: { state: "delete", rev } },
    };
    expect(markOf(record, ["own", "address"])?.state).toBe("holds");
    expect(markOf(record, ["address"])?.state).toBe("delete");
  });
});

describe("a put that was not waited for, and whose answer never comes", () => {
  it("may still take effect: the next put leaves its store out", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])];
    const { pool, ledger } = memoryPool(views, { machine: "00000001", wait: "min" });
    await pool.put("x", toBody("v0"));
    await ledger.flushed();
    const through = gate();
    const [, second] = views;
    if (second === undefined) throw new Error("two stores");
    second.onCall = async (operation, name) => {
      if (operation !== "put" || name !== "x") return;
      second.onCall = undefined;
      await through.opened;
      throw new HoldfastError("timeout", "no answer", { operation, object: name });
    };
    expect((await pool.put("x", toBody("v1"))).owed).toMatchObject([{ store: "B" }]);
    through.open();
    expect((await pool.put("x", toBody("v2"))).owed).toMatchObject([{ store: "B" }]);
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v0"]);
    await pool.close();
  });
});
