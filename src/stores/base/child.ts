/** Child processes of stores: with the store's own environment, and never outliving their use. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { HoldfastError, abortError } from "../../contract/errors.ts";

/** Variables that any program needs, and no secret: everything else a kind must name. */
const COMMON =
  /^(?:PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TMP|TEMP|TZ|SYSTEMROOT|WINDIR|APPDATA|LOCALAPPDATA|USERPROFILE|PROGRAMDATA|XDG_[A-Z_]+)$/iu;

/** The part of a store's environment that a program is given: the common variables, and those that `wanted` accepts. */
export function childEnv(
  env: Readonly<Record<string, string | undefined>>,
  wanted: (name: string) => boolean = () => false,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && (COMMON.test(name) || wanted(name))) result[name] = value;
  }
  return { ...result, ...more };
}

const live = new Set<ChildProcess>();

function killAll(): void {
  for (const child of live) kill(child, "SIGKILL");
}

/**
 * The whole process group, since rsync starts ssh and ssh may start a proxy: also when the program itself has ended, as
 * long as another of the group has its output open.
 */
function kill(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    if (process.platform === "win32") child.kill(signal);
    else process.kill(-child.pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

export interface ChildOptions {
  readonly env: Record<string, string>;
  readonly cwd?: string | undefined;
  /** Ends the process when it fires. */
  readonly signal?: AbortSignal | undefined;
}

export interface Child {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** The last 16 KiB of what it wrote to stderr, up to now. */
  errorText(): string;
  /** Calls `listener` with every further piece of it. */
  onErrorText(listener: (text: string) => void): void;
  /** Resolves when the process has ended and its output is complete; rejects when it could not be started. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly running: boolean;
  /** Asks it to end, and after 2 seconds makes it. Resolves when it has ended. */
  stop(): Promise<void>;
}

const ERROR_TEXT_CHARS = 16 * 1024;
const STOP_GRACE_MS = 2000;

/**
 * Starts a program. It gets its own session, so that it can ask nobody at a terminal for a password, and is killed when
 * this process exits. `program` that is not installed: `ended` rejects with `config`.
 */
export function startChild(program: string, args: readonly string[], options: ChildOptions): Child {
  const child = spawn(program, args, {
    env: options.env,
    cwd: options.cwd,
    stdio: ["pipe", "pipe", "pipe"],
    detached: process.platform !== "win32",
    windowsHide: true,
  });
  if (live.size === 0) process.on("exit", killAll);
  live.add(child);
  let errorText = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errorText = (errorText + text).slice(-ERROR_TEXT_CHARS);
  });
  // A program that ends early closes its input: how it ended says more than EPIPE.
  child.stdin.on("error", () => undefined);
  let stopTimer: NodeJS.Timeout | undefined;
  const terminate = (): void => {
    if (!live.has(child)) return;
    kill(child, "SIGTERM");
    stopTimer ??= setTimeout(() => {
      kill(child, "SIGKILL");
      // A process that left the group (ssh, in the background as the master of a shared connection) may keep them open.
      child.stdout.destroy();
      child.stderr.destroy();
    }, STOP_GRACE_MS);
  };
  options.signal?.addEventListener("abort", terminate, { once: true });
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(stopTimer);
      options.signal?.removeEventListener("abort", terminate);
      live.delete(child);
      if (live.size === 0) process.off("exit", killAll);
    };
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid !== undefined) return;
      settle();
      reject(notStarted(program, error));
    });
    child.once("close", (code, signal) => {
      settle();
      resolve({ code, signal });
    });
  });
  ended.catch(() => undefined);
  if (options.signal?.aborted) terminate();
  return {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    errorText: () => errorText,
    onErrorText: (listener) => void child.stderr.on("data", listener),
    ended,
    get running() {
      return child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    },
    stop: async () => {
      terminate();
      // Nobody reads any more: a program that waits for its output to be taken would not end.
      child.stdout.resume();
      await ended.catch(() => undefined);
    },
  };
}

function notStarted(program: string, cause: NodeJS.ErrnoException): HoldfastError {
  return cause.code === "ENOENT"
    ? new HoldfastError("config", `the program ${program} is not installed, or not in the store's PATH`, { cause })
    : new HoldfastError("internal", `the program ${program} could not be started: ${cause.message}`, { cause });
}

export interface RunResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Output beyond this is not what a program that is run for a short answer gives. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Runs a program to its end, with `input` on its stdin. `onStart` is given it while it runs. Rejects with the signal's error when that fires. */
export async function runChild(
  program: string,
  args: readonly string[],
  options: ChildOptions & { readonly input?: string | Uint8Array; readonly onStart?: (child: Child) => void },
): Promise<RunResult> {
  const child = startChild(program, args, options);
  options.onStart?.(child);
  child.stdin.end(options.input ?? "");
  const chunks: Buffer[] = [];
  let size = 0;
  let tooMuch = false;
  child.stdout.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= MAX_OUTPUT_BYTES) chunks.push(chunk);
    else if (!tooMuch) {
      tooMuch = true;
      void child.stop();
    }
  });
  const { code } = await child.ended;
  if (options.signal?.aborted) throw abortError(options.signal);
  if (tooMuch) throw new HoldfastError("internal", `${program} wrote more than ${MAX_OUTPUT_BYTES} bytes`);
  return { code, stdout: Buffer.concat(chunks), stderr: child.errorText() };
}
