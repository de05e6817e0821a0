/** The parts of the chaos run: what its oracle allows, and what it must not let pass. */
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runtimeOf, nowMs } from "./clocks.ts";
import { Journal, JournalReader } from "./journal.ts";
import type { Answer, Operation, Verb } from "./journal.ts";
import { Judge } from "./judge.ts";
import { History } from "./oracle.ts";
import type { Outcome, Value } from "./oracle.ts";
import { makePlan } from "./plan.ts";
import type { Span } from "./plan.ts";
import { Site } from "./sites.ts";
import { Survey } from "./survey.ts";
import { sha256Of } from "./values.ts";
import { Violations } from "./violations.ts";
import { Weather } from "./weather.ts";
import { Random } from "../simulation/random.ts";

function write(history: History, value: Value, startMs: number, endMs: number, outcome: Outcome, by = "w0"): void {
  const begun = history.begin({ value, token: value ?? "", size: 1, by, startMs });
  Object.assign(begun, { endMs, outcome });
}

function legal(history: History, startMs: number, endMs: number): readonly Value[] {
  return [...new Set(history.legal(startMs, endMs).map(({ value }) => value))];
}

describe("the oracle", () => {
  it("allows what stood when a read began, and what was written while it went on", () => {
    const history = new History("x", 0);
    write(history, "one", 10, 20, "acknowledged");
    write(history, "two", 30, 50, "acknowledged");
    expect(legal(history, 25, 28)).toEqual(["one"]);
    expect(legal(history, 25, 40)).toEqual(["one", "two"]);
    expect(legal(history, 60, 70)).toEqual(["two"]);
  });

  it("allows absence after a delete, and nothing else", () => {
    const history = new History("x", 0);
    write(history, "one", 10, 20, "acknowledged");
    write(history, undefined, 30, 40, "acknowledged");
    expect(legal(history, 50, 60)).toEqual([undefined]);
  });

  it.each(["failed", "died"] as const)(
    "leaves it open whether a write that %s took place, until a later one",
    (outcome) => {
      const history = new History("x", 0);
      write(history, "one", 10, 20, "acknowledged");
      write(history, "two", 30, 40, outcome);
      expect(legal(history, 50, 60)).toEqual(["one", "two"]);
      write(history, "three", 70, 80, "acknowledged");
      expect(legal(history, 90, 95)).toEqual(["three"]);
    },
  );

  it("holds reads to what one of them decided", () => {
    const history = new History("x", 0);
    write(history, "one", 10, 20, "acknowledged");
    write(history, "two", 30, 40, "failed");
    history.decide("one", 50, 60);
    expect(legal(history, 55, 65)).toEqual(["one", "two"]);
    expect(legal(history, 61, 65)).toEqual(["one"]);
  });

  it("lets a read decide nothing about a write that was still under way", () => {
    const history = new History("x", 0);
    write(history, "one", 10, 20, "acknowledged");
    write(history, "two", 30, 58, "acknowledged");
    history.decide("one", 50, 60);
    expect(legal(history, 61, 65)).toEqual(["two"]);
  });

  it("lets a server take what died some time before a read decided", () => {
    const history = new History("x", 100);
    write(history, "one", 10, 20, "acknowledged");
    write(history, "two", 30, 40, "died");
    history.decide("one", 60, 70);
    expect(legal(history, 80, 90)).toEqual(["one", "two"]);
    history.decide("one", 150, 160);
    expect(legal(history, 170, 180)).toEqual(["one"]);
  });

  it("knows a name as contested that one machine deleted while another wrote it, until a later write", () => {
    const history = new History("x", 0);
    write(history, "one", 10, 30, "acknowledged", "w0");
    write(history, undefined, 20, 40, "acknowledged", "w1");
    expect(history.isContested).toBe(true);
    expect(history.only).toBeUndefined();
    write(history, "two", 50, 60, "acknowledged", "w0");
    expect(history.isContested).toBe(false);
    expect(history.only?.value).toBe("two");
  });

  it("forgets nothing that a read may still give", () => {
    const random = new Random(7);
    for (let round = 0; round < 40; round++) {
      const whole = new History("x", 0);
      const cut = new History("x", 0);
      let at = 0;
      for (let step = 0; step < 80; step++) {
        at += random.below(10);
        const value = random.chance(0.2) ? undefined : `${round}.${step}`;
        const outcome = random.pick(["acknowledged", "acknowledged", "failed", "died"] as const);
        const end = at + random.below(30);
        for (const history of [whole, cut]) write(history, value, at, end, outcome);
        const now = at + 40;
        const [seen] = whole.legal(at, now);
        if (random.chance(0.3)) for (const history of [whole, cut]) history.decide(seen?.value, at, now);
        cut.prune(at);
        expect(legal(cut, at, now)).toEqual(legal(whole, at, now));
      }
    }
  });
});

