/**
 * Calls to the file system made in groups, in a thread of their own.
 *
 * A small file costs half a dozen system calls of some microseconds each; handing each to the thread pool and back costs
 * several times that. Here the calls of a whole group are made in a row on a worker, which one store has to itself: a
 * file system that hangs holds up that store alone. While one group is under way the next one gathers.
 */
import { Worker } from "node:worker_threads";

export interface GroupWork<Item, Result> {
  /**
   * What the worker runs: for each message, a list of items, it posts the list of their results. It stands alone:
   * nothing of the module that it is written in reaches it.
   */
  readonly run: (...parts: never[]) => void;
  /** What `run` is handed, in this order; each stands alone likewise. */
  readonly parts?: readonly ((...given: never[]) => unknown)[] | undefined;
  /** What an item takes of a group's bytes, at most. */
  readonly bytesOf: (item: Item) => number;
  /** The result of an item whose worker died. */
  readonly lost: (item: Item) => Result;
}

/** A file that takes so long, on average, waits for a disk or a network: the thread pool has several wait at a time. */
const SLOW_US = 2000;
/** The average is that of about so many files: on a busy machine a group of them takes ten times as long now and then. */
const AVERAGED = 256;
/** So many calls go to the thread pool before the worker is tried again. */
const PAUSE = 1000;

/** Whether a file system answers fast enough for its calls to be made one after the other. */
export class Pace {
  #pause = 0;
  #averageUs = 0;

  /** To be asked before each file. */
  isFast(): boolean {
    if (this.#pause === 0) return true;
    this.#pause--;
    return false;
  }

  /** What a file took, in microseconds. */
  note(tookUs: number): void {
    this.#averageUs += (tookUs - this.#averageUs) / AVERAGED;
    if (this.#averageUs <= SLOW_US) return;
    this.#pause = PAUSE;
    this.#averageUs = 0;
  }
}

const MAX_ITEMS = 256;
const MAX_BYTES = 8 * 1024 * 1024;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
}

export class GroupWorker<Item, Result> {
  readonly #work: GroupWork<Item, Result>;
  readonly #waiting: Waiting<Item, Result>[] = [];
  #worker: Worker | undefined;
  #underWay: readonly Waiting<Item, Result>[] | undefined;
  #isClosed = false;

  constructor(work: GroupWork<Item, Result>) {
    this.#work = work;
  }

  /** Resolves to the item's result. Never rejects. */
  do(item: Item): Promise<Result> {
    return new Promise((resolve) => {
      this.#waiting.push({ item, resolve });
      // What arrives in the same turn of the event loop goes in the same group.
      if (this.#underWay === undefined) setImmediate(() => this.#start());
    });
  }

  /** Ends the worker. What is under way, waits, or comes yet is answered as lost. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    this.#worker = undefined;
    this.#finish([]);
    await worker?.terminate();
  }

  #start(): void {
    if (this.#underWay !== undefined || this.#waiting.length === 0) return;
    if (this.#isClosed) {
      for (const { item, resolve } of this.#waiting.splice(0)) resolve(this.#work.lost(item));
      return;
    }
    let items = 0;
    let bytes = 0;
    for (const { item } of this.#waiting) {
      const more = this.#work.bytesOf(item);
      if (items > 0 && (items >= MAX_ITEMS || bytes + more > MAX_BYTES)) break;
      items++;
      bytes += more;
    }
    const group = this.#waiting.splice(0, items);
    this.#underWay = group;
    try {
      const worker = (this.#worker ??= this.#open());
      // The process must not end while something is on its way.
      worker.ref();
      worker.postMessage(group.map(({ item }) => item));
    } catch {
      // The system has no thread to give.
      this.#finish([]);
    }
  }

  #open(): Worker {
    // From its own text, so that it works wherever this module was bundled to.
    const { run, parts = [] } = this.#work;
    const worker = new Worker(`(${run.toString()})(${parts.map(String).join(", ")})`, {
      eval: true,
      stdout: false,
      stderr: false,
    });
    worker.on("message", (results: Result[]) => this.#finish(results));
    worker.on("error", () => this.#lose(worker));
    worker.on("exit", () => this.#lose(worker));
    worker.unref();
    return worker;
  }

  #finish(results: readonly Result[]): void {
    const group = this.#underWay ?? [];
    this.#underWay = undefined;
    this.#worker?.unref();
    group.forEach(({ item, resolve }, place) => resolve(results[place] ?? this.#work.lost(item)));
    this.#start();
  }

  /** The worker died: its group is answered with an error, and the next one gets a new worker. */
  #lose(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#finish([]);
  }
}
