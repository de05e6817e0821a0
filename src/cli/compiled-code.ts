/**
 * Keeps what V8 compiled between starts, in the user's cache: compiling takes more than a tenth of a short command. Whatever goes
 * wrong here is no error; the code is then compiled as ever.
 */
import { createHash, randomUUID } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import * as nodeModule from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { Script } from "node:vm";
import { cacheFolderPath } from "../cache-folder.ts";

/** Set to anything, it turns all of this off. */
const OFF = "HOLDFAST_NO_COMPILED_CODE";
/** Other versions of the command, and of Node, may be in use beside this one; older files than so many are removed. */
const KEPT_FILES = 8;
const DIGEST_BYTES = 32;

/** Node's own way to do this, since 22.1. */
const { enableCompileCache } = nodeModule as { enableCompileCache?: (folder: string) => unknown };

/**
 * Where Node can keep compiled code itself, has it do so from here on. Otherwise loads the CommonJS module at `path`, so that it
 * is there when it is required, from what was kept of it; and keeps it when the process ends, if nothing was. The module calls
 * `require` for all that it loads: `import()` would need what is an experiment in Node 20. A module that is not there is left to
 * whoever requires it.
 */
export function keepCompiled(path: string): void {
  if ((process.env[OFF] ?? "") !== "") return;
  if (enableCompileCache === undefined) load(path);
  else {
    const folder = makeFolder();
    if (folder !== undefined) enableCompileCache(folder);
  }
}

function load(path: string): void {
  const source = attempt(() => readFileSync(path, "utf8"));
  if (source === undefined) return;
  const sourceDigest = createHash("sha256").update(source).digest();
  // V8 itself compares little more of the source than its length.
  const name = `${process.version}-${process.arch}-${sourceDigest.toString("hex")}`;
  const cachedData = attempt(() => readKept(join(compiledFolder(), name), sourceDigest));
  // The function's head is a line of its own, so that the module's positions in it are those of the file.
  const script = new Script(`(function (exports, require, module, __filename, __dirname) {\n${source}\n})`, {
    filename: path,
    lineOffset: -1,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
  const require = nodeModule.createRequire(path);
  const loaded = new nodeModule.Module(path);
  loaded.filename = path;
  require.cache[require.resolve(path)] = loaded;
  const run = script.runInThisContext() as (this: unknown, ...args: unknown[]) => void;
  run.call(loaded.exports, loaded.exports, require, loaded, path, dirname(path));
  loaded.loaded = true;
  if (cachedData !== undefined && script.cachedDataRejected !== true) return;
  // At the end, since only then the functions that were called are compiled.
  process.once("exit", () => attempt(() => keep(name, sourceDigest, script)));
}

/** What was kept in a file. V8 trusts what it is given, so a digest says whether it is what was written. */
function readKept(file: string, sourceDigest: Buffer): Buffer | undefined {
  if (!isOwn(dirname(file))) return undefined;
  const bytes = readFileSync(file);
  const compiled = bytes.subarray(DIGEST_BYTES);
  return digestOf(sourceDigest, compiled).equals(bytes.subarray(0, DIGEST_BYTES)) ? compiled : undefined;
}

function keep(name: string, sourceDigest: Buffer, script: Script): void {
  const folder = makeFolder();
  if (folder === undefined) return;
  const temporary = join(folder, `${randomUUID()}.tmp`);
  try {
    // First of all whether it can be written.
    writeFileSync(temporary, "", { flag: "wx", mode: 0o600 });
    const compiled = script.createCachedData();
    writeFileSync(temporary, Buffer.concat([digestOf(sourceDigest, compiled), compiled]));
    renameSync(temporary, join(folder, name));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  const dated = files.map((entry) => join(folder, entry.name)).map((path) => ({ path, at: statSync(path).mtimeMs }));
  for (const { path } of dated.sort((a, b) => b.at - a.at).slice(KEPT_FILES)) rmSync(path, { force: true });
}

function digestOf(sourceDigest: Buffer, compiled: Buffer): Buffer {
  return createHash("sha256").update(sourceDigest).update(compiled).digest();
}

function compiledFolder(): string {
  return join(cacheFolderPath(), "compiled");
}

/** The folder, made if need be. undefined where others could write into it, and where the user has no home to have it in. */
function makeFolder(): string | undefined {
  const folder = compiledFolder();
  return attempt(() => {
    const isNamed = (process.env["HOLDFAST_CACHE"] ?? process.env["XDG_CACHE_HOME"]) !== undefined;
    if (isNamed || existsSync(homedir())) mkdirSync(folder, { recursive: true, mode: 0o700 });
    return isOwn(folder) ? folder : undefined;
  });
}

/** Whether a folder is this user's, and closed to all others: what is in it is run. */
function isOwn(folder: string): boolean {
  const stats = lstatSync(folder);
  return stats.isDirectory() && stats.uid === process.geteuid?.() && (stats.mode & 0o077) === 0;
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
