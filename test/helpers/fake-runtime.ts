/** A Runtime whose clock is moved by hand: timers fire in their order, at once, and nothing waits for real. */
import type { Runtime } from "../../src/contract/runtime.ts";
import { seededRandom } from "../../src/wrappers/faults.ts";
import { sleepOn } from "../simulation/sleep-on.ts";

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
}

export class FakeRuntime implements Runtime {
  #nowMs = 0;
  #order = 0;
  readonly #timers = new Set<Timer>();
  readonly #random: () => number;
  /** Lengths of all sleeps, in milliseconds, in the order in which they began. */
  readonly sleeps: number[] = [];

  constructor(seed = 1) {
    this.#random = seededRandom(seed);
  }

  now(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeps.push(ms);
    return sleepOn((fire) => this.timer(ms, fire), signal);
  }

  timer(ms: number, fire: () => void): () => void {
    const timer: Timer = { atMs: this.#nowMs + ms, order: this.#order++, fire };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  random(): number {
    return this.#random();
  }

  randomHex(bytes: number): string {
    return Array.from({ length: bytes }, () =>
      Math.floor(this.#random() * 256)
        .toString(16)
        .padStart(2, "0"),
    ).join("");
  }

  /** How many timers are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves the clock on, firing what is due on the way, each after the one before has had its effect. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (let next = this.#next(); next && next.atMs <= untilMs; next = this.#next()) await this.#fire(next);
    this.#nowMs = untilMs;
  }

  /** Moves the clock from timer to timer until the promise has settled, and passes on how. */
  async until<T>(promise: Promise<T>): Promise<T> {
    const state = { settled: false };
    const watched = promise.finally(() => {
      state.settled = true;
    });
    watched.catch(() => undefined);
    // Real work below (a file) takes several turns without any timer.
    for (let idle = 0; idle < 1000; idle++) {
      await settle();
      if (state.settled) return watched;
      const next = this.#next();
      if (!next) continue;
      idle = 0;
      await this.#fire(next);
    }
    throw new Error("nothing is left that could settle the promise");
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (!first || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order)) first = timer;
    }
    return first;
  }

  async #fire(timer: Timer): Promise<void> {
    this.#timers.delete(timer);
    this.#nowMs = Math.max(this.#nowMs, timer.atMs);
    timer.fire();
    await settle();
  }
}

/** Lets everything run that waits for nothing but its turn. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
