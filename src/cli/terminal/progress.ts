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
  const library = createRequire(import.meta.url)("cli-progress") as typeof import("cli-progress");
  let totalBytes: number | undefined;
  let totalObjects: number | undefined;
  let bytes = 0;
  let objects = 0;
  let current = "";
  const samples: { at: number; bytes: number }[] = [];

  const rate = (): number => {
    const at = performance.now();
    samples.push({ at, bytes });
    while (samples.length > 2 && at - (samples[0]?.at ?? at) > RATE_WINDOW_MS) samples.shift();
    const first = samples[0];
    return first && at > first.at ? Math.max(0, ((bytes - first.bytes) * 1000) / (at - first.at)) : 0;
  };
  const line = (): string => {
    const perSecond = rate();
    const known = totalBytes !== undefined && totalBytes > 0;
    const share = known ? Math.min(1, bytes / (totalBytes ?? 1)) : 0;
    const width = 24;
    const filled = Math.round(share * width);
    const left = known && perSecond > 0 ? formatSpan((((totalBytes ?? 0) - bytes) * 1000) / perSecond) : "?";
    return [
      verb,
      ...(known ? [`[${"=".repeat(filled)}${" ".repeat(width - filled)}]`, `${Math.floor(share * 100)}%`] : []),
      known ? `${formatBytes(bytes)}/${formatBytes(totalBytes ?? 0)}` : formatBytes(bytes),
      `${formatBytes(perSecond)}/s`,
      ...(known ? [`${left} left`] : []),
      ...(totalObjects === undefined ? (objects > 0 ? [`${objects} done`] : []) : [`${objects}/${totalObjects}`]),
      current,
    ].join("  ");
  };
  /** A line that wraps would put the bar's next drawing in the wrong place. */
  const columns = (): number => ("columns" in stream && typeof stream.columns === "number" ? stream.columns : 80) - 1;
  const bars: MultiBar = new library.MultiBar({
    stream,
    fps: 8,
    hideCursor: true,
    clearOnComplete: true,
    stopOnComplete: false,
    autopadding: false,
    linewrap: false,
    gracefulExit: false,
    emptyOnZero: true,
    format: (_options, _params, payload: { line?: () => string }) => (payload.line?.() ?? "").slice(0, columns()),
  });
  const main: SingleBar = bars.create(1, 0, { line });
  const states = new Map<string, string>();
  const width = Math.max(0, ...stores.map((label) => printable(label).length));
  for (const label of stores) {
    bars.create(1, 0, { line: () => `  ${printable(label).padEnd(width)}  ${states.get(label) ?? "ok"}` });
  }
  let running = true;
  return {
    get visible() {
      return running;
    },
    total(most, count) {
      totalBytes = most;
      totalObjects = count;
    },
    bytes(more) {
      bytes += more;
    },
    object(name) {
      objects++;
      if (name !== undefined) current = printable(name).slice(0, 40);
    },
    reach(reachedBytes, reachedObjects) {
      bytes = reachedBytes;
      objects = reachedObjects;
    },
    store(label, state) {
      states.set(label, printable(state));
    },
    say(text) {
      if (!running) return false;
      const width = Math.max(20, columns());
      for (const paragraph of text.split("\n")) {
        for (let at = 0; at === 0 || at < paragraph.length; at += width)
          bars.log(`${paragraph.slice(at, at + width)}\n`);
      }
      main.update(0);
      return true;
    },
    stop() {
      if (!running) return;
      running = false;
      bars.stop();
    },
  };
}
