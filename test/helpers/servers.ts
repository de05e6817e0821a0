/**
 * Real servers for tests, on loopback.
 *
 *     const server = await startServer("ceph-rgw");            // at the top of a test file, or in beforeAll
 *     reportStore("s3", server);                               // see server-report.ts
 *     describe.runIf(server.running)("s3 on Ceph", onServer, () => { … server.port, server.env … });
 *
 * - `startServer(name)` gives the one server of that name that the whole test run shares: the first test file that asks
 *   starts it (others wait for it), and the run's end stops it. Tests keep apart on it by a folder, bucket prefix or
 *   container of their own (`uniqueName()`).
 * - `startServer(name, { instance: "mine" })` gives a server that nobody else uses: that one may be stopped, crashed and
 *   paused (`server.control("crash")`, then `"start"`), and keeps its port and its data.
 * - Tests on a server are described with `onServer`: under CI they get another try where the server, on a busy machine, may
 *   have been at fault.
 * - Where a server cannot be had, `running` is false and `skipped` says why. `HOLDFAST_REQUIRE_SERVERS=1` makes that an
 *   error, `HOLDFAST_NO_SERVERS=1` skips every server.
 * - Missing packages are installed by `test/servers/install.sh` first, once a run, unless `HOLDFAST_NO_INSTALL=1`.
 *
 * Each run has a folder of its own under the system's temporary folder and free ports, so that runs on one machine do not
 * meet. A run that was killed leaves its folder and servers; the next run finds them by the dead owner's pid and ends
 * them. Outside of vitest (a benchmark, a script) call `await stopServers()` at the end.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, link, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export type ServerName =
  | "ceph-rgw"
  | "swift"
  | "s3rver"
  | "azurite"
  | "gcs-firebase"
  | "sshd"
  | "proftpd"
  | "vsftpd"
  | "pure-ftpd"
  | "apache-dav"
  | "nginx-dav"
  | "samba"
  | "rsyncd"
  | "rclone-webdav"
  | "rclone-sftp"
  | "rclone-restic";

export interface RunningServer {
  readonly running: true;
  readonly name: ServerName;
  /** Always 127.0.0.1. */
  readonly host: string;
  readonly port: number;
  /** What the script's `url` prints: the address in words, with test credentials. */
  readonly address: string;
  /** Server and version, for the report. */
  readonly version: string;
  /** The server's folder: data, configuration, keys, log. What stands where is in its script. */
  readonly folder: string;
  /** Runs a command of the server's script. Only for an instance of one's own. */
  control(command: "start" | "stop" | "crash" | "pause" | "resume"): Promise<void>;
}

export interface SkippedServer {
  readonly running: false;
  readonly name: ServerName;
  /** Why it cannot be had here. */
  readonly skipped: string;
}

export type Server = RunningServer | SkippedServer;

export interface StartServerOptions {
  /** A server of one's own under this name, instead of the shared one. */
  readonly instance?: string;
  /** More variables for the script (see its head). */
  readonly env?: Readonly<Record<string, string>>;
}

const scripts = path.join(import.meta.dirname, "..", "servers");
const runFolderPrefix = "holdfast-servers-";
const runVariable = "HOLDFAST_SERVERS_RUN";
const host = "127.0.0.1";

/** Ports that a script takes besides PORT: variable → offset from PORT. `span` ports from PORT on must be free. */
const portPlans: Partial<Record<ServerName, { span: number[]; variables: Record<string, number> }>> = {
  "ceph-rgw": { span: [0, 1, 2], variables: { MP1: 1, MP2: 2 } },
  swift: { span: [0, 1, 12, 22, 32], variables: { MC: 1, BASE: 2 } },
};

interface SavedServer {
  readonly port?: number;
  readonly ports?: Record<string, string>;
  readonly address?: string;
  readonly version?: string;
  readonly skipped?: string;
}

/** Options of `describe` for tests on a real server. What took its whole time would take it again. */
export const onServer = {
  retry: {
    count: process.env["CI"] === undefined ? 0 : 1,
    condition: /^(?!.*(?:timed out|has had its))/su,
  },
};

/** A name that no other test uses: for a folder, a bucket's prefix, a container. */
export function uniqueName(): string {
  return `t${randomBytes(8).toString("hex")}`;
}

/** Starts a server, or gives the shared one. Rejects only when it should have started and HOLDFAST_REQUIRE_SERVERS is set. */
export async function startServer(name: ServerName, options: StartServerOptions = {}): Promise<Server> {
  const server = await startOrSkip(name, options);
  if (!server.running && process.env["HOLDFAST_REQUIRE_SERVERS"] === "1") {
    throw new Error(`the server ${name} is required here and cannot be had: ${server.skipped}`);
  }
  return server;
}

async function startOrSkip(name: ServerName, options: StartServerOptions): Promise<Server> {
  if (process.env["HOLDFAST_NO_SERVERS"] === "1") {
    return { running: false, name, skipped: "HOLDFAST_NO_SERVERS=1 is set" };
  }
  const run = await runFolder();
  const id = options.instance === undefined ? name : `${name}-${options.instance}`;
  const saved = await once(path.join(run, id), async () => start(run, name, options));
  // Another try of a test may find the server as the first one left it.
  if (saved.port !== undefined && options.instance !== undefined) {
    await script(name, "start", scriptEnv(run, options, saved.ports ?? {}));
  }
  if (saved.skipped !== undefined || saved.port === undefined) {
    return { running: false, name, skipped: saved.skipped ?? "it did not start" };
  }
  const env = scriptEnv(run, options, saved.ports ?? {});
  return {
    running: true,
    name,
    host,
    port: saved.port,
    address: saved.address ?? "",
    version: saved.version ?? "unknown",
    folder: path.join(run, id),
    control: async (command) => {
      if (options.instance === undefined) throw new Error("a shared server is not to be stopped: ask for an instance");
      await script(name, command, env);
    },
  };
}

