/** The parameters of a pool: their table, how each is read, and which go with which. */
import type { Mode, OnFail } from "../contract/pool.ts";
import { fail, kindOf, quoted } from "./faults.ts";

/**
 * The copy that a mirror reads first: that of the first store in the pool's order, or of the store that answers
 * fastest.
 */
export type ReadOrder = "first" | "fastest";
/** Whether a mirror's put waits for all its stores, or only for as many as must hold it. */
export type WaitFor = "all" | "min";
/**
 * The store that a stripe gives a new object to: in turn, in turn by the stores' weights, or the one with the most free
 * space.
 */
export type Placement = "round-robin" | "weighted" | "free";

/** The settings of a pool. Each is a URL parameter and a key of the object form, under its `name`. */
export interface PoolParameters {
  /** Default `stripe`. */
  readonly mode: Mode;
  /** Default `continue`. */
  readonly onfail: OnFail;
  /** The least number of copies for a successful put; mirror with `onfail=continue`. 1 to the number of stores. */
  readonly min: number;
  /** Appended to the path of every store's URL, as it is. */
  readonly subpath?: string;
  /** Mirror. Default `first`. */
  readonly read: ReadOrder;
  /** Stripe. Default `round-robin`. */
  readonly place: Placement;
  /** Mirror with `onfail=continue`: whether a put waits for all stores or for `min` of them. Default `all`. */
  readonly wait: WaitFor;
  /** Bytes a second to all stores together. Default none. */
  readonly limitUp?: number;
  /** Bytes a second from all stores together. Default none. */
  readonly limitDown?: number;
  /** A call to a store without progress for this long is given up; milliseconds. */
  readonly deadlineMs?: number;
  /** How many times a call to a store is tried in all. */
  readonly attempts?: number;
}

/** One parameter: how it is read from text (URL) or JSON, and its description (schema, docs). */
export interface PoolParameter {
  readonly name: string;
  /** The allowed values in words, for errors. */
  readonly expected: string;
  readonly description: string;
  /** JSON Schema of its value in the object form. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** The value, or undefined if it is not allowed. */
  read(value: string | number): string | number | undefined;
}

function choice(...values: string[]): Pick<PoolParameter, "expected" | "schema" | "read"> {
  return {
    expected: values.slice(0, -1).join(", ") + " or " + values.at(-1),
    schema: { enum: values },
    read: (value) => (typeof value === "string" && values.includes(value) ? value : undefined),
  };
}

function wholeNumber(least: number, most: number): Pick<PoolParameter, "schema" | "read"> {
  return {
    schema: { type: "integer", minimum: least, maximum: most },
    read: (value) => {
      const number = typeof value === "string" ? (/^\d{1,9}$/u.test(value) ? Number(value) : Number.NaN) : value;
      return Number.isInteger(number) && number >= least && number <= most ? number : undefined;
    },
  };
}

const RATE = "^[0-9]{1,12}(\\.[0-9]{1,3})?[KMG]?$";
const DURATION = "^[0-9]{1,9}(\\.[0-9]{1,3})?(ms|s|m|h)$";

/** Bytes from `500K`, `1.5M`, `2G` (powers of 1,024) or a plain number; undefined for anything else and below 1. */
function parseByteCount(value: string | number): number | undefined {
  const text = String(value);
  if (!new RegExp(RATE, "u").test(text)) return undefined;
  const factor = { K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[text.at(-1) ?? ""] ?? 1;
  const bytes = Math.floor(Number.parseFloat(text) * factor);
  return bytes >= 1 ? bytes : undefined;
}

const byteRate: Pick<PoolParameter, "expected" | "schema" | "read"> = {
  expected: "bytes a second, such as 500K, 1.5M or 2G",
  schema: {
    anyOf: [
      { type: "integer", minimum: 1, maximum: 999_999_999_999 },
      { type: "string", pattern: RATE },
    ],
  },
  read: parseByteCount,
};

/** Milliseconds from `500ms`, `30s`, `2m`, `1h`; undefined for anything else, below 1 ms and above 24 hours. */
function parseDuration(value: string | number): number | undefined {
  const match = new RegExp(DURATION, "u").exec(String(value));
  if (!match) return undefined;
  const factor = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? ""] ?? Number.NaN;
  const ms = Math.round(Number.parseFloat(String(value)) * factor);
  return ms >= 1 && ms <= 86_400_000 ? ms : undefined;
}

