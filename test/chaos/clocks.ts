/** The one clock that every process of a run reads for its notes, and the wrong ones that Holdfast is given. */
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Runtime } from "../../src/contract/runtime.ts";

/** Milliseconds of the machine's monotonic clock: the same in every process. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** A machine's wall clock, beside the true one. */
export interface Clock {
  readonly aheadMs: number;
  /** From then on (milliseconds since the round began) it is ahead by so much instead. */
  readonly step?: { readonly atMs: number; readonly aheadMs: number };
}

/** The system's runtime with another wall clock. */
export function runtimeOf(clock: Clock, beganMs: number): Runtime {
  const aheadMs = (): number =>
    clock.step !== undefined && nowMs() - beganMs >= clock.step.atMs ? clock.step.aheadMs : clock.aheadMs;
  return { ...systemRuntime, now: () => Date.now() + aheadMs() };
}

/** A runtime for which so much time has gone by since the process began: leases of writers that are gone run out. */
export function laterRuntime(ms: number): Runtime {
  return {
    ...systemRuntime,
    now: () => Date.now() + ms,
    monotonicMs: () => systemRuntime.monotonicMs() + ms,
    sinceBoot: () => {
      const since = systemRuntime.sinceBoot?.();
      return since && { ...since, ms: since.ms + ms };
    },
  };
}
