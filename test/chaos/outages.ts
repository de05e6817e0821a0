/** Does to the stores what the plan says: one store at a time, and damage only where the others hold good copies. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isReserved } from "../../src/contract/names.ts";
import type { Random } from "../simulation/random.ts";
import { nowMs } from "./clocks.ts";
import type { Crew } from "./crew.ts";
import type { Judge } from "./judge.ts";
import type { History } from "./oracle.ts";
import type { Damage, Outage, StoreEvent } from "./plan.ts";
import type { Tally } from "./report.ts";
import { filesBelow } from "./sites.ts";
import type { MadeFile, Site } from "./sites.ts";
import { bytesOf, sha256Of } from "./values.ts";
import type { Weather } from "./weather.ts";

export interface OutagesOptions {
  readonly home: string;
  readonly sites: readonly Site[];
  readonly crew: Crew;
  readonly judge: Judge;
  readonly weather: Weather;
  readonly random: Random;
  readonly tally: Tally;
}

interface Image {
  readonly folder: string;
  readonly atMs: number;
}

/** A copy is damaged only so long after its object was written: by then its record has followed. */
const RECORDED_MS = 2000;
/** What a server that goes on had been asked is done by then. */
const SERVED_MS = 300;
const MOST_TRIES = 12;
const TRY_AGAIN_MS = 150;

export class Outages {
  readonly #options: OutagesOptions;
  readonly #images = new Map<string, Image>();

  constructor(options: OutagesOptions) {
    this.#options = options;
  }

  /** Resolves when the event is over. */
  async run(event: StoreEvent): Promise<void> {
    const site = this.#options.sites.find(({ label }) => label === event.store);
    if (site === undefined) return;
    if (event.do === "image") {
      await this.#frozen(() => this.#image(site));
      return;
    }
    const rollback = this.#options.weather.lastRollback;
    if (rollback !== undefined && rollback.store !== site.label && !this.#isMended(rollback)) {
      this.#options.tally.add("left out: another store is not mended yet");
      return;
    }
    if (event.do === "outage") await this.#outage(site, event.how, event.forMs);
    else if (event.do === "damage") await this.#patiently("damage", () => this.#damage(site, event.how));
    else await this.#patiently("rollback", () => this.#rollback(site));
  }

