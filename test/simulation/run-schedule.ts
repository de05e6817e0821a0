/** Runs one schedule: puts pools together over simulated stores, does its steps, and checks what comes of them. */
import { createHash } from "node:crypto";
import { collect } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { IDENTITY_NAME, parseIdentity } from "../../src/ledger/identity.ts";
import { Ledger } from "../../src/ledger/ledger.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { Member } from "../../src/ledger/member.ts";
import { currentRecord } from "../../src/ledger/record.ts";
import type { NameState, ObjectRecord } from "../../src/ledger/record.ts";
import { decodeSegment, SEGMENT_PREFIX } from "../../src/ledger/segment.ts";
import type { Segment } from "../../src/ledger/segment.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { isReserved } from "../../src/contract/names.ts";
import type { PoolContext } from "../../src/pool/pool-context.ts";
import type { PoolStore } from "../../src/pool/pool-store.ts";
import type { Finding, RepairReport } from "../../src/contract/pool.ts";
import { maintainedPool } from "../../src/repair/maintained-pool.ts";
import type { PoolParts } from "../../src/repair/maintained-pool.ts";
import type { PoolBelow } from "../../src/repair/nested-maintenance.ts";
import type { Body, Store } from "../../src/contract/store.ts";
import { compareFindings, corrupt, lostOf, spoiled } from "./corruption.ts";
import { misshapen } from "./mishap-steps.ts";
import { Mishaps } from "./mishaps.ts";
import { NameModel } from "./oracle.ts";
import type { Value, Write } from "./oracle.ts";
import { Random } from "./random.ts";
import type { Schedule } from "./schedule.ts";
import type { Config, Step } from "./steps.ts";
import { DEADLINE_MS, Disk, SimStore, Trouble } from "./sim-store.ts";
import { simRuntime, Violation, World } from "./world.ts";
import type { Owner, WallClock } from "./world.ts";

const LEASE_MS = 3_600_000;
/** How long a call that was given up may still take effect: those of a store that hangs never do. */
const LATE_MS = DEADLINE_MS;
/** How long a pool waits for a store that does not answer. */
const HEAR_MS = 10_000;
/** Steps that wait until nothing is under way. */
const ALONE: ReadonlySet<Step["do"]> = new Set([
  "wait",
  "pass",
  "wipe",
  "damage",
  "spoil",
  "rollback",
  "swap",
  "clone",
  "readdress",
]);
/** What is known as the pool's by a machine: its stores' addresses, by their labels. */
type Addresses = Map<string, string>;
const EPOCH_MS = 1_700_000_000_000;
const MAX_STEPS = 60_000;
/** How long an operation waits, at most, for what other processes do to end: once when it begins, and once when it ends. */
const OTHERS_MS = 2 * 40 * 31;
/** So many times as long as it is fresh, what was heard is used at most. */
const STALE_FACTOR = 4;
/** By how much time goes on, at most, with a choice. */
const STEP_MS = 4;

interface Machine {
  id: string;
  readonly wall: WallClock;
  /** Addresses of stores in its file, where they are not what they were at first. */
  readonly addresses: Addresses;
  /** The cache: an index for each pool, and which pool these stores are. Replaced when the cache is dropped. */
  cache: Cache;
}

interface Cache {
  readonly indexes: Map<string, MemoryIndex>;
  readonly pools: Map<string, string>;
}

interface Process extends Owner {
  readonly machine: Machine;
  readonly cache: Cache;
  readonly pool: PoolStore;
  readonly context: PoolContext;
  /** As writers, in all the pools it opened. */
  readonly writers: Set<string>;
}

/** What went wrong, and how the run came to it. */
export interface Failure {
  readonly message: string;
  readonly trace: readonly string[];
}

export interface Outcome {
  readonly failure: Failure | undefined;
  /** Choices that were made. */
  readonly steps: number;
  /** Acknowledged writes. */
  readonly acknowledged: number;
}

/** Runs the steps at the places `kept` (all by default). The same arguments give the same outcome. */
export async function runSchedule(schedule: Schedule, kept?: ReadonlySet<number>, traced = false): Promise<Outcome> {
  const simulation = new Simulation(schedule, kept, traced);
  let failure: Failure | undefined;
  try {
    await simulation.run();
  } catch (error) {
    const message =
      error instanceof Violation
        ? error.message
        : error instanceof Error
          ? (error.stack ?? error.message)
          : String(error);
    failure = { message, trace: simulation.trace };
  }
  return { failure, steps: simulation.world.steps, acknowledged: simulation.acknowledged };
}

class Simulation {
  readonly world: World;
  readonly trace: string[] = [];
  acknowledged = 0;
  readonly #schedule: Schedule;
  readonly #config: Config;
  readonly #traced: boolean;
  readonly #steps: Step[];
  readonly #random: Random;
  readonly #disks: Disk[];
  /** The order of the stores in the pool's file. */
  #order: number[];
  readonly #machines: Machine[];
  readonly #slots: (Process | undefined)[];
  readonly #alive = new Set<Process>();
  readonly #trouble = new Trouble();
  readonly #models = new Map<string, NameModel>();
  readonly #crashes: { readonly slot: number; atStep: number }[] = [];
  #events = 0;
  #inFlight = 0;
  #violation: Error | undefined;
  /** When a process that changed a name died last, or its change failed: others cannot know whether it is over. */
  readonly #diedMs = new Map<NameModel, number>();
  #draining = false;
  #freshMs: number;
  readonly #mishaps: Mishaps;
  /** A disk was lost for good. */
  #isAnyLost = false;
  /** Addresses are not what they were: what is lost at one of them is not known by it, and has to be given up by name. */
  #isAnyMoved = false;

