/** What is measured. */
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { removeFolder } from "./bench.ts";
import type { Bench, Contender } from "./bench.ts";
import { duplicityPool, poolOf, putContenders, rcloneUnion } from "./contenders.ts";
import type { Mode, Setting } from "./contenders.ts";
import { fileName, insistMirrored, makeFiles } from "./files.ts";
import { fillMirror } from "./filled-pool.ts";
import type { Workload } from "./files.ts";
import { measure } from "./measure.ts";
import type { CommandOptions, Measured } from "./measure.ts";
import type { Ground, Place } from "./places.ts";

export interface Sizes {
  readonly large: number;
  readonly medium: number;
  readonly small: number;
  /** Objects that are listed. */
  readonly listed: number;
  /** Files of the folder that is pushed without having changed. */
  readonly unchanged: number;
  /** Requests of each kind to the gateway. */
  readonly requests: number;
  /** A network's workloads are so much smaller than a folder's. */
  readonly networkPart: number;
  /** Those with a slow store are so much smaller. */
  readonly slowPart: number;
  /** Only what shows that Holdfast's copies are right, and one contender beside it. */
  readonly brief: boolean;
}

const MIB = 1024 * 1024;

export function workloads(root: string, sizes: Sizes, part = 1): Workload[] {
  const of = (name: Workload["name"], count: number, bytes: number, title: string): Workload => {
    const folder = join(root, `source-${name}-${count}-${bytes}`);
    makeFiles(folder, count, bytes);
    return { name, title, folder, count, bytes };
  };
  const large = Math.round(sizes.large / part);
  const [medium, small] = [Math.round(sizes.medium / part), Math.round(sizes.small / part)];
  return [
    of("large", 1, large, `one file of ${Math.round(large / MIB)} MiB`),
    of("medium", medium, MIB, `${medium} files of 1 MiB`),
    of("small", small, 4096, `${small.toLocaleString("en")} files of 4 KiB`),
  ];
}

/** Storing files: mirror to 2 and 3 places, stripe over 3. */
export async function storing(bench: Bench, setting: Setting, ground: Ground, sizes: Sizes): Promise<void> {
  const isFolders = ground.name === "folders";
  const forms: readonly (readonly [Mode, number])[] = isFolders
    ? [
        ["mirror", 2],
        ["mirror", 3],
        ["stripe", 3],
      ]
    : [
        ["mirror", 2],
        ["stripe", 2],
      ];
  for (const [mode, count] of forms) {
    for (const workload of workloads(setting.root, sizes, isFolders ? 1 : sizes.networkPart)) {
      const name = `${mode}-${count}-${ground.name}-${workload.name}`;
      if (!bench.wants(name)) continue;
      await bench.compare({
        name,
        title: `${mode === "mirror" ? "Mirror to" : "Stripe over"} ${count} ${isFolders ? "folders" : `× ${ground.title}`}: ${workload.title}`,
        subject: "holdfast",
        contenders: putContenders(setting, ground, mode, count, workload).filter(
          ({ name }) => !sizes.brief || isBrief(name, ground, workload),
        ),
        goals: [
          {
            other: "limit",
            figure: "wallMs",
            ...(mode === "mirror" && workload.name === "large" ? { atLeast: 0.9 } : {}),
          },
          { other: "rclone union", figure: "wallMs", atLeast: workload.name === "small" ? 1.5 : 1 },
          { other: "duplicity multi", figure: "wallMs", atLeast: 3 },
          { other: "rclone copy to each", figure: "wallMs" },
          { other: "cp + sync of each file", figure: "wallMs" },
          { other: "cp", figure: "wallMs" },
          { other: "shell loop of cp", figure: "wallMs" },
          { other: "restic backup + copy", figure: "wallMs" },
        ],
      });
    }
  }
}

/** Whether a contender is part of the quick form. rclone waits for most of a second with each file that it sends by SFTP. */
function isBrief(name: string, ground: Ground, workload: Workload): boolean {
  if (name === "holdfast" || name === "limit") return true;
  if (name === "duplicity multi") return ground.name === "folders" && workload.name === "large";
  return name === "rclone union" && (ground.name !== "sftp" || workload.name === "large");
}

/** Three folders with the same files, put there by Holdfast. */
async function mirrored(
  setting: Setting,
  ground: Ground,
  source: string,
): Promise<{ readonly pool: ReturnType<typeof poolOf>; readonly places: Place[] }> {
  const places = await ground.fresh(3);
  const pool = poolOf(setting, ground, "mirror", places);
  await measure([...pool.command, "push", source], { env: pool.env });
  return { pool, places };
}

