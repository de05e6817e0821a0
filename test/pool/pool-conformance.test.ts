/** The whole conformance suite on pools: a pool is a store, whatever it is made of. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { GetResult, Store } from "../../src/contract/store.ts";
import { FileStore } from "../../src/stores/file/file-store.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { systemRuntime as runtime } from "../../src/contract/runtime.ts";
import { breaker } from "../../src/wrappers/breaker.ts";
import { deadline } from "../../src/wrappers/deadline.ts";
import { limit } from "../../src/wrappers/limit.ts";
import { retry } from "../../src/wrappers/retry.ts";
import { memoryPool } from "../helpers/memory-pool.ts";
import type { MemoryPoolOptions } from "../helpers/memory-pool.ts";
import { describeConformance } from "../helpers/run-conformance.ts";

/** Opens the same place anew with each call, as another process would. */
type Opener = () => Store;

/** A memory store that answers a read in a later turn of the event loop, as all real ones do. */
class LaterMemoryStore extends MemoryStore {
  override async get(...args: Parameters<MemoryStore["get"]>): Promise<GetResult> {
    await new Promise((resolve) => setImmediate(resolve));
    return super.get(...args);
  }
}

function memory(label: string): Opener {
  const objects = new MemoryObjects();
  return () => new LaterMemoryStore({ label, objects });
}

const folders = mkdtempSync(join(tmpdir(), "holdfast-pools-"));
afterAll(() => {
  rmSync(folders, { recursive: true, force: true });
});

function folder(name: string): Opener {
  return () => new FileStore(join(folders, name));
}

/** Each opening is another machine with an empty index, unless it is the same pool's. */
function pool(members: readonly Opener[], options: MemoryPoolOptions): Opener {
  return () =>
    memoryPool(
      members.map((open) => ({ store: open() })),
      { fingerprints: members.map((_, place) => `place ${place}`), ...options },
    ).pool;
}

const nested = (mode: "mirror" | "stripe", members: readonly Opener[]): Opener => pool(members, { mode, nested: true });

function describePool(label: string, open: Opener, quick = false): void {
  describeConformance(label, { open: async () => open(), quick, listCount: 120 });
}

describePool("mirror(memory, memory)", pool([memory("A"), memory("B")], { mode: "mirror" }));
describePool(
  "mirror(memory, memory), onfail=abort",
  pool([memory("A"), memory("B")], { mode: "mirror", onfail: "abort" }),
  true,
);
describePool("stripe(memory x 3)", pool([memory("A"), memory("B"), memory("C")], { mode: "stripe" }));
describePool(
  "mirror(stripe(memory, memory), stripe(memory, memory))",
  pool([nested("stripe", [memory("A"), memory("B")]), nested("stripe", [memory("C"), memory("D")])], {
    mode: "mirror",
  }),
  true,
);
describePool(
  "stripe(mirror(memory, memory), memory)",
  pool([nested("mirror", [memory("A"), memory("B")]), memory("C")], { mode: "stripe" }),
  true,
);
describePool(
  "mirror(memory, memory, memory) with prefixes that part the suite's names",
  pool([memory("A"), memory("B"), memory("C")], {
    mode: "mirror",
    prefixes: [
      ["holdfast-check-0", "holdfast-check-1", "holdfast-check-2", "holdfast-check-3", "holdfast-check-4"],
      ["holdfast-check-5", "holdfast-check-6", "holdfast-check-7", "holdfast-check-8", "holdfast-check-9"],
      [],
    ],
  }),
  true,
);
/** A store as a pool's file gives it to a pool: tried again, by a deadline, some calls at a time. */
const guarded = (open: Opener): Opener => {
  return () => breaker(limit(retry(deadline(open(), { runtime }), { runtime }), { max: 16 }), { runtime, failures: 5 });
};
describePool(
  "mirror(breaker(limit(retry(deadline(memory)))) x 2)",
  pool([guarded(memory("A")), guarded(memory("B"))], { mode: "mirror" }),
  true,
);
const striped = pool([memory("A"), memory("B")], { mode: "stripe" });
describePool(
  "retry(deadline(stripe(memory, memory)))",
  () => retry(deadline(striped(), { runtime }), { runtime }),
  true,
);
describePool("mirror(folder, folder)", pool([folder("mirror-1"), folder("mirror-2")], { mode: "mirror" }));
describePool("mirror(folder, memory)", pool([folder("mixed"), memory("B")], { mode: "mirror" }), true);
describePool(
  "stripe(folder, folder, folder)",
  pool([folder("stripe-1"), folder("stripe-2"), folder("stripe-3")], { mode: "stripe" }),
);
