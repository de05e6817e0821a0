/** A request that ended without an answer may take effect later: until it can no more, nothing is said of what it could change. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { deadline } from "../../src/wrappers/deadline.ts";
import { retry } from "../../src/wrappers/retry.ts";
import { gate } from "../helpers/gate.ts";
import type { Gate } from "../helpers/gate.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { memoryPool, plant, switched, takingOf, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { MemoryPool, MemoryPoolOptions, Switched, View } from "../helpers/memory-pool.ts";
import { debtsOf, textOf, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

/** How long a request may take effect, by default, and a little longer. */
const LATE_MS = 61_000;

/** From now on the machine's puts or deletes of x get no answer from this store, and have not taken effect yet. */
function silence(view: View, silenced: "put" | "delete", times = Infinity): void {
  let left = times;
  view.onCall = (operation, name) => {
    if (operation !== silenced || name !== "x" || left-- <= 0) return;
    throw new HoldfastError("timeout", "no answer", { operation, object: name });
  };
}

const owingOf = async (put: Promise<{ owed: readonly { store: string }[] }>): Promise<readonly string[]> =>
  (await put).owed.map(({ store }) => store);

describe("p15: a copy that nobody waited for", () => {
  it("is known to be owed where it lands on top of what another machine put meanwhile", async () => {
    const stores = [switched("A"), switched("C")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const clock = new MachineClock();
    const options = { freshMs: 20_000, runtime: clock.runtime() };
    const first = memoryPool(views, { ...options, machine: "00000001", wait: "min" });
    const second = memoryPool(stores, { ...options, machine: "00000002" });
    await first.pool.put("x", toBody("v0"));
    await second.pool.put("of the second", toBody("2"));
    await first.ledger.flushed();
    clock.pass(40_000);
    const through = gate();
    views[1].onCall = async (operation, name) => {
      if (operation === "put" && name === "x") await through.opened;
    };
    expect(await owingOf(first.pool.put("x", toBody("v1")))).toEqual(["C"]);
    expect(await owingOf(second.pool.put("x", toBody("v2")))).toEqual(["C"]);
    through.open();
    await first.pool.close();
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v1"]);
    await second.ledger.hear();
    expect(await debtsOf(second.pool)).toEqual(["x on C: copy"]);
    expect(await second.pool.maintenance.status()).toMatchObject({ degraded: 1, lost: 0 });
    stores[0].down = true;
    expect(await textOrCode(second.pool, "x")).toBe("error: unavailable");
    stores[0].down = false;
    clock.pass(LATE_MS);
    expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
  });
});

describe("p17: a put that got no answer from one store", () => {
  interface Late {
    readonly stores: readonly [Switched, Switched];
    readonly clock: MachineClock;
    readonly first: MemoryPool;
    readonly second: MemoryPool;
    /** The put takes effect. */
    readonly land: () => void;
  }

  /** v1 is on B; A has v0, and may have v1 any moment. */
  async function lateOnA(): Promise<Late> {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const clock = new MachineClock();
    const first = memoryPool(views, { machine: "00000001", runtime: clock.runtime() });
    const second = memoryPool(stores, { machine: "00000002", runtime: clock.runtime() });
    await first.pool.put("x", toBody("v0"));
    await second.pool.put("of the second", toBody("2"));
    await second.ledger.flushed();
    silence(views[0], "put");
    expect(await owingOf(first.pool.put("x", toBody("v1")))).toEqual(["A"]);
    views[0].onCall = undefined;
    return { stores, clock, first, second, land: () => plant(stores[0], "x", "v1") };
  }

  /** A is owed what is put next, also once v1 has landed there; a repair brings it when nothing can land any more. */
  async function expectMended({ stores, clock, second, land }: Late, repairing: MemoryPool): Promise<void> {
    expect(await owingOf(second.pool.put("x", toBody("v2")))).toEqual(["A"]);
    land();
    expect(await debtsOf(second.pool)).toEqual(["x on A: copy"]);
    clock.pass(LATE_MS);
    expect(await repairing.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
  }

  for (const who of ["first", "second"] as const) {
    it(`leaves the store owing what is put next, so that nothing is lost when it lands (by the ${who} machine)`, async () => {
      const machines = await lateOnA();
      const { stores, clock, first, second } = machines;
      expect(await owingOf(machines[who].pool.put("x", toBody("v2")))).toEqual(["A"]);
      machines.land();
      expect(stores.map((store) => textOn(store, "x"))).toEqual(["v1", "v2"]);
      for (const machine of [first, second]) {
        expect(await debtsOf(machine.pool)).toEqual(["x on A: copy"]);
        expect(await machine.pool.maintenance.status()).toMatchObject({ degraded: 1 });
        expect(await textOf(machine.pool, "x")).toBe("v2");
      }
      clock.pass(LATE_MS);
      expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
    });
  }

  it("is not made whole by a repair as long as it may land: what was found in place is not confirmed", async () => {
    const late = await lateOnA();
    const { first, second } = late;
    for (const { pool } of [first, second, first]) {
      const report = await pool.maintenance.repair();
      expect(report.whole).toBe(false);
      expect(report.left).toContainEqual({
        kind: "unsettled",
        object: "x",
        store: "A",
        detail: "an earlier request to it may still take effect",
      });
      expect(await debtsOf(first.pool)).toEqual(["x on A: copy"]);
    }
    await expectMended(late, first);
  });

  it("is still waited for by a repair that settles another write of the name", async () => {
    const late = await lateOnA();
    const { stores, clock } = late;
    // A third machine announces a put, and dies; nothing of it was sent.
    const dying = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const announced = gate();
    for (const view of dying) {
      view.onCall = (operation, name) => {
        if (operation !== "put" || name !== "x") return;
        announced.open();
        return new Promise(() => undefined);
      };
    }
    void memoryPool(dying, { machine: "00000003", runtime: clock.runtime() }).pool.put("x", toBody("never"));
    await announced.opened;
    const repairing = memoryPool(stores, { machine: "00000004", leaseMs: -1, runtime: clock.runtime() });
    for (let round = 0; round < 3; round++) {
      await repairing.pool.maintenance.repair();
      expect(await debtsOf(repairing.pool)).toEqual(["x on A: copy"]);
    }
    await expectMended(late, repairing);
  });

  it("counts as one that may land where a later attempt of the same put was answered", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const clock = new MachineClock();
    const runtime = clock.runtime();
    const first = memoryPool(
      views.map(({ store }) => ({ store: retry(store, { runtime, attempts: 2, baseMs: 0 }) })),
      { machine: "00000001", runtime },
    );
    await first.pool.put("x", toBody("v0"));
    silence(views[0], "put", 1);
    expect(await owingOf(first.pool.put("x", toBody("v1")))).toEqual([]);
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v1", "v1"]);
    expect(await owingOf(first.pool.put("x", toBody("v2")))).toEqual(["A"]);
    plant(stores[0], "x", "v1");
    expect(await debtsOf(first.pool)).toEqual(["x on A: copy"]);
    clock.pass(LATE_MS);
    expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
  });
});

describe("a delete that got no answer from a store", () => {
  it("is known to the put behind it before any store was told of it", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const { pool } = memoryPool(views, { machine: "00000001", laterMs: Infinity });
    await pool.put("x", toBody("v0"));
    silence(views[0], "delete", 1);
    await pool.delete("x");
    expect(await owingOf(pool.put("x", toBody("v1")))).toEqual(["A"]);
  });
});

