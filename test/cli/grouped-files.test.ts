/** Small files that `pull` writes together. */
import { lstat, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GroupedFiles } from "../../src/cli/files/grouped-files.ts";
import { SMALL_FILE_BYTES } from "../../src/cli/files/local-thread.ts";

let folder: string;
let files: GroupedFiles;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-grouped-"));
  files = new GroupedFiles();
});
afterEach(async () => {
  await files.close();
  await rm(folder, { recursive: true });
});

const write = (name: string, text: string, attributes = {}): Promise<boolean> =>
  files.write(join(folder, name), Buffer.from(text), attributes);
/** In seconds; some are before 1970. */
const modified = (at: number): number => (at % 2 === 0 ? 1_000_000_000 + at : -1_000_000_000.5 - at);
const textOf = (name: string): Promise<string> => readFile(join(folder, name), "utf8");

describe("files written together", () => {
  it("are there whole, each with its own bytes, permissions and time", async () => {
    const names = Array.from({ length: 300 }, (_, at) => `n${at}`);
    const attributes = (at: number): object =>
      at % 3 === 0 ? {} : { mode: at % 3 === 1 ? 0o640 : 0o755, modifiedSeconds: `${modified(at)}` };
    const results = await Promise.all(
      names.map((name, at) => write(name, at === 7 ? "" : name.repeat(at), attributes(at))),
    );
    expect(results).toEqual(names.map(() => true));
    for (const [at, name] of names.entries()) {
      expect(await textOf(name)).toBe(at === 7 ? "" : name.repeat(at));
      if (at % 3 === 0) continue;
      const { mode, mtimeMs } = await stat(join(folder, name));
      expect([mode & 0o777, mtimeMs]).toEqual([at % 3 === 1 ? 0o640 : 0o755, modified(at) * 1000]);
    }
    expect((await readdir(folder)).sort()).toEqual(names.sort());
  });

  it("take the place of a file or a link, and do not write through it", async () => {
    await writeFile(join(folder, "outside"), "outside");
    await writeFile(join(folder, "old"), "old");
    await symlink("outside", join(folder, "link"));
    expect(await Promise.all([write("old", "new"), write("link", "new")])).toEqual([true, true]);
    expect([await textOf("old"), await textOf("link"), await textOf("outside")]).toEqual(["new", "new", "outside"]);
    expect((await lstat(join(folder, "link"))).isFile()).toBe(true);
  });

  it("leave nothing where one cannot be written, and the others are", async () => {
    await mkdir(join(folder, "directory", "below"), { recursive: true });
    const results = await Promise.all([
      write("a", "a"),
      write("directory", "x"),
      write("none/x", "x"),
      write("b", "b"),
    ]);
    expect(results).toEqual([true, false, false, true]);
    expect((await readdir(folder)).sort()).toEqual(["a", "b", "directory"]);
    expect(await readdir(join(folder, "directory"))).toEqual(["below"]);
  });

  it("are small ones, of which there are many", () => {
    const isTaken = Array.from({ length: 130 }, () => files.takes(10));
    expect([isTaken.indexOf(true), files.takes(SMALL_FILE_BYTES), files.takes(SMALL_FILE_BYTES + 1)]).toEqual([
      128,
      true,
      false,
    ]);
  });
});
