/** What the library and the command say of a pool's state, in the words of the journal. */
import type { Finding, Pool, PoolStatus } from "../../src/contract/pool.ts";
import type { OperationOptions } from "../../src/contract/store.ts";
import type { Answer, FoundFault } from "./journal.ts";

function faultOf({ kind, object, store }: Finding): FoundFault {
  return { kind, object, ...(store === undefined ? {} : { store }) };
}

/** Of these steps, the first are noted. */
const NOTED_STEPS = 20;

export async function repairAnswer(
  pool: Pool,
  verb: "repair" | "rebalance" = "repair",
  options: OperationOptions = {},
): Promise<Answer> {
  const steps: string[] = [];
  const report = await pool.maintenance[verb]({
    ...options,
    onAction: ({ action, object, store = "", why }) => {
      if (steps.length < NOTED_STEPS) steps.push(`${action} ${object} ${store}: ${why}`);
    },
  });
  const { whole, done, left, unheard } = report;
  return { whole, done, steps, findings: left.map(faultOf), unheard };
}

export function statusAnswer(status: PoolStatus): Answer {
  const stores = status.stores.map(({ label, reachable, trouble }) => ({
    label,
    well: reachable && trouble === undefined,
  }));
  return { stores, degraded: status.degraded };
}

/** Reads everything anew. */
export async function verifyAnswer(pool: Pool, options: OperationOptions = {}): Promise<Answer> {
  const findings: FoundFault[] = [];
  const onFinding = (finding: Finding): void => void findings.push(faultOf(finding));
  const { unheard } = await pool.maintenance.verify({ ...options, resume: false, onFinding });
  return { findings, unheard };
}

/** A line that the command printed with `--json`; what is needed of it here. */
interface PrintedLine {
  readonly type: string;
  readonly kind?: string;
  readonly object?: string;
  readonly store?: string;
  readonly name?: string;
  readonly label?: string;
  readonly reachable?: boolean;
  readonly trouble?: string;
  readonly degraded?: number;
  readonly whole?: boolean;
  readonly done?: number;
  readonly left?: boolean | number;
  readonly unheard?: readonly string[];
}

/** What a command printed with `--json`, and its exit code; undefined where it did not come to its end. */
export function commandAnswer(stdout: string, exitCode: number): Answer | undefined {
  const lines = stdout
    .split("\n")
    .filter((line) => line.length > 0)
    .map((line) => JSON.parse(line) as PrintedLine);
  const summary = lines.find(({ type }) => type === "summary" || type === "status");
  if (summary === undefined) return undefined;
  const isRepair = summary.whole !== undefined;
  const findings = lines
    .filter(({ type, left }) => type === "finding" && (!isRepair || left === true))
    .map(({ kind = "", object = "", store }) => ({ kind, object, ...(store === undefined ? {} : { store }) }));
  const stores = lines
    .filter(({ type }) => type === "store-status")
    .map(({ label = "", reachable, trouble }) => ({ label, well: reachable === true && trouble === undefined }));
  return {
    exitCode,
    findings,
    stores,
    ...(summary.whole === undefined ? {} : { whole: summary.whole }),
    ...(summary.done === undefined ? {} : { done: summary.done }),
    ...(summary.degraded === undefined ? {} : { degraded: summary.degraded }),
    ...(summary.unheard === undefined ? {} : { unheard: summary.unheard }),
  };
}
