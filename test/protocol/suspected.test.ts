/** What was suspected of the protocol before: knowledge that grows old while a name is waited for, and marks that get lost. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { gate } from "../helpers/gate.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { memoryPool, plant, switched, textOn, viewOf } from "../helpers/memory-pool.ts";
import type { MemoryPool, Switched } from "../helpers/memory-pool.ts";
import { bodyThrough, namesOn, textOf, textOrCode } from "../helpers/pool-answers.ts";
import { codeOf } from "../helpers/store-answers.ts";

type Three = [Switched, Switched, Switched];

const three = (): Three => [switched("A"), switched("B"), switched("C")];

const onAll = (stores: readonly Switched[], name: string): readonly (string | undefined)[] =>
  stores.map((store) => textOn(store, name));

describe("a write that waits for the one before it, by the same process", () => {
  for (const other of ["put", "delete"] as const) {
    it(`comes after another machine's ${other}, which was acknowledged while it waited`, async () => {
      const stores = three();
      const clock = new MachineClock();
      const options = { freshMs: 3_600_000, runtime: clock.runtime(), laterMs: 5 };
      const first = memoryPool(stores, { ...options, machine: "00000001" });
      const second = memoryPool(stores, { ...options, machine: "00000002" });
      await first.pool.put("x", toBody("v0"));
      await second.pool.put("of the second", toBody("2"));
      await first.ledger.hear();
      const [through, begun, waiting] = [gate(), gate(), gate()];
      const long = first.pool.put("x", bodyThrough("long", through, begun));
      await begun.opened;
      const queued = first.pool.put("x", bodyThrough("queued", waiting));
      through.open();
      await long;
      // The queued one has begun and heard by now, or will; either way it is acknowledged last.
      if (other === "put") await second.pool.put("x", toBody("the second's"));
      else await second.pool.delete("x");
      waiting.open();
      await queued;
      for (const { ledger, pool } of [first, second]) {
        await ledger.hear();
        expect(await textOrCode(pool, "x")).toBe("queued");
      }
      expect(await second.pool.maintenance.repair()).toMatchObject({ whole: true });
      expect(onAll(stores, "x")).toEqual(["queued", "queued", "queued"]);
    });
  }

  it("finds what another machine put under a name that was new when it began to wait", async () => {
    const stores = three();
    const clock = new MachineClock();
    const options = { freshMs: 3_600_000, runtime: clock.runtime() };
    const first = memoryPool(stores, { ...options, machine: "00000001" });
    const second = memoryPool(stores, { ...options, machine: "00000002" });
    await first.pool.put("founded", toBody("1"));
    const [through, begun] = [gate(), gate()];
    const long = codeOf(
      first.pool.put("x", {
        size: undefined,
        reopenable: false,
        async *open() {
          begun.open();
          await through.opened;
          yield* [];
          throw new Error("the source broke");
        },
      }),
    );
    await begun.opened;
    const queued = first.pool.delete("x");
    await second.pool.put("x", toBody("the second's"));
    through.open();
    expect(await long).toBe("invalid");
    expect(await queued).toMatchObject({ existed: true, owed: [] });
    for (const { ledger, pool } of [first, second]) {
      await ledger.hear();
      expect(await textOrCode(pool, "x")).toBe("error: not-found");
    }
    expect(onAll(stores, "x")).toEqual([undefined, undefined, undefined]);
  });
});

describe("a debt that is noted later", () => {
  it("is not lost where no store takes the segment that says it", async () => {
    const stores = three();
    const { pool, ledger } = memoryPool(stores, { laterMs: Infinity });
    await pool.put("x", toBody("good"));
    await ledger.flushed();
    plant(stores[0], "x", "wrong");
    expect(await textOf(pool, "x")).toBe("good");
    await ledger.hear();
    for (const store of stores) {
      store.onCall = (operation, name) => {
        if (operation === "put" && name.startsWith(".holdfast/ledger")) throw new Error("quota");
      };
    }
    await ledger.flushed();
    for (const store of stores) store.onCall = undefined;
    expect(await pool.maintenance.status()).toMatchObject({ degraded: 1 });
    await pool.close();
    const other = memoryPool(stores);
    expect(await other.pool.maintenance.status()).toMatchObject({ degraded: 1 });
    expect(await other.pool.maintenance.repair({ quick: true })).toMatchObject({ whole: true });
    expect(onAll(stores, "x")).toEqual(["good", "good", "good"]);
  });
});

describe("a whole repair by another process of the machine", () => {
  it("does not forget puts of the others that have not ended: what they leave on a store that falls silent is not denied", async () => {
    const stores = three();
    const clock = new MachineClock();
    const living = new Set<string>();
    const options = {
      machine: "00000001",
      runtime: clock.runtime(),
      isLiveWriter: (writer: string) => living.has(writer),
    };
    const founder = memoryPool(stores, options);
    await founder.pool.put("founded", toBody("1"));
    await founder.pool.close();
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const dying = memoryPool(views, { ...options, index: founder.index });
    living.add(dying.ledger.writer);
    const [sent, through] = [gate(), gate()];
    for (const view of views) {
      view.onCall = (operation, name) => {
        if (operation !== "put" || name !== "x") return;
        sent.open();
        return view === views[2] ? through.opened : new Promise(() => undefined);
      };
    }
    void dying.pool.put("x", toBody("left behind"));
    await sent.opened;
    const repairing = memoryPool(stores, { ...options, index: founder.index });
    living.add(repairing.ledger.writer);
    expect(await repairing.pool.maintenance.repair()).toMatchObject({ left: [] });
    // Its bytes reach C, and it dies before it says so.
    plant(stores[2], "x", "left behind");
    living.delete(dying.ledger.writer);
    stores[2].down = true;
    clock.pass(61_000);
    expect(await textOrCode(repairing.pool, "x")).toBe("error: unavailable");
    stores[2].down = false;
    expect(await textOrCode(repairing.pool, "x")).toBe("left behind");
  });
});

describe("a store that is taken out of the file for a while", () => {
  /** v1 is on all; a machine that overwrote it died when B and C had its bytes. */
  async function unfinished(): Promise<{ stores: Three; without: () => MemoryPool; withAll: () => MemoryPool }> {
    const stores = three();
    const founder = memoryPool(stores, { machine: "00000001" });
    await founder.pool.put("x", toBody("v1"));
    expect(await founder.pool.maintenance.repair()).toMatchObject({ whole: true });
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const [both, never] = [gate(), gate()];
    let landed = 0;
    for (const view of views) {
      view.onCall = (operation, name) =>
        operation === "put" && name === "x" && view === views[0] ? never.opened : undefined;
      view.afterCall = (operation, name) => {
        if (operation !== "put" || name !== "x") return undefined;
        if (++landed === 2) both.open();
        return never.opened;
      };
    }
    void memoryPool(views, { machine: "00000009" }).pool.put("x", toBody("v2, unfinished"));
    await both.opened;
    const open = (members: readonly Switched[]): MemoryPool =>
      memoryPool(members, { machine: "00000002", leaseMs: -1 });
    return { stores, without: () => open([stores[1], stores[2]]), withAll: () => open(stores) };
  }

  it("is waited for by repair, where the only good copy of a finished version may be on it", async () => {
    const { stores, without, withAll } = await unfinished();
    const { pool } = without();
    const report = await pool.maintenance.repair();
    expect(report).toMatchObject({ whole: false, unheard: ["A"], done: 0 });
    expect(await textOrCode(pool, "x")).toBe("error: unavailable");
    expect(onAll(stores, "x")).toEqual(["v1", "v2, unfinished", "v2, unfinished"]);
    await pool.close();
    const all = withAll();
    expect(await all.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(onAll(stores, "x")).toEqual(["v1", "v1", "v1"]);
    expect(await textOf(all.pool, "x")).toBe("v1");
  });

  it("may have the only copy of an object, which is not lost then", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c], { machine: "00000001" });
    await first.pool.put("founded", toBody("1"));
    b.down = c.down = true;
    await first.pool.put("x", toBody("on A alone"));
    b.down = c.down = false;
    await first.pool.close();
    const second = memoryPool([b, c], { machine: "00000001", index: first.index });
    expect(await textOrCode(second.pool, "x")).toBe("error: unavailable");
    expect(await codeOf(second.pool.stat("x"))).toBe("unavailable");
    expect(await second.pool.maintenance.status()).toMatchObject({ lost: 0, absent: ["A"] });
    const kinds: string[] = [];
    await second.pool.maintenance.verify({ onFinding: ({ kind, object }) => void kinds.push(`${kind} ${object}`) });
    expect(kinds).not.toContain("lost x");
  });

  it("is owed what was done without it, and says so when it comes back", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c], { machine: "00000001" });
    for (const name of ["changed", "deleted", "kept"]) await first.pool.put(name, toBody("v1"));
    await first.pool.close();
    const second = memoryPool([b, c], { machine: "00000001", index: first.index });
    await second.pool.put("changed", toBody("v2"));
    await second.pool.put("new", toBody("v1"));
    await second.pool.delete("deleted");
    await second.pool.close();
    const third = memoryPool([a, b, c], { machine: "00000001", index: first.index });
    const status = await third.pool.maintenance.status();
    expect(status).toMatchObject({ degraded: 3, lost: 0, absent: [] });
    expect(status.stores[0]).toMatchObject({ owedCopies: 2, owedDeletes: 1 });
    b.down = c.down = true;
    expect(await textOrCode(third.pool, "changed")).toBe("error: unavailable");
    b.down = c.down = false;
    expect(await third.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect([a, b, c].map((store) => textOn(store, "changed"))).toEqual(["v2", "v2", "v2"]);
    expect(onAll([a, b, c], "deleted")).toEqual([undefined, undefined, undefined]);
    expect(await namesOn(third.pool)).toEqual(["changed", "kept", "new"]);
  });
});

describe("a source that uses its buffer again", () => {
  it("puts what it gave, on stores that are slower than it too", async () => {
    const stores = three();
    const views = [viewOf(stores[0]), viewOf(stores[1]), viewOf(stores[2])] as const;
    const read = gate();
    // C begins to take bytes when the source has given all of them.
    views[2].onCall = async (operation, name) => {
      if (operation === "put" && name === "x") await read.opened;
    };
    const { pool } = memoryPool(views);
    const buffer = Buffer.alloc(4);
    const parts = ["one ", "two ", "3rd ", "last"];
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for (const part of parts) {
        buffer.write(part);
        yield buffer;
        // A file or a socket that is read into the same buffer takes its time.
        await new Promise((resolve) => void setImmediate(resolve));
      }
      buffer.fill("#");
      read.open();
    };
    expect(await pool.put("x", toBody(source()))).toMatchObject({ owed: [], size: 16 });
    expect(onAll(stores, "x")).toEqual(Array(3).fill(parts.join("")));
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
  });
});
