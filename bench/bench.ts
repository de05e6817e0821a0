/** Runs contenders in turn and keeps what they took. */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { CommandFailed, median } from "./measure.ts";
import type { Measured } from "./measure.ts";

export type Figure = "wallMs" | "cpuMs" | "peakBytes" | "firstMs";

export interface Contender {
  readonly name: string;
  /** Prepares, measures, compares the copies and cleans up. Only what it returns counts. */
  readonly round: () => Promise<Measured>;
  /** Fewer rounds than the others, for what takes very long. */
  readonly rounds?: number;
}

/** How the subject should compare with another contender: `other / subject`, so that more is better. */
export interface Goal {
  readonly other: string;
  readonly figure: Figure;
  /** The ratio to reach; undefined where the comparison is only of interest. */
  readonly atLeast?: number;
}

/** A bound on the subject itself. */
export interface Bound {
  readonly figure: Figure;
  readonly below: number;
  readonly words: string;
}

export interface Comparison {
  readonly name: string;
  readonly title: string;
  readonly subject: string;
  readonly contenders: readonly Contender[];
  readonly goals: readonly Goal[];
  readonly bounds?: readonly Bound[];
  readonly rounds?: number;
}

export type Figures = Partial<Record<Figure, number>>;

export interface Result {
  readonly name: string;
  readonly title: string;
  readonly subject: string;
  readonly rounds: number;
  /** Load of the machine (1 minute) when it began. */
  readonly load: number;
  /** Medians of each contender; a string says why there are none. */
  readonly contenders: Readonly<Record<string, Figures | string>>;
  readonly ratios: readonly {
    readonly other: string;
    readonly figure: Figure;
    /** Median over the rounds of `other / subject`. */
    readonly ratio: number | null;
    readonly goal: number | null;
    readonly met: boolean | null;
  }[];
  readonly bounds: readonly { readonly words: string; readonly value: number; readonly met: boolean }[];
}

export interface Report {
  machine: Record<string, string>;
  quick: boolean;
  leftOut: string[];
  results: Result[];
}

export interface BenchOptions {
  readonly rounds: number;
  /** Where results are written as they come. */
  readonly json?: string | undefined;
  /** Names of comparisons, as a regular expression. Default all. */
  readonly only?: string | undefined;
  /** Of the contenders beside Holdfast and the limit, those whose name matches, as a regular expression. Default all. */
  readonly contenders?: string | undefined;
  /** Comparisons that would begin later than this are left out. Default: none. */
  readonly seconds?: number | undefined;
  /** One run of each comparison's limit (without one, of its subject) before the first that counts. */
  readonly warmUp: boolean;
}

export class Bench {
  readonly report: Report;
  readonly rounds: number;
  readonly #json: string | undefined;
  readonly #wanted: RegExp | undefined;
  readonly #contenders: RegExp | undefined;
  readonly #untilMs: number;
  readonly #warmUp: boolean;
  /** Copies that were wrong, commands of Holdfast that failed: what fails the run. */
  readonly wrong: string[] = [];
  /** Comparisons in which Holdfast did everything right. */
  passed = 0;

  constructor(report: Report, options: BenchOptions) {
    this.report = report;
    this.rounds = options.rounds;
    this.#json = options.json;
    this.#wanted = options.only === undefined ? undefined : new RegExp(options.only, "u");
    this.#contenders = options.contenders === undefined ? undefined : new RegExp(options.contenders, "u");
    this.#warmUp = options.warmUp;
    this.#untilMs = performance.now() + (options.seconds ?? Number.POSITIVE_INFINITY) * 1000;
  }

