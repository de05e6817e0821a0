/** Records of new names that are on every store: they may follow later, and nothing may be lost by that. */
import { describe, expect, it } from "vitest";
import { collect, toBody } from "../src/body.ts";
import { MemoryIndex } from "../src/ledger/ledger-index.ts";
import { currentRecord } from "../src/ledger/record.ts";
import { decodeSegment, SEGMENT_PREFIX } from "../src/ledger/segment.ts";
import type { Store } from "../src/store.ts";
import { memoryPool, plant, switched, textOn } from "./helpers/memory-pool.ts";
import type { MemoryPool, MemoryPoolOptions, Switched } from "./helpers/memory-pool.ts";

async function read(store: Store, name: string): Promise<string> {
  const { body } = await store.get(name);
  return Buffer.from(await collect(body)).toString();
}

/** What the ledger on one store says of a name. */
function recordedOn(member: Switched, name: string): ReturnType<typeof currentRecord> {
  const index = new MemoryIndex();
  let segment = member.objects.next(SEGMENT_PREFIX, false);
  for (; segment?.startsWith(SEGMENT_PREFIX) === true; segment = member.objects.next(segment, true)) {
    index.apply({ objects: decodeSegment(Buffer.from(member.objects.get(segment)?.bytes ?? [])).objects });
  }
  return currentRecord(index.get(name));
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

describe("the record of a new name that every store took", () => {
  it("is not waited for", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    await pool.put("new", toBody("bytes"));
    expect([a, b].map((member) => recordedOn(member, "new"))).toEqual([undefined, undefined]);
    expect(await read(pool, "new")).toBe("bytes");
    expect(await pool.stat("new")).toMatchObject({ size: 5 });
    await pool.close();
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put", content: { size: 5 } });
  });

  it("shares a segment with all others of its moment, and with what cannot wait", async () => {
    const { a, b, index } = await founded();
    const { pool } = mortal(a, b, index);
    for (let i = 0; i < 50; i++) await pool.put(`new${i}`, toBody("bytes"));
    a.calls.length = 0;
    await pool.delete("founded");
    const written = a.calls.filter((call) => call.startsWith(`put ${SEGMENT_PREFIX}`));
    expect(written).toHaveLength(1);
    expect(recordedOn(b, "new49")).toMatchObject({ kind: "put" });
    await pool.close();
  });

  it("is written by the next run of this machine where this one died before", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("new", toBody("bytes"));
    const next = mortal(a, b, index);
    // Reading writes nothing.
    expect(await read(next.pool, "new")).toBe("bytes");
    expect(recordedOn(a, "new")).toBeUndefined();
    await next.pool.put("other", toBody("more"));
    await next.pool.close();
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put", content: { size: 5 } });
    expect([...index.facts("later:")]).toEqual([]);
    const { pool } = memoryPool([a, b], { machine: "00000002" });
    expect(await pool.verify()).toMatchObject({ findings: 0 });
    await pool.close();
  });

  it("may be lost with the machine: the object is read, found to be unrecorded, and adopted", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("new", toBody("bytes"));
    const { pool } = memoryPool([a, b], { machine: "00000002" });
    a.down = true;
    expect(await read(pool, "new")).toBe("bytes");
    a.down = false;
    expect(await pool.verify()).toMatchObject({ findings: 1, byKind: { unrecorded: 1 } });
    expect(await pool.repair()).toMatchObject({ whole: true });
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put", content: { size: 5 } });
    await pool.close();
  });

  it("that comes late does not bring back what was deleted meanwhile by another machine", async () => {
    const { a, b, index } = await founded();
    await mortal(a, b, index).pool.put("new", toBody("bytes"));
    const other = memoryPool([a, b], { machine: "00000002" });
    expect(await other.pool.delete("new")).toMatchObject({ existed: true });
    await other.pool.close();
    const { pool } = memoryPool([a, b], { machine: "00000001", index });
    await expect(pool.get("new")).rejects.toMatchObject({ code: "not-found" });
    expect(await pool.repair()).toMatchObject({ whole: true });
    await expect(pool.get("new")).rejects.toMatchObject({ code: "not-found" });
    await pool.close();
  });

  it("goes with the next segment when no store took it", async () => {
    const { a, b, index } = await founded();
    const { pool, core } = mortal(a, b, index);
    await pool.put("new", toBody("bytes"));
    a.down = b.down = true;
    await core.ledger.flushed();
    a.down = b.down = false;
    expect(recordedOn(a, "new")).toBeUndefined();
    await pool.put("other", toBody("more"));
    await pool.close();
    for (const member of [a, b]) expect(recordedOn(member, "new")).toMatchObject({ kind: "put" });
  });
});

describe("the record is durable before the put is answered", () => {
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
    const { a, b, index } = await founded();
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
