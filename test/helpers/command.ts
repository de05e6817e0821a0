/** Runs the real `holdfast` command, compiled from src/, as a child process. */
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../", import.meta.url));
let main: Promise<string> | undefined;

/** Path of the compiled command's main file. Compiles once for each state of src/, whatever number of tests asks. */
export function commandPath(): Promise<string> {
  main ??= compile();
  return main;
}

async function compile(): Promise<string> {
  const folder = `${root}dist-test/${await stateOf(`${root}src`)}`;
  const path = `${folder}/cli/main.js`;
  if (await exists(path)) return path;
  const temporary = `${folder}.${process.pid}`;
  await mkdir(temporary, { recursive: true });
  await promisify(execFile)(
    process.execPath,
    [`${root}node_modules/typescript/bin/tsc`, "-p", `${root}tsconfig.build.json`, "--outDir", temporary],
    { cwd: root },
  );
  // Another worker may have been first; then its result is as good.
  await rename(temporary, folder).catch(() => rm(temporary, { recursive: true, force: true }));
  for (const other of await readdir(`${root}dist-test`)) {
    const old = `${root}dist-test/${other}`;
    const age = Date.now() - (await stat(old).then((stats) => stats.mtimeMs, Date.now));
    if (old !== folder && age > 3_600_000) await rm(old, { recursive: true, force: true });
  }
  return path;
}

async function stateOf(folder: string): Promise<string> {
  let newest = 0;
  let files = 0;
  for (const entry of await readdir(folder, { recursive: true })) {
    const stats = await stat(`${folder}/${entry}`);
    newest = Math.max(newest, stats.mtimeMs);
    files++;
  }
  return `${Math.round(newest)}-${files}`;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** A home for the command, with a mirror of folders, which are called so, in `pool.json`. The test removes it. */
export async function mirrorHome(labels: readonly string[]): Promise<{
  readonly home: string;
  readonly stores: readonly { readonly url: string; readonly description: string }[];
}> {
  const home = await mkdtemp(join(tmpdir(), "holdfast-home-"));
  const stores = labels.map((label) => ({ url: `file://${home}/${label}`, description: label }));
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", attempts: 1, stores }));
  return { home, stores };
}

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of stdout, parsed. */
  json(): Record<string, unknown>[];
}

export interface CommandOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A descriptor that becomes its stdin, in the place of a pipe. */
  readonly stdin?: number;
  /** Given on stdin, which is then closed. Default nothing. */
  readonly input?: string | Uint8Array;
}

/** Starts the command, with nothing of the test's environment but PATH, and stdin, stdout and stderr as pipes. */
export async function startCommand(args: readonly string[], options: CommandOptions): Promise<ChildProcess> {
  return spawn(process.execPath, [await commandPath(), ...args], {
    cwd: options.cwd,
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: options.cwd,
      HOLDFAST_CACHE: `${options.cwd}/.cache`,
      ...options.env,
    },
    stdio: [options.stdin ?? "pipe", "pipe", "pipe"],
  });
}

/** Runs the command to its end. */
export async function runCommand(args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const child = await startCommand(args, options);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => err.push(chunk));
  // A command that fails before it has read its input closes the pipe.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.input ?? "");
  const code = await exitOf(child);
  const stdout = Buffer.concat(out).toString();
  return {
    code,
    stdout,
    stderr: Buffer.concat(err).toString(),
    json: () =>
      stdout
        .split("\n")
        .filter((line) => line.length > 0)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

/** Resolves with the exit code when the process has ended and its pipes are closed; null when a signal ended it. */
export function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code));
  });
}
