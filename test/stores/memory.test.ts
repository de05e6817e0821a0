import { expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { conformanceCases, runConformance } from "../../src/conformance/index.ts";
import { openStore } from "../../src/stores/open-store.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { describeConformance } from "../helpers/run-conformance.ts";

const objects = new MemoryObjects();
describeConformance("memory", { open: async () => new MemoryStore({ objects }) });

it("memory://name is one place for the whole process", async () => {
  const a = await openStore("memory://shared-one");
  const b = await openStore("memory://shared-one");
  const c = await openStore("memory://shared-two");
  await a.put("x", toBody("1"));
  await expect(b.stat("x")).resolves.toMatchObject({ size: 1 });
  await expect(c.stat("x")).rejects.toMatchObject({ code: "not-found", store: "memory://shared-two" });
});

it("a full store says so and keeps what it had", async () => {
  const store = new MemoryStore({ maxBytes: 10 });
  await store.put("a", toBody("12345678"));
  await expect(store.put("b", toBody("123"))).rejects.toMatchObject({ code: "full", retryable: false });
  await store.put("a", toBody("1234567890"));
  await expect(store.stat("a")).resolves.toMatchObject({ size: 10 });
});

it("the suite names each case once, and leaves nothing behind", async () => {
  const names = conformanceCases().map((one) => one.name);
  expect(new Set(names).size).toBe(names.length);
  const objects = new MemoryObjects();
  const results = await runConformance({ open: async () => new MemoryStore({ objects }), quick: true });
  expect(results.filter((one) => one.outcome === "failed")).toEqual([]);
  expect(results.length).toBe(conformanceCases({ quick: true }).length);
  expect(objects.next("", false)).toBeUndefined();
});
