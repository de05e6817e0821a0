/** A mirror of three real stores (a folder, OpenSSH's SFTP, Apache's WebDAV), of which the second can be crashed. */
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { client } from "./clients.ts";
import { runCommand, startCommand } from "./command.ts";
import type { CommandResult } from "./command.ts";
import { startServer, uniqueName } from "./servers.ts";

export interface ThreeStores {
  /** Home of the command, and its working folder. */
  readonly home: string;
  /** Folders in which the stores keep their objects. */
  readonly folders: readonly string[];
  /** Runs `holdfast -p POOL …`. */
  holdfast(...args: string[]): Promise<CommandResult>;
  start(...args: string[]): ReturnType<typeof startCommand>;
  crash(): Promise<void>;
  revive(): Promise<void>;
  end(): Promise<void>;
}

/** Undefined where one of the servers cannot be had; which and why is printed. */
export async function startThreeStores(name: string): Promise<ThreeStores | undefined> {
  const ssh = await startServer("sshd", { instance: name });
  const apache = await startServer("apache-dav");
  if (!ssh.running || !apache.running) {
    const missing = [ssh, apache].flatMap((server) => (server.running ? [] : [`${server.name}: ${server.skipped}`]));
    process.stdout.write(`skipped: ${name} on three real stores (${missing.join("; ")})\n`);
    return undefined;
  }
  const home = await mkdtemp(path.join(tmpdir(), `holdfast-${name}-`));
  const base = uniqueName();
  const folders = [
    path.join(home, "store"),
    path.join(ssh.folder, "data", base),
    path.join(apache.folder, "www", "dav", base),
  ];
  const key = (await readFile(path.join(ssh.folder, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
  await writeFile(path.join(home, "known_hosts"), `[${ssh.host}]:${ssh.port} ${key}\n`);
  const stores = [
    { url: `file://${folders[0]}`, description: "folder" },
    {
      url: `sftp://${ssh.host}:${ssh.port}/${folders[1]}?identity=${path.join(ssh.folder, "id")}&known-hosts=${path.join(home, "known_hosts")}`,
      description: "sftp",
    },
    { url: `webdav://${apache.host}:${apache.port}/dav/${base}`, description: "webdav" },
  ];
  await writeFile(path.join(home, "pool.json"), JSON.stringify({ mode: "mirror", attempts: 2, stores }));
  const env = {
    PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    LC_ALL: "C.UTF-8",
    PASSPHRASE: "a passphrase",
    RESTIC_PASSWORD: "a password",
    RESTIC_CACHE_DIR: path.join(home, "restic-cache"),
    SSH_AUTH_SOCK: "",
  };
  const pool = ["-p", "pool.json"];
  return {
    home,
    folders,
    holdfast: (...args) => runCommand([...pool, ...args], { cwd: home, env }),
    start: (...args) => startCommand([...pool, ...args], { cwd: home, env }),
    crash: () => ssh.control("crash"),
    revive: () => ssh.control("start"),
    end: async () => {
      await ssh.control("stop");
      await rm(home, { recursive: true, force: true });
    },
  };
}

/**
 * Repair has nothing left to do: each store has the same files, which it gives, as {@link contentsOf} does, and verify finds
 * nothing wrong.
 */
export async function expectWhole(stores: ThreeStores): Promise<Record<string, string>> {
  const [first = {}, ...others] = await Promise.all(stores.folders.map(contentsOf));
  for (const other of others) expect(other).toEqual(first);
  expect(await stores.holdfast("verify")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("nothing wrong") as string,
    stderr: "",
  });
  return first;
}

/** Whether a program is there; the three stores are needed, too. */
export const hasClient = (name: string): boolean => client(name).there;

/** Path → digest of each file, and of each link's target, below a folder; Holdfast's own left out. */
export async function contentsOf(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file);
    if (
      path.basename(name).startsWith(".holdfast") ||
      name.startsWith(".holdfast") ||
      name.startsWith(".DAV") ||
      name.includes("/.DAV/")
    )
      continue;
    if (entry.isFile())
      found[name] = createHash("sha256")
        .update(await readFile(file))
        .digest("hex");
  }
  return found;
}

/** Files of random bytes and of text, made again by the same seed. */
export async function plantTree(folder: string, seed: string, megabytes: number): Promise<void> {
  const bytes = (name: string, length: number): Buffer => {
    const parts: Buffer[] = [];
    for (let at = 0; at < length; at += 64) parts.push(createHash("sha512").update(`${seed} ${name} ${at}`).digest());
    return Buffer.concat(parts).subarray(0, length);
  };
  await mkdir(path.join(folder, "deep", "er"), { recursive: true });
  for (let index = 0; index < megabytes * 2; index++) {
    await writeFile(
      path.join(folder, index % 2 ? "deep" : "", `file-${index}.bin`),
      bytes(String(index), 500_000 + index),
    );
  }
  await writeFile(path.join(folder, "deep", "er", "grüße & more.txt"), `text of ${seed}\n`);
  await writeFile(path.join(folder, "empty"), "");
}
