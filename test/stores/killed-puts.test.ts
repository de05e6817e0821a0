/** What a put that was killed left on a store goes with a repair, once it is a day old, and never before. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { openStore } from "../../src/stores/open-store.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { client } from "../helpers/clients.ts";
import { commandPath } from "../helpers/command.ts";
import { placeOn } from "../helpers/places.ts";
import type { Place } from "../helpers/places.ts";
import { onServer, startServer } from "../helpers/servers.ts";
import type { Server } from "../helpers/servers.ts";
import { waitUntil } from "../helpers/wait-until.ts";

const rclone = client("rclone");
const DAY_MS = 24 * 3600 * 1000;
const [sshd, proftpd, vsftpd, apache, samba, rsyncd] = await Promise.all([
  startServer("sshd"),
  startServer("proftpd"),
  startServer("vsftpd"),
  startServer("apache-dav"),
  startServer("samba"),
  startServer("rsyncd"),
]);

interface Kind {
  readonly name: string;
  /** Undefined: rclone, which needs none. */
  readonly server?: Server;
  /** Where temporary files stand. Default: beside the object. */
  readonly temporary?: string;
  /** Whether what is old is told by the server's own clock too. */
  readonly ownClock: boolean;
}

const kinds: readonly Kind[] = [
  { name: "sftp", server: sshd, ownClock: true },
  { name: "ftp on ProFTPD", server: proftpd, ownClock: true },
  { name: "ftp on vsftpd", server: vsftpd, ownClock: true },
  { name: "webdav on Apache", server: apache, ownClock: true },
  { name: "smb", server: samba, ownClock: true },
  { name: "rsync", server: rsyncd, temporary: ".holdfast-7273796e63000000.tmp", ownClock: false },
  { name: "rclone", temporary: ".", ownClock: false },
];

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "holdfast-killed-puts-"));
});
afterAll(() => rm(home, { recursive: true }));

async function placeFor({ name, server }: Kind): Promise<Required<Place>> {
  if (server?.running) {
    const place = await placeOn(server);
    return { ...place, folder: place.folder ?? "" };
  }
  const folder = await mkdtemp(path.join(home, name));
  return { url: `rclone://:local:${folder}`, env: { RCLONE_CONFIG: path.join(home, "none.conf") }, folder };
}

async function poolFile({ url, env }: Place): Promise<string> {
  const file = path.join(await mkdtemp(path.join(home, "pool-")), "pool.json");
  const list = Object.entries(env).map(([name, value]) => ({ name, value }));
  await writeFile(file, JSON.stringify([{ url, env: list }]));
  return `multi://${file}?mode=mirror`;
}

async function temporaryFiles(folder: string): Promise<string[]> {
  const all = await readdir(folder, { recursive: true, withFileTypes: true });
  return all
    .filter(
      (entry) =>
        entry.isFile() && /\.holdfast-[0-9a-f]{16}(?:-A[a\u00e9])?\.tmp/u.test(path.join(entry.parentPath, entry.name)),
    )
    .map((entry) => entry.name)
    .sort();
}

async function age(file: string): Promise<void> {
  const longAgo = new Date(Date.now() - 2 * DAY_MS);
  await utimes(file, longAgo, longAgo);
}

describe.each(kinds)("$name", onServer, (kind) => {
  if (kind.server === undefined ? !rclone.there : !kind.server.running) return;
  const stale = ".holdfast-0123456789abcdef.tmp";
  const young = ".holdfast-fedcba9876543210.tmp";
  let place: Required<Place>;
  let pool: Pool;

  const plant = async (): Promise<void> => {
    const folder = path.join(place.folder, kind.temporary ?? "a");
    await mkdir(folder, { recursive: true });
    for (const name of [stale, young]) await writeFile(path.join(folder, name), "left by a crash");
    await age(path.join(folder, stale));
  };

  beforeAll(async () => {
    place = await placeFor(kind);
    pool = await openPool(await poolFile(place), { cache: false });
    await pool.put("a/x", "x");
    await pool.maintenance.repair();
  });
  afterAll(() => pool.close());

  it("a repair that has nothing to mend removes a temporary file a day old, and no younger one", async () => {
    await plant();
    await pool.maintenance.verify();
    await pool.maintenance.repair({ dryRun: true });
    expect(await temporaryFiles(place.folder)).toEqual([stale, young]);
    expect(await pool.maintenance.repair()).toMatchObject({ done: 0, whole: true });
    expect(await temporaryFiles(place.folder)).toEqual([young]);
  });

  it.runIf(kind.ownClock)("a clock of ours that is days ahead makes no file old", async () => {
    await plant();
    const runtime = { ...systemRuntime, now: () => Date.now() + 3 * DAY_MS };
    const store = await openStore(place.url, { env: place.env, runtime });
    for await (const { name } of store.list("a/")) expect(name).toBe("a/x");
    await store.put("b", toBody("b"));
    expect(await temporaryFiles(place.folder)).toEqual([young]);
    await store.close();
  });
});

describe.runIf(sshd.running)("a command that is killed in mid-put", onServer, () => {
  it("leaves a temporary file, which a repair removes the day after", async () => {
    const place = await placeFor({ name: "sftp", server: sshd, ownClock: true });
    const file = await poolFile(place);
    const command = spawn(process.execPath, [await commandPath(), "-p", file, "put", "-", "a/x"], {
      env: { ...process.env, HOLDFAST_CACHE: path.join(home, "cache") },
      stdio: ["pipe", "ignore", "ignore"],
    });
    command.stdin.on("error", () => undefined);
    command.stdin.write(Buffer.alloc(4 * 1024 * 1024, "half of it"));
    // Beside the object: those of the ledger come and go.
    const beside = path.join(place.folder, "a");
    await waitUntil(async () => (await temporaryFiles(beside).catch(() => [])).length === 1);
    command.kill("SIGKILL");
    await once(command, "exit");
    const [left = ""] = await temporaryFiles(beside);
    const pool = await openPool(file, { cache: false });
    await pool.maintenance.repair();
    expect(await temporaryFiles(beside)).toEqual([left]);
    await age(path.join(beside, left));
    await pool.maintenance.repair();
    expect(await temporaryFiles(place.folder)).toEqual([]);
    await pool.close();
  });
});
