/** Progress of a long run: on a terminal a bar with bytes, rate, time left and a line for each store; else nothing. */
import { createRequire } from "node:module";
import type { Writable } from "node:stream";
import type { MultiBar, SingleBar } from "cli-progress";
import { formatBytes, formatSpan, printable } from "./format.ts";

export interface Progress {
  /** Whether a bar is on the screen now. */
  readonly visible: boolean;
  /** How much there is in all, as far as it is known. */
  total(bytes: number | undefined, objects?: number): void;
  /** So many bytes more. May be negative, when an attempt begins anew. */
  bytes(more: number): void;
  /** One object more is finished. */
  object(name?: string): void;
  /** Sets both counts, for work that counts for itself. */
  reach(bytes: number, objects: number): void;
  /** What is known of a store now, in a word or two: `owes 3`. */
  store(label: string, state: string): void;
  /** Says something above the bar; false when no bar is there. */
  say(text: string): boolean;
  stop(): void;
}

const nothing: Progress = {
  visible: false,
  total: () => undefined,
  bytes: () => undefined,
  object: () => undefined,
  reach: () => undefined,
  store: () => undefined,
  say: () => false,
  stop: () => undefined,
};

export interface ProgressOptions {
  /** A terminal, or undefined for no bar. */
  readonly stream: Writable | undefined;
  readonly verb: string;
  /** Labels of the stores to show. */
  readonly stores: readonly string[];
}

/** The rate is that of the last seconds, not of the whole run: a store that hangs shows. */
const RATE_WINDOW_MS = 8000;

/** Begins to show progress. Loads the bar's library only when there is a terminal. */
export async function startProgress({ stream, verb, stores }: ProgressOptions): Promise<Progress> {
  if (!stream) return nothing;
  // Not by `import()`: code that was kept compiled has none (see compiled-code.ts).
  const { MultiBar } = createRequire(import.meta.url)("cli-progress") as typeof import("cli-progress");
  return new Bars(MultiBar, stream, verb, stores);
}

/** Counts everything there is to do for the bar, by its sizes, beside the work itself: that meets the same errors, and says them. */
export async function measure(progress: Progress, sizes: AsyncIterable<number>): Promise<void> {
  if (!progress.visible) return;
  let bytes = 0;
  let objects = 0;
  try {
    for await (const size of sizes) {
      bytes += size;
      objects++;
    }
    progress.total(bytes, objects);
  } catch {
    // See above.
  }
}

/** Bytes a second, of late. */
class Rate {
  readonly #samples: { readonly at: number; readonly bytes: number }[] = [];

  /** `bytes`: how many there are by now. */
  at(bytes: number): number {
    const samples = this.#samples;
    const at = performance.now();
    samples.push({ at, bytes });
    while (samples.length > 2 && at - (samples[0]?.at ?? at) > RATE_WINDOW_MS) samples.shift();
    const first = samples[0];
    return first && at > first.at ? Math.max(0, ((bytes - first.bytes) * 1000) / (at - first.at)) : 0;
  }
}

/** A bar for the whole, and a line for each store. */
class Bars implements Progress {
  readonly #stream: Writable;
  readonly #verb: string;
  readonly #bars: MultiBar;
  readonly #main: SingleBar;
  readonly #states = new Map<string, string>();
  readonly #rate = new Rate();
  #running = true;
  #totalBytes: number | undefined;
  #totalObjects: number | undefined;
  #bytes = 0;
  #objects = 0;
  /** Name of the object that was finished last. */
  #last = "";

  constructor(Bar: typeof MultiBar, stream: Writable, verb: string, stores: readonly string[]) {
    this.#stream = stream;
    this.#verb = verb;
    this.#bars = new Bar({
      stream,
      fps: 8,
      hideCursor: true,
      clearOnComplete: true,
      stopOnComplete: false,
      autopadding: false,
      linewrap: false,
      gracefulExit: false,
      emptyOnZero: true,
      format: (_options, _params, payload: { line?: () => string }) =>
        (payload.line?.() ?? "").slice(0, this.#columns()),
    });
    this.#main = this.#bars.create(1, 0, { line: () => this.#line() });
    const width = Math.max(0, ...stores.map((label) => printable(label).length));
    for (const label of stores) {
      const line = (): string => `  ${printable(label).padEnd(width)}  ${this.#states.get(label) ?? "ok"}`;
      this.#bars.create(1, 0, { line });
    }
  }

  #line(): string {
    const perSecond = this.#rate.at(this.#bytes);
    const objects = this.#totalObjects === undefined ? "" : `${this.#objects}/${this.#totalObjects}`;
    const done = this.#objects > 0 ? `${this.#objects} done` : "";
    return [
      this.#verb,
      ...(this.#totalBytes ? shareOf(this.#bytes, this.#totalBytes, perSecond) : sizeOf(this.#bytes, perSecond)),
      ...[objects || done].filter((one) => one !== ""),
      this.#last,
    ].join("  ");
  }

  /** A line that wraps would put the bar's next drawing in the wrong place. */
  #columns(): number {
    const stream = this.#stream;
    return ("columns" in stream && typeof stream.columns === "number" ? stream.columns : 80) - 1;
  }

  get visible(): boolean {
    return this.#running;
  }

  total(bytes: number | undefined, objects?: number): void {
    this.#totalBytes = bytes;
    this.#totalObjects = objects;
  }

  bytes(more: number): void {
    this.#bytes += more;
  }

  object(name?: string): void {
    this.#objects++;
    if (name !== undefined) this.#last = printable(name).slice(0, 40);
  }

  reach(bytes: number, objects: number): void {
    this.#bytes = bytes;
    this.#objects = objects;
  }

  store(label: string, state: string): void {
    this.#states.set(label, printable(state));
  }

  say(text: string): boolean {
    if (!this.#running) return false;
    const width = Math.max(20, this.#columns());
    for (const paragraph of text.split("\n")) {
      for (let at = 0; at === 0 || at < paragraph.length; at += width)
        this.#bars.log(`${paragraph.slice(at, at + width)}\n`);
    }
    this.#main.update(0);
    return true;
  }

  stop(): void {
    if (!this.#running) return;
    this.#running = false;
    this.#bars.stop();
  }
}

/** The parts of the bar's line where nobody knows how much there is in all. */
function sizeOf(bytes: number, perSecond: number): string[] {
  return [formatBytes(bytes), `${formatBytes(perSecond)}/s`];
}

/** The same where the total is known. */
function shareOf(bytes: number, total: number, perSecond: number): string[] {
  const share = Math.min(1, bytes / total);
  const width = 24;
  const filled = Math.round(share * width);
  const left = perSecond > 0 ? formatSpan(((total - bytes) * 1000) / perSecond) : "?";
  return [
    `[${"=".repeat(filled)}${" ".repeat(width - filled)}]`,
    `${Math.floor(share * 100)}%`,
    `${formatBytes(bytes)}/${formatBytes(total)}`,
    `${formatBytes(perSecond)}/s`,
    `${left} left`,
  ];
}
