/** What is to happen, from a seed: the rounds, each with its pool, its clocks and its outages. The same seed, the same plan. */
import { Random } from "../simulation/random.ts";
import type { Clock } from "./clocks.ts";

export const WRITERS = 4;
/** Who writes, and who looks after the pool: through the library, and with the command. */
export const PROCESSES = [...Array.from({ length: WRITERS }, (_, index) => `w${index}`), "care", "command"] as const;
export const STORES = ["a", "b", "c"] as const;
export type Store = (typeof STORES)[number];

export type PoolKind = "mirror" | "mirror-min-2" | "stripe" | "mirror-on-server";
const KINDS: readonly PoolKind[] = ["mirror", "stripe", "mirror-min-2", "mirror-on-server"];

/** How a store is out for a while. */
export type Outage =
  /** Its folder is renamed away. */
  | "away"
  /** An empty folder is in its place: a disk that is not mounted. */
  | "unmounted"
  /** A file is in its place. */
  | "not-a-folder"
  /** Its file system is full; without the right to mount: a file is in its place. */
  | "full"
  /** Its server is killed, and started again. */
  | "crash"
  /** Its server is stopped, and goes on later with all that it was asked meanwhile. */
  | "pause";

export const DAMAGES = ["flip", "truncate", "remove", "older", "foreign"] as const;
export type Damage = (typeof DAMAGES)[number];

export type StoreEvent = { readonly atMs: number; readonly store: Store } & (
  | { readonly do: "outage"; readonly how: Outage; readonly forMs: number }
  /** One copy of some object. */
  | { readonly do: "damage"; readonly how: Damage }
  /** What the store holds now is kept. */
  | { readonly do: "image" }
  /** It holds again what it held then. */
  | { readonly do: "rollback" }
);

