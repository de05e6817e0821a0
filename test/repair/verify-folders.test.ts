/** Verify and repair of folders, which give digests of their copies by a way of their own (`Store.hash`). */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";

const KIB = 1024;
let root: string;
let pool: Pool;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "holdfast-verify-"));
  const stores = ["a", "b"].map((name) => ({ url: `file://${join(root, name)}`, description: name }));
  writeFileSync(join(root, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
  pool = await openPool(join(root, "pool.json"), { cache: join(root, "cache") });
});
afterAll(async () => {
  await pool.close();
  rmSync(root, { recursive: true, force: true });
});

// Small ones are hashed where they are read, large ones in the folder's thread.
it.each([100, 9 * 1024 * KIB])("a copy of %i bytes of which one is wrong is named and mended", async (size) => {
  const name = `of-${size}`;
  const bytes = Buffer.alloc(size, name);
  await pool.put(name, bytes);
  expect((await pool.maintenance.verify()).findings).toBe(0);
  const wrong = Buffer.from(bytes);
  wrong[size - 1] = (wrong[size - 1] ?? 0) ^ 1;
  writeFileSync(join(root, "b", name), wrong);
  const found: string[] = [];
  await pool.maintenance.verify({
    onFinding: ({ kind, object, store }) => found.push(`${kind} ${object} ${store ?? ""}`),
  });
  expect(found).toEqual([`corrupt ${name} b`]);
  expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
  expect(readFileSync(join(root, "b", name)).equals(bytes)).toBe(true);
  expect(await pool.maintenance.repair()).toMatchObject({ planned: 0 });
});
