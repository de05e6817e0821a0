import { describe, expect, it } from "vitest";
import { KnownFolders } from "../../../src/stores/base/known-folders.ts";

describe("known folders", () => {
  it("are none at first: all on the way to a folder are unknown, from the root down", () => {
    expect(new KnownFolders().unknown(["a", "b", "c"])).toEqual([["a"], ["a", "b"], ["a", "b", "c"]]);
  });

  it("are those that were seen, and those above them", () => {
    const known = new KnownFolders();
    known.add(["a", "b"]);
    expect([[], ["a"], ["a", "b"]].filter((folder) => !known.has(folder))).toEqual([]);
    expect(known.has(["a", "b", "c"])).toBe(false);
  });

  it("leave only the others on the way to a folder unknown", () => {
    const known = new KnownFolders();
    known.add(["a"]);
    expect(known.unknown(["a", "b"])).toEqual([["a", "b"]]);
  });

  it("never ask for the root", () => {
    expect(new KnownFolders().unknown([])).toEqual([]);
  });

  it("are forgotten with those above them, which may be gone too, and not with those beside them", () => {
    const known = new KnownFolders();
    known.add(["a", "b"]);
    known.add(["a", "c"]);
    known.forget(["a", "b"]);
    expect([[], ["a"], ["a", "b"], ["a", "c"]].filter((folder) => known.has(folder))).toEqual([["a", "c"]]);
  });

  it("are all forgotten before there are too many", () => {
    const known = new KnownFolders();
    known.add(["first"]);
    for (let count = 0; count < 20_000; count++) known.add([`folder-${count}`]);
    expect([known.has(["first"]), known.has(["folder-19999"])]).toEqual([false, true]);
  });
});
