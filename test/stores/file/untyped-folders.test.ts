/** Folders of file systems that do not say what an entry is: Node asks for each, and one may be gone by then. */
import fs from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { namesOf } from "../../helpers/store-answers.ts";

const { readdir } = fs;
/** How many of the next readings of a folder called `d` fail. */
let failing = 0;
fs.readdir = Object.assign(
  (path: string, ...rest: unknown[]): void => {
    const done = rest.at(-1) as (error: Error) => void;
    if (/\/d\/?$/u.test(path) && failing-- > 0) done(Object.assign(new Error("ENOENT, lstat"), { code: "ENOENT" }));
    else Reflect.apply(readdir, fs, [path, ...rest]);
  },
  { __promisify__: readdir.__promisify__ },
) as typeof fs.readdir;
syncBuiltinESMExports();
const { FileStore } = await import("../../../src/stores/file/file-store.ts");
const root = await mkdtemp(join(tmpdir(), "holdfast-untyped-"));
const store = new FileStore(root);

afterAll(async () => {
  fs.readdir = readdir;
  syncBuiltinESMExports();
  await store.close();
  await rm(root, { recursive: true });
});

it("a folder that could not be read and is there is read again, and not taken for empty", async () => {
  for (const name of ["a", "d/x", "z"]) await store.put(name, toBody("x"));
  failing = 3;
  expect(await namesOf(store)).toEqual(["a", "d/x", "z"]);
  failing = Infinity;
  await expect(namesOf(store)).rejects.toMatchObject({ name: "HoldfastError", operation: "list" });
  failing = 0;
  expect(await namesOf(store)).toEqual(["a", "d/x", "z"]);
});
