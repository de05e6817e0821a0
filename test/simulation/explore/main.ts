/** Explores scenarios, see explore.js. Prints a line for each, and what is wrong with ends of its runs. */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadDigests } from "../../../src/ledger/digest.ts";
import { entriesOf, setNames } from "./catalogue.ts";
import type { Entry } from "./catalogue.ts";
import { describeDisks } from "./judge.ts";
import type { Kind } from "./judge.ts";
import { parseScenario } from "./scenario.ts";
import { explore, replay } from "./search.ts";
import type { Limits, Summary } from "./search.ts";

const { values } = parseArgs({
  options: {
    set: { type: "string", multiple: true, default: [] },
    scenario: { type: "string", multiple: true, default: [] },
    replay: { type: "string" },
    preemptions: { type: "string" },
    splits: { type: "string" },
    seconds: { type: "string" },
    kinds: { type: "string" },
    first: { type: "boolean", default: false },
    plain: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    log: { type: "string" },
    part: { type: "string", default: "0/1" },
  },
});

const LIMITS: Limits = {
  ...numberAs("preemptions"),
  ...numberAs("splits"),
  ...numberAs("seconds"),
  ...(values.kinds === undefined ? {} : { kinds: new Set(values.kinds.split(",") as Kind[]) }),
  first: values.first,
  plain: values.plain,
};

function numberAs(option: "preemptions" | "splits" | "seconds"): Limits {
  const text = values[option];
  return text === undefined ? {} : { [option]: Number(text) };
}

/** What is to be explored: all of it, or every so manieth, where several processes share it. */
function entries(): readonly Entry[] {
  const all = [
    ...(values.set.includes("all") ? setNames : values.set).flatMap(entriesOf),
    ...values.scenario.map((scenario) => ({ scenario, limits: {} })),
  ];
  const [part = 0, parts = 1] = values.part.split("/").map(Number);
  return all.filter((_, place) => place % parts === part);
}

/** Shows one run. Gives whether nothing is wrong with it. */
async function show(name: string, choices: string): Promise<boolean> {
  const { trace, wrongs, execution } = await replay(parseScenario(name), choices);
  for (const line of trace) console.log(`    ${line}`);
  for (const line of describeDisks(execution.disks.map(({ objects }) => objects))) console.log(`    ${line}`);
  for (const { kind, message } of wrongs) console.log(`  ${kind}: ${message}`);
  return wrongs.length === 0;
}

function describe(summary: Summary, limits: Limits): string {
  const { scenario, found, seconds, complete, wrong, outcomes, ...numbers } = summary;
  const counts = Object.entries({ ...numbers, outcomes: outcomes.size }).map(([what, count]) => `${count} ${what}`);
  const wrongs = Object.entries(wrong).map(([kind, count]) => `${kind} ${count}`);
  const verdict = found.length > 0 ? `WRONG: ${wrongs.join(", ")}` : "right";
  const bound = (["preemptions", "splits"] as const).map((what) =>
    limits[what] === undefined ? "" : ` ${what} ${limits[what]}:`,
  );
  return `${scenario}:${bound.join("")} ${counts.join(", ")}, ${seconds} s, ${complete ? "complete" : "NOT COMPLETE"}, ${verdict}`;
}

function tell(summary: Summary, limits: Limits): void {
  const line = JSON.stringify({ ...summary, limits, outcomes: [...summary.outcomes].sort() });
  if (values.log !== undefined) appendFileSync(values.log, `${line}\n`);
  if (values.json) {
    console.log(line);
    return;
  }
  console.log(describe(summary, limits));
  for (const { kind, message, choices, afterStates } of summary.found) {
    console.log(`  ${kind}, after ${afterStates} states: ${message}`);
    console.log(`    npm run explore -- --scenario '${summary.scenario}' --replay '${choices}'`);
  }
}

/** Explores all entries. Gives whether all were explored to their end, and nothing is wrong. */
async function run(): Promise<boolean> {
  const totals = { scenarios: 0, states: 0, executions: 0, transitions: 0, ends: 0, wrong: 0, incomplete: 0 };
  for (const { scenario, limits } of entries()) {
    const within = { ...limits, ...LIMITS };
    const summary = await explore(parseScenario(scenario), within);
    tell(summary, within);
    totals.scenarios++;
    for (const what of ["states", "executions", "transitions", "ends"] as const) totals[what] += summary[what];
    if (summary.found.length > 0) totals.wrong++;
    if (!summary.complete) totals.incomplete++;
  }
  process.send?.(totals);
  return totals.wrong === 0 && totals.incomplete === 0;
}

Error.stackTraceLimit = values.replay === undefined ? 0 : 20;
await loadDigests();
const [first = ""] = values.scenario;
const isRight = values.replay === undefined ? await run() : await show(first, values.replay);
process.exitCode = isRight ? 0 : 1;
process.disconnect?.();
