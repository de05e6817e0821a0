/**
 * What duplicity, rclone's union, Perkeep, kopia, MinIO and ipfs get wrong (measured on, or read in, each of them), one
 * test for each case: what must happen here. On real folders, opened by URL as users open them.
 */
import { afterEach, beforeEach, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { rmSync, statSync, truncateSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { isHoldfastError } from "../../src/contract/errors.ts";
import type { Logger } from "../../src/contract/log.ts";
import type { Finding } from "../../src/contract/pool.ts";
import { errorOf, filesOn, folderPools, onDisk, spoil } from "../helpers/folder-pool.ts";
import type { FolderPools, FolderStore } from "../helpers/folder-pool.ts";
import { namesOf, readText } from "../helpers/store-answers.ts";

let pools: FolderPools;
let a: FolderStore;
let b: FolderStore;
let c: FolderStore;
beforeEach(() => {
  pools = folderPools();
  [a, b, c] = pools.stores;
});
afterEach(() => {
  pools.dispose();
});

const owes = (result: { owed: readonly { store: string; owes: string; object: string }[] }): string[] =>
  result.owed.map((debt) => `${debt.store} ${debt.owes} ${debt.object}`);

it("duplicity: mirror + continue, the last store fails after the first took the file: one attempt budget, success, the debt recorded", async () => {
  const pool = await pools.open(pools.file("mode=mirror&onfail=continue", [a, b]).replace("attempts=1", "attempts=3"));
  await pool.put("warm", "up");
  b.faults.script({ operation: "put", name: "volume", times: Infinity, fault: { kind: "fail" } });
  const result = await pool.put("volume", "bytes");
  expect(owes(result)).toEqual(["B copy volume"]);
  expect(b.faults.injected.filter(({ name }) => name === "volume")).toHaveLength(3);
  expect(a.calls.filter((call) => call === "put volume")).toHaveLength(1);
  await pool.close();
  const later = await pools.open(pools.file("mode=mirror", [a, b]), "two");
  expect((await later.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([0, 1]);
  await later.close();
});

for (const code of ["unavailable", "full"] as const) {
  it(`duplicity 0.8: mirror + continue, the first store is ${code}: success on the second, the debt recorded`, async () => {
    const pool = await pools.open(pools.file("mode=mirror&onfail=continue", [a, b]));
    await pool.put("warm", "up");
    a.faults.script({ operation: "put", name: "volume", times: Infinity, fault: { kind: "fail", code } });
    expect(owes(await pool.put("volume", "bytes"))).toEqual(["A copy volume"]);
    expect(onDisk(b, "volume")).toBe("bytes");
    expect((await pool.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([1, 0]);
    await pool.close();
  });
}

it("duplicity: get fails on store 1, good copy on store 2: bytes from store 2", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("volume", "bytes");
  a.faults.script({ operation: "get", name: "volume", times: Infinity, fault: { kind: "fail" } });
  expect(await readText(pool, "volume")).toBe("bytes");
  await pool.close();
});

it("duplicity: store 1's copy is corrupt: bytes from store 2, store 1's copy named and repaired", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("volume", "bytes");
  spoil(a, "volume", "BYTES");
  expect(await readText(pool, "volume")).toBe("bytes");
  const findings: Finding[] = [];
  await pool.maintenance.verify({ onFinding: (finding) => findings.push(finding) });
  expect(findings).toMatchObject([{ kind: "corrupt", object: "volume", store: "A" }]);
  expect(await pool.maintenance.repair()).toMatchObject({ whole: true, failed: 0 });
  expect(onDisk(a, "volume")).toBe("bytes");
  await pool.close();
});

it("duplicity 3.0.6: store 1 is down at restore: bytes from store 2, and a listing that is complete", async () => {
  const url = pools.file();
  const pool = await pools.open(url);
  await pool.put("volume", "bytes");
  await pool.close();
  a.down = "unavailable";
  const restore = await pools.open(url);
  expect(await namesOf(restore)).toEqual(["volume"]);
  expect(await readText(restore, "volume")).toBe("bytes");
  await restore.close();
});

it("duplicity: deletes with a store down: the store owes the delete; it never shows again", async () => {
  const url = pools.file();
  const pool = await pools.open(url);
  await pool.put("chain", "old");
  b.down = "unavailable";
  expect(owes(await pool.delete("chain"))).toEqual(["B delete chain"]);
  await pool.close();
  b.down = undefined;
  expect(onDisk(b, "chain")).toBe("old");
  for (const machine of ["one", "two"]) {
    const later = await pools.open(url, machine);
    expect(await namesOf(later)).toEqual([]);
    expect((await errorOf(readText(later, "chain"))).code).toBe("not-found");
    await later.close();
  }
  const later = await pools.open(url, "two");
  expect(await later.maintenance.repair()).toMatchObject({ whole: true });
  expect(onDisk(b, "chain")).toBeUndefined();
  await later.close();
});

it("duplicity: stripe, deleting a list: all gone", async () => {
  const pool = await pools.open(pools.file("mode=stripe"));
  const names = Array.from({ length: 9 }, (_, i) => `volume${i}`);
  for (const name of names) await pool.put(name, name);
  expect(pools.stores.map((store) => filesOn(store).length)).toEqual([3, 3, 3]);
  for (const name of names) expect((await pool.delete(name)).owed).toEqual([]);
  expect(await namesOf(pool)).toEqual([]);
  expect(pools.stores.flatMap(filesOn)).toEqual([]);
  await pool.close();
});

it("duplicity: two pools in one process: apart", async () => {
  const first = await pools.open(pools.file("mode=mirror", [a], "first.json"));
  const second = await pools.open(pools.file("mode=mirror", [b, c], "second.json"));
  await Promise.all([first.put("one", "1"), second.put("two", "2")]);
  expect(pools.stores.map(filesOn)).toEqual([["one"], ["two"], ["two"]]);
  expect([await namesOf(first), await namesOf(second)]).toEqual([["one"], ["two"]]);
  await Promise.all([first.close(), second.close()]);
});

it("duplicity: env and URLs: each store's own; never printed", async () => {
  const lines: string[] = [];
  const write = (event: string, fields?: object): void => void lines.push(`${event} ${JSON.stringify(fields ?? {})}`);
  const logger: Logger = { debug: write, info: write, warn: write, error: write };
  const { writeFileSync } = await import("node:fs");
  const path = join(pools.root, "secret.json");
  const element = (name: string, secret: string): object => ({
    url: `sftp://user:${secret}@127.0.0.1:1/${name}`,
    env: [{ name: "MY_KEY", value: secret }],
  });
  writeFileSync(path, JSON.stringify([element("x", "hunter-one"), element("y", "hunter-two")]));
  const seen: Record<string, string | undefined>[] = [];
  const { openStore } = await import("../../src/stores/open-store.ts");
  const pool = await pools.open(`multi://${path}?mode=mirror&attempts=1`, "one", {
    logger,
    openStore: (url, context) => {
      seen.push({ ...context.env });
      return openStore(url, context);
    },
  });
  const error = await errorOf(pool.put("x", "y"));
  const said = `${error.message}${JSON.stringify(error.errors.map((one) => `${one.message} ${one.store ?? ""}`))}`;
  expect(seen.map((env) => env["MY_KEY"])).toEqual(["hunter-one", "hunter-two"]);
  expect(process.env["MY_KEY"]).toBeUndefined();
  expect(said + lines.join("\n") + JSON.stringify(await pool.maintenance.status())).not.toMatch(/hunter/u);
  await pool.close();
});

it("duplicity: get and delete: no listing of objects per file", async () => {
  const pool = await pools.open(pools.file());
  for (let i = 0; i < 5; i++) await pool.put(`n${i}`, "x");
  for (const store of pools.stores) store.calls.length = 0;
  for (let i = 0; i < 5; i++) {
    await readText(pool, `n${i}`);
    await pool.delete(`n${i}`);
  }
  const listings = pools.stores.flatMap((store) => store.calls.filter((call) => call.startsWith("list ")));
  expect(listings.filter((call) => call !== "list .holdfast/ledger/")).toEqual([]);
  await pool.close();
});

for (const [what, url] of [
  ["?mode= empty", (): string => pools.file("mode=")],
  ["an empty list", (): string => given("[]")],
  ["bad JSON", (): string => given("[{")],
  ["no url", (): string => given(`[{"description": "x"}]`)],
] as const) {
  it(`duplicity: ${what}: a clear error at open`, async () => {
    const error = await errorOf(pools.open(url()));
    expect(error.code).toBe("config");
    expect(error.message.length).toBeGreaterThan(10);
  });
}

function given(text: string): string {
  const path = join(pools.root, "wrong.json");
  spoil({ ...a, path: pools.root }, "wrong.json", text);
  return `multi://${path}?mode=mirror`;
}

it("rclone union: one mirror full: success reported as degraded, no partial file visible", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("warm", "up");
  c.faults.script({
    operation: "put",
    name: "big",
    times: Infinity,
    fault: { kind: "fail-at", byte: 70_000, code: "full" },
  });
  const result = await pool.put("big", Buffer.alloc(200_000, 1));
  expect(owes(result)).toEqual(["C copy big"]);
  expect(filesOn(c)).toEqual(["warm"]);
  expect((await pool.maintenance.status()).degraded).toBe(1);
  await pool.close();
});

it("rclone union: overwrite with a mirror down, then it is back: the new version, always", async () => {
  const url = pools.file();
  const pool = await pools.open(url);
  await pool.put("x", "old");
  a.down = "unavailable";
  await pool.put("x", "new");
  a.down = undefined;
  expect(onDisk(a, "x")).toBe("old");
  expect(await readText(pool, "x")).toBe("new");
  await pool.close();
  for (const machine of ["one", "two"]) {
    const later = await pools.open(url, machine);
    expect(await readText(later, "x")).toBe("new");
    expect((await later.stat("x")).size).toBe(3);
    await later.close();
  }
});

it("rclone union: sync from a pool with one store down: the listing is an error or is complete", async () => {
  const url = pools.file("mode=stripe");
  const pool = await pools.open(url);
  for (let i = 0; i < 6; i++) await pool.put(`n${i}`, "x");
  await pool.close();
  b.down = "unavailable";
  for (const machine of ["one", "two"]) {
    const later = await pools.open(url, machine);
    const seen: string[] = [];
    const listing = async (): Promise<string> => {
      try {
        for await (const { name } of later.list("")) seen.push(name);
        return `complete: ${seen.length}`;
      } catch (error) {
        return isHoldfastError(error) ? error.code : String(error);
      }
    };
    expect(["incomplete", "complete: 6"]).toContain(await listing());
    await later.close();
  }
});

it("rclone union: cat with one store down: bytes from the good copy", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("x", "bytes");
  for (const store of pools.stores) {
    store.down = "unavailable";
    expect(await readText(pool, "x")).toBe("bytes");
    store.down = undefined;
  }
  await pool.close();
});

it("rclone union: delete with a store down: stays deleted", async () => {
  const url = pools.file();
  const pool = await pools.open(url);
  await pool.put("x", "bytes");
  c.down = "timeout";
  await pool.delete("x");
  c.down = undefined;
  expect(onDisk(c, "x")).toBe("bytes");
  expect(await namesOf(pool)).toEqual([]);
  await pool.close();
  const other = await pools.open(url, "two");
  expect(await namesOf(other)).toEqual([]);
  await other.close();
});

it("rclone union: a store added later: repair fills it", async () => {
  const two = await pools.open(pools.file("mode=mirror", [a, b]));
  for (let i = 0; i < 5; i++) await two.put(`n${i}`, `v${i}`);
  await two.close();
  const pool = await pools.open(pools.file());
  expect((await pool.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([0, 0, 5]);
  expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
  expect(filesOn(c)).toEqual(["n0", "n1", "n2", "n3", "n4"]);
  expect(await pool.maintenance.repair()).toMatchObject({ planned: 0 });
  await pool.close();
});

it("rclone union: bit rot in mirror 2: verify names it, repair mends it", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("rots", "good bytes");
  await pool.put("stays", "good bytes");
  const path = join(b.path, "rots");
  const { mtime, atime } = statSync(path);
  spoil(b, "rots", "gooe bytes");
  utimesSync(path, atime, mtime);
  const findings: Finding[] = [];
  await pool.maintenance.verify({ onFinding: (finding) => findings.push(finding) });
  expect(findings).toMatchObject([{ kind: "corrupt", object: "rots", store: "B" }]);
  expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
  expect(onDisk(b, "rots")).toBe("good bytes");
  await pool.close();
});

it("Perkeep replica: a write beyond the minimum fails: recorded", async () => {
  const url = pools.file("mode=mirror&min=2");
  const pool = await pools.open(url);
  await pool.put("warm", "up");
  b.faults.script({ operation: "put", name: "x", times: Infinity, fault: { kind: "fail" } });
  expect(owes(await pool.put("x", "bytes"))).toEqual(["B copy x"]);
  await pool.close();
  const other = await pools.open(url, "two");
  expect((await other.maintenance.status()).stores.map((store) => store.owedCopies)).toEqual([0, 1, 0]);
  await other.close();
});

it("kopia sync-to: a truncated copy: found", async () => {
  const pool = await pools.open(pools.file());
  await pool.put("x", Buffer.alloc(3_000_000, 7));
  const path = join(c.path, "x");
  const { mtime, atime } = statSync(path);
  truncateSync(path, 2_500_000);
  utimesSync(path, atime, mtime);
  for (const quick of [true, false]) {
    const findings: Finding[] = [];
    await pool.maintenance.verify({ quick, onFinding: (finding) => findings.push(finding) });
    expect(findings).toMatchObject([{ kind: "truncated", object: "x", store: "C" }]);
  }
  expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
  expect(statSync(path).size).toBe(3_000_000);
  await pool.close();
});

it("MinIO: the repair queue is full: debts are on the stores, none is dropped", async () => {
  const url = pools.file();
  const pool = await pools.open(url);
  await pool.put("warm", "up");
  b.down = "unavailable";
  const names = Array.from({ length: 250 }, (_, i) => `n${String(i).padStart(3, "0")}`);
  await Promise.all(names.map((name) => pool.put(name, name)));
  await pool.close();
  b.down = undefined;
  rmSync(join(pools.root, "cache-one"), { recursive: true });
  const later = await pools.open(url, "two");
  const debts: string[] = [];
  for await (const debt of later.maintenance.debts()) debts.push(`${debt.store} ${debt.owes} ${debt.object}`);
  expect(debts).toEqual(names.map((name) => `B copy ${name}`));
  expect(await later.maintenance.repair()).toMatchObject({ whole: true, failed: 0 });
  expect(filesOn(b)).toEqual([...names, "warm"]);
  await later.close();
});

it("ipfs TieredBlockstore: a stream to two stores: every store gets every byte", async () => {
  const pool = await pools.open(pools.file("mode=mirror", [a, b]));
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (const text of ["one ", "two ", "three"]) yield Buffer.from(text);
  }
  await pool.put("x", chunks());
  expect([onDisk(a, "x"), onDisk(b, "x")]).toEqual(["one two three", "one two three"]);
  await pool.close();
});

it("ipfs TieredBlockstore: a read that fails midway goes on at the byte where it failed", async () => {
  const pool = await pools.open(pools.file("mode=mirror", [a, b]));
  const bytes = Buffer.alloc(5_000_000);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(i, i);
  await pool.put("x", toBody(bytes));
  for (const at of [0, 1, 1_048_575, 1_048_576, 3_333_333, 4_999_999]) {
    a.faults.clear();
    a.faults.script({ operation: "get", name: "x", times: Infinity, fault: { kind: "fail-at", byte: at } });
    const { body } = await pool.get("x");
    expect(bytes.equals(await collect(body))).toBe(true);
  }
  await pool.close();
});

it("ipfs TieredBlockstore: without a record too, a read goes on at the byte where it failed", async () => {
  const bytes = Buffer.alloc(5_000_000);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(i, i);
  for (const store of [a, b]) spoil(store, "x", bytes.toString("latin1"));
  const text = bytes.toString("latin1");
  const pool = await pools.open(pools.file("mode=mirror", [a, b]));
  a.faults.script({ operation: "get", name: "x", times: Infinity, fault: { kind: "fail-at", byte: 2_000_000 } });
  expect(await readText(pool, "x")).toBe(text);
  await pool.close();
});
