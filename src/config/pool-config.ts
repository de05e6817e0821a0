/**
 * Parses a pool's URL and file, as people write them, into a checked description.
 *
 * The forms and rules of `multi://` are those of duplicity's multi backend, and a file that it accepts works here
 * unchanged. Every mistake is a `config` error that names the place and the allowed values. No message holds a
 * credential: it shows only the redacted form of a URL, and only the name of an environment variable.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { isRefusedEnvironmentName } from "./environment-names.ts";
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import { findJsonFault } from "./json-fault.ts";
import type { Mode, OnFail } from "../contract/pool.ts";
import { secretsOf } from "../support/redact.ts";
import { looksLikeUrl, parseStoreUrl } from "../contract/store-url.ts";
import type { StoreUrl } from "../contract/store-url.ts";

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

/** One store of a pool. */
export interface StoreDescription {
  /** With the pool's subpath appended. May hold a password: never print it. */
  readonly url: string;
  readonly parsed: StoreUrl;
  readonly description?: string;
  /** Unique in the pool: the description, or else the URL without credentials. */
  readonly label: string;
  /**
   * Environment variables for this store alone. A nested pool's stores also get those of the pool around them; their
   * own count first.
   */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Mirror: names with one of these prefixes go only to the stores that have it. Names without a prefix of any store go
   * to all.
   */
  readonly prefixes: readonly string[];
  /** Stripe with `place=weighted`: its share relative to the other stores'. Default 1. */
  readonly weight: number;
  /** For a `multi://` store: the nested pool. */
  readonly pool?: PoolDescription;
}

export interface PoolDescription extends PoolParameters {
  readonly kind: "pool";
  readonly stores: readonly StoreDescription[];
  /** Warnings for the user about things that are odd but not wrong. */
  readonly warnings: readonly string[];
  /** Absolute path of the pool's file. */
  readonly sourcePath?: string;
}

/** The description of POOL when it names one store, not a pool. */
export interface SingleDescription {
  readonly kind: "single";
  readonly url: string;
  readonly parsed: StoreUrl;
  readonly warnings: readonly string[];
}

/** A pool's file as read. */
export interface PoolFile {
  readonly bytes: Uint8Array;
  /** Permission bits, if the file system has them. A warning follows if others may read a file with credentials. */
  readonly mode?: number;
}

export interface ParsePoolOptions {
  /** Reads a pool's file, given its absolute path; resolves to "folder" when it is one. Default from the disk. */
  readonly readFile?: ((path: string) => Promise<PoolFile | "folder">) | undefined;
  /** The folder that relative paths start from. Default the process's. */
  readonly cwd?: string | undefined;
}

/** A file larger than this is refused, because it cannot be a pool's file. */
export const MAX_POOL_FILE_BYTES = 1024 * 1024;

