/** Errors of the system that Node knows by their numbers alone. */
import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { systemCode } from "../../src/support/network-errors.ts";
import { systemWords } from "../../src/contract/system-words.ts";

const unnamed = (errno: number): Error =>
  Object.assign(new Error(`Unknown system error -${errno}: Unknown system error -${errno}, unlink '/x'`), {
    code: `Unknown system error -${errno}`,
    errno: -errno,
  });

describe("an error without a name", () => {
  it.each([
    ["ESTALE", "the file server has lost it"],
    ["EDQUOT", "the quota is used up"],
  ] as const)("is %s by its number, and has its words", (name, words) => {
    const error = unnamed(constants.errno[name]);
    expect(systemCode(error)).toBe(name);
    expect(systemWords(error)).toBe(words);
  });

  it("says its name where there are no words for it", () => {
    expect(systemWords(unnamed(constants.errno.EMLINK))).toBe("EMLINK");
  });

  it("stays as it is where nobody knows it", () => {
    expect(systemCode(unnamed(99_999))).toBe("Unknown system error -99999");
  });
});
