/** Real file systems that are unlike the usual ones, mounted for tests where this machine may mount. */
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { exitOf } from "./command.ts";
import { waitUntil } from "./wait-until.ts";

const run = promisify(execFile);
const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };

export interface Mount {
  readonly folder: string;
  end(): Promise<void>;
}

const isMounted = async (folder: string): Promise<boolean> =>
  (await readFile("/proc/mounts", "utf8")).split("\n").some((line) => line.split(" ")[1] === folder);

/** Why it cannot be mounted here is printed, and the result undefined. */
async function mounted(
  what: string,
  mount: (home: string, folder: string) => Promise<() => Promise<void>>,
  at?: string,
): Promise<Mount | undefined> {
  const home = await mkdtemp(join(tmpdir(), "holdfast-mount-"));
  const folder = at ?? join(home, "mounted");
  await mkdir(folder, { recursive: true });
  try {
    const stop = await mount(home, folder);
    return {
      folder,
      end: async () => {
        await run("umount", [folder], { env });
        await stop();
        await rm(home, { recursive: true });
      },
    };
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    process.stdout.write(`skipped: ${what} (${reason})\n`);
    await rm(home, { recursive: true });
    return undefined;
  }
}

/**
 * NTFS by lowntfs-3g: takes names that differ in case for one, and keeps them in lower case. `at`: the folder to mount it
 * on, by default one of its own.
 */
export function mountFolding(at?: string): Promise<Mount | undefined> {
  return mounted(
    "a file system that folds names",
    async (home, folder) => {
      const image = join(home, "image");
      await run("truncate", ["-s", "64M", image]);
      await run("mkntfs", ["-F", "-q", image], { env });
      await run("lowntfs-3g", ["-o", "ignore_case", image, folder], { env });
      await waitUntil(() => isMounted(folder));
      return async () => undefined;
    },
    at,
  );
}

/** A folder by `rclone mount`: has no hard links. */
export function mountWithoutLinks(): Promise<Mount | undefined> {
  return mounted("a file system without hard links", async (home, folder) => {
    const behind = join(home, "behind");
    await mkdir(behind);
    const args = ["mount", "--config", "/dev/null", "--cache-dir", join(home, "cache"), "--vfs-cache-mode", "writes"];
    const child = spawn("rclone", [...args, behind, folder], { env, stdio: "ignore" });
    const ended = exitOf(child);
    const failed = ended.then((code) => Promise.reject(new Error(`rclone mount ended with ${String(code)}`)));
    await Promise.race([waitUntil(() => isMounted(folder)), failed]);
    failed.catch(() => undefined);
    return async () => {
      child.kill();
      await ended;
    };
  });
}
