/**
 * One run of a scenario: says what may happen next, and lets one of these things happen.
 *
 * A step is: a call takes effect and is answered (or a fault strikes it), a process begins its next operation, a timer
 * fires, a process dies, a clock is set, what timed out takes effect. The code of the process then runs until all of it
 * waits again. Steps that no other machine can tell from others are taken at once, see `isSilent`.
 */
import { HoldfastError } from "../../../src/contract/errors.ts";
import { isReserved } from "../../../src/contract/names.ts";
import type { Disk } from "../sim-store.ts";
import { Violation } from "../world.ts";
import { isWrittenOnce, Machine, Process, quiet, runCalm, unreachable } from "./actors.ts";
import type { Answer, Call, Touch } from "./actors.ts";
import { disksOf, machineId } from "./ground.ts";
import type { Ground } from "./ground.ts";
import { Hash } from "./hash.ts";
import { describeDeed, isOfNames, perform } from "./history.ts";
import type { Deed } from "./history.ts";
import { openPool } from "./processes.ts";
import { combinations, isDone, toldText } from "./step.ts";
import type { Actor, Step, Straggler } from "./step.ts";
import type { Faults, Scenario } from "./scenario.ts";
import { storeLabel } from "./scenario.ts";

/** When runs begin, in milliseconds behind the ground. */
const BEGIN_MS = 60_000;
const MOST_STEPS = 5000;
/** By how much `pass` lets time go on, and a clock is set, in milliseconds. */
const PASS_MS = 2000;
const CLOCK_MS = 10_000;

/**
 * Which steps are left to no choice.
 *
 * - `none`: all are chosen.
 * - `wary`: timers of a process that does nothing else, and operations that begin, follow from what is chosen.
 * - `trusting`: reading what is written once, too; should somebody change that, `hasRewritten` says so.
 */
export type Reduction = "none" | "wary" | "trusting";

export class Execution {
  readonly scenario: Scenario;
  readonly disks: readonly Disk[];
  readonly deeds: readonly Deed[];
  readonly trace: string[] = [];
  /** Steps so far. */
  steps = 0;
  /** The last step that was taken ended an operation that says or asks what names have. */
  hasEnded = false;
  /** The last step that was taken changed what the processes of its machine share. */
  hasShared = false;
  /** What went wrong otherwise than by an error that Holdfast may give. */
  failure: Error | undefined;
  /** Somebody changed what is taken to be written once. */
  hasRewritten = false;
  readonly #machines: readonly Machine[];
  readonly #actors: readonly Actor[];
  readonly #traced: boolean;
  readonly #reduction: Reduction;
  readonly #faults: { -readonly [kind in keyof Faults]: number };
  #stragglers: Straggler[] = [];
  /** Bits of the deeds that have ended. */
  #ended = 0;
  /** The process that began an operation, until it makes its first step that others can tell. */
  #bound: Actor | undefined;

  constructor(scenario: Scenario, ground: Ground, reduction: Reduction, traced = false) {
    this.scenario = scenario;
    this.#traced = traced;
    this.#reduction = reduction;
    this.#faults = { ...scenario.faults };
    this.disks = disksOf(ground.disks);
    const machines: Machine[] = [];
    const actors: Actor[] = [];
    const segments = new Set(ground.disks.flatMap((objects) => [...objects.keys()].filter(isReserved)));
    let bit = 1;
    for (const [place, processes] of scenario.machines.entries()) {
      const machine = new Machine(place, machineId(place), scenario.clocksMs[place] ?? 0);
      machine.nowMs = BEGIN_MS;
      machines.push(machine);
      const isShared = processes.length > 1;
      const cache = ground.caches[place]?.copy(segments, isShared ? machine.changes : undefined);
      if (cache === undefined) throw new Error("no such machine");
      for (const steps of processes) {
        const letter = "abcdefgh"[actors.length] ?? "?";
        const process = new Process(machine, letter, this.disks, true);
        const deeds = steps.map((step, number): Deed => {
          const own = isOfNames(step) ? bit : 0;
          if (own !== 0) bit <<= 1;
          return {
            process: letter,
            step,
            value: `${letter}${number + 1}`,
            bit: own,
            after: 0,
            reach: 0,
            state: "waiting",
            result: undefined,
          };
        });
        actors.push({
          place: actors.length,
          process,
          opened: openPool(process, scenario, cache),
          deeds,
          next: 0,
          running: undefined,
        });
      }
    }
    this.#machines = machines;
    this.#actors = actors;
    this.deeds = actors.flatMap((actor) => actor.deeds);
  }

