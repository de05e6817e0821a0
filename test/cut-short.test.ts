/** Writes that were cut short, or overtaken by another machine's: what an object is then, and that all answers agree. */
import { describe, expect, it } from "vitest";
import { collect, toBody } from "../src/body.ts";
import { MemoryIndex } from "../src/ledger/ledger-index.ts";
import { currentRecord } from "../src/ledger/record.ts";
import { systemRuntime } from "../src/runtime.ts";
import type { Body, Store } from "../src/store.ts";
import { memoryPool, switched, textOn } from "./helpers/memory-pool.ts";
import type { Switched } from "./helpers/memory-pool.ts";

/** Who has this lease takes what is not finished for dead. */
const NO_LEASE = { leaseMs: -1 };

async function read(store: Store, name: string): Promise<string> {
  const { body } = await store.get(name);
  return Buffer.from(await collect(body)).toString();
}

async function names(store: Store): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of store.list("")) found.push(name);
  return found;
}

/** The member as a dying process sees it: the bytes of `name` arrive there, or never do, and it is told of neither. */
function dying(member: Switched, name: string, arrives: boolean): { readonly store: Store; reached: Promise<void> } {
  let reach = (): void => undefined;
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  const store: Store = {
    ...member.store,
    async put(put, body, options) {
      if (put !== name) return member.store.put(put, body, options);
      if (arrives) await member.store.put(put, body, options);
      else await collect(body.open());
      reach();
      return new Promise(() => undefined);
    },
  };
  return { store, reached };
}

describe("an overwrite that was cut short", () => {
  for (const mode of ["mirror", "stripe"] as const) {
    it(`is what the object is, beside a copy that was older before (${mode})`, async () => {
      const [a, b] = [switched("A"), switched("B")];
      const index = new MemoryIndex();
      const first = memoryPool([b, a], { mode, machine: "00000001", index });
      index.setFact("turn", "0");
      await first.pool.put("x", toBody("first"));
      b.down = true;
      await first.pool.put("x", toBody("second, and longer"));
      expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["second, and longer", "first"]);
      b.down = false;
      const [dyingA, dyingB] = [dying(a, "x", true), dying(b, "x", false)];
      const last = memoryPool([dyingB, dyingA], { mode, machine: "00000001", index });
      void last.pool.put("x", toBody("third"));
      await dyingA.reached;
      if (mode === "mirror") await dyingB.reached;
      expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["third", "first"]);

      const { pool } = memoryPool([b, a], { mode, machine: "00000002", ...NO_LEASE });
      expect(await read(pool, "x")).toBe("third");
      expect(await pool.repair()).toMatchObject({ whole: true });
      expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["third", mode === "mirror" ? "third" : undefined]);
    });
  }

  it("and whose bytes are all gone does not make the object one that never was", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const index = new MemoryIndex();
    const first = memoryPool([a, b], { machine: "00000001", index });
    await first.pool.put("x", toBody("first"));
    await first.pool.close();
    const [dyingA, dyingB] = [dying(a, "x", false), dying(b, "x", false)];
    void memoryPool([dyingA, dyingB], { machine: "00000001", index }).pool.put("x", toBody("second"));
    await Promise.all([dyingA.reached, dyingB.reached]);
    for (const member of [a, b]) member.objects.delete("x");
    const { pool } = memoryPool([a, b], { machine: "00000002", ...NO_LEASE });
    await expect(read(pool, "x")).rejects.toMatchObject({ code: "corrupt" });
    expect((await pool.repair()).left).toContainEqual(expect.objectContaining({ kind: "lost", object: "x" }));
  });
});

describe("an overwrite that another machine's write took for history", () => {
  it("is not lost when its bytes arrive last", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const one = memoryPool([a, b], { machine: "00000001" });
    await one.pool.put("x", toBody("first"));
    const two = memoryPool([a, b], { machine: "00000002" });
    let go = (): void => undefined;
    const waiting = new Promise<void>((resolve) => {
      go = resolve;
    });
    let begin = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const slow: Body = {
      size: 4,
      reopenable: true,
      async *open() {
        begin();
        await waiting;
        yield Buffer.from("slow");
      },
    };
    const put = one.pool.put("x", slow);
    await begun;
    await two.pool.put("x", toBody("quick"));
    go();
    await put;
    expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["slow", "slow"]);
    for (const { pool } of [one, two, memoryPool([a, b], { machine: "00000003" })]) {
      expect(await read(pool, "x")).toBe("slow");
      expect(await pool.stat("x")).toMatchObject({ size: 4 });
    }
    expect(await two.pool.repair()).toMatchObject({ whole: true });
    expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["slow", "slow"]);
  });
});

