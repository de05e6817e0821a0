// Makes a release of what is committed: checks, sets the version, dates the changelog, commits and tags. It pushes and publishes
// nothing: docs/releasing.md says how that is done.
//
// node scripts/release.mjs VERSION [--dry-run] [--date YYYY-MM-DD]
//
// --dry-run: checks all but CI, and tells what would be changed. --date: of the release; default today, in UTC.
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

const USAGE = "usage: node scripts/release.mjs VERSION [--dry-run] [--date YYYY-MM-DD]";
const FORM = /^(\d+)\.(\d+)\.(\d+)(?:-([\w.-]+))?$/u;
const UNRELEASED = "## Unreleased\n";

class Refused extends Error {}

function refuse(message) {
  throw new Refused(message);
}

/** A program's output; what it says of errors goes to the terminal. */
function output(program, ...args) {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
}

function run(program, ...args) {
  const { status } = spawnSync(program, args, { stdio: "inherit" });
  if (status !== 0) refuse(`${[program, ...args].join(" ")} failed`);
}

/** Whether `one` comes after `other`. A version with a suffix comes before the one without. */
function isLater(one, other) {
  const [, ...a] = FORM.exec(one);
  const [, ...b] = FORM.exec(other);
  for (const place of [0, 1, 2]) if (a[place] !== b[place]) return Number(a[place]) > Number(b[place]);
  if (a[3] === b[3]) return false;
  if (a[3] === undefined || b[3] === undefined) return a[3] === undefined;
  return a[3].localeCompare(b[3], "en", { numeric: true }) > 0;
}

/** What stands under Unreleased, up to the next version. */
function unreleased(changelog) {
  const at = changelog.indexOf(UNRELEASED);
  if (at === -1) refuse("CHANGELOG.md has no part called Unreleased");
  const from = at + UNRELEASED.length;
  const next = changelog.indexOf("\n## ", from);
  return changelog.slice(from, next === -1 ? undefined : next).trim();
}

function check(version, current, changelog) {
  if (!FORM.test(version)) refuse(`${version} is no version; one is 1.2.3 or 1.2.3-rc.1`);
  if (!isLater(version, current)) refuse(`${version} does not come after ${current}`);
  if (output("git", "tag", "--list", `v${version}`) !== "") refuse(`the tag v${version} exists`);
  const dirty = output("git", "status", "--porcelain");
  if (dirty !== "") refuse(`the tree is not clean:\n${dirty}`);
  if (unreleased(changelog) === "") refuse("nothing stands under Unreleased in CHANGELOG.md");
}

/** The files that say the version, as they will be. */
function changes(version, current, changelog, date) {
  const before = ["package.json", "package-lock.json", "src/version.ts"].map((path) => [
    path,
    readFileSync(path, "utf8"),
  ]);
  const after = before.map(([path, text]) => {
    if (path === "src/version.ts") {
      if (!text.includes(`"${current}"`)) refuse(`${path} does not say ${current}`);
      return [path, text.replace(`"${current}"`, `"${version}"`)];
    }
    const data = JSON.parse(text);
    data.version = version;
    if (data.packages !== undefined) data.packages[""].version = version;
    return [path, `${JSON.stringify(data, undefined, 2)}\n`];
  });
  return [...after, ["CHANGELOG.md", changelog.replace(UNRELEASED, `${UNRELEASED}\n## ${version} - ${date}\n`)]];
}

function main() {
  const { values, positionals } = parseArgs({
    options: { "dry-run": { type: "boolean", default: false }, date: { type: "string" } },
    allowPositionals: true,
  });
  const [version, ...more] = positionals;
  if (version === undefined || more.length > 0) refuse(USAGE);
  const date = values.date ?? new Date().toISOString().slice(0, 10);
  if (!/^\d{4}-\d\d-\d\d$/u.test(date)) refuse(USAGE);
  const current = JSON.parse(readFileSync("package.json", "utf8")).version;
  const changelog = readFileSync("CHANGELOG.md", "utf8");
  check(version, current, changelog);
  const files = changes(version, current, changelog, date);
  if (values["dry-run"]) {
    console.log(`would run .ci/run, and go from ${current} to ${version} in:`);
    for (const [path] of files) console.log(`  ${path}`);
    console.log(`would run npm run generate, commit, and tag v${version} with:\n\n${unreleased(changelog)}`);
    return;
  }
  run(".ci/run");
  for (const [path, text] of files) writeFileSync(path, text);
  run("npm", "run", "--silent", "generate");
  run("git", "commit", "--all", "--quiet", "--message", `Release ${version}`);
  run(
    "git",
    "tag",
    "--annotate",
    `v${version}`,
    "--cleanup=verbatim",
    "--message",
    `Holdfast ${version}\n\n${unreleased(changelog)}`,
  );
  console.log(`tagged v${version}; what is left to do stands in docs/releasing.md`);
}

try {
  main();
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