async function start(run: string, name: ServerName, options: StartServerOptions): Promise<SavedServer> {
  const installed = await once(path.join(run, `install-${name}`), async () => install(name));
  if (installed.skipped !== undefined) return installed;
  let reason = "";
  for (let attempt = 0; attempt < 3; attempt++) {
    const plan = portPlans[name] ?? { span: [0], variables: {} };
    const port = await freePort(plan.span);
    const ports: Record<string, string> = { PORT: String(port) };
    for (const [variable, offset] of Object.entries(plan.variables)) ports[variable] = String(port + offset);
    const env = scriptEnv(run, options, ports);
    try {
      const address = (await script(name, "start", env)).trim();
      const version = (await script(name, "version", env)).trim();
      return { port, ports, address, version };
    } catch (error) {
      reason = error instanceof Error ? error.message.trim().replaceAll(/\s+/gu, " ") : String(error);
      await script(name, "wipe", env).catch(() => undefined);
    }
  }
  return { skipped: `it did not start: ${reason}` };
}

async function install(name: ServerName): Promise<SavedServer> {
  if (process.env["HOLDFAST_NO_INSTALL"] === "1") return {};
  const output = await execute(path.join(scripts, "install.sh"), [name], process.env, 600_000).catch((error: unknown) =>
    error instanceof Error ? error.message : String(error),
  );
  const line = output
    .split("\n")
    .find((line) => line.includes(`could not get ${name.replace(/^rclone-.*/u, "rclone")}`));
  return line === undefined ? {} : { skipped: line.replace(/^install\.sh: /u, "") };
}

/**
 * Does something once for all processes of the run, and keeps its result in `<base>.json`. Who makes the lock does it; the
 * others wait for the result, or for the end of who was to give it: then one of them takes its place.
 */
async function once(base: string, action: () => Promise<SavedServer>): Promise<SavedServer> {
  const result = `${base}.json`;
  const lock = `${base}.lock`;
  const mine = `${base}.${process.pid}.${randomBytes(4).toString("hex")}`;
  await writeFile(mine, String(process.pid));
  try {
    for (;;) {
      const text = await readFile(result, "utf8").catch(() => undefined);
      if (text !== undefined) return JSON.parse(text) as SavedServer;
      try {
        await link(mine, lock);
      } catch {
        await endStaleLock(lock);
        await delay(50);
        continue;
      }
      const saved = await action().catch((error: unknown) => ({ skipped: String(error) }));
      await writeFile(`${result}.new`, JSON.stringify(saved));
      await rename(`${result}.new`, result);
      return saved;
    }
  } finally {
    await rm(mine, { force: true });
  }
}

/** Removes a lock whose maker is dead: of several who see that, one alone moves it away. */
async function endStaleLock(lock: string): Promise<void> {
  const owner = Number(await readFile(lock, "utf8").catch(() => "0"));
  if (owner === 0 || isAlive(owner)) return;
  await rename(lock, `${lock}.${owner}`).catch(() => undefined);
}

function scriptEnv(run: string, options: StartServerOptions, ports: Record<string, string>): NodeJS.ProcessEnv {
  const instance = options.instance === undefined ? {} : { INSTANCE: options.instance };
  return { ...process.env, ...options.env, ...ports, ...instance, STATE_ROOT: run };
}

async function script(name: ServerName, command: string, env: NodeJS.ProcessEnv): Promise<string> {
  return execute(path.join(scripts, `${name}.sh`), [command], env, 120_000);
}

/** Runs a script to its end. What takes longer is ended with all that it started and that stayed in its group. */
function execute(file: string, args: string[], env: NodeJS.ProcessEnv, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("bash", [file, ...args], { env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => (output[name] += text));
    }
    const timer = setTimeout(() => {
      output.stderr += `${path.basename(file)} ${args.join(" ")} took longer than ${timeoutMs / 1000} s`;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, timeoutMs);
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(output.stdout + output.stderr);
      else reject(new Error(output.stderr || output.stdout || `${file} ended with ${code}`));
    });
  });
}

/** A port from below the system's own range (so that no outgoing connection has it) at which the whole span is free. */
async function freePort(span: readonly number[]): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 11_000);
    const free = await Promise.all(span.map((offset) => isFree(port + offset)));
    if (free.every(Boolean)) return port;
  }
  throw new Error("no free ports were found between 20000 and 31000");
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, host, () => probe.close(() => resolve(true)));
  });
}

/** The run's folder: of the vitest run where there is one, else of this process. */
async function runFolder(): Promise<string> {
  return process.env[runVariable] ?? (await beginServerRun());
}

/** Makes the run's folder and names it to child processes. Called by the global set-up; ends what dead runs left. */
export async function beginServerRun(): Promise<string> {
  await endRuns();
  const folder = await mkdtemp(path.join(tmpdir(), runFolderPrefix));
  await writeFile(path.join(folder, "owner"), String(process.pid));
  await chmod(folder, 0o755); // servers that give up root must reach their data below it
  process.env[runVariable] = folder;
  return folder;
}

/** Stops every server of this run and removes its folder. */
export async function stopServers(): Promise<void> {
  const folder = process.env[runVariable];
  if (folder === undefined) return;
  await endRuns(folder);
  delete process.env[runVariable];
}

/** Ends the run with this folder; without one, every run whose owner is dead. */
async function endRuns(...folder: string[]): Promise<void> {
  await execute(path.join(scripts, "end-run.sh"), folder, process.env, 120_000);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
