/** restic from Debian, by `holdfast exec`, while one of three real stores is killed and comes back. */
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exitOf } from "../helpers/command.ts";
import { contentsOf, expectWhole, hasClient, plantTree, startThreeStores } from "../helpers/three-stores.ts";
import type { ThreeStores } from "../helpers/three-stores.ts";
import { waitUntil } from "../helpers/wait-until.ts";

const pool = hasClient("restic") ? await startThreeStores("restic") : undefined;

describe.runIf(pool !== undefined)("restic", () => {
  const stores = pool as ThreeStores;

  beforeAll(() => plantTree(path.join(stores.home, "tree"), "restic", 12));
  afterAll(() => stores.end());

  const restic = (...args: string[]): ReturnType<ThreeStores["holdfast"]> =>
    stores.holdfast("exec", "--", "restic", ...args);

  test("goes through a backup while a store is killed, and everything after it", async () => {
    expect(await restic("init")).toMatchObject({ code: 0 });
    const running = await stores.start("exec", "--", "restic", "backup", "tree");
    running.stdout?.resume();
    let errors = "";
    running.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    const ended = exitOf(running);
    const data = path.join(stores.folders[1] ?? "", "data");
    await waitUntil(async () => (await readdir(data).catch(() => [])).length > 0);
    await stores.crash();
    expect([await ended, errors]).toEqual([3, expect.stringMatching(/sftp: owes \d+ cop/u)]);

    await writeFile(path.join(stores.home, "tree", "added.txt"), "added");
    expect(await restic("-r", "{url}", "backup", "tree")).toMatchObject({ code: 3 });
    expect((await restic("check", "--read-data")).stdout).toContain("no errors were found");

    await stores.revive();
    expect(await stores.holdfast("repair")).toMatchObject({ code: 0 });
    expect(await restic("forget", "--keep-last", "1", "--prune")).toMatchObject({ code: 0 });
    expect(await restic("check", "--read-data")).toMatchObject({ code: 0 });
    expect(await restic("restore", "latest", "--target", "restored")).toMatchObject({ code: 0 });
    expect(await contentsOf(path.join(stores.home, "restored", "tree"))).toEqual(
      await contentsOf(path.join(stores.home, "tree")),
    );
    expect(Object.keys(await expectWhole(stores)).length).toBeGreaterThan(4);
  }, 180_000);
});
