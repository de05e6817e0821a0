/** Records as writers make them, for properties. */
import * as fc from "fast-check";
import type { Version } from "../../src/ledger/hybrid-clock.ts";
import { mergeRecord } from "../../src/ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord } from "../../src/ledger/record.ts";

export const STORES = ["1111111111111111", "2222222222222222", "3333333333333333"];
export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
export const version: fc.Arbitrary<Version> = fc
  .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 2 }), fc.integer({ min: 1, max: 3 }))
  .map(([ms, counter, writer]) => `${hex(ms, 12)}${hex(counter, 4)}-${hex(writer, 16)}`);
const mark: fc.Arbitrary<CopyMark> = fc.record(
  {
    state: fc.constantFrom("holds", "copy", "delete", "none"),
    rev: version,
    reason: fc.constantFrom("full", "timeout"),
  },
  { requiredKeys: ["state", "rev"] },
);
export const name = fc.oneof(
  fc.constantFrom("a", "a/b", "b", "z", "\u{10000}", "\uffff", "é"),
  fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
    .filter((text) => text.isWellFormed() && !text.includes("\0")),
);
const content = fc.record({
  size: fc.integer({ min: 0, max: 9_000_000 }),
  sha256: fc.constantFrom("aa".repeat(32), "bb".repeat(32)),
});

/**
 * Records as writers make them: what a version is (kind, content, base, settles) is decided once, by its writer; only
 * marks differ between two records of one version, and an intent may become the put of the same version.
 */
export function recordsOf(names: fc.Arbitrary<string>): fc.Arbitrary<ObjectRecord[]> {
  return fc
    .array(
      fc.record({
        name: names,
        version,
        base: fc.option(version, { nil: "" }),
        kind: fc.constantFrom("put", "delete", "intent"),
        content,
        settles: fc.option(fc.array(version, { maxLength: 2 }), { nil: undefined }),
        copies: fc.dictionary(fc.constantFrom(...STORES), mark, { maxKeys: 3 }),
      }),
      { minLength: 1, maxLength: 10 },
    )
    .map((list) => {
      const decided = new Map<string, Pick<ObjectRecord, "kind" | "base" | "content" | "settles">>();
      return list.map((one): ObjectRecord => {
        const key = `${one.name}\0${one.version}`;
        const first = decided.get(key) ?? {
          kind: one.kind,
          base: one.base < one.version ? one.base : "",
          ...(one.kind === "put"
            ? { content: { ...one.content, pieceBytes: Math.max(1, one.content.size), pieces: "" } }
            : {}),
          ...(one.settles === undefined || one.kind === "intent" ? {} : { settles: [...new Set(one.settles)].sort() }),
        };
        decided.set(key, first);
        return { name: one.name, version: one.version, copies: one.copies, ...first };
      });
    });
}

export function merged(records: readonly ObjectRecord[]): NameState | undefined {
  return records.reduce<NameState | undefined>(mergeRecord, undefined);
}

/** A state without regard to the order of keys. */
export function plain(state: NameState | undefined): unknown {
  return state?.records.map((record) => ({
    ...record,
    copies: Object.entries(record.copies).sort(([one], [other]) => (one < other ? -1 : 1)),
  }));
}
