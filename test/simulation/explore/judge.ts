/** What must hold when a run has ended, whatever happened in it. Each check has a machine of its own, on a copy of the stores. */
import { createHash } from "node:crypto";
import { HoldfastError } from "../../../src/contract/errors.ts";
import { isReserved } from "../../../src/contract/names.ts";
import type { RepairReport } from "../../../src/contract/pool.ts";
import type { Disk } from "../sim-store.ts";
import { Violation } from "../world.ts";
import { Machine, Process, runCalm } from "./actors.ts";
import { disksOf, FIRST_VALUE, foundedNames, objectsOf } from "./ground.ts";
import { describeDeed, isWrite, list, read } from "./history.ts";
import type { Deed } from "./history.ts";
import { finalValues } from "./linearizable.ts";
import type { Event, Value } from "./linearizable.ts";
import { Cache, LEASE_MS, openPool } from "./processes.ts";
import type { OpenPool } from "./processes.ts";
import { isFaultless, placeOf, storeLabel } from "./scenario.ts";
import type { Scenario } from "./scenario.ts";

/**
 * What can be wrong with the end of a run.
 *
 * - `ends`: an operation does not end.
 * - `internal`: an error that is no word of Holdfast's.
 * - `error`: an operation failed although nothing was wrong.
 * - `history`: no order of the operations explains what they were told, even where a value that was read may be one that
 *   another machine had replaced.
 * - `stale`: such a value was read, and said to be certain.
 * - `final`: a machine that knows nothing, with all stores up, is told what no order explains.
 * - `down`: the same with one store down.
 * - `marks`: the ledger says that a store holds what it does not.
 * - `repair`: repair does not make the pool whole, or not what it was read to be before.
 * - `again`: a second repair writes.
 */
export type Kind =
  | "ends"
  | "internal"
  | "error"
  | "history"
  | "stale"
  | "final"
  | "down"
  | "marks"
  | "repair"
  | "again";

export interface Wrong {
  readonly kind: Kind;
  readonly message: string;
}

/** How a run ended. */
export interface End {
  readonly scenario: Scenario;
  readonly disks: readonly ReadonlyMap<string, Buffer>[];
  readonly deeds: readonly Deed[];
}

/** A machine that has no part in the run. */
interface Stranger extends OpenPool {
  readonly process: Process;
}

/** Repairs until one is whole, at most. */
const REPAIRS = 3;

export async function judge(end: End): Promise<readonly Wrong[]> {
  const judgement = new Judgement(end);
  await judgement.run();
  return judgement.wrongs;
}

class Judgement {
  readonly wrongs: Wrong[] = [];
  readonly #end: End;
  /** What each object may be, by what was told. */
  readonly #finals = new Map<string, ReadonlySet<Value>>();
  readonly #writes: readonly Deed[];

  constructor(end: End) {
    this.#end = end;
    this.#writes = end.deeds.filter(({ step, state }) => isWrite(step) && state !== "waiting");
  }

  async run(): Promise<void> {
    this.#checkErrors();
    for (const name of objectsOf(this.#end.scenario)) {
      const values = finalValues(this.#firstValue(name), this.#eventsOf(name, false));
      this.#finals.set(name, values);
      if (values.size === 0) this.#wrong("history", `no order of the operations explains what was told of ${name}`);
    }
    if (this.wrongs.some(({ kind }) => kind === "history")) return;
    await this.#guarded("final", () => this.#checkAllUp());
    this.#checkStale();
    for (let down = 0; down < this.#end.disks.length; down++) {
      await this.#guarded("down", () => this.#checkDown(down));
    }
    await this.#guarded("repair", () => this.#checkRepair());
  }

  #wrong(kind: Kind, message: string): void {
    this.wrongs.push({ kind, message });
  }

  async #guarded(kind: Kind, check: () => Promise<void>): Promise<void> {
    try {
      await check();
    } catch (error) {
      if (error instanceof Violation) this.#wrong("ends", error.message);
      else if (error instanceof HoldfastError) this.#wrong(kind, `${error.code}: ${error.message}`);
      else throw error;
    }
  }

  // ------------------------------------------------------------------------------------------------------ history

