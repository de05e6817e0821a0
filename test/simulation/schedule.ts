/** A schedule: what a pool looks like, and what is done to it and happens to it, all from one seed. */
import type { Mode } from "../../src/contract/pool.ts";
import { withMishaps } from "./mishap-steps.ts";
import { Random } from "./random.ts";
import type { Fault, FaultKind } from "./sim-store.ts";
import type { Config, Mishap, Step } from "./steps.ts";

export interface Schedule {
  readonly seed: number;
  readonly config: Config;
  readonly steps: readonly Step[];
  /** Processes that may run at once, all machines together. */
  readonly slots: number;
}

const WAIT_SEED = 0x3a17_0000_0000;
const LANDS_SEED = 0x3a1c_0000_0000;
const LIST_NAMES_SEED = 0x3a1b_0000_0000;
const ALL_NAMES = ["a", "b", "p/x", "p/y", "q"];

export function makeSchedule(seed: number): Schedule {
  const random = new Random(seed);
  const mode: Mode = random.chance(0.72) ? "mirror" : "stripe";
  const nested = random.chance(0.06);
  const stores = nested ? 2 : random.chance(0.1) ? 1 : random.chance(0.6) ? 2 : 3;
  // Two machines that write a pool's own names at once, through pools below it, are beyond what a pool can order.
  const machines = nested || random.chance(0.55) ? 1 : random.chance(0.7) ? 2 : 3;
  const prefixes =
    mode === "mirror" && random.chance(0.1)
      ? Array.from({ length: stores }, (_, place) => (place === 0 ? ["p/"] : []))
      : [];
  const min = mode === "mirror" && prefixes.length === 0 && random.chance(0.25) ? 1 + random.below(stores) : 1;
  const processes = random.chance(0.8) ? 1 : 2;
  // Two that make one pool at once, one of them not reaching every store, may make two: nothing there can order them.
  const isSolitary = machines * processes === 1;
  const founded = isSolitary ? random.chance(0.3) : nested || random.chance(0.9);
  const quiet = !founded && !isSolitary;
  const onfail = random.chance(0.75) ? "continue" : "abort";
  const config: Config = {
    mode,
    onfail,
    min,
    // Drawn apart, so that the other choices of a seed are what they were before there was this one.
    wait: mode === "mirror" && onfail === "continue" && new Random(seed + WAIT_SEED).chance(0.2) ? "min" : "all",
    listNames: new Random(seed + LIST_NAMES_SEED).chance(0.5),
    lands: new Random(seed + LANDS_SEED).chance(0.3) ? 0.7 : 0,
    stores,
    nested,
    prefixes,
    machines,
    processes,
    inFlight: random.chance(0.5) ? 1 : 2 + random.below(2),
    parking: random.chance(0.5) ? 0.2 : 0.7,
    freshMs: isSolitary && random.chance(0.3) ? 20 : 0,
    mergeAt: random.chance(0.25) ? 2 + random.below(3) : 32,
    names: ALL_NAMES.slice(0, 1 + random.below(ALL_NAMES.length)),
    founded,
    withinTolerance: random.chance(0.85),
  };
  const slots = machines * processes;
  const length = 4 + random.below(14);
  // A schedule has its own mixture: some are all outages, some all crashes, some have nothing go wrong but time.
  const outages = !quiet && random.chance(0.5) ? random.next() : 0;
  const faults = !quiet && random.chance(0.6) ? random.next() * 2 : 0;
  const crashes = !quiet && random.chance(0.5) ? random.next() * 2 : 0;
  const damage = random.chance(0.35) ? random.next() * 2 : 0;
  const disorder = random.chance(0.4) ? random.next() : 0;
  const care = random.chance(0.5) ? random.next() : 0;
  const losses = random.chance(0.25) ? random.next() : 0;
  // Only who knows the pool can tell an unmounted store from a new one: one machine, which keeps its cache.
  const isKnown = machines === 1 && founded && !nested && disorder === 0 && config.freshMs === 0;
  const weights = {
    put: 5,
    "broken-put": 0.3,
    delete: 1.6,
    get: 2.5,
    range: 0.7,
    stat: 0.5,
    list: 0.8,
    repair: care * 1.5,
    verify: care * 0.7,
    status: 0.2,
    drain: random.chance(0.05) ? 0.3 : 0,
    rebalance: care * 0.2,
    down: outages * 1.4,
    up: outages * 1.2,
    unmount: isKnown ? outages * 0.7 : 0,
    full: outages * 0.3,
    wipe: isKnown && mode === "mirror" ? losses * 0.6 : 0,
    spoil: nested ? 0 : losses,
    fault: faults * 2,
    crash: crashes * 1.5,
    damage: damage * 1.5,
    jump: disorder * 0.6,
    "drop-cache": disorder * 0.3,
    pass: disorder * 0.6,
    reorder: disorder * 0.4,
    wait: config.inFlight > 1 ? 1.5 : 0,
  };
  const steps: Step[] = [];
  const diskCount = nested ? stores * 2 : stores;
  for (let i = 0; i < length; i++) steps.push(makeStep(random, random.weighted(weights), i, config, slots, diskCount));
  return { seed, config, steps: quiet || nested ? steps : withMishaps(steps, config, seed, slots), slots };
}