  wants(name: string): boolean {
    if (this.#wanted?.test(name) === false) return false;
    if (performance.now() < this.#untilMs) return true;
    this.leaveOut(name, "the time was over");
    return false;
  }

  leaveOut(what: string, why: string): void {
    const line = `${what}: ${why}`;
    if (this.report.leftOut.includes(line)) return;
    this.report.leftOut.push(line);
    console.log(`left out: ${line}`);
  }

  /** Notes something wrong with what Holdfast did; the run goes on, and fails at its end. */
  fail(what: string): void {
    this.wrong.push(what);
    console.log(`WRONG: ${what}`);
  }

  async compare(comparison: Comparison): Promise<void> {
    const { name, title, subject } = comparison;
    if (!this.wants(name)) return;
    const contenders = comparison.contenders.filter((contender) => this.#takesPart(contender.name));
    console.log(`\n${title} (${name})`);
    const rounds = comparison.rounds ?? this.rounds;
    const wrongBefore = this.wrong.length;
    const load = Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
    const measured = new Map<string, Figures[]>(contenders.map((contender) => [contender.name, []]));
    const failed = new Map<string, string>();
    // The first to come would be the one whose memory the machine has to find, and whose sources nobody has read yet.
    const first =
      contenders.find((one) => one.name.startsWith("limit")) ?? contenders.find((one) => one.name === subject);
    // What goes wrong in it, it says in a round that counts.
    if (this.#warmUp) await first?.round().catch(() => undefined);
    for (let round = 0; round < rounds; round++) {
      // Another one begins each time, so that none always finds the machine as the same other one left it.
      const order = contenders.map((_, index) => contenders[(index + round) % contenders.length]);
      for (const contender of order) {
        if (contender === undefined || failed.has(contender.name) || round >= (contender.rounds ?? rounds)) continue;
        try {
          const { wallMs, cpuMs, peakBytes, firstMs } = await contender.round();
          measured.get(contender.name)?.push({
            wallMs,
            ...(cpuMs === undefined ? {} : { cpuMs }),
            ...(peakBytes === undefined ? {} : { peakBytes }),
            ...(firstMs === undefined ? {} : { firstMs }),
          });
        } catch (error) {
          const reason = error instanceof Error ? error.message : String(error);
          failed.set(contender.name, error instanceof CommandFailed ? "fails" : "wrong");
          if (contender.name.startsWith("holdfast") || !(error instanceof CommandFailed)) {
            if (contender.name.startsWith("holdfast")) this.fail(`${name}: ${contender.name}: ${reason}`);
            else console.log(`  ${contender.name}: ${reason}`);
          } else console.log(`  ${contender.name} fails: ${reason}`);
        }
      }
    }
    if (this.wrong.length === wrongBefore) this.passed++;
    const medians: Record<string, Figures | string> = {};
    for (const [contender, rows] of measured) {
      const figures: Figures = {};
      for (const figure of ["wallMs", "cpuMs", "peakBytes", "firstMs"] as const) {
        const values = rows.map((row) => row[figure]).filter((value) => value !== undefined);
        if (values.length > 0) figures[figure] = median(values);
      }
      medians[contender] = failed.get(contender) ?? figures;
      const shown = failed.get(contender) ?? describeFigures(figures);
      console.log(`  ${contender.padEnd(34)} ${shown}`);
    }
    const own = measured.get(subject) ?? [];
    const ratios = comparison.goals.map(({ other, figure, atLeast }) => {
      const theirs = failed.has(other) || failed.has(subject) ? [] : (measured.get(other) ?? []);
      const pairs = theirs.flatMap((row, index) => {
        const [a, b] = [row[figure], own[index]?.[figure]];
        return a === undefined || b === undefined ? [] : [a / b];
      });
      const ratio = pairs.length === 0 ? null : median(pairs);
      return {
        other,
        figure,
        ratio,
        goal: atLeast ?? null,
        met: ratio === null || atLeast === undefined ? null : ratio >= atLeast,
      };
    });
    for (const { other, figure, ratio, goal, met } of ratios) {
      if (ratio === null) continue;
      const wanted = goal === null ? "" : `  goal ${goal}: ${met === true ? "met" : "MISSED"}`;
      console.log(`  ${ratio.toFixed(2).padStart(8)} x ${other}${figure === "wallMs" ? "" : ` (${figure})`}${wanted}`);
    }
    const bounds = (comparison.bounds ?? []).flatMap(({ figure, below, words }) => {
      const values = own.map((row) => row[figure]).filter((value) => value !== undefined);
      if (values.length === 0) return [];
      const value = median(values);
      console.log(`  ${words}: ${value.toFixed(0)}: ${value < below ? "met" : "MISSED"}`);
      return [{ words, value, met: value < below }];
    });
    const result: Result = { name, title, subject, rounds, load, contenders: medians, ratios, bounds };
    const at = this.report.results.findIndex((one) => one.name === name);
    if (at === -1) this.report.results.push(result);
    else this.report.results[at] = result;
    this.save();
  }

  /** Whether a contender was asked for; which ones were not is said once. */
  #takesPart(name: string): boolean {
    if (/^(?:holdfast|limit)\b/u.test(name) || this.#contenders?.test(name) !== false) return true;
    this.leaveOut(name, "not asked for (--contenders)");
    return false;
  }

  save(): void {
    if (this.#json !== undefined) writeFileSync(this.#json, `${JSON.stringify(this.report, null, 2)}\n`);
  }
}

export function describeFigures({ wallMs, cpuMs, peakBytes, firstMs }: Figures): string {
  return [
    ...(wallMs === undefined ? [] : [`${seconds(wallMs)} s`]),
    ...(cpuMs === undefined ? [] : [`CPU ${seconds(cpuMs)} s`]),
    ...(peakBytes === undefined ? [] : [`${Math.round(peakBytes / 2 ** 20)} MiB`]),
    ...(firstMs === undefined ? [] : [`first line ${seconds(firstMs)} s`]),
  ].join(", ");
}

export function seconds(ms: number): string {
  return (ms / 1000).toFixed(ms < 10_000 ? 2 : 1);
}

let aside: string | undefined;
let removed = 0;

/** Where folders that are removed are put; it is deleted when the run is over. */
export function keepRemovedIn(folder: string): void {
  mkdirSync(folder);
  aside = folder;
}

/**
 * Takes a folder away: its files' bytes are given up and it is put aside, to be deleted with everything else when the run is over.
 * ext4 without a journal looks at every inode that was deleted in the last minutes whenever it makes a file: 10,000 of them take ten
 * times as long to make when as many were deleted before, so that whoever came next would pay for it.
 */
export function removeFolder(folder: string): void {
  if (!existsSync(folder)) return;
  if (aside === undefined || statSync(aside).dev !== statSync(folder).dev) {
    rmSync(folder, { recursive: true, force: true });
    return;
  }
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) truncateSync(join(entry.parentPath, entry.name));
  }
  renameSync(folder, join(aside, String(removed++)));
}