  /** Machines may get in each other's way, and be told so; nothing else may fail while no fault strikes. */
  #checkErrors(): void {
    if (!isFaultless(this.#end.scenario)) return;
    for (const deed of this.#end.deeds) {
      const { result } = deed;
      const isConflict = result?.told === "error" && result.code === "conflict" && deed.step.kind !== "get";
      const fails = result?.told === "error" || (result?.told === "names" && !result.complete);
      if (fails && !isConflict) this.#wrong("error", `although nothing was wrong, ${describeDeed(deed)}`);
    }
  }

  #firstValue(name: string): Value {
    return foundedNames(this.#end.scenario).includes(name) ? FIRST_VALUE : undefined;
  }

  /** Where all that was read had to be what the name was at that moment. */
  #checkStale(): void {
    for (const name of this.#finals.keys()) {
      const values = finalValues(this.#firstValue(name), this.#eventsOf(name, true));
      const isExplained = this.#firstRead.has(name) ? values.has(this.#firstRead.get(name)) : values.size > 0;
      if (!isExplained) this.#wrong("stale", `a value of ${name} was read that had been replaced before`);
    }
  }

  /** `strict`: a value that was read must be the one of that moment. */
  #eventsOf(name: string, strict: boolean): readonly Event[] {
    const own = this.#end.deeds.filter(
      ({ step, state }) => state !== "waiting" && (step.kind === "list" || (step.on === name && step.kind !== "drain")),
    );
    const kept = own.flatMap((deed) => {
      const event = this.#eventOf(deed, name, strict);
      return event === undefined ? [] : [{ deed, event }];
    });
    // Bits of all deeds become places among those of this name.
    return kept.map(({ event, deed }) => ({
      ...event,
      after: kept.reduce(
        (mask, { deed: other }, place) => (this.#isBehind(deed, other) ? mask | (1 << place) : mask),
        0,
      ),
    }));
  }

