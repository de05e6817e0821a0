/**
 * The command, killed (SIGKILL, by strace's fault injection) at each write, flush, rename, link, unlink, mkdir and rmdir
 * of put, overwrite, rm, push and repair on folders. The next run finds the old state or the new one, and converges.
 *
 * A part of the points by default; all of them with HOLDFAST_CRASH_POINTS=all.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { client } from "../helpers/clients.ts";
import { commandPath } from "../helpers/command.ts";

const SYSCALLS = [
  ["write", "writev", "pwrite64", "pwritev", "copy_file_range", "ftruncate", "fallocate"],
  ["fsync", "fdatasync"],
  ["rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"],
].flat();
const ALL = process.env["HOLDFAST_CRASH_POINTS"] === "all";
/** Points of one operation that a run takes by default, spread over it. */
const DEFAULT_POINTS = 16;

interface Point {
  readonly syscall: string;
  /** Which of the thread's calls of this kind, counted from 1. */
  readonly nth: number;
}

interface Scene {
  readonly name: string;
  /** What the command is given. */
  readonly args: readonly string[];
  /** Makes the pool as it is before the command. */
  prepare(pool: Pool, root: string): Promise<void>;
  /** What each object may be afterwards; undefined: absent. */
  readonly legal: Readonly<Record<string, readonly (string | undefined)[]>>;
}

const OLD = "old ".repeat(60_000);
const NEW = "new version ".repeat(30_000);
const scenes: readonly Scene[] = [
  {
    name: "put of a new name",
    args: ["put", "new.bin", "dir/x"],
    prepare: async (pool) => void (await pool.put("warm", "up")),
    legal: { "dir/x": [undefined, NEW], warm: ["up"] },
  },
  {
    name: "overwrite",
    args: ["put", "new.bin", "dir/x"],
    prepare: async (pool) => void (await pool.put("dir/x", OLD)),
    legal: { "dir/x": [OLD, NEW] },
  },
  {
    name: "rm",
    args: ["rm", "dir/x"],
    prepare: async (pool) => {
      await pool.put("dir/x", OLD);
      await pool.put("stays", "here");
    },
    legal: { "dir/x": [OLD, undefined], stays: ["here"] },
  },
  {
    name: "push --delete",
    args: ["push", "--delete", "tree", "dir"],
    async prepare(pool, root) {
      for (const name of ["dir/same", "dir/changed", "dir/gone"]) await pool.put(name, OLD);
      await pool.put("beside", OLD);
      mkdirSync(join(root, "tree"));
      writeFileSync(join(root, "tree/same"), OLD);
      writeFileSync(join(root, "tree/changed"), NEW);
      for (const name of ["new-1", "new-2"]) writeFileSync(join(root, "tree", name), NEW);
    },
    legal: {
      "dir/same": [OLD],
      "dir/changed": [OLD, NEW],
      "dir/gone": [OLD, undefined],
      "dir/new-1": [undefined, NEW],
      "dir/new-2": [undefined, NEW],
      beside: [OLD],
    },
  },
  {
    name: "repair",
    args: ["repair"],
    async prepare(pool, root) {
      for (const name of ["dir/missing", "dir/wrong", "good"]) await pool.put(name, OLD);
      await pool.put("deleted", OLD);
      await pool.delete("deleted");
      rmSync(join(root, "b/dir/missing"));
      writeFileSync(join(root, "c/dir/wrong"), OLD.replace("old", "OLD"));
      writeFileSync(join(root, "a/deleted"), OLD);
      writeFileSync(join(root, "a/by-hand"), "adopt me");
    },
    legal: {
      "dir/missing": [OLD],
      "dir/wrong": [OLD],
      good: [OLD],
      deleted: [undefined],
      "by-hand": ["adopt me"],
    },
  },
];

let root: string;
let why: string | undefined;
let command: string;
const summary: string[] = [];

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "holdfast-crash-"));
  command = await commandPath();
  try {
    await promisify(execFile)(client("strace").program, ["-f", "-o", join(root, "probe"), "-e", "trace=fsync", "true"]);
  } catch (error) {
    why = `strace cannot be run here (${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)})`;
    console.info(`crash points are not tested: ${why}`);
  }
});
afterAll(() => {
  for (const line of summary) console.info(line);
  rmSync(root, { recursive: true, force: true });
});