  constructor(schedule: Schedule, kept: ReadonlySet<number> | undefined, traced: boolean) {
    this.#schedule = schedule;
    this.#config = schedule.config;
    this.#freshMs = schedule.config.freshMs;
    this.#traced = traced;
    this.#steps = schedule.steps.filter((_, place) => kept?.has(place) ?? true);
    this.#random = new Random(schedule.seed + 0x5eed_0000_0000);
    this.world = new World(this.#random, MAX_STEPS);
    const { config } = schedule;
    const diskCount = config.nested ? config.stores * 2 : config.stores;
    this.#disks = Array.from({ length: diskCount }, (_, place) => new Disk(`S${place}`));
    this.#order = Array.from({ length: config.stores }, (_, place) => place);
    this.#machines = Array.from({ length: config.machines }, () => ({
      id: this.#random.hex(4),
      wall: { offsetMs: EPOCH_MS + (config.machines === 1 ? 0 : (this.#random.next() - 0.5) * 600_000) },
      addresses: new Map(),
      cache: { indexes: new Map<string, MemoryIndex>(), pools: new Map<string, string>() },
    }));
    this.#slots = Array.from({ length: schedule.slots }, () => undefined);
    for (const name of config.names) this.#models.set(name, new NameModel(name));
    this.#mishaps = new Mishaps({
      world: this.world,
      disks: this.#disks,
      models: this.#models,
      trouble: this.#trouble,
      nextEvent: () => this.#events + 1,
      recordOn: (disks, name) => this.#recordOn(disks, name),
      isSpoiled: (disk) => this.#isSpoiled(disk),
      isWritingLater: () => this.#isWritingLater(),
      note: (line) => this.#note(line),
    });
  }

  async run(): Promise<void> {
    this.world.onStep = () => this.#onStep();
    if (this.#traced) {
      for (const disk of this.#disks)
        disk.onWrite = (name) =>
          this.#note(() => `${disk.label} writes ${name}: ${describeBytes(disk.objects.get(name))}`);
    }
    if (this.#config.founded) {
      await this.#alone(async () => {
        await this.#process(this.#random.below(this.#slots.length)).pool.delete("a");
      });
    }
    let next = 0;
    await this.world.run(() => {
      if (this.#violation !== undefined) throw this.#violation;
      while (next < this.#steps.length) {
        const step = this.#steps[next];
        if (step === undefined) break;
        const alone = ALONE.has(step.do) || this.#isMoving(step);
        const limit = alone ? 1 : this.#config.inFlight;
        if (this.#inFlight >= limit) return false;
        if (this.#inFlight > 0 && !this.#random.chance(0.15)) return false;
        next++;
        this.#begin(step);
        return "begun";
      }
      return this.#inFlight === 0;
    });
    await this.#finale();
  }

  /** Whether a step puts a disk where another one was a moment ago: nobody could tell what it had meanwhile. */
  #isMoving(step: Step): boolean {
    if (step.do === "unmount") return step.amid !== true;
    return step.do === "up" && this.#disk(step.disk).isUnmounted;
  }

  #note(line: () => string): void {
    if (this.#traced) this.trace.push(`${this.world.steps}: ${line()}`);
  }

  #onStep(): void {
    for (const crash of this.#crashes) {
      if (crash.atStep !== this.world.steps) continue;
      const process = this.#slots[crash.slot];
      if (process !== undefined) this.#kill(process);
    }
  }

  #kill(process: Process): void {
    if (process.dead) return;
    this.#note(() => `process of machine ${process.machine.id} dies`);
    this.#alive.delete(process);
    // Where disks have changed places, the record of a put that was not heard to its end may name the wrong one.
    if (this.#isAnyMoved) this.#noteCutShort(process);
    for (const [model, changes] of this.#changing) {
      if ([...changes].some((change) => change.process === process)) this.#diedMs.set(model, this.world.nowMs);
    }
    this.world.kill(process);
    for (const end of this.#endings.get(process) ?? []) end();
    this.#endings.delete(process);
  }

  /** What remains to be noted of operations under way when their process dies. */
  readonly #endings = new Map<Process, Set<() => void>>();

  // -------------------------------------------------------------------------------------------------------- pools

  #process(slot: number): Process {
    const known = this.#slots[slot];
    if (known !== undefined && !known.dead) return known;
    const machine = this.#machines[slot % this.#machines.length];
    if (machine === undefined) throw new Error("no such machine");
    const process = this.#open(machine);
    this.#slots[slot] = process;
    return process;
  }

  /** `shape`: what the pool's file says that it is. */
  #open(machine: Machine, shape: Pick<Config, "mode" | "min" | "prefixes"> = this.#config): Process {
    const owner: Owner = { dead: false };
    const writers = new Set<string>();
    const { config } = this.#schedule;
    const runtime = simRuntime(this.world, owner, machine.wall);
    const { parking, listNames, lands } = config;
    const simStore = (disk: Disk): Store =>
      new SimStore({ world: this.world, disk, owner, trouble: this.#trouble, parking, listNames, lands });
    const build = (
      label: string,
      members: readonly { store: Store; prefixes: readonly string[] }[],
      mode: Config["mode"],
      nested: boolean,
      below: readonly PoolBelow[] = [],
    ): PoolParts => {
      const { cache } = machine;
      const ledger = new Ledger({
        members: members.map(
          ({ store, prefixes }, place) =>
            new Member({ store, prefixes, fingerprint: addressOf(machine, store.label) }, place),
        ),
        runtime,
        logger: silentLogger,
        machine: machine.id,
        openIndex: (pool) => {
          const index = cache.indexes.get(pool) ?? new MemoryIndex();
          cache.indexes.set(pool, index);
          return index;
        },
        remembered: (address) => cache.pools.get(address),
        onPool: (pool, named) => {
          for (const { fingerprint } of named) cache.pools.set(fingerprint, pool);
        },
        freshMs: this.#freshMs,
        hearMs: HEAR_MS,
        mergeAt: config.mergeAt,
        laterMs: 20,
        lateMs: LATE_MS,
        isLiveWriter: (writer) => this.#isLive(machine, writer),
      });
      writers.add(ledger.writer);
      return maintainedPool(
        {
          label,
          ledger,
          mode,
          onfail: config.onfail,
          min: nested ? 1 : shape.min,
          wait: nested ? "all" : config.wait,
          runtime,
          logger: silentLogger,
          replayable: (body: Body) => ({ body, dispose: () => Promise.resolve() }),
          nested,
          leaseMs: LEASE_MS,
        },
        below,
      );
    };
    const below: PoolBelow[] = [];
    const members = this.#order.map((place) => {
      const prefixes = shape.prefixes[place] ?? [];
      if (!config.nested) return { store: simStore(this.#disk(place)), prefixes };
      const inner = [this.#disk(place * 2), this.#disk(place * 2 + 1)].map((disk) => ({
        store: simStore(disk),
        prefixes: [],
      }));
      const { pool } = build(`P${place}`, inner, shape.mode === "mirror" ? "stripe" : "mirror", true);
      below.push({ label: pool.label, maintenance: pool.maintenance });
      return { store: pool, prefixes };
    });
    const top = build("pool", members, shape.mode, false, below);
    const process: Process = Object.assign(owner, { machine, cache: machine.cache, writers, ...top });
    this.#alive.add(process);
    return process;
  }

  #disk(place: number): Disk {
    const disk = this.#disks[place];
    if (disk === undefined) throw new Error("no such disk");
    return disk;
  }

  /** What a machine knows of writers: its own processes; nothing of other machines'. */
  #isLive(machine: Machine, writer: string): boolean | undefined {
    if (!writer.startsWith(machine.id)) return undefined;
    return [...this.#alive].some((process) => process.writers.has(writer));
  }

  // -------------------------------------------------------------------------------------------------------- steps

  #begin(step: Step): void {
    this.#note(() => `begin ${JSON.stringify(step)}`);
    switch (step.do) {
      case "put":
      case "broken-put":
      case "delete":
      case "get":
      case "range":
      case "stat":
      case "list":
      case "repair":
      case "verify":
      case "status":
      case "drain":
      case "rebalance":
        this.#operate(step, this.#process(step.slot));
        return;
      case "misopen": {
        if (!this.#isMade()) return;
        const machine = this.#machines[step.slot % this.#machines.length];
        if (machine === undefined) return;
        this.#operate(step, this.#open(machine, misshapen(this.#config, step.as, step.place)));
        return;
      }
      case "image":
        this.#mishaps.takeImage(this.#disk(step.disk));
        return;
      case "rollback":
        this.#mishaps.rollBack(this.#disk(step.disk));
        return;
      case "swap":
        this.#isAnyMoved = true;
        this.#mishaps.swap(this.#disk(step.disk), this.#disk(step.other));
        return;
      case "clone":
        if (!this.#isKnownAt(step.from, step.from, "every")) return;
        this.#mishaps.clone(
          this.#disk(step.disk),
          this.#disk(step.from),
          this.#isKnownAt(step.from, step.disk, "some"),
        );
        return;
      case "readdress":
        this.#readdress(step.machine, step.disk);
        return;
      case "down":
      case "up": {
        const disk = this.#disk(step.disk);
        if (step.do === "down" && this.#mishaps.isCopied(disk)) return;
        if (step.do === "up" && disk.isUnmounted && this.#isWritingLater()) return;
        if (step.do === "up") {
          disk.full = false;
          this.#mount(disk);
        }
        disk.down = step.do === "down";
        disk.struck(this.#trouble, this.world.nowMs);
        return;
      }
      case "unmount": {
        const disk = this.#disk(step.disk);
        if (disk.isWiped || (step.amid !== true && this.#isWritingLater())) return;
        const isKnown = step.amid !== true && this.#machines.every(({ addresses }) => addresses.size === 0);
        if (this.#mishaps.isCopied(disk) || (!isKnown && !this.#mishaps.isSpare(disk))) return;
        if (step.amid === true && !this.#isMade()) return;
        this.#mishaps.isAnyForgetful ||= step.amid === true;
        disk.unmount();
        disk.struck(this.#trouble, this.world.nowMs);
        return;
      }
      case "full":
        this.#disk(step.disk).full = true;
        this.#disk(step.disk).struck(this.#trouble, this.world.nowMs);
        return;
      case "fault":
        if (!this.#mishaps.isCopied(this.#disk(step.disk))) this.#disk(step.disk).faults.push({ ...step.fault });
        return;
      case "crash": {
        this.#crashes.push({ slot: step.slot, atStep: this.world.steps + step.after });
        return;
      }
      case "damage":
        this.#damage(this.#disk(step.disk), step.name, step.how);
        return;
      case "wipe":
        this.#wipe(this.#disk(step.disk));
        return;
      case "spoil":
        this.#spoil(this.#disk(step.disk));
        return;
      case "jump": {
        const machine = this.#machines[step.machine];
        if (machine !== undefined) machine.wall.offsetMs += step.ms;
        return;
      }
      case "drop-cache": {
        const machine = this.#machines[step.machine];
        // Two that make one pool, of which one knows nothing of the other and does not reach every store, may make two.
        if (machine === undefined || !this.#disks.every((disk) => disk.own.has(IDENTITY_NAME))) return;
        for (const process of this.#alive) if (process.machine === machine) this.#kill(process);
        machine.id = this.#random.hex(4);
        machine.cache = { indexes: new Map(), pools: new Map() };
        return;
      }
      case "pass":
        this.world.skip(step.ms);
        return;
      case "reorder":
        this.#order = this.#random.shuffled(this.#order);
        for (const process of this.#alive) if (this.#random.chance(0.5)) this.#kill(process);
        return;
      case "wait":
        return;
    }
  }

  /** Whether every store that is there has it in its own ledger what the pool is. */
  #isMade(): boolean {
    return this.#disks.every(
      (disk) =>
        disk.isUnmounted ||
        (disk.objects.has(IDENTITY_NAME) &&
          this.#segmentsOn([disk]).some(({ pools, stores }) => (pools ?? []).length > 0 && (stores ?? []).length > 0)),
    );
  }

  /** Whether the ledger knows the disk in one place by the address that some machines, or every one, have of another. */
  #isKnownAt(place: number, at: number, which: "some" | "every"): boolean {
    const id = this.#idsOf().get(this.#disk(place).label);
    const known = this.#segmentsOn(this.#disks)
      .flatMap(({ stores }) => stores ?? [])
      .filter((record) => record.id === id)
      .flatMap(({ addresses }) => addresses);
    return this.#machines[which]((machine) => known.includes(addressOf(machine, this.#disk(at).label)));
  }

  /** The machine's file has another address for the store: whoever has it open goes on with the former one. */
  #readdress(place: number, at: number): void {
    const machine = this.#machines[place];
    // Somebody has to be left who says which pool this is, and each store has to be told apart from a copy of it.
    if (machine === undefined || this.#mishaps.isAnyCloned) return;
    if (this.#disks.some((disk) => disk.isUnmounted && !this.#mishaps.isSpare(disk))) return;
    const { label } = this.#disk(at);
    this.#isAnyMoved = true;
    machine.addresses.set(label, `${addressOf(machine, label)} again`);
    this.#trouble.count++;
    for (const [slot, process] of this.#slots.entries())
      if (process?.machine === machine) this.#slots[slot] = undefined;
  }

  #mount(disk: Disk): void {
    this.#mishaps.noteMounted(disk);
    // What was on its way when it went may still have arrived; an identity is only given after a look at what is there.
    if (disk.mount().includes(IDENTITY_NAME)) {
      throw new Violation(`${disk.label} was taken for a new store while it was not mounted`);
    }
  }

  #model(name: string): NameModel {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`no model of ${name}`);
    return model;
  }

  /** Runs an operation beside whatever else is under way. */
  #operate(step: Step, process: Process): void {
    this.#inFlight++;
    let open = true;
    const end = (): void => {
      if (!open) return;
      open = false;
      this.#inFlight--;
    };
    const endings = this.#endings.get(process) ?? new Set();
    this.#endings.set(process, endings);
    endings.add(end);
    this.#inTime(step, () => this.#perform(step, process, endings)).then(
      () => {
        endings.delete(end);
        end();
      },
      (error: unknown) => {
        this.#violation ??= asError(error);
        end();
      },
    );
  }

  /** Time passes only where stores hang, and of each no more than its deadline. */
  async #inTime(step: Step, work: () => Promise<void>): Promise<void> {
    const { world } = this;
    const { hangs, hanging } = this.#trouble;
    const { nowMs, steps } = world;
    await work();
    const waits = this.#trouble.hangs - hangs + hanging;
    // Somebody else's change is waited for, and the second machine that ever writes waits for the first one to hear of it.
    const othersMs =
      this.#slots.length > 1 || this.#cachesDropped ? OTHERS_MS + this.#config.freshMs * STALE_FACTOR : 0;
    // A put waits where it has too few stores without those that somebody else, or an earlier request, may still change;
    // others wait for who holds the name before them.
    const allowedMs =
      waits * DEADLINE_MS + (waits > 0 ? HEAR_MS : 0) + (world.steps - steps) * STEP_MS + othersMs + LATE_MS;
    if (world.nowMs - nowMs > allowedMs) {
      throw new Violation(`${step.do} took ${world.nowMs - nowMs} ms, and stores held it up for ${allowedMs} at most`);
    }
  }

  async #perform(step: Step, process: Process, endings: Set<() => void>): Promise<void> {
    switch (step.do) {
      case "put":
        return this.#put(process, step.name, step.value, this.#body(process, step.value, step.cuts), endings, true);
      case "broken-put":
        return this.#put(process, step.name, step.value, this.#brokenBody(process, step.value), endings, false);
      case "delete":
        return this.#delete(process, step.name, endings);
      case "get":
        return this.#get(process, step.name, undefined);
      case "range":
        return this.#get(process, step.name, { offset: step.offset, length: step.length });
      case "stat":
        return this.#stat(process, step.name);
      case "list":
        return this.#list(process, step.prefix);
      case "repair":
        await this.#enterAll(process, endings, () => this.#repair(process, step));
        return;
      case "rebalance":
        await this.#enterAll(process, endings, () => this.#attempt(() => process.pool.maintenance.rebalance()));
        return;
      case "drain":
        this.#draining = true;
        await this.#enterAll(process, endings, () =>
          this.#attempt(() => process.pool.maintenance.drain(this.#config.nested ? `P${step.disk}` : `S${step.disk}`)),
        );
        return;
      case "verify":
        await this.#attempt(() => process.pool.maintenance.verify({ resume: false }));
        return;
      case "status":
        await this.#status(process);
        return;
      case "misopen":
        await this.#misopen(process, step);
        return;
      default:
        throw new Error(`${step.do} is no operation`);
    }
  }

  /** What a store lost that answers, or does not have any more, is degraded: nothing is called well that is not. */
  async #status(process: Process): Promise<void> {
    const start = ++this.#events;
    const isAlone = this.#inFlight === 1;
    const lacking = this.#config.mode === "mirror" && !this.#config.nested ? this.#lacking(process) : [];
    const { count } = this.#trouble;
    const result = await this.#attempt(() => process.pool.maintenance.status());
    this.#note(() => `status: ${describeResult(result)}`);
    if ("error" in result || !isAlone || this.#draining) return;
    const { degraded, lost, unsettled } = result.value;
    // Whatever begins or ends meanwhile is an event; a store that went away meanwhile may not have been heard.
    const isCalm = this.#events === start && this.#inFlight === 1 && this.#trouble.count === count;
    const found = isCalm ? lacking : [];
    if (degraded + lost + unsettled >= found.length) return;
    throw new Violation(`status counts ${degraded} degraded and ${lost} lost: ${found.join(", ")}`);
  }

  /** Names that a store should have, and does not, as its ledger or the lack of one tells. */
  #lacking(process: Process): readonly string[] {
    // That a store went back in time is told by what the others have.
    const isTold = this.#disks.every((disk) => !disk.down);
    // Of what another machine wrote, a machine learns from the stores.
    const isWitnessed = this.#disks.some((disk) => !disk.down && !disk.isWiped);
    const gone = this.#disks.filter(
      (disk) =>
        !disk.down &&
        disk.faults.length === 0 &&
        (disk.isWiped || (isTold && this.#mishaps.isKnownOutdated(disk, this.#config))),
    );
    return [...this.#models.values()]
      .filter((model) => {
        const legal = model.legal(this.#events, this.#events);
        const value = legal.length === 1 ? legal[0]?.value : undefined;
        if (value === undefined || model.busy || model.mayBeLost) return false;
        if (!isWitnessed && process.context.ledger.index.get(model.name) === undefined) return false;
        const targets = process.context.targets(model.name).map((member) => member.label);
        return gone.some((disk) => {
          const standing = disk.objects.get(model.name)?.toString();
          // Rot is not told by the ledger, nor is a file that went without it.
          const isRot =
            !model.ever.has(standing) || (!disk.isWiped && this.#rotten.get(disk)?.has(model.name) === true);
          return targets.includes(disk.label) && standing !== value && !isRot;
        });
      })
      .map((model) => model.name);
  }

  /** A pool that is opened as another one than it is refuses whatever it is asked for, and changes nothing. */
  async #misopen(process: Process, step: Extract<Step, { readonly do: "misopen" }>): Promise<void> {
    const before = this.#excuse();
    const start = ++this.#events;
    const speakers = this.#disks
      .filter((disk) => !disk.down && !disk.isUnmounted && disk.trouble.hanging === 0 && this.#isPast(disk.trouble))
      .map((disk) => ({ disk, count: disk.trouble.count }));
    const name = this.#random.pick(this.#config.names);
    const { pool } = process;
    const operations = {
      put: () => pool.put(name, this.#body(process, "misopened", 0)),
      delete: () => pool.delete(name),
      get: () => pool.get(name),
      list: () => collectAll(pool.list("")),
      debts: () => collectAll(pool.maintenance.debts()),
      repair: () => pool.maintenance.repair(),
      verify: () => pool.maintenance.verify({ resume: false }),
      status: () => pool.maintenance.status(),
      rebalance: () => pool.maintenance.rebalance(),
    };
    const what = this.#random.pick(Object.keys(operations) as (keyof typeof operations)[]);
    const result = await this.#attempt<unknown>(operations[what]);
    this.#note(() => `${what} with another ${step.as}: ${describeResult(result)}`);
    await pool.close();
    // A store that nobody knows by its new address has the prefixes that its file gives it, as long as it is silent.
    const isMoved = process.machine.addresses.size > 0 || this.#isAnyMoved;
    const isUnknown = step.as === "prefixes" && isMoved && !this.#isClean(before);
    if ((process.changes ?? 0) > 0 && !isUnknown) {
      throw new Violation(`a pool that was opened with another ${step.as} was changed`);
    }
    if ((process.changes ?? 0) > 0 && (what === "put" || what === "delete")) {
      const model = this.#model(name);
      this.#failed(model, model.begin(what === "put" ? "misopened" : undefined, start, process.cache, process));
    }
    const isHeard = speakers.some(({ disk, count }) => disk.trouble.count === count);
    if (!("error" in result) && isHeard && !isUnknown) {
      throw new Violation(`${what} of a pool that was opened with another ${step.as} went on`);
    }
    if (!("error" in result)) return;
    if (result.error.code !== "config" && this.#isClean(before)) {
      throw new Violation(`${what} with another ${step.as} failed for another reason: ${result.error.message}`);
    }
  }

  async #repair(process: Process, step: Extract<Step, { readonly do: "repair" }>): Promise<void> {
    const wiped = step.refill ? this.#disks.filter((disk) => disk.isWiped && !disk.down) : [];
    for (const disk of wiped) disk.mayBeFilled = true;
    const result = await this.#attempt(() =>
      process.pool.maintenance.repair({ quick: step.quick, refill: wiped.map((disk) => disk.label) }),
    );
    if ("value" in result && result.value.whole) this.#mishaps.noteWhole();
    for (const disk of wiped) disk.noteFilled(IDENTITY_NAME);
  }

  /** Gives the error when it fails as it may. A failure that is no word of Holdfast's is a violation. */
  async #attempt<T>(work: () => Promise<T>): Promise<{ readonly value: T } | { readonly error: HoldfastError }> {
    try {
      return { value: await work() };
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      if (error.code === "internal") throw error;
      return { error };
    }
  }

  #body(process: Process, value: string, cuts: number): Body {
    const bytes = Buffer.from(value);
    const { world } = this;
    return {
      size: cuts === 1 ? undefined : bytes.length,
      reopenable: true,
      async *open() {
        const size = cuts === 0 ? Math.max(1, bytes.length) : Math.ceil(bytes.length / (cuts + 1));
        for (let at = 0; at < bytes.length; at += size) {
          if (at > 0) await world.park(process);
          yield bytes.subarray(at, at + size);
        }
      },
    };
  }

  #brokenBody(process: Process, value: string): Body {
    const bytes = Buffer.from(value);
    const { world } = this;
    return {
      size: undefined,
      reopenable: true,
      async *open() {
        yield bytes.subarray(0, 1);
        await world.park(process);
        throw new HoldfastError("invalid", "simulated: the source broke off");
      },
    };
  }

  /** Whether nothing had an excuse to fail since `since` was taken. */
  #excuse(): Excuse {
    const calm =
      this.#trouble.hanging === 0 &&
      this.world.nowMs - this.#trouble.hungUntilMs > HEAR_MS &&
      this.#isPast(this.#trouble) &&
      !(this.#isAnyLost && this.#isAnyMoved) &&
      this.#disks.every((disk) => !disk.down && !disk.full && !disk.isUnmounted && !disk.isWiped);
    return { count: this.#trouble.count, calm, isMade: this.#disks.every((disk) => disk.own.has(IDENTITY_NAME)) };
  }

  /** Whether what happened last was so long ago that every operation has heard of its end. */
  #isPast(trouble: Trouble): boolean {
    const lastMs = Math.max(trouble.atMs, trouble.hungUntilMs);
    return this.#freshMs === 0 || this.world.nowMs - lastMs > this.#freshMs * STALE_FACTOR;
  }

  #isClean(before: Excuse): boolean {
    return before.calm && this.#trouble.count === before.count;
  }

  /** A store that another process is just making a store of the pool may not be read yet. */
  #isCleanRead(before: Excuse): boolean {
    return before.isMade && this.#isClean(before);
  }

  async #put(
    process: Process,
    name: string,
    value: string,
    body: Body,
    endings: Set<() => void>,
    sound: boolean,
  ): Promise<void> {
    const model = this.#model(name);
    const before = this.#excuse();
    const isUnaware = this.#isUnaware(process, name);
    const write = model.begin(value, ++this.#events, process.cache, process);
    const { release, isAlone } = this.#enter(process, model, "put");
    const fail = (): void => {
      release();
      write.hasDied = process.dead;
      this.#failed(model, write);
    };
    endings.add(fail);
    const result = await this.#attempt(() => process.pool.put(name, body));
    endings.delete(fail);
    this.#note(() => `put ${name} ${value}: ${describeResult(result)}`);
    if ("error" in result) {
      fail();
      // Who writes a name while another one does, or while one that died might still, may be told so.
      const isOutrun =
        result.error.code === "conflict" &&
        (!isAlone() ||
          this.world.nowMs - (this.#diedMs.get(model) ?? -Infinity) <
            LATE_MS + OTHERS_MS + this.#freshMs * STALE_FACTOR);
      if (sound && this.#isClean(before) && !this.#draining && !isOutrun) {
        throw new Violation(`put of ${name} failed although nothing was wrong: ${result.error.message}`);
      }
      return;
    }
    if (!sound) throw new Violation(`put of ${name} succeeded although its source broke off`);
    const { owed, size } = result.value;
    if (size !== Buffer.byteLength(value)) throw new Violation(`put of ${name} gave a wrong size`);
    if (!this.#config.nested) {
      const copies = owed.filter((debt) => debt.owes === "copy").map((debt) => debt.store);
      if (this.#config.onfail === "abort" && copies.length > 0) {
        throw new Violation(`put of ${name} succeeded with onfail=abort although ${copies.join(", ")} failed`);
      }
      const alone =
        !model.writes.some((other) => other !== write && (other.end === undefined || other.end > write.start)) &&
        isAlone();
      const targets = process.context.targets(name).map((member) => member.label);
      const holders = this.#disks.filter((disk) => disk.own.get(name)?.toString() === value).map((disk) => disk.label);
      // What stands on a store that owes its copy, or its delete, is no copy of the put.
      write.holders = holders.filter((label) => !owed.some((debt) => debt.store === label));
      if (alone && !this.#draining) {
        if (write.holders.length < this.#config.min) {
          throw new Violation(`put of ${name} was acknowledged with ${write.holders.length} copies`);
        }
        const silent = targets.filter((label) => !holders.includes(label) && !copies.includes(label));
        // The record of a new name that is on every store may follow later; every other is there when the put is answered.
        const mayFollow =
          isUnaware ||
          (owed.length === 0 &&
            holders.length === this.#disks.length &&
            !model.writes.some((other) => other !== write && other.acknowledged && other.value !== undefined));
        if (this.#inFlight === 1 && !mayFollow) {
          this.#checkRecords(name, result.value.sha256, write.holders, copies);
        }
        if (this.#config.mode === "mirror" && silent.length > 0) {
          throw new Violation(`put of ${name} is not on ${silent.join(", ")}, and does not say so`);
        }
      }
    }
    release();
    write.acknowledged = true;
    write.clean = this.#isClean(before) && !isUnaware;
    write.known = write.clean;
    write.everywhere = write.clean && write.holders.length === this.#disks.length;
    write.end = ++this.#events;
    model.damaged.clear();
    this.acknowledged++;
  }

  /** Every store that took the put has its record in its own ledger, which says which stores did not. */
  #checkRecords(name: string, sha256: string, holders: readonly string[], owing: readonly string[]): void {
    const ids = this.#idsOf();
    for (const disk of this.#disks) {
      if (!holders.includes(disk.label) || disk.isUnmounted) continue;
      // Beside it another machine's may stand, which this put had not heard of.
      const state = this.#stateOn([disk], name);
      const record = state?.records.find((one) => one.content?.sha256 === sha256);
      const isHidden = this.#machines.length === 1 && record !== currentRecord(state);
      if (record === undefined || isHidden) throw new Violation(`${disk.label} has ${name} and not its record`);
      for (const label of owing) {
        const id = ids.get(label);
        // A store whose identity arrived although its writer was told otherwise is known by another one as yet.
        const mark = id === undefined ? undefined : record.copies[id];
        if (mark === undefined || mark.state === "copy") continue;
        // A copy that was late has arrived meanwhile.
        if (mark.state === "holds" && this.#hasCopy(label, name, sha256)) continue;
        // Nor is one known whose identity stood in a segment that was damaged: the copy is owed by the other one.
        if (mark.state === "delete" && this.#spoiled.size > 0) continue;
        throw new Violation(`${disk.label} does not know that ${label} owes ${name}`);
      }
    }
  }

  #idsOf(): ReadonlyMap<string, string> {
    const ids = new Map<string, string>();
    for (const disk of this.#disks) {
      const identity = disk.own.get(IDENTITY_NAME);
      if (identity !== undefined) ids.set(disk.label, parseIdentity(identity, disk.label).store);
    }
    return ids;
  }

  #hasCopy(label: string, name: string, sha256: string): boolean {
    const bytes = this.#disks.find((disk) => disk.label === label)?.own.get(name);
    return bytes !== undefined && createHash("sha256").update(bytes).digest("hex") === sha256;
  }

  /** Whether copies are on their way that no caller waits for. */
  #isWritingLater(): boolean {
    return [...this.#alive].some(({ context }) => this.#config.names.some((name) => context.isBusy(name)));
  }

  /**
   * Whether another machine has written the name where nobody hears it now: then two machines wrote at once, as far as
   * either can know.
   */
  #isUnaware(process: Process, name: string): boolean {
    if (this.#machines.length === 1 || !this.#disks.some((disk) => disk.down)) return false;
    const newest = this.#recordOn(this.#disks, name);
    const heard = this.#recordOn(
      this.#disks.filter((disk) => !disk.down),
      name,
    );
    return newest?.version !== heard?.version && newest?.version.slice(17, 25) !== process.machine.id;
  }

  /** Who changes a name now. */
  readonly #changing = new Map<
    NameModel,
    Set<{ readonly process: Process; readonly how: "put" | "delete" | "care"; alone: boolean }>
  >();

  /** Notes that a process changes a name, until `release` is called. */
  #enter(process: Process, model: NameModel, how: "put" | "delete" | "care"): Change {
    const others = this.#changing.get(model) ?? new Set();
    this.#changing.set(model, others);
    const self = { process, how, alone: others.size === 0 };
    // Repair says what it is about to change, and a put looks for that: neither harms the other.
    const opposite = how === "put" ? "delete" : "put";
    const isContested = (): boolean =>
      how !== "care" && [...others].some((other) => other.process !== process && other.how === opposite);
    let contested = isContested();
    for (const other of others) other.alone = false;
    others.add(self);
    const release = (): void => {
      contested ||= isContested();
      others.delete(self);
      if (contested) model.mayLose(++this.#events);
    };
    return { release, isAlone: () => self.alone };
  }

  /** Notes the same of a repair, which may change any name. */
  async #enterAll<T>(process: Process, endings: Set<() => void>, work: () => Promise<T>): Promise<T> {
    this.#mishaps.noteRepair();
    const leave = [...this.#models.values()].map((model) => this.#enter(process, model, "care").release);
    const end = (): void => leave.forEach((one) => one());
    endings.add(end);
    try {
      return await work();
    } finally {
      endings.delete(end);
      end();
    }
  }

  #failed(model: NameModel, write: Write): void {
    this.#diedMs.set(model, this.world.nowMs);
    write.end = ++this.#events;
    // Its bytes may stand on top of those of another process's put at the same moment: see docs/guarantees.md.
    const beside = model.writes.filter(({ by, end }) => by !== write.by && (end === undefined || end > write.start));
    if (beside.some(({ by }) => by !== undefined)) model.mayLose(this.#events);
    if (model.damaged.size > 0) model.taint(this.#events);
    // Its record may name a store that was taken away meanwhile, and nobody could say that any more.
    const isUntold = write.hasDied || this.#disks.some((disk) => this.#isShaky(disk));
    if (isUntold && this.#disks.some((disk) => disk.isUnmounted)) model.mayLose(this.#events);
  }

  /** Whether a store that is there failed a moment ago. */
  #isShaky({ isUnmounted, down, trouble }: Disk): boolean {
    if (isUnmounted) return false;
    return down || trouble.hanging > 0 || this.world.nowMs - Math.max(trouble.atMs, trouble.hungUntilMs) < HEAR_MS;
  }

  async #delete(process: Process, name: string, endings: Set<() => void>): Promise<void> {
    const model = this.#model(name);
    const before = this.#excuse();
    const isUnaware = this.#isUnaware(process, name);
    const write = model.begin(undefined, ++this.#events, process.cache, process);
    const { release } = this.#enter(process, model, "delete");
    const fail = (): void => {
      release();
      write.hasDied = process.dead;
      this.#failed(model, write);
    };
    endings.add(fail);
    const result = await this.#attempt(() => process.pool.delete(name));
    endings.delete(fail);
    this.#note(() => `delete ${name}: ${describeResult(result)}`);
    if ("error" in result) {
      fail();
      if (this.#isClean(before)) {
        throw new Violation(`delete of ${name} failed although nothing was wrong: ${result.error.message}`);
      }
      return;
    }
    release();
    write.acknowledged = true;
    write.clean = this.#isClean(before) && !isUnaware;
    write.known = write.clean;
    write.everywhere = write.clean;
    write.end = ++this.#events;
    model.damaged.clear();
    this.acknowledged++;
  }

  // -------------------------------------------------------------------------------------------------------- reads

  async #get(process: Process, name: string, range: { offset: number; length: number } | undefined): Promise<void> {
    const model = this.#model(name);
    const before = this.#excuse();
    const start = ++this.#events;
    const standing = this.#standing(model);
    // What another machine has yet to record is no part of what a read can decide.
    const isUnaware = this.#isUnaware(process, name);
    let unheard: readonly string[] = [];
    let size = 0;
    const result = await this.#attempt(async () => {
      const found = await process.pool.get(name, range === undefined ? {} : { range });
      unheard = found.unheard ?? [];
      size = found.info.size;
      return Buffer.from(await collect(found.body)).toString();
    });
    const now = ++this.#events;
    const clean = this.#isCleanRead(before);
    this.#note(() => `get ${name}: ${describeResult(result)} unheard ${unheard.join()} ${clean ? "clean" : ""}`);
    const matches = (value: Value): boolean => {
      if (!("value" in result) || value === undefined || Buffer.byteLength(value) !== size) return false;
      return result.value === (range === undefined ? value : value.slice(range.offset, range.offset + range.length));
    };
    if ("value" in result) {
      if (model.legal(start, now).some((write) => matches(write.value))) {
        if (range === undefined && clean && !isUnaware) model.observe(result.value, start, now);
        return;
      }
      const known = [...model.ever].some(matches);
      if (!known) {
        if (this.#mayGuess(model)) return;
        throw new Violation(`get of ${name} gave ${JSON.stringify(result.value)}, which was never put`);
      }
      if (model.tainted || (this.#mayBeStale(process) && unheard.length > 0)) return;
      if (!this.#config.withinTolerance && model.damaged.size > 0 && this.#schedule.config.machines > 1) return;
      throw new Violation(
        `get of ${name} gave ${JSON.stringify(result.value)}; it may only be ${this.#legalText(model, start, now)}`,
      );
    }
    if (range !== undefined && result.error.code === "invalid") {
      const tooShort = model
        .legal(start, now)
        .some((write) => write.value !== undefined && write.value.length < range.offset);
      if (tooShort || this.#mayBeStale(process)) return;
      throw new Violation(`a range of ${name} was refused: ${result.error.message}`);
    }
    this.#checkFailure(process, "get", model, result.error, start, now, clean, standing);
    if (result.error.code === "not-found" && clean && !isUnaware) model.observe(undefined, start, now);
  }

  /**
   * Copies that nothing explains were damaged and nothing decides by: whatever is read may be the damage. So it is with
   * those that an overwrite is about to replace, when no good one is left.
   */
  #mayGuess(model: NameModel): boolean {
    return model.tainted || (!this.#config.withinTolerance && model.damaged.size > 0 && model.busy);
  }

  /** Another machine may have written what this one could not hear of. */
  #mayBeStale(process: Process): boolean {
    return this.#machines.length > 1 || process.cache.pools.size === 0 || this.#cachesDropped;
  }

  /** Everything the name may be was written by other machines, with stores out of their reach: see docs/decisions/0001. */
  #isPartitioned(process: Process, model: NameModel, start: number, now: number): boolean {
    return model
      .legal(start, now)
      .every((write) => write.value === undefined || (write.cache !== process.cache && !write.known));
  }

  /** A silent store whose address nobody knows may be of another pool: with as many of those nothing is read. */
  #isUnsure({ machine }: Process, { message }: HoldfastError, clean: boolean): boolean {
    return !clean && machine.addresses.size > 0 && message.includes("it is not certain which pool this is");
  }

  get #cachesDropped(): boolean {
    return this.#steps.some((step) => step.do === "drop-cache");
  }

  #legalText(model: NameModel, start: number, now: number): string {
    return model
      .legal(start, now)
      .map((write) => JSON.stringify(write.value) ?? "absent")
      .join(" or ");
  }

  /** Disks that hold the one value a name can have, by the answer to its put, and are up. */
  #standing(model: NameModel): readonly Standing[] {
    const now = this.#events;
    const legal = model.legal(now, now + 1);
    const [only] = legal;
    if (legal.length !== 1 || only?.value === undefined || model.busy) return [];
    return this.#disks
      .filter(
        (disk) =>
          !disk.down &&
          !disk.isUnmounted &&
          disk.trouble.hanging === 0 &&
          this.#isPast(disk.trouble) &&
          !this.#isSpoiled(disk),
      )
      .filter((disk) => only.holders.includes(disk.label) && disk.objects.get(model.name)?.toString() === only.value)
      .map((disk) => ({ disk, value: only.value, count: disk.trouble.count }));
  }

  /** One of them that stood all the while. */
  #stood(model: NameModel, standing: readonly Standing[]): string | undefined {
    return standing.find(
      ({ disk, value, count }) =>
        disk.trouble.count === count && disk.objects.get(model.name)?.toString() === value && !this.#isSpoiled(disk),
    )?.disk.label;
  }

  #checkFailure(
    process: Process,
    what: string,
    model: NameModel,
    error: HoldfastError,
    start: number,
    now: number,
    clean: boolean,
    standing: readonly Standing[],
  ): void {
    const legal = model.legal(start, now);
    if (error.code === "not-found") {
      if (legal.some((write) => write.value === undefined) || model.tainted) return;
      if (!clean && this.#isPartitioned(process, model, start, now)) return;
      throw new Violation(
        `${what} of ${model.name} says that it does not exist; it is ${this.#legalText(model, start, now)}`,
      );
    }
    if (model.mayBeLost || model.changedSince(start) || this.#isUnsure(process, error, clean)) return;
    const holder = this.#stood(model, standing);
    if (holder !== undefined) {
      throw new Violation(`${what} of ${model.name} failed although ${holder} has it: ${error.code} ${error.message}`);
    }
    if (!this.#config.withinTolerance) return;
    if (clean && legal.length === 1) {
      throw new Violation(`${what} of ${model.name} failed although nothing was wrong: ${error.code} ${error.message}`);
    }
  }

  async #stat(process: Process, name: string): Promise<void> {
    const model = this.#model(name);
    const before = this.#excuse();
    const start = ++this.#events;
    const standing = this.#standing(model);
    const result = await this.#attempt(() => process.pool.stat(name));
    const now = ++this.#events;
    const clean = this.#isCleanRead(before);
    this.#note(() => `stat ${name}: ${describeResult(result)}`);
    if ("error" in result) {
      this.#checkFailure(process, "stat", model, result.error, start, now, clean, standing);
      return;
    }
    const { size } = result.value;
    const fits = (value: Value): boolean => value !== undefined && Buffer.byteLength(value) === size;
    if (model.legal(start, now).some((write) => fits(write.value))) return;
    if (model.tainted || (this.#mayBeStale(process) && !clean && [...model.ever].some(fits))) return;
    throw new Violation(`stat of ${name} says ${size} bytes; it may only be ${this.#legalText(model, start, now)}`);
  }

  async #list(process: Process, prefix: string): Promise<void> {
    const before = this.#excuse();
    const start = ++this.#events;
    const found: string[] = [];
    const standing = [...this.#models.values()].map((model) => [model, this.#standing(model)] as const);
    const result = await this.#attempt(async () => {
      for await (const { name } of process.pool.list(prefix)) found.push(name);
    });
    const now = ++this.#events;
    const clean = this.#isCleanRead(before);
    this.#note(() => `list ${prefix}: ${found.join()} ${describeResult(result)}`);
    if (new Set(found).size !== found.length) throw new Violation(`a listing has a name twice: ${found.join(", ")}`);
    for (const name of found) {
      if (!name.startsWith(prefix)) throw new Violation(`a listing of ${prefix} has ${name}`);
      const model = this.#models.get(name);
      if (model === undefined) throw new Violation(`a listing has ${name}, which was never put`);
      if (model.legal(start, now).some((write) => write.value !== undefined) || model.tainted) continue;
      if (this.#mayBeStale(process) && "error" in result) continue;
      throw new Violation(`a listing has ${name}, which was deleted`);
    }
    if ("error" in result) {
      if (clean) throw new Violation(`a listing failed although nothing was wrong: ${result.error.message}`);
      if (result.error.code !== "incomplete") return;
      for (const [model, disks] of standing) {
        const holder = this.#stood(model, disks);
        if (!model.name.startsWith(prefix) || found.includes(model.name) || holder === undefined) continue;
        if (!model.mayBeLost && !model.changedSince(start)) {
          throw new Violation(`a listing lacks ${model.name}, although ${holder} has it`);
        }
      }
      return;
    }
    for (const [name, model] of this.#models) {
      if (!name.startsWith(prefix) || found.includes(name)) continue;
      if (model.legal(start, now).some((write) => write.value === undefined) || model.tainted) continue;
      if (!clean && this.#isPartitioned(process, model, start, now)) continue;
      throw new Violation(`a listing lacks ${name}, and does not say that it may`);
    }
  }

  // ------------------------------------------------------------------------------------------------------- damage

  /** Damages a copy. Within tolerance only where a good one is left that the ledger vouches for. */
  #damage(disk: Disk, name: string, how: "spoil" | "lose" | "swap"): void {
    const model = this.#model(name);
    const now = this.#events + 1;
    const legal = model.legal(now, now);
    const [only] = legal;
    if (legal.length !== 1 || only?.value === undefined || model.busy || !only.acknowledged) return;
    if (this.#mishaps.isAnyCloned) return;
    const { value } = only;
    const copy = disk.objects.get(name);
    if (copy === undefined || copy.toString() !== value) return;
    if (this.#config.withinTolerance) {
      if (this.#config.nested) return;
      const others = this.#disks.filter(
        (other) =>
          other !== disk &&
          only.holders.includes(other.label) &&
          other.objects.get(name)?.toString() === value &&
          this.#recordOn([other], name) !== undefined,
      );
      if (others.length === 0) return;
    }
    switch (how) {
      case "spoil":
        disk.objects.set(name, spoiled(copy, this.#random));
        break;
      case "lose":
        disk.objects.delete(name);
        disk.forget();
        break;
      case "swap": {
        const other = [...disk.objects].find(([otherName]) => otherName !== name && !isReserved(otherName));
        disk.objects.set(name, other === undefined ? Buffer.from("swapped") : other[1]);
        break;
      }
    }
    this.#note(() => `damage ${how} on ${disk.label} of ${name}`);
    // Nothing decides between copies that differ while no ledger knows the object.
    const state = this.#stateOn(this.#disks, name);
    const isOpen = state?.records.some((record) => record.kind === "intent") ?? false;
    // What an overwrite left that was cut short has no digest: the damage may be taken for it once no good copy is left.
    if (currentRecord(state) === undefined || (isOpen && !this.#config.withinTolerance)) model.taint(now);
    model.damaged.add(disk.label);
    this.#rotten.set(disk, (this.#rotten.get(disk) ?? new Set()).add(name));
  }

  /** Names of which a disk's copy was damaged by itself. */
  readonly #rotten = new Map<Disk, Set<string>>();

  /** What the ledgers of some disks say together of a name. */
  #recordOn(disks: readonly Disk[], name: string): ObjectRecord | undefined {
    return currentRecord(this.#stateOn(disks, name));
  }

  #stateOn(disks: readonly Disk[], name: string): NameState | undefined {
    const index = new MemoryIndex();
    for (const { objects } of this.#segmentsOn(disks)) index.apply({ objects });
    return index.get(name);
  }

  #segmentsOn(disks: readonly Disk[]): readonly Segment[] {
    return disks.flatMap((disk) =>
      disk
        .names(SEGMENT_PREFIX)
        .map((segment) => disk.objects.get(segment) ?? Buffer.alloc(0))
        .filter((bytes) => !this.#spoiled.has(bytes))
        .map((bytes) => decodeSegment(bytes)),
    );
  }

  /** A disk loses everything: only where the others have a good copy of all, and know it. */
  #wipe(disk: Disk): void {
    const others = this.#disks.filter((other) => other !== disk);
    if (others.length === 0 || this.#disks.some((one) => !one.own.has(IDENTITY_NAME))) return;
    if (disk.isUnmounted || others.some((other) => other.isUnmounted || other.isWiped || this.#isSpoiled(other)))
      return;
    if (this.#config.wait === "min" && this.#isWritingLater()) return;
    // One of which nobody else ever heard is a stranger.
    const id = this.#idsOf().get(disk.label);
    if (!this.#segmentsOn(others).some(({ stores }) => (stores ?? []).some((record) => record.id === id))) return;
    const now = this.#events + 1;
    for (const model of this.#models.values()) {
      const legal = model.legal(now, now);
      const [only] = legal;
      if (legal.length !== 1 || only === undefined || model.busy || model.mayBeLost) return;
      if (model.damaged.size > 0 && this.#config.withinTolerance) return;
      const { value } = only;
      const record = this.#recordOn(others, model.name);
      if (value === undefined) {
        if (model.ever.size > 1 && record?.kind !== "delete") return;
        continue;
      }
      const good = others.filter((other) => other.objects.get(model.name)?.toString() === value);
      const knows = record?.content?.sha256 === createHash("sha256").update(value).digest("hex");
      if (!knows || !good.some((other) => only.holders.includes(other.label))) return;
    }
    this.#note(() => `${disk.label} is wiped`);
    for (const model of this.#models.values()) model.forgetWhoKnows();
    this.#isAnyLost = true;
    disk.wipe();
    disk.struck(this.#trouble, this.world.nowMs);
  }

  /** Segments that were spoiled, as they stand there now. */
  readonly #spoiled = new Set<Buffer>();

  #isSpoiled({ objects }: { readonly objects: ReadonlyMap<string, Buffer> }): boolean {
    return this.#spoiled.size > 0 && [...objects.values()].some((bytes) => this.#spoiled.has(bytes));
  }

  /** Damages a segment of a disk's ledger: only one that is whole on another. */
  #spoil(disk: Disk): void {
    const names = disk.names(SEGMENT_PREFIX).filter((name) => {
      const bytes = disk.objects.get(name);
      return this.#disks.some(
        (other) =>
          other !== disk &&
          !other.isUnmounted &&
          bytes !== undefined &&
          other.objects.get(name)?.equals(bytes) === true,
      );
    });
    if (names.length === 0 || this.#disks.some((other) => other !== disk && this.#isSpoiled(other))) return;
    const name = this.#random.pick(names);
    const bytes = spoiled(disk.objects.get(name) ?? Buffer.alloc(0), this.#random);
    this.#note(() => `${name} is spoiled on ${disk.label}`);
    this.#spoiled.add(bytes);
    disk.objects.set(name, bytes);
    disk.struck(this.#trouble, this.world.nowMs);
  }

  // ------------------------------------------------------------------------------------------------------- finale

  /** The faults stop: now everything has to come right. */
  async #finale(): Promise<void> {
    this.#note(() => "finale");
    for (const process of this.#alive) this.#noteCutShort(process);
    for (const process of this.#alive) this.#kill(process);
    this.#crashes.length = 0;
    for (const disk of this.#disks) {
      disk.down = false;
      disk.full = false;
      disk.faults = [];
      this.#mount(disk);
      for (const land of disk.landing) land();
    }
    if (!this.#config.nested) this.#checkMarks();
    for (const machine of this.#machines) machine.wall.offsetMs = Math.max(machine.wall.offsetMs, EPOCH_MS);
    const machine = this.#random.pick(this.#machines);
    // How old a lease is counts from when this machine has seen it.
    await this.#alone(async () => {
      const process = this.#open(machine);
      await process.pool.maintenance.stores();
      this.#kill(process);
    });
    this.world.nowMs += LEASE_MS * 100;
    // Nobody else changes anything any more: what an operation has heard holds for the next one too.
    this.#freshMs = 1000;
    await this.#alone(async () => this.#converge(machine));
  }

  /** Names of which a copy was on its way when a process died. */
  readonly #cutShort = new Set<string>();

  #noteCutShort({ context }: Process): void {
    for (const name of this.#config.names) if (context.isBusy(name)) this.#cutShort.add(name);
  }

  /** A debt was cleared only where the copy stands: what the ledgers say together is true of every disk. */
  #checkMarks(): void {
    const ids = this.#idsOf();
    for (const model of this.#models.values()) {
      const state = this.#stateOn(this.#disks, model.name);
      const [record] = state?.records ?? [];
      if (state?.records.length !== 1 || record === undefined || model.mayBeLost) continue;
      if (this.#cutShort.has(model.name)) continue;
      for (const disk of this.#disks) {
        const id = ids.get(disk.label);
        if (id === undefined || record.copies[id]?.state !== "holds" || model.damaged.has(disk.label)) continue;
        if (disk.isWiped || this.#hasCopy(disk.label, model.name, record.content?.sha256 ?? "")) continue;
        const has = String(disk.objects.get(model.name));
        throw new Violation(
          `the ledger says that ${disk.label} holds ${model.name}, and it has ${has}: ${JSON.stringify(record)}`,
        );
      }
    }
  }

  /** Runs to the end with nothing else beside it. */
  async #alone(work: () => Promise<void>): Promise<void> {
    let ended = false;
    let failure: Error | undefined;
    this.world.calm = true;
    work().then(
      () => {
        ended = true;
      },
      (error: unknown) => {
        failure = asError(error);
        ended = true;
      },
    );
    await this.world.run(() => ended);
    this.world.calm = false;
    if (failure !== undefined) throw failure;
  }

  async #converge(machine: Machine): Promise<void> {
    const isExcused = ({ object }: Finding): boolean => {
      const model = this.#models.get(object);
      return model !== undefined && (model.mayBeLost || (model.damaged.size > 0 && !this.#config.withinTolerance));
    };
    const refill = await this.#refuseToFill(machine);
    let report = await this.#repairAlone(machine, refill);
    if (this.#isAnyLost) await this.#forgetGone(machine);
    for (let round = 1; round < 3 && !report.whole; round++) {
      report = await this.#repairAlone(machine, refill);
    }
    const { whole, left } = report;
    const isLossy = report.unheard.length === 0 && left.length > 0 && left.every(isExcused);
    if (!whole && !isLossy && !this.#isUndecidable(left) && !this.#isTakenForItsOwn(left)) {
      throw new Violation(`repair did not converge: ${JSON.stringify(report)}`);
    }
    const writes = this.#writes();
    // Where things are has nothing to do with the order in which the stores are named.
    this.#order = this.#random.shuffled(this.#order);
    const again = await this.#repairAlone(machine);
    if (this.#writes() !== writes) {
      throw new Violation(`another repair wrote ${this.#writes() - writes} times: ${JSON.stringify(again)}`);
    }
    const loose = left.length > 0;
    const values = await this.#checkFinal(machine, loose);
    // Machines that know more than the stores do call a pool whole in which a stranger has to wait for something.
    if (this.#mishaps.isAnyForgetful) return;
    if (!loose && !this.#config.nested && this.#random.chance(0.4)) await this.#checkCare(machine, values);
  }

  /** A store that lost everything is not filled before somebody says so. Gives those that did. */
  async #refuseToFill(machine: Machine): Promise<readonly string[]> {
    // A repair that was told to may have died after it gave a store its identity.
    for (const disk of this.#disks) if (disk.mayBeFilled) disk.noteFilled(IDENTITY_NAME);
    const wiped = this.#disks.filter((disk) => disk.isWiped);
    if (wiped.length === 0) return [];
    const repair = await this.#attempt(() => this.#repairAlone(machine));
    // A machine that never wrote may not begin to while a store is gone.
    if ("error" in repair && repair.error.code !== "unavailable") throw repair.error;
    for (const disk of wiped) {
      disk.isWiped = false;
      if (disk.objects.has(IDENTITY_NAME)) throw new Violation(`${disk.label} lost everything and was taken for new`);
      if ("value" in repair && (repair.value.whole || !repair.value.unheard.includes(disk.label))) {
        throw new Violation(`repair does not say that ${disk.label} lost everything: ${JSON.stringify(repair.value)}`);
      }
    }
    return wiped.map((disk) => disk.label);
  }

  /** What was lost under an address that the file does not have any more has to be given up by name. */
  async #forgetGone(machine: Machine): Promise<void> {
    const process = this.#open(machine);
    await process.context.listen();
    for (const { label } of process.context.ledger.absentees) await process.pool.maintenance.forget(label);
    await process.pool.close();
    this.#kill(process);
  }

  /** Two writes of one name that died, one over the other, may leave copies that nothing decides between: both are kept. */
  #isUndecidable(left: readonly Finding[]): boolean {
    const now = this.#events + 1;
    return (
      left.some((finding) => finding.kind === "conflict") &&
      left.every(({ object }) => {
        const model = this.#models.get(object);
        return (
          model !== undefined &&
          model.legal(now, now + 1).filter((write) => !write.acknowledged || write.found).length > 1
        );
      })
    );
  }

  /**
   * A store whose making was not confirmed may have got a copy before it was looked through. Once the pool has forgotten
   * what that copy was, it counts as a file of the store's own, which is kept and named.
   */
  #isTakenForItsOwn(left: readonly Finding[]): boolean {
    const ids = this.#idsOf();
    const stores = this.#segmentsOn(this.#disks).flatMap((segment) => segment.stores ?? []);
    return (
      !this.#config.founded &&
      left.length > 0 &&
      left.every(({ kind, object, store }) => {
        const model = this.#models.get(object);
        const disk = this.#disks.find(({ label }) => label === store);
        const value = disk?.objects.get(object)?.toString();
        const isJoining = stores.some(({ id, state }) => id === ids.get(store ?? "") && state === "joining");
        return kind === "conflict" && isJoining && value !== undefined && model?.ever.has(value) === true;
      })
    );
  }

  #writes(): number {
    return this.#disks.reduce((sum, disk) => sum + disk.writes, 0);
  }

  /** Damages stores that are in order: verify names all of it and nothing else, repair mends what can be mended. */
  async #checkCare(machine: Machine, values: ReadonlyMap<string, Value>): Promise<void> {
    const order = {
      disks: this.#disks,
      values,
      spread: this.#config.mode === "stripe",
      former: (name: string) => [...(this.#models.get(name)?.ever ?? [])].filter((value) => value !== undefined),
      deleted: new Set([...values.keys()].filter((name) => this.#recordOn(this.#disks, name)?.kind === "delete")),
    };
    const corruptions = corrupt(order, this.#random);
    this.#note(() => `corruptions: ${JSON.stringify(corruptions)}`);
    const lost = lostOf(order);
    const adopted = corruptions.filter(({ kinds }) => kinds.includes("unrecorded")).map(({ object }) => object);
    const before = this.#disks.map((disk) => new Map(disk.objects));
    const writes = this.#writes();
    const found: Finding[] = [];
    const verifier = this.#open(this.#random.chance(0.5) ? this.#stranger() : machine);
    await verifier.pool.maintenance.verify({ resume: false, onFinding: (finding) => found.push(finding) });
    this.#kill(verifier);
    const wrong = compareFindings(corruptions, found);
    if (wrong !== undefined) throw new Violation(`verify: ${wrong}`);
    if (this.#writes() !== writes) throw new Violation("verify wrote");

    const report = await this.#repairAlone(machine);
    const left = [...new Set(report.left.map(({ object }) => object))].sort();
    if (left.join() !== [...lost].sort().join() || report.whole !== (lost.length === 0)) {
      throw new Violation(`repair should leave ${lost.join()}: ${JSON.stringify(report)}`);
    }
    const repaired = this.#writes();
    const again = await this.#repairAlone(machine);
    if (this.#writes() !== repaired) throw new Violation(`a second repair wrote: ${JSON.stringify(again)}`);
    const reader = this.#open(machine);
    await reader.context.open();
    for (const [name, value] of [...values, ...adopted.map((name) => [name, "put by hand"] as const)]) {
      if (lost.includes(name)) {
        await this.#checkLost(reader, name, value, before);
      } else {
        if (value !== undefined || !adopted.includes(name)) this.#checkCopies(reader, name, value);
        if (value === undefined) continue;
        const read = await this.#attempt(async () => collect((await reader.pool.get(name)).body));
        if (!("value" in read) || Buffer.from(read.value).toString() !== value) {
          throw new Violation(`${name} should be ${value} after repair: ${describeResult(read)}`);
        }
      }
    }
    this.#kill(reader);
  }

  /** What no store has good any more is an error, and stands as it stood. */
  async #checkLost(
    reader: Process,
    name: string,
    value: Value,
    before: readonly ReadonlyMap<string, Buffer>[],
  ): Promise<void> {
    const read = await this.#attempt(async () => collect((await reader.pool.get(name)).body));
    // Pieces that are good on one store and on another make the whole.
    const isRight = "value" in read && Buffer.from(read.value).toString() === value;
    if (!isRight && (!("error" in read) || read.error.code === "not-found")) {
      throw new Violation(`${name} is lost, and a read says ${describeResult(read)}`);
    }
    for (const [place, disk] of this.#disks.entries()) {
      if (before[place]?.get(name)?.toString() === disk.objects.get(name)?.toString()) continue;
      throw new Violation(`repair changed ${name} on ${disk.label}, although it is lost`);
    }
  }

  /** Repairs with a process of its own. */
  async #repairAlone(machine: Machine, refill: readonly string[] = []): Promise<RepairReport> {
    const process = this.#open(machine);
    const report = await process.pool.maintenance.repair({ refill });
    await process.pool.close();
    this.#kill(process);
    this.#note(() => `repair: ${JSON.stringify(report)}`);
    return report;
  }

  /** A machine that knows nothing. */
  #stranger(): Machine {
    return {
      id: this.#random.hex(4),
      wall: { offsetMs: EPOCH_MS },
      addresses: new Map(),
      cache: { indexes: new Map(), pools: new Map() },
    };
  }

  async #checkFinal(machine: Machine, loose: boolean): Promise<ReadonlyMap<string, Value>> {
    const process = this.#open(machine);
    const writes = this.#writes();
    const report = await process.pool.maintenance.verify({ resume: false });
    if (!loose && report.findings > 0)
      throw new Violation(`verify finds fault after repair: ${JSON.stringify(report)}`);
    if (this.#writes() !== writes) throw new Violation("verify wrote");
    const values = new Map<string, Value>();
    for (const model of this.#models.values()) {
      const value = await this.#readFinal(process, model, loose);
      values.set(model.name, value);
      if (!loose && !this.#config.nested) this.#checkCopies(process, model.name, value);
    }
    const listed: string[] = [];
    for await (const { name } of process.pool.list("")) listed.push(name);
    const expected = [...values].filter(([, value]) => value !== undefined).map(([name]) => name);
    if (!loose && listed.join() !== expected.sort().join()) {
      throw new Violation(`the final listing is ${listed.join()}; it should be ${expected.join()}`);
    }
    if (!loose)
      for await (const debt of process.pool.maintenance.debts())
        throw new Violation(`a debt is left: ${JSON.stringify(debt)}`);
    this.#kill(process);
    // A machine that knows nothing, and each of those that took part, see the same.
    const others = this.#machines.filter((one) => one !== machine && this.#random.chance(0.4));
    for (const other of [this.#stranger(), ...others]) {
      const reader = this.#open(other);
      for (const model of this.#models.values()) {
        const value = await this.#readFinal(reader, model, loose);
        if (!loose && !model.mayBeLost && value !== values.get(model.name)) {
          throw new Violation(
            `machines disagree on ${model.name}: ${String(value)} and ${String(values.get(model.name))}`,
          );
        }
      }
      this.#kill(reader);
    }
    return values;
  }

  async #readFinal(process: Process, model: NameModel, loose: boolean): Promise<Value> {
    const start = ++this.#events;
    const legal = model.legal(start, start + 1);
    let value: Value;
    try {
      const { body } = await process.pool.get(model.name);
      value = Buffer.from(await collect(body)).toString();
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      if (error.code !== "not-found") {
        if (loose || model.mayBeLost) return undefined;
        throw new Violation(`${model.name} cannot be read in the end: ${error.code} ${error.message}`);
      }
    }
    if (legal.some((write) => write.value === value) || model.tainted) return value;
    if (loose && model.ever.has(value)) return value;
    throw new Violation(
      `${model.name} is ${String(value)} in the end; it may only be ${this.#legalText(model, start, start + 1)}`,
    );
  }

  #checkCopies(process: Process, name: string, value: Value): void {
    const targets = process.context.targets(name).map((member) => member.label);
    const holders: string[] = [];
    for (const disk of this.#disks) {
      const copy = disk.objects.get(name)?.toString();
      if (copy === undefined) continue;
      if (copy !== value) throw new Violation(`${disk.label} has ${copy} as ${name} in the end, not ${String(value)}`);
      holders.push(disk.label);
    }
    const expected = value === undefined ? [] : this.#config.mode === "mirror" ? [...targets].sort() : undefined;
    if (expected === undefined ? holders.length === 0 : holders.sort().join() !== expected.join()) {
      throw new Violation(`${name} is on ${holders.join()} in the end; targets ${targets.join()}`);
    }
  }
}

/** A change of a name that is under way. */
interface Change {
  /** To be called when it has ended. */
  readonly release: () => void;
  /** Whether nothing else, repair neither, changed the name at any time meanwhile. */
  readonly isAlone: () => boolean;
}

/** A good copy, as it stood when a read began. */
/** What was wrong before an operation began. */
interface Excuse {
  readonly count: number;
  readonly calm: boolean;
  /** Whether every store has an identity. */
  readonly isMade: boolean;
}

interface Standing {
  readonly disk: Disk;
  readonly value: Value;
  readonly count: number;
}

function addressOf({ addresses }: Machine, label: string): string {
  return addresses.get(label) ?? `place of ${label}`;
}

async function collectAll<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function describeBytes(bytes: Buffer | undefined): string {
  if (bytes === undefined) return "nothing";
  return bytes.length > 4096 || bytes[0] === 0x1f ? `${bytes.length} bytes` : bytes.toString().trim();
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function describeResult(result: { readonly value: unknown } | { readonly error: HoldfastError }): string {
  return "error" in result ? `${result.error.code} ${result.error.message}` : (JSON.stringify(result.value) ?? "done");
}