  /** Whether a deed comes behind another one: it began when that had ended, and a write could know of that write. */
  #isBehind(deed: Deed, other: Deed): boolean {
    if ((deed.after & other.bit) === 0) return false;
    if (!isWrite(deed.step) || !isWrite(other.step) || deed.process === other.process) return true;
    const { result, reach } = other;
    const holders = result?.told === "written" ? this.#holders(result.owing) : [];
    const knowing = holders.reduce((mask, label) => mask | (1 << placeOf(label)), 0);
    return ((knowing === 0 ? reach : knowing) & deed.reach) !== 0;
  }

  /** What a deed says of a name. Undefined: nothing that must be explained. */
  #eventOf({ step, value, state, result, after }: Deed, name: string, strict: boolean): Event | undefined {
    if (isWrite(step)) {
      const certain = state === "ended" && result?.told === "written";
      return { writes: { value: step.kind === "put" ? value : undefined }, certain, after };
    }
    if (result?.told === "value") {
      const { value: told, unheard } = result;
      // A value that is not the last one says so where a store was silent.
      if (told !== undefined && (unheard.length > 0 || !strict)) return undefined;
      return { sees: (now) => now === told, certain: true, after };
    }
    if (result?.told === "names" && result.complete) {
      const isListed = result.names.includes(name);
      if (isListed && !strict) return undefined;
      return { sees: (now) => (now !== undefined) === isListed, certain: true, after };
    }
    return undefined;
  }

  // -------------------------------------------------------------------------------------------------------- reads

  /** A machine that knows nothing, over a copy of the stores as they are left, and later by so much. */
  #stranger(disks: readonly Disk[], laterMs: number): Stranger {
    const machine = new Machine(this.#end.scenario.machines.length, "00000009", 0);
    machine.nowMs = 120_000 + laterMs;
    const process = new Process(machine, "z", disks, true);
    return { process, ...openPool(process, { ...this.#end.scenario, freshMs: 0, wait: "all" }, new Cache()) };
  }

  readonly #firstRead = new Map<string, Value>();

  async #checkAllUp(): Promise<void> {
    const { process, pool, marks } = this.#stranger(disksOf(this.#end.disks), 0);
    await runCalm(process, () => pool.maintenance.stores());
    this.#checkMarks(marks, this.#end.disks, "");
    for (const [name, values] of this.#finals) {
      const told = await this.#attempt(process, async () => (await read(pool, name)).value);
      if ("error" in told) {
        if (!this.#isUndecidable(name)) this.#wrong("final", `${name} is ${textOf(values)}; ${told.error}`);
      } else if (!values.has(told.value)) {
        this.#wrong("final", `${name} is ${textOf(values)}, and is read as ${String(told.value)}`);
      } else this.#firstRead.set(name, told.value);
    }
    await this.#checkListing(process, () => list(pool), "final");
  }

  async #attempt<T>(
    process: Process,
    work: () => Promise<T>,
  ): Promise<{ readonly value: T } | { readonly error: string }> {
    try {
      return { value: await runCalm(process, work) };
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === "internal") throw error;
      return { error: `${error.code}: ${error.message}` };
    }
  }

  async #checkListing(process: Process, listing: () => ReturnType<typeof list>, kind: Kind): Promise<void> {
    const { names, complete } = await runCalm(process, listing);
    if (!complete) this.#wrong(kind, "a listing is not complete although all stores are up");
    for (const [name, values] of this.#finals) {
      const may = values.has(undefined) ? values.size > 1 : values.size > 0;
      if (names.includes(name) && !may) this.#wrong(kind, `a listing has ${name}, which is ${textOf(values)}`);
      if (!names.includes(name) && !values.has(undefined) && !this.#isUndecidable(name)) {
        this.#wrong(kind, `a listing lacks ${name}, which is ${textOf(values)}`);
      }
    }
  }

  /** Two writes that were cut short may leave copies that nothing decides between. */
  #isUndecidable(name: string): boolean {
    return this.#unfinished(name).length > 1;
  }

  #unfinished(name: string): readonly Deed[] {
    return this.#writes.filter(({ step, result }) => step.on === name && result?.told !== "written");
  }

  async #checkDown(down: number): Promise<void> {
    const { process, pool } = this.#stranger(disksOf(this.#end.disks), 0);
    process.machine.cut.add(down);
    const label = storeLabel(down);
    for (const [name, values] of this.#finals) {
      let unheard: readonly string[] = [];
      const told = await this.#attempt(process, async () => {
        const got = await read(pool, name);
        ({ unheard } = got);
        return got.value;
      });
      if ("error" in told) {
        if (this.#mustStand(name, values, label)) {
          this.#wrong("down", `${name} is ${textOf(values)}, and stands elsewhere; without ${label} ${told.error}`);
        }
      } else if (!values.has(told.value)) {
        const isKnown = told.value !== undefined && this.#ever(name).has(told.value);
        if (isKnown && unheard.length > 0 && this.#hides(name, label)) continue;
        this.#wrong("down", `${name} is ${textOf(values)}, and without ${label} is read as ${String(told.value)}`);
      }
    }
    const { names, complete } = await runCalm(process, () => list(pool));
    for (const [name, values] of this.#finals) {
      if (complete && !names.includes(name) && !values.has(undefined)) {
        this.#wrong("down", `without ${label} a listing lacks ${name}, and calls itself complete`);
      }
      if (complete && names.includes(name) && values.size === 1 && values.has(undefined)) {
        this.#wrong("down", `without ${label} a listing has ${name}, which is deleted, and calls itself complete`);
      }
    }
  }

  #ever(name: string): ReadonlySet<Value> {
    const values = this.#writes.filter(({ step }) => step.on === name && step.kind === "put").map(({ value }) => value);
    return new Set([this.#firstValue(name), ...values]);
  }

  /** Whether an answer may be of an older version: a later one may be known to this store alone. */
  #hides(name: string, label: string): boolean {
    return this.#writes.some(
      ({ step, result }) =>
        step.on === name && (result?.told !== "written" || this.#holders(result.owing).every((one) => one === label)),
    );
  }

  /** Stores that a write was told to be on; one that may have been drained at that time need not be among them. */
  #holders(owing: readonly string[]): readonly string[] {
    const drained = this.#end.scenario.machines.flat(2).filter(({ kind }) => kind === "drain");
    return this.#end.disks
      .map((_, place) => storeLabel(place))
      .filter((label) => !owing.includes(label) && !drained.some(({ on }) => on === label));
  }

  /** Whether each value that the name may have was told to stand on another store too. */
  #mustStand(name: string, values: ReadonlySet<Value>, label: string): boolean {
    if (values.has(undefined) || this.#end.scenario.mode === "stripe" || this.#unfinished(name).length > 0)
      return false;
    return [...values].every((value) => {
      const by = this.#writes.find((deed) => deed.step.on === name && deed.value === value);
      const owing = by?.result?.told === "written" ? by.result.owing : [];
      return this.#holders(owing).some((one) => one !== label);
    });
  }

  // ------------------------------------------------------------------------------------------------------- repair

  /** What the ledger says that a store holds stands there. */
  #checkMarks(marks: OpenPool["marks"], disks: readonly ReadonlyMap<string, Buffer>[], when: string): void {
    for (const name of this.#finals.keys()) {
      const said = marks(name);
      if (said === undefined) continue;
      for (const [place, objects] of disks.entries()) {
        const bytes = objects.get(name);
        if (!said.holders.includes(storeLabel(place))) continue;
        if (bytes !== undefined && createHash("sha256").update(bytes).digest("hex") === said.sha256) continue;
        const has = bytes === undefined ? "nothing" : bytes.toString();
        this.#wrong("marks", `${when}the ledger says that ${storeLabel(place)} holds ${name}, and it has ${has}`);
      }
    }
  }

  async #checkRepair(): Promise<void> {
    const disks = disksOf(this.#end.disks);
    // Whoever was cut short is certainly gone by then.
    const later = 100 * LEASE_MS;
    const mender = this.#stranger(disks, 0);
    await runCalm(mender.process, () => mender.pool.maintenance.stores());
    mender.process.machine.nowMs += later;
    const report = await this.#repair(mender);
    const isDecidable = !objectsOf(this.#end.scenario).some((name) => this.#isUndecidable(name));
    if (!report.whole) {
      if (isDecidable)
        this.#wrong("repair", `after ${REPAIRS} repairs the pool is not whole: ${JSON.stringify(report)}`);
      return;
    }
    const before = writesOf(disks);
    await runCalm(mender.process, () => mender.pool.maintenance.repair());
    const writes = writesOf(disks) - before;
    if (writes > 0) this.#wrong("again", `a second repair wrote ${writes} times`);
    mender.process.die();

    const { process, pool, marks } = this.#stranger(disks, later);
    await runCalm(process, () => pool.maintenance.stores());
    this.#checkMarks(
      marks,
      disks.map(({ objects }) => objects),
      "after repair ",
    );
    for (const [name, values] of this.#finals) {
      const { value } = await runCalm(process, () => read(pool, name));
      if (!values.has(value)) this.#wrong("repair", `${name} is ${textOf(values)}, and after repair ${String(value)}`);
      else if (this.#firstRead.has(name) && this.#firstRead.get(name) !== value) {
        this.#wrong(
          "repair",
          `${name} was read as ${String(this.#firstRead.get(name))}, and is ${String(value)} after repair`,
        );
      }
      this.#checkCopies(disks, name, value);
    }
    await this.#checkListing(process, () => list(pool), "repair");
  }

  /**
   * Repairs until a repair is whole, or a few times. One machine does all of it: a new one writes down who it is, and has
   * seen nothing for as long as leases and late requests last.
   */
  async #repair({ process, pool }: Stranger): Promise<RepairReport> {
    for (let round = 1; ; round++) {
      const report = await runCalm(process, () => pool.maintenance.repair());
      if (report.whole || round === REPAIRS) return report;
      process.machine.nowMs += 2 * LEASE_MS;
    }
  }

  #checkCopies(disks: readonly Disk[], name: string, value: Value): void {
    const copies = disks.map(({ objects }) => objects.get(name)?.toString());
    const drained = new Set(this.#end.deeds.filter(({ step }) => step.kind === "drain").map(({ step }) => step.on));
    const held = copies.filter((copy) => copy !== undefined).length;
    const least = value === undefined ? 0 : this.#end.scenario.mode === "stripe" ? 1 : disks.length - drained.size;
    if (copies.some((copy) => copy !== undefined && copy !== value) || held < least) {
      this.#wrong(
        "repair",
        `after repair ${name} is ${String(value)}, and the stores have ${copies.map(String).join(", ")}`,
      );
    }
  }
}

function writesOf(disks: readonly Disk[]): number {
  return disks.reduce((sum, { writes }) => sum + writes, 0);
}

function textOf(values: ReadonlySet<Value>): string {
  return [...values].map((value) => value ?? "absent").join(" or ");
}

/** Objects of users on the stores, for people. */
export function describeDisks(disks: readonly ReadonlyMap<string, Buffer>[]): readonly string[] {
  return disks.map((objects, place) => {
    const own = [...objects]
      .filter(([name]) => !isReserved(name))
      .map(([name, bytes]) => `${name}=${bytes.toString()}`);
    return `${storeLabel(place)}: ${own.sort().join(" ") || "nothing"}`;
  });
}
