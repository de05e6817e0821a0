/** Several listings as one, and what a listing that is older than a record is believed. */
import { expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { mergeLists } from "../../src/pool/merge-lists.ts";
import type { ListOptions, Store } from "../../src/contract/store.ts";
import { memoryPool, plant, switched } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";

async function* inBatches(...batches: readonly (readonly string[])[]): AsyncGenerator<readonly string[]> {
  yield* batches;
}

it("a batch with nothing in it ends no listing", async () => {
  const merged: unknown[] = [];
  for await (const batch of mergeLists([inBatches([], ["a"], [], ["c"]), inBatches(["b", "c"], [])], [])) {
    merged.push(...batch.map(({ name, all }) => [name, ...all]));
  }
  expect(merged).toEqual([
    ["a", "a", undefined],
    ["b", undefined, "b"],
    ["c", "c", "c"],
  ]);
});

/** The member, with a listing that was read before `late` was put. */
function behindTheTimes({ store }: Switched, late: string): { readonly store: Store } {
  return {
    store: {
      ...store,
      async *list(prefix: string, options?: ListOptions) {
        for await (const info of store.list(prefix, options)) if (info.name !== late) yield info;
      },
      async *listNames(prefix: string, options?: ListOptions) {
        for await (const names of store.listNames?.(prefix, options) ?? []) {
          yield names.filter((name) => name !== late);
        }
      },
    },
  };
}

it.each([false, true])(
  "verify and repair (quick: %s) miss no copy that was put since the stores were listed",
  async (quick) => {
    const members = [switched("A"), switched("B")] as const;
    const { pool } = memoryPool(members.map((member) => behindTheTimes(member, "z")));
    for (const name of ["a", "z"]) await pool.put(name, toBody(`content of ${name}`));
    expect(await pool.maintenance.verify({ quick })).toMatchObject({ findings: 0, copies: 4 });
    expect(await pool.maintenance.repair({ quick })).toMatchObject({ planned: 0, whole: true });
    members[1].objects.delete("z");
    expect((await pool.maintenance.verify({ quick })).byKind).toEqual({ missing: 1 });
    expect(await pool.maintenance.repair({ quick })).toMatchObject({ planned: 1, done: 1 });
    expect(members[1].objects.get("z")).toBeDefined();
    plant(members[1], "stray", Buffer.from("x"));
    expect((await pool.maintenance.verify({ quick })).findings).toBe(1);
    await pool.close();
  },
);
