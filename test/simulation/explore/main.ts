/** Explores scenarios, see explore.js. Prints a line for each, and what is wrong with ends of its runs. */
import { parseArgs } from "node:util";
import { loadDigests } from "../../../src/digest.ts";
import { describeDisks } from "./judge.ts";
import type { Kind } from "./judge.ts";
import { parseScenario } from "./scenario.ts";
import { explore, replay } from "./search.ts";
import type { Summary } from "./search.ts";

const { values } = parseArgs({
  options: {
    scenario: { type: "string", multiple: true, default: [] },
    replay: { type: "string" },
    preemptions: { type: "string" },
    seconds: { type: "string" },
    kinds: { type: "string" },
    first: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    plain: { type: "boolean", default: false },
  },
});

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

async function show(name: string, choices: string): Promise<void> {
  const { trace, wrongs, execution } = await replay(parseScenario(name), choices);
  for (const line of trace) console.log(`    ${line}`);
  for (const line of describeDisks(execution.disks.map(({ objects }) => objects))) console.log(`    ${line}`);
  for (const { kind, message } of wrongs) console.log(`  ${kind}: ${message}`);
}

function describe({ scenario, found, seconds, complete, wrong, outcomes, ...numbers }: Summary): string {
  const counts = Object.entries({ ...numbers, outcomes: outcomes.size }).map(([what, count]) => `${count} ${what}`);
  const wrongs = Object.entries(wrong).map(([kind, count]) => `${kind} ${count}`);
  const verdict = found.length > 0 ? `WRONG: ${wrongs.join(", ")}` : "right";
  return `${scenario}: ${counts.join(", ")}, ${seconds} s, ${complete ? "complete" : "NOT COMPLETE"}, ${verdict}`;
}

Error.stackTraceLimit = values.replay === undefined ? 0 : 20;
await loadDigests();
let isRight = true;
for (const name of values.scenario) {
  if (values.replay !== undefined) {
    await show(name, values.replay);
    continue;
  }
  const summary = await explore(parseScenario(name), {
    preemptions: numberOf(values.preemptions),
    seconds: numberOf(values.seconds),
    kinds: values.kinds === undefined ? undefined : new Set(values.kinds.split(",") as Kind[]),
    first: values.first,
    plain: values.plain,
  });
  isRight &&= summary.found.length === 0 && summary.complete;
  if (values.json) {
    console.log(JSON.stringify({ ...summary, outcomes: [...summary.outcomes].sort() }));
    continue;
  }
  console.log(describe(summary));
  for (const { kind, message, choices, afterStates } of summary.found) {
    console.log(`  ${kind}, after ${afterStates} states: ${message}`);
    console.log(`    npm run explore -- --scenario '${name}' --replay '${choices}'`);
  }
}
process.exitCode = isRight ? 0 : 1;
