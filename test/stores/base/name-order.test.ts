import { array, assert, asyncProperty, constantFrom, uniqueArray } from "fast-check";
import { expect, it } from "vitest";
import { compareNames } from "../../../src/contract/names.ts";
import { inNameOrder } from "../../../src/stores/base/name-order.ts";

async function ordered(names: readonly string[]): Promise<string[]> {
  const infos = async function* () {
    for (const name of names) yield { name, size: 0 };
  };
  const result = [];
  for await (const { name } of inNameOrder(infos())) result.push(name);
  return result;
}

const name = array(constantFrom("a", "b", "/", "\uD7FF", "\uE000", "\uFFFD", "\u{10000}", "\u{10FFFF}"), {
  minLength: 1,
  maxLength: 5,
}).map((characters) => characters.join(""));

it("gives names in order, whether they come by UTF-16 unit or by code point", async () => {
  await assert(
    asyncProperty(uniqueArray(name, { maxLength: 40 }), async (names) => {
      const expected = [...names].sort(compareNames);
      expect(await ordered([...names].sort())).toEqual(expected);
      expect(await ordered(expected)).toEqual(expected);
    }),
  );
});

it("refuses repeated names and another order", async () => {
  await expect(ordered(["a", "a"])).rejects.toMatchObject({ code: "corrupt" });
  await expect(ordered(["b", "a"])).rejects.toMatchObject({ code: "corrupt" });
  await expect(ordered(["\u{10000}", "\u{10000}"])).rejects.toMatchObject({ code: "corrupt" });
});
