/** Two machines write one name: what was acknowledged last is what there is, whatever each machine last heard. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { gate } from "../helpers/gate.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { memoryPool, switched, textOn } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { bodyThrough, namesOn, textOf, textOrCode } from "../helpers/pool-answers.ts";

/** How old what a machine heard may be before it asks again: nothing in these tests takes as long. */
const FRESH_MS = 20_000;

interface Machines {
  readonly stores: readonly Switched[];
  readonly clock: MachineClock;
  readonly first: MemoryPool;
  readonly second: MemoryPool;
}

/** Two machines that write; `behindMs`: by so much the clock of the first is behind that of the second. */
async function twoMachines(behindMs = 0): Promise<Machines> {
  const stores = ["A", "B", "C"].map((label) => switched(label));
  const clock = new MachineClock();
  // That a delete has ended is noted a moment later, and whoever puts the name waits for that.
  const options = { freshMs: FRESH_MS, laterMs: 5 };
  const first = memoryPool(stores, { ...options, machine: "00000001", runtime: clock.runtime(-behindMs) });
  const second = memoryPool(stores, { ...options, machine: "00000002", runtime: clock.runtime() });
  await second.pool.put("x", toBody("v1"));
  await first.pool.put("of the first", toBody("1"));
  await second.pool.put("of the second", toBody("2"));
  await bothHear({ clock, first, second });
  return { stores, clock, first, second };
}

async function bothHear({ clock, first, second }: Pick<Machines, "clock" | "first" | "second">): Promise<void> {
  clock.pass(FRESH_MS * 2);
  for (const { pool } of [first, second]) await pool.stat("x").catch(() => undefined);
}

/** Every store has these bytes, every machine reads them, and repair finds nothing to change but what is noted of them. */
async function expectEverywhere({ stores, clock, first, second }: Machines, text: string): Promise<void> {
  clock.pass(FRESH_MS * 2);
  expect([await textOrCode(first.pool, "x"), await textOrCode(second.pool, "x")]).toEqual([text, text]);
  expect(await namesOn(second.pool)).toContain("x");
  expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true, left: [], failed: 0 });
  expect(stores.map((store) => textOn(store, "x"))).toEqual([text, text, text]);
  expect(await first.pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
  expect([await textOf(first.pool, "x"), await textOf(second.pool, "x")]).toEqual([text, text]);
  for (const { pool } of [first, second]) await pool.close();
}

describe("a put that is acknowledged", () => {
  it("p01: stands above a delete that its machine had not heard of, though its clock is behind", async () => {
    const machines = await twoMachines(2000);
    expect(await machines.second.pool.delete("x")).toEqual({ existed: true, owed: [] });
    expect(await machines.first.pool.put("x", toBody("v2"))).toMatchObject({ owed: [] });
    expect(machines.stores.map((store) => textOn(store, "x"))).toEqual(["v2", "v2", "v2"]);
    await expectEverywhere(machines, "v2");
  });

  it("p36: stands after each of many deletes by another machine, whose clock is a little ahead", async () => {
    const machines = await twoMachines(50);
    for (let round = 0; round < 20; round++) {
      await machines.first.pool.put("x", toBody(`round ${round}`));
      await machines.second.pool.delete("x");
      expect(await machines.first.pool.put("x", toBody(`again ${round}`))).toMatchObject({ owed: [] });
      await machines.second.ledger.hear();
      expect(await textOrCode(machines.second.pool, "x")).toBe(`again ${round}`);
    }
    await expectEverywhere(machines, "again 19");
  });

  it("p02: stands though another machine deleted the name, knowing nothing of it, while it was uploaded", async () => {
    const machines = await twoMachines();
    const [through, begun] = [gate(), gate()];
    const put = machines.first.pool.put("x", bodyThrough("v2, long", through, begun));
    await begun.opened;
    await machines.second.pool.delete("x");
    through.open();
    expect(await put).toMatchObject({ owed: [] });
    await expectEverywhere(machines, "v2, long");
  });

  it("p03: is read and repaired with one store silent, though another machine put the name while it was uploaded", async () => {
    const machines = await twoMachines();
    const { stores, clock, first, second } = machines;
    const [through, begun] = [gate(), gate()];
    const put = first.pool.put("x", bodyThrough("v3, long", through, begun));
    await begun.opened;
    await second.pool.put("x", toBody("v2, quick"));
    through.open();
    expect(await put).toMatchObject({ owed: [] });
    for (const silent of stores) {
      silent.down = true;
      clock.pass(FRESH_MS * 2);
      const text = `v3, long (unheard: ${silent.store.label})`;
      expect([await textOrCode(first.pool, "x"), await textOrCode(second.pool, "x")]).toEqual([text, text]);
      expect((await second.pool.maintenance.repair()).left).toEqual([]);
      silent.down = false;
    }
    await expectEverywhere(machines, "v3, long");
  });
});

describe("p04: a machine that was alone, and uploads a new name when a second one begins to write", () => {
  for (const last of ["put", "delete"] as const) {
    it(`is acknowledged after the other's ${last} of that name, and that is what stands`, async () => {
      const stores = ["A", "B", "C"].map((label) => switched(label));
      const clock = new MachineClock();
      const first = memoryPool(stores, { machine: "00000001", freshMs: FRESH_MS, runtime: clock.runtime() });
      const second = memoryPool(stores, { machine: "00000002", freshMs: FRESH_MS, runtime: clock.runtime() });
      await first.pool.put("founded", toBody("1"));
      const [through, begun] = [gate(), gate()];
      const put = first.pool.put("x", bodyThrough("the first's", through, begun));
      await begun.opened;
      await second.pool.put("x", toBody("the second's"));
      if (last === "put") await second.pool.put("x", toBody("the second's again"));
      else await second.pool.delete("x");
      through.open();
      expect(await put).toMatchObject({ owed: [] });
      await expectEverywhere({ stores, clock, first, second }, "the first's");
    });
  }

  it("loses nothing of what the second one put after it was acknowledged", async () => {
    const stores = ["A", "B", "C"].map((label) => switched(label));
    const clock = new MachineClock();
    const first = memoryPool(stores, { machine: "00000001", freshMs: FRESH_MS, runtime: clock.runtime() });
    const second = memoryPool(stores, { machine: "00000002", freshMs: FRESH_MS, runtime: clock.runtime() });
    await first.pool.put("founded", toBody("1"));
    await first.pool.put("x", toBody("the first's"));
    expect(await second.pool.put("x", toBody("the second's"))).toMatchObject({ owed: [] });
    await expectEverywhere({ stores, clock, first, second }, "the second's");
  });
});