  /** Everything before the first choice. */
  async begin(): Promise<void> {
    for (const { process, opened } of this.#actors) {
      if (!this.scenario.cold) await runCalm(process, () => opened.pool.maintenance.stores());
      process.calm = false;
    }
    for (const disk of this.disks) disk.onWrite = undefined;
    for (const [machine, store] of this.scenario.apart) this.#machines[machine]?.cut.add(store);
    await this.#settle(this.#machines);
  }

  /** What may happen next. None: the run has ended. */
  options(): readonly Step[] {
    if (this.failure !== undefined) return [];
    const all = this.#machines.flatMap((machine) => this.#stepsOf(machine));
    if (this.#bound !== undefined) {
      const { place } = this.#bound;
      const own = all.filter(({ agent }) => agent === place);
      if (own.length > 0) return own;
    }
    return [...all, ...this.#stragglers.map((straggler) => this.#landing(straggler))];
  }

  /** Lets one of the options happen, and what follows from it without a choice. */
  async take(step: Step): Promise<void> {
    this.hasEnded = false;
    if (!step.begins) this.#bound = undefined;
    this.#count();
    const machine = this.#machines[step.machine];
    const before = machine !== undefined && machine.processes.length > 1 ? machine.shared().toString() : "";
    step.run();
    await this.#settle(machine === undefined ? [] : [machine]);
    this.hasShared = before !== "" && before !== machine?.shared().toString();
  }

  /** Whether the process that began an operation is bound to go on. */
  get isBound(): boolean {
    return this.#bound !== undefined;
  }

  /** Whether a process has been answered some of the calls that it made at once, and not all. */
  isMidBatch(agent: number): boolean {
    return this.#actors[agent]?.process.isMidBatch ?? false;
  }

  /** Operations that have neither ended nor been cut short. */
  get isStuck(): boolean {
    return this.#actors.some(({ running, process }) => running !== undefined && !process.dead);
  }

  /** Two runs with the same key have the same future. */
  key(): string {
    const hash = new Hash();
    for (const { process } of this.#actors) hash.hash(process.history);
    for (const machine of this.#machines) hash.hash(machine.shared());
    hash.hash(this.#hashOfDisks());
    const stragglers = new Hash(0, 0);
    for (const { id, touch, text } of this.#stragglers) {
      stragglers.plus(new Hash().text(id).number(touch.place).text(touch.name).text(text));
    }
    hash.hash(stragglers);
    for (const { after, reach } of this.deeds) hash.number(after).number(reach);
    for (const left of Object.values(this.#faults)) hash.number(left);
    return hash.number(this.#bound?.place ?? -1).toString();
  }

  /** Two ends with the same key are judged alike. `order`: it counts what had ended before what began. */
  endKey(order: boolean): string {
    const hash = new Hash().hash(this.#hashOfDisks());
    for (const { after, reach, state, result } of this.deeds) {
      hash
        .number(order ? after : 0)
        .number(reach)
        .text(state)
        .text(JSON.stringify(result) ?? "");
    }
    return hash.toString();
  }

  #hashOfDisks(): Hash {
    const sum = new Hash(0, 0);
    for (const [place, disk] of this.disks.entries()) {
      for (const [name, bytes] of disk.objects) sum.plus(new Hash().number(place).text(name).bytes(bytes));
    }
    return sum;
  }

  #count(): void {
    if (++this.steps > MOST_STEPS) this.failure ??= new Violation(`no end after ${MOST_STEPS} steps`);
  }

  note(line: () => string): void {
    if (this.#traced) this.trace.push(line());
  }

  /** Lets the code run, and takes the steps of these machines that nobody else can tell from others. */
  async #settle(machines: readonly Machine[]): Promise<void> {
    for (;;) {
      await quiet();
      if (this.failure !== undefined) return;
      const silent = this.#silentStep(machines);
      if (silent === undefined) return;
      this.#count();
      silent.run();
    }
  }

  #silentStep(machines: readonly Machine[]): Step | undefined {
    if (this.#reduction === "none") return undefined;
    for (const machine of machines) {
      // What one process reads, another one of the same machine may find in what they share.
      const able = this.#actors.filter((actor) => actor.process.machine === machine && !isDone(actor));
      if (able.length > 1) continue;
      const steps = this.#stepsOf(machine);
      if (steps.length === 1 && steps[0]?.isSilent === true) return steps[0];
    }
    return undefined;
  }

  // -------------------------------------------------------------------------------------------------------- steps

  #stepsOf(machine: Machine): Step[] {
    const own = this.#actors.filter(({ process }) => process.machine === machine && !process.dead);
    const steps = own.flatMap((actor) => this.#stepsOfProcess(actor));
    const isActive = own.some(({ running }) => running !== undefined);
    for (const kind of ["back", "forth"] as const) {
      if (machine.place !== 0 || !isActive || this.#faults[kind] === 0) continue;
      steps.push(
        this.#step(own[0], kind === "back" ? "-" : "+", [], () => {
          this.#faults[kind]--;
          machine.wallMs += kind === "back" ? -CLOCK_MS : CLOCK_MS;
        }),
      );
    }
    return steps;
  }

  #stepsOfProcess(actor: Actor): Step[] {
    const { process, running, deeds, next } = actor;
    const steps = this.#heads(process).flatMap((call) => this.#stepsOfCall(actor, call));
    if (process.calls.length === 0 || this.scenario.timers) {
      const timer = process.nextTimer();
      const isIdle = running !== undefined && process.calls.length === 0 && !this.#mayAnythingLand(process);
      if (timer !== undefined && (timer.soon || isIdle)) {
        const fire = (): void => process.fireTimer();
        steps.push({ ...this.#step(actor, "~", [], fire), isSilent: true });
        if (timer.soon && process.calls.length === 0 && this.#faults.crash > 0) steps.push(this.#crash(actor, []));
      }
    }
    const writes = process.calls.filter(({ touch }) => touch.writes && !this.#isCut(touch, process));
    if (this.#faults.crash > 0 && writes.length > 0 && this.#heads(process).some((head) => writes.includes(head))) {
      for (const landing of combinations(writes)) steps.push(this.#crash(actor, landing));
    }
    if (running === undefined && next < deeds.length) steps.push(this.#beginning(actor));
    return steps;
  }

  /**
   * Whether a change that another process asked for, or nobody waits for any more, has yet to take effect: that ends before
   * a long wait does.
   */
  #mayAnythingLand(waiting: Process): boolean {
    const others = this.#actors.filter(({ process }) => process !== waiting && !process.dead);
    return this.#stragglers.length > 0 || others.some(({ process }) => process.calls.some(({ touch }) => touch.writes));
  }

  /** The calls of a process that may be answered next. */
  #heads(process: Process): readonly Call[] {
    if (this.scenario.full || process.calls.length < 2) return process.calls;
    const order = this.scenario.orders.get(process.machine.place);
    const rank = ({ touch }: Call): number => order?.indexOf(touch.place) ?? 0;
    const [first] = [...process.calls].sort((a, b) => rank(a) - rank(b) || a.order - b.order);
    return first === undefined ? [] : [first];
  }

  #isCut(touch: Touch, process: Process): boolean {
    return process.machine.cut.has(touch.place);
  }

  #stepsOfCall(actor: Actor, call: Call): Step[] {
    const { process, touch } = call;
    const faults = this.#faults;
    const steps: Step[] = [];
    const disk = process.disk(touch.place);
    const failed = (): Answer<unknown> => ({ error: unreachable(call.operation, touch) });
    const add = (suffix: string, touches: readonly Touch[], act: () => Answer<unknown>, isSilent = false): void => {
      steps.push({ ...this.#answering(actor, call, suffix, touches, act), isSilent });
    };
    if (this.#isCut(touch, process)) {
      add("", [], failed, true);
      if (faults.heal > 0) {
        add("h", [touch], () => {
          faults.heal--;
          process.machine.cut.delete(touch.place);
          return this.#act(call.act, disk, touch);
        });
      }
      return steps;
    }
    add("", [touch], () => this.#act(call.act, disk, touch), this.#isSilent(call));
    if (faults.fail > 0) {
      add("f", [], () => {
        faults.fail--;
        return failed();
      });
    }
    if (faults.cut > 0) {
      add("c", [], () => {
        faults.cut--;
        process.machine.cut.add(touch.place);
        return failed();
      });
    }
    if (touch.writes && faults.lost > 0) {
      add("l", [touch], () => {
        faults.lost--;
        this.#act(call.act, disk, touch);
        return failed();
      });
    }
    if (touch.writes && faults.late > 0) add("t", [], () => this.#timeOut(call));
    return steps;
  }

  /** Of what is written once, what stands there stands there at any other moment too. */
  #isSilent({ touch, existed }: Call): boolean {
    return this.#reduction === "trusting" && existed && !touch.writes && !touch.isPrefix && isWrittenOnce(touch.name);
  }

  #act(act: (disk: Disk) => Answer<unknown>, disk: Disk, touch: Touch): Answer<unknown> {
    const before = disk.objects.get(touch.name);
    const answer = act(disk);
    if (touch.writes && before !== undefined && isWrittenOnce(touch.name)) {
      const now = disk.objects.get(touch.name);
      this.hasRewritten ||= now === undefined || !now.equals(before);
    }
    return answer;
  }

  #answering(actor: Actor, call: Call, suffix: string, touches: readonly Touch[], act: () => Answer<unknown>): Step {
    const { process, operation, touch, order, text } = call;
    const place = this.scenario.full ? String(process.calls.indexOf(call)) : "";
    return this.#step(actor, place + suffix, touches, () => {
      const answer = act();
      const { history } = process;
      history.number(order);
      if ("error" in answer) history.text(answer.error.code);
      else if (typeof answer.told === "string") history.text(answer.told);
      else history.bytes(answer.told);
      this.note(() => {
        const what = `${process.letter}: ${operation} ${storeLabel(touch.place)} ${touch.name} ${text}`.trimEnd();
        return `${what} -> ${"error" in answer ? answer.error.code : toldText(answer.told)}`;
      });
      call.settle(answer);
    });
  }

  #timeOut({ process, operation, touch, text, act, order }: Call): Answer<unknown> {
    this.#faults.late--;
    const id = `${process.letter}!${order}`;
    const agent = process.letter.charCodeAt(0) * 1000 + order;
    this.#stragglers.push({ id, agent, touch, text, act });
    const context = { store: storeLabel(touch.place), operation, object: touch.name };
    return { error: new HoldfastError("timeout", "simulated: timeout", context) };
  }

  #landing(straggler: Straggler): Step {
    const { id, agent, touch, text, act } = straggler;
    const run = (): void => {
      this.#stragglers = this.#stragglers.filter((one) => one !== straggler);
      this.note(() => `late: ${storeLabel(touch.place)} ${touch.name} ${text}`);
      const disk = this.disks[touch.place];
      if (disk !== undefined) this.#act(act, disk, touch);
    };
    return { id, agent, machine: -1, touches: [touch], begins: false, isSilent: false, run };
  }

  #crash(actor: Actor, landing: readonly Call[]): Step {
    const { process } = actor;
    const places = process.calls.map((call) => (landing.includes(call) ? "1" : "0")).join("");
    const touches = landing.map(({ touch }) => touch);
    return this.#step(actor, `x${places}`, touches, () => {
      this.#faults.crash--;
      this.note(() => `${process.letter}: dies; ${landing.length} of its calls take effect`);
      for (const { act, touch } of landing) this.#act(act, process.disk(touch.place), touch);
      process.die();
      if (actor.running !== undefined) this.#end(actor, actor.running, "cut short");
      actor.running = undefined;
    });
  }

