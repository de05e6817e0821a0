/** Judges what is said of the pool's state: by verify, repair, rebalance, drain and status, and by the answers to writes. */
import { nowMs } from "./clocks.ts";
import type { Answer, FoundFault, Operation } from "./journal.ts";
import type { History } from "./oracle.ts";
import type { Fault, Survey } from "./survey.ts";
import type { MadeFile, Site } from "./sites.ts";
import type { Rule, Violations } from "./violations.ts";
import type { Weather } from "./weather.ts";
import { sha256Of } from "./values.ts";

interface CareJudgeOptions {
  readonly isStripe: boolean;
  readonly weather: Weather;
  readonly violations: Violations;
  readonly survey: Survey;
  readonly histories: ReadonlyMap<string, History>;
  readonly recall: (name: string) => readonly string[];
}

/** What was heard counts for so long; a store that is out longer than this has to be noticed. */
const NOTICED_MS = 2000;

export class CareJudge {
  readonly #options: CareJudgeOptions;
  readonly counts = { verifies: 0, repairs: 0, whole: 0, clean: 0 };
  /** Repairs, drains and rebalances that ended. */
  readonly #repairs: Operation[] = [];

  constructor(options: CareJudgeOptions) {
    this.#options = options;
  }

  get survey(): Survey {
    return this.#options.survey;
  }

  judge(operation: Operation): void {
    const { verb, answer } = operation;
    if (verb === "repair" || verb === "rebalance" || verb === "drain") this.#repairs.push(operation);
    if (answer === undefined) return;
    if (verb === "verify") this.#judgeVerify(operation, answer);
    else if (verb === "status") this.#judgeStatus(operation, answer);
    else if (verb !== "undrain") this.#judgeRepair(operation, answer);
  }