/** All parameters, in the order of the documentation. */
export const POOL_PARAMETERS: readonly PoolParameter[] = [
  {
    name: "mode",
    ...choice("stripe", "mirror"),
    description: "stripe (the default) spreads objects over the stores; mirror keeps each on every store.",
  },
  {
    name: "onfail",
    ...choice("continue", "abort"),
    description: "After a store fails to write: continue with the others (the default), or fail.",
  },
  {
    name: "min",
    ...wholeNumber(1, 1_000_000),
    expected: "a whole number from 1 to the number of stores",
    description: "The least number of copies for a successful put; for mode=mirror with onfail=continue. Default 1.",
  },
  {
    name: "subpath",
    expected: "a path to append to each store's URL, without ? and control characters",
    // oxlint-disable-next-line eslint/no-control-regex -- these characters are refused
    read: (value) => (typeof value === "string" && /^[^?\u0000-\u001f\u007f]+$/u.test(value) ? value : undefined),
    schema: { type: "string", pattern: "^[^?\\u0000-\\u001f\\u007f]+$" },
    description: "Appended, as it is, to the path of each store's URL.",
  },
  {
    name: "read",
    ...choice("first", "fastest"),
    description: "mode=mirror: read from the first store in the list (the default) or from the fastest.",
  },
  {
    name: "wait",
    ...choice("all", "min"),
    description:
      "mode=mirror: a put waits for all stores (the default), or for min of them; the others get their copies later.",
  },
  {
    name: "place",
    ...choice("round-robin", "weighted", "free"),
    description: "mode=stripe: where a new object goes: in turn (the default), by weight, or where most space is free.",
  },
  {
    name: "limit-up",
    ...byteRate,
    description: "The limit of bytes a second sent to all stores together; K, M and G are powers of 1,024.",
  },
  {
    name: "limit-down",
    ...byteRate,
    description: "The limit of bytes a second read from all stores together; K, M and G are powers of 1,024.",
  },
  {
    name: "deadline",
    expected: "a duration from 1ms to 24h, such as 500ms, 30s or 2m",
    schema: { type: "string", pattern: DURATION },
    read: (value) => (typeof value === "string" ? parseDuration(value) : undefined),
    description: "A call to a store is given up after this time without progress: 500ms, 30s, 2m, 1h.",
  },
  {
    name: "attempts",
    ...wholeNumber(1, 100),
    expected: "a whole number from 1 to 100",
    description: "How many times a call to a store is tried in all, if another attempt can help.",
  },
];

/** All their names, for errors. */
export const PARAMETER_NAMES = POOL_PARAMETERS.map((parameter) => parameter.name).join(", ");

/** One parameter's value, as it is meant. `config` for a name or a value that there is not; `where` begins the message. */
export function readParameter(name: string, value: unknown, where: string): string | number {
  const parameter = POOL_PARAMETERS.find((candidate) => candidate.name === name);
  if (!parameter) fail(`${where}unknown parameter ${quoted(name)}; there are: ${PARAMETER_NAMES}`);
  if (typeof value !== "string" && typeof value !== "number") {
    fail(`${where}${name} is ${kindOf(value)}; it may be: ${parameter.expected}`);
  }
  const read = parameter.read(value);
  if (read === undefined) fail(`${where}${name} cannot be ${quoted(String(value))}; it may be: ${parameter.expected}`);
  return read;
}

/**
 * Parameters as they were read, with the defaults of the others, for a pool of so many stores. `config` for those that do
 * not go together.
 */
export function completeParameters(
  values: ReadonlyMap<string, string | number>,
  stores: number,
  where: string,
): PoolParameters {
  const text = (name: string): string | undefined => values.get(name) as string | undefined;
  const number = (name: string): number | undefined => values.get(name) as number | undefined;
  const mode = (text("mode") as Mode | undefined) ?? "stripe";
  const onfail = (text("onfail") as OnFail | undefined) ?? "continue";
  const min = number("min");
  if (min !== undefined && (mode !== "mirror" || onfail !== "continue")) {
    fail(`${where}: min is for mode=mirror with onfail=continue; this pool is mode=${mode} with onfail=${onfail}`);
  }
  if (min !== undefined && min > stores) {
    fail(`${where}: min is ${min}, but there are ${stores} stores; it may be 1 to ${stores}`);
  }
  for (const [name, only] of MODE_OF) {
    if (values.has(name) && mode !== only) fail(`${where}: ${name} is for mode=${only}; this pool is mode=${mode}`);
  }
  const subpath = text("subpath");
  return {
    mode,
    onfail,
    min: min ?? 1,
    ...(subpath === undefined ? {} : { subpath }),
    read: (text("read") as ReadOrder | undefined) ?? "first",
    place: (text("place") as Placement | undefined) ?? "round-robin",
    wait: (text("wait") as WaitFor | undefined) ?? "all",
    ...optional("limitUp", number("limit-up")),
    ...optional("limitDown", number("limit-down")),
    ...optional("deadlineMs", number("deadline")),
    ...optional("attempts", number("attempts")),
  };
}

/** Parameters of one mode alone. */
const MODE_OF: readonly (readonly [name: string, mode: Mode])[] = [
  ["read", "mirror"],
  ["wait", "mirror"],
  ["place", "stripe"],
];

function optional<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, number>);
}
