/** One round: a pool, the processes that use it and look after it, what happens to it, and its end. */
import { cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openPool } from "../../src/open-pool.ts";
import { Random } from "../simulation/random.ts";
import { nowMs } from "./clocks.ts";
import { Crew, within } from "./crew.ts";
import type { Post } from "./crew.ts";
import { Finale } from "./finale.ts";
import { Judge } from "./judge.ts";
import { everyName, FIRST } from "./names.ts";
import { Outages } from "./outages.ts";
import type { ProcessEvent, Round } from "./plan.ts";
import { STORES } from "./plan.ts";
import { progressLine, Tally } from "./report.ts";
import type { RoundResult } from "./report.ts";
import { makeSites } from "./sites.ts";
import type { Sites } from "./sites.ts";
import { Survey } from "./survey.ts";
import { bytesOf, sha256Of } from "./values.ts";
import type { Violations } from "./violations.ts";
import { Weather } from "./weather.ts";

export interface RoundOptions {
  readonly round: Round;
  /** An empty folder of the round's own. */
  readonly home: string;
  /** The command's main file. */
  readonly main: string;
  readonly canMount: boolean;
  /** Whether a drain can be called off. */
  readonly canDrain: boolean;
  /** Which of `PROCESSES` take part. */
  readonly processes: readonly string[];
  readonly violations: Violations;
  /** Once for each thing that cannot be done here. */
  readonly skip: (what: string) => void;
  readonly print: (line: string) => void;
  /** Ends the round's processes at once. */
  readonly signal: AbortSignal;
  /** Seconds since the run began. */
  readonly seconds: () => number;
}

const LISTEN_MS = 150;
const PROGRESS_MS = 10_000;
/** Every call has a deadline, and a bounded number of attempts. */
const ENDLESS_MS = 90_000;
/** A server goes on for so long with what it was asked by those that are gone. */
const LATE_MS = 20_000;
const COMMAND_PAUSE_MS = 700;

/** Undefined: the round's pool cannot be had here. */
export async function runRound(options: RoundOptions): Promise<RoundResult | undefined> {
  const startMs = nowMs();
  const sites = await makeSites(options.home, options.round, options.canMount);
  for (const what of sites.skipped) options.skip(what);
  if (sites.all.length < STORES.length) {
    clearUp(options, sites, false);
    return undefined;
  }
  const run = new RoundRun(options, sites);
  const abandon = (): void => run.abandon();
  options.signal.addEventListener("abort", abandon);
  let isDone = false;
  try {
    const repairs = await run.run();
    isDone = true;
    return { ...run.result(), repairs, seconds: (nowMs() - startMs) / 1000 };
  } finally {
    options.signal.removeEventListener("abort", abandon);
    abandon();
    clearUp(options, sites, !isDone || options.violations.inRound > 0);
  }
}

/** Keeps what there is where something was wrong, and lets go of the disks. */
function clearUp({ home, print }: RoundOptions, { all }: Sites, isKept: boolean): void {
  for (const { label, folder, disk } of all) {
    const isThere = existsSync(folder);
    if (isKept && isThere) cpSync(folder, join(home, `kept-${label}`), { recursive: true, preserveTimestamps: true });
    if (disk !== undefined) spawnSync("umount", ["--lazy", disk]);
  }
  if (isKept) print(`what there was is kept in ${home}: journals, caches, and each store as kept-…`);
  else rmSync(home, { recursive: true, force: true });
}

class RoundRun {
  readonly #options: RoundOptions;
  readonly #sites: Sites;
  readonly #tally = new Tally();
  readonly #weather = new Weather();
  readonly #random: Random;
  readonly #beganMs = nowMs();
  readonly #judge: Judge;
  readonly #crew: Crew;
  readonly #posts: readonly Post[];
  /** Fires when things stop happening. */
  readonly #over = new AbortController();
  #failure: Error | undefined;

