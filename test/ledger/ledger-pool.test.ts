/** The ledger on its stores: identity, compaction, several machines, damage, stores that come and go. */
import { describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { decodeSegment, encodeSegment, parseSegmentName, SEGMENT_PREFIX } from "../../src/ledger/segment.ts";
import type { Finding } from "../../src/contract/pool.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Runtime } from "../../src/contract/runtime.ts";
import type { Store } from "../../src/contract/store.ts";
import { memoryPool, plant, switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { codeOf, namesOf, readText } from "../helpers/store-answers.ts";

const three = (): [Switched, Switched, Switched] => [switched("A"), switched("B"), switched("C")];

function segmentsOn(member: Switched): string[] {
  const found: string[] = [];
  let name = member.objects.next(SEGMENT_PREFIX, false);
  for (; name?.startsWith(SEGMENT_PREFIX) === true; name = member.objects.next(name, true)) found.push(name);
  return found;
}

function bytesOn(member: Switched, name: string): Buffer {
  return Buffer.from(member.objects.get(name)?.bytes ?? []);
}

function damage(member: Switched, name: string): void {
  const bytes = bytesOn(member, name);
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  plant(member, name, bytes);
}

function wipe(member: Switched): void {
  for (let name = member.objects.next("", false); name !== undefined; name = member.objects.next("", false)) {
    member.objects.delete(name);
  }
}

describe("identity", () => {
  it("does not depend on the order of the pool's file", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c], { mode: "stripe" });
    for (let i = 0; i < 6; i++) await first.pool.put(`n${i}`, toBody(`v${i}`));
    const before = [a, b, c].map((member) => textOn(member, "n0"));
    await first.pool.close();
    const { pool } = memoryPool([c, a, b], { mode: "stripe" });
    for (let i = 0; i < 6; i++) expect(await readText(pool, `n${i}`)).toBe(`v${i}`);
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
    expect(await pool.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    expect([a, b, c].map((member) => textOn(member, "n0"))).toEqual(before);
    await pool.close();
  });

  it("of a store taken out and put back years later is known: its old versions and deleted objects stay history", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c]);
    for (const name of ["kept", "changed", "deleted"]) await first.pool.put(name, toBody("old"));
    await first.pool.close();
    const second = memoryPool([a, b]);
    await second.pool.put("changed", toBody("new"));
    await second.pool.delete("deleted");
    await second.pool.close();
    expect(textOn(c, "deleted")).toBe("old");
    const { pool } = memoryPool([a, b, c]);
    expect(await readText(pool, "changed")).toBe("new");
    expect(await namesOf(pool)).toEqual(["changed", "kept"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(["kept", "changed", "deleted"].map((name) => textOn(c, name))).toEqual(["old", "new", undefined]);
    await pool.close();
  });

  it("shows a folder that is not mounted as missing: it is not filled, and a read goes elsewhere", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c]);
    await first.pool.put("x", toBody("bytes"));
    await first.pool.close();
    wipe(b);
    const { pool } = memoryPool([a, b, c]);
    expect((await pool.maintenance.stores()).map((store) => store.trouble)).toEqual([undefined, "missing", undefined]);
    expect((await pool.put("y", toBody("z"))).owed).toMatchObject([{ store: "B", owes: "copy" }]);
    expect(await readText(pool, "x")).toBe("bytes");
    expect(await pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["B"] });
    expect(b.objects.next("", false)).toBeUndefined();
    expect(await pool.maintenance.repair({ refill: ["B"] })).toMatchObject({ whole: true });
    expect([textOn(b, "x"), textOn(b, "y")]).toEqual(["bytes", "z"]);
    await pool.close();
  });

  it("of another pool makes a store foreign: never read, never written", async () => {
    const [a, b, c] = three();
    const other = memoryPool([c]);
    await other.pool.put("theirs", toBody("secret"));
    await other.pool.close();
    const { pool } = memoryPool([a, b]);
    await pool.put("ours", toBody("x"));
    await pool.close();
    const before = c.objects.bytes;
    const mixed = memoryPool([a, b, c]);
    expect((await mixed.pool.maintenance.stores()).map((store) => store.trouble)).toEqual([
      undefined,
      undefined,
      "foreign",
    ]);
    await mixed.pool.put("more", toBody("y"));
    await mixed.pool.maintenance.repair();
    expect(await codeOf(readText(mixed.pool, "theirs"))).not.toBe("no error");
    expect(c.objects.bytes).toBe(before);
    await mixed.pool.close();
  });

  it("of one store, said by two entries, counts once: the other is in trouble, owed copies, and never written", async () => {
    const [a, b] = three();
    const first = memoryPool([a, b]);
    await first.pool.put("x", toBody("y"));
    await first.pool.close();
    const twin = switched("A again", a.objects);
    twin.onCall = (operation) => {
      if (operation === "put" || operation === "delete") throw new Error("it is not to be changed");
    };
    const { pool } = memoryPool([a, b, twin]);
    expect((await pool.maintenance.stores()).map((store) => store.trouble)).toEqual([undefined, undefined, "twin"]);
    expect((await pool.put("z", toBody("w"))).owed).toMatchObject([{ store: "A again", owes: "copy" }]);
    expect(await pool.maintenance.status()).toMatchObject({
      lost: 0,
      stores: [{ owedCopies: 0 }, { owedCopies: 0 }, { owedCopies: 2 }],
    });
    expect((await pool.maintenance.repair()).unheard).toEqual(["A again"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: false });
    b.down = true;
    expect(await readText(pool, "z")).toBe("w");
    expect(twin.calls.filter((call) => /^(put|delete) /u.test(call))).toEqual([]);
  });

  it("stays with the entry whose address the ledger knows, wherever it stands in the file", async () => {
    const [a, b] = three();
    const first = memoryPool([a, b], { fingerprints: ["place of A", "place of B"] });
    await first.pool.put("x", toBody("y"));
    await first.pool.close();
    const twin = switched("A again", a.objects);
    const { pool } = memoryPool([twin, b, a]);
    expect((await pool.maintenance.stores()).map((store) => store.trouble)).toEqual(["twin", undefined, undefined]);
  });

  it("that is damaged makes the store unreachable, and nobody overwrites it", async () => {
    const [a, b, c] = three();
    const first = memoryPool([a, b, c]);
    await first.pool.put("x", toBody("y"));
    await first.pool.close();
    plant(c, ".holdfast/store.json", "{");
    const { pool } = memoryPool([a, b, c]);
    expect((await pool.maintenance.stores()).map((store) => store.trouble)).toEqual([
      undefined,
      undefined,
      "unreachable",
    ]);
    expect((await pool.put("z", toBody("w"))).owed).toMatchObject([{ store: "C" }]);
    expect(textOn(c, ".holdfast/store.json")).toBe("{");
    await pool.close();
  });
});

