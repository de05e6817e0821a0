/** All runs of small scenarios: see test/simulation/explore/ and `npm run explore`. */
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildSimulations, NODE_OPTIONS } from "../build.js";
import { finalValues } from "./linearizable.ts";
import type { Event } from "./linearizable.ts";
import { plantedBugs } from "./planted-bugs.ts";

const run = promisify(execFile);

/** A line that `--json` prints. */
interface Summary {
  readonly scenario: string;
  readonly states: number;
  readonly executions: number;
  readonly ends: number;
  readonly outcomes: readonly string[];
  readonly complete: boolean;
  readonly found: readonly { readonly kind: string; readonly message: string; readonly choices: string }[];
}

const folder = join(fileURLToPath(new URL("../../..", import.meta.url)), ".simulation", `explore-test-${process.pid}`);
let runners: ReadonlyMap<string, string>;

const variantOf = (name: string): string => name.replaceAll(/\W+/gu, "-");

/** What a run of the exploration prints. One that finds something exits with 1, and says what all the same. */
async function output(variant: string, options: readonly string[]): Promise<string> {
  const runner = runners.get(variant);
  if (runner === undefined) throw new Error(`${variant} was not built`);
  const { stdout } = await run(process.execPath, [...NODE_OPTIONS, runner, ...options]).catch((error: unknown) => {
    if (error instanceof Error && "stdout" in error) return { stdout: String(error.stdout) };
    throw error;
  });
  return stdout;
}

async function explore(variant: string, options: readonly string[]): Promise<readonly Summary[]> {
  const lines = (await output(variant, [...options, "--json"])).split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Summary);
}

beforeAll(() => {
  runners = buildSimulations(
    folder,
    [{ name: "sound", patches: [] }, ...plantedBugs.map((bug) => ({ name: variantOf(bug.name), patches: [bug] }))],
    "explore/main",
  );
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("an exploration", { retry: 0 }, () => {
  it("finds nothing wrong at any end of the small scenarios", { timeout: 300_000 }, async () => {
    const summaries = await explore("sound", ["--set", "small"]);
    expect(
      summaries.flatMap(({ scenario, found }) => found.map(({ kind, choices }) => [scenario, kind, choices])),
    ).toEqual([]);
    expect(summaries.filter(({ complete }) => !complete)).toEqual([]);
    console.info(
      summaries.map(({ scenario, states, ends }) => `${scenario}: ${states} states, ${ends} ends`).join("\n"),
    );
  });

  it.each(["mirror1x2/delete.x|get.x", "mirror1x2+lost/put.x"])(
    "of %s comes to the same ends when it leaves nothing out",
    { timeout: 120_000 },
    async (scenario) => {
      const [reduced] = await explore("sound", ["--scenario", scenario]);
      const [plain] = await explore("sound", ["--scenario", scenario, "--plain"]);
      expect(plain?.states).toBeGreaterThan(reduced?.states ?? Infinity);
      expect(reduced?.outcomes).toEqual(plain?.outcomes);
      expect(reduced?.found.map(({ kind }) => kind).sort()).toEqual(plain?.found.map(({ kind }) => kind).sort());
    },
  );

  it.each(plantedBugs)("finds that $name", { timeout: 120_000 }, async ({ name, scenario, limits, finds }) => {
    const bounds = Object.entries(limits ?? {}).flatMap(([what, count]) => [`--${what}`, String(count)]);
    const [sound] = await explore("sound", ["--scenario", scenario, ...bounds]);
    expect(sound?.found).toEqual([]);
    const [summary] = await explore(variantOf(name), ["--scenario", scenario, ...bounds]);
    const found = summary?.found.find(({ kind }) => kind === finds);
    expect(summary?.found.map(({ kind }) => kind)).toContain(finds);
    const replayed = await output(variantOf(name), ["--scenario", scenario, "--replay", found?.choices ?? ""]);
    expect(replayed).toContain(`${finds}: ${found?.message}`);
  });
});

describe("the values that a name may have", () => {
  const write = (value: string | undefined, after: number, certain = true): Event => ({
    writes: { value },
    certain,
    after,
  });
  const read = (value: string | undefined, after: number): Event => ({
    sees: (now) => now === value,
    certain: true,
    after,
  });

  it("are those of the last of two writes that followed each other", () => {
    expect(finalValues("v0", [write("a", 0), write("b", 0b1)])).toEqual(new Set(["b"]));
  });

  it("are those of both of two writes at once", () => {
    expect(finalValues("v0", [write("a", 0), write("b", 0)])).toEqual(new Set(["a", "b"]));
  });

  it("are decided by a read that followed both", () => {
    expect(finalValues("v0", [write("a", 0), write("b", 0), read("a", 0b11)])).toEqual(new Set(["a"]));
  });

  it("may be those of a write that failed, or those before it", () => {
    expect(finalValues("v0", [write("a", 0, false)])).toEqual(new Set(["a", "v0"]));
  });

  it("are not those of a write that failed before another one was begun", () => {
    expect(finalValues("v0", [write("a", 0, false), write("b", 0b1)])).toEqual(new Set(["b"]));
  });

  it("are none where a read saw what was gone before it began", () => {
    expect(finalValues("v0", [write(undefined, 0), read("v0", 0b1)])).toEqual(new Set());
  });
});