describe("a put that did not end as it should while a store had not answered", () => {
  interface Stuck {
    readonly stores: readonly [Switched, Switched];
    readonly clock: MachineClock;
    /** The machine whose put of x hangs on A, in a call that the store never ends. */
    readonly first: MemoryPool;
    readonly put: Promise<string>;
    /** Calls the put off. */
    readonly abort: () => void;
    readonly options: MemoryPoolOptions;
  }

  /** v1 was taken by B, and sent to A, whose call ends when `ends` is opened. x had v0 where it `existed`. */
  async function stuckOnA(existed: boolean, ends: Gate, more: Partial<MemoryPoolOptions> = {}): Promise<Stuck> {
    const stores = [switched("A"), switched("B")] as const;
    const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
    const clock = new MachineClock();
    const runtime = clock.runtime();
    const options = { machine: "00000001", runtime, isLiveWriter: () => false, ...more };
    const given = views.map(({ store }) => ({ store: deadline(store, { runtime, graceMs: 5 }) }));
    const first = memoryPool(given, options);
    await first.pool.put("founded", toBody("1"));
    if (existed) await first.pool.put("x", toBody("v0"));
    const [sent, taken] = [gate(), gate()];
    views[0].onCall = (operation, name) => {
      if (operation !== "put" || name !== "x") return undefined;
      sent.open();
      return ends.opened;
    };
    views[1].afterCall = (operation, name) => {
      if (operation === "put" && name === "x") taken.open();
    };
    const caller = new AbortController();
    const put = codeOf(first.pool.put("x", toBody("v1"), { signal: caller.signal }));
    await Promise.all([sent.opened, taken.opened]);
    views[0].onCall = undefined;
    return { stores, clock, first, put, abort: () => caller.abort(), options };
  }

  for (const existed of [true, false]) {
    const what = existed ? "an overwrite" : "a new name";

    it(`may still land where its caller called it off and the store did not let go: what is put next is owed (${what})`, async () => {
      const { stores, clock, first, put, abort } = await stuckOnA(existed, gate());
      abort();
      expect(await put).toBe("aborted");
      expect(await owingOf(first.pool.put("x", toBody("v2")))).toEqual(["A"]);
      plant(stores[0], "x", "v1");
      expect(await debtsOf(first.pool)).toEqual(["x on A: copy"]);
      expect(await textOf(first.pool, "x")).toBe("v2");
      clock.pass(LATE_MS);
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
    });

    it(`is over where the store ended its call when it was called off: nothing is owed afterwards (${what})`, async () => {
      const ends = gate();
      const { stores, first, put, abort } = await stuckOnA(existed, ends);
      abort();
      ends.open();
      expect(await put).toBe("aborted");
      expect(await owingOf(first.pool.put("x", toBody("v2")))).toEqual([]);
      expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
      expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true });
    });

    it(`is over where its process was killed: its requests ended with its connections (${what})`, async () => {
      const { stores, first, options } = await stuckOnA(existed, gate());
      const next = memoryPool(stores, { ...options, index: first.index });
      expect(await owingOf(next.pool.put("x", toBody("v2")))).toEqual([]);
      expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
      expect(await next.pool.maintenance.repair()).toMatchObject({ whole: true });
    });
  }

  it("may still land where the pool itself called it off: the next put, which needs every store, waits for its end", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const takings = [takingOf(stores[0], "x"), takingOf(stores[1], "x")] as const;
    const clock = new MachineClock();
    const runtime = clock.runtime();
    const given = takings.map(({ store }) => ({ store: deadline(store, { runtime, graceMs: 5 }) }));
    const { pool } = memoryPool(given, { onfail: "abort", runtime });
    await pool.put("x", toBody("v0"));
    const sent = gate();
    takings[0].instead = () => {
      sent.open();
      return new Promise(() => undefined);
    };
    takings[1].instead = () => sent.opened.then(() => Promise.reject(new HoldfastError("full", "no space is left")));
    await expect(pool.put("x", toBody("v1"))).rejects.toMatchObject({ code: "full", store: "B" });
    for (const taking of takings) taking.instead = undefined;
    const before = runtime.monotonicMs();
    clock.onPass = () => plant(stores[0], "x", "v1");
    expect(await pool.put("x", toBody("v2"))).toMatchObject({ owed: [] });
    expect(runtime.monotonicMs() - before).toBeGreaterThan(LATE_MS - 2000);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2"]);
  });

  it("may still land where a stripe goes on to no other store", async () => {
    const stores = [switched("A"), switched("B")] as const;
    const takings = [takingOf(stores[0], "x"), takingOf(stores[1], "x")] as const;
    const clock = new MachineClock();
    const options = { mode: "stripe", onfail: "abort", runtime: clock.runtime() } as const;
    const { pool, index } = memoryPool(takings, options);
    await pool.put("founded", toBody("1"));
    index.setFact("turn", "0");
    takings[0].instead = () => Promise.reject(new HoldfastError("timeout", "no answer"));
    expect(await codeOf(pool.put("x", toBody("v1")))).toBe("timeout");
    takings[0].instead = undefined;
    index.setFact("turn", "0");
    await pool.put("x", toBody("v2"));
    // The request takes effect.
    plant(stores[0], "x", "v1");
    expect(await textOrCode(pool, "x")).toBe("v2");
    expect(textOn(stores[1], "x")).toBe("v2");
  });

  for (const mode of ["mirror", "stripe"] as const) {
    for (const existed of [true, false]) {
      it(`may still land where it failed on every store (${mode}, ${existed ? "an overwrite" : "a new name"})`, async () => {
        const stores = [switched("A"), switched("B")] as const;
        const takings = [takingOf(stores[0], "x"), takingOf(stores[1], "x")] as const;
        const clock = new MachineClock();
        const { pool, index } = memoryPool(takings, { machine: "00000001", mode, runtime: clock.runtime() });
        await pool.put("founded", toBody("1"));
        index.setFact("turn", "0");
        if (existed) await pool.put("x", toBody("v0"));
        takings[0].instead = () => Promise.reject(new HoldfastError("timeout", "no answer"));
        takings[1].instead = () => Promise.reject(new HoldfastError("full", "no space is left"));
        expect(await codeOf(pool.put("x", toBody("v1")))).not.toBe("no error");
        for (const taking of takings) taking.instead = undefined;
        index.setFact("turn", "0");
        const owing = await owingOf(pool.put("x", toBody("v2")));
        // The request takes effect.
        plant(stores[0], "x", "v1");
        expect(await textOrCode(pool, "x")).toBe("v2");
        expect(textOn(stores[1], "x")).toBe("v2");
        expect(owing).toEqual(mode === "mirror" ? ["A"] : []);
        clock.pass(LATE_MS);
        expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
        expect(stores.map((store) => textOn(store, "x"))).toEqual(mode === "mirror" ? ["v2", "v2"] : [undefined, "v2"]);
      });
    }
  }
});

