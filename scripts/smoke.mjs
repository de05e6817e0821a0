// Packs the package, installs it into an empty folder as a user would, and tries what a user gets: the command, the
// library with its example and its types, the schema, the man page. Prints `N passed, N failed` at the end.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const place = mkdtempSync(join(tmpdir(), "holdfast-smoke-"));
const app = join(place, "app");
const env = { ...process.env, HOLDFAST_CACHE: join(place, "cache") };
let passed = 0;
let failed = 0;

function run(command, args, options = {}) {
  return execFileSync(command, args, { cwd: app, env, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"], ...options });
}

function holdfast(...args) {
  return run(join(app, "node_modules/.bin/holdfast"), args);
}

function insist(condition, what) {
  if (!condition) throw new Error(what);
}

function step(name, work) {
  try {
    work();
    passed++;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}: ${error.message}${error.stderr ? `\n${error.stderr}` : ""}`);
  }
}

try {
  mkdirSync(app);
  const tarball = run("npm", ["pack", "--silent", "--pack-destination", place], { cwd: root })
    .trim()
    .split("\n")
    .at(-1);
  step("the tarball installs into an empty folder", () => {
    writeFileSync(join(app, "package.json"), '{ "name": "app", "private": true, "type": "module" }');
    run("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", "--silent", join(place, tarball)]);
  });
  const home = join(app, "node_modules/holdfast");
  step("holdfast --help", () => insist(holdfast("--help").includes("Exit codes:"), "no help"));
  step("holdfast --version is the package's", () => {
    const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
    insist(holdfast("--version").trim() === version, "another version");
  });
  step("the command mirrors a file over three folders", () => {
    const stores = ["a", "b", "c"].map((name) => ({ url: `file://${join(place, name)}` }));
    writeFileSync(join(place, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
    holdfast("-p", join(place, "pool.json"), "put", join(home, "README.md"));
    const content = readFileSync(join(home, "README.md"));
    for (const name of ["a", "b", "c"]) insist(readFileSync(join(place, name, "README.md")).equals(content), name);
    holdfast("-p", join(place, "pool.json"), "get", "README.md", join(place, "back.md"));
    insist(readFileSync(join(place, "back.md")).equals(content), "what was read back differs");
  });
  step("the library's example runs", () => {
    copyFileSync(join(root, "examples/mirror-stream.mjs"), join(app, "example.mjs"));
    const file = join(home, "package.json");
    const output = run(process.execPath, ["example.mjs", join(place, "pool.json"), file, "example"]);
    const { length } = readFileSync(file);
    insist(output.includes(`put ${length} bytes, read ${length}`), output);
    insist(readFileSync(join(place, "c", "example")).equals(readFileSync(file)), "the third copy differs");
  });
  step("holdfast/conformance and holdfast/pool.schema.json can be imported", () => {
    const code = `import { conformanceCases } from "holdfast/conformance";
      import { createRequire } from "node:module";
      const schema = createRequire(import.meta.url)("holdfast/pool.schema.json");
      console.log(conformanceCases().length > 10 && schema.title);`;
    insist(run(process.execPath, ["--input-type=module", "-e", code]).includes("Holdfast pool"), "not there");
  });
  step("every path in package.json's exports, types, bin and man is in the package", () => {
    const manifest = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
    const pathsOf = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(pathsOf));
    for (const path of pathsOf([manifest.exports, manifest.types, manifest.bin, manifest.man])) {
      insist(existsSync(join(home, path)), path);
    }
  });
  step("the types serve a TypeScript user", () => {
    writeFileSync(
      join(app, "use.ts"),
      `import { openPool, HoldfastError } from "holdfast";
       export async function owed(source: string): Promise<string[]> {
         const pool = await openPool(source);
         try {
           return (await pool.put("x", "text")).owed.map((debt) => debt.store);
         } catch (error) {
           if (error instanceof HoldfastError && error.code === "full") return [];
           throw error;
         } finally {
           await pool.close();
         }
       }`,
    );
    const types = join(root, "node_modules/@types");
    const flags = [
      "--noEmit",
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2023",
      "--types",
      "node",
      "--typeRoots",
      types,
    ];
    run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...flags, "use.ts"]);
  });
  step("no source, test or private file is in the package", () => {
    for (const path of ["src", "test", ".ci", "node_modules/.cache", "tsconfig.json"]) {
      insist(!existsSync(join(home, path)), path);
    }
  });
} finally {
  rmSync(place, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