  constructor(options: RoundOptions, sites: Sites) {
    const { round, violations, home, main } = options;
    this.#options = options;
    this.#sites = sites;
    this.#random = new Random(round.seed);
    const isStripe = round.kind === "stripe";
    this.#judge = new Judge(
      {
        names: everyName,
        stores: STORES,
        isStripe,
        lateMs: round.kind === "mirror-on-server" ? LATE_MS : 0,
        beganMs: this.#beganMs,
        quiet: round.quiet && { fromMs: this.#beganMs + round.quiet.fromMs, toMs: this.#beganMs + round.quiet.toMs },
        weather: this.#weather,
        violations,
      },
      (histories) => new Survey(sites.all, histories, isStripe),
    );
    this.#crew = new Crew({
      home,
      pool: sites.pool,
      isStripe,
      seed: round.seed,
      beganMs: this.#beganMs,
      main,
      onEnded: (name, how) => violations.add("defect", how.slice(0, 200), `${name} ended by itself ${how}`),
    });
    const posts: readonly Post[] = [
      ...round.clocks.map((clock, writer): Post => ({ name: `w${writer}`, script: "writer.js", clock, writer })),
      { name: "care", script: "care.js", clock: round.careClock, writer: -1 },
    ];
    this.#posts = posts.filter(({ name }) => options.processes.includes(name));
  }

  async run(): Promise<number> {
    await this.#makePool();
    for (const post of this.#posts) this.#crew.start(post);
    const listening = setInterval(() => this.#guarded(() => this.#listen()), LISTEN_MS);
    const telling = setInterval(() => this.#tell(), PROGRESS_MS);
    try {
      if (!(await within(this.#options.round.lengthMs + ENDLESS_MS, this.#happen()))) {
        this.#options.violations.add("endless", "a command", "a command did not end");
      }
      if (this.#failure !== undefined) throw this.#failure;
      await this.#end();
    } finally {
      clearInterval(listening);
      clearInterval(telling);
    }
    const { violations, home, round } = this.#options;
    const finale = new Finale({
      home,
      pool: this.#sites.pool,
      isStripe: round.kind === "stripe",
      sites: this.#sites.all,
      posts: this.#posts,
      beganMs: this.#beganMs,
      crew: this.#crew,
      judge: this.#judge,
      violations,
    });
    const repairs = await finale.run();
    this.#tell();
    return repairs;
  }

  result(): Omit<RoundResult, "repairs" | "seconds"> {
    const { round, violations } = this.#options;
    return {
      round,
      counts: this.#judge.counts,
      care: this.#judge.care.counts,
      tally: this.#tally,
      violations: violations.inRound,
    };
  }

  abandon(): void {
    this.#crew.abandon();
  }

  /** A pool is made by one machine, with every store there. */
  async #makePool(): Promise<void> {
    mkdirSync(join(this.#options.home, "cache-first"));
    const pool = await openPool(this.#sites.pool, { cache: join(this.#options.home, "cache-first") });
    const bytes = bytesOf(FIRST, "first", 1000);
    const sha256 = sha256Of(bytes);
    const question = { verb: "put", name: FIRST, token: "first", sha256, size: bytes.length } as const;
    const operation = { ...question, by: "first", startMs: nowMs(), endMs: Number.POSITIVE_INFINITY };
    this.#judge.hear({ begun: [operation], ended: [], died: [] });
    const { owed } = await pool.put(FIRST, bytes);
    await pool.close();
    const answer = { sha256, size: bytes.length, owed: owed.map(({ store }) => store) };
    Object.assign(operation, { endMs: nowMs(), answer });
    this.#judge.hear({ begun: [], ended: [operation], died: [] });
  }

  // ------------------------------------------------------------------------------------------------ what happens

  async #happen(): Promise<void> {
    const { round } = this.#options;
    const outages = new Outages({
      home: this.#options.home,
      sites: this.#sites.all,
      crew: this.#crew,
      judge: this.#judge,
      weather: this.#weather,
      random: this.#random,
      tally: this.#tally,
    });
    const stores = async (): Promise<void> => {
      for (const event of round.stores) {
        await this.#until(event.atMs);
        await outages.run(event);
      }
    };
    const processes = round.processes.map(async (event) => {
      await this.#until(event.atMs);
      await this.#strike(event);
    });
    const time = this.#until(round.lengthMs).then(() => this.#over.abort());
    const commands = this.#options.processes.includes("command") ? [this.#commands()] : [];
    await Promise.all([stores(), ...processes, this.#drain(), ...commands, time]);
  }

  async #until(atMs: number): Promise<void> {
    await delay(Math.max(0, this.#beganMs + atMs - nowMs()));
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #strike(event: ProcessEvent): Promise<void> {
    if (event.do === "stop") {
      if (await this.#crew.stop(event.process, event.forMs)) this.#tally.add("stop");
      return;
    }
    const atMs = nowMs();
    if (!(await this.#crew.kill(event.process, event.againMs, event.losesCache))) return;
    this.#tally.add(event.losesCache ? "kill, and the cache lost" : "kill");
    if (!event.losesCache) return;
    this.#listen();
    this.#judge.lostMachine(event.process, atMs);
  }

  /** A store is drained, and comes back. */
  async #drain(): Promise<void> {
    const { drain, kind } = this.#options.round;
    if (drain === undefined || !this.#options.canDrain) return;
    const { store } = drain;
    const cache = this.#crew.cacheOf("command");
    await this.#until(drain.fromMs);
    this.#weather.begins("drain", store, nowMs());
    const leave = kind === "stripe" ? [] : ["--leave-copies", String(STORES.length - 1)];
    await this.#crew.command({ verb: "drain", name: store }, ["drain", ...leave, store], cache);
    this.#tally.add("drain");
    await this.#until(drain.toMs);
    while (!(await this.#undrain(store)) && !this.#over.signal.aborted) await delay(COMMAND_PAUSE_MS);
  }

  /** Gives whether the store takes part again. */
  async #undrain(store: string): Promise<boolean> {
    const cache = this.#crew.cacheOf("command");
    const { error } = await this.#crew.command({ verb: "undrain", name: store }, ["drain", "--cancel", store], cache);
    if (error !== undefined && (await this.#isDraining(store))) return false;
    this.#weather.ends("drain", store, nowMs());
    return true;
  }

  /** The drain may not have come so far that there is anything to call off. */
  async #isDraining(store: string): Promise<boolean> {
    const pool = await openPool(this.#sites.pool, { cache: this.#crew.cacheOf("command") });
    try {
      const { stores } = await pool.maintenance.status();
      return stores.some(({ label, draining }) => label === store && draining);
    } catch {
      return true;
    } finally {
      await pool.close();
    }
  }

  /** The real command looks after the pool too: as a machine of its own, or as another process of a writer's. */
  async #commands(): Promise<void> {
    const random = new Random(this.#options.round.seed + 1);
    const args = { status: ["status"], verify: ["verify", "--restart"], repair: ["repair"], rebalance: ["rebalance"] };
    const weights = { status: 3, verify: 4, repair: 4, rebalance: 1 };
    while (!this.#over.signal.aborted) {
      await delay(random.next() * 2 * COMMAND_PAUSE_MS);
      const verb = random.weighted(weights);
      const cache = this.#crew.cacheOf(random.chance(0.5) ? "command" : "w0");
      await this.#crew.command({ verb, name: "" }, args[verb], cache);
    }
  }

  // ---------------------------------------------------------------------------------------------------- listening

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error));
    }
  }

  #listen(): void {
    this.#judge.hear(this.#crew.news());
    const now = nowMs();
    for (const { by, verb, name, startMs } of this.#crew.open()) {
      if (now - startMs < ENDLESS_MS) continue;
      const text = `${verb} of ${name} by ${by} has not ended after ${Math.round((now - startMs) / 1000)} s`;
      this.#options.violations.add("endless", `${by} ${verb} ${name}`, text, this.#judge.recall(name));
    }
  }

  #tell(): void {
    const { round, print, seconds, violations } = this.#options;
    print(progressLine(round, this.#judge, this.#tally, seconds(), violations.inRound));
  }

  /** Everybody stops, and every note is read. */
  async #end(): Promise<void> {
    const late = await this.#crew.end();
    for (const name of late) {
      this.#options.violations.add("endless", name, `${name} was asked to end, and did not`);
    }
    this.#listen();
    this.#listen();
    for (const store of this.#weather.during("drain", nowMs(), nowMs())) {
      if (await this.#undrain(store)) continue;
      this.#options.violations.add("refused", store, `the drain of ${store} cannot be called off`);
    }
  }
}
