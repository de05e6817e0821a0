/** Sets of scenarios, by name, and how far each scenario is explored. */
import type { Limits } from "./search.ts";

export interface Entry {
  readonly scenario: string;
  readonly limits: Limits;
}

const POOLS = ["mirror1x3", "mirror2x3", "stripex3"] as const;
const CLOCKS = ["", "+behind", "+ahead"] as const;
/** Writes and reads of one object. */
const LIGHT = ["put.x", "delete.x", "get.x", "list"] as const;
const WRITES: ReadonlySet<string> = new Set(["put.x", "delete.x"]);

/** Two operations at once, of two machines; at least one writes. */
const WRITING = ["put.x|put.x", "put.x|delete.x", "delete.x|delete.x"] as const;
const READING = ["put.x|get.x", "put.x|list", "delete.x|get.x", "delete.x|list"] as const;
const PAIRS = [...WRITING, ...READING] as const;
/** The second machine's calls are answered in another order than the first one's. */
const ORDERS = ["ACB", "BAC", "BCA", "CAB", "CBA"].map((order) => `+order.1.${order}`);
const WRITING_NEW = ["put.x|put.x", "put.x|delete.x"] as const;
const READING_NEW = ["put.x|get.x", "put.x|list"] as const;
const PAIRS_OF_NEW = [...WRITING_NEW, ...READING_NEW] as const;

/** All of these with all of those, put together. */
function product(...parts: readonly (readonly string[])[]): readonly string[] {
  return parts.reduce<readonly string[]>((all, part) => all.flatMap((one) => part.map((next) => one + next)), [""]);
}

function entries(scenarios: readonly string[], limits: Limits = {}): readonly Entry[] {
  return scenarios.map((scenario) => ({ scenario, limits }));
}

/** Two operations of one machine, one after the other, beside one of another machine. */
function triples(): readonly string[] {
  return LIGHT.flatMap((first) =>
    LIGHT.flatMap((second) =>
      LIGHT.filter((beside) => [first, second, beside].some((one) => WRITES.has(one))).map(
        (beside) => `/${first},${second}|${beside}`,
      ),
    ),
  );
}

/** Stores that the machines do not reach. */
const APART = ["+apart.0.C+apart.1.A+apart.1.B", "+apart.0.A+apart.1.C", "+apart.0.A"] as const;

const SMALL = [
  "mirror1x3/put.x|get.x",
  "mirror1x3/put.x|list",
  "mirror1x3/delete.x|get.x",
  "mirror1x3/put.x|put.y",
  "mirror1x3+cold/delete.x|get.x",
  "mirror1x3+behind+new.x/put.x|get.x",
  "mirror2x3+ahead+new.x+sole/put.x|list",
  "mirror2x3+apart.0.A+apart.1.C/put.x|list",
  "stripex3/put.x|get.x",
  "mirror1x3+crash/put.x,delete.x",
  "mirror1x3+fail/put.x,repair",
  "mirror1x3+lost/delete.x,put.x",
  "mirror2x3+crash/drain.A",
  "mirror1x3+back/put.x,put.x",
  "stripex3+cut/put.x",
] as const;

