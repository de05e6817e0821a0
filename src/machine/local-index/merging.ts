/** Keeps the runs of an index few: in small steps beside other work, where it takes long. */
import { attempt, isBeingWritten, removeCovered } from "./index-folder.ts";
import { dueMerge, mergeRuns, STEP_BYTES } from "./runs.ts";
import type { Run } from "./runs.ts";
import type { SharedView } from "./shared-view.ts";

/** So many bytes are merged at once. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** With more runs than this a process merges them before it ends. */
const MANY_RUNS = 12;
/** With more than this they are merged before anything else is done. */
const MAX_RUNS = 24;
/** A process that adds a run writes so many times its size of merged runs: they become fewer faster than they become more. */
const SHARE = 8;
/** How long one step takes, and how long the process then has for other things, in milliseconds. */
const STEP_MS = 8;
const PAUSE_MS = 8;

interface Merge {
  readonly runs: readonly Run[];
  readonly steps: Generator<void, number, undefined>;
}

export class Merging {
  readonly #view: SharedView;
  readonly #onFailure: (error: unknown) => void;
  #merge: Merge | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(view: SharedView, onFailure: (error: unknown) => void) {
    this.#view = view;
    this.#onFailure = onFailure;
  }

  /** Begins to merge what is to be merged. */
  start(): void {
    const { folder, epoch, runs } = this.#view;
    if (this.#merge !== undefined) this.#run(Infinity, (SHARE * (runs.at(-1)?.size ?? 0)) / STEP_BYTES);
    while (this.#merge === undefined) {
      const due = dueMerge(this.#view.runs);
      const [first, last] = [due[0], due.at(-1)];
      if (first === undefined || last === undefined) return;
      const isMany = runs.length > MAX_RUNS;
      if (!isMany && isBeingWritten(folder, epoch, { from: first.name.from, to: last.name.to })) return;
      const opened = this.#view.openAgain(due);
      this.#merge = { runs: opened, steps: mergeRuns(folder, epoch, opened) };
      const bytes = due.reduce((sum, { size }) => sum + size, 0);
      const isSmall = isMany || bytes <= SMALL_BYTES;
      this.#run(Infinity, isSmall ? Infinity : (SHARE * last.size) / STEP_BYTES);
      if (this.#merge !== undefined) this.#continueSoon();
    }
  }

  #continueSoon(): void {
    this.#timer = setTimeout(() => {
      this.#run(STEP_MS);
      if (this.#merge === undefined) this.start();
      else this.#continueSoon();
    }, PAUSE_MS).unref();
  }

  #run(ms: number, steps = Infinity): void {
    const end = performance.now() + ms;
    const merge = this.#merge;
    if (merge === undefined) return;
    try {
      for (let more = steps; more > 0 && performance.now() < end; more--) {
        if (merge.steps.next().done !== true) continue;
        this.#end();
        removeCovered(this.#view.folder, this.#view.epoch);
        this.#view.reload();
        return;
      }
    } catch (error) {
      this.#end();
      this.#onFailure(error);
    }
  }

  #end(): void {
    clearTimeout(this.#timer);
    const merge = this.#merge;
    this.#merge = undefined;
    attempt(() => merge?.steps.return(0));
    for (const run of merge?.runs ?? []) attempt(() => run.close());
  }

  /** Ends what is under way: by doing it where there are many runs. */
  close(): void {
    if (this.#view.runs.length > MANY_RUNS) this.#run(Infinity);
    this.#end();
  }
}