/** The limit of pools inside pools. */
const MAX_NESTING = 8;

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
export function parseByteCount(value: string | number): number | undefined {
  const text = String(value);
  if (!new RegExp(RATE, "u").test(text)) return undefined;
  const factor = { K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[text.at(-1) ?? ""] ?? 1;
  const bytes = Math.floor(Number.parseFloat(text) * factor);
  return bytes >= 1 ? bytes : undefined;
}

/** Milliseconds from `500ms`, `30s`, `2m`, `1h`; undefined for anything else, below 1 ms and above 24 hours. */
export function parseDuration(value: string | number): number | undefined {
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
    expected: "bytes a second, such as 500K, 1.5M or 2G",
    schema: {
      anyOf: [
        { type: "integer", minimum: 1, maximum: 999_999_999_999 },
        { type: "string", pattern: RATE },
      ],
    },
    read: parseByteCount,
    description: "The limit of bytes a second sent to all stores together; K, M and G are powers of 1,024.",
  },
  {
    name: "limit-down",
    expected: "bytes a second, such as 500K, 1.5M or 2G",
    schema: {
      anyOf: [
        { type: "integer", minimum: 1, maximum: 999_999_999_999 },
        { type: "string", pattern: RATE },
      ],
    },
    read: parseByteCount,
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

const PARAMETER_NAMES = POOL_PARAMETERS.map((parameter) => parameter.name).join(", ");

function fail(message: string, cause?: unknown): never {
  throw new HoldfastError("config", message, { operation: "open", cause });
}

/** Text from a file or URL for a message: quoted, cut, without control characters. */
function quoted(text: string): string {
  const quote = JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
  return quote.isWellFormed() ? quote : quote.toWellFormed();
}

/**
 * Reads POOL: a `multi://` URL, the path of a pool's file, the path of a folder (a single store), or a single store's
 * URL. Nested pools are read too. Throws `config`, with a message for the user, for every mistake.
 */
export async function parsePool(
  text: string,
  options: ParsePoolOptions = {},
): Promise<PoolDescription | SingleDescription> {
  const cwd = options.cwd ?? process.cwd();
  const readFile = options.readFile ?? readPoolFile;
  if (text.length === 0) fail("the pool is empty: give a multi:// URL, a pool file's path or a store's URL");
  if (/^multi:/iu.test(text)) {
    return parseMulti(text, { cwd, readFile, outerSubpath: "", outerEnv: {}, ancestors: [], where: "the pool" });
  }
  if (looksLikeUrl(text)) return { kind: "single", url: text, parsed: parseStoreUrl(text), warnings: [] };
  if (text.includes("\0")) fail("the pool's path holds a NUL character");
  const path = resolve(cwd, expandHome(text));
  const file = await readFile(path);
  if (file === "folder") return { kind: "single", url: text, parsed: parseStoreUrl(text), warnings: [] };
  return describe(file, path, new Map(), {
    cwd,
    readFile,
    outerSubpath: "",
    outerEnv: {},
    ancestors: [],
    where: "the pool",
  });
}

/** A single store as a pool: a mirror of that one. */
export function poolOfOne({ url, parsed, warnings }: SingleDescription): PoolDescription {
  return {
    kind: "pool",
    mode: "mirror",
    onfail: "continue",
    min: 1,
    read: "first",
    place: "round-robin",
    wait: "all",
    stores: [{ url, parsed, label: parsed.redacted, env: {}, prefixes: [], weight: 1 }],
    warnings,
  };
}

interface Context {
  readonly cwd: string;
  readonly readFile: (path: string) => Promise<PoolFile | "folder">;
  /** Subpaths of the pools around this one, appended behind its own. */
  readonly outerSubpath: string;
  readonly outerEnv: Readonly<Record<string, string>>;
  /** Paths of the pool files around this one. */
  readonly ancestors: readonly string[];
  /** The name of this pool in errors. */
  readonly where: string;
}

function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? homedir() + path.slice(1) : path;
}

async function parseMulti(url: string, context: Context): Promise<PoolDescription> {
  const match = /^multi:\/\/([^?]*)(?:\?([\s\S]*))?$/iu.exec(url);
  if (!match) fail(`${context.where}: a pool's URL is multi:///path/to/file.json, with parameters behind a ?`);
  const written = match[1] ?? "";
  const query = match[2] ?? "";
  // Errors in the parameters come before those of the file, because the user has just typed the parameters.
  const parameters = parseQuery(query, context.where);
  let path: string;
  try {
    path = decodeURIComponent(written);
  } catch (error) {
    fail(`${context.where}: the path in the pool's URL is not percent-encoded correctly`, error);
  }
  if (path.length === 0) fail(`${context.where}: the pool's URL names no file: multi:///path/to/file.json`);
  if (path.includes("\0")) fail(`${context.where}: the path in the pool's URL holds a NUL character`);
  const absolute = resolve(context.cwd, expandHome(path));
  const file = await context.readFile(absolute);
  if (file === "folder") fail(`${absolute} is a folder, not a pool's file`);
  return describe(file, absolute, parameters, context);
}

/** A parameter of the URL: the text, for messages, and its value. */
interface GivenParameter {
  readonly text: string;
  readonly value: string | number;
}

/**
 * The parameters behind `?`, read as strictly as by Python's `parse_qs(…, strict_parsing=True)`. An empty value, which
 * Python drops silently, is an error too.
 */
function parseQuery(query: string, where: string): Map<string, GivenParameter> {
  const parameters = new Map<string, GivenParameter>();
  if (query.length === 0) return parameters;
  for (const field of query.split("&")) {
    const equals = field.indexOf("=");
    if (equals === -1) {
      fail(
        field.length === 0
          ? `${where}: the query of the URL cannot be parsed: a parameter is empty (two & in a row, or one at an end)`
          : `${where}: the query of the URL cannot be parsed: ${quoted(field)} is not of the form name=value`,
      );
    }
    const name = decodeField(field.slice(0, equals), where);
    const parameter = POOL_PARAMETERS.find((candidate) => candidate.name === name);
    if (!parameter) fail(`${where}: unknown parameter ${quoted(name)} in the URL; there are: ${PARAMETER_NAMES}`);
    if (parameters.has(name)) fail(`${where}: the parameter ${name} is in the URL more than once`);
    const value = decodeField(field.slice(equals + 1), where);
    if (value.length === 0) fail(`${where}: the parameter ${name} is empty; it may be: ${parameter.expected}`);
    parameters.set(name, { text: value, value: readParameter(name, value, `${where}: in the URL, `) });
  }
  return parameters;
}

function decodeField(text: string, where: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch (error) {
    fail(
      `${where}: the query of the URL cannot be parsed: a % is not followed by two hexadecimal digits of UTF-8`,
      error,
    );
  }
}

/** Reads the file from disk. Throws `config` if there is none, if it is not a file, or if it is too large. */
async function readPoolFile(path: string): Promise<PoolFile | "folder"> {
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "ENOENT" || code === "ENOTDIR") {
      fail(`there is no pool file or folder ${quoted(path)} (a store that is not a folder is named by a URL)`, error);
    }
    if (code === "EACCES" || code === "EPERM") fail(`the pool file ${quoted(path)} may not be read`, error);
    fail(`the pool file ${quoted(path)} cannot be opened (${code || "unknown error"})`, error);
  }
  try {
    const stat = await handle.stat();
    if (stat.isDirectory()) return "folder";
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, null);
      if (bytesRead === 0) break;
      bytes += bytesRead;
      if (bytes > MAX_POOL_FILE_BYTES) {
        fail(`${quoted(path)} is larger than ${MAX_POOL_FILE_BYTES} bytes: that is not a pool file`);
      }
      chunks.push(buffer.subarray(0, bytesRead));
    }
    return { bytes: Buffer.concat(chunks), ...(stat.isFile() ? { mode: stat.mode & 0o777 } : {}) };
  } catch (error) {
    if (isHoldfastError(error)) throw error;
    fail(`the pool file ${quoted(path)} cannot be read`, error);
  } finally {
    await handle.close();
  }
}

