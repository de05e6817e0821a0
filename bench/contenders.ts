/** The commands that are compared, on places of their own each time. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { removeFolder } from "./bench.ts";
import type { Contender } from "./bench.ts";
import { insistMirrored, insistSpread } from "./files.ts";
import type { Workload } from "./files.ts";
import { measure } from "./measure.ts";
import type { Measured } from "./measure.ts";
import type { Ground, Place } from "./places.ts";

export type Mode = "mirror" | "stripe";

/** What stands where: the root of the run's files, and the programs. */
export interface Setting {
  readonly root: string;
  /** The compiled `holdfast`. */
  readonly command: string;
  readonly limit: string;
  readonly duplicityScript: string;
  /** The interpreter that has duplicity's modules; undefined where duplicity is not installed. */
  readonly python: string | undefined;
  readonly has: { readonly rclone: boolean; readonly restic: boolean };
}

let made = 0;

/** What a pool's file says beyond its mode and stores. */
export interface PoolPolicies {
  readonly wait?: "min";
  readonly min?: number;
  readonly read?: "fastest";
}

export interface BenchPool {
  readonly file: string;
  /** The command with the pool named; what it is to do follows. */
  readonly command: string[];
  readonly env: Record<string, string>;
  /** Has the file and the cache. */
  readonly folder: string;
}

/** Writes a pool's file, and gives the arguments and the environment (with a cache of its own) for the command. */
export function poolOf(
  setting: Setting,
  ground: Ground,
  mode: Mode,
  places: readonly Place[],
  policies: PoolPolicies = {},
): BenchPool {
  const folder = join(setting.root, `pool-${made++}`);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "pool.json");
  writeFileSync(file, JSON.stringify({ mode, ...policies, stores: places.map(({ url }) => ({ url })) }));
  return {
    file,
    command: [process.execPath, setting.command, "-q", "-p", file],
    env: { ...ground.env, HOLDFAST_CACHE: join(folder, "cache") },
    folder,
  };
}

/** A configuration with the union of some places as `union:`. */
export function rcloneUnion(setting: Setting, ground: Ground, mode: Mode, places: readonly Place[]): string {
  const file = join(setting.root, `rclone-${made++}.conf`);
  const policy = mode === "mirror" ? "all" : "rand";
  const upstreams = places.map((place) => place.rclone).join(" ");
  writeFileSync(
    file,
    `${ground.rcloneConfig}
[union]
type = union
upstreams = ${upstreams}
create_policy = ${policy}
action_policy = all
search_policy = ff
`,
  );
  return file;
}

export function duplicityPool(setting: Setting, mode: Mode, places: readonly Place[]): string | undefined {
  const urls = places.map((place) => place.duplicity);
  if (urls.includes(undefined)) return undefined;
  const file = join(setting.root, `duplicity-${made++}.json`);
  writeFileSync(file, JSON.stringify(urls.map((url) => ({ url }))));
  return `multi://${file}?mode=${mode}&onfail=abort`;
}

