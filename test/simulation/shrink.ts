/** Makes a failing schedule small: drops steps as long as a check still fails. */
import { runSchedule } from "./run-schedule.ts";
import type { Failure } from "./run-schedule.ts";
import type { Schedule } from "./schedule.ts";

export async function shrink(schedule: Schedule): Promise<{ kept: readonly number[]; failure: Failure }> {
  let kept = schedule.steps.map((_, place) => place);
  const failureOf = async (places: readonly number[]): Promise<Failure | undefined> =>
    (await runSchedule(schedule, new Set(places), true)).failure;
  let failure = await failureOf(kept);
  if (failure === undefined) throw new Error("the schedule does not fail again: the simulation is not deterministic");
  for (let smaller = true; smaller;) {
    smaller = false;
    for (let width = Math.max(1, kept.length >> 1); width >= 1; width >>= 1) {
      for (let at = 0; at < kept.length;) {
        const fewer = [...kept.slice(0, at), ...kept.slice(at + width)];
        const still = await failureOf(fewer);
        if (still === undefined) at += width;
        else {
          kept = fewer;
          failure = still;
          smaller = true;
        }
      }
    }
  }
  return { kept, failure };
}
