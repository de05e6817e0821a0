/**
 * Compiles the simulation, with a copy of the sources in which pieces and segments are small, so that a few bytes make an
 * object of many pieces. Variants with a planted bug are compiled beside it. Nothing in src/ knows of any of this.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const require = createRequire(import.meta.url);

/** For the processes that run schedules: one core each, garbage that is collected without threads beside them. */
export const NODE_OPTIONS = ["--max-semi-space-size=64", "--min-semi-space-size=16", "--single-threaded-gc"];

/** Sizes that make the interesting cases frequent. */
const SMALLER = [
  { file: "src/ledger/digest.ts", find: "PIECE_BYTES = 1024 * 1024;", replace: "PIECE_BYTES = 8;" },
  { file: "src/ledger/compaction.ts", find: "BASE_RECORDS = 20_000;", replace: "BASE_RECORDS = 3;" },
  { file: "src/ledger/segment-writer.ts", find: "MAX_BATCH_RECORDS = 1000;", replace: "MAX_BATCH_RECORDS = 3;" },
];

/** The text that stands for bytes. */
const LATIN1 = "(Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes)).toString('latin1')";

/** Functions of their arguments and nothing else, that are asked the same over and over: they answer from memory. */
const REMEMBERED = [
  ...["src/ledger/digest.ts", "src/ledger/segment.ts", "src/pool/verified-read.ts"].map((file) => ({
    file,
    find: 'import { createHash } from "node:crypto";',
    replace: `import { createHash } from "${"../".repeat(file.split("/").length - 1)}test/simulation/remembered-digests.ts";`,
  })),
  {
    file: "src/ledger/digest.ts",
    find: 'import xxhash from "xxhash-wasm";',
    replace: 'import { xxhash } from "../../test/simulation/remembered-digests.ts";',
  },
  {
    file: "src/ledger/segment.ts",
    find: "export function parseSegmentName(name: string): { level: number; records: number } | undefined {",
    replace: remembering("parseSegmentName", "parseNameAnew", "name: string", "name"),
  },
  {
    file: "src/ledger/segment.ts",
    find: "export function decodeSegment(bytes: Uint8Array, records = Infinity): Segment {",
    replace: remembering("decodeSegment", "decodeAnew", "bytes: Uint8Array, records: number = Infinity", LATIN1),
  },
  {
    file: "src/ledger/identity.ts",
    find: "export function parseIdentity(bytes: Uint8Array, store: string): Identity {",
    replace: remembering("parseIdentity", "parseAnew", "bytes: Uint8Array, store: string", LATIN1),
  },
];

/**
 * A function before the one that it stands for: what it gave is given again, what it threw is not remembered.
 *
 * @param {string} name @param {string} anew @param {string} parameters @param {string} key
 */
function remembering(name, anew, parameters, key) {
  const values = parameters.replaceAll(/: [A-Za-z0-9]+(?: = \w+)?/gu, "");
  return `const ${name}Known = new Map<string, ReturnType<typeof ${anew}>>();
export function ${name}(${parameters}): ReturnType<typeof ${anew}> {
  const key = ${key};
  let value = ${name}Known.get(key);
  if (value === undefined) {
    value = ${anew}(${values});
    if (${name}Known.size >= 1000) ${name}Known.clear();
    ${name}Known.set(key, value);
  }
  return value;
}

function ${anew}(${parameters}) {`;
}

/** @typedef {{ file: string, find: string, replace: string }} Patch */

/**
 * @param {string} folder where to, inside the project so that packages are found
 * @param {{ name: string, patches: readonly Patch[] }[]} variants
 * @param {string} [main] the file of test/simulation that a runner begins with, without its ending
 * @returns {Map<string, string>} the runner of each variant
 */
export function buildSimulations(folder, variants, main = "main") {
  const sources = join(folder, "sources");
  const output = join(folder, "compiled");
  rmSync(folder, { recursive: true, force: true });
  /** @type {Map<string, string>} */
  const runners = new Map();
  for (const { name, patches } of variants) {
    const target = join(sources, name);
    mkdirSync(target, { recursive: true });
    cpSync(join(root, "src"), join(target, "src"), { recursive: true });
    cpSync(join(root, "test", "simulation"), join(target, "test", "simulation"), { recursive: true });
    for (const patch of [...SMALLER, ...REMEMBERED, ...patches]) apply(target, patch, name);
    runners.set(name, join(output, name, "test", "simulation", `${main}.js`));
  }
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        noEmit: false,
        noCheck: true,
        rootDir: sources,
        outDir: output,
        types: [],
        incremental: false,
      },
      files: variants.map(({ name }) => join(sources, name, "test", "simulation", `${main}.ts`)),
      include: [],
    }),
  );
  const compiler = join(require.resolve("typescript/package.json"), "..", "bin", "tsc");
  execFileSync(process.execPath, [compiler, "-p", join(folder, "tsconfig.json")], { stdio: "inherit" });
  return runners;
}

/** @param {string} target @param {Patch} patch @param {string} name */
function apply(target, { file, find, replace }, name) {
  const path = join(target, file);
  const text = readFileSync(path, "utf8");
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`${name}: ${JSON.stringify(find)} is ${parts.length - 1} times in ${file}`);
  writeFileSync(path, parts.join(replace));
}