  /** Whether a repair has heard the store, from its beginning to its end, since then. */
  isRepaired(store: string, sinceMs: number): boolean {
    return this.#repairs.some(
      ({ startMs, answer }) => startMs > sinceMs && answer !== undefined && !answer.unheard?.includes(store),
    );
  }

  #judgeVerify(operation: Operation, answer: Answer): void {
    const { findings = [], unheard = [] } = answer;
    this.counts.verifies++;
    if (isClean(answer)) this.counts.clean++;
    for (const fault of this.#faultsBefore(operation)) {
      const isNamed = findings.some(
        ({ object, store }) => object === fault.name && (store === undefined || store === fault.store),
      );
      if (!isNamed && !unheard.includes(fault.store)) this.#missed(operation, fault);
    }
    for (const store of this.#outDuring(operation)) {
      if (unheard.includes(store)) continue;
      this.#add("called good", `verify ${store}`, operation, `verify does not say that ${store} was not heard`);
    }
    for (const finding of findings) if (finding.kind === "lost") this.#judgeLost(operation, answer, finding);
  }

  #judgeRepair(operation: Operation, answer: Answer): void {
    this.counts.repairs++;
    if (answer.whole !== true) return;
    this.counts.whole++;
    for (const fault of this.#faultsBefore(operation)) this.#missed(operation, fault);
    for (const store of this.#outDuring(operation)) {
      this.#add("called good", `repair ${store}`, operation, `the pool is called whole, and ${store} was out`);
    }
  }

  #judgeStatus(operation: Operation, answer: Answer): void {
    const { stores = [], exitCode } = answer;
    for (const store of this.#outDuring(operation)) {
      const seen = stores.find(({ label }) => label === store);
      if (seen?.well !== true && exitCode !== 0) continue;
      this.#add("called good", `status ${store}`, operation, `status says that ${store} is well, and it was out`);
    }
    const rollback = this.#options.weather.lastRollback;
    if (rollback === undefined || exitCode !== 0 || rollback.atMs > operation.startMs) return;
    const isTouched = this.#repairs.some(({ endMs }) => endMs > rollback.atMs);
    const faults = this.#faultsBefore(operation).filter(({ store }) => store === rollback.store);
    if (isTouched || faults.length === 0) return;
    const text = `status says that nothing is wrong; ${rollback.store} was rolled back and lacks ${faults.length} copies`;
    this.#add("called good", `status ${rollback.store}`, operation, text);
  }

  /** Faults that stood all the while, and still do, on stores that were there. */
  #faultsBefore({ startMs }: Operation): readonly Fault[] {
    const { weather, survey } = this.#options;
    const out = weather.during("outage", startMs - NOTICED_MS, nowMs());
    const drained = weather.during("drain", startMs, nowMs());
    return survey.standing(startMs).filter(({ store }) => !out.has(store) && !drained.has(store));
  }

  #outDuring({ startMs, endMs }: Operation): readonly string[] {
    return this.#options.weather.throughout(startMs - NOTICED_MS, endMs);
  }

  #missed(operation: Operation, { name, store, write, why }: Fault): void {
    const expected = write.value === undefined ? "absent" : write.token;
    const text = `${operation.verb} does not name ${name} on ${store}, which is not ${expected} (seen ${why})`;
    this.#add("called good", `${name} ${store}`, operation, text, name);
  }

  #judgeLost(operation: Operation, { unheard = [] }: Answer, { object }: FoundFault): void {
    const { weather, histories } = this.#options;
    const write = histories.get(object)?.only;
    const { startMs, endMs } = operation;
    if (write?.value === undefined || write.endMs > startMs || unheard.length > 0) return;
    if (weather.during("outage", startMs - NOTICED_MS, endMs).size > 0) return;
    if (!this.survey.isSomewhere(object, write.value)) return;
    this.#add("called lost", object, operation, `verify says that ${object} is lost; it is ${write.token}`, object);
  }

  // ------------------------------------------------------------------------------------- at the end of an outage

  /** What was made in a store's place while it was away. */
  judgeMade(site: Site, made: readonly MadeFile[]): void {
    const store = site.label;
    for (const { name, bytes } of made) {
      if (name === ".holdfast/store.json") {
        this.#say("filled", `${store} identity`, `an empty folder in the place of ${store} was given an identity`);
      }
      const history = this.#options.histories.get(name);
      const write = history?.known(sha256Of(bytes));
      if (write?.outcome !== "acknowledged" || write.owed.includes(store)) continue;
      if (site.sha256(name) === write.value) continue;
      // One that another write overtook says nothing of the store: the other one does.
      if (history?.beside(write).some(({ owed }) => owed.includes(store)) === true) continue;
      // A stripe may have moved it there, and noticed: then it stands where it stood before.
      if (this.#options.isStripe && (history?.only !== write || this.survey.isSomewhere(name, sha256Of(bytes))))
        continue;
      const text = `${write.token} of ${name} went into a folder in the place of ${store}, and ${store} owes nothing`;
      this.#say("filled", name, text, name);
    }
  }

  /** Of a store that is back: what was acknowledged while it was out, and is neither there nor owed. While nothing moves. */
  judgeDebts(site: Site, fromMs: number, toMs: number): void {
    const { isStripe, weather, histories } = this.#options;
    if (isStripe || weather.during("drain", fromMs, toMs).has(site.label)) return;
    for (const { name, only } of histories.values()) {
      if (only === undefined || only.startMs < fromMs || only.endMs > toMs || only.owed.includes(site.label)) continue;
      if (site.sha256(name) === only.value) continue;
      const what = only.value === undefined ? "a delete" : `a put of ${only.token}`;
      const text = `${what} of ${name} was called whole while ${site.label} was out, and it does not have it`;
      this.#say("silent debt", `${name} ${site.label}`, text, name);
    }
  }

  /** What was acknowledged and stands nowhere. While nothing moves, with every store in its place. */
  judgeNowhere(): void {
    for (const name of this.survey.nowhere()) {
      const only = this.#options.histories.get(name)?.only;
      this.#say("lost", name, `${name} is on no store; it is ${only?.token}`, name);
    }
  }

  #add(rule: Rule, about: string, operation: Operation, text: string, name?: string): void {
    this.#say(rule, about, `${operation.by}: ${text}`, name);
  }

  #say(rule: Rule, about: string, text: string, name?: string): void {
    const { violations, recall } = this.#options;
    violations.add(rule, about, text, name === undefined ? [] : recall(name));
  }
}

/** Whether nothing was found, and every store heard. */
export function isClean({ findings = [], unheard = [], exitCode = 0 }: Answer): boolean {
  return findings.length === 0 && unheard.length === 0 && exitCode === 0;
}