/** Everyone who can store the files of a workload on `count` places. */
export function putContenders(
  setting: Setting,
  ground: Ground,
  mode: Mode,
  count: number,
  workload: Workload,
): Contender[] {
  const source = workload.folder;
  const isFolders = ground.name === "folders";
  const contender = (
    name: string,
    run: (places: readonly Place[]) => Promise<Measured>,
    options: { readonly compare?: boolean; readonly rounds?: number } = {},
  ): Contender => ({
    name,
    ...(options.rounds === undefined ? {} : { rounds: options.rounds }),
    round: async () => {
      const places = await ground.fresh(count);
      try {
        const measured = await run(places);
        if (options.compare ?? true) {
          await ground.bring(places);
          const folders = places.map((place) => place.folder);
          if (mode === "mirror") insistMirrored(source, folders);
          else insistSpread(source, folders);
        }
        return measured;
      } finally {
        await ground.clear(places);
      }
    },
  });
  const contenders: Contender[] = [
    contender("holdfast", async (places) => {
      const pool = poolOf(setting, ground, mode, places);
      const measured = await measure([...pool.command, "push", source], { env: pool.env });
      removeFolder(pool.folder);
      return measured;
    }),
  ];
  const width = ["--transfers", "8"];
  if (setting.has.rclone) {
    contenders.push(
      contender(
        "rclone union",
        async (places) =>
          measure([
            "rclone",
            "--config",
            rcloneUnion(setting, ground, mode, places),
            "copy",
            ...width,
            source,
            "union:",
          ]),
        // It takes 40 ms and more for each file.
        ground.name === "webdav" && workload.name === "small" ? { rounds: 1 } : {},
      ),
    );
    if (mode === "mirror") {
      contenders.push(
        contender(
          "rclone copy to each",
          async (places) => {
            const config = rcloneUnion(setting, ground, mode, places);
            const copies = places.map(
              (place) => `rclone --config '${config}' copy ${width.join(" ")} '${source}' '${place.rclone}'`,
            );
            return measure(["sh", "-ec", copies.join("\n")]);
          },
          { rounds: 1 },
        ),
      );
    }
  }
  const { python } = setting;
  if (python !== undefined && (isFolders || ground.name !== "sftp")) {
    contenders.push(
      contender(
        "duplicity multi",
        async (places) =>
          measure([python, setting.duplicityScript, "put", duplicityPool(setting, mode, places) ?? "", source], {
            env: ground.env,
          }),
        workload.name === "small" ? { rounds: 1 } : {},
      ),
    );
  }
  if (!isFolders) return contenders;
  const folders = (places: readonly Place[]): string[] => places.map((place) => place.folder);
  if (mode === "mirror") {
    const durable = 'find "$@" -type f -print0 | xargs -0 -n 500 sync\nsync "$@"';
    contenders.push(
      contender(
        "cp",
        async (places) => measure(["sh", "-ec", `for d; do cp -r '${source}/.' "$d"; done`, "cp", ...folders(places)]),
        { rounds: 1 },
      ),
      contender(
        "cp + sync of each file",
        async (places) =>
          measure(["sh", "-ec", `for d; do cp -r '${source}/.' "$d"; done\n${durable}`, "cp", ...folders(places)]),
        { rounds: 1 },
      ),
    );
    if (workload.count > 1) {
      contenders.push(
        contender(
          "shell loop of cp",
          async (places) =>
            measure([
              "sh",
              "-ec",
              `for f in '${source}'/*; do for d; do cp "$f" "$d"; done; done`,
              "loop",
              ...folders(places),
            ]),
          { rounds: 1 },
        ),
      );
    }
    if (setting.has.restic) {
      contenders.push(contender("restic backup + copy", resticRun(source), { compare: false, rounds: 1 }));
    }
  }
  contenders.push(
    contender("limit", async (places) =>
      measure([
        process.execPath,
        setting.limit,
        mode === "mirror" ? "copy" : "spread",
        workload.count > 1 ? "16" : "1",
        source,
        ...folders(places),
      ]),
    ),
  );
  return contenders;
}

/** Restic keeps its own format, so its own check is all there is to compare. */
function resticRun(source: string): (places: readonly Place[]) => Promise<Measured> {
  return async (places) => {
    const [first = "", ...others] = places.map((place) => place.folder);
    const env = {
      RESTIC_PASSWORD: "bench",
      RESTIC_FROM_PASSWORD: "bench",
      RESTIC_CACHE_DIR: join(first, "cache"),
      RESTIC_PROGRESS_FPS: "0.01",
    };
    const repository = (folder: string): string => join(folder, "repository");
    await measure(["restic", "-q", "-r", repository(first), "init"], { env });
    for (const other of others) {
      const from = ["--from-repo", repository(first), "--copy-chunker-params"];
      await measure(["restic", "-q", "-r", repository(other), "init", ...from], { env });
    }
    const copies = others.map((other) => `restic -q -r '${repository(other)}' copy --from-repo '${repository(first)}'`);
    const backup = `restic -q -r '${repository(first)}' backup '${source}'`;
    const measured = await measure(["sh", "-ec", [backup, ...copies].join("\n")], { env });
    await measure(["restic", "-q", "-r", repository(others.at(-1) ?? first), "check", "--read-data"], { env });
    return measured;
  };
}
