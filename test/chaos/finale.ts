/** The end of a round: everything is well again and everybody has stopped, and now everything has to come right. */
import { join } from "node:path";
import { collect } from "../../src/contract/body.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import type { Runtime } from "../../src/contract/runtime.ts";
import { repairAnswer, verifyAnswer } from "./answers.ts";
import { isClean } from "./care-judge.ts";
import { laterRuntime, nowMs, runtimeOf } from "./clocks.ts";
import type { Crew, Post } from "./crew.ts";
import { refusalOf } from "./journal.ts";
import type { Answer, FoundFault, Operation, Question } from "./journal.ts";
import type { Judge } from "./judge.ts";
import type { Site } from "./sites.ts";
import { sha256Of } from "./values.ts";
import type { Violations } from "./violations.ts";

export interface FinaleOptions {
  readonly home: string;
  readonly pool: string;
  readonly isStripe: boolean;
  readonly sites: readonly Site[];
  readonly posts: readonly Post[];
  readonly beganMs: number;
  readonly crew: Crew;
  readonly judge: Judge;
  readonly violations: Violations;
}

const MOST_REPAIRS = 5;
/** What a writer that is gone began is left alone for an hour; a repair that comes so much later settles it. */
const LATER_MS = 2 * 3600 * 1000;
/** Findings that are printed, and objects of theirs whose past is. */
const SHOWN = 12;
const RECALLED = 3;
const READS_AT_ONCE = 8;

export class Finale {
  readonly #options: FinaleOptions;
  readonly #heard: Operation[] = [];

  constructor(options: FinaleOptions) {
    this.#options = options;
  }

  /** Gives how many repairs it took. */
  async run(): Promise<number> {
    // Each machine that took part comes back once: what its processes left is settled at once by its own.
    for (const post of this.#options.posts) {
      const runtime = runtimeOf(post.clock, this.#options.beganMs);
      await this.#ask(`${post.name} again`, "repair", this.#options.crew.cacheOf(post.name), runtime);
    }
    const { repairs, isWhole } = await this.#repair();
    if (isWhole) await this.#checkCare();
    const values = await this.#readAll("a new machine", join(this.#options.home, "cache-new"), undefined, isWhole);
    for (const post of this.#options.posts) {
      const runtime = runtimeOf(post.clock, this.#options.beganMs);
      await this.#readAll(post.name, this.#options.crew.cacheOf(post.name), runtime, isWhole);
    }
    this.#tell();
    if (isWhole) this.#checkCopies(values);
    return repairs;
  }

  /** What was asked is judged with everything else, in order. */
  #tell(): void {
    const { judge } = this.#options;
    judge.hear({ begun: [], ended: this.#heard.splice(0), died: [] });
    judge.hear({ begun: [], ended: [], died: [] });
  }

  async #note(by: string, question: Question, ask: () => Promise<Answer>): Promise<Operation> {
    const operation: Operation = { ...question, by, startMs: nowMs(), endMs: Number.POSITIVE_INFINITY };
    try {
      operation.answer = await ask();
    } catch (error) {
      operation.error = refusalOf(error);
    }
    operation.endMs = nowMs();
    this.#heard.push(operation);
    return operation;
  }

  async #with<T>(cache: string, runtime: Runtime | undefined, act: (pool: Pool) => Promise<T>): Promise<T> {
    const pool = await openPool(this.#options.pool, { cache, runtime });
    try {
      return await act(pool);
    } finally {
      await pool.close();
    }
  }

  #ask(by: string, verb: "repair" | "verify", cache: string, runtime?: Runtime): Promise<Operation> {
    return this.#with(cache, runtime, (pool) =>
      this.#note(by, { verb, name: "" }, async () => (verb === "verify" ? verifyAnswer(pool) : repairAnswer(pool))),
    );
  }

  // --------------------------------------------------------------------------------------------------------- care

  async #repair(): Promise<{ readonly repairs: number; readonly isWhole: boolean }> {
    const cache = join(this.#options.home, "cache-mender");
    let repairs = 0;
    let last: Operation | undefined;
    while (repairs < MOST_REPAIRS && last?.answer?.whole !== true) {
      last = await this.#ask("the mender", "repair", cache, laterRuntime(repairs * LATER_MS));
      repairs++;
    }
    const left = (last?.answer?.findings ?? []).filter((finding) => !this.#isUndecidable(finding));
    const isWhole = last?.answer?.whole === true;
    if (!isWhole && (left.length > 0 || last?.answer === undefined || last.answer.unheard?.length)) {
      const why = last?.error === undefined ? "" : `${last.error.code}: ${last.error.text}`;
      const unheard = last?.answer?.unheard?.length ? ` not heard: ${last.answer.unheard.join(", ")}` : "";
      this.#wrong("not whole", "repair", `${repairs} repairs did not make the pool whole: ${why}${unheard}`, left);
    }
    if (isWhole) {
      const again = await this.#ask("the mender", "repair", cache, laterRuntime(repairs * LATER_MS));
      if (again.answer?.done !== 0) {
        const steps = (again.answer?.steps ?? []).join("; ");
        this.#wrong("not whole", "again", `another repair took ${again.answer?.done ?? "no"} steps: ${steps}`, []);
      }
    }
    return { repairs, isWhole };
  }

  /** Nothing decides what two machines left that changed a name at one moment, one of them in vain. */
  #isUndecidable({ object, kind }: FoundFault): boolean {
    const history = this.#options.judge.histories.get(object);
    if (history === undefined) return false;
    const unfinished = history.legal(nowMs(), nowMs()).filter(({ outcome }) => outcome !== "acknowledged");
    return history.isContested || (kind === "conflict" && unfinished.length > 1);
  }

