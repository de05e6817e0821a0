/** The ground of a scenario: its pool, made in peace, from which every run begins. */
import { toBody } from "../../../src/contract/body.ts";
import { Disk } from "../sim-store.ts";
import { Machine, Process, runCalm } from "./actors.ts";
import { Cache, openPool } from "./processes.ts";
import { storeLabel } from "./scenario.ts";
import type { Scenario } from "./scenario.ts";

/** The object that is there where no other one is to be. */
const BYSTANDER = "other";
/** What objects have when a run begins. */
export const FIRST_VALUE = "v0";

export interface Ground {
  /** What stands on each store. */
  readonly disks: readonly ReadonlyMap<string, Buffer>[];
  /** What each machine keeps. */
  readonly caches: readonly Cache[];
}

/** Whether an object was put before a run begins. */
export function isFounded({ fresh, names }: Scenario, name: string): boolean {
  return names.includes(name) && !fresh.has(name);
}

/** All objects that a run may meet. */
export function objectsOf(scenario: Scenario): readonly string[] {
  return [...new Set([...scenario.names, ...foundedNames(scenario)])].sort();
}

export function foundedNames(scenario: Scenario): readonly string[] {
  const names = scenario.names.filter((name) => isFounded(scenario, name));
  return names.length > 0 ? names : [BYSTANDER];
}

export function machineId(place: number): string {
  return `0000000${place + 1}`;
}

/** The first machine puts all objects; the second one then puts them again, unless the first is to be the only writer. */
export async function layGround(scenario: Scenario): Promise<Ground> {
  const disks = Array.from({ length: scenario.stores }, (_, place) => new Disk(storeLabel(place)));
  const caches = scenario.machines.map(() => new Cache());
  const writers = scenario.sole ? [0] : [...caches.keys()].slice(0, 2);
  for (const place of writers) {
    const cache = caches[place];
    if (cache === undefined) continue;
    const founder = new Process(new Machine(place, machineId(place), 0), String(place), disks, true);
    founder.machine.nowMs = place * 1000;
    const { pool } = openPool(founder, { ...scenario, freshMs: 0 }, cache);
    await runCalm(founder, async () => {
      const value = place === writers.at(-1) ? FIRST_VALUE : "v";
      for (const name of foundedNames(scenario)) await pool.put(name, toBody(value));
      await pool.close();
    });
    founder.die();
  }
  return { disks: disks.map((disk) => new Map(disk.objects)), caches };
}

/** Stores with these contents. */
export function disksOf(contents: readonly ReadonlyMap<string, Buffer>[]): Disk[] {
  return contents.map((objects, place) => {
    const disk = new Disk(storeLabel(place));
    disk.objects = new Map(objects);
    return disk;
  });
}
