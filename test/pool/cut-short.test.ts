/** Writes that were cut short, or overtaken by another machine's: what an object is then, and that all answers agree. */
import { describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { currentRecord } from "../../src/ledger/record.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Body, Store } from "../../src/contract/store.ts";
import { memoryPool, switched, takingOf, textOn } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { debtsOf } from "../helpers/pool-answers.ts";
import { codeOf, namesOf, readText } from "../helpers/store-answers.ts";

/** Who has this lease takes what is not finished for dead. */
const NO_LEASE = { leaseMs: -1 };

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
      expect(await readText(pool, "x")).toBe("third");
      expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
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
    await expect(readText(pool, "x")).rejects.toMatchObject({ code: "corrupt" });
    expect((await pool.maintenance.repair()).left).toContainEqual(
      expect.objectContaining({ kind: "lost", object: "x" }),
    );
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
      expect(await readText(pool, "x")).toBe("slow");
      expect(await pool.stat("x")).toMatchObject({ size: 4 });
    }
    expect(await two.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect([textOn(a, "x"), textOn(b, "x")]).toEqual(["slow", "slow"]);
  });
});

describe("two versions of which neither knew of the other", () => {
  /** Records a put of `text` under the name as another machine would at the same moment: later, and ignorant of the first. */
  async function putBeside(
    { pool, context }: Pick<MemoryPool, "pool" | "context">,
    name: string,
    text: string,
  ): Promise<void> {
    const { ledger } = context;
    await pool.put("y", toBody(text));
    const [stands, other] = [name, "y"].map((of) => currentRecord(ledger.index.get(of)));
    if (stands === undefined || other === undefined) throw new Error("no record");
    const beside = { ...other, name, base: "", version: ledger.stamp(stands, other) };
    await Promise.all(ledger.append({ objects: [beside] }).values());
  }

  it("a range is that of the version whose bytes stand, also where the other one is too short for it", async () => {
    const member = switched("A");
    const { pool, context } = memoryPool([member], { machine: "00000001" });
    await pool.put("x", toBody("what stands on the store"));
    await putBeside({ pool, context }, "x", "new");
    expect(context.ledger.index.get("x")?.records).toHaveLength(2);
    const { body } = await pool.get("x", { range: { offset: 5, length: 6 } });
    expect(Buffer.from(await collect(body)).toString()).toBe("stands");
    await expect(pool.get("x", { range: { offset: 50, length: 1 } })).rejects.toMatchObject({ code: "invalid" });
    await pool.put("x", toBody("new"));
    await expect(pool.get("x", { range: { offset: 5, length: 1 } })).rejects.toMatchObject({ code: "invalid" });
  });

  it("are told apart by their bytes in a quick repair, even of one size", async () => {
    const members = [switched("A"), switched("B")];
    const { pool, context } = memoryPool(members, { machine: "00000001" });
    await pool.put("x", toBody("these"));
    await putBeside({ pool, context }, "x", "those");
    expect(await pool.maintenance.repair({ quick: true })).toMatchObject({ whole: true, left: [] });
    expect(await readText(pool, "x")).toBe("these");
    expect((await pool.maintenance.verify()).findings).toBe(0);
  });
});

describe("a new name that another machine writes after one whose clock is ahead", () => {
  /** Machine 1's clock is an hour ahead, and it goes on to run while machine 2 changes "x". */
  async function overtaken(change: (pool: Store) => Promise<unknown>): Promise<readonly Store[]> {
    const [a, b] = [switched("A"), switched("B")];
    const index = new MemoryIndex();
    const ahead = { ...systemRuntime, now: () => systemRuntime.now() + 3_600_000 };
    const one = memoryPool([a, b], { machine: "00000001", index, runtime: ahead });
    await one.pool.put("founded", toBody("first"));
    await one.pool.put("x", toBody("first, and longer"));
    const two = memoryPool([a, b], { machine: "00000002" });
    await change(two.pool);
    await one.pool.close();
    return [two.pool, memoryPool([a, b], { machine: "00000003" }).pool];
  }

  it("does not undo an overwrite: stat and listing say what a read gives", async () => {
    for (const pool of await overtaken((two) => two.put("x", toBody("second")))) {
      expect(await readText(pool, "x")).toBe("second");
      expect(await pool.stat("x")).toMatchObject({ size: 6 });
    }
  });

  it("does not undo a delete: stat and listing say what a read gives", async () => {
    for (const pool of await overtaken((two) => two.delete("x"))) {
      await expect(readText(pool, "x")).rejects.toMatchObject({ code: "not-found" });
      await expect(pool.stat("x")).rejects.toMatchObject({ code: "not-found" });
      expect(await namesOf(pool)).toEqual(["founded"]);
    }
  });
});

describe("a delete beside another machine's put of the name", () => {
  /** Machine 1 deletes x, and has not begun to on A while machine 2 puts it; what `during` does, the delete waits for. */
  async function deletedBeside(
    during: (put: Promise<string>) => unknown,
    lateMs = 60_000,
  ): Promise<{ readonly outcome: string; readonly stores: readonly Switched[]; readonly two: MemoryPool }> {
    const [a, b] = [switched("A"), switched("B")];
    const one = memoryPool([a, b], { machine: "00000001", lateMs });
    const two = memoryPool([a, b], { machine: "00000002", lateMs });
    await one.pool.put("x", toBody("first"));
    await two.pool.put("y", toBody("known to be there"));
    let put: Promise<string> | undefined;
    a.onCall = async (operation, name) => {
      if (operation !== "delete" || name !== "x" || put !== undefined) return;
      put = codeOf(two.pool.put("x", toBody("second")));
      await during(put);
    };
    expect(await one.pool.delete("x")).toMatchObject({ existed: true });
    if (put === undefined) throw new Error("nothing was deleted on A");
    return { outcome: await put, stores: [a, b], two };
  }

  it("is waited for by the put: then it is on both stores, and nothing is owed", async () => {
    const { outcome, stores, two } = await deletedBeside(() => undefined);
    expect(outcome).toBe("no error");
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["second", "second"]);
    expect(await debtsOf(two.pool)).toEqual([]);
    expect(await readText(two.pool, "x")).toBe("second");
    expect(await two.pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
  });

  it("that does not end in time is not waited for any longer: what it takes away then is owed, and made up for", async () => {
    const { outcome, stores, two } = await deletedBeside((put) => put, 200);
    expect(outcome).toBe("no error");
    expect(stores.map((store) => textOn(store, "x"))).toEqual([undefined, "second"]);
    await two.ledger.hear();
    expect(await debtsOf(two.pool)).toContain("x on A: copy");
    expect(await two.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(stores.map((store) => textOn(store, "x"))).toEqual(["second", "second"]);
  });
});

describe("a put that failed on every store", () => {
  for (const mode of ["mirror", "stripe"] as const) {
    it(`is history once the same process has put the name again (${mode})`, async () => {
      const takings = ["A", "B"].map((label) => takingOf(switched(label), "x"));
      const { pool } = memoryPool(takings, { mode });
      await pool.put("x", toBody("before"));
      for (const taking of takings)
        taking.instead = () => Promise.reject(new HoldfastError("full", "no space is left"));
      expect(await codeOf(pool.put("x", toBody("failed")))).toBe("full");
      for (const taking of takings) taking.instead = undefined;
      expect(await pool.put("x", toBody("after"))).toMatchObject({ owed: [] });
      expect(await pool.maintenance.status()).toMatchObject({ unsettled: 0, degraded: 0 });
      expect(await pool.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    });
  }
});
