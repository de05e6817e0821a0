/** Errors of the system that Node knows by their numbers alone. */
import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { systemCode, systemMessage } from "../src/network-errors.ts";

const unnamed = (errno: number): Error =>
  Object.assign(new Error(`Unknown system error -${errno}: Unknown system error -${errno}, unlink '/x'`), {
    code: `Unknown system error -${errno}`,
    errno: -errno,
  });

describe("an error without a name", () => {
  it.each(["ESTALE", "EDQUOT"] as const)("is %s by its number, in its message, too", (name) => {
    const error = unnamed(constants.errno[name]);
    expect(systemCode(error)).toBe(name);
    expect(systemMessage(error)).toBe(`${name}: ${name}, unlink '/x'`);
  });

  it("stays as it is where nobody knows it", () => {
    expect(systemCode(unnamed(99_999))).toBe("Unknown system error -99999");
  });

  it("another's message is left alone", () => {
    expect(systemMessage(new Error("ENOENT: no such file"))).toBe("ENOENT: no such file");
  });
});
