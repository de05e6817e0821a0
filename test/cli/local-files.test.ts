/** The walk of a folder, and the thread that looks at many files. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, realpath, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LocalThread, SMALL_FILE_BYTES } from "../../src/cli/files/local-thread.ts";
import type { FoundFile } from "../../src/cli/files/local-thread.ts";
import { walk } from "../../src/cli/files/local-files.ts";
import type { WalkOptions } from "../../src/cli/files/local-files.ts";
import { compareNames } from "../../src/contract/names.ts";

let folder: string;
let thread: LocalThread;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-local-"));
  thread = new LocalThread();
});
afterEach(async () => {
  await thread.close();
  await rm(folder, { recursive: true, force: true });
});

async function make(names: readonly string[]): Promise<void> {
  for (const name of names) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), name);
  }
}

/** Has the thread asked for more files than are looked at without it. */
async function warm(): Promise<void> {
  const path = join(folder, "warm");
  await writeFile(path, "x");
  await thread.found(
    Array.from({ length: 600 }, () => path),
    false,
  );
  await rm(path);
}

/** `link: what` for what is skipped, `name! message` for errors, and names with their sizes. */
async function walked(options: Partial<WalkOptions> = {}): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of walk(folder, { links: "report", thread, ...options })) {
    if (entry.kind === "file") found.push(`${entry.name} ${entry.stats.size}`);
    else if (entry.kind === "gone") found.push(`${entry.name}: gone`);
    else if (entry.kind === "store") found.push(`${entry.name}: of ${entry.store}`);
    else found.push(entry.kind === "error" ? `${entry.name}! ${entry.message}` : `${entry.name}: ${entry.what}`);
  }
  return found;
}

describe("a walk", () => {
  it("gives files in the order of objects' names, few and many, at every depth", async () => {
    const names = Array.from({ length: 1200 }, (_, place) => `many/${place}`);
    names.push("a", "a-", "b/c/d", "b/c-", "b-/x", "b0", "～", "\u{1d518}", "many-", "many.d/e");
    await make(names);
    const expected = names.sort(compareNames).map((name) => `${name} ${Buffer.byteLength(name)}`);
    expect(await walked()).toEqual(expected);
    expect(await walked({ links: "follow" })).toEqual(expected);
  });

  it("says what is not to be stored, and what a link leads to where links are followed", async () => {
    await make(["a", "d/x", ".a.0123456789ab.holdfast-part"]);
    await symlink("a", join(folder, "to-a"));
    await symlink("d", join(folder, "to-d"));
    await symlink("..", join(folder, "d/up"));
    await symlink("nothing", join(folder, "dangling"));
    await writeFile(Buffer.concat([Buffer.from(`${folder}/bad-`), Buffer.from([0xff])]), "x");
    await make(["bad-\ufffd"]);
    const bad = "bad-ÿ! its name on the disk is not UTF-8";
    const link = "a symbolic link";
    expect((await walked()).sort()).toEqual(
      ["a 1", "bad-\ufffd 7", bad, "d/x 3", `d/up: ${link}`, `dangling: ${link}`, `to-a: ${link}`, `to-d: ${link}`]
        .concat(".a.0123456789ab.holdfast-part: a file that pull or get was writing")
        .sort(),
    );
    expect((await walked({ links: "ignore" })).length).toBe(5);
    const followed = await walked({ links: "follow" });
    expect(followed).toEqual(expect.arrayContaining(["to-a 1", "to-d/x 3", "d/x 3", bad]));
    expect(followed).toContain("d/up! the link leads back to a folder that it stands in");
    expect(followed.some((line) => line.startsWith("dangling! there is no such file"))).toBe(true);
  });

  it("looks at nothing of a store, whatever link leads to it or into it", async () => {
    await make(["a", "disk/x/y", "z"]);
    for (const [link, target] of [
      ["to-disk", "disk"],
      ["to-x", "disk/x"],
      ["to-y", "disk/x/y"],
      ["to-a", "a"],
    ] as const) {
      await symlink(target, join(folder, link));
    }
    const disk = join(await realpath(folder), "disk");
    const storeAt = (real: string): string | undefined => (`${real}/`.startsWith(`${disk}/`) ? "D" : undefined);
    expect(await walked({ links: "ignore", storeAt })).toEqual(["a 1", "disk: of D", "z 1"]);
    expect((await walked({ links: "follow", storeAt })).sort()).toEqual(
      ["a 1", "disk: of D", "to-a 1", "to-disk: of D", "to-x: of D", "to-y: of D", "z 1"].sort(),
    );
  });

  it("says what was there when its folder was read, and is no more", async () => {
    await make(["a", "b", "c"]);
    class Late extends LocalThread {
      override async found(paths: readonly string[], follow: boolean): Promise<readonly FoundFile[]> {
        await rename(join(folder, "b"), join(folder, "b2"));
        return super.found(paths, follow);
      }
    }
    expect(await walked({ thread: new Late() })).toEqual(["a 1", "b: gone", "c 1"]);
  });

  it("goes on beside a folder that it cannot read, and not without the first one", async () => {
    await make(["a", "shut/x", "z"]);
    await rm(join(folder, "shut"), { recursive: true });
    // A folder that is gone when it is entered, after its name was read.
    await mkdir(join(folder, "shut"));
    const found: string[] = [];
    for await (const entry of walk(folder, { links: "report", thread })) {
      if (entry.name === "a") await rm(join(folder, "shut"), { recursive: true, force: true });
      found.push(`${entry.kind} ${entry.name}`);
    }
    expect(found.filter((line) => line.startsWith("file"))).toEqual(["file a", "file z"]);
    await rm(folder, { recursive: true });
    await expect(walked()).rejects.toThrow("ENOENT");
  });
});

