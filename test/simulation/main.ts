/**
 * Runs schedules: `--schedules N` of them from `--seed S` on; `--keep 1,4,7` only those steps of one, with its trace.
 * Exits 1 with the seed and a shrunk schedule when a check fails. `--json`: one line for programs;
 * `--brief`: the failures without shrinking them.
 */
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { loadDigests } from "../../src/digest.ts";
import { runSchedule } from "./run-schedule.ts";
import type { Failure } from "./run-schedule.ts";
import { describe, makeSchedule } from "./schedule.ts";
import { shrink } from "./shrink.ts";

const { values } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    keep: { type: "string" },
    failures: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    brief: { type: "boolean", default: false },
  },
});

const count = Number(values.schedules);
const first = Number(values.seed);

function print(seed: number, kept: readonly number[], failure: Failure): void {
  console.log(`seed ${seed}: ${failure.message}`);
  console.log(describe(makeSchedule(seed), kept));
  console.log(failure.trace.map((line) => `    ${line}`).join("\n"));
  console.log(`replay: npm run simulate -- --seed ${seed} --keep ${kept.join(",")}`);
}

/** Lets the process see its signals between schedules. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

await loadDigests();
// Errors are part of every schedule; where they were made matters only in a replay.
Error.stackTraceLimit = values.keep === undefined ? 0 : 20;
if (values.keep !== undefined) {
  const kept = values.keep
    .split(",")
    .filter((text) => text !== "")
    .map(Number);
  const { failure } = await runSchedule(makeSchedule(first), new Set(kept), true);
  if (failure === undefined) console.log(`seed ${first}: no violation`);
  else print(first, kept, failure);
  process.exitCode = failure === undefined ? 0 : 1;
} else {
  const started = performance.now();
  let steps = 0;
  let acknowledged = 0;
  let ran = 0;
  const failed: number[] = [];
  for (let seed = first; seed < first + count; seed++) {
    const schedule = makeSchedule(seed);
    const outcome = await runSchedule(schedule);
    ran++;
    steps += outcome.steps;
    acknowledged += outcome.acknowledged;
    if (outcome.failure !== undefined) {
      failed.push(seed);
      if (values.brief) console.log(`seed ${seed}: ${outcome.failure.message}`);
      else if (!values.json) {
        const shrunk = await shrink(schedule);
        print(seed, shrunk.kept, shrunk.failure);
      }
      if (failed.length >= Number(values.failures)) break;
    }
    if (ran % 50 === 0) await breathe();
  }
  const seconds = (performance.now() - started) / 1000;
  const summary = {
    schedules: ran,
    firstSeed: first,
    failed,
    steps,
    acknowledged,
    seconds: Math.round(seconds * 10) / 10,
  };
  console.log(values.json ? JSON.stringify(summary) : summary);
  process.exitCode = failed.length > 0 ? 1 : 0;
}