export type ProcessEvent = { readonly atMs: number; readonly process: string } & (
  | { readonly do: "kill"; readonly againMs: number; readonly losesCache: boolean }
  | { readonly do: "stop"; readonly forMs: number }
);

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Round {
  readonly number: number;
  readonly kind: PoolKind;
  readonly seed: number;
  /** For how long things happen to the pool, before everything is made right. */
  readonly lengthMs: number;
  readonly clocks: readonly Clock[];
  readonly careClock: Clock;
  /** In order; one store at a time. */
  readonly stores: readonly StoreEvent[];
  readonly processes: readonly ProcessEvent[];
  readonly drain: (Span & { readonly store: Store }) | undefined;
  /** Nothing happens to the pool: after a while everything has to succeed. */
  readonly quiet: Span | undefined;
  /** Of several servers, which one is asked for first. */
  readonly server: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
/** A round of a short run is as short as still makes sense, with everything made right at its end. */
const ROUND_MS = 3 * MINUTE;
/** What making everything right takes of a round. */
const FINALE_MS = 12 * SECOND;
const QUIET_MS = 32 * SECOND;
/** In a round of at least so much there is time for a quiet span. */
const QUIET_FROM_MS = 2 * MINUTE;

/** What happens to a store, dealt so that each comes before one comes again. */
class Deck<T> {
  readonly #random: Random;
  readonly #cards: readonly T[];
  #left: T[] = [];

  constructor(random: Random, cards: readonly T[]) {
    this.#random = random;
    this.#cards = cards;
  }

  deal(): T {
    if (this.#left.length === 0) this.#left = this.#random.shuffled(this.#cards);
    const card = this.#left.pop();
    if (card === undefined) throw new Error("the deck has no cards");
    return card;
  }
}

type Card = Outage | "damage" | "rollback";
const FOLDER_CARDS: readonly Card[] = ["away", "unmounted", "not-a-folder", "full"];
const MIRROR_CARDS: readonly Card[] = [...FOLDER_CARDS, "damage", "damage", "rollback"];
const SERVER_CARDS: readonly Card[] = ["crash", "pause", "unmounted", "damage", "pause"];

/** Rounds for so many minutes; four at least, one for each kind of pool. */
export function makePlan(seed: number, minutes: number): readonly Round[] {
  const random = new Random(seed);
  const count = Math.max(KINDS.length, Math.round((minutes * MINUTE) / ROUND_MS));
  const lengthMs = Math.max(4 * SECOND, (minutes * MINUTE) / count - FINALE_MS);
  const order = random.shuffled(KINDS);
  const decks: Record<PoolKind, Deck<Card>> = {
    stripe: new Deck(random, FOLDER_CARDS),
    mirror: new Deck(random, MIRROR_CARDS),
    "mirror-min-2": new Deck(random, MIRROR_CARDS),
    "mirror-on-server": new Deck(random, SERVER_CARDS),
  };
  const damages = new Deck(random, DAMAGES);
  return Array.from({ length: count }, (_, index) => {
    const kind = order[index % order.length] ?? "mirror";
    return makeRound(random, { number: index + 1, kind, lengthMs, deck: decks[kind], damages });
  });
}

interface Frame {
  readonly number: number;
  readonly kind: PoolKind;
  readonly lengthMs: number;
  readonly deck: Deck<Card>;
  readonly damages: Deck<Damage>;
}

function makeRound(random: Random, { number, kind, lengthMs, deck, damages }: Frame): Round {
  const middleMs = lengthMs / 2;
  const quiet =
    lengthMs < QUIET_FROM_MS ? undefined : { fromMs: middleMs - QUIET_MS / 2, toMs: middleMs + QUIET_MS / 2 };
  const isFree = (fromMs: number, toMs: number): boolean =>
    toMs < lengthMs && (quiet === undefined || toMs < quiet.fromMs || fromMs > quiet.toMs);
  const drainMs = lengthMs * (0.2 + random.next() * 0.1);
  const drain = { store: random.pick(STORES), fromMs: drainMs, toMs: drainMs + lengthMs * 0.15 };
  return {
    number,
    kind,
    seed: random.below(2 ** 32),
    lengthMs,
    clocks: random.shuffled<Clock>([
      { aheadMs: 60 * MINUTE },
      { aheadMs: -10 * MINUTE },
      { aheadMs: 5 * MINUTE, step: { atMs: middleMs, aheadMs: -5 * MINUTE } },
      { aheadMs: 0 },
    ]),
    careClock: { aheadMs: Math.round((random.next() - 0.5) * 2 * MINUTE) },
    stores: storeEvents(random, { kind, lengthMs, deck, damages, isFree }),
    processes: processEvents(random, lengthMs, isFree),
    drain: isFree(drain.fromMs, drain.toMs) ? drain : undefined,
    quiet,
    server: random.below(2),
  };
}

interface StoreFrame extends Omit<Frame, "number"> {
  readonly isFree: (fromMs: number, toMs: number) => boolean;
}

function storeEvents(random: Random, { kind, lengthMs, deck, damages, isFree }: StoreFrame): readonly StoreEvent[] {
  const events: StoreEvent[] = [];
  let atMs = 1.5 * SECOND;
  while (atMs < lengthMs) {
    const card = deck.deal();
    const onServer = card === "crash" || card === "pause";
    const store = onServer
      ? "c"
      : random.pick<Store>(kind === "mirror-on-server" && card !== "damage" ? ["a", "b"] : STORES);
    // A pause outlasts the deadline of what is asked meanwhile.
    const forMs = Math.round((card === "pause" ? 5 + random.next() * 4 : 1.5 + random.next() * 4) * SECOND);
    const at = Math.round(atMs);
    if (card === "damage") {
      if (isFree(at, at)) events.push({ atMs: at, store, do: "damage", how: damages.deal() });
      atMs += (0.5 + random.next()) * SECOND;
    } else if (card === "rollback") {
      const imageMs = Math.max(SECOND, Math.round(at - (3 + random.next() * 8) * SECOND));
      if (isFree(at, at)) {
        events.push({ atMs: imageMs, store, do: "image" }, { atMs: at, store, do: "rollback" });
      }
      atMs += (4 + random.next() * 4) * SECOND;
    } else {
      if (isFree(at, at + forMs)) events.push({ atMs: at, store, do: "outage", how: card, forMs });
      atMs += forMs + (1 + random.next() * 3) * SECOND;
    }
  }
  return events.sort((one, other) => one.atMs - other.atMs);
}

function processEvents(
  random: Random,
  lengthMs: number,
  isFree: (fromMs: number, toMs: number) => boolean,
): readonly ProcessEvent[] {
  const events: ProcessEvent[] = [];
  const writers = Array.from({ length: WRITERS }, (_, index) => `w${index}`);
  let atMs = 1.5 * SECOND;
  for (;;) {
    atMs += (0.7 + random.next() * 3) * SECOND;
    if (atMs >= lengthMs) return events;
    const process = random.pick([...writers, ...writers, "care", "command"]);
    const at = Math.round(atMs);
    if (random.chance(0.6)) {
      const againMs = Math.round(random.next() * SECOND);
      const losesCache = random.chance(0.12);
      if (isFree(at, at + againMs)) events.push({ atMs: at, process, do: "kill", againMs, losesCache });
    } else {
      const forMs = Math.round((0.3 + random.next() * 6) * SECOND);
      if (isFree(at, at + forMs)) events.push({ atMs: at, process, do: "stop", forMs });
    }
  }
}

/** What a plan can be narrowed to. */
export const HAPPENINGS = [
  "away",
  "unmounted",
  "not-a-folder",
  "full",
  "crash",
  "pause",
  "damage",
  "rollback",
  "kill",
  "stop",
  "drain",
] as const;

/** The round with nothing happening but this, to find what something comes of. */
export function narrowed(round: Round, only: readonly string[]): Round {
  const isWanted = (event: StoreEvent): boolean =>
    only.includes(event.do === "outage" ? event.how : event.do === "image" ? "rollback" : event.do);
  return {
    ...round,
    stores: round.stores.filter(isWanted),
    processes: round.processes.filter((event) => only.includes(event.do)),
    drain: only.includes("drain") ? round.drain : undefined,
  };
}

/** The plan in words, a line for each thing. */
export function describePlan(rounds: readonly Round[]): string {
  const seconds = (ms: number): string => `${(ms / SECOND).toFixed(1)} s`;
  const clock = ({ aheadMs, step }: Clock): string =>
    `${seconds(aheadMs)}${step === undefined ? "" : `, from ${seconds(step.atMs)} on ${seconds(step.aheadMs)}`}`;
  return rounds
    .flatMap((round) => [
      `round ${round.number}: ${round.kind}, ${seconds(round.lengthMs)}, seed ${round.seed}`,
      `  clocks ahead by ${round.clocks.map(clock).join("; ")}; of care ${clock(round.careClock)}`,
      ...(round.drain === undefined
        ? []
        : [`  ${seconds(round.drain.fromMs)}: drain ${round.drain.store}, called off at ${seconds(round.drain.toMs)}`]),
      ...(round.quiet === undefined ? [] : [`  ${seconds(round.quiet.fromMs)}: quiet to ${seconds(round.quiet.toMs)}`]),
      ...[...round.stores, ...round.processes]
        .sort((one, other) => one.atMs - other.atMs)
        .map((event) => {
          const { atMs, do: what, ...rest } = event;
          const words = Object.values(rest).map((value) =>
            typeof value === "number" ? seconds(value) : String(value),
          );
          return `  ${seconds(atMs)}: ${what} ${words.join(" ")}`;
        }),
    ])
    .join("\n");
}
