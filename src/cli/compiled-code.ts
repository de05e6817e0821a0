/**
 * Keeps what V8 compiled between starts, in the user's cache: compiling takes more than a tenth of a short command. Whatever goes
 * wrong here is no error; the code is then compiled as ever.
 */
import { createHash, randomUUID } from "node:crypto";
import {
  existsSync,
  lstatSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import * as nodeModule from "node:module";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { Script } from "node:vm";
import { cacheFolderPath } from "../machine/cache-folder.ts";
import { makeFolderSync } from "../support/make-folder.ts";

/** Set to anything, it turns all of this off. */
const OFF = "HOLDFAST_NO_COMPILED_CODE";
/** Other versions of the command, and of Node, may be in use beside this one; older files than so many are removed. */
const KEPT_FILES = 8;
/** Names of this module's files. */
const KEPT = /^(?:v\d+\.\d+\.\d+\S*-\w+-[0-9a-f]{64}|[0-9a-f-]{36}\.tmp)$/u;
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
    const folder = makeCompiledFolder();
    if (folder !== undefined) enableCompileCache(folder);
  }
}

function load(path: string): void {
  const source = attempt(() => readFileSync(path, "utf8"));
  if (source === undefined) return;
  const sourceDigest = createHash("sha256").update(source).digest();
  // V8 itself compares little more of the source than its length.
  const name = `${process.version}-${process.arch}-${sourceDigest.toString("hex")}`;
  const cachedData = attempt(() => readKept(name, sourceDigest));
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

/** The code that was kept under a name. V8 trusts any bytes, so a digest tells whether these are the ones that were written. */
function readKept(name: string, sourceDigest: Buffer): Buffer {
  const bytes = readFileSync(join(safeFolder(), name));
  const compiled = bytes.subarray(DIGEST_BYTES);
  if (!digestOf(sourceDigest, compiled).equals(bytes.subarray(0, DIGEST_BYTES))) throw new Error("damaged");
  return compiled;
}

function keep(name: string, sourceDigest: Buffer, script: Script): void {
  const folder = makeCompiledFolder();
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
  const files = readdirSync(folder).filter((file) => KEPT.test(file));
  const dated = files.map((file) => join(folder, file)).map((path) => ({ path, at: statSync(path).mtimeMs }));
  for (const { path } of dated.sort((a, b) => b.at - a.at).slice(KEPT_FILES)) rmSync(path, { force: true });
}

function digestOf(sourceDigest: Buffer, compiled: Buffer): Buffer {
  return createHash("sha256").update(sourceDigest).update(compiled).digest();
}

/** The folder, made if need be. undefined where it is not safe, and where the user has no home to have it in. */
function makeCompiledFolder(): string | undefined {
  const isNamed = Boolean(process.env["HOLDFAST_CACHE"] || process.env["XDG_CACHE_HOME"]);
  return attempt(() => {
    const folder = compiledFolder();
    if (isNamed || existsSync(homedir())) makeFolderSync(folder);
    return safeFolder();
  });
}

function compiledFolder(): string {
  const folder = join(cacheFolderPath(), "compiled");
  // Below the working directory it would be anybody's.
  if (!isAbsolute(folder)) throw new Error("not absolute");
  return folder;
}

/**
 * The folder's path without links. Its files are run, so it must be this user's, closed to all others, and in a place where nobody
 * but this user and root can put another one. Throws where that is not so.
 */
function safeFolder(): string {
  const folder = realpathSync(compiledFolder());
  const user = process.geteuid?.();
  const { uid, mode } = lstatSync(folder);
  if (uid !== user || (mode & 0o077) !== 0) throw new Error("open to others");
  for (let above = dirname(folder); ; above = dirname(above)) {
    const place = lstatSync(above);
    // In a folder that is sticky, as /tmp, what is one user's cannot be replaced by another.
    const isClosed = (place.mode & 0o022) === 0 || (place.mode & 0o1000) !== 0;
    if ((place.uid !== user && place.uid !== 0) || !isClosed) throw new Error("in a place of others");
    if (above === dirname(above)) return folder;
  }
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
