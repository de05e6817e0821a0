/** What one slow store costs: a caller that waits for fewer stores, and reads that take the fastest copy. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { removeFolder } from "./bench.ts";
import type { Bench, Contender } from "./bench.ts";
import { poolOf } from "./contenders.ts";
import type { PoolPolicies, Setting } from "./contenders.ts";
import { insistMirrored } from "./files.ts";
import { measure } from "./measure.ts";
import type { Measured } from "./measure.ts";
import type { Ground, Place } from "./places.ts";
import { workloads } from "./scenarios.ts";
import type { Sizes } from "./scenarios.ts";
import { startThrottle } from "./throttle.ts";

/** The slow store's. A file that needs seconds at this speed is put on a folder in a tenth of one. */
const BYTES_PER_SECOND = 8 * 1024 * 1024;
const DELAY_MS = 20;

/** Programs of the benchmark itself, and the library. */
export interface SlowPrograms {
  readonly putAnswer: string;
  readonly library: string;
}

/** What the comparisons of this file have in common. */
interface Scene {
  readonly bench: Bench;
  readonly setting: Setting;
  readonly folders: Ground;
  readonly remote: Ground;
  /** The place behind the slow way. */
  readonly slowly: (place: Place) => Place;
  readonly sizes: Sizes;
}

export async function slowStores(
  bench: Bench,
  setting: Setting,
  folders: Ground,
  remote: Ground,
  sizes: Sizes,
  programs: SlowPrograms,
): Promise<void> {
  const [any] = await remote.fresh(1);
  if (any === undefined) return;
  const port = Number(new URL(any.url).port);
  const throttle = await startThrottle({ port, bytesPerSecond: BYTES_PER_SECOND, delayMs: DELAY_MS });
  const slowly = (place: Place): Place => ({ ...place, url: place.url.replace(`:${port}/`, `:${throttle.port}/`) });
  try {
    const scene: Scene = { bench, setting, folders, remote, slowly, sizes };
    await waiting(scene, programs);
    await fastest(scene);
  } finally {
    await throttle.close();
    await remote.clear([any]);
  }
}

/** How long the caller waits for a put into two folders and the slow store. */
async function waiting(
  { bench, setting, folders, remote, slowly, sizes }: Scene,
  programs: SlowPrograms,
): Promise<void> {
  for (const workload of workloads(setting.root, sizes, sizes.slowPart)) {
    const name = `slow-store-${workload.name}`;
    if (!bench.wants(name)) continue;
    const contender = (title: string, withSlow: boolean, policies: PoolPolicies): Contender => ({
      name: title,
      round: async () => {
        const fast = await folders.fresh(2);
        const slow = withSlow ? await remote.fresh(1) : [];
        const pool = poolOf(setting, remote, "mirror", [...fast, ...slow.map(slowly)], policies);
        try {
          const measured = await measure(
            [process.execPath, programs.putAnswer, programs.library, pool.file, workload.folder],
            { env: pool.env },
          );
          const first = join(setting.root, "first");
          for (const path of [...fast.map(({ folder }) => join(folder, "first")), first]) rmSync(path, { force: true });
          insistMirrored(
            workload.folder,
            fast.map((place) => place.folder),
          );
          const { cpuMs: _cpu, peakBytes: _peak, firstMs: _first, ...rest } = measured;
          return { ...rest, wallMs: Number(measured.stdout) };
        } finally {
          removeFolder(pool.folder);
          await folders.clear(fast);
          await remote.clear(slow);
        }
      },
    });
    await bench.compare({
      name,
      title: `Put into 2 folders and a slow store (${BYTES_PER_SECOND / 2 ** 20} MiB/s), until the caller is answered: ${workload.title}`,
      subject: "holdfast, wait=min (2)",
      contenders: [
        contender("holdfast, wait=min (2)", true, { wait: "min", min: 2 }),
        contender("holdfast, wait=all", true, {}),
        contender("holdfast, without the slow store", false, {}),
      ],
      goals: [
        { other: "holdfast, without the slow store", figure: "wallMs", atLeast: 0.8 },
        { other: "holdfast, wait=all", figure: "wallMs" },
      ],
    });
  }
}

/** Reading from a mirror whose first store is the slow one. */
async function fastest({ bench, setting, folders, remote, slowly, sizes }: Scene): Promise<void> {
  const workload = workloads(setting.root, sizes, sizes.slowPart)[1];
  const name = "read-fastest";
  if (workload === undefined || !bench.wants(name)) return;
  const slow = await remote.fresh(1);
  const fast = await folders.fresh(2);
  const filled = poolOf(setting, remote, "mirror", [...slow, ...fast]);
  await measure([...filled.command, "push", workload.folder], { env: filled.env });
  const contender = (title: string, places: readonly Place[], policies: PoolPolicies): Contender => ({
    name: title,
    round: async (): Promise<Measured> => {
      const pool = poolOf(setting, remote, "mirror", places, policies);
      const target = join(setting.root, "got");
      removeFolder(target);
      mkdirSync(target);
      const measured = await measure([...pool.command, "pull", target], { env: pool.env });
      insistMirrored(workload.folder, [target]);
      removeFolder(target);
      removeFolder(pool.folder);
      return measured;
    },
  });
  const slowFirst = [...slow.map(slowly), ...fast];
  await bench.compare({
    name,
    title: `Get from a mirror of a slow store and 2 folders: ${workload.title}`,
    subject: "holdfast, read=fastest",
    contenders: [
      contender("holdfast, read=fastest", slowFirst, { read: "fastest" }),
      contender("holdfast, read=first", slowFirst, {}),
      contender("holdfast, the slow store last", [...fast, ...slow.map(slowly)], {}),
    ],
    goals: [
      { other: "holdfast, the slow store last", figure: "wallMs", atLeast: 0.8 },
      { other: "holdfast, read=first", figure: "wallMs" },
    ],
  });
  removeFolder(filled.folder);
  await remote.clear(slow);
  await folders.clear(fast);
}