describe("two versions of which neither knew of the other", () => {
  it("a range is that of the version whose bytes stand, also where the other one is too short for it", async () => {
    const member = switched("A");
    const { pool, core } = memoryPool([member], { machine: "00000001" });
    await pool.put("x", toBody("what stands on the store"));
    const long = currentRecord(core.ledger.index.get("x"));
    await pool.put("y", toBody("new"));
    const short = currentRecord(core.ledger.index.get("y"));
    if (long === undefined || short === undefined) throw new Error("no record");
    // As another machine would have written it at the same moment: later, and ignorant of the other.
    const beside = { ...short, name: "x", base: "", version: core.ledger.stamp(long, short) };
    await Promise.all(core.ledger.append({ objects: [beside] }).values());
    expect(core.ledger.index.get("x")?.records).toHaveLength(2);
    const { body } = await pool.get("x", { range: { offset: 5, length: 6 } });
    expect(Buffer.from(await collect(body)).toString()).toBe("stands");
    await expect(pool.get("x", { range: { offset: 50, length: 1 } })).rejects.toMatchObject({ code: "invalid" });
    await pool.put("x", toBody("new"));
    await expect(pool.get("x", { range: { offset: 5, length: 1 } })).rejects.toMatchObject({ code: "invalid" });
  });

  it("are told apart by their bytes in a quick repair, even of one size", async () => {
    const members = [switched("A"), switched("B")];
    const { pool, core } = memoryPool(members, { machine: "00000001" });
    await pool.put("x", toBody("these"));
    const stands = currentRecord(core.ledger.index.get("x"));
    await pool.put("y", toBody("those"));
    const other = currentRecord(core.ledger.index.get("y"));
    if (stands === undefined || other === undefined) throw new Error("no record");
    const beside = { ...other, name: "x", base: "", version: core.ledger.stamp(stands, other) };
    await Promise.all(core.ledger.append({ objects: [beside] }).values());
    expect(await pool.repair({ quick: true })).toMatchObject({ whole: true, left: [] });
    expect(await read(pool, "x")).toBe("these");
    expect((await pool.verify()).findings).toBe(0);
  });
});

describe("a new name whose record comes after another machine's write", () => {
  /** Machine 1's clock is an hour ahead, and its record of "x" follows only when its pool is closed. */
  async function overtaken(change: (pool: Store) => Promise<unknown>): Promise<readonly Store[]> {
    const [a, b] = [switched("A"), switched("B")];
    const index = new MemoryIndex();
    const ahead = { ...systemRuntime, now: () => systemRuntime.now() + 3_600_000 };
    const one = memoryPool([a, b], { machine: "00000001", index, runtime: ahead, laterMs: 3_600_000 });
    await one.pool.put("founded", toBody("first"));
    await one.pool.put("x", toBody("first, and longer"));
    const two = memoryPool([a, b], { machine: "00000002" });
    await change(two.pool);
    await one.pool.close();
    return [two.pool, memoryPool([a, b], { machine: "00000003" }).pool];
  }

  it("does not undo an overwrite: stat and listing say what a read gives", async () => {
    for (const pool of await overtaken((two) => two.put("x", toBody("second")))) {
      expect(await read(pool, "x")).toBe("second");
      expect(await pool.stat("x")).toMatchObject({ size: 6 });
    }
  });

  it("does not undo a delete: stat and listing say what a read gives", async () => {
    for (const pool of await overtaken((two) => two.delete("x"))) {
      await expect(read(pool, "x")).rejects.toMatchObject({ code: "not-found" });
      await expect(pool.stat("x")).rejects.toMatchObject({ code: "not-found" });
      expect(await names(pool)).toEqual(["founded"]);
    }
  });
});

describe("a delete beside another machine's put of the name", () => {
  it("leaves the stores that it reached last owing the copy, and repair brings it", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const one = memoryPool([a, b], { machine: "00000001" });
    const two = memoryPool([a, b], { machine: "00000002" });
    await one.pool.put("x", toBody("first"));
    await two.pool.put("y", toBody("known to be there"));
    let isPut = false;
    a.onCall = async (operation, name) => {
      if (operation !== "delete" || name !== "x" || isPut) return;
      isPut = true;
      await two.pool.put("x", toBody("second"));
    };
    await one.pool.delete("x");
    expect([isPut, textOn(a, "x"), textOn(b, "x")]).toEqual([true, undefined, "second"]);
    const owed = [];
    for await (const { object, store, owes } of two.pool.debts()) owed.push({ object, store, owes });
    expect(owed).toContainEqual({ object: "x", store: "A", owes: "copy" });
    expect(await read(two.pool, "x")).toBe("second");
    expect(await two.pool.repair()).toMatchObject({ whole: true });
    expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["second", "second"]);
  });
});