function parseJson(bytes: Uint8Array, path: string): unknown {
  if (bytes.length > MAX_POOL_FILE_BYTES) {
    fail(`${quoted(path)} is larger than ${MAX_POOL_FILE_BYTES} bytes: that is not a pool file`);
  }
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    fail(`the pool file ${quoted(path)} begins with a byte order mark; save it as UTF-8 without one`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    fail(`the pool file ${quoted(path)} is not UTF-8`, error);
  }
  if (text.trim().length === 0) fail(`the pool file ${quoted(path)} is empty`);
  const fault = findJsonFault(text);
  if (fault) {
    fail(`the pool file ${quoted(path)} is not JSON: line ${fault.line}, column ${fault.column}: ${fault.what}`);
  }
  return JSON.parse(text);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

async function describe(
  file: PoolFile,
  path: string,
  fromUrl: ReadonlyMap<string, GivenParameter>,
  context: Context,
): Promise<PoolDescription> {
  if (context.ancestors.includes(path)) {
    const chain = [...context.ancestors.slice(context.ancestors.indexOf(path)), path].map(quoted).join(" → ");
    fail(`a pool cannot be a store of itself: ${chain}`);
  }
  if (context.ancestors.length >= MAX_NESTING)
    fail(`pools are nested more than ${MAX_NESTING} deep at ${quoted(path)}`);
  const where = quoted(path);
  const root = parseJson(file.bytes, path);
  const warnings: string[] = [];

  const objectForm = isRecord(root);
  if (!objectForm && !Array.isArray(root)) {
    fail(`${where}: a pool file is a list of stores, or an object with the key "stores"; this is ${kindOf(root)}`);
  }
  const values = new Map<string, string | number>();
  for (const [name, given] of fromUrl) values.set(name, given.value);
  let elements: unknown[];
  if (objectForm) {
    if (!("stores" in root)) fail(`${where}: the key "stores" is missing`);
    if (!Array.isArray(root["stores"])) fail(`${where}: "stores" is a list, not ${kindOf(root["stores"])}`);
    elements = root["stores"];
    for (const [name, value] of Object.entries(root)) {
      if (name === "stores") continue;
      if (name === "$schema") {
        if (typeof value !== "string") fail(`${where}: "$schema" is a string, not ${kindOf(value)}`);
        continue;
      }
      if (!POOL_PARAMETERS.some((parameter) => parameter.name === name)) {
        fail(`${where}: unknown key ${quoted(name)}; there are: stores, ${PARAMETER_NAMES}`);
      }
      const read = readParameter(name, value, `${where}: `);
      const other = values.get(name);
      if (other !== undefined && other !== read) {
        fail(
          `${where}: ${name} is ${quoted(String(value))} in the file, but ${quoted(fromUrl.get(name)?.text ?? "")} in the URL`,
        );
      }
      values.set(name, read);
    }
  } else {
    elements = root;
  }
  if (elements.length === 0) fail(`${where}: the list of stores is empty`);

  const text = (name: string): string | undefined => values.get(name) as string | undefined;
  const number = (name: string): number | undefined => values.get(name) as number | undefined;
  const mode = (text("mode") as Mode | undefined) ?? "stripe";
  const onfail = (text("onfail") as OnFail | undefined) ?? "continue";
  const min = number("min");
  const read = text("read") as ReadOrder | undefined;
  const place = text("place") as Placement | undefined;
  const wait = text("wait") as WaitFor | undefined;
  if (min !== undefined && (mode !== "mirror" || onfail !== "continue")) {
    fail(`${where}: min is for mode=mirror with onfail=continue; this pool is mode=${mode} with onfail=${onfail}`);
  }
  if (min !== undefined && min > elements.length) {
    fail(`${where}: min is ${min}, but there are ${elements.length} stores; it may be 1 to ${elements.length}`);
  }
  if (read !== undefined && mode !== "mirror") fail(`${where}: read is for mode=mirror; this pool is mode=${mode}`);
  if (wait !== undefined && mode !== "mirror") fail(`${where}: wait is for mode=mirror; this pool is mode=${mode}`);
  if (place !== undefined && mode !== "stripe") fail(`${where}: place is for mode=stripe; this pool is mode=${mode}`);
  const subpath = text("subpath");

  const stores: StoreDescription[] = [];
  const inner: Context = { ...context, ancestors: [...context.ancestors, path] };
  for (const [index, element] of elements.entries()) {
    stores.push(
      await describeStore(element, {
        index,
        where,
        objectForm,
        mode,
        subpath: subpath ?? "",
        warnings,
        context: inner,
      }),
    );
  }
  checkWeights(stores, mode, place ?? "round-robin", where);
  checkDuplicates(stores, context.cwd, where);
  if (min !== undefined) checkPrefixes(stores, min, where);
  if (
    file.mode !== undefined &&
    (file.mode & 0o044) !== 0 &&
    stores.some((store) => secretsOf(store.parsed, store.env).length > 0)
  ) {
    const octal = file.mode.toString(8).padStart(3, "0");
    warnings.push(`${where} holds credentials and can be read by others (mode ${octal}); chmod 600 it`);
  }
  return {
    kind: "pool",
    mode,
    onfail,
    min: min ?? 1,
    ...(subpath === undefined ? {} : { subpath }),
    read: read ?? "first",
    place: place ?? "round-robin",
    wait: wait ?? "all",
    ...optional("limitUp", number("limit-up")),
    ...optional("limitDown", number("limit-down")),
    ...optional("deadlineMs", number("deadline")),
    ...optional("attempts", number("attempts")),
    stores: uniqueLabels(stores),
    warnings,
    sourcePath: path,
  };
}

function optional<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, number>);
}

