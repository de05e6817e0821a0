// Bundles the command: dist/cli/main.js with lazy chunks beside it, instead of some eighty modules that Node would find,
// read and link one by one at each start. The library in dist/ stays as the compiler wrote it.
//
// As CommonJS: Node loads that at once, without the promises, the look at every export and (with node:crypto) the whole Web Crypto
// that an ES module brings.
//
// What is called at each start is bundled with it; every other dependency stays where npm puts it, and is loaded by the
// chunk that needs it. The licences of what is bundled go into dist/cli/licenses.txt.
//
// node scripts/bundle-command.mjs [FOLDER]: into another folder than dist/cli.
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

// zod/mini, not zod: what only a gateway needs of it would come along.
const BUNDLED = ["commander", "zod/mini", "xxhash-wasm"];
const root = fileURLToPath(new URL("../", import.meta.url));
const folder = process.argv[2] ?? `${root}dist/cli`;

/** What a command on a pool of folders loads in any case: one file, which V8 reads at once and compiles as far as it is called. */
const isAtStart = (id) =>
  /\/src\/(?:[^/]+|(?:contract|support|config|ledger|machine|pool|repair|wrappers)\/.+|stores\/(?:open-store|store-address|file\/file-store|base\/(?:operations|name-order|url-parameters))\.ts|cli\/(?:command|run|target|program|commands\/(?:ls|put|get|push|pull)|terminal\/(?:printer|output))\.ts)$|\/node_modules\/(?:commander|xxhash-wasm|zod)\//u.test(
    id,
  ) && !/\/src\/(?:.*generated-files|support\/(?:xml|signature-v4|parts)|config\/pool-schema)\.ts$/u.test(id);

const nameOf = (id) => id.split("/", id.startsWith("@") ? 2 : 1).join("/");
const bundledNames = new Set(BUNDLED.map(nameOf));
const bundle = await rolldown({
  input: { main: `${root}src/cli/main.ts`, "generated-files": `${root}src/cli/generated-files.ts` },
  platform: "node",
  tsconfig: false,
  external: (id) => id.startsWith("node:") || (/^[@a-z]/u.test(id) && !BUNDLED.includes(id)),
  onLog(level, log) {
    // A command that another command uses.
    if (log.code === "INEFFECTIVE_DYNAMIC_IMPORT") return;
    throw new Error(`${level}: ${log.message}`);
  },
});
rmSync(folder, { recursive: true, force: true });
const { output } = await bundle.write({
  dir: folder,
  format: "cjs",
  entryFileNames: "[name].js",
  // src/cli/main.ts names the first.
  chunkFileNames: ({ name }) => (name === "start" ? "chunks/start.js" : "chunks/[name]-[hash].js"),
  codeSplitting: {
    groups: [
      // What loads the start's file cannot be in it.
      { name: "cache-folder", test: /\/src\/machine\/cache-folder\.ts$/u, priority: 1 },
      { name: "start", test: (id) => isAtStart(id) },
    ],
  },
  minify: { mangle: false, compress: false, codegen: true },
});
await bundle.close();
writeFileSync(`${folder}/package.json`, '{ "type": "commonjs" }\n');

// What the entry needs before it does anything must be in these files: a package would be found and read at each start.
const byName = new Map(output.map((chunk) => [chunk.fileName, chunk]));
const atStart = new Set(["main.js", "chunks/start.js"]);
for (const name of atStart) {
  for (const one of byName.get(name)?.imports ?? []) atStart.add(one);
}
const packages = [...atStart].filter((name) => !byName.has(name) && !name.startsWith("node:"));
if (packages.length > 0) throw new Error(`loaded at each start: ${packages.join(", ")}`);
// src/cli/compiled-code.ts loads this one, without `import()`.
const imported = byName.get("chunks/start.js").dynamicImports.filter((name) => !byName.has(name));
if (imported.length > 0) throw new Error(`imported by what is kept compiled: ${imported.join(", ")}`);

const used = new Set();
for (const chunk of output) {
  for (const id of chunk.moduleIds ?? []) {
    const name = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//u.exec(id)?.[1];
    if (name !== undefined) used.add(name);
  }
}
const unknown = [...used].filter((name) => !bundledNames.has(name));
if (unknown.length > 0) throw new Error(`bundled without being listed: ${unknown.join(", ")}`);
const texts = BUNDLED.map(nameOf).map((name) => {
  const { version, license } = JSON.parse(readFileSync(`${root}node_modules/${name}/package.json`, "utf8"));
  const file = readdirSync(`${root}node_modules/${name}`).find((entry) => /^licen[cs]e/iu.test(entry));
  if (file === undefined) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(`${root}node_modules/${name}/${file}`, "utf8").trim()}\n`;
});
writeFileSync(`${folder}/licenses.txt`, texts.join(`\n${"-".repeat(80)}\n\n`));
