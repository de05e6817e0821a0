/** Stores of one URL whose places stand in their environments: none is taken for another, whoever is silent. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { parsePool } from "../../src/config/pool-config.ts";
import { switched, textOn } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";

let cache: string;

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "holdfast-env-"));
});
afterEach(() => rm(cache, { recursive: true, force: true }));

/** A mirror of stores that are all called azure://backup, opened by one machine. */
async function open(accounts: readonly Switched[]): Promise<Pool> {
  const list = accounts.map(({ store }) => ({
    url: "azure://backup",
    env: [{ name: "AZURE_ACCOUNT_NAME", value: store.label }],
  }));
  const description = await parsePool("multi:///pool.json?mode=mirror", {
    readFile: () => Promise.resolve({ bytes: Buffer.from(JSON.stringify(list)) }),
  });
  if (description.kind !== "pool") throw new Error("it is no pool");
  return openPool(description, {
    cache,
    openStore: (_url, { label = "", env }) => {
      const found = accounts.find(({ store }) => store.label === env?.["AZURE_ACCOUNT_NAME"]);
      if (found === undefined) throw new Error("there is no such account");
      return Promise.resolve(Object.defineProperty({ ...found.store }, "label", { value: label }));
    },
  });
}

const identity = (account: Switched): unknown => JSON.parse(textOn(account, ".holdfast/store.json") ?? "null");

it("a wiped store is not given the identity of another account's that is silent", async () => {
  const [one, two] = [switched("one"), switched("two")];
  const before = await open([one, two]);
  await before.put("x", "1");
  await before.maintenance.repair();
  await before.close();
  const identityOfTwo = identity(two);
  const wiped = switched("one");
  two.down = true;
  const pool = await open([wiped, two]);
  await pool.maintenance.repair({ refill: ["azure://backup (1)"] }).catch(() => undefined);
  await pool.close();
  two.down = false;
  expect(identity(wiped)).not.toEqual(identityOfTwo);
  expect(identity(two)).toEqual(identityOfTwo);
  const again = await open([wiped, two]);
  expect(await again.maintenance.repair()).toMatchObject({ whole: true });
  expect(textOn(wiped, "x")).toBe("1");
  await again.close();
});

it("a new pool is not taken for another that differs from it in accounts alone", async () => {
  const production = [switched("one"), switched("two")];
  const first = await open(production);
  await first.put("x", "1");
  await first.close();
  const staging = await open([switched("three"), switched("four")]);
  const names: string[] = [];
  for await (const { name } of staging.list("")) names.push(name);
  expect(names).toEqual([]);
  expect(await staging.put("x", "2")).toMatchObject({ owed: [] });
  await staging.close();
  expect(production.map((account) => textOn(account, "x"))).toEqual(["1", "1"]);
});
