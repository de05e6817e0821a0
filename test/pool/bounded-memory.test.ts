/**
 * An object of unknown size goes to each kind of store and comes back, in less memory than it has bytes. `npm run large-put`
 * does the same with 10 GiB in 250 MiB.
 */
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { commandPath } from "../helpers/command.ts";
import { runMeasured } from "../helpers/peak-memory.ts";
import { placeOn } from "../helpers/places.ts";
import type { PlaceOptions } from "../helpers/places.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer } from "../helpers/servers.ts";
import type { Server, ServerName } from "../helpers/servers.ts";

const MIB = 1024 * 1024;
/** A command that held it in memory would take as much, and some 100 MiB for itself. The most that was seen is 220 MiB. */
const OBJECT_MIB = 288;

const kinds: readonly [string, ServerName, PlaceOptions["scheme"]?][] = [
  ["webdav", "apache-dav"],
  ["webdav", "nginx-dav"],
  ["rest", "rclone-restic"],
  ["sftp", "sshd"],
  ["ftp", "proftpd"],
  ["ftpes", "proftpd", "ftpes"],
  ["s3", "ceph-rgw"],
  ["swift", "swift"],
  ["azure", "azurite"],
  ["smb", "samba"],
  ["rsync", "rsyncd"],
];
const servers = new Map<ServerName, Server>(
  await Promise.all(
    [...new Set(kinds.map(([, name]) => name))].map(async (name) => [name, await startServer(name)] as const),
  ),
);

/** Blocks of which no two are the same. */
function* source(): Generator<Uint8Array> {
  const block = Buffer.alloc(MIB, "holdfast ");
  for (let at = 0; at < OBJECT_MIB; at++) {
    block.writeUInt32LE(at, at * 11);
    yield Buffer.from(block);
  }
}

const digest = createHash("sha256");
for (const block of source()) digest.update(block);
const expected = digest.digest("hex");

describe.each(kinds)("%s on %s", onServer, (kind, name, scheme) => {
  const server = servers.get(name);
  if (!server) return;
  reportStore(kind, server);
  it.runIf(server.running)(
    `takes and gives ${OBJECT_MIB} MiB of unknown size in less than ${OBJECT_MIB} MiB of memory`,
    { timeout: 300_000 },
    async () => {
      if (!server.running) return;
      const home = await mkdtemp(path.join(tmpdir(), "holdfast-bounded-memory-"));
      const { url, env } = await placeOn(server, scheme === undefined ? {} : { scheme });
      const run = { home, env: { ...env, TMPDIR: home } };
      const main = await commandPath();
      const put = await runMeasured(main, ["-q", "-p", url, "put", "-", "large"], { ...run, input: source() });
      const found = createHash("sha256");
      const drain = async (bytes: AsyncIterable<Uint8Array>): Promise<void> => {
        for await (const chunk of bytes) found.update(chunk);
      };
      const get = await runMeasured(main, ["-q", "-p", url, "get", "large", "-"], { ...run, drain });
      const removed = await runMeasured(main, ["-q", "-p", url, "rm", "large"], run);
      await rm(home, { recursive: true });
      console.info(
        `${kind} on ${name}: put ${put.peakMib.toFixed(0)} MiB in ${put.seconds.toFixed(1)} s, ` +
          `get ${get.peakMib.toFixed(0)} MiB in ${get.seconds.toFixed(1)} s`,
      );
      expect([put.code, get.code, removed.code]).toEqual([0, 0, 0]);
      expect(found.digest("hex")).toBe(expected);
      expect(put.peakMib).toBeLessThan(OBJECT_MIB);
      expect(get.peakMib).toBeLessThan(OBJECT_MIB);
    },
  );
});