function readParameter(name: string, value: unknown, where: string): string | number {
  const parameter = POOL_PARAMETERS.find((candidate) => candidate.name === name);
  if (!parameter) fail(`${where}unknown parameter ${quoted(name)}; there are: ${PARAMETER_NAMES}`);
  if (typeof value !== "string" && typeof value !== "number") {
    fail(`${where}${name} is ${kindOf(value)}; it may be: ${parameter.expected}`);
  }
  const read = parameter.read(value);
  if (read === undefined) fail(`${where}${name} cannot be ${quoted(String(value))}; it may be: ${parameter.expected}`);
  return read;
}

/** The position of an entry in the pool's file, and the settings that apply to it. */
interface EntryContext {
  readonly index: number;
  readonly where: string;
  readonly objectForm: boolean;
  readonly mode: Mode;
  readonly subpath: string;
  readonly warnings: string[];
  readonly context: Context;
}

const STORE_KEYS = ["url", "description", "env", "prefixes", "weight"];

async function describeStore(element: unknown, context: EntryContext): Promise<StoreDescription> {
  const { warnings, objectForm, mode } = context;
  const where = `${context.where}: store ${context.index + 1}`;
  /**
   * A list may have oddities that duplicity ignores. Here they are ignored with a warning; in the object form they are
   * errors.
   */
  const odd = (message: string): void => {
    if (objectForm) fail(message);
    warnings.push(`${message}; ignored`);
  };
  if (!isRecord(element)) fail(`${where} is ${kindOf(element)}; it is an object with a "url"`);
  for (const key of Object.keys(element)) {
    if (!STORE_KEYS.includes(key)) odd(`${where}: unknown key ${quoted(key)} (there are: ${STORE_KEYS.join(", ")})`);
  }
  const url = element["url"];
  if (url === undefined) fail(`${where} has no "url"`);
  if (typeof url !== "string") fail(`${where}: "url" is a string, not ${kindOf(url)}`);
  if (url.length === 0) fail(`${where}: "url" is empty`);
  if (!url.isWellFormed()) fail(`${where}: "url" is not well-formed Unicode`);
  let description: string | undefined;
  if (element["description"] !== undefined) {
    if (typeof element["description"] === "string") description = element["description"];
    else odd(`${where}: "description" is a string, not ${kindOf(element["description"])}`);
  }
  const env = { ...context.context.outerEnv, ...readEnvironment(element["env"], where, odd) };
  let prefixes: string[] = [];
  if ("prefixes" in element) {
    if (mode !== "mirror") fail(`${where}: "prefixes" is for mode=mirror; this pool is mode=${mode}`);
    prefixes = readPrefixes(element["prefixes"], where);
  }
  let weight = 1;
  if (element["weight"] !== undefined) {
    const given = element["weight"];
    if (typeof given !== "number" || !(given > 0) || given > 1_000_000) {
      fail(`${where}: "weight" is a number above 0 and at most 1000000`);
    }
    weight = given;
  }

  const nested = /^multi:/iu.test(url);
  const subpath = context.subpath + context.context.outerSubpath;
  const full = nested ? url : appendSubpath(url, subpath);
  let parsed: StoreUrl;
  try {
    parsed = parseStoreUrl(full);
  } catch (error) {
    fail(`${where}: ${error instanceof Error ? error.message : "its URL cannot be read"}`);
  }
  let pool: PoolDescription | undefined;
  if (nested) {
    pool = await parseMulti(url, { ...context.context, outerSubpath: subpath, outerEnv: env, where });
    warnings.push(...pool.warnings);
  }
  return {
    url: full,
    parsed,
    ...(description === undefined ? {} : { description }),
    label: labelOf(description, parsed),
    env,
    prefixes,
    weight,
    ...(pool === undefined ? {} : { pool }),
  };
}

