/**
 * A scenario: a pool, and what its machines do with it. Its name says all of it, so that a name is enough to run it:
 *
 *     mirror1x3+behind+crash/put.x,get.x|delete.x
 *
 * The pool comes first: `mirrorMxN` (N stores, of which a put needs M) or `stripexN`. Options follow, in any order. Behind
 * the slash stand the machines, apart by `|`; on one machine its processes, apart by `&`; of one process its operations in
 * their order, apart by commas.
 */

/** What a process does. `pass`: it lets two seconds pass. */
export type OperationKind =
  | "put"
  | "delete"
  | "get"
  | "list"
  | "repair"
  | "quick"
  | "drain"
  | "rebalance"
  | "pass"
  | "close";

export interface Step {
  readonly kind: OperationKind;
  /** The object, or for `drain` the store. */
  readonly on: string;
}

/** Faults that may strike, each at most so many times in one run. */
export interface Faults {
  /** A call fails and has no effect. */
  readonly fail: number;
  /** A call takes effect, and its caller is told that it failed. */
  readonly lost: number;
  /** The caller is told of a timeout; the call takes effect at any moment from then on. */
  readonly late: number;
  /** A process dies. Each of its calls under way takes effect or not. */
  readonly crash: number;
  /** From some moment on a machine reaches a store no more. */
  readonly cut: number;
  /** A machine that was cut off from a store reaches it again. */
  readonly heal: number;
  /** The clock of the first machine steps back by ten seconds. */
  readonly back: number;
  /** The clock of the first machine steps forward by ten seconds. */
  readonly forth: number;
}

export interface Scenario {
  readonly name: string;
  readonly mode: "mirror" | "stripe";
  readonly min: number;
  readonly stores: number;
  /** By how much each machine's clock differs from the true one, in milliseconds. */
  readonly clocksMs: readonly number[];
  readonly faults: Faults;
  /** Only the first machine has written to the pool before. */
  readonly sole: boolean;
  /** Processes have heard nothing when the first operation begins: opening the pool is part of what is explored. */
  readonly cold: boolean;
  /** Objects that do not exist when it begins. All others were put before. */
  readonly fresh: ReadonlySet<string>;
  readonly names: readonly string[];
  readonly freshMs: number;
  readonly mergeAt: number;
  readonly wait: "all" | "min";
  readonly onfail: "continue" | "abort";
  /** Pairs of machine and store that do not reach each other. */
  readonly apart: readonly (readonly [machine: number, store: number])[];
  /** Of these machines, calls that are under way at once are answered in this order of the stores. */
  readonly orders: ReadonlyMap<number, readonly number[]>;
  /** Calls of one process that are under way at once are answered in any order. */
  readonly full: boolean;
  /** Timers may fire while calls are under way. */
  readonly timers: boolean;
  /** The steps of each process of each machine. */
  readonly machines: readonly (readonly (readonly Step[])[])[];
}

/** By how much clocks differ, in milliseconds. */
const SKEW_MS = 5000;
const KINDS: ReadonlySet<string> = new Set<OperationKind>([
  "put",
  "delete",
  "get",
  "list",
  "repair",
  "quick",
  "drain",
  "rebalance",
  "pass",
  "close",
]);
const NO_FAULTS: Faults = { fail: 0, lost: 0, late: 0, crash: 0, cut: 0, heal: 0, back: 0, forth: 0 };

export const storeLabel = (place: number): string => "ABCDEFGH"[place] ?? "?";
export const placeOf = (label: string): number => "ABCDEFGH".indexOf(label);

/** Reads a name. Throws when it is none. */
export function parseScenario(name: string): Scenario {
  const [head = "", body = ""] = name.split("/");
  const [pool = "", ...options] = head.split("+");
  const machines = body
    .split("|")
    .map((machine) => machine.split("&").map((process) => process.split(",").filter(Boolean).map(parseStep)));
  const shape = /^(?:mirror([1-3])|stripe)x([1-4])$/u.exec(pool);
  if (shape === null) throw new Error(`${name}: ${pool} is no pool`);
  const flags = new Set(options);
  const take = (flag: string): boolean => flags.delete(flag);
  const taken = <T>(pattern: RegExp, use: (match: RegExpExecArray) => T): T[] =>
    [...flags].flatMap((flag) => {
      const match = pattern.exec(flag);
      if (match !== null) flags.delete(flag);
      return match === null ? [] : [use(match)];
    });
  const first = take("behind") ? -SKEW_MS : take("ahead") ? SKEW_MS : 0;
  const faults = { ...NO_FAULTS };
  taken(/^(fail|lost|late|crash|cut|heal|back|forth)(?:\*(\d))?$/u, ([, kind = "", times = "1"]) => {
    faults[kind as keyof Faults] = Number(times);
  });
  const steps = machines.flat(2);
  const wait = take("waitmin") ? "min" : "all";
  const scenario: Scenario = {
    name,
    mode: shape[1] === undefined ? "stripe" : "mirror",
    min: Number(shape[1] ?? 1),
    stores: Number(shape[2]),
    clocksMs: machines.map((_, place) => (place === 0 ? first : 0)),
    faults,
    sole: take("sole"),
    cold: take("cold"),
    fresh: new Set(taken(/^new\.(.+)$/u, ([, object = ""]) => object)),
    names: [...new Set(steps.filter(({ kind, on }) => kind !== "drain" && on !== "").map(({ on }) => on))].sort(),
    freshMs: taken(/^fresh(\d+)$/u, ([, ms]) => Number(ms))[0] ?? 1000,
    mergeAt: taken(/^merge(\d+)$/u, ([, at]) => Number(at))[0] ?? 32,
    wait,
    onfail: take("abort") ? "abort" : "continue",
    apart: taken(/^apart\.(\d)\.([A-H])$/u, ([, machine, store = ""]) => [Number(machine), placeOf(store)] as const),
    orders: new Map(
      taken(
        /^order\.(\d)\.([A-H]+)$/u,
        ([, machine, stores = ""]) => [Number(machine), stores.split("").map(placeOf)] as const,
      ),
    ),
    full: take("full"),
    timers: take("timers") || wait === "min",
    machines,
  };
  if (flags.size > 0) throw new Error(`${name}: ${[...flags].join(", ")} is no option`);
  return scenario;
}

function parseStep(text: string): Step {
  const [kind = "", on = ""] = text.split(".");
  if (!KINDS.has(kind)) throw new Error(`${text} is no operation`);
  return { kind: kind as OperationKind, on };
}

/** Whether nothing but the machines' own doing can go wrong. */
export function isFaultless({ faults, apart }: Scenario): boolean {
  return apart.length === 0 && faults.fail + faults.lost + faults.late + faults.crash + faults.cut === 0;
}
