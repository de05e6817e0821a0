/** Merging keeps the number of runs small. A long merge is done in small steps beside other work. */
import { attempt, isBeingWritten, removeCovered } from "./index-folder.ts";
import { dueMerge, mergeRuns, STEP_BYTES } from "./runs.ts";
import type { Run } from "./runs.ts";
import type { SharedView } from "./shared-view.ts";

/** Up to this many bytes are merged in one go. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** A process with more runs than this merges them before it ends. */
const MANY_RUNS = 12;
/** More runs than this are merged before any other work. */
const MAX_RUNS = 24;
/**
 * A process that adds a run may write this many times its size in merged runs, so that runs are merged faster than they
 * are added.
 */
const SHARE = 8;
/** The duration of one step, and of the pause for other work after it, in milliseconds. */
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

  /** Begins the due merge, if there is one. */
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

  /** Ends the current merge. With many runs it is completed, otherwise it is dropped. */
  close(): void {
    if (this.#view.runs.length > MANY_RUNS) this.#run(Infinity);
    this.#end();
  }
}