describe("the plan", () => {
  it("is the same for the same seed, and another for another", () => {
    expect(makePlan(5, 2)).toEqual(makePlan(5, 2));
    expect(makePlan(6, 2)).not.toEqual(makePlan(5, 2));
  });

  it("has each kind of pool and of outage in the two minutes that CI runs", () => {
    const ci = readFileSync(join(import.meta.dirname, "../../.ci/run"), "utf8");
    const [, minutes, seed] = /run --silent chaos -- --minutes (\d+) --seed (\d+)/u.exec(ci) ?? [];
    const rounds = makePlan(Number(seed), Number(minutes));
    expect(new Set(rounds.map(({ kind }) => kind)).size).toBe(4);
    const happens = rounds.flatMap(({ stores }) =>
      stores.map((event) => (event.do === "outage" ? event.how : event.do)),
    );
    const all = ["away", "unmounted", "not-a-folder", "full", "crash", "pause", "damage", "image", "rollback"];
    expect([...new Set(happens)].sort()).toEqual(all.sort());
  });

  it("never takes a store out while another one is out", () => {
    for (let seed = 0; seed < 50; seed++) {
      for (const { stores } of makePlan(seed, 30)) {
        let freeMs = 0;
        for (const event of stores) {
          if (event.do !== "outage") continue;
          expect(event.atMs).toBeGreaterThanOrEqual(freeMs);
          freeMs = event.atMs + event.forMs;
        }
      }
    }
  });
});

describe("a journal", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "holdfast-journal-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("tells what began and what ended, each once", async () => {
    const path = join(folder, "w0.jsonl");
    const reader = new JournalReader(path, "w0");
    const journal = new Journal(path);
    let answer: (answer: Answer) => void = () => undefined;
    const asked = journal.note({ verb: "get", name: "x" }, () => new Promise((resolve) => (answer = resolve)));
    expect(reader.read()).toMatchObject({ begun: [{ verb: "get", name: "x", by: "w0" }], ended: [] });
    expect(reader.open).toHaveLength(1);
    answer({ sha256: "abc" });
    await asked;
    expect(reader.read()).toMatchObject({ begun: [], ended: [{ name: "x", answer: { sha256: "abc" } }] });
    expect(reader.open).toHaveLength(0);
    reader.close();
  });

  it("keeps back half a line", () => {
    const path = join(folder, "w0.jsonl");
    const reader = new JournalReader(path, "w0");
    const line = JSON.stringify({ id: 1, ms: 5, verb: "put", name: "größe" });
    appendFileSync(path, Buffer.from(line).subarray(0, line.length - 6));
    expect(reader.read().begun).toEqual([]);
    appendFileSync(path, Buffer.concat([Buffer.from(line).subarray(line.length - 6), Buffer.from("\n")]));
    expect(reader.read().begun).toMatchObject([{ name: "größe" }]);
    reader.close();
  });

  it("takes what is no word of Holdfast's for a stray error", async () => {
    const path = join(folder, "w0.jsonl");
    const reader = new JournalReader(path, "w0");
    await new Journal(path).note({ verb: "get", name: "x" }, () => Promise.reject(new TypeError("oh")));
    expect(reader.read().ended).toMatchObject([{ error: { code: "stray" } }]);
    reader.close();
  });
});

it("a clock that steps back does so while it runs", () => {
  const clock = { aheadMs: 60_000, step: { atMs: 1000, aheadMs: -60_000 } };
  const before = runtimeOf(clock, nowMs()).now() - Date.now();
  const after = runtimeOf(clock, nowMs() - 2000).now() - Date.now();
  expect([Math.round(before / 1000), Math.round(after / 1000)]).toEqual([60, -60]);
});

