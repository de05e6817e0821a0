/** Properties of records, the clock and segments. Seeds are printed by fast-check when one fails. */
import * as fc from "fast-check";
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { HoldfastError } from "../../src/contract/errors.ts";
import { HybridClock, isVersion } from "../../src/ledger/hybrid-clock.ts";
import { formatIdentity, parseIdentity } from "../../src/ledger/identity.ts";
import { inPieces } from "../../src/ledger/compaction.ts";
import { currentRecord, mergeStoreRecord } from "../../src/ledger/record.ts";
import type { CopyMark, ObjectRecord, StoreRecord } from "../../src/ledger/record.ts";
import { decodeSegment, encodeSegment, parseSegmentName, segmentName } from "../../src/ledger/segment.ts";
import { hex, merged, name, plain, recordsOf, STORES, version } from "../helpers/records.ts";

describe("merging records", () => {
  const one = recordsOf(fc.constant("x"));

  it("gives the same state in any order, however often each record comes", () => {
    fc.assert(
      fc.property(
        one.chain((records) =>
          fc.tuple(
            fc.constant(records),
            fc.shuffledSubarray(records, { minLength: records.length }),
            fc.array(fc.constantFrom(...records), { maxLength: 8 }),
          ),
        ),
        ([records, shuffled, repeated]) => {
          const state = plain(merged(records));
          expect(plain(merged(shuffled))).toEqual(state);
          expect(plain(merged([...repeated, ...shuffled, ...repeated]))).toEqual(state);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("never lets an intent hide a finished record, and never loses the highest finished one", () => {
    fc.assert(
      fc.property(one, (records) => {
        const state = merged(records);
        const finished = records.filter((record) => record.kind !== "intent").map((record) => record.version);
        expect(currentRecord(state)?.version).toBe(finished.sort().at(-1));
      }),
      { numRuns: 1000 },
    );
  });

  it("counts a delete that was taken back as never written, whenever it is heard of", () => {
    const undone: ObjectRecord = {
      name: "x",
      version: `${"e".repeat(12)}0000-${hex(9, 16)}`,
      base: `${"d".repeat(12)}0000-${hex(9, 16)}`,
      kind: "delete",
      copies: {},
    };
    fc.assert(
      fc.property(
        one.filter((records) => currentRecord(merged(records)) !== undefined),
        fc.nat(),
        fc.nat(),
        (records, at, takenBackAt) => {
          const [current, ...others] = [...(merged(records)?.records ?? [])].sort((a) =>
            a.kind === "intent" ? 1 : -1,
          );
          if (current === undefined) return;
          // Who takes it back says again what was known, in one segment.
          const takenBack = [{ ...current, undone: [undone.version] }, ...others];
          const arrivals: (readonly ObjectRecord[])[] = records.map((record) => [record]);
          arrivals.splice(at % (arrivals.length + 1), 0, [undone]);
          arrivals.splice(takenBackAt % (arrivals.length + 1), 0, takenBack);
          expect(plain(merged([...arrivals.flat(), undone]))).toEqual(plain(merged([...records, ...takenBack])));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("keeps the later of two marks, and of two as late the one that owes more", () => {
    const record = (state: CopyMark["state"], rev: number): ObjectRecord => ({
      name: "x",
      version: `${hex(1, 12)}0000-${hex(1, 16)}`,
      base: "",
      kind: "delete",
      copies: { [STORES[0] ?? ""]: { state, rev: `${hex(rev, 12)}0000-${hex(1, 16)}` } },
    });
    const stateOf = (...records: ObjectRecord[]): string | undefined =>
      merged(records)?.records[0]?.copies[STORES[0] ?? ""]?.state;
    expect(stateOf(record("delete", 2), record("none", 3))).toBe("none");
    expect(stateOf(record("none", 3), record("delete", 2))).toBe("none");
    expect(stateOf(record("none", 3), record("delete", 3))).toBe("delete");
    expect(stateOf(record("delete", 3), record("none", 3))).toBe("delete");
  });

  it("merges what is known of a store in any order", () => {
    const store = fc.record({
      id: fc.constant(STORES[0] ?? ""),
      rev: version,
      addresses: fc.constant(["f"]),
      label: fc.constant("A"),
      state: fc.constantFrom("expected", "joining", "member", "draining"),
      censused: fc.boolean(),
    }) satisfies fc.Arbitrary<StoreRecord>;
    fc.assert(
      fc.property(fc.uniqueArray(store, { minLength: 1, selector: ({ rev }) => rev }), (records) => {
        const state = records.reduce<StoreRecord | undefined>(mergeStoreRecord, undefined);
        expect([...records].reverse().reduce<StoreRecord | undefined>(mergeStoreRecord, undefined)).toEqual(state);
      }),
    );
  });
});

describe("the hybrid clock", () => {
  it("gives ever higher versions, above all it observed, however the wall clock jumps", () => {
    const step = fc.oneof(
      fc.record({ now: fc.integer({ min: -5, max: 2 ** 41 }) }),
      fc.record({ observe: fc.tuple(fc.integer({ min: 0, max: 2 ** 42 }), fc.integer({ min: 0, max: 0xffff })) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let now = 0;
        const clock = new HybridClock({ now: () => now }, "00000000000000aa");
        let highest = "";
        for (const one of steps) {
          if ("now" in one) now = one.now;
          else {
            const seen = `${hex(one.observe[0], 12)}${hex(one.observe[1], 4)}-00000000000000bb`;
            clock.observe(seen);
            if (seen > highest) highest = seen;
          }
          const next = clock.next();
          expect(isVersion(next)).toBe(true);
          expect(next > highest).toBe(true);
          highest = next;
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("goes on when the counter of a millisecond is used up", () => {
    const clock = new HybridClock({ now: () => 5 }, "00000000000000aa");
    let last = "";
    let disordered = 0;
    for (let i = 0; i < 140_000; i++) {
      const next = clock.next();
      if (next <= last) disordered++;
      last = next;
    }
    expect(disordered).toBe(0);
    expect(last.startsWith(hex(7, 12))).toBe(true);
  });
});

/** The text of a segment with these records alone. */
function encodedBytes(objects: readonly ObjectRecord[]): number {
  const bytes = Buffer.from(encodeSegment({ pool: "ab".repeat(16), replaces: [], objects }));
  return bytes[0] === 0x1f ? gunzipSync(bytes).length : bytes.length;
}

describe("segments", () => {
  const pool = "ab".repeat(16);
  const stores: StoreRecord[] = STORES.map((id, i) => ({
    id,
    rev: `${hex(i + 1, 12)}0000-${hex(1, 16)}`,
    addresses: ["f".repeat(32)],
    label: `Store ${i} "ü"`,
    state: "member",
    censused: i === 0,
  }));

  it("are read back as they were written", () => {
    const rev = `${hex(9, 12)}0000-${hex(1, 16)}`;
    const pools = [{ rev, mode: "mirror", min: 2, sure: 1 } as const];
    const writers = [{ machine: "0000abcd", rev }];
    fc.assert(
      fc.property(recordsOf(name), fc.subarray(stores), fc.boolean(), (objects, known, long) => {
        const all = long ? Array.from({ length: 30 }, () => objects).flat() : objects;
        const segment = { pool, replaces: long ? ["one", "two"] : [], stores: known, pools, writers, objects: all };
        expect(decodeSegment(encodeSegment(segment))).toEqual(segment);
      }),
      { numRuns: 200 },
    );
  });

  it("are corrupt, or the same, whichever byte is changed and wherever they are cut", () => {
    const [objects] = fc.sample(recordsOf(name), { numRuns: 1, seed: 7 });
    for (const repeat of [1, 40]) {
      const segment = {
        pool,
        replaces: [],
        stores,
        objects: Array.from({ length: repeat }, () => objects ?? []).flat(),
      };
      const bytes = encodeSegment(segment);
      const stride = Math.max(1, Math.floor(bytes.length / 400));
      const whole = JSON.stringify(decodeSegment(bytes));
      const outcome = (changed: Uint8Array): string => {
        try {
          return JSON.stringify(decodeSegment(changed)) === whole ? "the same" : "different";
        } catch (error) {
          if (error instanceof HoldfastError && error.code === "corrupt") return "corrupt";
          throw error;
        }
      };
      for (let at = 0; at < bytes.length; at += stride) {
        for (const bit of [0, 3, 7]) {
          const changed = Buffer.from(bytes);
          changed[at] = (changed[at] ?? 0) ^ (1 << bit);
          expect(outcome(changed)).not.toBe("different");
        }
        expect(outcome(bytes.subarray(0, at))).toBe("corrupt");
      }
      expect(outcome(bytes)).toBe("the same");
      expect(outcome(Buffer.concat([bytes, Buffer.from("x")]))).toBe("corrupt");
    }
  });

  /** A segment whose foot is right, of any lines. */
  const sealed = (...lines: unknown[]): Buffer => {
    const text = lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join("");
    const foot = { records: lines.length - 1, sha256: createHash("sha256").update(text).digest("hex") };
    return Buffer.from(`${text}${JSON.stringify(foot)}\n`);
  };
  const head = { holdfast: 2, pool, stores: STORES };
  const put = { n: "a", v: `${hex(9, 12)}0000-${hex(1, 16)}`, k: "p", s: 3, h: "ab".repeat(32), c: { 0: "h" } };

  it("with a record as it should be are read", () => {
    expect(decodeSegment(sealed(head, put)).objects).toHaveLength(1);
    const large = { ...put, s: 10, pb: 4, ps: Buffer.alloc(24, 7).toString("base64") };
    expect(decodeSegment(sealed(head, large)).objects[0]?.content?.pieces).toBe("07".repeat(24));
  });

  it.each([
    ["a name of 5,000 characters", { ...put, n: "x".repeat(5000) }],
    ["an empty name", { ...put, n: "" }],
    ["a name with a NUL", { ...put, n: "a\0" }],
    ["a name that is no Unicode", JSON.stringify({ ...put, n: "@" }).replace("@", String.raw`\ud800`)],
    ["metadata that is no text", { ...put, m: { a: 1 } }],
    ["metadata in a list", { ...put, m: ["a"] }],
    ["pieces of no bytes", { ...put, pb: 0 }],
    ["pieces of a size that is no number", { ...put, pb: "4" }],
    ["too few digests of pieces", { ...put, s: 10, pb: 4, ps: Buffer.alloc(16).toString("base64") }],
    ["digests of pieces that are a number", { ...put, s: 10, pb: 4, ps: 5 }],
    ["a mark of what is no store", { ...put, c: { "some sixteen chr": "h" } }],
    ["a digest that is none", { ...put, h: "x".repeat(1000) }],
    ["settles that is no list", { ...put, x: "a" }],
    ["a negative min", { mode: "mirror", rev: put.v, min: -1, sure: 1 }],
    ["a record that is nested 200,000 times", `${"[".repeat(200_000)}${"]".repeat(200_000)}`],
  ])("with %s are damaged", (_what, record) => {
    expect(() => decodeSegment(sealed(head, record))).toThrow(expect.objectContaining({ code: "corrupt" }));
  });

  it("that replace what cannot be a segment's name are damaged", () => {
    const replaces = ["x".repeat(5000)];
    expect(() => decodeSegment(sealed({ ...head, replaces }))).toThrow(expect.objectContaining({ code: "corrupt" }));
  });

  it("that unpack to more than their name allows are damaged, and are not unpacked", () => {
    const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024), { level: 1 });
    const before = process.memoryUsage.rss();
    for (const records of [0, 1]) {
      expect(() => decodeSegment(bomb, records)).toThrow(expect.objectContaining({ code: "corrupt" }));
    }
    expect(process.memoryUsage.rss() - before).toBeLessThan(100 * 1024 * 1024);
    expect(() => decodeSegment(bomb, 9_999_999_999)).toThrow(expect.objectContaining({ code: "corrupt" }));
  });

  it("are divided where one would be too large to be read, and only the last says the rest", () => {
    const [objects = []] = fc.sample(recordsOf(name), { numRuns: 1, seed: 7 });
    const many = Array.from({ length: 40 }, () => objects).flat();
    const pieces = [...inPieces([{ level: 3, objects: many, stores }], 2000)];
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.flatMap((piece) => piece.objects)).toEqual(many);
    expect(pieces.map((piece) => piece.stores)).toEqual([...pieces.slice(1).map(() => undefined), stores]);
    const sizes = pieces.flatMap(({ objects: some }) => (some.length > 1 ? [encodedBytes(some)] : []));
    expect(Math.max(...sizes)).toBeLessThan(4000 + 500);
    expect([...inPieces([{ level: 3, objects: [], stores }])]).toEqual([{ level: 3, objects: [], stores }]);
  });

  it("of a newer format are refused as such, not taken for damage", () => {
    const bytes = Buffer.from(encodeSegment({ pool, replaces: [], stores: [], objects: [] })).toString();
    const [head] = bytes.split("\n");
    const newer = `${(head ?? "").replace('"holdfast":2', '"holdfast":3')}\n`;
    const foot = JSON.stringify({ records: 0, sha256: createHash("sha256").update(newer).digest("hex") });
    for (const form of [Buffer.from(`${newer}${foot}\n`), gzipSync(`${newer}${foot}\n`)]) {
      expect(() => decodeSegment(form)).toThrow(expect.objectContaining({ code: "unsupported" }));
    }
  });

  it("have names that order by time and tell level and number of records", () => {
    const early = segmentName(0, `${hex(1, 12)}0000-${hex(1, 16)}`, 12);
    const later = segmentName(0, `${hex(2, 12)}0000-${hex(1, 16)}`, 3);
    expect(early < later).toBe(true);
    expect(parseSegmentName(early)).toEqual({ level: 0, records: 12 });
    for (const other of ["x", ".holdfast/ledger/", ".holdfast/ledger/0-1-2", ".holdfast/store.json", `${early}.tmp`]) {
      expect(parseSegmentName(other)).toBeUndefined();
    }
  });
});

describe("identities", () => {
  const identity = { pool: "ab".repeat(16), store: "12".repeat(8) };

  it("are read back as they were written", () => {
    expect(parseIdentity(Buffer.from(formatIdentity(identity)), "A")).toEqual(identity);
  });

  it.each(["", "{", "[]", "{}", '{"holdfast":1,"pool":"x","store":"y"}'])("are corrupt as %j", (text) => {
    expect(() => parseIdentity(Buffer.from(text), "A")).toThrow(
      expect.objectContaining({ code: "corrupt", store: "A" }),
    );
  });

  it("of a newer format are refused", () => {
    const newer = formatIdentity(identity).replace('"holdfast":2', '"holdfast":3');
    expect(() => parseIdentity(Buffer.from(newer), "A")).toThrow(expect.objectContaining({ code: "unsupported" }));
  });
});
