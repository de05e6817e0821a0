// The main job, on folders: mirrors a real folder over three stores, loses one of them, reads everything back, and fills
// the lost one again. Needs no server and no account. `npm run demo` builds first.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const place = mkdtempSync(join(tmpdir(), "holdfast-demo-"));
const pool = join(place, "pool.json");

function say(text) {
  console.log(`\n# ${text}`);
}

/** Runs the command as a user would, and insists on its exit code. */
function holdfast(expected, ...args) {
  console.log(`$ holdfast -p pool.json ${args.map((arg) => arg.replace(`${place}/`, "").replace(root, "")).join(" ")}`);
  const { status } = spawnSync(process.execPath, [join(root, "dist/cli/main.js"), "-p", pool, ...args], {
    stdio: "inherit",
    env: { ...process.env, HOLDFAST_CACHE: join(place, "cache") },
  });
  if (status !== expected) throw new Error(`exit code ${status} instead of ${expected}`);
  if (expected !== 0) console.log(`(exit code ${expected}: done, but degraded)`);
}

/** Path → content of every file of a folder. */
function contentOf(folder) {
  const files = new Map();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && !path.includes(".holdfast")) files.set(path.slice(folder.length), readFileSync(path));
  }
  return files;
}

function insistSame(a, b) {
  const [left, right] = [contentOf(a), contentOf(b)];
  const differ = [...new Set([...left.keys(), ...right.keys()])].filter(
    (path) => !left.has(path) || !right.has(path) || !left.get(path).equals(right.get(path)),
  );
  if (differ.length > 0) throw new Error(`not the same: ${differ.join(", ")}`);
  console.log(`${left.size} files, byte by byte the same`);
}

try {
  const stores = ["disk", "nas", "cloud"].map((name) => ({ description: name, url: `file://${join(place, name)}` }));
  writeFileSync(pool, `${JSON.stringify({ mode: "mirror", stores }, null, 2)}\n`);
  console.log(readFileSync(pool, "utf8").replaceAll(place, "…").trim());

  say("Push a real folder (this project's source) into the mirror of three");
  holdfast(0, "push", "--quiet", join(root, "src"));
  holdfast(0, "status");

  say("Lose one of the three, and go on working");
  rmSync(join(place, "nas"), { recursive: true });
  writeFileSync(join(place, "nas"), "this disk does not answer");
  holdfast(3, "put", join(root, "package.json"));
  holdfast(3, "status");

  say("Read everything back");
  holdfast(0, "pull", "--quiet", join(place, "restored"));
  rmSync(join(place, "restored", "package.json"));
  insistSame(join(root, "src"), join(place, "restored"));

  say("A new disk: fill it again, and check every copy");
  rmSync(join(place, "nas"));
  holdfast(0, "repair", "--quiet", "--refill", "nas");
  holdfast(0, "verify");
  holdfast(0, "status");
  insistSame(join(place, "disk"), join(place, "nas"));
} finally {
  rmSync(place, { recursive: true, force: true });
}
