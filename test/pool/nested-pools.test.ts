/** Pools whose stores are pools: what is degraded or wrong below is told, and put right, from above. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import type { LedgerIndex } from "../../src/ledger/ledger-index.ts";
import type { Finding } from "../../src/contract/pool.ts";
import type { PoolStore } from "../../src/pool/pool-store.ts";
import { memoryPool, plant, switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { readText } from "../helpers/store-answers.ts";

interface Nested {
  readonly pool: PoolStore;
  readonly a: Switched;
  readonly b: Switched;
  readonly c: Switched;
  /** What the machine knows of the two pools. */
  readonly indexes: readonly [LedgerIndex, LedgerIndex];
}

/** A mirror of a mirror of A and B, called `inner`, and of C; on one machine. */
function nested(
  members = { a: switched("A"), b: switched("B"), c: switched("C") },
  indexes: Nested["indexes"] = [new MemoryIndex(), new MemoryIndex()],
): Nested {
  const inner = memoryPool([members.a, members.b], { nested: true, machine: "00000001", index: indexes[0] });
  const store = Object.assign(inner.pool, {});
  Object.defineProperty(store, "label", { value: "inner" });
  const below = [{ label: "inner", maintenance: inner.pool.maintenance }];
  const { pool } = memoryPool([{ store }, members.c], { machine: "00000001", index: indexes[1], below });
  return { pool, ...members, indexes };
}

describe("a mirror of a mirror", () => {
  it("says what a store of the pool below owes of a put and of a delete", async () => {
    const { pool, b } = nested();
    await pool.put("kept", toBody("old"));
    b.down = true;
    expect((await pool.put("new", toBody("bytes"))).owed).toMatchObject([
      { object: "new", store: "inner > B", owes: "copy" },
    ]);
    expect((await pool.delete("kept")).owed).toMatchObject([{ object: "kept", store: "inner > B", owes: "delete" }]);
    const debts = [];
    for await (const debt of pool.maintenance.debts())
      if (!debt.object.startsWith(".")) debts.push(`${debt.store} ${debt.object}`);
    expect(debts).toEqual(["inner > B kept", "inner > B new"]);
    await pool.close();
  });

  it("counts in its status what is degraded below, and shows the stores there", async () => {
    const { pool, b } = nested();
    await pool.put("founded", toBody("first"));
    b.down = true;
    await pool.put("new", toBody("bytes"));
    const status = await pool.maintenance.status();
    expect(status.degraded).toBeGreaterThan(0);
    expect(status.stores.map((store) => [store.label, store.reachable])).toEqual([
      ["inner", true],
      ["inner > A", true],
      ["inner > B", false],
      ["C", true],
    ]);
    expect((await pool.maintenance.stores()).map((store) => store.label)).toEqual([
      "inner",
      "inner > A",
      "inner > B",
      "C",
    ]);
    await pool.close();
  });

  it("is verified and repaired in the pools below, too", async () => {
    const { pool, a, b, c } = nested();
    await pool.put("x", toBody("right"));
    await pool.maintenance.repair();
    plant(b, "x", "wrong");
    // What is read from above is right all the same.
    expect(await readText(pool, "x")).toBe("right");
    const found: Finding[] = [];
    expect(await pool.maintenance.verify({ onFinding: (finding) => found.push(finding) })).toMatchObject({
      findings: 1,
    });
    expect(found).toMatchObject([{ kind: "corrupt", object: "x", store: "inner > B" }]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, done: 1 });
    expect([a, b, c].map((member) => textOn(member, "x"))).toEqual(["right", "right", "right"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
    await pool.close();
  });

  it("brings a pool below a copy again that has lost its own", async () => {
    const { pool, a, b, c } = nested();
    await pool.put("x", toBody("right"));
    for (const member of [a, b]) plant(member, "x", "wrong");
    expect(await pool.maintenance.verify()).toMatchObject({ unheard: [] });
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, failed: 0 });
    expect([a, b, c].map((member) => textOn(member, "x"))).toEqual(["right", "right", "right"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, planned: 0 });
    await pool.close();
  });

  it("is not called whole while a store of a pool below is silent", async () => {
    const { pool, b } = nested();
    await pool.put("x", toBody("right"));
    b.down = true;
    expect(await pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["inner > B"] });
    b.down = false;
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, unheard: [] });
    await pool.close();
  });

  it("fills a store below that was replaced, by the name it is known by from above", async () => {
    const { pool, a, c, indexes } = nested();
    await pool.put("x", toBody("right"));
    await pool.close();
    const again = nested({ a, b: switched("B"), c }, indexes);
    await expect(again.pool.maintenance.repair({ refill: ["inner > Z"] })).rejects.toMatchObject({
      code: "config",
      message: expect.stringContaining("inner > A, ") as string,
    });
    expect(await again.pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["inner > B"] });
    expect(textOn(again.b, "x")).toBeUndefined();
    expect(await again.pool.maintenance.repair({ refill: ["inner > B"] })).toMatchObject({ whole: true });
    expect(textOn(again.b, "x")).toBe("right");
    await again.pool.close();
  });
});
