/** A user's name for a store means one store, or is refused. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { PoolStore } from "../../src/pool/pool-store.ts";
import { storeCalled } from "../../src/repair/store-names.ts";
import { memoryPool, switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";

const places = { fingerprints: ["place 1", "place 2", "place 3"] };

describe("a name of a store", () => {
  const disk = { label: "disk", id: "00000000000000d1" };
  const folder = { label: "file:///mnt/a", id: "00000000000000f1" };

  it.each([
    ["disk", disk],
    [disk.id, disk],
    ["file:///mnt/a", folder],
    ["/mnt/a", folder],
  ])("may be its description, URL, path or id: %s", (name, store) => {
    expect(storeCalled(name, [disk, folder])).toBe(store);
  });

  it("that no store has is refused, with those there are", () => {
    expect(() => storeCalled("attic", [disk, folder])).toThrow(
      expect.objectContaining({
        code: "config",
        message: "the pool has no store attic (its stores: disk, file:///mnt/a)",
      }),
    );
  });

  it("that several have is refused, with their ids", () => {
    const described = { label: "/mnt/a" };
    expect(() => storeCalled("/mnt/a", [disk, folder, described])).toThrow(
      expect.objectContaining({
        code: "config",
        message:
          "the pool has 2 stores that are called /mnt/a; give an id: 00000000000000f1 (file:///mnt/a), no id yet (/mnt/a)",
      }),
    );
  });
});

/** A mirror of a mirror, called `inner`, of the members given, and of another store. */
function nested(members: readonly Switched[], outside: Switched): PoolStore {
  const inner = memoryPool(members, { nested: true, ...places });
  const store = Object.defineProperty(Object.assign(inner.pool, {}), "label", { value: "inner" });
  const below = [{ label: "inner", maintenance: inner.pool.maintenance }];
  return memoryPool([{ store }, outside], { ...places, below }).pool;
}

describe("a pool with two stores of one name", () => {
  it("drains none of them by that name, and the one that is meant by its id", async () => {
    const { pool } = memoryPool([switched("old"), switched("old"), switched("C")], places);
    await pool.put("x", toBody("1"));
    await expect(pool.maintenance.drain("old")).rejects.toMatchObject({ code: "config" });
    const [, second] = await pool.maintenance.stores();
    await pool.maintenance.drain(second?.id ?? "");
    expect((await pool.maintenance.stores()).map(({ draining }) => draining)).toEqual([false, true, false]);
    await pool.close();
  });

  it("refills none of them by that name where they are in a pool below", async () => {
    const pool = nested([switched("old"), switched("old")], switched("C"));
    await pool.put("x", toBody("1"));
    await expect(pool.maintenance.repair({ refill: ["inner > old"] })).rejects.toMatchObject({
      code: "config",
      message: expect.stringMatching(
        /2 stores .* called inner > old; give an id: [0-9a-f]{16} \(inner > old\)/u,
      ) as string,
    });
    await pool.close();
  });

  it("refills the one in a pool below that its id names", async () => {
    const [first, outside] = [switched("old"), switched("C")];
    const before = nested([first, switched("old")], outside);
    await before.put("x", toBody("1"));
    await before.close();
    const replaced = switched("old");
    const pool = nested([first, replaced], outside);
    const id = (await pool.maintenance.stores()).find(({ trouble }) => trouble === "missing")?.id ?? "";
    expect(await pool.maintenance.repair({ refill: [id] })).toMatchObject({ whole: true });
    expect(textOn(replaced, "x")).toBe("1");
    await pool.close();
  });
});
