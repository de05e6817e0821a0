/** Drain, rebalance and repair change what stands on stores while others write: nothing acknowledged is lost by that. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { currentRecord } from "../../src/ledger/record.ts";
import { gate } from "../helpers/gate.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { memoryPool, plant, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { textOf, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

const FRESH_MS = 20_000;
/** Longer than a request that ended without an answer may take effect. */
const LATE_MS = 61_000;

const onAll = (stores: readonly Switched[], name: string): readonly (string | undefined)[] =>
  stores.map((store) => textOn(store, name));

/** Stores of which the ledger says that they hold the object, and that hold something else. */
function wrongHolders(
  { index, ledger }: MemoryPool,
  stores: readonly Switched[],
  name: string,
  text: string,
): readonly string[] {
  const [record, ...others] = index.get(name)?.records ?? [];
  if (others.length > 0) return [];
  return stores
    .filter((store, place) => {
      const member = ledger.members[place];
      return member !== undefined && ledger.holds(record, member) && textOn(store, name) !== text;
    })
    .map((store) => store.store.label);
}

describe("p13: a machine that moves an object of a stripe while another one overwrites it", () => {
  for (const how of ["drain", "rebalance"] as const) {
    it(`does not delete the other's acknowledged bytes (${how})`, async () => {
      const stores = [switched("A"), switched("B"), switched("C")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
      const clock = new MachineClock();
      const options = { mode: "stripe", freshMs: FRESH_MS, runtime: clock.runtime() } as const;
      const first = memoryPool(views, { ...options, machine: "00000001" });
      const second = memoryPool(stores, { ...options, machine: "00000002" });
      await first.pool.put("of the first", toBody("1"));
      await second.pool.put("of the second", toBody("2"));
      await second.ledger.flushed();
      for (const name of ["x", "y"]) {
        first.index.setFact("turn", "0");
        await first.pool.put(name, toBody(`v1 of ${name}, which is long enough to be worth a move`));
        expect(textOn(stores[0], name)).toBeDefined();
      }
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      clock.pass(FRESH_MS * 2);
      await textOf(second.pool, "x");
      const acknowledged = new Map<string, string>();
      views[0].onCall = async (operation, name) => {
        if (operation !== "delete" || (name !== "x" && name !== "y") || acknowledged.has(name)) return;
        acknowledged.set(name, `v2 of ${name}`);
        expect(await second.pool.put(name, toBody(`v2 of ${name}`))).toMatchObject({ size: 7 });
      };
      if (how === "drain") await first.pool.maintenance.drain("A");
      else await first.pool.maintenance.rebalance();
      expect(acknowledged.size).toBeGreaterThan(0);
      clock.pass(FRESH_MS * 2);
      for (const [name, text] of acknowledged) {
        expect([await textOrCode(first.pool, name), await textOrCode(second.pool, name)]).toEqual([text, text]);
      }
      expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
      for (const [name, text] of acknowledged)
        expect(onAll(stores, name).filter((one) => one !== undefined)).toEqual([text]);
    });
  }
});

describe("a change that lasts longer than a late request may", () => {
  for (const how of ["drain", "rebalance"] as const) {
    it(`is waited for by a put (${how} of a stripe)`, async () => {
      const stores = [switched("A"), switched("B")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
      const clock = new MachineClock();
      const options = { mode: "stripe", freshMs: FRESH_MS, runtime: clock.runtime() } as const;
      const first = memoryPool(views, { ...options, machine: "00000001" });
      const second = memoryPool(stores, { ...options, machine: "00000002" });
      await first.pool.put("of the first", toBody("1"));
      await second.pool.put("of the second", toBody("2"));
      await second.ledger.flushed();
      for (const name of ["x", "y"]) {
        first.index.setFact("turn", "0");
        await first.pool.put(name, toBody(`v1 of ${name}, which is long enough to be worth a move`));
      }
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      const answers = new Map<string, string>();
      views[0].onCall = async (operation, name) => {
        if (operation !== "delete" || (name !== "x" && name !== "y") || answers.has(name)) return;
        answers.set(name, "");
        answers.set(name, await codeOf(second.pool.put(name, toBody(`v2 of ${name}`))));
      };
      if (how === "drain") await first.pool.maintenance.drain("A");
      else await first.pool.maintenance.rebalance();
      expect([...answers.values()]).toEqual([...answers.values()].map(() => "conflict"));
      expect(answers.size).toBeGreaterThan(0);
      for (const name of answers.keys()) expect(await textOrCode(second.pool, name)).toContain(`v1 of ${name}`);
    });
  }

  for (const operation of ["put", "delete"] as const) {
    it(`keeps a store from counting as a holder (${operation === "put" ? "repair of a mirror" : "delete"})`, async () => {
      const stores = [switched("A"), switched("B"), switched("C")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
      const clock = new MachineClock();
      const options = { freshMs: FRESH_MS, runtime: clock.runtime() } as const;
      const first = memoryPool(views, { ...options, machine: "00000001" });
      const second = memoryPool(stores, { ...options, machine: "00000002" });
      await first.pool.put("x", toBody("v1"));
      await second.pool.put("of the second", toBody("2"));
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      if (operation === "put") stores[2].objects.delete("x");
      const begun = gate();
      const held = gate();
      views[2].onCall = async (called, name) => {
        if (called !== operation || name !== "x") return;
        begun.open();
        await held.opened;
      };
      const changing = operation === "put" ? first.pool.maintenance.repair() : first.pool.delete("x");
      await begun.opened;
      for (let passed = 0; passed < 2 * LATE_MS; passed += LATE_MS / 4) {
        clock.pass(LATE_MS / 4);
        await first.ledger.flushed();
      }
      const { owed } = await second.pool.put("x", toBody("v2"));
      held.open();
      await changing;
      const wrong = stores.filter((store) => textOn(store, "x") !== "v2").map((store) => store.store.label);
      expect(wrong).toEqual(["C"]);
      expect(owed.map(({ store }) => store)).toEqual(wrong);
    });
  }
});

describe("p14: a machine that brings a missing copy while another one overwrites the object", () => {
  it("does not put the old bytes over the new ones, or says that it did", async () => {
    const stores = [switched("A"), switched("B"), switched("C")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const clock = new MachineClock();
    const options = { freshMs: FRESH_MS, runtime: clock.runtime() };
    const first = memoryPool(views, { ...options, machine: "00000001" });
    const second = memoryPool(stores, { ...options, machine: "00000002" });
    await first.pool.put("x", toBody("v1"));
    await second.pool.put("of the second", toBody("2"));
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    stores[1].objects.delete("x");
    stores[2].objects.delete("x");
    clock.pass(FRESH_MS * 2);
    await textOf(second.pool, "x");
    let isBegun = false;
    let owed: readonly string[] = [];
    for (const view of views) {
      view.onCall = async (operation, name) => {
        if (operation !== "put" || name !== "x" || isBegun) return;
        isBegun = true;
        owed = (await second.pool.put("x", toBody("v2"))).owed.map(({ store }) => store);
      };
    }
    await first.pool.maintenance.repair();
    expect(isBegun).toBe(true);
    clock.pass(FRESH_MS * 2);
    expect([await textOrCode(first.pool, "x"), await textOrCode(second.pool, "x")]).toEqual(["v2", "v2"]);
    // What is not the new bytes is known to be owed.
    const wrong = stores.filter((store) => textOn(store, "x") !== "v2").map((store) => store.store.label);
    const { stores: states, degraded } = await second.pool.maintenance.status();
    for (const label of wrong) expect(states.find((state) => state.label === label)?.owedCopies).toBe(1);
    expect(degraded).toBe(wrong.length + owed.length === 0 ? 0 : 1);
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
    expect(onAll(stores, "x")).toEqual(["v2", "v2", "v2"]);
  });
});

describe("p39: one machine that moves or repairs everything while another one overwrites at random", () => {
  const NAMES = 40;

  for (const mode of ["stripe", "mirror"] as const) {
    it(`loses none of what was acknowledged (${mode})`, async () => {
      const stores = [switched("A"), switched("B"), switched("C")];
      const first = memoryPool(stores, {
        machine: "00000001",
        freshMs: 1000,
        mode,
        runtime: new MachineClock().runtime(),
      });
      const second = memoryPool(stores, {
        machine: "00000002",
        freshMs: 1000,
        mode,
        runtime: new MachineClock().runtime(),
      });
      await first.pool.put("of the first", toBody("1"));
      await second.pool.put("of the second", toBody("2"));
      await second.ledger.flushed();
      const names = Array.from({ length: NAMES }, (_, place) => `name ${place}`);
      await Promise.all(names.map((name) => first.pool.put(name, toBody(`v0 of ${name}`))));
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      if (mode === "mirror") for (const name of names) for (const store of stores.slice(1)) store.objects.delete(name);
      for (const store of stores) store.onCall = () => new Promise((resolve) => void setTimeout(resolve, 2));
      await Promise.all([first.ledger.hear(), second.ledger.hear()]);
      const last = new Map<string, string>();
      const over = new AbortController();
      const overwrite = async (writer: number): Promise<void> => {
        for (let round = 0; !over.signal.aborted; round++) {
          const name = names[(writer * 10 + (round % 10)) % NAMES] ?? "";
          const text = `round ${round} of ${name}`;
          const outcome = await second.pool.put(name, toBody(text)).catch(() => undefined);
          // What was refused may have come to stand all the same.
          if (outcome === undefined) last.delete(name);
          else last.set(name, text);
        }
      };
      const writers = [0, 1, 2, 3].map(overwrite);
      if (mode === "stripe") await first.pool.maintenance.drain("A");
      else await first.pool.maintenance.repair();
      over.abort();
      await Promise.all(writers);
      for (const store of stores) store.onCall = undefined;
      expect(last.size).toBeGreaterThan(0);
      await second.ledger.hear();
      for (const [name, text] of last) expect([name, await textOrCode(second.pool, name)]).toEqual([name, text]);
      for (const [name, text] of last) expect([name, wrongHolders(second, stores, name, text)]).toEqual([name, []]);
      expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
      await first.ledger.hear();
      for (const [name, text] of last) expect([name, await textOrCode(first.pool, name)]).toEqual([name, text]);
    });
  }
});

describe("p16: a repair that settles a contested name", () => {
  it("does not take another process's put, of the same machine, for its own record", async () => {
    const stores = [switched("A"), switched("B"), switched("C")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const clock = new MachineClock();
    const founder = memoryPool(stores, { machine: "00000001" });
    await founder.pool.put("x", toBody("v1"));
    expect(await founder.pool.maintenance.repair()).toMatchObject({ whole: true });
    // A third machine died when it had announced a put, and two stores lost their copies.
    const dying = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const announced = new Promise<void>((resolve) => {
      for (const view of dying) {
        view.onCall = (operation, name) => {
          if (operation !== "put" || name !== "x") return;
          resolve();
          return new Promise(() => undefined);
        };
      }
    });
    void memoryPool(dying, { machine: "00000009" }).pool.put("x", toBody("never"));
    await announced;
    stores[1].objects.delete("x");
    stores[2].objects.delete("x");
    const repairing = memoryPool(views, {
      machine: "00000001",
      index: founder.index,
      leaseMs: -1,
      runtime: clock.runtime(),
    });
    const other = memoryPool(stores, { machine: "00000001", index: founder.index, runtime: clock.runtime() });
    let isLooking = false;
    let acknowledged: readonly string[] | undefined;
    for (const view of views) {
      view.onCall = async (operation, name) => {
        if (operation === "get" && name === "x") isLooking = true;
        if (operation !== "put" || !name.startsWith(".holdfast/ledger") || !isLooking || acknowledged !== undefined)
          return;
        acknowledged = [];
        acknowledged = (await other.pool.put("x", toBody("v2"))).owed.map(({ store }) => store);
      };
    }
    await repairing.pool.maintenance.repair();
    expect(acknowledged).toBeDefined();
    await other.ledger.hear();
    expect(await textOrCode(other.pool, "x")).toBe("v2");
    expect(wrongHolders(other, stores, "x", "v2")).toEqual([]);
    // What the repair may have been about to change is left alone for a while.
    clock.pass(LATE_MS);
    expect(await repairing.pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
    expect(onAll(stores, "x")).toEqual(["v2", "v2", "v2"]);
  });
});

describe("p07: a copy that is not to be there any more", () => {
  /** x is on A and B, and C, which is down, owes it. */
  async function thin(): Promise<{ stores: [Switched, Switched, Switched]; founder: MemoryPool }> {
    const stores: [Switched, Switched, Switched] = [switched("A"), switched("B"), switched("C")];
    const founder = memoryPool(stores, { machine: "00000001", min: 2 });
    await founder.pool.put("founded", toBody("1"));
    expect(await founder.pool.maintenance.repair()).toMatchObject({ whole: true });
    stores[2].down = true;
    expect((await founder.pool.put("x", toBody("precious"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
    return { stores, founder };
  }

  it("stays while a store that should have one is silent, when its own is drained", async () => {
    const { stores, founder } = await thin();
    expect(await founder.pool.maintenance.drain("A")).toMatchObject({ removable: false, whole: false });
    expect(onAll(stores, "x")).toEqual(["precious", "precious", undefined]);
    stores[1].objects.delete("x");
    expect(await textOrCode(founder.pool, "x")).toBe("precious");
    stores[2].down = false;
    expect(await founder.pool.maintenance.drain("A")).toMatchObject({ removable: true });
    expect(onAll(stores, "x")).toEqual([undefined, "precious", "precious"]);
  });

  it("stays while a store that should have one is silent, when the prefixes were changed", async () => {
    const { stores, founder } = await thin();
    await founder.pool.close();
    const options = { machine: "00000001", min: 2, index: founder.index, prefixes: [[], ["x"], ["x"]] };
    const { pool } = memoryPool(stores, options);
    expect(await pool.maintenance.rebalance({ prefixes: true })).toMatchObject({ whole: false, unheard: ["C"] });
    expect(onAll(stores, "x")).toEqual(["precious", "precious", undefined]);
    expect((await pool.maintenance.status()).stores.map(({ owedCopies }) => owedCopies)).toEqual([0, 0, 1]);
    stores[2].down = false;
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(onAll(stores, "x")).toEqual([undefined, "precious", "precious"]);
  });
});

describe("p12: repair --quick", () => {
  it("does not delete the last good copy on the word of sizes", async () => {
    const stores: [Switched, Switched, Switched] = [switched("A"), switched("B"), switched("C")];
    const founder = memoryPool(stores, { machine: "00000001" });
    await founder.pool.put("x", toBody("precious"));
    expect(await founder.pool.maintenance.repair()).toMatchObject({ whole: true });
    await founder.pool.close();
    for (const store of stores.slice(1)) plant(store, "x", "rotten!!");
    const options = { machine: "00000001", index: founder.index, prefixes: [[], ["x"], ["x"]] };
    const { pool } = memoryPool(stores, options);
    expect(await pool.maintenance.rebalance({ prefixes: true, quick: true })).toMatchObject({ whole: true });
    expect(await textOrCode(pool, "x")).toBe("precious");
    expect(onAll(stores, "x")).toEqual([undefined, "precious", "precious"]);
  });
});

describe("a drain that would leave fewer stores than a put needs", () => {
  it("is refused, however few copies are to be left", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const { pool } = memoryPool(stores, { min: 2 });
    await pool.put("x", toBody("1"));
    await expect(pool.maintenance.drain("B", { leaveCopies: 1 })).rejects.toMatchObject({
      code: "conflict",
      store: "B",
    });
    expect((await pool.maintenance.status()).stores.map(({ draining }) => draining)).toEqual([false, false]);
  });

  it("may go on when the pool needs fewer", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const { pool } = memoryPool(stores, { min: 2 });
    await pool.put("x", toBody("1"));
    await pool.maintenance.rebalance({ min: 1 });
    expect(await pool.maintenance.drain("B", { leaveCopies: 1 })).toMatchObject({ removable: true });
    expect(await pool.put("y", toBody("2"))).toMatchObject({ owed: [] });
  });
});

describe("a mirror that becomes a stripe", () => {
  async function mirrored(): Promise<{ readonly stores: readonly [Switched, Switched]; readonly machine: MemoryPool }> {
    const stores = [switched("A"), switched("B")] as const;
    const machine = memoryPool(stores);
    for (const name of ["w", "x", "y", "z"]) await machine.pool.put(name, toBody(name));
    return { stores, machine };
  }

  it("keeps one copy of each object, on the store that has least", async () => {
    const { stores, machine } = await mirrored();
    expect(await machine.pool.maintenance.rebalance({ mode: "stripe" })).toMatchObject({ whole: true, failed: 0 });
    const copies = ["w", "x", "y", "z"].map((name) => onAll(stores, name).filter((text) => text === name).length);
    expect(copies).toEqual([1, 1, 1, 1]);
    expect(stores.map((store) => ["w", "x", "y", "z"].filter((name) => textOn(store, name)).length)).toEqual([2, 2]);
  });

  it("keeps the copy that is good", async () => {
    const { stores, machine } = await mirrored();
    for (const name of ["w", "x", "y", "z"]) plant(stores[0], name, "rot");
    expect(await machine.pool.maintenance.rebalance({ mode: "stripe", quick: true })).toMatchObject({ whole: true });
    for (const name of ["w", "x", "y", "z"]) expect(await textOrCode(machine.pool, name)).toBe(name);
  });

  it("keeps two copies where the next repair finds them", async () => {
    const { stores, machine } = await mirrored();
    await machine.pool.maintenance.rebalance({ mode: "stripe" });
    plant(stores[0], "x", "x");
    plant(stores[1], "x", "x");
    expect(await machine.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(onAll(stores, "x")).toEqual(["x", "x"]);
  });
});

describe("two machines that drain two of three stores at one moment", () => {
  it("do not leave one copy of an object together", async () => {
    const stores = [switched("A"), switched("B"), switched("C")] as const;
    const first = memoryPool(stores, { machine: "00000001" });
    const second = memoryPool(stores, { machine: "00000002" });
    await first.pool.put("x", toBody("precious"));
    await second.pool.put("of the second", toBody("2"));
    const drains = await Promise.allSettled([first.pool.maintenance.drain("A"), second.pool.maintenance.drain("B")]);
    expect(drains.filter(({ status }) => status === "rejected")).not.toEqual([]);
    expect(onAll(stores, "x").filter((text) => text === "precious").length).toBeGreaterThanOrEqual(2);
  });
});

describe("a put of a stripe whose bytes a move of the version before takes away", () => {
  it("goes to another store, or leaves the version before as it was", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const first = memoryPool(stores, { mode: "stripe", machine: "00000001" });
    const second = memoryPool(views, { mode: "stripe", machine: "00000002" });
    first.index.setFact("turn", "0");
    await first.pool.put("x", toBody("v1"));
    expect(textOn(stores[0], "x")).toBe("v1");
    await second.pool.put("of the second", toBody("2"));
    await first.ledger.hear();
    const current = currentRecord(first.index.get("x"));
    if (current === undefined) throw new Error("no record of x");
    let isSent = false;
    let isMoved = false;
    views[0].onCall = async (operation, name) => {
      if (operation !== "put") return;
      if (name === "x") isSent = true;
      if (!name.startsWith(".holdfast/ledger/") || !isSent || isMoved) return;
      isMoved = true;
      // The copy is on B already; now it goes from A, and takes the put's bytes with it.
      plant(stores[1], "x", "v1");
      stores[0].objects.delete("x");
      const version = first.ledger.stamp(current);
      const [a, b] = first.ledger.members.map(({ id }) => id ?? "");
      const copies = {
        [a ?? ""]: { state: "delete", rev: version },
        [b ?? ""]: { state: "copy", rev: version },
      } as const;
      const claim = { name: "x", version, base: current.version, kind: "intent", repair: true, copies } as const;
      await Promise.all(first.ledger.append({ objects: [claim] }).values());
    };
    const outcome = await codeOf(second.pool.put("x", toBody("v2")));
    expect(isMoved).toBe(true);
    const text = outcome === "no error" ? "v2" : "v1";
    expect(await textOf(memoryPool(stores, { mode: "stripe", machine: "00000003" }).pool, "x")).toBe(text);
    expect(await first.pool.maintenance.status()).toMatchObject({ lost: 0 });
  });
});