const STORES = ["a", "b", "c"] as const;
const bytes = { one: Buffer.from("one"), two: Buffer.from("two!!"), rot: Buffer.from("rot") };
const one = sha256Of(bytes.one);
const two = sha256Of(bytes.two);

describe("the judge", () => {
  let home: string;
  let sites: Site[];
  let weather: Weather;
  let judge: Judge;
  let said: string[];
  let startMs: number;

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "holdfast-judge-"));
    sites = STORES.map((label) => new Site({ label, url: "", folder: join(home, label) }));
    for (const { folder } of sites) mkdirSync(folder);
    said = [];
    // Operations are of the past: what stands now stood then.
    startMs = nowMs() - 60_000;
    begin();
  });
  afterEach(() => rmSync(home, { recursive: true }));

  function begin(options: { readonly isStripe?: boolean; readonly quiet?: Span } = {}): void {
    weather = new Weather();
    const violations = new Violations((text) => said.push(text.split("\n")[0] ?? ""));
    const isStripe = options.isStripe ?? false;
    judge = new Judge(
      {
        names: ["x", "y"],
        stores: STORES,
        isStripe,
        lateMs: 0,
        beganMs: startMs,
        quiet: options.quiet,
        weather,
        violations,
      },
      (histories) => new Survey(sites, histories, isStripe),
    );
  }

  function operation(verb: Verb, name: string, from: number, to: number, rest: Partial<Operation> = {}): Operation {
    return { verb, name, by: "w0", startMs: startMs + from, endMs: startMs + to, ...rest };
  }

  /** Notes it as begun and ended, and judges it. */
  function tell(...operations: Operation[]): void {
    judge.hear({ begun: operations, ended: operations, died: [] });
    judge.hear({ begun: [], ended: [], died: [] });
  }

  function put(
    value: keyof typeof bytes,
    from: number,
    to: number,
    owed: readonly string[] = [],
    name = "x",
  ): Operation {
    const sha256 = sha256Of(bytes[value]);
    const size = bytes[value].length;
    return operation("put", name, from, to, { sha256, size, token: value, answer: { sha256, size, owed } });
  }

  function remove(from: number, to: number, owed: readonly string[] = []): Operation {
    return operation("delete", "x", from, to, { answer: { owed } });
  }

  function get(value: keyof typeof bytes, from: number, to: number, unheard: readonly string[] = []): Operation {
    const answer = { sha256: sha256Of(bytes[value]), size: bytes[value].length, unheard };
    return operation("get", "x", from, to, { by: "w1", answer });
  }

  function refusal(verb: Verb, code: string, from: number, to: number): Operation {
    return operation(verb, "x", from, to, { by: "w1", error: { code, text: "so it is" } });
  }

  function list(names: readonly string[], from: number, to: number): Operation {
    return operation("list", "", from, to, { by: "w1", answer: { names } });
  }

  function stand(label: string, content: Buffer | undefined, name = "x"): void {
    const path = join(home, label, name);
    mkdirSync(dirname(path), { recursive: true });
    if (content === undefined) rmSync(path, { force: true });
    else writeFileSync(path, content);
  }

  function look(at: number): void {
    judge.care.survey.look(startMs + at, new Set(STORES), "found");
  }

  function rules(): string[] {
    return said.map((line) => line.split(": ")[1] ?? "");
  }

  it.each([
    ["a read that gives what was put", () => [put("one", 0, 10), get("one", 20, 30)]],
    ["a read that gives what is being overwritten", () => [put("one", 0, 10), put("two", 20, 40), get("one", 30, 50)]],
    ["absence before the first put has ended", () => [put("one", 0, 20), refusal("get", "not-found", 5, 15)]],
    ["any error but absence", () => [put("one", 0, 10), refusal("get", "unavailable", 20, 30)]],
    ["an incomplete listing", () => [put("one", 0, 10), refusal("list", "incomplete", 20, 30)]],
    ["a whole listing", () => [put("one", 0, 10), list(["x"], 20, 30)]],
    [
      "an older version, with those that know the newer not heard",
      () => [put("one", 0, 10), put("two", 20, 30, ["a", "b"]), get("one", 40, 50, ["c"])],
    ],
  ])("lets pass %s", (_, operations) => {
    tell(...operations());
    expect(rules()).toEqual([]);
  });

  it.each([
    ["absence of what was acknowledged", "lost", () => [put("one", 0, 10), refusal("get", "not-found", 20, 30)]],
    ["a whole listing that lacks something", "lost", () => [put("one", 0, 10), list([], 20, 30)]],
    ["a listing of what was deleted", "back", () => [put("one", 0, 10), remove(20, 30), list(["x"], 40, 50)]],
    ["a read of what was deleted", "back", () => [put("one", 0, 10), remove(20, 30), get("one", 40, 50)]],
    ["an older version", "older", () => [put("one", 0, 10), put("two", 20, 30), get("one", 40, 50)]],
    [
      "an older version, with one that knows the newer heard",
      "older",
      () => [put("one", 0, 10), put("two", 20, 30, ["a"]), get("one", 40, 50, ["c"])],
    ],
    ["bytes that were never put", "unknown", () => [put("one", 0, 10), get("rot", 20, 30)]],
    ["a name that was never put", "unknown", () => [list(["z"], 20, 30)]],
    ["a put of other bytes", "unknown", () => [{ ...put("one", 0, 10), answer: { sha256: two, size: 5, owed: [] } }]],
    ["an internal error", "defect", () => [refusal("get", "internal", 20, 30)]],
    ["an error that is no word of Holdfast's", "defect", () => [refusal("get", "stray", 20, 30)]],
  ])("does not let pass %s", (_, rule, operations) => {
    tell(...operations());
    expect(rules()).toEqual([rule]);
  });

  it("waits for the notes of the writer before it judges what a reader saw", () => {
    const read = get("one", 20, 30);
    judge.hear({ begun: [read], ended: [read], died: [] });
    const written = put("one", 0, 10);
    judge.hear({ begun: [written], ended: [written], died: [] });
    judge.hear({ begun: [], ended: [], died: [] });
    expect(rules()).toEqual([]);
  });

  it.each(["one", "two"] as const)(
    "takes a write whose process died for one that may have taken place, or not: %s",
    (seen) => {
      tell(put("one", 0, 10));
      const cut = put("two", 20, 30);
      judge.hear({ begun: [cut], ended: [], died: [cut] });
      tell(get(seen, 40, 50));
      expect(rules()).toEqual([]);
    },
  );

  it("allows no failure after a quiet time, and any before it", () => {
    begin({ quiet: { fromMs: startMs, toMs: startMs + 40_000 } });
    tell(put("one", 0, 10), refusal("get", "unavailable", 100, 200));
    expect(rules()).toEqual([]);
    tell(refusal("get", "unavailable", 25_000, 25_100));
    expect(rules()).toEqual(["refused"]);
  });

  const verify = (from: number, to: number, answer: Answer): Operation => operation("verify", "", from, to, { answer });
  const repair = (from: number, to: number, answer: Answer): Operation => operation("repair", "", from, to, { answer });
  const named = [{ kind: "corrupt", object: "x", store: "b" }];

  describe("of a damaged copy", () => {
    beforeEach(() => {
      tell(put("one", 0, 10));
      for (const label of STORES) stand(label, bytes.one);
      stand("b", bytes.rot);
      look(20);
    });

    it("does not let verify pass that found nothing", () => {
      tell(verify(30, 40, {}));
      expect(rules()).toEqual(["called good"]);
    });

    it("does not let verify pass that found something else", () => {
      tell(verify(30, 40, { findings: [{ kind: "corrupt", object: "x", store: "c" }] }));
      expect(rules()).toEqual(["called good"]);
    });

    it("does not let a repair pass that calls the pool whole", () => {
      tell(repair(30, 40, { whole: true }));
      expect(rules()).toEqual(["called good"]);
    });

    it("lets verify pass that names it", () => {
      tell(verify(30, 40, { findings: named }));
      expect(rules()).toEqual([]);
    });

    it("lets verify pass that did not hear the store", () => {
      tell(verify(30, 40, { unheard: ["b"] }));
      expect(rules()).toEqual([]);
    });

    it("lets verify pass that began before it was damaged", () => {
      tell(verify(15, 40, {}));
      expect(rules()).toEqual([]);
    });

    it("lets a repair pass that has mended it", () => {
      stand("b", bytes.one);
      tell(repair(30, 40, { whole: true }));
      expect(rules()).toEqual([]);
    });

    it("lets verify pass that ran beside an overwrite", () => {
      tell(put("two", 25, 35), verify(30, 40, {}));
      expect(rules()).toEqual([]);
    });
  });

  it("does not let a copy stand for good that another store's rollback brought back", () => {
    tell(put("one", 0, 10), remove(20, 30));
    stand("c", bytes.one);
    look(40);
    tell(verify(50, 60, {}));
    expect(rules()).toEqual(["called good"]);
  });

  it("does not let verify, repair and status pass that say nothing of a store that is out", () => {
    weather.begins("outage", "b", startMs);
    weather.holds("b", startMs + 100);
    const stores = STORES.map((label) => ({ label, well: true }));
    tell(verify(5000, 5010, {}), repair(5020, 5030, { whole: true }));
    tell(operation("status", "", 5040, 5050, { answer: { stores } }));
    expect(rules()).toEqual(["called good", "called good", "called good"]);
  });

  it("lets a verify pass that ended while a server that was out began to answer again", () => {
    weather.begins("outage", "b", startMs);
    weather.holds("b", startMs + 100);
    weather.clears("b", startMs + 5005);
    tell(verify(5000, 5010, {}));
    expect(rules()).toEqual([]);
  });

  it("lets a verify pass that began while a server was still being stopped", () => {
    weather.begins("outage", "b", startMs);
    weather.holds("b", startMs + 5005);
    tell(verify(5000, 5010, {}));
    expect(rules()).toEqual([]);
  });

  it("lets verify call lost what is, and nothing that stands", () => {
    tell(put("one", 0, 10), verify(20, 30, { findings: [{ kind: "lost", object: "x" }] }));
    expect(rules()).toEqual([]);
    for (const label of STORES) stand(label, bytes.one);
    tell(verify(40, 50, { findings: [{ kind: "lost", object: "x" }] }));
    expect(rules()).toEqual(["called lost"]);
  });

  it("does not let a put pass that was called whole while a store was out that lacks it", () => {
    const [, b] = sites;
    if (b === undefined) throw new Error("there is no b");
    tell(put("one", 10, 20, ["b"], "y"), put("one", 10, 20));
    for (const label of ["a", "c"]) for (const name of ["x", "y"]) stand(label, bytes.one, name);
    judge.care.judgeDebts(b, startMs, startMs + 100);
    expect(said).toEqual([expect.stringContaining("silent debt: a put of one of x")]);
  });

  it("does not let an identity, or an acknowledged object, stand in a store's empty place", () => {
    const [, b] = sites;
    if (b === undefined) throw new Error("there is no b");
    tell(put("one", 10, 20, ["b"], "y"), put("one", 10, 20));
    judge.care.judgeMade(b, [
      { name: "x", bytes: bytes.one },
      { name: "y", bytes: bytes.one },
      { name: ".holdfast/store.json", bytes: Buffer.from("{}") },
    ]);
    expect(rules()).toEqual(["filled", "filled"]);
  });

  it.each([false, true])("does not let an acknowledged object be nowhere (stripe: %s)", (isStripe) => {
    begin({ isStripe });
    tell(put("one", 10, 20));
    stand("c", bytes.one);
    judge.care.judgeNowhere();
    expect(rules()).toEqual([]);
    stand("c", bytes.rot);
    judge.care.judgeNowhere();
    expect(rules()).toEqual(["lost"]);
  });

  it("knows what would be lost with a store that goes back to an older image", () => {
    tell(put("one", 0, 10), put("two", 20, 30, ["a", "b"]));
    const history = judge.histories.get("x");
    expect(history?.dependsOn("c", startMs + 25)).toBe(true);
    expect(history?.dependsOn("a", startMs + 25)).toBe(false);
    expect(history?.dependsOn("c", startMs + 35)).toBe(false);
    expect(history?.known(one)?.token).toBe("one");
  });
});