function readEnvironment(value: unknown, where: string, odd: (message: string) => void): Record<string, string> {
  if (value === undefined) return {};
  if (!Array.isArray(value)) fail(`${where}: "env" is a list of {"name", "value"}, not ${kindOf(value)}`);
  const env = new Map<string, string>();
  for (const [index, entry] of (value as unknown[]).entries()) {
    const at = `${where}: "env" entry ${index + 1}`;
    if (!isRecord(entry)) fail(`${at} is an object with "name" and "value", not ${kindOf(entry)}`);
    const name = entry["name"];
    const text = entry["value"];
    if (typeof name !== "string") fail(`${at}: "name" is a string, not ${kindOf(name)}`);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/u.test(name)) {
      fail(`${at}: a name consists of letters, digits and _, and does not begin with a digit`);
    }
    if (isRefusedEnvironmentName(name)) {
      fail(`${at}: ${name} is refused, because it can make a program run other code`);
    }
    if (typeof text !== "string") fail(`${at}: the value of ${name} is a string, not ${kindOf(text)}`);
    if (text.includes("\0")) fail(`${at}: the value of ${name} holds a NUL character`);
    if (env.has(name)) odd(`${at}: ${name} is there twice (the last counts)`);
    for (const key of Object.keys(entry)) {
      if (key !== "name" && key !== "value") odd(`${at}: unknown key ${quoted(key)} (there are: name, value)`);
    }
    env.set(name, text);
  }
  // An assignment to `__proto__` would set no own property, so the object is made from entries.
  return Object.fromEntries(env);
}