/** Runs the command under strace with one thread for files, so that its calls have an order. */
async function traced(work: string, args: readonly string[], straceArgs: readonly string[]): Promise<boolean> {
  const child = spawn("strace", ["-f", "-qq", ...straceArgs, process.execPath, command, "-p", "pool.json", ...args], {
    cwd: work,
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: work,
      HOLDFAST_CACHE: join(work, ".cache"),
      UV_THREADPOOL_SIZE: "1",
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr?.resume();
  await once(child, "close");
  return child.signalCode === "SIGKILL" || child.exitCode === 137;
}

/** The points of a command: its calls that change something below its folder, as a run without faults makes them. */
function pointsOf(trace: string, work: string): Point[] {
  const seen = new Map<string, number>();
  const points = new Map<string, Point>();
  for (const line of trace.split("\n")) {
    const match = /^(\d+)\s+(\w+)\((.*)$/u.exec(line);
    const [, thread, syscall, args] = match ?? [];
    if (thread === undefined || syscall === undefined || args === undefined) continue;
    const counter = `${thread} ${syscall}`;
    const nth = (seen.get(counter) ?? 0) + 1;
    seen.set(counter, nth);
    const own = args.includes(work) || args.includes("/proc/self/fd/");
    if (own) points.set(`${syscall} ${nth}`, { syscall, nth });
  }
  return [...points.values()];
}

async function valueOf(pool: Pool, name: string): Promise<string | undefined> {
  try {
    const { body } = await pool.get(name);
    return Buffer.from(await collect(body)).toString();
  } catch (error) {
    if (error instanceof HoldfastError && error.code === "not-found") return undefined;
    throw error;
  }
}

function filesBelow(folder: string, own: boolean): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((name) => name.startsWith(".holdfast/") === own)
    .sort();
}

/** The next run, on the same machine: every promise, looked at from outside. */
async function check(scene: Scene, work: string): Promise<void> {
  const url = `multi://${join(work, "pool.json")}?mode=mirror`;
  // Another machine, which knows nothing of the one that died, reads only what may be read.
  const stranger = await openPool(url, { cache: false });
  for (const [name, legal] of Object.entries(scene.legal)) expect(legal).toContain(await valueOf(stranger, name));
  await stranger.close();
  const pool = await openPool(url, { cache: join(work, ".cache") });
  const values = new Map<string, string | undefined>();
  for (const [name, legal] of Object.entries(scene.legal)) {
    const value = await valueOf(pool, name);
    expect(legal).toContain(value);
    values.set(name, value);
  }
  const repaired = await pool.maintenance.repair();
  expect(repaired).toMatchObject({ whole: true, left: [], failed: 0 });
  expect(await pool.maintenance.repair()).toMatchObject({ planned: 0, done: 0, bytes: 0 });
  for (const [name, value] of values) expect(await valueOf(pool, name)).toBe(value);
  const names = [...values].filter(([, value]) => value !== undefined).map(([name]) => name);
  const listed: string[] = [];
  for await (const { name } of pool.list("")) listed.push(name);
  expect(listed.sort()).toEqual(names.sort());
  expect(await pool.maintenance.status()).toMatchObject({ degraded: 0, unsettled: 0, objects: names.length });
  // One more write on each store sweeps what the dead process left there.
  await pool.put("after", "all");
  await pool.close();
  for (const store of ["a", "b", "c"]) {
    const folder = join(work, store);
    expect(filesBelow(folder, false)).toEqual([...names, "after"].sort());
    expect(names.map((name) => readFileSync(join(folder, name), "utf8"))).toEqual(
      names.map((name) => values.get(name)),
    );
    expect(filesBelow(folder, true).filter((name) => name.startsWith(".holdfast/tmp/"))).toEqual([]);
  }
}

describe.each(scenes)("killed in $name", (scene) => {
  it("finds the old state or the new one, and converges", { timeout: 3_600_000 }, async (context) => {
    if (why !== undefined) context.skip(why);
    const home = mkdtempSync(join(root, "scene-"));
    const work = join(home, "work");
    const template = join(home, "template");
    mkdirSync(work);
    writeFileSync(join(work, "new.bin"), NEW);
    const stores = ["a", "b", "c"].map((name) => ({ url: `file://${join(work, name)}`, description: name }));
    writeFileSync(join(work, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
    const pool = await openPool(join(work, "pool.json"), { cache: join(work, ".cache") });
    await scene.prepare(pool, work);
    await pool.close();
    cpSync(work, template, { recursive: true });
    const restore = (): void => {
      rmSync(work, { recursive: true });
      cpSync(template, work, { recursive: true });
    };

    const trace = join(home, "trace");
    await traced(work, scene.args, ["-y", "-o", trace, "-e", `trace=${SYSCALLS.join(",")}`]);
    const every = pointsOf(readFileSync(trace, "utf8"), work);
    const stride = ALL ? 1 : Math.max(1, every.length / DEFAULT_POINTS);
    const points = every.filter((_, i) => Math.floor(i / stride) !== Math.floor((i - 1) / stride));
    let killed = 0;
    for (const { syscall, nth } of points) {
      restore();
      const inject = `inject=${syscall}:signal=KILL:when=${nth}`;
      if (await traced(work, scene.args, ["-o", "/dev/null", "-e", `trace=${syscall}`, "-e", inject])) killed++;
      try {
        await check(scene, work);
      } catch (error) {
        throw new Error(`killed at ${syscall} number ${nth} of ${scene.args.join(" ")}`, { cause: error });
      }
    }
    summary.push(`crash points, ${scene.name}: ${every.length} found, ${points.length} tried, ${killed} killed`);
    expect(points.length).toBeGreaterThan(10);
    // A run may take a call less than the one that was counted, and then ends before it is killed.
    expect(killed).toBeGreaterThan(points.length * 0.8);
  });
});