describe("compaction", () => {
  it("keeps the segments few and loses nothing", async () => {
    const members = three();
    const { pool } = memoryPool(members, { mergeAt: 8 });
    for (let i = 0; i < 150; i++) await pool.put(`n${i % 50}`, toBody(`v${i}`));
    for (let i = 0; i < 10; i++) await pool.delete(`n${i}`);
    await pool.close();
    for (const member of members) expect(segmentsOn(member).length).toBeLessThan(40);
    const stranger = memoryPool(members).pool;
    expect(await namesOf(stranger)).toHaveLength(40);
    for (let i = 10; i < 50; i++) expect(await readText(stranger, `n${i}`)).toBe(`v${100 + i}`);
    expect(await codeOf(readText(stranger, "n3"))).toBe("not-found");
    expect(await stranger.maintenance.verify()).toMatchObject({ findings: 0 });
    await stranger.close();
  });

  it("is nothing that a pool does which only read", async () => {
    const members = three();
    const { pool } = memoryPool(members, { mergeAt: 1000 });
    for (let i = 0; i < 12; i++) await pool.put(`n${i % 6}`, toBody(`v${i}`));
    await pool.close();
    const reader = memoryPool(members, { mergeAt: 2 }).pool;
    for (const member of members) member.calls.length = 0;
    expect(await readText(reader, "n5")).toBe("v11");
    expect(await reader.maintenance.verify()).toMatchObject({ findings: 0 });
    await reader.close();
    const calls = members.flatMap((member) => member.calls);
    expect(calls.filter((call) => call.startsWith("put") || call.startsWith("delete"))).toEqual([]);
  });

  it("does not hold up for long a pool that is closed", async () => {
    const members = three();
    const { pool } = memoryPool(members, { mergeAt: 1000 });
    for (let i = 0; i < 12; i++) await pool.put(`n${i % 6}`, toBody(`v${i}`));
    await pool.close();
    const before = members.map(segmentsOn);
    // Time is up as soon as it is asked for, and before any segment was read.
    let tell = (): void => undefined;
    const timeIsUp = new Promise<void>((resolve) => (tell = resolve));
    const runtime: Runtime = {
      ...systemRuntime,
      timer: (ms, fire) => {
        if (ms !== 3000) return systemRuntime.timer(ms, fire);
        fire();
        tell();
        return () => undefined;
      },
    };
    const closing = memoryPool(members, { mergeAt: 2, runtime });
    await closing.pool.put("more", toBody("bytes"));
    members[0].onCall = (operation) => (operation === "get" ? timeIsUp : undefined);
    await closing.pool.close();
    members[0].onCall = undefined;
    // Nothing was merged.
    for (const [place, member] of members.entries()) {
      expect(segmentsOn(member)).toEqual(expect.arrayContaining(before[place] ?? []));
    }
    const { pool: after } = memoryPool(members);
    expect(await after.maintenance.verify()).toMatchObject({ findings: 0, objects: 7 });
    await after.close();
  });

  it("that stops at any of its writes leaves a ledger that says the same", async () => {
    for (let stopAt = 1; stopAt <= 12; stopAt++) {
      const members = three();
      const { pool } = memoryPool(members, { mergeAt: 1000 });
      for (let i = 0; i < 12; i++) await pool.put(`n${i % 6}`, toBody(`v${i}`));
      await pool.delete("n5");
      await pool.close();
      const compacting = memoryPool(members, { mergeAt: 4 });
      await compacting.pool.maintenance.status();
      // From here on every store is dead: as a crash in the middle of it leaves things.
      let calls = 0;
      for (const member of members) {
        member.onCall = (operation, name) => {
          if ((operation !== "put" && operation !== "delete") || !name.startsWith(SEGMENT_PREFIX)) return;
          if (++calls >= stopAt) for (const one of members) one.down = true;
          if (calls >= stopAt) throw new HoldfastError("unavailable", "gone");
        };
      }
      await compacting.context.ledger.compact().catch(() => undefined);
      for (const member of members) {
        member.down = false;
        member.onCall = undefined;
      }
      const { pool: after } = memoryPool(members, { mergeAt: 1000 });
      expect(await namesOf(after)).toEqual(["n0", "n1", "n2", "n3", "n4"]);
      for (let i = 0; i < 5; i++) expect(await readText(after, `n${i}`)).toBe(`v${6 + i}`);
      expect(await after.maintenance.repair()).toMatchObject({ whole: true, failed: 0 });
      expect(await after.maintenance.repair()).toMatchObject({ planned: 0 });
      expect(members.map(segmentsOn).every((names) => names.length === segmentsOn(members[0]).length)).toBe(true);
      await after.close();
    }
  });

  it("by one machine does not disturb another that reads and writes meanwhile", async () => {
    const members = three();
    const one = memoryPool(members, { mergeAt: 4, machine: "00000001" });
    const two = memoryPool(members, { mergeAt: 4, machine: "00000002" });
    for (let round = 0; round < 12; round++) {
      await Promise.all([
        ...Array.from({ length: 4 }, (_, i) => one.pool.put(`one-${i}`, toBody(`${round}`))),
        ...Array.from({ length: 4 }, (_, i) => two.pool.put(`two-${i}`, toBody(`${round}`))),
        one.context.ledger.compact(),
        two.context.ledger.compact(),
      ]);
      for (let i = 0; i < 4; i++) {
        expect(await readText(two.pool, `one-${i}`)).toBe(`${round}`);
        expect(await readText(one.pool, `two-${i}`)).toBe(`${round}`);
      }
    }
    await one.pool.close();
    await two.pool.close();
    const { pool } = memoryPool(members);
    expect(await namesOf(pool)).toHaveLength(8);
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
    await pool.close();
  });

  it("names what it replaced before, too, where a store has kept that: damage to it there means nothing", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const old = memoryPool([a, b], { machine: "00000001" });
    await old.pool.put("x", toBody("bytes"));
    await old.pool.close();
    const [kept] = segmentsOn(b);
    if (kept === undefined) throw new Error("no segment");
    // B takes no merged segments, and so keeps those that they replace.
    const stubborn: Store = {
      ...b.store,
      put: (name, body, options) =>
        parseSegmentName(name)?.level === 9
          ? Promise.reject(new HoldfastError("unavailable", "not this one"))
          : b.store.put(name, body, options),
    };
    const { pool, context } = memoryPool([a, { store: stubborn }], { machine: "00000001" });
    await context.open();
    expect(await context.ledger.compact()).toBe(true);
    await pool.put("y", toBody("bytes"));
    await context.ledger.flushed();
    expect(await context.ledger.compact()).toBe(true);
    expect([segmentsOn(a).includes(kept), segmentsOn(b).includes(kept)]).toEqual([false, true]);
    damage(b, kept);
    const stranger = memoryPool([a, b]).pool;
    expect(await namesOf(stranger)).toEqual(["x", "y"]);
    expect(await stranger.maintenance.repair()).toMatchObject({ whole: true, left: [] });
    expect(segmentsOn(b)).toEqual(segmentsOn(a));
  });

  it("removes only segments whose records stand in what replaces them", async () => {
    const members = three();
    const { pool, context } = memoryPool(members, { mergeAt: 1000 });
    for (let i = 0; i < 9; i++) await pool.put(`n${i}`, toBody(`v${i}`));
    await context.ledger.compact();
    const names = segmentsOn(members[0]);
    expect(names.map((name) => parseSegmentName(name)?.level)).toEqual([9]);
    const base = decodeSegment(bytesOn(members[0], names[0] ?? ""));
    expect(base.objects.map((record) => record.name)).toEqual(Array.from({ length: 9 }, (_, i) => `n${i}`));
    expect(base.replaces.length).toBeGreaterThan(0);
    await pool.close();
  });
});