/** Reading: all stores up, the first one down, its copies corrupt. */
export async function reading(bench: Bench, setting: Setting, ground: Ground, sizes: Sizes): Promise<void> {
  for (const workload of workloads(setting.root, sizes)) {
    const name = `get-${workload.name}`;
    if (!bench.wants(name)) continue;
    const { pool, places } = await mirrored(setting, ground, workload.folder);
    const first = places[0]?.folder ?? "";
    const copy = (
      title: string,
      run: (target: string) => Promise<Measured>,
      more: Partial<Contender> = {},
    ): Contender => ({
      ...more,
      name: title,
      round: async () => {
        const target = join(setting.root, "got");
        removeFolder(target);
        mkdirSync(target);
        const measured = await run(target);
        insistMirrored(workload.folder, [target]);
        removeFolder(target);
        return measured;
      },
    });
    const pull = async (target: string): Promise<Measured> =>
      measure([...pool.command, "pull", target], { env: pool.env, accept: [0, 3] });
    /** The same with the first store's folder gone and something else in its place, as of a disk that does not answer. */
    const down = async <T>(run: () => Promise<T>): Promise<T> => {
      renameSync(first, `${first}.away`);
      writeFileSync(first, "this disk does not answer");
      try {
        return await run();
      } finally {
        rmSync(first);
        renameSync(`${first}.away`, first);
      }
    };
    const flip = (): void => {
      for (const entry of readdirSync(first, { withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const bytes = readFileSync(join(first, entry.name));
        const middle = bytes.length >> 1;
        bytes[middle] = (bytes[middle] ?? 0) ^ 0xff;
        writeFileSync(join(first, entry.name), bytes);
      }
    };
    const corrupt = async <T>(run: () => Promise<T>): Promise<T> => {
      flip();
      try {
        return await run();
      } finally {
        flip();
      }
    };
    const contenders: Contender[] = [
      copy("holdfast", pull),
      copy("holdfast, first store down", async (target) => down(async () => pull(target))),
      copy("holdfast, first store's copies corrupt", async (target) => corrupt(async () => pull(target))),
    ];
    if (setting.has.rclone) {
      const config = rcloneUnion(setting, ground, "mirror", places);
      const get = async (target: string): Promise<Measured> =>
        measure([
          "rclone",
          "--config",
          config,
          "copy",
          "--transfers",
          "8",
          "--exclude",
          ".holdfast/**",
          "union:",
          target,
        ]);
      contenders.push(copy("rclone union", get));
      if (!sizes.brief) {
        contenders.push(
          copy("rclone union, first store down", async (target) => down(async () => get(target))),
          copy("rclone union, first store's copies corrupt", async (target) => corrupt(async () => get(target))),
        );
      }
    }
    const { python } = setting;
    if (python !== undefined && !sizes.brief) {
      const plain = await ground.fresh(3);
      for (const place of plain) await measure(["cp", "-r", `${workload.folder}/.`, place.folder]);
      const url = duplicityPool(setting, "mirror", plain) ?? "";
      const get = async (target: string): Promise<Measured> =>
        measure([python, setting.duplicityScript, "get", url, target]);
      contenders.push(copy("duplicity multi", get, workload.name === "small" ? { rounds: 1 } : {}));
    }
    contenders.push(
      copy("cp from the first", async (target) => measure(["cp", "-r", `${workload.folder}/.`, target])),
      copy("limit", async (target) =>
        measure([process.execPath, setting.limit, "copy", "16", workload.folder, target]),
      ),
    );
    await bench.compare({
      name,
      title: `Get from a mirror of 3 folders: ${workload.title}`,
      subject: "holdfast",
      contenders,
      goals: [
        { other: "limit", figure: "wallMs" },
        { other: "rclone union", figure: "wallMs", atLeast: workload.name === "small" ? 1.5 : 1 },
        { other: "duplicity multi", figure: "wallMs", atLeast: 3 },
        { other: "cp from the first", figure: "wallMs" },
      ],
    });
    // The same measurements, seen from the read that has to do without the first store.
    const result = bench.report.results.find((one) => one.name === name);
    const whole = result?.contenders["holdfast"];
    if (result !== undefined && typeof whole === "object" && whole.wallMs !== undefined) {
      const bounds = ["first store down", "first store's copies corrupt"].flatMap((state) => {
        const figures = result.contenders[`holdfast, ${state}`];
        if (typeof figures !== "object" || figures.wallMs === undefined || whole.wallMs === undefined) return [];
        const value = figures.wallMs / whole.wallMs;
        const isDown = state === "first store down";
        const words = `time with the ${state}, over that with all up${isDown ? " (goal: at most 1.1)" : ""}`;
        return [{ words, value, met: !isDown || value <= 1.1 }];
      });
      for (const { words, value } of bounds) console.log(`  ${words}: ${value.toFixed(2)}`);
      bench.report.results[bench.report.results.indexOf(result)] = { ...result, bounds };
      bench.save();
    }
    removeFolder(pool.folder);
    await ground.clear(places);
  }
}

/** Verify, and repair of a wiped store. */
export async function maintaining(bench: Bench, setting: Setting, ground: Ground, sizes: Sizes): Promise<void> {
  for (const workload of workloads(setting.root, sizes)) {
    if (!bench.wants(`verify-${workload.name}`) && !bench.wants(`repair-${workload.name}`)) continue;
    const { pool, places } = await mirrored(setting, ground, workload.folder);
    const folders = places.map((place) => place.folder);
    const last = places[2]?.folder ?? "";
    const run = async (args: readonly string[], options: CommandOptions = {}): Promise<Measured> =>
      measure([...pool.command, ...args], { env: pool.env, ...options });
    const config = rcloneUnion(setting, ground, "mirror", places);
    const check = folders
      .slice(1)
      .map(
        (folder) =>
          `rclone --config '${config}' check --exclude '.holdfast/**' --checkers 8 '${folders[0]}' '${folder}'`,
      );
    await bench.compare({
      name: `verify-${workload.name}`,
      title: `Verify a mirror of 3 folders: ${workload.title}`,
      subject: "holdfast",
      contenders: [
        { name: "holdfast", round: async () => run(["verify", "--restart"]) },
        { name: "limit (hashing)", round: async () => measure([process.execPath, setting.limit, "hash", ...folders]) },
        ...(setting.has.rclone && !sizes.brief
          ? [{ name: "rclone check", round: async () => measure(["sh", "-ec", check.join("\n")]) }]
          : []),
      ],
      goals: [
        { other: "limit (hashing)", figure: "wallMs", atLeast: 0.9 },
        { other: "rclone check", figure: "wallMs" },
      ],
    });
    const refill = async (options: readonly string[]): Promise<Measured> => {
      removeFolder(last);
      mkdirSync(last);
      const measured = await run(["repair", ...options, "--refill", `file://${last}`]);
      insistMirrored(workload.folder, [last]);
      return measured;
    };
    await bench.compare({
      name: `repair-${workload.name}`,
      title: `Repair a wiped store of a mirror of 3 folders: ${workload.title}`,
      subject: "holdfast",
      contenders: [
        { name: "holdfast", round: async () => refill([]) },
        // Compares sizes, as rclone does, where without it every copy is read and hashed before and after.
        ...(sizes.brief ? [] : [{ name: "holdfast, --quick", round: async () => refill(["--quick"]) }]),
        {
          name: "limit",
          round: async () => {
            const target = join(setting.root, "refilled");
            const width = workload.count > 1 ? "16" : "1";
            const measured = await measure([process.execPath, setting.limit, "copy", width, workload.folder, target]);
            removeFolder(target);
            return measured;
          },
        },
        ...(setting.has.rclone
          ? [
              {
                name: "rclone copy",
                round: async () => {
                  const target = join(setting.root, "refilled");
                  const measured = await measure(["rclone", "copy", "--transfers", "8", workload.folder, target]);
                  insistMirrored(workload.folder, [target]);
                  removeFolder(target);
                  return measured;
                },
              },
            ]
          : []),
      ],
      goals: [
        { other: "limit", figure: "wallMs" },
        { other: "rclone copy", figure: "wallMs" },
        { other: "holdfast, --quick", figure: "wallMs" },
      ],
    });
    removeFolder(pool.folder);
    await ground.clear(places);
  }
}

/** Pushing a folder of which everything is there already; listing; the time that the command takes to start. */
export async function knowing(
  bench: Bench,
  setting: Setting,
  ground: Ground,
  sizes: Sizes,
  which: readonly ("push-unchanged" | "ls" | "start")[],
): Promise<void> {
  const { unchanged, listed } = sizes;
  const many = unchanged.toLocaleString("en");
  const wants = (name: (typeof which)[number]): boolean => which.includes(name) && bench.wants(name);
  if (wants("push-unchanged")) {
    const source = join(setting.root, `source-unchanged-${unchanged}`);
    makeFiles(source, unchanged, 1024);
    const { pool, places } = await mirrored(setting, ground, source);
    const config = rcloneUnion(setting, ground, "mirror", places);
    const isNothingPut = async (): Promise<Measured> => {
      const [program = "", command = "", , ...rest] = pool.command;
      const measured = await measure([program, command, ...rest, "push", source], { env: pool.env });
      if (!measured.stdout.includes(`put 0 files`))
        throw new Error(`something was put: ${measured.stdout.slice(-200)}`);
      return measured;
    };
    await bench.compare({
      name: "push-unchanged",
      title: `Push an unchanged folder of ${many} files of 1 KiB to a mirror of 3 folders`,
      subject: "holdfast",
      contenders: [
        { name: "holdfast", round: isNothingPut },
        ...(setting.has.rclone
          ? [
              {
                name: "rclone union",
                round: async () =>
                  measure(["rclone", "--config", config, "copy", "--checksum", "--checkers", "8", source, "union:"]),
              },
              {
                name: "rclone union, by time stamps",
                round: async () => measure(["rclone", "--config", config, "copy", "--checkers", "8", source, "union:"]),
              },
            ]
          : []),
        { name: "limit (hashing)", round: async () => measure([process.execPath, setting.limit, "hash", source]) },
      ],
      goals: [
        { other: "rclone union", figure: "wallMs", atLeast: 1.5 },
        { other: "rclone union, by time stamps", figure: "wallMs" },
        { other: "limit (hashing)", figure: "wallMs" },
      ],
    });
    removeFolder(pool.folder);
    await ground.clear(places);
  }
  if (wants("ls")) {
    const source = join(setting.root, "source-listed");
    makeFiles(source, 1, 1);
    const { pool, places } = await mirrored(setting, ground, source);
    await measure([...pool.command, "rm", fileName(0)], { env: pool.env });
    const names = Array.from(
      { length: listed },
      (_, index) => `group-${index % 10}/${fileName(Math.floor(index / 10))}`,
    );
    fillMirror(
      places.map((place) => place.folder),
      names,
      Buffer.from("x"),
    );
    // Reads the ledger into the local index, as whoever put the objects would have it.
    await measure([...pool.command, "status"], { env: pool.env });
    const list = async (prefix: string, count: number): Promise<Measured> => {
      const measured = await measure([...pool.command, "ls", prefix], { env: pool.env, countLines: true });
      if (Number(measured.stdout) !== count) throw new Error(`ls gave ${measured.stdout} lines instead of ${count}`);
      return measured;
    };
    const config = rcloneUnion(setting, ground, "mirror", places);
    await bench.compare({
      name: "ls",
      title: `List ${listed.toLocaleString("en")} objects over a mirror of 3 folders`,
      subject: "holdfast",
      contenders: [
        { name: "holdfast", round: async () => list("", listed) },
        { name: "holdfast, a tenth of them", round: async () => list("group-3/", listed / 10) },
        ...(setting.has.rclone
          ? [
              {
                name: "rclone union",
                round: async () =>
                  measure(["rclone", "--config", config, "lsf", "-R", "--files-only", "union:"], { countLines: true }),
              },
            ]
          : []),
        {
          name: "find",
          round: async () =>
            measure(["find", ...places.map((place) => place.folder), "-type", "f"], { countLines: true }),
        },
      ],
      goals: [
        { other: "rclone union", figure: "wallMs" },
        { other: "rclone union", figure: "firstMs" },
        { other: "rclone union", figure: "peakBytes" },
        // In constant memory: ten times as many names take no more than a quarter more of it.
        { other: "holdfast, a tenth of them", figure: "peakBytes", atLeast: 0.8 },
        { other: "find", figure: "wallMs" },
      ],
    });
    removeFolder(pool.folder);
    await ground.clear(places);
  }
  if (wants("start")) {
    const source = join(setting.root, "source-start");
    makeFiles(source, 3, 10);
    const { pool, places } = await mirrored(setting, ground, source);
    const config = rcloneUnion(setting, ground, "mirror", places);
    await bench.compare({
      name: "start",
      title: "Start-up: ls of 3 objects in a mirror of 3 folders",
      subject: "holdfast",
      rounds: Math.max(sizes.brief ? 5 : 11, bench.rounds),
      contenders: [
        { name: "holdfast", round: async () => measure([...pool.command, "ls"], { env: pool.env }) },
        { name: "node, doing nothing", round: async () => measure([process.execPath, "-e", "0"]) },
        ...(setting.has.rclone
          ? [{ name: "rclone union", round: async () => measure(["rclone", "--config", config, "lsf", "union:"]) }]
          : []),
      ],
      goals: [
        { other: "node, doing nothing", figure: "wallMs" },
        { other: "rclone union", figure: "wallMs" },
      ],
      bounds: [{ figure: "wallMs", below: 150, words: "milliseconds to start, list and end (goal: below 150)" }],
    });
    removeFolder(pool.folder);
    await ground.clear(places);
  }
}
