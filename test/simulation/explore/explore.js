/**
 * `npm run explore -- [--set NAME]… [--scenario NAME]… [--workers N] …`: builds the exploration, as the simulation is
 * built, and runs it. Without a set or a scenario it takes all sets.
 *
 * `--set`: one of catalogue.ts. `--scenario`: see scenario.ts; with `--replay CHOICES` it shows one of its runs.
 * `--preemptions N`, `--splits N`: bounds, see docs/decisions/0003-exhaustive-check.md. `--seconds N`: for each scenario, at
 * most. `--kinds A,B`: looks for these faults alone, see judge.ts. `--first`: ends a scenario with the first fault.
 * `--plain`: leaves out nothing but states that were explored. `--log FILE`: adds a line of JSON for each scenario.
 */
import { fork } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSimulations, NODE_OPTIONS } from "../build.js";

const options = process.argv.slice(2);
const place = options.indexOf("--workers");
const workers = place === -1 ? 1 : Number(options.splice(place, 2)[1]);
if (!options.includes("--set") && !options.includes("--scenario")) options.push("--set", "all");

const root = fileURLToPath(new URL("../../..", import.meta.url));
const folder = join(root, ".simulation", `explore-${process.pid}`);
const runner = buildSimulations(folder, [{ name: "sound", patches: [] }], "explore/main").get("sound") ?? "";
/** @type {Record<string, number>} */
const totals = {};

/** Runs every so manieth of the scenarios in a process of its own. Gives its exit code. @param {number} part @returns {Promise<number>} */
function run(part) {
  const child = fork(runner, [...options, "--part", `${part}/${workers}`], { execArgv: [...NODE_OPTIONS] });
  child.on("message", (/** @type {Record<string, number>} */ sums) => {
    for (const [what, count] of Object.entries(sums)) totals[what] = (totals[what] ?? 0) + count;
  });
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

const codes = await Promise.all(Array.from({ length: workers }, (_, part) => run(part)));
if (!options.includes("--json") && !options.includes("--replay")) {
  console.log(
    Object.entries(totals)
      .map(([what, count]) => `${count} ${what}`)
      .join(", "),
  );
}
process.exitCode = Math.max(...codes);
rmSync(folder, { recursive: true, force: true });