describe("several machines", () => {
  it("that write one name at once agree on one version, and repair leaves one", async () => {
    const members = three();
    const one = memoryPool(members, { machine: "00000001" });
    const two = memoryPool(members, { machine: "00000002" });
    await one.pool.put("x", toBody("first"));
    await Promise.all([one.pool.put("x", toBody("from one")), two.pool.put("x", toBody("from two"))]);
    const values = [await readText(one.pool, "x"), await readText(two.pool, "x")];
    expect(new Set(values).size).toBe(1);
    expect(["from one", "from two"]).toContain(values[0]);
    expect(await one.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(new Set(members.map((member) => textOn(member, "x")))).toEqual(new Set([values[0]]));
    expect(await two.pool.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    await one.pool.close();
    await two.pool.close();
  });

  it("see each other's puts, overwrites and deletes at once, though their indexes are their own", async () => {
    const members = three();
    const one = memoryPool(members, { machine: "00000001" }).pool;
    const two = memoryPool(members, { machine: "00000002" }).pool;
    await one.put("x", toBody("1"));
    expect(await readText(two, "x")).toBe("1");
    await two.put("x", toBody("2"));
    expect(await readText(one, "x")).toBe("2");
    await one.delete("x");
    expect(await codeOf(readText(two, "x"))).toBe("not-found");
    await two.put("x", toBody("3"));
    expect(await readText(one, "x")).toBe("3");
    expect((await one.stat("x")).size).toBe(1);
    await one.close();
    await two.close();
  });

  it("whose clock is far behind still writes above what it has read", async () => {
    const members = three();
    const ahead = memoryPool(members, { machine: "00000001" });
    ahead.context.ledger.clock.observe(
      `${(Date.now() + 10_000_000_000).toString(16).padStart(12, "0")}0000-${"1".repeat(16)}`,
    );
    await ahead.pool.put("x", toBody("from the future"));
    const { pool } = memoryPool(members, { machine: "00000002" });
    await pool.put("x", toBody("from now"));
    expect(await readText(ahead.pool, "x")).toBe("from now");
    await ahead.pool.close();
    await pool.close();
  });

  it("a reader that reaches only stores that missed an overwrite says who was silent", async () => {
    const members = three();
    const writer = memoryPool(members, { machine: "00000001" });
    await writer.pool.put("x", toBody("old"));
    members[2].down = true;
    await writer.pool.put("x", toBody("new"));
    members[2].down = false;
    members[0].down = true;
    members[1].down = true;
    const reader = memoryPool(members, { machine: "00000002" });
    const found = await reader.pool.get("x");
    expect(Buffer.from(await collect(found.body)).toString()).toBe("old");
    expect(found.unheard).toEqual(["A", "B"]);
    members[0].down = false;
    expect(await readText(reader.pool, "x")).toBe("new");
    await writer.pool.close();
    await reader.pool.close();
  });
});

describe("a folder without a description", () => {
  it("is known by its plain path where a store is named", async () => {
    const members = [switched("file:///mnt/a"), switched("file:///mnt/b")];
    const { pool } = memoryPool(members);
    await pool.put("x", toBody("bytes"));
    expect((await pool.maintenance.drill({ store: "/mnt/b" })).store).toBe("file:///mnt/b");
    expect(await codeOf(pool.maintenance.drain("/mnt/c"))).toBe("config");
    expect(await codeOf(pool.maintenance.drain("/mnt/a"))).toBe("conflict");
    expect((await pool.maintenance.drain("/mnt/a", { leaveCopies: 1 })).removable).toBe(true);
    expect([textOn(members[0] as Switched, "x"), textOn(members[1] as Switched, "x")]).toEqual([undefined, "bytes"]);
  });
});

describe("a store that was silent a moment ago", () => {
  it("is asked again before a read fails, however fresh what was heard is", async () => {
    const member = switched("A");
    const { pool } = memoryPool([member], { machine: "00000001", freshMs: 60_000 });
    await pool.put("x", toBody("bytes"));
    for (const look of [
      async () => expect(await pool.stat("x")).toMatchObject({ size: 5 }),
      async () => expect(Buffer.from(await collect((await pool.get("x")).body)).toString()).toBe("bytes"),
    ]) {
      member.down = true;
      await pool.maintenance.stores();
      await expect(pool.get("x")).rejects.toMatchObject({ code: "unavailable" });
      member.down = false;
      await look();
    }
  });
});

describe("damage to the ledger", () => {
  it("on one store is read past, named by verify and mended by repair", async () => {
    const members = three();
    const first = memoryPool(members);
    await first.pool.put("x", toBody("bytes"));
    await first.pool.close();
    const names = segmentsOn(members[0]);
    for (const name of names) damage(members[0], name);
    const { pool } = memoryPool(members);
    expect(await readText(pool, "x")).toBe("bytes");
    expect(await namesOf(pool)).toEqual(["x"]);
    const findings: Finding[] = [];
    await pool.maintenance.verify({ onFinding: (finding) => findings.push(finding) });
    expect(findings.map((finding) => `${finding.kind} ${finding.store ?? ""} ${finding.detail ?? ""}`)).toEqual(
      names.map(() => "ledger A damaged"),
    );
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    for (const name of names) expect(bytesOn(members[0], name)).toEqual(bytesOn(members[1], name));
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
    expect(await pool.maintenance.repair()).toMatchObject({ planned: 0 });
    await pool.close();
  });

  it("by one record with a name of 5,000 characters is called by the segment's name, and the rest goes on", async () => {
    const members = three();
    const first = memoryPool(members);
    await first.pool.put("x", toBody("bytes"));
    await first.pool.close();
    const name = segmentsOn(members[0]).at(-1) ?? "";
    const { pool: id, stores, objects } = decodeSegment(bytesOn(members[0], name));
    const wrong = objects.map((record) => ({ ...record, name: "n".repeat(5000) }));
    plant(
      members[0],
      name,
      Buffer.from(encodeSegment({ pool: id, replaces: [], stores: stores ?? [], objects: wrong })),
    );
    const { pool } = memoryPool(members);
    expect(await readText(pool, "x")).toBe("bytes");
    await pool.put("y", toBody("more"));
    expect(await namesOf(pool)).toEqual(["x", "y"]);
    expect((await pool.maintenance.stores()).map(({ reachable }) => reachable)).toEqual([true, true, true]);
    const findings: Finding[] = [];
    await pool.maintenance.verify({ onFinding: (finding) => findings.push(finding) });
    expect(findings).toMatchObject([{ kind: "ledger", store: "A", object: name, detail: "damaged" }]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
    expect(bytesOn(members[0], name)).toEqual(bytesOn(members[1], name));
    await pool.close();
  });

  it("on all stores makes absence uncertain: nothing is said to be gone, and verify names it", async () => {
    const members = three();
    const first = memoryPool(members);
    await first.pool.put("x", toBody("bytes"));
    await first.pool.close();
    for (const name of segmentsOn(members[0])) for (const member of members) damage(member, name);
    const { pool } = memoryPool(members);
    expect(await readText(pool, "x")).toBe("bytes");
    expect(await codeOf(readText(pool, "never"))).toBe("unavailable");
    expect(await codeOf(namesOf(pool))).toBe("incomplete");
    const report = await pool.maintenance.verify();
    expect(report.byKind.ledger).toBeGreaterThan(0);
    await pool.close();
  });

  it("on all stores is made up for by a machine that had read it before", async () => {
    const members = three();
    const { pool } = memoryPool(members);
    await pool.put("x", toBody("bytes"));
    await pool.put("gone", toBody("bytes"));
    await pool.delete("gone");
    await pool.maintenance.repair();
    for (const name of segmentsOn(members[0])) for (const member of members) damage(member, name);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
    const stranger = memoryPool(members).pool;
    expect(await codeOf(readText(stranger, "gone"))).toBe("not-found");
    expect(await namesOf(stranger)).toEqual(["x"]);
    expect((await stranger.maintenance.verify()).findings).toBe(0);
  });

  it("on the only store that has it is made up for likewise", async () => {
    const [a, b] = [switched("A"), switched("B")];
    const { pool } = memoryPool([a, b]);
    await pool.put("x", toBody("bytes"));
    await pool.maintenance.repair();
    for (const name of segmentsOn(a)) {
      damage(a, name);
      b.objects.delete(name);
    }
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
    expect(segmentsOn(b)).toEqual(segmentsOn(a));
    expect((await memoryPool([a, b]).pool.maintenance.verify()).findings).toBe(0);
  });

  it("on all stores is discarded when the user says so, and not while a store is silent", async () => {
    const members = three();
    const machine = "00000001";
    const first = memoryPool(members, { machine });
    await first.pool.put("x", toBody("bytes"));
    await first.pool.put("y", toBody("bytes"));
    await first.pool.close();
    for (const name of segmentsOn(members[0])) for (const member of members) damage(member, name);
    const { pool } = memoryPool(members, { machine });
    expect(await pool.maintenance.repair()).toMatchObject({ whole: false });
    members[1].down = true;
    expect(await pool.maintenance.repair({ discardDamaged: true })).toMatchObject({ whole: false });
    expect(await codeOf(readText(pool, "never"))).toBe("unavailable");
    members[1].down = false;
    expect(await pool.maintenance.repair({ discardDamaged: true })).toMatchObject({ whole: true, left: [] });
    for (const one of [pool, memoryPool(members, { machine }).pool]) {
      expect(await codeOf(readText(one, "never"))).toBe("not-found");
      expect(await namesOf(one)).toEqual(["x", "y"]);
      expect((await one.maintenance.verify()).findings).toBe(0);
      expect(await one.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    }
    members[0].down = true;
    expect(await namesOf(pool)).toEqual(["x", "y"]);
  });

  it("a store that lacks segments gets them, and is the same as the others then", async () => {
    const members = three();
    const { pool } = memoryPool(members);
    await pool.put("x", toBody("1"));
    members[2].down = true;
    for (let i = 0; i < 5; i++) await pool.put(`n${i}`, toBody("2"));
    members[2].down = false;
    await pool.close();
    expect(segmentsOn(members[2]).length).toBeLessThan(segmentsOn(members[0]).length);
    const after = memoryPool(members).pool;
    expect(await after.maintenance.repair()).toMatchObject({ whole: true });
    expect(segmentsOn(members[2])).toEqual(segmentsOn(members[0]));
    // The one that missed all of it can now tell the story alone.
    members[0].down = true;
    members[1].down = true;
    const alone = memoryPool(members).pool;
    expect(await readText(alone, "n4")).toBe("2");
    await alone.close();
    await after.close();
  });

  it("of another pool's segment, put there by hand, changes nothing", async () => {
    const [a, b, c] = three();
    const other = memoryPool([c]);
    await other.pool.put("theirs", toBody("x"));
    await other.pool.close();
    const { pool } = memoryPool([a, b]);
    await pool.put("ours", toBody("y"));
    await pool.close();
    for (const name of segmentsOn(c)) for (const member of [a, b]) plant(member, name, bytesOn(c, name));
    const after = memoryPool([a, b]).pool;
    expect(await readText(after, "ours")).toBe("y");
    expect(await codeOf(after.stat("theirs"))).not.toBe("no error");
    await after.close();
  });
});

describe("the index", () => {
  it("can be thrown away at any time: what it said is read from the stores again", async () => {
    const members = three();
    const { pool } = memoryPool(members, { index: new MemoryIndex() });
    for (let i = 0; i < 20; i++) await pool.put(`n${i}`, toBody(`v${i}`));
    members[1].down = true;
    await pool.delete("n3");
    await pool.put("n4", toBody("newer"));
    members[1].down = false;
    const told = [await pool.maintenance.status(), await namesOf(pool)];
    await pool.close();
    const fresh = memoryPool(members, { index: new MemoryIndex() }).pool;
    expect([await fresh.maintenance.status(), await namesOf(fresh)]).toEqual(told);
    await fresh.close();
  });

  it("needs no reading of segments that it has, and no listing of objects", async () => {
    const members = three();
    const index = new MemoryIndex();
    const first = memoryPool(members, { index, machine: "00000001" });
    for (let i = 0; i < 10; i++) await first.pool.put(`n${i}`, toBody("x"));
    await first.pool.close();
    for (const member of members) member.calls.length = 0;
    const { pool } = memoryPool(members, { index, machine: "00000001" });
    await pool.maintenance.status();
    const calls = members.flatMap((member) => member.calls);
    expect(calls.filter((call) => call !== "get .holdfast/store.json" && call !== "list .holdfast/ledger/")).toEqual(
      [],
    );
    await pool.close();
  });
});