  async #checkCare(): Promise<void> {
    const { crew, home } = this.#options;
    const cache = join(home, "cache-checker");
    const verify = await crew.command({ verb: "verify", name: "" }, ["verify", "--restart"], cache);
    const status = await crew.command({ verb: "status", name: "" }, ["status"], cache);
    for (const { verb, answer, error } of [verify, status, await this.#ask("a new machine", "verify", `${cache}-2`)]) {
      if (answer !== undefined && isClean(answer)) continue;
      const said = error === undefined ? `exit code ${answer?.exitCode}` : `${error.code}: ${error.text}`;
      this.#wrong("not whole", verb, `${verb} finds fault with a pool that is whole: ${said}`, answer?.findings ?? []);
    }
  }

  #wrong(rule: "not whole", about: string, text: string, findings: readonly FoundFault[]): void {
    const { violations, judge } = this.#options;
    const shown = findings
      .slice(0, SHOWN)
      .map(({ kind, object, store }) => `${kind} ${object}${store === undefined ? "" : ` on ${store}`}`);
    const objects = [...new Set(findings.map(({ object }) => object))].slice(0, RECALLED);
    const past = objects.flatMap((object) => judge.recall(object));
    violations.add(rule, about, `${text}; ${findings.length} findings`, [...shown, ...past]);
  }

  // -------------------------------------------------------------------------------------------------------- reads

  /** Reads every name, and lists all; gives the digests of what there is. */
  async #readAll(
    by: string,
    cache: string,
    runtime: Runtime | undefined,
    isWhole: boolean,
  ): Promise<ReadonlyMap<string, string>> {
    const values = new Map<string, string>();
    await this.#with(cache, runtime, async (pool) => {
      const names = [...this.#options.judge.histories.keys()];
      const lane = async (): Promise<void> => {
        for (let name = names.pop(); name !== undefined; name = names.pop()) {
          const value = await this.#read(by, pool, name);
          if (value !== undefined) values.set(name, value);
        }
      };
      await Promise.all(Array.from({ length: READS_AT_ONCE }, lane));
      const list = await this.#note(by, { verb: "list", name: "" }, async () => {
        const names: string[] = [];
        for await (const { name } of pool.list("")) names.push(name);
        return { names };
      });
      if (list.error !== undefined && isWhole) {
        this.#wrong("not whole", "list", `${by} cannot list all: ${list.error.code}: ${list.error.text}`, []);
      }
    });
    return values;
  }

  /** Gives the digest of what the name is. */
  async #read(by: string, pool: Pool, name: string): Promise<string | undefined> {
    const { judge, violations } = this.#options;
    const { answer, error } = await this.#note(by, { verb: "get", name }, () => getAnswer(pool, name));
    await this.#note(by, { verb: "stat", name }, async () => statAnswer(pool, name));
    const history = judge.histories.get(name);
    if (error !== undefined && error.code !== "not-found" && history !== undefined && !history.isContested) {
      const legal = history.describe(history.legal(nowMs(), nowMs()));
      const text = `${by} cannot read ${name} in the end: ${error.code}: ${error.text}; it is ${legal}`;
      violations.add("lost", name, text, judge.recall(name));
    }
    return answer?.sha256;
  }

  // ------------------------------------------------------------------------------------------------------- copies

  /** Past Holdfast: every store has what it should, and nothing else. */
  #checkCopies(values: ReadonlyMap<string, string>): void {
    const { sites, judge, isStripe } = this.#options;
    for (const name of judge.histories.keys()) {
      const value = values.get(name);
      const found = sites.map((site) => site.sha256(name));
      const isWrong = found.some((sha256) => sha256 !== undefined && sha256 !== value);
      const holders = found.filter((sha256) => sha256 !== undefined).length;
      const wanted = value === undefined ? 0 : isStripe ? Math.max(1, holders) : sites.length;
      if (!isWrong && holders === wanted) continue;
      const words = sites.map((site, index) => `${site.label}: ${this.#inWords(name, found[index])}`).join(", ");
      const should = value === undefined ? "absent" : this.#inWords(name, value);
      this.#copies(name, `${name} is ${should}, and stands so: ${words}`);
    }
    for (const site of sites) {
      for (const name of site.names()) {
        if (!judge.histories.has(name)) this.#copies(name, `${name} on ${site.label} is no object of anybody's`);
      }
    }
  }

  #copies(name: string, text: string): void {
    this.#options.violations.add("copies", name, text, this.#options.judge.recall(name));
  }

  #inWords(name: string, sha256: string | undefined): string {
    if (sha256 === undefined) return "absent";
    return this.#options.judge.histories.get(name)?.known(sha256)?.token ?? `unknown bytes ${sha256}`;
  }
}

async function getAnswer(pool: Pool, name: string): Promise<Answer> {
  const { body, unheard = [] } = await pool.get(name);
  const bytes = await collect(body);
  return { sha256: sha256Of(bytes), size: bytes.length, unheard };
}

async function statAnswer(pool: Pool, name: string): Promise<Answer> {
  const { size, sha256 } = await pool.stat(name);
  return { size, ...(sha256 === undefined ? {} : { sha256 }) };
}