function readPrefixes(value: unknown, where: string): string[] {
  if (!Array.isArray(value)) fail(`${where}: "prefixes" is a list of strings, not ${kindOf(value)}`);
  const prefixes: string[] = [];
  for (const prefix of value as unknown[]) {
    if (typeof prefix !== "string") fail(`${where}: a prefix is a string, not ${kindOf(prefix)}`);
    if (!prefix.isWellFormed() || prefix.includes("\0")) fail(`${where}: a prefix is well-formed Unicode without NUL`);
    if (!prefixes.includes(prefix)) prefixes.push(prefix);
  }
  return prefixes;
}

/** The URL with `subpath` behind its path, unchanged, and before its query if the scheme has one. */
function appendSubpath(url: string, subpath: string): string {
  if (subpath.length === 0) return url;
  const hasQuery = looksLikeUrl(url) && !/^file:/iu.test(url);
  const question = hasQuery ? url.indexOf("?") : -1;
  return question === -1 ? url + subpath : url.slice(0, question) + subpath + url.slice(question);
}

function labelOf(description: string | undefined, parsed: StoreUrl): string {
  // oxlint-disable-next-line eslint/no-control-regex -- a label goes to terminals and logs
  const text = description?.replace(/[\u0000-\u001f\u007f-\u009f]+/gu, " ").trim() ?? "";
  return text.length > 0 ? text.toWellFormed() : parsed.redacted;
}

/**
 * Gives stores with the same label different ones: each gets its URL behind its description or, if the URLs are the same
 * too, a number in the order of the file. No store keeps the shared label, so that it cannot mean the wrong one.
 */
function uniqueLabels(stores: readonly StoreDescription[]): StoreDescription[] {
  const urls = new Map<string, string[]>();
  for (const { label, parsed } of stores) urls.set(label, [...(urls.get(label) ?? []), parsed.redacted]);
  const taken = new Set(urls.keys());
  return stores.map((store) => {
    const same = urls.get(store.label) ?? [];
    if (same.length === 1) return store;
    const isUrlEnough = new Set(same).size === same.length;
    let label = `${store.label} (${isUrlEnough ? store.parsed.redacted : 1})`;
    for (let n = 2; taken.has(label); n++) label = `${store.label} (${n})`;
    taken.add(label);
    return { ...store, label };
  });
}

function checkWeights(stores: readonly StoreDescription[], mode: Mode, place: Placement, where: string): void {
  if (place === "weighted") return;
  const index = stores.findIndex((store) => store.weight !== 1);
  if (index !== -1) {
    fail(`${where}: store ${index + 1}: "weight" is for mode=stripe with place=weighted (this pool is mode=${mode})`);
  }
}

/** One place listed twice would count one copy as two. The same URL with another `env` may be another place. */
function checkDuplicates(stores: readonly StoreDescription[], cwd: string, where: string): void {
  const seen = new Map<string, number>();
  for (const [index, store] of stores.entries()) {
    const key =
      store.parsed.scheme === "file"
        ? `file ${resolve(cwd, expandHome(store.parsed.path))}`
        : `${store.url.replace(/\/+(?=\?|$)/u, "")} ${JSON.stringify(store.env, Object.keys(store.env).sort())}`;
    const first = seen.get(key);
    if (first !== undefined) {
      fail(`${where}: stores ${first + 1} and ${index + 1} are the same place (${store.parsed.redacted})`);
    }
    seen.set(key, index);
  }
}

/** No prefix may belong to fewer stores than `min`, because puts of its names could never succeed. */
function checkPrefixes(stores: readonly StoreDescription[], min: number, where: string): void {
  for (const prefix of stores.flatMap((store) => store.prefixes)) {
    const bound = stores.filter((store) => store.prefixes.some((other) => prefix.startsWith(other))).length;
    if (bound < min) {
      fail(`${where}: min is ${min}, but the prefix ${quoted(prefix)} is kept on ${bound} store(s) only`);
    }
  }
}
