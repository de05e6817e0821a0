/** Tells the oracle what the processes did, and judges what they were told: writes, reads and listings. */
import { CareJudge } from "./care-judge.ts";
import type { News } from "./crew.ts";
import type { Operation } from "./journal.ts";
import { History } from "./oracle.ts";
import type { Write } from "./oracle.ts";
import type { Span } from "./plan.ts";
import type { Survey } from "./survey.ts";
import type { Rule, Violations } from "./violations.ts";
import type { Weather } from "./weather.ts";

export interface JudgeOptions {
  readonly names: readonly string[];
  readonly stores: readonly string[];
  readonly isStripe: boolean;
  /** See `History`. */
  readonly lateMs: number;
  /** When the round began. */
  readonly beganMs: number;
  /** Nothing happens to the pool, by the one clock. */
  readonly quiet: Span | undefined;
  readonly weather: Weather;
  readonly violations: Violations;
}

/** Lines of each name's past that a violation shows. */
const RECALLED = 24;
/** After what happened last a process leaves a store alone for a while; after that nothing has an excuse. */
const SETTLING_MS = 20_000;
/** A machine writes the record of a new object so long after it was acknowledged, at most. */
const RECORD_MS = 2000;

export interface Counts {
  operations: number;
  acknowledged: number;
  /** Reads that said which stores they had not heard, and gave an older version. */
  stale: number;
  readonly refused: Map<string, number>;
  readonly verbs: Map<string, number>;
}

export class Judge {
  readonly histories: ReadonlyMap<string, History>;
  readonly counts: Counts = { operations: 0, acknowledged: 0, stale: 0, refused: new Map(), verbs: new Map() };
  readonly #options: JudgeOptions;
  readonly #care: CareJudge;
  readonly #writes = new Map<Operation, Write>();
  readonly #past = new Map<string, Operation[]>();
  readonly #open = new Set<Operation>();
  #queue: Operation[] = [];

