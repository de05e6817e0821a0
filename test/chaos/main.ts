/**
 * `npm run chaos -- --minutes N --seed S`: several processes on one pool, each a machine with a clock of its own, while
 * stores go out, come back, rot and are rolled back, and processes are killed and stopped. An oracle outside of them all
 * knows what each was told. See CONTRIBUTING.md.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, parseArgs } from "node:util";
import { stopServers } from "../helpers/servers.ts";
import { nowMs } from "./clocks.ts";
import { describePlan, HAPPENINGS, makePlan, narrowed, PROCESSES } from "./plan.ts";
import type { Round } from "./plan.ts";
import { table, totals } from "./report.ts";
import type { RoundResult } from "./report.ts";
import { runRound } from "./round.ts";
import { Violations } from "./violations.ts";

const HELP = `usage: npm run chaos -- [option...]

  --minutes N   how long it takes, about. Default 2
  --seed S      what the plan is made from: the same seed and minutes give the same plan. Default a new one
  --round R     only this round of the plan
  --only WHAT   of what happens, only this, with commas between: ${HAPPENINGS.join(", ")}
  --processes P of the processes, only these: ${PROCESSES.join(", ")}
  --plan        print the plan, and do nothing
  --folder DIR  where the stores are made. Default: the system's temporary folder

Exits 1 when something was lost, came back, or was called good and was not; 2 for a wrong option. The last line counts the rounds in which
all was right, and what went wrong in the others.`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 32)) },
    round: { type: "string" },
    only: { type: "string", default: HAPPENINGS.join(",") },
    processes: { type: "string", default: PROCESSES.join(",") },
    plan: { type: "boolean", default: false },
    folder: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

/** Set in the process that has mounts of its own, which end with it. */
const MOUNTS = "HOLDFAST_CHAOS_MOUNTS";
const repository = join(import.meta.dirname, "../../..");
const command = join(repository, "dist/cli/main.js");

class UsageError extends Error {}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What of a list an option names. */
function chosen(option: "only" | "processes", all: readonly string[]): readonly string[] {
  const words = values[option].split(",").filter((word) => word.length > 0);
  const unknown = words.find((word) => !all.includes(word));
  if (unknown !== undefined) throw new UsageError(`--${option} may be ${all.join(", ")}, not ${unknown}`);
  return words;
}

/** Runs this program again, where it may mount without anybody else seeing it. Gives its exit code. */
async function runWithMounts(): Promise<number> {
  const args = ["--mount", "--propagation", "private", process.execPath, ...process.argv.slice(1)];
  const child = spawn("unshare", args, { stdio: "inherit", env: { ...process.env, [MOUNTS]: "1" } });
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

function canMount(): boolean {
  return process.platform === "linux" && spawnSync("unshare", ["--mount", "true"]).status === 0;
}

/** Whether this Holdfast can call a drain off. */
function canDrain(): boolean {
  const help = spawnSync(process.execPath, [command, "drain", "--help"], { encoding: "utf8" });
  return help.stdout.includes("--cancel");
}

async function run(rounds: readonly Round[], seed: number, minutes: number): Promise<number> {
  const beganMs = nowMs();
  const home = mkdtempSync(join(values.folder ?? tmpdir(), "holdfast-chaos-"));
  const violations = new Violations(print);
  const skipped = new Set<string>();
  const skip = (what: string): void => {
    if (!skipped.has(what)) print(`skipped: ${what}`);
    skipped.add(what);
  };
  const hasMounts = process.env[MOUNTS] === "1";
  const drains = canDrain();
  if (!hasMounts) skip("full disks: mounting is not permitted here");
  if (!drains) skip("drains: this Holdfast cannot call one off");
  const results: RoundResult[] = [];
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      ending.abort();
      void stopServers().finally(() => process.exit(1));
    });
  }
  for (const round of rounds) {
    violations.beginRound(
      `npm run chaos -- --minutes ${minutes} --seed ${seed} --round ${round.number} (${round.kind})`,
    );
    const folder = join(home, `round-${round.number}`);
    mkdirSync(folder);
    const result = await runRound({
      round,
      home: folder,
      main: command,
      canMount: hasMounts,
      canDrain: drains,
      processes: chosen("processes", PROCESSES),
      violations,
      skip,
      print,
      signal: ending.signal,
      seconds: () => (nowMs() - beganMs) / 1000,
    });
    if (result === undefined) print(`round ${round.number} (${round.kind}) is left out`);
    else results.push(result);
  }
  if (violations.total === 0) rmdirSync(home);
  print(`\n${totals(results)}\n\n${table(results)}\n`);
  for (const line of violations.summary()) print(line);
  const passed = results.filter((result) => result.violations === 0).length;
  print(`${passed} passed, ${violations.total} failed`);
  return violations.total === 0 && results.length > 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const seed = Number(values.seed);
  const minutes = Number(values.minutes);
  if (values.help) {
    print(HELP);
    return 0;
  }
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UsageError("--seed is a whole number from 0");
  if (!(minutes > 0)) throw new UsageError("--minutes is a number above 0");
  const only = chosen("only", HAPPENINGS);
  const rounds = makePlan(seed, minutes)
    .filter(({ number }) => values.round === undefined || number === Number(values.round))
    .map((round) => narrowed(round, only));
  if (values.plan) {
    print(describePlan(rounds));
    return 0;
  }
  if (process.env[MOUNTS] === undefined && canMount()) return runWithMounts();
  print(`seed ${seed}, ${minutes} minutes, ${rounds.length} rounds`);
  try {
    return await run(rounds, seed, minutes);
  } finally {
    await stopServers();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof UsageError ? error.message : inspect(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