const SETS: Readonly<Record<string, () => readonly Entry[]>> = {
  /** What each run of the tests explores. */
  small: () => entries(SMALL),
  /** One machine, and one fault at any moment of what it does. */
  alone: () =>
    entries(
      product(
        POOLS,
        ["+crash", "+fail", "+lost", "+late", "+cut", "+back", "+forth"],
        ["", "+cold"],
        ["/"],
        ["put.x", "delete.x", "put.x,delete.x", "delete.x,put.x", "put.x,put.x", "put.x,repair", "drain.A", "drain.B"],
      ),
    ),
  /**
   * Every order of two operations of two machines. Of two that write to three stores, every order with one split: all of
   * them are too many; to two stores, all.
   */
  pairs: () => [
    ...entries(product(POOLS, CLOCKS, ["/"], READING)),
    ...entries(product(POOLS, CLOCKS, ["/"], WRITING), { splits: 1 }),
    ...entries(product(POOLS, CLOCKS, ["+new.x", "+new.x+sole"], ["/"], READING_NEW)),
    ...entries(product(POOLS, CLOCKS, ["+new.x", "+new.x+sole"], ["/"], WRITING_NEW), { splits: 1 }),
    ...entries(product(["mirror1x3", "mirror2x3", "stripex2"], ["+cold"], ["/"], READING)),
    ...entries(product(["mirror1x3", "mirror2x3", "stripex2"], ["+cold"], ["/"], WRITING), { splits: 1 }),
    ...entries(product(["mirror1x3"], ORDERS, ["/"], READING)),
    ...entries(product(["mirror1x3"], ORDERS, ["/"], WRITING), { splits: 0 }),
    ...entries(product(["mirror1x2"], ["/", "+new.x/"], WRITING_NEW)),
  ],
  /** Every order of three, between batches of calls. */
  triples: () => entries(product(["mirror1x3", "stripex3"], triples()), { splits: 0 }),
  /** Three operations in every pool and with every clock. */
  "triples-everywhere": () => [
    ...entries(product(POOLS, CLOCKS, triples()), { splits: 0 }),
    ...entries(
      product(POOLS, ["+new.x+sole"], ["/put.x|put.x,put.x", "/put.x|put.x,delete.x", "/put.x,delete.x|put.x"]),
      { splits: 0 },
    ),
  ],
  /** Repair and drain beside an operation, and beside each other. */
  mending: () => [
    ...entries(product(POOLS, ["/"], LIGHT, ["|"], ["repair", "drain.A", "drain.B"]), { splits: 0 }),
    ...entries(product(POOLS, ["/"], ["repair|repair", "repair|drain.A", "drain.A|drain.B"]), { splits: 0 }),
    ...entries(
      product(POOLS, CLOCKS, ["/"], ["put.x,put.x", "put.x,delete.x", "delete.x,put.x"], ["|"], ["repair", "drain.A"]),
      { preemptions: 2 },
    ),
  ],
  /** One fault at any moment of two operations. */
  faults: () => [
    ...entries(product(POOLS, ["+crash", "+fail", "+lost", "+late", "+cut"], ["/"], PAIRS), { splits: 0 }),
    ...entries(product(POOLS, ["+late", "+lost", "+crash"], ["/"], ["put.x,put.x|get.x", "delete.x,put.x|get.x"]), {
      preemptions: 2,
    }),
    ...entries(
      product(
        ["mirror1x2", "stripex2"],
        ["+late", "+lost"],
        ["/"],
        ["put.x,put.x", "delete.x,put.x", "put.x,delete.x"],
      ),
    ),
    ...entries(product(POOLS, ["+cut"], ["/"], ["put.x,drain.A", "put.x,drain.B", "put.x,repair"])),
  ],
  /** Machines that do not reach the same stores. */
  partitions: () => [
    ...entries(product(POOLS, APART, ["/"], READING)),
    ...entries(product(POOLS, APART, ["/"], WRITING), { splits: 1 }),
    ...entries(product(POOLS, ["+new.x", "+new.x+sole"], APART.slice(0, 2), ["/"], PAIRS_OF_NEW), { splits: 1 }),
  ],
  /** A clock that is set while two operations are under way. */
  clocks: () => entries(product(POOLS, ["+back", "+forth"], ["/"], PAIRS), { splits: 0 }),
  /** Two processes of one machine. */
  beside: () => [
    ...entries(
      product(POOLS, ["/"], ["put.x&put.x", "put.x&delete.x", "put.x&get.x", "delete.x&get.x", "put.x&repair"]),
      { preemptions: 2 },
    ),
    ...entries(product(POOLS, ["+crash/put.x&repair&put.x"]), { preemptions: 1 }),
  ],
  /** Two objects. */
  names: () =>
    entries(
      product(POOLS, ["/"], ["put.x|put.y", "put.x,put.y|put.y,put.x", "put.x,delete.y|list", "put.x,put.y|list"]),
      { splits: 0 },
    ),
};

export const setNames: readonly string[] = Object.keys(SETS);

/** The scenarios of a set. Throws when there is none of that name. */
export function entriesOf(set: string): readonly Entry[] {
  const make = SETS[set];
  if (make === undefined) throw new Error(`${set} is no set: ${setNames.join(", ")}`);
  return make();
}
