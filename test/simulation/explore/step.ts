/** Steps of a run, and whose they are. */
import type { Disk } from "../sim-store.ts";
import type { Answer, Call, Process, Touch } from "./actors.ts";
import type { Deed } from "./history.ts";
import type { OpenPool } from "./processes.ts";

/** Of so many calls under way each combination may take effect when their process dies. Of more, the first ones do. */
const ANY_OF = 3;

/** Something that may happen next. */
export interface Step {
  /** What it is called in a list of choices. The same step of a process that has seen the same is called the same. */
  readonly id: string;
  /** Whose it is: the place of the process; behind those, what timed out. */
  readonly agent: number;
  /** The place of its machine; -1: none. */
  readonly machine: number;
  readonly touches: readonly Touch[];
  /** It begins an operation. */
  readonly begins: boolean;
  /** Nobody else can tell when it happens. */
  readonly isSilent: boolean;
  readonly run: () => void;
}

/** A process that has operations to do. */
export interface Actor {
  readonly place: number;
  readonly process: Process;
  readonly opened: OpenPool;
  readonly deeds: readonly Deed[];
  next: number;
  running: Deed | undefined;
}

/** A call that timed out, and has yet to take effect. */
export interface Straggler {
  readonly id: string;
  readonly agent: number;
  readonly touch: Touch;
  readonly text: string;
  readonly act: (disk: Disk) => Answer<unknown>;
}

/** It will not do anything any more. */
export function isDone({ process, running, next, deeds }: Actor): boolean {
  return process.isIdle && (process.dead || (running === undefined && next >= deeds.length));
}

/** Which of some calls take effect when their process dies. */
export function combinations(calls: readonly Call[]): readonly (readonly Call[])[] {
  if (calls.length > ANY_OF) return Array.from({ length: calls.length + 1 }, (_, count) => calls.slice(0, count));
  return Array.from({ length: 2 ** calls.length }, (_, mask) =>
    calls.filter((_, place) => (mask & (1 << place)) !== 0),
  );
}

export function toldText(told: string | Uint8Array): string {
  const text = typeof told === "string" ? told : Buffer.from(told).toString("latin1");
  return text.length > 200 || /[^\x20-\x7e\n]/u.test(text) ? `${text.length} bytes` : text.replaceAll("\n", ", ");
}
