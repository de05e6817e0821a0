/** Runs the command and says how much memory it took: its own, not that of programs that it runs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

export interface MeasuredRun {
  readonly code: number | null;
  readonly peakMib: number;
  readonly seconds: number;
}

export interface MeasuredRunOptions {
  /** Home and working folder; a file of its own comes there. */
  readonly home: string;
  /** Beside PATH, HOME and HOLDFAST_CACHE. */
  readonly env?: Readonly<Record<string, string>>;
  /** What the command reads from stdin. Default nothing. */
  readonly input?: Iterable<Uint8Array>;
  /** Reads stdout to its end. Default: thrown away. */
  readonly drain?: (stdout: Readable) => Promise<void>;
}

/** `main` is the command's main file. Resolves when it has ended, whatever its exit code. */
export async function runMeasured(
  main: string,
  args: readonly string[],
  { home, env = {}, input, drain }: MeasuredRunOptions,
): Promise<MeasuredRun> {
  // Runs inside the command, and says how much memory it had taken when it ended.
  const hook = join(home, "peak.mjs");
  const peak = join(home, "peak");
  writeFileSync(
    hook,
    `import { writeFileSync } from "node:fs";
     process.on("exit", () => writeFileSync(${JSON.stringify(peak)}, String(process.resourceUsage().maxRSS)));`,
  );
  const started = performance.now();
  const child = spawn(process.execPath, ["--import", hook, main, ...args], {
    cwd: home,
    env: { PATH: process.env["PATH"] ?? "", HOME: home, HOLDFAST_CACHE: join(home, ".cache"), ...env },
    stdio: [input === undefined ? "ignore" : "pipe", drain === undefined ? "ignore" : "pipe", "inherit"],
  });
  const ended = once(child, "close");
  await Promise.all([
    // A command that fails before it has read its input closes the pipe; its exit code says so.
    input === undefined || child.stdin === null ? undefined : pipeline(input, child.stdin).catch(() => undefined),
    child.stdout === null ? undefined : drain?.(child.stdout),
    ended,
  ]);
  return {
    code: child.exitCode,
    peakMib: Number(readFileSync(peak, "utf8")) / 1024,
    seconds: (performance.now() - started) / 1000,
  };
}
