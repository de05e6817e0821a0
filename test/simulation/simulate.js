/**
 * `npm run simulate -- --schedules N --seed S [--workers W] [--keep PLACES] [--log FILE]`: builds the simulation and runs it.
 *
 * `--workers`: processes that share the schedules (default 1). `--log`: for runs that take hours. It takes the schedules in
 * chunks of `--chunk` (default 10,000), adds a line of JSON to the file for each (seeds, count, seconds, commit, seeds that
 * failed), leaves out the chunks that the file has already, and goes on after a failure.
 */
import { execFileSync, spawn } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildSimulations } from "./build.js";

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
const runner =
  buildSimulations(join(root, ".simulation", `run-${process.pid}`), [{ name: "sound", patches: [] }]).get("sound") ??
  "";
const first = Number(values.seed);
const count = Number(values.schedules);
const workers = Number(values.workers);

/**
 * Runs schedules in a process of its own.
 *
 * @param {number} seed @param {number} schedules @param {readonly string[]} options
 * @param {"inherit" | "pipe"} output
 * @returns {Promise<{ code: number, text: string }>}
 */
function run(seed, schedules, options, output) {
  const child = spawn(
    process.execPath,
    ["--max-semi-space-size=32", runner, "--schedules", String(schedules), "--seed", String(seed), ...options],
    { stdio: ["ignore", output, "inherit"] },
  );
  let text = "";
  child.stdout?.on("data", (bytes) => {
    text += String(bytes);
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code: code ?? 1, text })));
}

/** Shares the schedules out, and shows what each process says. */
async function runAtOnce() {
  const share = Math.ceil(count / workers);
  const options = ["--failures", values.failures];
  if (values.keep !== undefined) options.push("--keep", values.keep);
  if (values.brief) options.push("--brief");
  const runs = await Promise.all(
    Array.from({ length: workers }, (_, worker) => run(first + worker * share, share, options, "inherit")),
  );
  return runs.every(({ code }) => code === 0);
}

/** Takes chunk after chunk, and notes what came of each. @param {string} log */
async function runLong(log) {
  const chunk = Number(values.chunk);
  const commit = execFileSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" }).trim();
  const lines = existsSync(log) ? readFileSync(log, "utf8").split("\n").filter(Boolean) : [];
  const done = new Set(lines.map((line) => Number(JSON.parse(line).firstSeed)));
  const rest = Array.from({ length: Math.ceil(count / chunk) }, (_, place) => first + place * chunk).filter(
    (seed) => !done.has(seed),
  );
  let sound = true;
  const work = async () => {
    for (let seed = rest.shift(); seed !== undefined; seed = rest.shift()) {
      const size = Math.min(chunk, first + count - seed);
      const { text } = await run(seed, size, ["--json", "--failures", String(size)], "pipe");
      const summary = JSON.parse(text);
      sound &&= summary.failed.length === 0;
      appendFileSync(log, `${JSON.stringify({ ...summary, commit, ended: new Date().toISOString() })}\n`);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return sound;
}

const sound = values.log === undefined ? await runAtOnce() : await runLong(values.log);
process.exitCode = sound ? 0 : 1;