function makeStep(
  random: Random,
  kind: Exclude<Step["do"], Mishap["do"]>,
  place: number,
  config: Config,
  slots: number,
  diskCount: number,
): Step {
  const slot = random.below(slots);
  const name = random.pick(config.names);
  const disk = random.below(diskCount);
  const machine = random.below(config.machines);
  switch (kind) {
    case "put":
    case "broken-put": {
      const length = random.chance(0.3) ? 8 + random.below(30) : random.below(8);
      const value = `${name}=${place}${".abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ".slice(0, length)}`;
      return kind === "put"
        ? { do: "put", slot, name, value, cuts: random.below(3) }
        : { do: "broken-put", slot, name, value };
    }
    case "delete":
    case "get":
    case "stat":
      return { do: kind, slot, name };
    case "range":
      return { do: "range", slot, name, offset: random.below(12), length: random.below(16) };
    case "list":
      return { do: "list", slot, prefix: random.chance(0.7) ? "" : random.pick(["p/", "a", "p/x"]) };
    case "repair":
      return { do: "repair", slot, quick: random.chance(0.2), refill: random.chance(0.3) };
    case "verify":
    case "status":
    case "rebalance":
      return { do: kind, slot };
    case "drain":
      return { do: "drain", slot, disk: random.below(config.stores) };
    case "down":
    case "up":
    case "full":
    case "unmount":
    case "wipe":
    case "spoil":
      return { do: kind, disk };
    case "fault":
      return { do: "fault", disk, fault: makeFault(random) };
    case "crash":
      return { do: "crash", slot, after: random.chance(0.2) ? 0 : random.below(60) };
    case "damage":
      return { do: "damage", disk, name, how: random.pick(["spoil", "spoil", "lose", "swap"]) };
    case "jump":
      return { do: "jump", machine, ms: (random.next() - 0.5) * 10 ** (2 + random.below(7)) };
    case "drop-cache":
      return { do: "drop-cache", machine };
    case "pass":
      return { do: "pass", ms: 10 ** (1 + random.below(7)) };
    case "reorder":
    case "wait":
      return { do: kind };
  }
}

function makeFault(random: Random): Fault {
  const kinds: readonly FaultKind[] = [
    "before",
    "before",
    "middle",
    "after",
    "after",
    "hang-before",
    "hang-after",
    "slow",
    "full",
    "denied",
  ];
  return {
    kind: random.pick(kinds),
    operation: random.pick(["any", "any", "put", "put", "get", "list", "delete"] as const),
    on: random.pick(["any", "ledger", "data"] as const),
    skip: random.chance(0.4) ? 0 : random.below(8),
    times: random.chance(0.7) ? 1 : 1 + random.below(6),
  };
}

/** The steps, one a line, for people. */
export function describe(schedule: Schedule, kept: readonly number[]): string {
  const { config } = schedule;
  const lines = kept.map((place) => `  ${place}: ${JSON.stringify(schedule.steps[place])}`);
  return [`  ${JSON.stringify(config)}`, ...lines].join("\n");
}
