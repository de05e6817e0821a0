import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseIdentity } from "../src/ledger/identity.ts";
import { decodeSegment, encodeSegment, parseSegmentName } from "../src/ledger/segment.ts";

/** The fenced examples of docs/format.md, as they stand there. */
const page = readFileSync(new URL("../docs/format.md", import.meta.url), "utf8");
const examples = [...page.matchAll(/```json\n([\s\S]*?)```/gu)].map((match) => match[1] ?? "");

it("docs/format.md shows an identity as it is", () => {
  expect(parseIdentity(Buffer.from(examples[0] ?? ""), "A")).toEqual({
    pool: "66c89c7156fb97d6e0f0ec46306cda3c",
    store: "680ca6e33bd87ffa",
  });
});

it("docs/format.md shows a segment as it is, to the byte", () => {
  const bytes = Buffer.from(examples[1] ?? "");
  const segment = decodeSegment(bytes);
  expect(segment.objects).toMatchObject([{ name: "warm", kind: "put", base: "", content: { size: 6 } }]);
  expect(Object.values(segment.objects[0]?.copies ?? {}).map((mark) => mark.state)).toEqual([
    "holds",
    "holds",
    "holds",
  ]);
  expect(Buffer.from(encodeSegment(segment)).toString()).toBe(bytes.toString());
  const name = /`(\.holdfast\/ledger\/0-[^`]*)`/u.exec(page)?.[1] ?? "";
  expect(parseSegmentName(name)).toEqual({ level: 0, records: 1 });
});