describe("a store of which nobody knows yet what an earlier request will do to it", () => {
  for (const existed of [true, false]) {
    for (const failed of [true, false]) {
      const what = `${existed ? "an overwrite" : "a new name"}, ${failed ? "which failed" : "which B took"}`;
      it(`is not forgotten to be one when the next put went to another store (stripe, ${what})`, async () => {
        const stores = [switched("A"), switched("B")] as const;
        const takings = [takingOf(stores[0], "x"), takingOf(stores[1], "x")] as const;
        const clock = new MachineClock();
        const { pool, index } = memoryPool(takings, { machine: "00000001", mode: "stripe", runtime: clock.runtime() });
        await pool.put("founded", toBody("1"));
        index.setFact("turn", "0");
        if (existed) await pool.put("x", toBody("v0"));
        takings[0].instead = () => Promise.reject(new HoldfastError("timeout", "no answer"));
        if (failed) takings[1].instead = () => Promise.reject(new HoldfastError("full", "no space is left"));
        index.setFact("turn", "0");
        expect(await codeOf(pool.put("x", toBody("v1")))).toBe(failed ? "full" : "no error");
        for (const taking of takings) taking.instead = undefined;
        await pool.put("x", toBody("v2"));
        expect(textOn(stores[1], "x")).toBe("v2");
        stores[1].down = true;
        // The request takes effect while the put waits for its end.
        clock.onPass = () => plant(stores[0], "x", "v1");
        expect(await codeOf(pool.put("x", toBody("v3")))).toBe("no error");
        stores[1].down = false;
        expect(await textOrCode(pool, "x")).toBe("v3");
        await pool.maintenance.repair();
        expect(await textOrCode(pool, "x")).toBe("v3");
      });
    }
  }
});

