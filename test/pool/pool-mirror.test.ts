import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { Finding } from "../../src/contract/pool.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Runtime } from "../../src/contract/runtime.ts";
import type { PoolStore } from "../../src/pool/pool-store.ts";
import { gate } from "../helpers/gate.ts";
import { memoryPool, plant, switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { codeOf, namesOf, readText } from "../helpers/store-answers.ts";

let members: [Switched, Switched, Switched];
/** A mirror of all of them. */
let pool: PoolStore;

beforeEach(() => {
  members = [switched("A"), switched("B"), switched("C")];
  ({ pool } = memoryPool(members));
});
afterEach(() => pool.close());

describe("a mirror", () => {
  it("puts an object on every store, as a plain object under its own name", async () => {
    const result = await pool.put("a/b.txt", toBody("hello"));
    expect(result.owed).toEqual([]);
    expect(members.map((member) => textOn(member, "a/b.txt"))).toEqual(["hello", "hello", "hello"]);
    expect(await readText(pool, "a/b.txt")).toBe("hello");
    expect(await namesOf(pool)).toEqual(["a/b.txt"]);
  });

  it("succeeds with one store down, says who owes it, and remembers that", async () => {
    await pool.put("first", toBody("1"));
    members[1].down = true;
    const result = await pool.put("x", toBody("new"));
    expect(result.owed.map((debt) => `${debt.store} ${debt.owes} ${debt.object}`)).toEqual(["B copy x"]);
    const status = await pool.maintenance.status();
    expect(status.degraded).toBe(1);
    expect(status.stores.map((store) => store.owedCopies)).toEqual([0, 1, 0]);
    const other = memoryPool(members);
    expect((await other.pool.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([0, 1, 0]);
  });

  it("never reads the old version from a store that missed an overwrite", async () => {
    await pool.put("x", toBody("old"));
    members[0].down = true;
    await pool.put("x", toBody("new"));
    members[0].down = false;
    expect(textOn(members[0], "x")).toBe("old");
    expect(await readText(pool, "x")).toBe("new");
    expect(await readText(memoryPool(members).pool, "x")).toBe("new");
    members[1].down = true;
    members[2].down = true;
    expect(await codeOf(readText(pool, "x"))).toBe("unavailable");
  });

  it("keeps a deleted object deleted when a store that missed the delete comes back", async () => {
    await pool.put("x", toBody("old"));
    members[2].down = true;
    const result = await pool.delete("x");
    expect(result.existed).toBe(true);
    expect(result.owed.map((debt) => `${debt.store} ${debt.owes}`)).toEqual(["C delete"]);
    members[2].down = false;
    expect(await codeOf(readText(pool, "x"))).toBe("not-found");
    expect(await namesOf(pool)).toEqual([]);
    const other = memoryPool(members).pool;
    expect(await codeOf(readText(other, "x"))).toBe("not-found");
    const report = await pool.maintenance.repair();
    expect(report.whole).toBe(true);
    expect(textOn(members[2], "x")).toBeUndefined();
  });

  it("reads from the next store when the first is corrupt, names it, and repair mends it", async () => {
    await pool.put("x", toBody("right"));
    plant(members[0], "x", "wrong");
    expect(await readText(pool, "x")).toBe("right");
    const findings: Finding[] = [];
    await pool.maintenance.verify({ onFinding: (finding) => findings.push(finding) });
    expect(findings.map((finding) => `${finding.kind} ${finding.store ?? ""}`)).toEqual(["corrupt A"]);
    const report = await pool.maintenance.repair();
    expect(report).toMatchObject({ whole: true, left: [] });
    expect(textOn(members[0], "x")).toBe("right");
    const again = await pool.maintenance.repair();
    expect(again).toMatchObject({ planned: 0, done: 0, whole: true });
  });

  it("adopts what stood there before the ledger, and fills the stores that lack it", async () => {
    plant(members[1], "old.gpg", "volume");
    plant(members[2], "old.gpg", "volume");
    plant(members[0], "differs", "one");
    plant(members[2], "differs", "two");
    expect(await readText(pool, "old.gpg")).toBe("volume");
    const report = await pool.maintenance.repair();
    expect(textOn(members[0], "old.gpg")).toBe("volume");
    expect(report.left.map((finding) => `${finding.kind} ${finding.object} ${finding.store ?? ""}`).sort()).toEqual([
      "conflict differs A",
      "conflict differs C",
    ]);
    expect(textOn(members[0], "differs")).toBe("one");
    expect(textOn(members[2], "differs")).toBe("two");
  });

  it("fills a store that came late, and one that was wiped only when told so", async () => {
    const first = memoryPool(members.slice(0, 2));
    for (let i = 0; i < 20; i++) await first.pool.put(`n${i}`, toBody(`v${i}`));
    await first.pool.close();
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [], failed: 0 });
    expect(textOn(members[2], "n7")).toBe("v7");
    for (const name of await namesOf(members[2].store)) members[2].objects.delete(name);
    await pool.put("while empty", toBody("x"));
    expect(textOn(members[2], "while empty")).toBeUndefined();
    expect((await pool.maintenance.stores()).map((store) => store.trouble)).toEqual([undefined, undefined, "missing"]);
    expect((await pool.maintenance.repair()).whole).toBe(false);
    expect((await pool.maintenance.repair({ refill: ["C"] })).whole).toBe(true);
    expect(textOn(members[2], "n7")).toBe("v7");
    expect((await pool.maintenance.repair()).planned).toBe(0);
  });
});

describe("a mirror with one slow store", () => {
  it("answers when min stores have it, owes the slow one its copy, and brings it afterwards", async () => {
    const { pool } = memoryPool(members, { wait: "min", min: 2 });
    await pool.put("x", toBody("old"));
    const held = gate();
    members[2].onCall = (operation, name) => (operation === "put" && name === "x" ? held.opened : undefined);
    const result = await pool.put("x", toBody("new"));
    expect(result.owed.map((debt) => `${debt.store} ${debt.owes}`)).toEqual(["C copy"]);
    expect(
      (await memoryPool(members, { min: 2 }).pool.maintenance.status()).stores.map((store) => store.owedCopies),
    ).toEqual([0, 0, 1]);
    expect(textOn(members[2], "x")).toBe("old");
    expect(await readText(pool, "x")).toBe("new");
    held.open();
    await pool.close();
    expect(textOn(members[2], "x")).toBe("new");
    expect((await memoryPool(members, { min: 2 }).pool.maintenance.status()).degraded).toBe(0);
  });

  it("owes the newer copy of another machine when the older one comes on top of it", async () => {
    const { pool } = memoryPool(members, { wait: "min", min: 2 });
    await pool.put("x", toBody("old"));
    const held = gate();
    let puts = 0;
    members[2].onCall = (operation, name) =>
      operation === "put" && name === "x" && puts++ === 0 ? held.opened : undefined;
    await pool.put("x", toBody("late"));
    const other = memoryPool(members, { min: 2 }).pool;
    expect((await other.put("x", toBody("newer"))).owed).toMatchObject([{ store: "C", owes: "copy" }]);
    expect(textOn(members[2], "x")).toBe("old");
    held.open();
    await pool.close();
    expect(textOn(members[2], "x")).toBe("late");
    expect((await other.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([0, 0, 1]);
    expect(await readText(other, "x")).toBe("newer");
    const later = memoryPool(members, { min: 2, lateMs: 0 }).pool;
    expect(await later.maintenance.repair({ quick: true })).toMatchObject({ whole: true });
    expect(textOn(members[2], "x")).toBe("newer");
    expect((await other.maintenance.status()).degraded).toBe(0);
  });
});

describe("a store that was late", () => {
  it("is given no more time by the next put", async () => {
    let graces = 0;
    const runtime: Runtime = {
      ...systemRuntime,
      timer: (ms, fire) => {
        // Between those of the ledger's questions and of leases.
        if (ms >= 10 && ms < 1000) graces++;
        return systemRuntime.timer(ms, fire);
      },
    };
    const { pool } = memoryPool(members, { wait: "min", min: 2, runtime });
    await pool.put("founded", toBody("first"));
    const letGo: (() => void)[] = [];
    const held = new Set(["x", "y"]);
    members[2].onCall = (operation, name) =>
      operation === "put" && held.has(name) ? new Promise<void>((resolve) => void letGo.push(resolve)) : undefined;
    const owing = async (name: string): Promise<string[]> =>
      (await pool.put(name, toBody("bytes"))).owed.map((debt) => debt.store);
    graces = 0;
    expect(await owing("x")).toEqual(["C"]);
    expect(graces).toBe(1);
    // Nothing but the answers of A and B ends this one: C's never comes.
    runtime.timer = (ms, fire) => systemRuntime.timer(ms, ms >= 10 && ms < 1000 ? () => undefined : fire);
    expect(await owing("y")).toEqual(["C"]);
    for (const go of letGo) go();
    members[2].onCall = undefined;
    await pool.close();
    for (const name of ["x", "y"]) expect(textOn(members[2], name)).toBe("bytes");
  });
});

describe("verify", () => {
  it("goes on where it was interrupted", async () => {
    for (let i = 0; i < 60; i++) await pool.put(`n${String(i).padStart(2, "0")}`, toBody(`v${i}`));
    const stop = new AbortController();
    members[0].onCall = (operation, name) => {
      if (operation === "get" && name === "n40") stop.abort();
    };
    expect(await codeOf(pool.maintenance.verify({ signal: stop.signal }))).toBe("aborted");
    members[0].onCall = undefined;
    members[0].calls.length = 0;
    const report = await pool.maintenance.verify();
    expect(report.findings).toBe(0);
    expect(report.objects).toBeGreaterThanOrEqual(60);
    const read = members[0].calls.filter((call) => call.startsWith("get n"));
    expect(read.length).toBeGreaterThanOrEqual(20);
    expect(read.length).toBeLessThan(60);
    expect(read).not.toContain("get n05");
  });
});

describe("a listing", () => {
  it("gives names that nobody recorded with what the first store that still has them says", async () => {
    await pool.put("known", toBody("1"));
    plant(members[0], "by hand", "one");
    plant(members[2], "by hand", "other");
    plant(members[1], "gone", "x");
    plant(members[2], "late", "xx");
    members[1].calls.length = 0;
    members[1].onCall = (operation, name) => {
      if (operation === "stat" && name === "gone") members[1].objects.delete(name);
    };
    const found: unknown[] = [];
    for await (const { name, size } of pool.list("")) found.push([name, size]);
    expect(found).toEqual([
      ["by hand", 3],
      ["known", 1],
      ["late", 2],
    ]);
    // Nothing is asked for of what is recorded, or of what another store told.
    expect(members[1].calls.filter((call) => call.startsWith("stat"))).toEqual(["stat gone"]);
  });

  it("is incomplete where it cannot be said what stands under a name", async () => {
    await pool.put("known", toBody("1"));
    plant(members[0], "by hand", "one");
    plant(members[0], "alone", "x");
    plant(members[1], "by hand", "other");
    members[0].onCall = (operation) => {
      if (operation === "stat") throw new HoldfastError("denied", "not you");
    };
    const found: unknown[] = [];
    const listing = (async () => {
      for await (const { name, size } of pool.list("")) found.push([name, size]);
    })();
    expect(await codeOf(listing)).toBe("incomplete");
    expect(found).toEqual([
      ["by hand", 5],
      ["known", 1],
    ]);
  });
});

describe("a silent store", () => {
  it("is not taken for one that has nothing, by a machine that did not write what it holds", async () => {
    const writer = memoryPool(members, { machine: "aaaaaaaa" });
    await writer.pool.put("known", toBody("1"));
    members[0].down = true;
    members[1].down = true;
    expect((await writer.pool.put("alone", toBody("on C"))).owed.length).toBe(2);
    members[0].down = false;
    members[1].down = false;
    members[2].down = true;
    const other = memoryPool(members, { machine: "bbbbbbbb" }).pool;
    expect(await codeOf(readText(other, "alone"))).toBe("unavailable");
    expect(await codeOf(other.stat("alone"))).toBe("unavailable");
    expect(await codeOf(namesOf(other))).toBe("incomplete");
    // The one that wrote it knows better: it is there, and cannot be had now.
    expect(await codeOf(readText(writer.pool, "alone"))).toBe("unavailable");
    members[2].down = false;
    expect(await readText(other, "alone")).toBe("on C");
  });

  it("keeps repair from deciding over its head", async () => {
    await pool.put("known", toBody("1"));
    plant(members[0], "by hand", "one");
    plant(members[2], "by hand", "two");
    members[2].down = true;
    const report = await pool.maintenance.repair();
    expect(report.whole).toBe(false);
    expect(textOn(members[1], "by hand")).toBeUndefined();
    members[2].down = false;
    const again = await pool.maintenance.repair();
    expect(again.left.map((finding) => finding.kind)).toEqual(["conflict", "conflict"]);
    expect(textOn(members[0], "by hand")).toBe("one");
    expect(textOn(members[2], "by hand")).toBe("two");
  });
});
