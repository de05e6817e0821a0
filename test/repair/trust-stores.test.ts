/** All stores of a pool are put back from one snapshot, while this machine knows what came after it. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { textOrCode } from "../helpers/pool-answers.ts";

const home = mkdtempSync(join(tmpdir(), "holdfast-trust-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const STORES = ["a", "b"];

describe("stores that were all put back from one snapshot", () => {
  let round = 0;
  let at = "";

  const open = (): Promise<Pool> => openPool(join(at, "pool.json"), { cache: join(at, "cache") });

  async function using<T>(work: (pool: Pool) => Promise<T>): Promise<T> {
    const pool = await open();
    try {
      return await work(pool);
    } finally {
      await pool.close();
    }
  }

  /** x was overwritten, and y put, after the snapshot. */
  beforeEach(async () => {
    at = join(home, String(++round));
    mkdirSync(at);
    writeFileSync(
      join(at, "pool.json"),
      JSON.stringify({ mode: "mirror", stores: STORES.map((name) => ({ url: join(at, name) })) }),
    );
    await using((pool) => pool.put("x", toBody("of the snapshot")));
    for (const name of STORES) cpSync(join(at, name), join(at, "snapshot", name), { recursive: true });
    await using(async (pool) => {
      await pool.put("x", toBody("later"));
      await pool.put("y", toBody("later"));
    });
    for (const name of STORES) {
      rmSync(join(at, name), { recursive: true });
      cpSync(join(at, "snapshot", name), join(at, name), { recursive: true });
    }
  });

  it("lack what this machine knows of, until it is told to go by them", async () => {
    expect(await using((pool) => textOrCode(pool, "x"))).toMatch(/^error: /u);
    expect(await using((pool) => pool.maintenance.repair({ trustStores: true }))).toMatchObject({
      whole: true,
      left: [],
    });
    expect(await using((pool) => textOrCode(pool, "x"))).toBe("of the snapshot");
    expect(await using((pool) => textOrCode(pool, "y"))).toBe("error: not-found");
  });

  it("are written to afterwards as before", async () => {
    await using((pool) => pool.maintenance.repair({ trustStores: true }));
    expect(await using((pool) => pool.put("x", toBody("after")))).toMatchObject({ owed: [] });
    expect(await using((pool) => textOrCode(pool, "x"))).toBe("after");
    expect(await using((pool) => pool.maintenance.status())).toMatchObject({ degraded: 0, lost: 0 });
  });

  it("are not gone by while one of them does not answer", async () => {
    rmSync(join(at, "b"), { recursive: true });
    expect(await using((pool) => pool.maintenance.repair({ trustStores: true }))).toMatchObject({ whole: false });
    expect(await using((pool) => textOrCode(pool, "x"))).toMatch(/^error: /u);
  });
});