describe("p38: a delete that got no answer from one store", () => {
  for (const mode of ["stripe", "mirror"] as const) {
    it(`takes nothing with it that is put afterwards (${mode})`, async () => {
      const stores = [switched("A"), switched("B")] as const;
      const views = [viewOf(stores[0]), viewOf(stores[1])] as const;
      const clock = new MachineClock();
      const { pool, index, ledger } = memoryPool(views, { machine: "00000001", mode, runtime: clock.runtime() });
      await pool.put("founded", toBody("1"));
      index.setFact("turn", "0");
      await pool.put("x", toBody("v1"));
      expect(textOn(stores[0], "x")).toBe("v1");
      silence(views[0], "delete");
      expect((await pool.delete("x")).owed).toMatchObject([{ store: "A", owes: "delete" }]);
      views[0].onCall = undefined;
      await ledger.flushed();
      index.setFact("turn", "0");
      await pool.put("x", toBody("v2"));
      // The delete takes effect.
      stores[0].objects.delete("x");
      expect(await textOrCode(pool, "x")).toBe("v2");
      clock.pass(LATE_MS);
      expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(stores.map((store) => textOn(store, "x"))).toEqual(mode === "mirror" ? ["v2", "v2"] : [undefined, "v2"]);
    });
  }
});
