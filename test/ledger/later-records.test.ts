/** What is durable before a put or a delete is answered, and what may follow later: nothing may be lost by that. */
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { currentRecord } from "../../src/ledger/record.ts";
import { decodeSegment, SEGMENT_PREFIX } from "../../src/ledger/segment.ts";
import { gate } from "../helpers/gate.ts";
import { memoryPool, plant, switched, textOn } from "../helpers/memory-pool.ts";
import type { MemoryPool, MemoryPoolOptions, Switched } from "../helpers/memory-pool.ts";
import { debtsOf, textOf, textOrCode } from "../helpers/pool-answers.ts";

/** What the ledger on one store says of a name. */
function recordedOn(member: Switched, name: string): ReturnType<typeof currentRecord> {
  const index = new MemoryIndex();
  let segment = member.objects.next(SEGMENT_PREFIX, false);
  for (; segment?.startsWith(SEGMENT_PREFIX) === true; segment = member.objects.next(segment, true)) {
    index.apply({ objects: decodeSegment(Buffer.from(member.objects.get(segment)?.bytes ?? [])).objects });
  }
  return currentRecord(index.get(name));
}

function segmentsPutOn(member: Switched): string[] {
  return member.calls.filter((call) => call.startsWith(`put ${SEGMENT_PREFIX}`));
}

/** Two stores with a pool on them that was opened before, so that what is put next is certainly new. */
async function founded(options: MemoryPoolOptions = {}): Promise<{ a: Switched; b: Switched; index: MemoryIndex }> {
  const [a, b] = [switched("A"), switched("B")];
  const index = new MemoryIndex();
  const { pool } = memoryPool([a, b], { machine: "00000001", index, ...options });
  await pool.put("founded", toBody("first"));
  await pool.close();
  return { a, b, index };
}

/** A pool that dies: nothing that it left for later is ever written by it. */
function mortal(a: Switched, b: Switched, index: MemoryIndex, options: MemoryPoolOptions = {}): MemoryPool {
  return memoryPool([a, b], { machine: "00000001", index, laterMs: Infinity, ...options });
}

describe("the record is durable before the put is answered", () => {
  it("when the name is new", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("new", toBody("bytes"));
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put", content: { size: 5 } });
  });

  it("so that it outlives the machine", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("new", toBody("bytes"));
    const { pool } = memoryPool([a, b], { machine: "00000002" });
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
    for (const silent of [a, b]) {
      silent.down = true;
      expect(await textOrCode(pool, "new")).toMatch(/^bytes/u);
      silent.down = false;
    }
    expect(await pool.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    await pool.close();
  });

  it("on every store that counts: while one of them has yet to take it, there is no answer", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    const [reached, through] = [gate(), gate()];
    b.onCall = (operation, name) => {
      if (operation !== "put" || !name.startsWith(SEGMENT_PREFIX)) return undefined;
      reached.open();
      return through.opened;
    };
    let isAnswered = false;
    const put = pool.put("new", toBody("bytes")).then((result) => {
      isAnswered = true;
      return result;
    });
    await reached.opened;
    while (recordedOn(a, "new") === undefined) await new Promise((resolve) => void setImmediate(resolve));
    await new Promise((resolve) => void setImmediate(resolve));
    expect(isAnswered).toBe(false);
    through.open();
    expect(await put).toMatchObject({ owed: [] });
    expect(recordedOn(b, "new")).toMatchObject({ kind: "put" });
    await pool.close();
  });

  it("on the stores that hold it: one that does not take it owes the copy, which the others are told first", async () => {
    const { a, b, index } = await founded();
    b.onCall = (operation, name) => {
      if (operation === "put" && name.startsWith(SEGMENT_PREFIX)) throw new Error("no");
    };
    expect((await mortal(a, b, index).pool.put("new", toBody("bytes"))).owed).toMatchObject([
      { store: "B", owes: "copy" },
    ]);
    expect(textOn(b, "new")).toBe("bytes");
    const marks = Object.values(recordedOn(a, "new")?.copies ?? {}).map(({ state }) => state);
    expect(marks.sort()).toEqual(["copy", "holds"]);
  });

  it("when the name existed", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("founded", toBody("second"));
    for (const member of [a, b]) {
      expect(recordedOn(member, "founded")).toMatchObject({ kind: "put", content: { size: 6 } });
    }
  });

  it("when a store missed it", async () => {
    const { a, b, index } = await founded();
    b.onCall = (operation, name) => {
      if (operation === "put" && name === "new") throw new Error("no");
    };
    expect((await mortal(a, b, index).pool.put("new", toBody("bytes"))).owed).toHaveLength(1);
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put" });
  });

  it("when only some stores should have it", async () => {
    const { a, b, index } = await founded({ mode: "stripe" });
    await mortal(a, b, index, { mode: "stripe" }).pool.put("new", toBody("bytes"));
    const holder = textOn(a, "new") === undefined ? b : a;
    expect(recordedOn(holder, "new")).toMatchObject({ kind: "put" });
  });

  it("when the pool held objects that were never recorded", async () => {
    const [a, b] = [switched("A"), switched("B")];
    plant(a, "old", "by hand");
    const { pool } = memoryPool([a, b], { laterMs: Infinity });
    await pool.put("new", toBody("bytes"));
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put" });
    await pool.close();
  });
});

