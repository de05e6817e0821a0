/**
 * Who acts: machines, the processes on them, and the calls and timers that these wait for.
 *
 * Nothing here chooses. A process gives calls of stores and timers; whoever drives it lets one of them happen, and the
 * process goes on until it waits again. What a process does depends on nothing but what it was told, in the order in
 * which it was told: it has its own clock and its own random numbers.
 */
import { abortError, HoldfastError } from "../../../src/contract/errors.ts";
import type { Operation } from "../../../src/contract/errors.ts";
import { isReserved } from "../../../src/contract/names.ts";
import type { Runtime } from "../../../src/contract/runtime.ts";
import { sleepOn } from "../sleep-on.ts";
import { Random } from "../random.ts";
import type { Disk } from "../sim-store.ts";
import { Violation } from "../world.ts";
import { Hash } from "./hash.ts";
import { storeLabel } from "./scenario.ts";

export const EPOCH_MS = 1_700_000_000_000;
/** Timers up to this are part of ordinary work; longer ones are there for when something hangs. */
export const SOON_MS = 1000;
/** Calls of one process that nobody else runs beside, at most: what asks more often goes round for ever. */
const MOST_CALLS = 20_000;

/** What a store says to a call, and a text or bytes that stand for it. */
export type Answer<T> = { readonly value: T; readonly told: string | Uint8Array } | { readonly error: HoldfastError };

/** What a call reads or writes of one store. */
export interface Touch {
  /** The store. */
  readonly place: number;
  readonly writes: boolean;
  /** The object; of a listing the prefix. */
  readonly name: string;
  readonly isPrefix: boolean;
}

/** A call of a store that is under way. */
export interface Call {
  readonly process: Process;
  readonly operation: Operation;
  readonly touch: Touch;
  /** Its place in the order in which the process made its calls. */
  readonly order: number;
  /** How many calls had been answered when it was made: those of one batch were made at once. */
  readonly batch: number;
  /** What it is about stood on the store when it was made. */
  readonly existed: boolean;
  /** What it puts, for people. */
  readonly text: string;
  /** Takes effect, and answers. */
  readonly act: (disk: Disk) => Answer<unknown>;
  readonly settle: (answer: Answer<unknown>) => void;
}

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly soon: boolean;
  readonly fire: () => void;
}

/** A machine: one clock, and what its processes share. */
export class Machine {
  readonly place: number;
  /** 8 hexadecimal digits. */
  readonly id: string;
  /** A clock that only goes forward, in milliseconds. */
  nowMs = 0;
  /** Added to it, in milliseconds since 1970. */
  wallMs: number;
  /** Stores that it does not reach. */
  readonly cut = new Set<number>();
  readonly processes: Process[] = [];
  /** What was changed so far in what it keeps of the pool, in that order. */
  readonly changes = new Hash();

  constructor(place: number, id: string, skewMs: number) {
    this.place = place;
    this.id = id;
    this.wallMs = EPOCH_MS + skewMs;
  }

  /** What its processes share, and each of them sees. */
  shared(): Hash {
    const hash = new Hash()
      .hash(this.changes)
      .number(this.nowMs)
      .number(this.wallMs - EPOCH_MS);
    for (const place of [...this.cut].sort((a, b) => a - b)) hash.number(place);
    for (const { dead } of this.processes) hash.number(dead ? 1 : 0);
    return hash;
  }
}

export class Process {
  readonly machine: Machine;
  /** All that it was told so far, in that order. */
  readonly history = new Hash();
  /** One letter. */
  readonly letter: string;
  dead = false;
  /** Calls are answered at once: nothing happens beside them. */
  calm: boolean;
  calls: Call[] = [];
  readonly runtime: Runtime;
  readonly #disks: readonly Disk[];
  #timers: Timer[] = [];
  #order = 0;
  #answered = 0;
  #lastBatch = -1;

