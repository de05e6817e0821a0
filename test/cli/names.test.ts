import { expect, it } from "vitest";
import { printable } from "../../src/cli/terminal/format.ts";
import { folderPrefix, pathParts } from "../../src/cli/names.ts";

it.each(["..", "../x", "a/../b", "a/..", ".", "./a", "a/.", "/etc/passwd", "a//b", "a/", "/", "", "a/\0"])(
  "the object %j can be no file of a folder",
  (name) => {
    expect(pathParts(name)).toEqual(expect.any(String));
  },
);

it.each(["a", "a/b", "...", "..a", "a..", " ", "a/ b", "-", "a\nb", "~"])("the object %j can", (name) => {
  expect(pathParts(name)).toEqual(name.split("/"));
});

it("a prefix of push and pull is a folder", () => {
  expect(["", "a", "a/", "a/b"].map(folderPrefix)).toEqual(["", "a/", "a/", "a/b/"]);
});

it("a name does nothing to a terminal", () => {
  expect(printable("a\u001b[2J\n\u202e\u0000\u009bé\u{1f600}")).toBe("a\\x1b[2J\\x0a\\u{202e}\\x00\\x9bé\u{1f600}");
});
