/**
 * Parses a pool's URL and file, as people write them, into a checked description.
 *
 * The forms and rules of `multi://` are those of duplicity's multi backend, and a file that it accepts works here
 * unchanged. Every mistake is a `config` error that names the place and the allowed values. No message holds a
 * credential: it shows only the redacted form of a URL, and only the name of an environment variable.
 */
import { homedir } from "node:os";
import { resolve } from "node:path";
import { isRefusedEnvironmentName } from "./environment-names.ts";
import { fail, isRecord, kindOf, quoted } from "./faults.ts";
import { PARAMETER_NAMES, POOL_PARAMETERS, completeParameters, readParameter } from "./parameters.ts";
import type { PoolParameters } from "./parameters.ts";
import { parseJson, readPoolFile } from "./pool-file.ts";
import type { PoolFile } from "./pool-file.ts";
import type { Mode } from "../contract/pool.ts";
import { secretsOf } from "../support/redact.ts";
import { looksLikeUrl, parseStoreUrl } from "../contract/store-url.ts";
import type { StoreUrl } from "../contract/store-url.ts";

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

export interface ParsePoolOptions {
  /** Reads a pool's file, given its absolute path; resolves to "folder" when it is one. Default from the disk. */
  readonly readFile?: ((path: string) => Promise<PoolFile | "folder">) | undefined;
  /** The folder that relative paths start from. Default the process's. */
  readonly cwd?: string | undefined;
}

/** The limit of pools inside pools. */
const MAX_NESTING = 8;

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
  const objectForm = isRecord(root);
  const elements = entriesOf(root, where);
  const values = mergedParameters(objectForm ? root : {}, fromUrl, where);
  if (elements.length === 0) fail(`${where}: the list of stores is empty`);
  const parameters = completeParameters(values, elements.length, where);
  const { mode, subpath = "" } = parameters;
  const warnings: string[] = [];
  const stores: StoreDescription[] = [];
  const inner: Context = { ...context, ancestors: [...context.ancestors, path] };
  for (const [index, element] of elements.entries()) {
    stores.push(await describeStore(element, { index, where, objectForm, mode, subpath, warnings, context: inner }));
  }
  checkWeights(stores, parameters, where);
  checkDuplicates(stores, context.cwd, where);
  checkPrefixes(stores, parameters.min, where);
  if (
    file.mode !== undefined &&
    (file.mode & 0o044) !== 0 &&
    stores.some((store) => secretsOf(store.parsed, store.env).length > 0)
  ) {
    const octal = file.mode.toString(8).padStart(3, "0");
    warnings.push(`${where} holds credentials and can be read by others (mode ${octal}); chmod 600 it`);
  }
  return { kind: "pool", ...parameters, stores: uniqueLabels(stores), warnings, sourcePath: path };
}

/** The entries of the stores, in either form of the file. */
function entriesOf(root: unknown, where: string): readonly unknown[] {
  if (Array.isArray(root)) return root;
  if (!isRecord(root)) {
    fail(`${where}: a pool file is a list of stores, or an object with the key "stores"; this is ${kindOf(root)}`);
  }
  if (!("stores" in root)) fail(`${where}: the key "stores" is missing`);
  if (!Array.isArray(root["stores"])) fail(`${where}: "stores" is a list, not ${kindOf(root["stores"])}`);
  return root["stores"];
}

/** The parameters of the file's object form with those of the URL, which may not differ. */
function mergedParameters(
  root: Readonly<Record<string, unknown>>,
  fromUrl: ReadonlyMap<string, GivenParameter>,
  where: string,
): Map<string, string | number> {
  const values = new Map<string, string | number>();
  for (const [name, given] of fromUrl) values.set(name, given.value);
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
    const other = fromUrl.get(name);
    if (other !== undefined && other.value !== read) {
      fail(`${where}: ${name} is ${quoted(String(value))} in the file, but ${quoted(other.text)} in the URL`);
    }
    values.set(name, read);
  }
  return values;
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

function checkWeights(stores: readonly StoreDescription[], { mode, place }: PoolParameters, where: string): void {
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
