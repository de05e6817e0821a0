/** Runs a command and says how long it took, how much CPU and how much memory. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TIME = "/usr/bin/time";

export interface Measured {
  readonly wallMs: number;
  /** User and system time of the command and its children; undefined where GNU time is not installed. */
  readonly cpuMs?: number;
  /** The largest resident size of any one process of the command, in bytes; undefined likewise. */
  readonly peakBytes?: number;
  /** From the start to the first byte on stdout. */
  readonly firstMs?: number;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Exit codes that are no failure. Default 0. */
  readonly accept?: readonly number[] | undefined;
  /** Count the lines of stdout instead of keeping them; `stdout` is the number. */
  readonly countLines?: boolean | undefined;
}

export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
}

let runs = 0;

/** Runs a command to its end. Rejects with {@link CommandFailed} for an exit code that is not accepted. */
export async function measure(command: readonly string[], options: CommandOptions = {}): Promise<Measured> {
  const [program = "", ...rest] = command;
  const times = join(tmpdir(), `holdfast-bench-time-${process.pid}-${runs++}`);
  const timed = existsSync(TIME);
  // A certificate authority of the surroundings is of no use on loopback, and rclone 1.60 cannot have one with S3.
  const { AWS_CA_BUNDLE: _, ...surroundings } = process.env;
  const env = { ...surroundings, ...options.env };
  const startedAt = performance.now();
  const child = timed
    ? spawn(TIME, ["-q", "-o", times, "-f", "%U %S %M", program, ...rest], { env })
    : spawn(program, rest, { env });
  child.stdin.end();
  let firstMs: number | undefined;
  let lines = 0;
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => {
    firstMs ??= performance.now() - startedAt;
    if (options.countLines === true) {
      for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines++;
    } else out.push(chunk);
  });
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, signal) => resolve(exitCode ?? (signal === null ? 1 : 128)));
  });
  const wallMs = performance.now() - startedAt;
  const stderr = Buffer.concat(err).toString();
  const figures = timed && existsSync(times) ? readFileSync(times, "utf8").trim().split(/\s+/u).map(Number) : [];
  rmSync(times, { force: true });
  if (!(options.accept ?? [0]).includes(code)) {
    throw new CommandFailed(`${command.join(" ")}: exit code ${code}: ${stderr.trim().slice(-600)}`);
  }
  const [user, system, kilobytes] = figures;
  return {
    wallMs,
    code,
    stderr,
    stdout: options.countLines === true ? String(lines) : Buffer.concat(out).toString(),
    ...(firstMs === undefined ? {} : { firstMs }),
    ...(user === undefined || system === undefined ? {} : { cpuMs: (user + system) * 1000 }),
    ...(kilobytes === undefined ? {} : { peakBytes: kilobytes * 1024 }),
  };
}

/** The middle of some numbers, or the mean of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