describe("the thread", () => {
  it("finds the same as is found without it", async () => {
    await make(["a", "d/x"]);
    await chmod(join(folder, "a"), 0o640);
    await symlink("a", join(folder, "link"));
    const paths = ["a", "d", "link", "none"].map((name) => join(folder, name));
    const ask = async (): Promise<(readonly FoundFile[])[]> => [
      await thread.found(paths, false),
      await thread.found(paths, true),
    ];
    const without = await ask();
    expect(without).toMatchObject([
      [{ isFile: true, size: 1, mode: 0o100640 }, { isFile: false }, { isFile: false }, { code: "ENOENT" }],
      [{ isFile: true, size: 1 }, { isFile: false }, { isFile: true, size: 1 }, { code: "ENOENT" }],
    ]);
    await warm();
    expect(await ask()).toEqual(without);
  });

  it("does not wait for what became a pipe", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    expect(await thread.sha256(join(folder, "pipe"), 1)).toBeUndefined();
    await warm();
    expect(await thread.sha256(join(folder, "pipe"), 1)).toBeUndefined();
  });

  it("gives a file's digest, or nothing where its size is another or it cannot be read", async () => {
    const full = Buffer.alloc(SMALL_FILE_BYTES, 7);
    await writeFile(join(folder, "full"), full);
    await make(["a", "d/x"]);
    await writeFile(join(folder, "empty"), "");
    const digestOf = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
    const ask = (): Promise<(string | undefined)[]> =>
      Promise.all(
        (
          [
            ["a", 1],
            ["full", full.length],
            ["empty", 0],
            ["a", 0],
            ["a", 2],
            ["none", 1],
            ["d", 1],
          ] as const
        ).map(([name, size]) => thread.sha256(join(folder, name), size)),
      );
    const expected = [digestOf("a"), digestOf(full), digestOf(""), undefined, undefined, undefined, undefined];
    expect(await ask()).toEqual(expected);
    await warm();
    expect(await ask()).toEqual(expected);
  });
});
