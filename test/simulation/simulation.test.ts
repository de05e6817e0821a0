/** Pools over stores that fail, as a seed has it: see test/simulation/ and `npm run simulate`. */
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildSimulations, NODE_OPTIONS } from "./build.js";
import { plantedBugs } from "./planted-bugs.ts";

const run = promisify(execFile);
const SCHEDULES = 10_000;
/** A change is judged by the same schedules as the one before it; `npm run simulate` takes new ones each time. */
const SEED = 1;
/** Where the planted bugs are looked for: always the same schedules, so that a bug that is found stays found. */
const BUG_SEED = 1;
const JOBS = 2;

interface Summary {
  readonly schedules: number;
  readonly failed: readonly number[];
  readonly acknowledged: number;
}

const folder = join(fileURLToPath(new URL("../..", import.meta.url)), ".simulation", `test-${process.pid}`);
let runners: ReadonlyMap<string, string>;

async function simulate(name: string, seed: number, schedules: number): Promise<Summary> {
  const runner = runners.get(name);
  if (runner === undefined) throw new Error(`${name} was not built`);
  const options = ["--schedules", String(schedules), "--seed", String(seed), "--json"];
  const { stdout } = await run(process.execPath, [...NODE_OPTIONS, runner, ...options]).catch((error: unknown) => {
    // A run that found something exits with 1, and says what all the same.
    if (error instanceof Error && "stdout" in error) return { stdout: String(error.stdout) };
    throw error;
  });
  return JSON.parse(stdout) as Summary;
}

/** Does the work for each item, as many at once as there are jobs. */
async function shared<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items];
  const worker = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: JOBS }, worker));
}

beforeAll(() => {
  runners = buildSimulations(folder, [
    { name: "sound", patches: [] },
    ...plantedBugs.map((bug) => ({ name: bug.name.replaceAll(/\W+/gu, "-"), patches: [bug] })),
  ]);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("simulated pools", { retry: 0 }, () => {
  it(`keep their promises in ${SCHEDULES} schedules from seed ${SEED}`, { timeout: 900_000 }, async () => {
    const share = SCHEDULES / JOBS;
    const summaries = await Promise.all(
      Array.from({ length: JOBS }, (_, job) => simulate("sound", SEED + job * share, share)),
    );
    // Replay: npm run simulate -- --schedules 1 --seed <the seed that failed>
    expect(summaries.flatMap((summary) => summary.failed)).toEqual([]);
    expect(summaries.reduce((sum, summary) => sum + summary.schedules, 0)).toBe(SCHEDULES);
    expect(summaries.every((summary) => summary.acknowledged > share)).toBe(true);
  });

  it("find every planted bug", { timeout: 900_000 }, async () => {
    expect(plantedBugs.length).toBeGreaterThanOrEqual(45);
    const missed: string[] = [];
    const needed: string[] = [];
    await shared(plantedBugs, async ({ name, foundBy }) => {
      const runner = name.replaceAll(/\W+/gu, "-");
      const known = foundBy === undefined ? [] : (await simulate(runner, foundBy, 1)).failed;
      const [seed] = known.length > 0 ? known : (await simulate(runner, BUG_SEED, SCHEDULES)).failed;
      if (seed === undefined) missed.push(name);
      else needed.push(`${seed}: ${name}`);
    });
    console.info(needed.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).join("\n"));
    expect(missed).toEqual([]);
  });
});