  constructor(options: JudgeOptions, makeSurvey: (histories: ReadonlyMap<string, History>) => Survey) {
    this.#options = options;
    this.histories = new Map(options.names.map((name) => [name, new History(name, options.lateMs)]));
    this.#care = new CareJudge({
      ...options,
      survey: makeSurvey(this.histories),
      histories: this.histories,
      recall: (name) => this.recall(name),
    });
  }

  get care(): CareJudge {
    return this.#care;
  }

  /**
   * Takes in what was noted. What the notes of the last time say is judged now: whatever it may have seen is known since.
   */
  hear({ begun, ended, died }: News): void {
    const due = this.#queue;
    this.#queue = [];
    for (const operation of begun) this.#begin(operation);
    for (const operation of ended) this.#end(operation);
    for (const operation of died) this.#died(operation);
    for (const operation of due.sort((one, other) => one.endMs - other.endMs)) this.#judge(operation);
    const oldestMs = Math.min(...[...this.#open, ...this.#queue].map(({ startMs }) => startMs));
    if (Number.isFinite(oldestMs)) for (const history of this.histories.values()) history.prune(oldestMs);
  }

  /** A machine's index is lost. */
  lostMachine(by: string, nowMs: number): void {
    for (const history of this.histories.values()) history.lostMachine(by, nowMs - RECORD_MS);
  }

  #history(name: string): History {
    const history = this.histories.get(name);
    if (history === undefined) throw new Error(`${name} is no name of this round`);
    return history;
  }

  #begin(operation: Operation): void {
    this.#open.add(operation);
    const { verb, name, by, startMs, sha256, token = "", size = 0 } = operation;
    if (verb !== "put" && verb !== "delete") return;
    this.#writes.set(operation, this.#history(name).begin({ value: sha256, token, size, by, startMs }));
    this.#remember(operation);
  }

  #remember(operation: Operation): void {
    const past = this.#past.get(operation.name) ?? [];
    this.#past.set(operation.name, past);
    past.push(operation);
    if (past.length > RECALLED * 2) past.splice(0, RECALLED);
  }

  #end(operation: Operation): void {
    const { counts } = this;
    counts.operations++;
    counts.verbs.set(operation.verb, (counts.verbs.get(operation.verb) ?? 0) + 1);
    if (operation.error !== undefined) {
      const { code } = operation.error;
      counts.refused.set(code, (counts.refused.get(code) ?? 0) + 1);
    }
    this.#open.delete(operation);
    this.#queue.push(operation);
    const write = this.#writes.get(operation);
    if (write === undefined) {
      if (this.histories.has(operation.name)) this.#remember(operation);
      return;
    }
    this.#writes.delete(operation);
    write.endMs = operation.endMs;
    write.outcome = operation.error === undefined ? "acknowledged" : "failed";
    if (operation.error !== undefined) return;
    counts.acknowledged++;
    write.owed = operation.answer?.owed ?? [];
    write.holders = this.#holdersOf(write);
  }

  /** Stores that have the write in their ledgers for certain: a stripe does not tell which these are. */
  #holdersOf({ owed, startMs, endMs }: Write): Set<string> | undefined {
    const { isStripe, stores, weather } = this.#options;
    if (isStripe) return undefined;
    const out = weather.during("outage", startMs, endMs);
    const drained = weather.during("drain", startMs, endMs);
    return new Set(stores.filter((store) => !owed.includes(store) && !out.has(store) && !drained.has(store)));
  }

  #died(operation: Operation): void {
    this.#open.delete(operation);
    const write = this.#writes.get(operation);
    if (write === undefined) return;
    this.#writes.delete(operation);
    write.endMs = operation.endMs;
    write.outcome = "died";
  }

  // ------------------------------------------------------------------------------------------------------ judging

  #judge(operation: Operation): void {
    const { verb, error } = operation;
    const isUsage = error?.code === "usage" && verb !== "drain" && verb !== "undrain";
    if (error !== undefined && (error.code === "internal" || error.code === "stray" || isUsage)) {
      this.#violation("defect", `${verb} ${error.code} ${error.text.slice(0, 60)}`, operation, error.text);
    } else if (error !== undefined && this.#mustSucceed(operation)) {
      this.#violation("refused", operation.name, operation, `${error.code}: ${error.text}`);
    }
    if (verb === "put") this.#judgePut(operation);
    else if (verb === "get" || verb === "stat") this.#judgeRead(operation);
    else if (verb === "list") this.#judgeList(operation);
    else if (verb !== "delete") this.#care.judge(operation);
  }

  /** All was well for a while, and no other machine wrote the name. */
  #mustSucceed({ name, verb, by, startMs, endMs, error }: Operation): boolean {
    const { quiet } = this.#options;
    if (quiet === undefined || startMs < quiet.fromMs + SETTLING_MS || endMs > quiet.toMs) return false;
    if (error?.code === "not-found" || error?.code === "killed") return false;
    const history = this.histories.get(name);
    if (history === undefined) return verb !== "drain" && verb !== "undrain";
    return (
      !history.isContested && history.legal(startMs, endMs).every((write) => write.endMs < startMs || write.by === by)
    );
  }

  #judgePut(operation: Operation): void {
    const { answer, sha256, name } = operation;
    if (answer !== undefined && answer.sha256 !== sha256) {
      this.#violation("unknown", name, operation, `a put of ${sha256} was acknowledged as ${answer.sha256}`);
    }
  }

  #judgeRead(operation: Operation): void {
    const { verb, name, startMs, endMs, error, answer } = operation;
    const history = this.#history(name);
    const legal = history.legal(startMs, endMs);
    if (error !== undefined) {
      if (error.code !== "not-found") return;
      if (legal.some(({ value }) => value === undefined)) history.decide(undefined, startMs, endMs);
      else
        this.#violation(
          "lost",
          name,
          operation,
          `${verb} says that it does not exist; it is ${history.describe(legal)}`,
        );
      return;
    }
    const value = answer?.sha256;
    // What has no record has no digest before it is read.
    if (value === undefined) {
      if (legal.every((write) => write.value === undefined)) {
        this.#violation("back", name, operation, `${verb} finds it; it is ${history.describe(legal)}`);
      }
      return;
    }
    const known = history.known(value);
    if (known === undefined || known.size !== answer?.size) {
      this.#violation(
        "unknown",
        name,
        operation,
        `${verb} gave ${answer?.size} bytes, ${value}: ${answer?.head ?? ""}`,
      );
    } else if (legal.some((write) => write.value === value)) {
      if ((answer.unheard ?? []).length === 0) history.decide(value, startMs, endMs);
    } else if (this.#mayBeStale(operation, history, known)) {
      this.counts.stale++;
    } else {
      const rule: Rule = legal.every((write) => write.value === undefined) ? "back" : "older";
      const unheard = answer.unheard?.length ? `, not having heard ${answer.unheard.join(", ")},` : "";
      this.#violation(rule, name, operation, `${verb}${unheard} gave ${known.token}; it is ${history.describe(legal)}`);
    }
  }

  /**
   * A machine that was away cannot know of a write that reached only stores that are silent now (docs/guarantees.md). A get
   * says which these are; a stat has no word for it: all that know may be silent where there is one that does not.
   */
  #mayBeStale({ verb, answer, startMs }: Operation, history: History, given: Write): boolean {
    const later = history.after(given, startMs);
    if (verb === "stat") {
      const { isStripe, stores } = this.#options;
      return (
        isStripe ||
        stores.some((store) =>
          isOnly(
            later,
            stores.filter((other) => other !== store),
          ),
        )
      );
    }
    const unheard = answer?.unheard ?? [];
    return unheard.length > 0 && isOnly(later, unheard);
  }

  #judgeList(operation: Operation): void {
    const { name: prefix, startMs, endMs, answer } = operation;
    if (answer?.names === undefined) return;
    const names = new Set(answer.names);
    if (names.size !== answer.names.length) this.#violation("unknown", prefix, operation, "a name is listed twice");
    for (const name of names) {
      if (!this.histories.has(name) || !name.startsWith(prefix)) {
        this.#violation("unknown", name, operation, `a listing of "${prefix}" has ${name}, which was never put`);
      }
    }
    for (const [name, history] of this.histories) {
      if (!name.startsWith(prefix)) continue;
      const legal = history.legal(startMs, endMs);
      if (names.has(name) && legal.every(({ value }) => value === undefined)) {
        this.#violation("back", name, operation, `a whole listing has ${name}; it is ${history.describe(legal)}`, name);
      } else if (!names.has(name) && legal.every(({ value }) => value !== undefined)) {
        this.#violation(
          "lost",
          name,
          operation,
          `a whole listing lacks ${name}; it is ${history.describe(legal)}`,
          name,
        );
      }
    }
  }

  // ------------------------------------------------------------------------------------------------------- words

  #violation(rule: Rule, about: string, operation: Operation, text: string, name = operation.name): void {
    const said = `${operation.verb} of ${operation.name || "all"} by ${operation.by}: ${text}`;
    this.#options.violations.add(rule, about, said, [this.#line(operation), ...this.recall(name)]);
  }

  /** What was done with a name lately. */
  recall(name: string): readonly string[] {
    const past = this.#past.get(name) ?? [];
    const lines = past.slice(-RECALLED).map((operation) => this.#line(operation));
    return lines.length === 0 ? [] : [`${name} lately:`, ...lines];
  }

  #line({ verb, name, by, startMs, endMs, token, error, answer }: Operation): string {
    const seconds = (ms: number): string => (ms === Number.POSITIVE_INFINITY ? "…" : this.#sinceBegan(ms));
    const value = answer?.sha256 === undefined ? undefined : this.histories.get(name)?.known(answer.sha256)?.token;
    const words = [
      `${seconds(startMs)}–${seconds(endMs)} ${by} ${verb} ${name}`,
      token === undefined ? "" : ` ${token}`,
      error === undefined ? "" : ` → ${error.code}: ${error.text.split("\n")[0]}`,
      answer === undefined ? "" : ` → ${token === undefined ? (value ?? "done") : "acknowledged"}`,
      answer?.owed?.length ? `, owed by ${answer.owed.join(", ")}` : "",
      answer?.unheard?.length ? `, not heard ${answer.unheard.join(", ")}` : "",
    ];
    return words.join("");
  }

  #sinceBegan(ms: number): string {
    return ((ms - this.#options.beganMs) / 1000).toFixed(3);
  }
}

/** Whether each of the writes is known to these stores alone, as far as its answer told. */
function isOnly(writes: readonly Write[], stores: readonly string[]): boolean {
  return writes.every(
    ({ holders }) => holders === undefined || [...holders].every((holder) => stores.includes(holder)),
  );
}
