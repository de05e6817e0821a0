import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { createMetrics, measured } from "../../src/gateway/metrics.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { MemoryStore } from "../../src/stores/memory.ts";
import { Faults, faulty } from "../../src/wrappers/faults.ts";
import { ForwardingStore } from "../../src/wrappers/forward.ts";

async function all<T>(items: AsyncIterable<T> | undefined): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items ?? []) found.push(item);
  return found;
}

describe("a store whose operations are counted", () => {
  it("counts each listing once, of objects and of names alone, with what became of it", async () => {
    const faults = new Faults();
    const metrics = createMetrics({ runtime: systemRuntime });
    const store = measured(faulty(new MemoryStore(), faults), metrics, systemRuntime);
    const counted = async (result: string): Promise<string | undefined> =>
      new RegExp(`holdfast_store_operations_total\\{.*operation="list",result="${result}"\\} (\\d+)`, "u").exec(
        await metrics.text(),
      )?.[1];
    await store.put("a", toBody("1"));
    await store.put("b", toBody("22"));
    expect((await all(store.list(""))).map(({ name, size }) => [name, size])).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
    expect(await counted("ok")).toBe("1");
    expect(await all(store.listNames?.(""))).toEqual([["a", "b"]]);
    expect(await counted("ok")).toBe("2");
    faults.script({ operation: "list", times: 2, fault: { kind: "fail", code: "denied" } });
    await expect(all(store.list(""))).rejects.toMatchObject({ code: "denied" });
    await expect(all(store.listNames?.(""))).rejects.toMatchObject({ code: "denied" });
    expect([await counted("ok"), await counted("denied")]).toEqual(["2", "2"]);
  });

  it("gives no names alone where the store below has none", () => {
    const metrics = createMetrics({ runtime: systemRuntime });
    const bare = new ForwardingStore(new MemoryStore());
    expect(measured(bare, metrics, systemRuntime).listNames).toBeUndefined();
  });
});
