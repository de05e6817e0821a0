// Writes docs/api-surface.txt: everything that the package exports, as the compiler declares it, without comments. A change of the
// public API shows there, line by line, in review. A test fails when it is not up to date.
//
// node scripts/api-surface.mjs [FILE]: into another file.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ENTRIES = [
  ["holdfast", "index.d.ts"],
  ["holdfast/conformance", "conformance/index.d.ts"],
];
const HEAD = `# The public API, as the compiler declares it. Made by scripts/api-surface.mjs (npm run generate): do not edit.
# A line that goes or changes here may break a program that uses the library.
`;
const root = fileURLToPath(new URL("../", import.meta.url));
mkdirSync(join(root, "dist-test"), { recursive: true });
const folder = mkdtempSync(join(root, "dist-test/api-"));
/** What a file declares, imports and exports, each by its name. */
const modules = new Map();

/** The compiler writes one declaration after the other, each beginning in the first column. */
function readModule(path) {
  const known = modules.get(path);
  if (known !== undefined) return known;
  const declared = new Map();
  const imported = new Map();
  const exported = new Map();
  const parsed = { path, declared, imported, exported };
  modules.set(path, parsed);
  const text = readFileSync(path, "utf8");
  for (const statement of text.split(/\n(?=[a-z])/u)) {
    const from = /^(import|export)(?: type)? \{([^}]*)\} from "(\.[^"]+)";/u.exec(statement);
    if (from !== null) {
      const [, kind, names, target] = from;
      const file = join(dirname(path), target.replace(/\.js$/u, ".d.ts").replace(/(?<!\.d)\.ts$/u, ".d.ts"));
      for (const one of names
        .split(",")
        .map((name) => name.trim().replace(/^type /u, ""))
        .filter(Boolean)) {
        const [original, local = original] = one.split(" as ");
        (kind === "import" ? imported : exported).set(local, { file, name: original });
      }
      continue;
    }
    const name =
      /^(?:export )?(?:declare )?(?:abstract )?(?:async )?(?:interface|type|class|function|const|enum) ([\w$]+)/u.exec(
        statement,
      )?.[1];
    if (name === undefined) continue;
    declared.set(name, [...(declared.get(name) ?? []), statement.trim()]);
    if (statement.startsWith("export ")) exported.set(name, { file: path, name });
  }
  return parsed;
}

/** Where a name that a module exports is declared. */
function find({ file, name }) {
  const module = readModule(file);
  if (module.declared.has(name)) return { module, name };
  const next = module.exported.get(name) ?? module.imported.get(name);
  if (next === undefined) throw new Error(`${relative(folder, file)} has no declaration of ${name}`);
  return find(next);
}

const keyOf = ({ module, name }) => `${module.path} ${name}`;
const byName = ([a], [b]) => (a < b ? -1 : 1);

/** Without what nobody outside can use: private members, and the `declare` of each line. */
function shown(statement) {
  return statement
    .split("\n")
    .filter((line) => !/^ {4}(?:#private;|private )/u.test(line))
    .map((line) => line.replace(/^export (?:declare )?/u, "").replace(/^declare /u, ""))
    .join("\n");
}

try {
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  const flags = ["--noEmit", "false", "--emitDeclarationOnly", "--removeComments", "--outDir", folder];
  execFileSync(process.execPath, [compiler, "-p", join(root, "tsconfig.build.json"), ...flags], { stdio: "inherit" });
  const published = new Set();
  const sections = ENTRIES.map(([entry, file]) => {
    const exports = [...readModule(join(folder, file)).exported].map(([name, at]) => [name, find(at)]).sort(byName);
    for (const [, found] of exports) published.add(keyOf(found));
    return { entry, exports };
  });
  // What a declaration speaks of, and nobody can import by its name.
  const inner = new Map();
  const follow = ({ module, name }) => {
    for (const word of module.declared
      .get(name)
      .join("\n")
      .match(/[\w$]+/gu) ?? []) {
      if (word === name || (!module.declared.has(word) && !module.imported.has(word))) continue;
      const found = module.declared.has(word) ? { module, name: word } : find(module.imported.get(word));
      if (published.has(keyOf(found)) || inner.has(keyOf(found))) continue;
      inner.set(keyOf(found), found);
      follow(found);
    }
  };
  for (const { exports } of sections) for (const [, found] of exports) follow(found);
  const lines = [HEAD];
  for (const { entry, exports } of sections) {
    lines.push(`## ${entry}\n`);
    for (const [name, { module, name: original }] of exports) {
      const as = name === original ? "" : ` // as ${name}`;
      lines.push(`${module.declared.get(original).map(shown).join("\n")}${as}\n`);
    }
  }
  if (inner.size > 0) {
    lines.push("## Spoken of above, and exported by no entry\n");
    for (const [, { module, name }] of [...inner.values()].map((one) => [one.name, one]).sort(byName)) {
      lines.push(`${module.declared.get(name).map(shown).join("\n")}\n`);
    }
  }
  writeFileSync(process.argv[2] ?? join(root, "docs/api-surface.txt"), `${lines.join("\n").trimEnd()}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