describe("records of many puts at once", () => {
  it("share segments: those that come while one is being written go with the next", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    await pool.stat("founded");
    const through = gate();
    a.onCall = (operation, name) =>
      operation === "put" && name.startsWith(SEGMENT_PREFIX) ? through.opened : undefined;
    a.calls.length = 0;
    const puts = Array.from({ length: 50 }, (_, i) => pool.put(`new${i}`, toBody("bytes")));
    while (
      Array.from(puts.keys()).some((i) => textOn(a, `new${i}`) === undefined || textOn(b, `new${i}`) === undefined)
    )
      await new Promise((resolve) => void setImmediate(resolve));
    through.open();
    await Promise.all(puts);
    expect(segmentsPutOn(a).length).toBeLessThanOrEqual(2);
    for (const i of puts.keys()) expect(recordedOn(b, `new${i}`)).toMatchObject({ kind: "put" });
    await pool.close();
  });
});

describe("what a delete has done", () => {
  it("is noted later: until then every store owes the delete, on each of them", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    expect(await pool.delete("founded")).toMatchObject({ existed: true, owed: [] });
    const states = (member: Switched): string[] =>
      Object.values(recordedOn(member, "founded")?.copies ?? {}).map(({ state }) => state);
    for (const member of [a, b]) expect(states(member)).toEqual(["delete", "delete"]);
    await pool.close();
    for (const member of [a, b]) expect(states(member)).toEqual(["none", "none"]);
  });

  it("shares a segment with all that follows, and with what cannot wait", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index, { mergeAt: 1000 });
    for (let i = 0; i < 20; i++) await pool.put(`x${i}`, toBody("bytes"));
    a.calls.length = 0;
    for (let i = 0; i < 20; i++) await pool.delete(`x${i}`);
    // Each tombstone takes with it what the delete before it has done.
    expect(segmentsPutOn(a)).toHaveLength(20);
    await pool.close();
    expect(segmentsPutOn(a)).toHaveLength(21);
  });

  it("may be lost with the machine: another one looks, and finds nothing to delete", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.delete("founded");
    const { pool } = memoryPool([a, b], { machine: "00000002", lateMs: 0 });
    expect(await textOrCode(pool, "founded")).toBe("error: not-found");
    expect(await debtsOf(pool)).toEqual(["founded on A: delete", "founded on B: delete"]);
    expect(await pool.maintenance.repair()).toMatchObject({ whole: true, bytes: 0 });
    expect(await debtsOf(pool)).toEqual([]);
    await pool.close();
  });

  it("goes with the next segment when no store took it", async () => {
    const { a, b, index } = await founded();
    const { pool, ledger } = mortal(a, b, index);
    await pool.delete("founded");
    a.down = b.down = true;
    await ledger.flushed();
    a.down = b.down = false;
    expect(await debtsOf(memoryPool([a, b], { machine: "00000002" }).pool)).toHaveLength(2);
    await pool.put("other", toBody("more"));
    for (const member of [a, b]) {
      const marks = Object.values(recordedOn(member, "founded")?.copies ?? {});
      expect(marks.map(({ state }) => state)).toEqual(["none", "none"]);
    }
    await pool.close();
  });

  it("is nothing that a record of another machine, which came meanwhile, is undone by", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    await pool.delete("founded");
    const other = memoryPool([a, b], { machine: "00000002", isLiveWriter: () => false });
    await other.pool.put("founded", toBody("again"));
    await pool.close();
    expect(await textOf(other.pool, "founded")).toBe("again");
    expect(await other.pool.maintenance.repair()).toMatchObject({ whole: true });
    expect([a, b].map((member) => textOn(member, "founded"))).toEqual(["again", "again"]);
    await other.pool.close();
  });
});