  constructor(machine: Machine, letter: string, disks: readonly Disk[], calm: boolean) {
    this.machine = machine;
    machine.processes.push(this);
    this.letter = letter;
    this.calm = calm;
    this.#disks = disks;
    const random = new Random(letter.charCodeAt(0) * 1000 + machine.place);
    this.runtime = {
      now: () => machine.nowMs + machine.wallMs,
      monotonicMs: () => machine.nowMs,
      sleep: (ms, signal) => sleepOn((fire) => this.#timer(ms, fire), signal),
      timer: (ms, fire) => this.#timer(ms, fire),
      random: () => random.next(),
      randomHex: (bytes) => random.hex(bytes),
    };
  }

  /** A call of a store, which is answered when the call is chosen. */
  call<T>(
    operation: Operation,
    touch: Touch,
    text: string,
    signal: AbortSignal | undefined,
    act: (disk: Disk) => Answer<T>,
  ): Promise<T> {
    if (this.calm) return this.#atOnce(operation, touch, act);
    return new Promise((resolve, reject) => {
      if (this.dead) return;
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      const onAbort = (): void => {
        this.calls = this.calls.filter((one) => one !== call);
        if (signal !== undefined) reject(abortError(signal));
      };
      const call: Call = {
        process: this,
        operation,
        touch,
        order: this.#order++,
        batch: this.#answered,
        existed: this.disk(touch.place).objects.has(touch.name),
        text,
        act,
        settle: (answer) => {
          this.#answered++;
          this.#lastBatch = call.batch;
          signal?.removeEventListener("abort", onAbort);
          this.calls = this.calls.filter((one) => one !== call);
          if ("error" in answer) reject(answer.error);
          else resolve(answer.value as T);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.calls.push(call);
    });
  }

  #atOnce<T>(operation: Operation, touch: Touch, act: (disk: Disk) => Answer<T>): Promise<T> {
    if (this.dead || ++this.#answered > MOST_CALLS) return new Promise(() => undefined);
    if (this.machine.cut.has(touch.place)) return Promise.reject(unreachable(operation, touch));
    const answer = act(this.disk(touch.place));
    return "error" in answer ? Promise.reject(answer.error) : Promise.resolve(answer.value);
  }

  disk(place: number): Disk {
    const disk = this.#disks[place];
    if (disk === undefined) throw new Error("no such store");
    return disk;
  }

  /** It has nothing to do, and waits for nothing that comes soon. */
  get isIdle(): boolean {
    return this.dead || (this.calls.length === 0 && this.nextTimer()?.soon !== true);
  }

  /** Of the calls that were made at once, one was answered last, and others are still under way. */
  get isMidBatch(): boolean {
    return this.calls.some(({ batch }) => batch === this.#lastBatch);
  }

  /** The timer that is due first. */
  nextTimer(): Pick<Timer, "soon" | "atMs"> | undefined {
    return this.#timers.reduce<Timer | undefined>(
      (first, timer) =>
        first === undefined || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order)
          ? timer
          : first,
      undefined,
    );
  }

  /** Time goes on, for the machine, to the timer that is due first. */
  fireTimer(): void {
    const timer = this.nextTimer() as Timer | undefined;
    if (timer === undefined) return;
    this.#timers = this.#timers.filter((one) => one !== timer);
    this.machine.nowMs = Math.max(this.machine.nowMs, timer.atMs);
    timer.fire();
  }

  /** The process stops at this instant. */
  die(): void {
    this.dead = true;
    this.calls = [];
    this.#timers = [];
  }

  #timer(ms: number, fire: () => void): () => void {
    const timer: Timer = { atMs: this.machine.nowMs + ms, order: this.#order++, soon: ms <= SOON_MS, fire };
    if (!this.dead) this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }
}

export function unreachable(operation: Operation, { place, name }: Touch): HoldfastError {
  const store = storeLabel(place);
  return new HoldfastError("unavailable", "simulated: unavailable", { store, operation, object: name });
}

/** Resolves when no promise has anything left to do. */
export function quiet(): Promise<void> {
  // A tick comes when all microtasks have run; the microtask around it makes Node look at those first.
  return new Promise((resolve) => queueMicrotask(() => process.nextTick(resolve)));
}

/** Runs the work of a calm process to its end; time goes on whenever it waits. */
export async function runCalm<T>(one: Process, work: () => Promise<T>): Promise<T> {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  work().then(
    (value) => {
      outcome = { value };
    },
    (error: unknown) => {
      outcome = { error };
    },
  );
  for (;;) {
    await quiet();
    if (outcome !== undefined) break;
    if (one.nextTimer() === undefined) throw new Violation("something waits for what will never happen");
    one.fireTimer();
  }
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}

/** Whether the order in which two touches happen can be told afterwards. */
export function conflict(a: Touch, b: Touch): boolean {
  if (a.place !== b.place || (!a.writes && !b.writes)) return false;
  if (a.isPrefix) return b.name.startsWith(a.name);
  return b.isPrefix ? a.name.startsWith(b.name) : a.name === b.name;
}

/** Names that are written once: what stands there is never changed. That nobody does is watched. */
export function isWrittenOnce(name: string): boolean {
  return isReserved(name);
}
