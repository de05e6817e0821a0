/** duplicity from Debian, by `holdfast exec`, while one of three real stores is killed and comes back. */
import { rm, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exitOf } from "../helpers/command.ts";
import { contentsOf, expectWhole, hasClient, plantTree, startThreeStores } from "../helpers/three-stores.ts";
import type { ThreeStores } from "../helpers/three-stores.ts";
import { waitUntil } from "../helpers/wait-until.ts";

const pool = hasClient("duplicity") ? await startThreeStores("duplicity") : undefined;

describe.runIf(pool !== undefined)("duplicity", () => {
  const stores = pool as ThreeStores;
  let tree: string;

  beforeAll(async () => {
    tree = path.join(stores.home, "tree");
    await plantTree(tree, "first", 4);
  });
  afterAll(() => stores.end());

  const words = (command: string[], args: string[]): string[] => [
    "exec", "--", "duplicity", ...command, "--archive-dir", path.join(stores.home, "archive"), "--volsize", "1", ...args,
  ]; // prettier-ignore
  const duplicity = async (command: string[], ...args: string[]): ReturnType<ThreeStores["holdfast"]> => {
    const result = await stores.holdfast(...words(command, args));
    // It tries again after half a minute: a request that fails once would go unnoticed.
    expect(result.stdout + result.stderr).not.toContain("Attempt of");
    return result;
  };

  test("goes through a full backup while a store is killed, and everything after it", async () => {
    const running = await stores.start(...words(["full"], [tree, "{url}"]));
    let errors = "";
    running.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    running.stdout?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    const ended = exitOf(running);
    const sftp = stores.folders[1] ?? "";
    await waitUntil(async () => (await readdir(sftp).catch(() => [])).some((name) => name.includes(".vol1.")));
    await stores.crash();
    const code = await ended;
    expect([code, errors]).toEqual([3, expect.stringMatching(/sftp: owes/u)]);
    expect(errors).toMatch(/DEGRADED/u);

    await plantTree(path.join(tree, "more"), "second", 1);
    await writeFile(path.join(tree, "file-0.bin"), "changed");
    expect(await duplicity(["incremental"], tree, "{url}")).toMatchObject({ code: 3 });
    const verified = await duplicity(["verify", "--compare-data"], "{url}", tree);
    expect(verified.stdout).toContain("0 differences found");
    expect(verified.code).toBe(3);

    await stores.revive();
    const repaired = await stores.holdfast("repair");
    expect(repaired).toMatchObject({ code: 0 });
    const [first = {}, ...others] = await Promise.all(stores.folders.map(contentsOf));
    expect(Object.keys(first).length).toBeGreaterThan(5);
    for (const other of others) expect(other).toEqual(first);

    const listed = await duplicity(["list-current-files"], "{url}");
    expect(listed.code).toBe(0);
    expect(listed.stdout).toContain("deep/er/grüße & more.txt");

    await rm(path.join(stores.home, "archive"), { recursive: true });
    const restored = path.join(stores.home, "restored");
    expect(await duplicity(["restore"], "{url}", restored)).toMatchObject({ code: 0 });
    expect(await contentsOf(restored)).toEqual(await contentsOf(tree));

    expect(await duplicity(["full"], tree, "{url}")).toMatchObject({ code: 0 });
    expect(await duplicity(["remove-all-but-n-full"], "1", "--force", "{url}")).toMatchObject({ code: 0 });
    expect(await duplicity(["cleanup"], "--force", "{url}")).toMatchObject({ code: 0 });
    const left = await expectWhole(stores);
    expect(Object.keys(left).some((name) => name in first)).toBe(false);
  }, 180_000);
});
