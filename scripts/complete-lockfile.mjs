// Adds to package-lock.json the optional packages that npm left out of it.
//
// npm writes an optional dependency (the binary for another platform, mostly) into the lockfile only when the registry at
// hand has it, and `npm ci` then refuses the lockfile everywhere as out of step. Their versions stand in the packages that
// want them. Run it after `npm install` of a dependency; it does nothing when nothing is missing.
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
const { packages } = lock;
const EXACT = /^\d+\.\d+\.\d+[\w.-]*$/u;
const SYSTEMS = ["darwin", "linux", "win32", "freebsd", "android", "openharmony", "netbsd", "openbsd", "sunos", "aix"];
const PROCESSORS = ["arm64", "x64", "arm", "ia32", "riscv64", "ppc64", "s390x", "loong64", "wasm32"];

/** Where `name` is found from the package at `from`, as Node resolves it. */
function resolve(from, name) {
  for (let base = from; ; base = base.slice(0, Math.max(0, base.lastIndexOf("node_modules/") - 1))) {
    const key = `${base === "" ? "" : `${base}/`}node_modules/${name}`;
    if (packages[key] !== undefined) return key;
    if (base === "") return undefined;
  }
}

let added = 0;
for (const [key, parent] of Object.entries(packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const found = resolve(key, name);
    if (!EXACT.test(version) || (found !== undefined && packages[found].version === version)) continue;
    const words = name.split(/[-/]/u);
    const system = SYSTEMS.find((one) => words.includes(one));
    const processor = PROCESSORS.find((one) => words.includes(one));
    const libc = /musl/u.test(name) ? "musl" : /gnu/u.test(name) ? "glibc" : undefined;
    packages[`${found === undefined ? "" : `${key}/`}node_modules/${name}`] = {
      version,
      ...(processor === undefined ? {} : { cpu: [processor] }),
      ...(parent.dev ? { dev: true } : {}),
      ...(system === "linux" && libc !== undefined ? { libc: [libc] } : {}),
      optional: true,
      ...(system === undefined ? {} : { os: [system] }),
      ...(parent.peer ? { peer: true } : {}),
    };
    added++;
  }
}
const keys = Object.keys(packages).sort((a, b) => a.localeCompare(b, "en"));
lock.packages = Object.fromEntries(keys.map((key) => [key, packages[key]]));
if (added > 0) writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} added`);