  #beginning(actor: Actor): Step {
    const { process, opened, deeds } = actor;
    const run = (): void => {
      const deed = deeds[actor.next++];
      if (deed === undefined) return;
      actor.running = deed;
      deed.state = "running";
      deed.after = this.#ended;
      this.note(() => `${process.letter}: begins ${deed.step.kind} ${deed.step.on}`);
      if (deed.step.kind === "pass") process.machine.nowMs += PASS_MS;
      // On a machine of one process nothing is different before its first step that others can tell.
      const isOnly = process.machine.processes.length === 1;
      if (isOnly && this.#reduction !== "none") this.#bound = actor;
      perform(opened.pool, deed.step, deed.value).then(
        (result) => {
          if (process.dead) return;
          deed.result = result;
          actor.running = undefined;
          this.#end(actor, deed, "ended");
        },
        (error: unknown) => {
          this.failure ??= error instanceof Error ? error : new Error(String(error));
        },
      );
    };
    return { ...this.#step(actor, ">", [], run), begins: true };
  }

  #end({ process }: Actor, deed: Deed, state: "ended" | "cut short"): void {
    deed.state = state;
    for (const place of this.disks.keys()) if (!process.machine.cut.has(place)) deed.reach |= 1 << place;
    this.#ended |= deed.bit;
    if (deed.bit !== 0) this.hasEnded = true;
    this.#bound = undefined;
    this.note(() => describeDeed(deed));
  }

  #step(actor: Actor | undefined, suffix: string, touches: readonly Touch[], run: () => void): Step {
    if (actor === undefined) throw new Error("no process");
    const { machine, letter, history } = actor.process;
    const id = letter + suffix;
    return {
      id,
      agent: actor.place,
      machine: machine.place,
      touches,
      begins: false,
      isSilent: false,
      run: () => {
        history.text(id);
        // Whatever it does next, it does with what stands there now.
        if (machine.processes.length > 1) history.hash(machine.shared());
        run();
      },
    };
  }
}