  /** Tries until what is under way leaves room for it: no last good copy is taken. */
  async #patiently(what: string, act: () => boolean): Promise<void> {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      if (tries > 0) await delay(TRY_AGAIN_MS);
      if (await this.#frozen(act)) return;
    }
    this.#options.tally.add(`left out: ${what} would take a last copy`);
  }

  /** Whether a repair has heard the store since, and it holds again what it should. */
  #isMended({ store, atMs }: { readonly store: string; readonly atMs: number }): boolean {
    const { care } = this.#options.judge;
    return care.isRepaired(store, atMs) && !care.survey.standing(nowMs()).some((fault) => fault.store === store);
  }

  /** Does something while nothing moves and everything that was noted is known. */
  #frozen<T>(act: () => T): Promise<T> {
    const { crew, judge } = this.#options;
    return crew.frozen(() => {
      judge.hear(crew.news());
      return act();
    });
  }

  /** Looks at what stands on the stores, all of which are there. */
  #look(why: string): void {
    const { judge, sites } = this.#options;
    judge.care.survey.look(nowMs(), new Set(sites.map(({ label }) => label)), why);
    judge.care.judgeNowhere();
  }

  async #outage(site: Site, how: Outage, forMs: number): Promise<void> {
    const { weather, tally, judge } = this.#options;
    const fromMs = nowMs();
    // What is full can be read.
    const isOut = how !== "full" || site.disk === undefined;
    if (isOut) weather.begins("outage", site.label, fromMs);
    const ending = await begin(site, how);
    if (isOut) weather.holds(site.label, nowMs());
    await delay(forMs);
    weather.clears(site.label, nowMs());
    await ending.before();
    await this.#frozen(() => {
      const made = ending.bring();
      const toMs = nowMs();
      judge.care.judgeMade(site, made);
      if (isOut) {
        weather.ends("outage", site.label, toMs);
        judge.care.judgeDebts(site, fromMs, toMs);
      }
      this.#look(`after ${how}`);
    });
    tally.add(`outage: ${how}`);
  }

  // ------------------------------------------------------------------------------------------------------- damage

  #damage(site: Site, how: Damage): boolean {
    const { judge, random, tally, weather, sites } = this.#options;
    const now = nowMs();
    const isDrained = weather.during("drain", now, now).size > 0;
    const names = [...judge.histories.values()].filter((history) => {
      const { name, only, mayBeUnrecorded } = history;
      if (isDrained || only?.value === undefined || mayBeUnrecorded || only.endMs > now - RECORDED_MS) return false;
      return sites.every((one) => one.sha256(name) === only.value);
    });
    if (names.length === 0) return false;
    const history = random.pick(names);
    const bytes = damaged(site, history, how, random, names);
    if (bytes === undefined) rmSync(site.path(history.name));
    else writeFileSync(site.path(history.name), bytes);
    tally.add(`damage: ${how}`);
    this.#look(`after damage: ${how}`);
    return true;
  }

  // ----------------------------------------------------------------------------------------------------- rollback

  #image(site: Site): void {
    const folder = join(this.#options.home, `image-${site.label}`);
    site.copyTo(folder);
    this.#images.set(site.label, { folder, atMs: nowMs() });
  }

  #rollback(site: Site): boolean {
    const { judge, weather, tally } = this.#options;
    const image = this.#images.get(site.label);
    if (image === undefined || !this.#mayRollBack(site, image)) return false;
    site.restoreFrom(image.folder);
    for (const history of judge.histories.values()) history.forget(site.label, image.atMs);
    weather.rolledBack(site.label, nowMs());
    tally.add("rollback");
    this.#look("after a rollback");
    return true;
  }

  /** Whether other stores hold, and know, all that came after the image. */
  #mayRollBack(site: Site, { folder, atMs }: Image): boolean {
    const { judge, weather, sites } = this.#options;
    if (weather.during("drain", atMs, nowMs()).size > 0) return false;
    const others = sites.filter((one) => one !== site);
    const then = filesBelow(folder).filter((name) => !isReserved(name));
    const names = new Set([...site.names(), ...then]);
    for (const [name, history] of judge.histories) {
      if (history.dependsOn(site.label, atMs)) return false;
      if (!names.has(name)) continue;
      const now = site.sha256(name);
      const former = then.includes(name) ? sha256Of(readFileSync(join(folder, name))) : undefined;
      if (now === former) continue;
      if (history.mayBeUnrecorded) return false;
      const isKept =
        now === undefined
          ? others.every((other) => other.sha256(name) === undefined)
          : others.some((other) => other.sha256(name) === now);
      if (!isKept) return false;
    }
    return true;
  }
}

/** How an outage ends. */
interface Ending {
  readonly before: () => Promise<void>;
  /** While nothing moves. Gives what was made in the store's place. */
  readonly bring: () => readonly MadeFile[];
}

const nothing = (): Promise<void> => Promise.resolve();

async function begin(site: Site, how: Outage): Promise<Ending> {
  const onServer = async (ends: "start" | "resume"): Promise<void> => {
    await site.server?.control(ends);
    await delay(SERVED_MS);
  };
  switch (how) {
    case "away":
      return { before: nothing, bring: site.setAside("nothing") };
    case "unmounted":
      return { before: nothing, bring: site.setAside("folder") };
    case "not-a-folder":
      return { before: nothing, bring: site.setAside("file") };
    case "full":
      return { before: nothing, bring: site.fill() };
    case "crash":
      await site.server?.control("crash");
      return { before: () => onServer("start"), bring: () => [] };
    case "pause":
      await site.server?.control("pause");
      return { before: () => onServer("resume"), bring: () => [] };
  }
}

/** The bytes that stand in the place of the object's; undefined: none. */
function damaged(
  site: Site,
  { name, only, former }: History,
  how: Damage,
  random: Random,
  others: readonly History[],
): Buffer | undefined {
  const bytes = readFileSync(site.path(name));
  if (how === "remove") return undefined;
  if (how === "truncate") return bytes.subarray(0, random.below(bytes.length));
  if (how === "older") {
    const older = former.filter(({ value }) => value !== only?.value);
    if (older.length > 0) {
      const { token, size } = random.pick(older);
      return bytesOf(name, token, size);
    }
  }
  if (how === "foreign") {
    const other = random.pick(others);
    if (other.name !== name) return readFileSync(site.path(other.name));
  }
  const at = random.below(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
}
