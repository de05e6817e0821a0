import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { formatIdentity, parseIdentity } from "../../src/ledger/identity.ts";
import { decodeSegment, encodeSegment, FORMAT, parseSegmentName } from "../../src/ledger/segment.ts";

/** The fenced examples of docs/format.md, as they stand there. */
const page = readFileSync(new URL("../../docs/format.md", import.meta.url), "utf8");
const examples = [...page.matchAll(/```json\n([\s\S]*?)```/gu)].map((match) => match[1] ?? "");

/** The name that the page gives a segment, by its number among them. */
function nameOf(index: number): string {
  const names = [...page.matchAll(/`(\.holdfast\/ledger\/0-[^`]*)`/gu)].map((match) => match[1] ?? "");
  return names[index] ?? "";
}

it("docs/format.md shows an identity as it is", () => {
  expect(parseIdentity(Buffer.from(examples[0] ?? ""), "A")).toEqual({
    pool: "9c33471afcd0b309b82c5bf35d0e8072",
    store: "e993d01d37f7a4b6",
  });
  expect(formatIdentity({ pool: "9c33471afcd0b309b82c5bf35d0e8072", store: "e993d01d37f7a4b6" })).toBe(examples[0]);
});

it("docs/format.md shows a segment that says what the pool is, to the byte", () => {
  const bytes = Buffer.from(examples[1] ?? "");
  const segment = decodeSegment(bytes);
  expect(segment.stores?.map(({ label, state, prefixes }) => [label, state, prefixes])).toEqual([
    ["c", "member", []],
    ["a", "member", []],
    ["b", "member", []],
  ]);
  expect(segment.pools).toMatchObject([{ mode: "mirror", min: 1, sure: 1 }]);
  expect(segment.writers).toMatchObject([{ machine: "5394f8be" }]);
  expect(Buffer.from(encodeSegment(segment)).toString()).toBe(bytes.toString());
  expect(parseSegmentName(nameOf(0))).toEqual({ level: 0, records: 5 });
});

it("docs/format.md shows a segment with an object as it is, to the byte", () => {
  const bytes = Buffer.from(examples[2] ?? "");
  const segment = decodeSegment(bytes);
  expect(segment.objects).toMatchObject([{ name: "warm", kind: "put", base: "", content: { size: 6 } }]);
  expect(Object.values(segment.objects[0]?.copies ?? {}).map((mark) => mark.state)).toEqual([
    "holds",
    "holds",
    "holds",
  ]);
  expect(Buffer.from(encodeSegment(segment)).toString()).toBe(bytes.toString());
  expect(parseSegmentName(nameOf(1))).toEqual({ level: 0, records: 1 });
});

it("docs/format.md gives the number of the format", () => {
  expect(page).toContain(`The format's number is **${FORMAT}**`);
});
