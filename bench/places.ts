/** Where stores can be: folders, and servers on loopback. Each gives fresh places for every run. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startServer } from "../test/helpers/servers.ts";
import type { RunningServer } from "../test/helpers/servers.ts";
import { removeFolder } from "./bench.ts";
import { measure } from "./measure.ts";

/** One place for one store. */
export interface Place {
  readonly url: string;
  /** The same, as rclone's configuration (section by section, from {@link Ground}) names it. */
  readonly rclone: string;
  /** The same, for duplicity; undefined where it has no such backend. */
  readonly duplicity?: string;
  /** Where its files stand on this machine. */
  readonly folder: string;
}

/** A kind of place. */
export interface Ground {
  readonly name: "folders" | "s3" | "sftp" | "webdav";
  readonly title: string;
  /** Server and version, for the report. */
  readonly server?: string;
  readonly env: Readonly<Record<string, string>>;
  /** Sections of a configuration file for rclone. */
  readonly rcloneConfig: string;
  /** `count` places, empty. */
  fresh(count: number): Promise<Place[]>;
  /** Makes the files of the places visible in their `folder`, to compare them. */
  bring(places: readonly Place[]): Promise<void>;
  clear(places: readonly Place[]): Promise<void>;
}

let made = 0;
const names = (count: number): string[] => Array.from({ length: count }, () => `p${made++}`);

export function folderGround(root: string): Ground {
  return {
    name: "folders",
    title: "folders",
    env: {},
    rcloneConfig: "",
    fresh: async (count) =>
      names(count).map((name) => {
        const folder = join(root, name);
        mkdirSync(folder, { recursive: true });
        return { url: `file://${folder}`, rclone: folder, duplicity: `file://${folder}`, folder };
      }),
    bring: async () => undefined,
    clear: async (places) => {
      for (const place of places) removeFolder(place.folder);
    },
  };
}

/**
 * The grounds that this machine has; `leaveOut` is told of the others. A server that is slower with the first bytes that it
 * gets is sent `firstBytes` that nobody measures.
 */
export async function serverGrounds(
  root: string,
  firstBytes: number,
  leaveOut: (what: string, why: string) => void,
  wants: (name: string) => boolean,
): Promise<Ground[]> {
  const grounds: Ground[] = [];
  const plans = [
    ["ceph-rgw", "s3", s3Ground],
    ["sshd", "sftp", sftpGround],
    ["apache-dav", "webdav", webdavGround],
  ] as const;
  for (const [server, name, ground] of plans) {
    if (!wants(name)) continue;
    const started = await startServer(server);
    if (started.running) grounds.push(await ground(root, started, firstBytes));
    else leaveOut(`over ${name}`, started.skipped);
  }
  return grounds;
}

async function s3Ground(root: string, server: RunningServer, firstBytes: number): Promise<Ground> {
  const bucket = "test-bucket";
  const endpoint = `http://${server.host}:${server.port}`;
  const rcloneConfig = `[s3]
type = s3
provider = Ceph
endpoint = ${endpoint}
access_key_id = test
secret_access_key = testtest
region = us-east-1
`;
  const config = join(root, "s3.conf");
  writeFileSync(config, rcloneConfig);
  const rclone = async (...args: string[]): Promise<void> => {
    await measure(["rclone", "--config", config, ...args]);
  };
  // What was deleted is let go of some seconds later, at the cost of whoever is measured then.
  const letGo = async (): Promise<void> => {
    const ceph = ["-c", join(server.folder, "ceph.conf"), "-n", "client.rgw"];
    await measure(["radosgw-admin", ...ceph, "gc", "process", "--include-all"]);
  };
  const first = join(root, "first-bytes");
  writeFileSync(first, "");
  truncateSync(first, firstBytes);
  await rclone("copyto", "--s3-upload-cutoff", "5M", first, `s3:${bucket}/first-bytes`);
  await rclone("deletefile", `s3:${bucket}/first-bytes`);
  await letGo();
  return {
    name: "s3",
    title: "S3",
    server: server.version,
    env: {
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "testtest",
      AWS_REGION: "us-east-1",
      BENCH_S3_ENDPOINT: endpoint,
    },
    rcloneConfig,
    fresh: async (count) =>
      names(count).map((name) => ({
        url: `s3://${bucket}/${name}?endpoint=${encodeURIComponent(endpoint)}`,
        rclone: `s3:${bucket}/${name}`,
        duplicity: `boto3+s3://${bucket}/${name}`,
        folder: join(root, name),
      })),
    bring: async (places) => {
      for (const place of places) {
        // A stripe's store may have got nothing.
        mkdirSync(place.folder, { recursive: true });
        await rclone("copy", "--transfers", "16", "--exclude", ".holdfast/**", place.rclone, place.folder);
      }
    },
    clear: async (places) => {
      for (const place of places) {
        removeFolder(place.folder);
        await rclone("delete", "--transfers", "16", "--checkers", "16", place.rclone);
      }
      await letGo();
    },
  };
}

async function sftpGround(root: string, server: RunningServer): Promise<Ground> {
  const data = join(server.folder, "data");
  const key = join(server.folder, "id");
  const known = join(root, "known-hosts");
  const [type = "", text = ""] = readFileSync(join(server.folder, "hostkey.pub"), "utf8").split(" ");
  writeFileSync(known, `[${server.host}]:${server.port} ${type} ${text}\n`);
  const user = execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
  return {
    name: "sftp",
    title: "SFTP",
    server: server.version,
    env: {},
    rcloneConfig: `[sftp]
type = sftp
host = ${server.host}
port = ${server.port}
user = ${user}
key_file = ${key}
`,
    fresh: async (count) =>
      names(count).map((name) => ({
        url: `sftp://${user}@${server.host}:${server.port}/${join(data, name)}?identity=${key}&known-hosts=${known}`,
        rclone: `sftp:${join(data, name)}`,
        folder: join(data, name),
      })),
    bring: async () => undefined,
    clear: async (places) => {
      for (const place of places) removeFolder(place.folder);
    },
  };
}

async function webdavGround(_root: string, server: RunningServer): Promise<Ground> {
  const data = join(server.folder, "www", "dav");
  const address = `${server.host}:${server.port}/dav`;
  return {
    name: "webdav",
    title: "WebDAV",
    server: server.version,
    env: { FTP_PASSWORD: "test" },
    rcloneConfig: `[webdav]
type = webdav
url = http://${address}
vendor = other
`,
    fresh: async (count) =>
      names(count).map((name) => {
        const folder = join(data, name);
        mkdirSync(folder);
        // The server has given up root.
        chmodSync(folder, 0o777);
        return {
          url: `webdav://${address}/${name}`,
          rclone: `webdav:${name}`,
          duplicity: `webdav://test@${address}/${name}`,
          folder,
        };
      }),
    bring: async () => undefined,
    clear: async (places) => {
      for (const place of places) removeFolder(place.folder);
    },
  };
}
