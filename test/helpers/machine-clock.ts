/** The clocks of machines: apart from each other by what a test says, moved on by hand, and all at once. */
import { abortError } from "../../src/contract/errors.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Runtime } from "../../src/contract/runtime.ts";

/** Who sleeps as long, in milliseconds, does not sleep for real: the time passes for all machines at once. */
const LONG_MS = 1000;

export class MachineClock {
  #passedMs = 0;
  /** Called once, as soon as time has passed. */
  onPass: (() => void) | undefined;

  /** Those that are to fire, with the time of all machines at which they do. */
  readonly #timers = new Set<{ readonly atMs: number; readonly fire: () => void }>();

  /** Lets time pass, and lets the timers fire whose time has come. */
  pass(ms: number): void {
    this.#passedMs += ms;
    for (const timer of this.#timers) if (timer.atMs <= this.#nowMs()) timer.fire();
    const { onPass } = this;
    this.onPass = undefined;
    onPass?.();
  }

  /** A machine whose wall clock is `aheadMs` ahead of the others'; negative: behind. */
  runtime(aheadMs = 0): Runtime {
    return {
      ...systemRuntime,
      now: () => systemRuntime.now() + this.#passedMs + aheadMs,
      monotonicMs: () => this.#nowMs(),
      sinceBoot: () => undefined,
      sleep: async (ms, signal) => {
        if (ms < LONG_MS) return systemRuntime.sleep(ms, signal);
        if (signal?.aborted === true) throw abortError(signal);
        this.pass(ms);
        // What the timers began goes on before the sleeper does.
        await new Promise((resolve) => void setImmediate(resolve));
      },
      // It fires when so much time has passed by itself, too.
      timer: (ms, fire) => {
        const stop = (): void => {
          cancel();
          this.#timers.delete(timer);
        };
        const timer = {
          atMs: this.#nowMs() + ms,
          fire: () => {
            stop();
            fire();
          },
        };
        const cancel = systemRuntime.timer(ms, timer.fire);
        this.#timers.add(timer);
        return stop;
      },
    };
  }

  #nowMs(): number {
    return systemRuntime.monotonicMs() + this.#passedMs;
  }
}
