/**
 * The world of a simulation: a virtual clock, and the choice, from a seed, of what happens next.
 *
 * Everything that would take time parks here: each call of a store several times, each timer, each sleep. Whenever all
 * code has come to rest, the world resumes one of those that are parked, or, when only timers are left, lets time pass.
 * Nothing else in the process is asynchronous, so that the same seed gives the same run.
 */
import { abortError } from "../../src/contract/errors.ts";
import type { Runtime } from "../../src/contract/runtime.ts";
import { sleepOn } from "./sleep-on.ts";
import type { Random } from "./random.ts";

/** A process that runs holdfast: when it dies, nothing of it ever runs again. */
export interface Owner {
  dead: boolean;
  /** How often it asked a store to change something. */
  changes?: number;
}

interface Parked {
  readonly owner: Owner;
  readonly resume: () => void;
  /** What may still happen outside of a process that died while it waited. */
  readonly onKill: (() => void) | undefined;
}

interface Timer {
  readonly owner: Owner;
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
  readonly onKill: (() => void) | undefined;
}

const DONE = Promise.resolve();

/** Why a schedule ended before its end: a check that failed, or a world that came to a stop. */
export class Violation extends Error {}

export class World {
  readonly random: Random;
  /** A clock that only goes forward, in milliseconds. */
  nowMs = 0;
  steps = 0;
  /** Nothing runs beside anything else: there is nothing to choose, and what parks goes on at once. */
  calm = false;
  readonly maxSteps: number;
  /** Called between two steps; may kill processes. */
  onStep: (() => void) | undefined;
  #ready: Parked[] = [];
  #timers: Timer[] = [];
  /** When the first of the timers is due, or before. */
  #nextMs = Infinity;
  #order = 0;

  constructor(random: Random, maxSteps: number) {
    this.random = random;
    this.maxSteps = maxSteps;
  }

  /** Counts a step, and says whether it need not wait: the world is calm, and has not gone on for too long. */
  passes(owner: Owner): boolean {
    return this.calm && !owner.dead && ++this.steps <= this.maxSteps;
  }

  /** Waits for the world to choose this one. Rejects when the signal fires first. */
  park(owner: Owner, signal?: AbortSignal, onKill?: () => void): Promise<void> {
    // What goes round for ever stops here, and the world notices that nothing else is left to do.
    if (this.calm && !owner.dead) return this.passes(owner) ? DONE : new Promise(() => undefined);
    return new Promise((resolve, reject) => {
      if (owner.dead) return;
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      if (signal === undefined) {
        this.#ready.push({ owner, resume: resolve, onKill });
        return;
      }
      const onAbort = (): void => {
        this.#ready = this.#ready.filter((one) => one !== parked);
        reject(abortError(signal));
      };
      const parked: Parked = {
        owner,
        onKill,
        resume: () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#ready.push(parked);
    });
  }

  /** Lets `ms` pass. */
  pass(owner: Owner, ms: number, signal?: AbortSignal, onKill?: () => void): Promise<void> {
    if (owner.dead) return new Promise(() => undefined);
    return sleepOn((fire) => this.timer(owner, ms, fire, onKill), signal);
  }

  /** Lets `ms` pass at once, but no more than to what is waited for next. */
  skip(ms: number): void {
    const toMs = this.#timers.reduce((least, timer) => Math.min(least, timer.atMs), this.nowMs + ms);
    if (this.#ready.length === 0) this.nowMs = Math.max(this.nowMs, toMs);
  }

  timer(owner: Owner, ms: number, fire: () => void, onKill?: () => void): () => void {
    const timer: Timer = { owner, atMs: this.nowMs + ms, order: this.#order++, fire, onKill };
    if (!owner.dead) {
      this.#timers.push(timer);
      this.#nextMs = Math.min(this.#nextMs, timer.atMs);
    }
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  /** The process stops at this instant. */
  kill(owner: Owner): void {
    owner.dead = true;
    const parked = this.#ready.filter((one) => one.owner === owner);
    const timers = this.#timers.filter((one) => one.owner === owner);
    this.#ready = this.#ready.filter((one) => one.owner !== owner);
    this.#timers = this.#timers.filter((one) => one.owner !== owner);
    for (const one of parked) one.onKill?.();
    for (const one of timers) one.onKill?.();
  }

  /** Lets things happen until `done` says that it is enough. `begun`: it began something, which has to come to rest first. */
  run(done: () => boolean | "begun"): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          this.onStep?.();
          const state = done();
          if (state === true) {
            resolve();
            return;
          }
          if (state === false) this.#advance();
        } catch (error) {
          // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- a violation, passed on
          reject(error);
          return;
        }
        next();
      };
      // A tick comes when no promise has anything left to do; the microtask around it makes Node look at those first.
      const next = (): void => queueMicrotask(() => process.nextTick(step));
      // Whatever the caller began comes to rest before the first choice.
      next();
    });
  }

  #advance(): void {
    if (++this.steps > this.maxSteps) throw new Violation(`no end after ${this.maxSteps} steps`);
    const { length } = this.#ready;
    if (length > 0) {
      this.nowMs += this.random.below(4);
      const at = length === 1 ? 0 : this.random.below(length);
      const [parked] = this.#ready.splice(at, 1);
      parked?.resume();
      this.#fireDue();
      return;
    }
    let next: Timer | undefined;
    for (const timer of this.#timers) if (next === undefined || timer.atMs < next.atMs) next = timer;
    if (next === undefined) throw new Violation("something waits for what will never happen");
    this.nowMs = Math.max(this.nowMs, next.atMs);
    this.#fireDue();
  }

  #fireDue(): void {
    if (this.#nextMs > this.nowMs) return;
    const due = this.#timers.filter((timer) => timer.atMs <= this.nowMs);
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.nowMs);
    this.#nextMs = this.#timers.reduce((least, timer) => Math.min(least, timer.atMs), Infinity);
    due.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
    for (const timer of due) timer.fire();
  }
}

/** The wall clock of one machine. */
export interface WallClock {
  /** Added to the world's time, in milliseconds since 1970. */
  offsetMs: number;
}

/** The runtime of one process on one machine. */
export function simRuntime(world: World, owner: Owner, wall: WallClock): Runtime {
  return {
    now: () => world.nowMs + wall.offsetMs,
    monotonicMs: () => world.nowMs,
    sleep: (ms, signal) => world.pass(owner, ms, signal),
    timer: (ms, fire) => world.timer(owner, ms, fire),
    random: () => world.random.next(),
    randomHex: (bytes) => world.random.hex(bytes),
  };
}
