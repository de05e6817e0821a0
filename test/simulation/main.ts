/**
 * Runs schedules: `--schedules N` of them from `--seed S` on; `--keep 1,4,7` only those steps of one, with its trace.
 * Exits 1 with the seed and a shrunk schedule when a check fails. `--json`: one line for programs;
 * `--brief`: the failures without shrinking them. `--serve`: takes ranges of seeds from the process that started it, one
 * after the other, and tells it of each failure when it is found and how far it is: what is compiled stays so.
 */
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { loadDigests } from "../../src/ledger/digest.ts";
import { runSchedule } from "./run-schedule.ts";
import type { Failure } from "./run-schedule.ts";
import { describe, makeSchedule } from "./schedule.ts";
import type { Schedule } from "./schedule.ts";
import { shrink } from "./shrink.ts";

const { values } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    keep: { type: "string" },
    failures: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    brief: { type: "boolean", default: false },
    serve: { type: "boolean", default: false },
  },
});

const count = Number(values.schedules);
const first = Number(values.seed);

/** What came of the schedules from a seed on. */
interface Summary {
  readonly schedules: number;
  readonly firstSeed: number;
  readonly failed: readonly number[];
  readonly steps: number;
  readonly acknowledged: number;
  readonly seconds: number;
  /** Of the processor: on a machine that does other things too, what tells how fast a schedule is. */
  readonly cpuSeconds: number;
}

function print(seed: number, kept: readonly number[], failure: Failure): void {
  console.log(`seed ${seed}: ${failure.message}`);
  console.log(describe(makeSchedule(seed), kept));
  console.log(failure.trace.map((line) => `    ${line}`).join("\n"));
  console.log(`replay: npm run simulate -- --seed ${seed} --keep ${kept.join(",")}`);
}

/** Lets the process see its signals between schedules. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Runs `schedules` of them, until `onFailure` gives true. `onProgress`: told now and then how many it ran. */
async function runMany(
  firstSeed: number,
  schedules: number,
  onFailure: (schedule: Schedule, failure: Failure, failures: number) => Promise<boolean> | boolean,
  onProgress?: (ran: number) => void,
): Promise<Summary> {
  const started = performance.now();
  const usage = process.cpuUsage();
  let steps = 0;
  let acknowledged = 0;
  let ran = 0;
  const failed: number[] = [];
  while (ran < schedules) {
    const schedule = makeSchedule(firstSeed + ran);
    const outcome = await runSchedule(schedule);
    ran++;
    steps += outcome.steps;
    acknowledged += outcome.acknowledged;
    if (outcome.failure !== undefined) {
      failed.push(schedule.seed);
      if (await onFailure(schedule, outcome.failure, failed.length)) break;
    }
    if (ran % 50 === 0) {
      onProgress?.(ran);
      await breathe();
    }
  }
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const { user, system } = process.cpuUsage(usage);
  const cpuSeconds = Math.round((user + system) / 100_000) / 10;
  return { schedules: ran, firstSeed, failed, steps, acknowledged, seconds, cpuSeconds };
}

async function replay(places: string): Promise<void> {
  const kept = places
    .split(",")
    .filter((text) => text !== "")
    .map(Number);
  const { failure } = await runSchedule(makeSchedule(first), new Set(kept), true);
  if (failure === undefined) console.log(`seed ${first}: no violation`);
  else print(first, kept, failure);
  process.exitCode = failure === undefined ? 0 : 1;
}

/** Until the other process lets go of this one. */
function serve(): void {
  process.on("disconnect", () => process.exit());
  const tell = (message: object): void => void process.send?.(message);
  process.on("message", ({ seed, schedules }: { readonly seed: number; readonly schedules: number }) => {
    const onFailure = (schedule: Schedule, { message }: Failure): boolean => {
      tell({ failed: schedule.seed, message });
      return false;
    };
    runMany(seed, schedules, onFailure, (ran) => tell({ ran })).then(
      (summary) => tell({ summary }),
      (error: unknown) => {
        console.error(error);
        process.exit(2);
      },
    );
  });
}

// Thousands of small buffers live as long as a schedule: fewer and larger pieces of memory for them take less time.
Buffer.poolSize = 1024 * 1024;
await loadDigests();
// Errors are part of every schedule; where they were made matters only in a replay.
Error.stackTraceLimit = values.keep === undefined ? 0 : 20;
if (values.keep !== undefined) {
  await replay(values.keep);
} else if (values.serve) {
  serve();
} else {
  const summary = await runMany(first, count, async (schedule, failure, failures) => {
    if (values.brief) console.log(`seed ${schedule.seed}: ${failure.message}`);
    else if (!values.json) {
      const shrunk = await shrink(schedule);
      print(schedule.seed, shrunk.kept, shrunk.failure);
    }
    return failures >= Number(values.failures);
  });
  console.log(values.json ? JSON.stringify(summary) : summary);
  process.exitCode = summary.failed.length > 0 ? 1 : 0;
}
