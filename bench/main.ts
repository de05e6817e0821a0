/** `npm run bench`: Holdfast beside what one would take instead, and beside what the machine allows. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { stopServers } from "../test/helpers/servers.ts";
import { Bench, keepRemovedIn } from "./bench.ts";
import type { Report } from "./bench.ts";
import type { Setting } from "./contenders.ts";
import { folderGround, serverGrounds } from "./places.ts";
import { gateway } from "./gateways.ts";
import { writeChart, writePage } from "./report.ts";
import { knowing, maintaining, reading, storing } from "./scenarios.ts";
import type { Sizes } from "./scenarios.ts";
import { slowStores } from "./slow-stores.ts";

const HELP = `usage: npm run bench -- [option...]

  --quick          small workloads, under two minutes in all on a quiet machine; CI runs this
  --seconds N      leave out, and say so, what has not begun after N seconds
  --only REGEXP    only the measurements whose name matches (mirror-3-folders-small, get-large, ls, start ...)
  --contenders REGEXP   of what is beside Holdfast and the limit, only what matches ('rclone union|duplicity')
  --rounds N       how often each contender runs; the medians count. Default 3, quick: 1
  --json FILE      write the results there; with --only, results that are there already stay
  --report FILE    run nothing: make docs/performance.md and its chart from results
  --folder DIR     where the files are made. Default: the system's temporary folder

Fails only when a copy is wrong or a command of Holdfast fails; never on time. The last line counts the comparisons
in which Holdfast did everything right, and what went wrong.`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    contenders: { type: "string" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    json: { type: "string" },
    report: { type: "string" },
    folder: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

const MIB = 1024 * 1024;
const SIZES = ["large", "medium", "small"];
const full: Sizes = {
  large: 1024 * MIB,
  medium: 500,
  small: 10_000,
  listed: 1_000_000,
  unchanged: 100_000,
  requests: 5000,
  networkPart: 4,
  slowPart: 16,
  brief: false,
};
const quick: Sizes = {
  large: 48 * MIB,
  medium: 12,
  small: 240,
  listed: 3000,
  unchanged: 1000,
  requests: 160,
  networkPart: 4,
  slowPart: 6,
  brief: true,
};

const repository = join(import.meta.dirname, "../..");

function firstLineOf(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n")[0];
  } catch {
    return undefined;
  }
}

/** The interpreter in the head of the `duplicity` command: the one that has its modules. */
function duplicityPython(): string | undefined {
  const path = firstLineOf("sh", "-c", "command -v duplicity");
  if (path === undefined) return undefined;
  const head = readFileSync(path, "utf8").split("\n")[0] ?? "";
  return head.startsWith("#!") ? head.slice(2).trim().split(" ").at(-1) : undefined;
}

function machine(): Record<string, string> {
  const [cpu] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: `${cpus().length} × ${cpu?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${firstLineOf("uname", "-s") ?? "unknown"}, ${firstLineOf("stat", "-f", "-c", "%T", values.folder ?? tmpdir()) ?? "unknown"}`,
    node: process.version,
    holdfast: firstLineOf("git", "-C", repository, "describe", "--always", "--dirty") ?? "unknown",
    rclone: firstLineOf("rclone", "version") ?? "not installed",
    duplicity: firstLineOf("duplicity", "--version") ?? "not installed",
    restic: firstLineOf("restic", "version")?.split(" compiled")[0] ?? "not installed",
  };
}

async function run(): Promise<number> {
  const isQuick = values.quick;
  const sizes = isQuick ? quick : full;
  const earlier = readReport(values.json);
  const report: Report = {
    machine: machine(),
    quick: isQuick,
    leftOut: [],
    results: values.only === undefined ? [] : (earlier?.results ?? []),
  };
  const rounds = Number(values.rounds ?? (isQuick ? 1 : 3));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds is a whole number from 1");
  const seconds = values.seconds === undefined ? undefined : Number(values.seconds);
  if (seconds !== undefined && !(seconds > 0)) throw new Error("--seconds is a number above 0");
  const bench = new Bench(report, {
    rounds,
    json: values.json,
    only: values.only,
    contenders: values.contenders,
    seconds,
    warmUp: !isQuick,
  });
  const root = mkdtempSync(join(values.folder ?? tmpdir(), "holdfast-bench-"));
  keepRemovedIn(join(root, "removed"));
  const clean = async (): Promise<void> => {
    await stopServers();
    rmSync(root, { recursive: true, force: true });
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void clean().finally(() => process.exit(1)));
  }
  const python = duplicityPython();
  const setting: Setting = {
    root,
    command: join(repository, "dist/cli/main.js"),
    limit: join(import.meta.dirname, "limit.js"),
    duplicityScript: join(repository, "bench/duplicity-multi.py"),
    python,
    has: {
      rclone: firstLineOf("rclone", "version") !== undefined,
      restic: firstLineOf("restic", "version") !== undefined,
    },
  };
  if (!setting.has.rclone) bench.leaveOut("rclone", "it is not installed");
  if (!setting.has.restic) bench.leaveOut("restic", "it is not installed");
  if (python === undefined) bench.leaveOut("duplicity", "it is not installed");
  for (const [name, value] of Object.entries(report.machine)) console.log(`${name.padEnd(10)} ${value}`);
  try {
    const folders = folderGround(root);
    await knowing(bench, setting, folders, sizes, ["start"]);
    await storing(bench, setting, folders, sizes);
    await reading(bench, setting, folders, sizes);
    await maintaining(bench, setting, folders, sizes);
    await gateway(bench, setting, folders, sizes, join(import.meta.dirname, "s3-client.js"));
    const isWanted = (ground: string): boolean =>
      ["mirror-2", "stripe-2"].some((form) => SIZES.some((size) => bench.wants(`${form}-${ground}-${size}`))) ||
      (ground === "webdav" &&
        [...SIZES.map((size) => `slow-store-${size}`), "read-fastest"].some((name) => bench.wants(name)));
    const grounds = await serverGrounds(root, sizes.large, (what, why) => bench.leaveOut(what, why), isWanted);
    for (const ground of grounds) {
      if (ground.server !== undefined) report.machine[ground.title] = ground.server;
      await storing(bench, setting, ground, sizes);
      if (ground.name === "webdav") {
        await slowStores(bench, setting, folders, ground, sizes, {
          putAnswer: join(import.meta.dirname, "put-answer.js"),
          library: join(repository, "dist/index.js"),
        });
      }
    }
    await knowing(bench, setting, folders, sizes, ["push-unchanged", "ls"]);
  } finally {
    await clean();
  }
  bench.save();
  for (const line of bench.wrong) console.log(`WRONG: ${line}`);
  const goals = report.results
    .flatMap((result) => [...result.ratios, ...result.bounds])
    .filter((one) => one.met !== null);
  console.log(`\n${goals.filter((one) => one.met).length} of ${goals.length} goals met`);
  console.log(`${bench.passed} passed, ${bench.wrong.length} failed`);
  return bench.wrong.length === 0 ? 0 : 1;
}

function readReport(file: string | undefined): Report | undefined {
  try {
    return file === undefined ? undefined : (JSON.parse(readFileSync(file, "utf8")) as Report);
  } catch {
    return undefined;
  }
}

if (values.help) {
  console.log(HELP);
} else if (values.report === undefined) {
  process.exitCode = await run();
} else {
  const report = JSON.parse(readFileSync(values.report, "utf8")) as Report;
  const page = join(repository, "docs/performance.md");
  writeFileSync(page, writePage(report, readFileSync(page, "utf8")));
  writeFileSync(join(repository, "docs/performance.svg"), writeChart(report));
}
