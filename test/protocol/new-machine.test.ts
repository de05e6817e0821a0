/** A machine that never wrote to the pool before, or lost what it knew of it, while stores of the pool are gone for good. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { memoryPool, switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

/** A mirror of two stores, of which the second one is gone for good. */
async function halfGone(): Promise<[Switched, Switched]> {
  const [a, b] = [switched("A"), switched("B")];
  const { pool } = memoryPool([a, b], { machine: "00000001" });
  await pool.put("x", toBody("v1"));
  await pool.close();
  b.down = true;
  return [a, b];
}

describe("a new machine, of whose two stores one is gone for good", () => {
  it("reads, and does not write by itself", async () => {
    const { pool } = memoryPool(await halfGone(), { machine: "00000002" });
    expect(await textOrCode(pool, "x")).toBe("v1 (unheard: B)");
    expect(await codeOf(pool.put("y", toBody("1")))).toBe("unavailable");
  });

  it("names the store that is gone, why, and how to give it up", async () => {
    const { pool } = memoryPool(await halfGone(), { machine: "00000002" });
    await expect(pool.put("y", toBody("1"))).rejects.toThrow(/\(B: .+\)\. .+, run: holdfast forget B$/u);
  });

  it("writes once the user has given up the store that is gone", async () => {
    const stores = await halfGone();
    const { pool } = memoryPool(stores, { machine: "00000002" });
    await pool.maintenance.forget("B");
    expect(await pool.put("y", toBody("1"))).toMatchObject({ size: 1 });
    const after = memoryPool([stores[0]], { machine: "00000002" });
    expect(await after.pool.maintenance.repair()).toMatchObject({ whole: true });
  });

  it("writes once the user has taken the store out of the file and given it up", async () => {
    const [a] = await halfGone();
    const { pool } = memoryPool([a], { machine: "00000002" });
    await pool.maintenance.forget("B");
    expect(await pool.put("y", toBody("1"))).toMatchObject({ owed: [] });
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
  });

  it("fills an empty one in its place when the user says so", async () => {
    const [a] = await halfGone();
    const replaced = switched("B");
    const { pool } = memoryPool([a, replaced], { machine: "00000002" });
    expect(await pool.maintenance.repair({ refill: ["B"] })).toMatchObject({ whole: true });
    expect(textOn(replaced, "x")).toBe("v1");
    expect(await pool.put("y", toBody("1"))).toMatchObject({ owed: [] });
  });
});

it("a new machine that may not write to the stores is told which, and why", async () => {
  const stores = [switched("A"), switched("B")] as const;
  await memoryPool([...stores], { machine: "00000001" }).pool.put("x", toBody("v1"));
  for (const store of stores) {
    store.onCall = (operation) => {
      if (operation === "put") throw new HoldfastError("denied", "permission denied", { store: store.store.label });
    };
  }
  const { pool } = memoryPool([...stores], { machine: "00000002" });
  await expect(pool.put("y", toBody("1"))).rejects.toMatchObject({
    code: "denied",
    message: expect.stringContaining("(A: permission denied; B: permission denied)") as string,
  });
});
