/**
 * `npm run simulate -- --schedules N --seed S [--workers W] [--keep PLACES] [--log FILE]`: builds the simulation and runs it.
 *
 * `--workers`: processes that share the schedules (default 1). `--log`: for runs that take hours. It takes the schedules in
 * chunks of `--chunk` (default 10,000), adds a line of JSON to the file for each (seeds, count, seconds, commit, seeds that
 * failed), leaves out the seeds that the file has already, and goes on after a failure. It names failures as they are found,
 * says twice a minute how far it is, and in the end what the whole file says.
 */
import { execFileSync, fork, spawn } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildSimulations, NODE_OPTIONS } from "./build.js";

const PROGRESS_MS = 30_000;

const { values } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 40)) },
    workers: { type: "string", default: "1" },
    failures: { type: "string", default: "1" },
    keep: { type: "string" },
    brief: { type: "boolean", default: false },
    log: { type: "string" },
    chunk: { type: "string", default: "10000" },
  },
});

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, ".simulation", `run-${process.pid}`);
const runner = buildSimulations(folder, [{ name: "sound", patches: [] }]).get("sound") ?? "";
const first = Number(values.seed);
const count = Number(values.schedules);
const workers = Number(values.workers);

/**
 * Runs schedules in a process of its own, which shows what it finds. Gives whether all was well.
 *
 * @param {number} seed @param {number} schedules @param {readonly string[]} options
 * @returns {Promise<boolean>}
 */
function run(seed, schedules, options) {
  const child = spawn(
    process.execPath,
    [...NODE_OPTIONS, runner, "--schedules", String(schedules), "--seed", String(seed), ...options],
    { stdio: "inherit" },
  );
  return new Promise((resolve) => child.on("close", (code) => resolve(code === 0)));
}

/** Shares the schedules out, and shows what each process says. */
async function runAtOnce() {
  const share = Math.ceil(count / workers);
  const options = ["--failures", values.failures];
  if (values.keep !== undefined) options.push("--keep", values.keep);
  if (values.brief) options.push("--brief");
  const runs = await Promise.all(
    Array.from({ length: workers }, (_, worker) => run(first + worker * share, share, options)),
  );
  return runs.every(Boolean);
}

/**
 * @typedef {{ seed: number, schedules: number }} Range
 * @typedef {{ schedules: number, firstSeed: number, failed: readonly number[], commit: string }} Line a line of the log
 */

/** @param {string} log @returns {Line[]} */
function linesOf(log) {
  if (!existsSync(log)) return [];
  return readFileSync(log, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** What of the seeds that were asked for no line has, in chunks. @param {readonly Line[]} lines @returns {Range[]} */
function missing(lines) {
  const chunk = Number(values.chunk);
  const end = first + count;
  /** @type {Range[]} */
  const ranges = [];
  let seed = first;
  const upTo = (/** @type {number} */ stop) => {
    for (; seed < stop; seed += chunk) ranges.push({ seed, schedules: Math.min(chunk, stop - seed) });
  };
  for (const { firstSeed, schedules } of [...lines].sort((a, b) => a.firstSeed - b.firstSeed)) {
    upTo(Math.min(firstSeed, end));
    seed = Math.max(seed, firstSeed + schedules);
  }
  upTo(end);
  return ranges;
}

/** Takes chunk after chunk, and notes what came of each. @param {string} log */
async function runLong(log) {
  const commit = execFileSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" }).trim();
  const rest = missing(linesOf(log));
  const wanted = rest.reduce((sum, { schedules }) => sum + schedules, 0);
  const started = performance.now();
  /** Schedules that ended, and how many each process has of its chunk. */
  let ended = 0;
  const underWay = new Map();
  /** @type {number[]} */
  const failed = [];
  const report = () => {
    const seconds = (performance.now() - started) / 1000;
    const done = [...underWay.values()].reduce((sum, ran) => sum + ran, ended);
    const minutes = done === 0 ? "?" : Math.ceil((((wanted - done) / done) * seconds) / 60);
    console.log(
      `${new Date().toISOString()} ${done} of ${wanted} schedules, ${(done / seconds).toFixed(1)} a second,`,
      `${minutes} minutes to go; ${failed.length} failed${failed.length > 0 ? `: ${failed.join(", ")}` : ""}`,
    );
  };
  /** Until no chunk is left. @returns {Promise<void>} */
  const work = () =>
    new Promise((resolve, reject) => {
      const child = fork(runner, ["--serve"], { execArgv: [...NODE_OPTIONS] });
      const take = () => {
        const range = rest.shift();
        if (range === undefined) child.disconnect();
        else child.send(range);
      };
      child.on("message", (/** @type {any} */ message) => {
        if (message.ran !== undefined) underWay.set(child, message.ran);
        if (message.failed !== undefined) {
          failed.push(message.failed);
          console.log(`seed ${message.failed}: ${message.message}`);
        }
        if (message.summary === undefined) return;
        appendFileSync(log, `${JSON.stringify({ ...message.summary, commit, ended: new Date().toISOString() })}\n`);
        ended += message.summary.schedules;
        underWay.delete(child);
        take();
      });
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        if (code === 0) resolve();
        else
          reject(
            new Error(`a process ended with ${signal ?? code} in the middle of a chunk, which has to be run again`),
          );
      });
      take();
    });
  const timer = setInterval(report, PROGRESS_MS);
  try {
    await Promise.all(Array.from({ length: Math.min(workers, rest.length) }, work));
  } finally {
    clearInterval(timer);
    report();
    sumUp(linesOf(log));
  }
  return failed.length === 0 && missing(linesOf(log)).length === 0;
}

/** Says what all lines of a log say together, for each commit. @param {readonly Line[]} lines */
function sumUp(lines) {
  for (const commit of new Set(lines.map((line) => line.commit))) {
    const own = lines.filter((line) => line.commit === commit);
    const schedules = own.reduce((sum, line) => sum + line.schedules, 0);
    const failed = own.flatMap((line) => line.failed);
    console.log(`${commit}: ${schedules} schedules, ${failed.length} failed: ${JSON.stringify(failed)}`);
  }
}

try {
  const sound = values.log === undefined ? await runAtOnce() : await runLong(values.log);
  process.exitCode = sound ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
