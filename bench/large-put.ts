/** `npm run large-put`: one object of unknown size to each kind of store, and how much memory the command took. */
import { createCipheriv, randomBytes } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runMeasured } from "../test/helpers/peak-memory.ts";
import { placeOn } from "../test/helpers/places.ts";
import type { Place, PlaceOptions } from "../test/helpers/places.ts";
import { startServer, stopServers } from "../test/helpers/servers.ts";
import type { ServerName } from "../test/helpers/servers.ts";

const MIB = 1024 * 1024;
const CIPHER = "aes-128-ctr";

interface Kind {
  /** Undefined: no server is needed, and `place` makes the place. */
  readonly server?: ServerName;
  readonly scheme?: PlaceOptions["scheme"];
  readonly place?: (home: string) => Place;
  readonly version?: string;
  /** For the server's script. */
  readonly env?: (mebibytes: number) => Record<string, string>;
}

const folder = (home: string): string => {
  const path = join(home, "store");
  mkdirSync(path);
  return path;
};

function rclonePlace(home: string, crypt: boolean): Place {
  const obscure = (text: string): string => execFileSync("rclone", ["obscure", text], { encoding: "utf8" }).trim();
  const config = join(home, "rclone.conf");
  writeFileSync(
    config,
    `[here]\ntype = local\n[secret]\ntype = crypt\nremote = ${folder(home)}\npassword = ${obscure("a password")}\n`,
  );
  return { url: crypt ? "rclone://secret:x" : `rclone://here:${join(home, "store")}`, env: { RCLONE_CONFIG: config } };
}

/** In memory 10 GiB would take 16. */
const onDisk = (mebibytes: number): Record<string, string> => ({
  OBJECTSTORE: "bluestore",
  BYTES: String(2 * (mebibytes + 2048) * MIB),
});

const kinds: Readonly<Record<string, Kind>> = {
  file: { place: (home) => ({ url: `file://${folder(home)}`, env: {} }), version: "a folder" },
  "sftp-openssh": { server: "sshd" },
  "sftp-rclone": { server: "rclone-sftp" },
  "ftp-proftpd": { server: "proftpd" },
  "ftpes-proftpd": { server: "proftpd", scheme: "ftpes" },
  "ftp-vsftpd": { server: "vsftpd" },
  "webdav-apache": { server: "apache-dav" },
  "webdav-nginx": { server: "nginx-dav" },
  "s3-ceph": { server: "ceph-rgw", env: onDisk },
  "s3-swift": { server: "swift", scheme: "s3" },
  azure: { server: "azurite" },
  swift: { server: "swift" },
  rsync: { server: "rsyncd" },
  "rsync-ssh": { server: "sshd", scheme: "rsync+ssh" },
  smb: { server: "samba" },
  rest: { server: "rclone-restic" },
  rclone: { place: (home) => rclonePlace(home, false), version: "rclone, a local remote" },
  "rclone-crypt": { place: (home) => rclonePlace(home, true), version: "rclone, a crypt remote" },
  "opendal-fs": {
    place: (home) => ({ url: "opendal://fs/base", env: { OPENDAL_FS_ROOT: folder(home) } }),
    version: "OpenDAL, service fs",
  },
};

const HELP = `usage: npm run large-put -- [--gib N] [--most-mib N] [--folder DIR] [KIND...]

Puts an object of N GiB (default 10), whose size is not known beforehand, into each kind of store by the command, reads
it back, compares it, and prints how much memory the command took. One kind after the other; what a server had is removed
before the next begins. Fails when a byte is wrong, a command fails, or one takes more than --most-mib (default 250).

Google Cloud Storage is not among them: the emulator takes no uploads in pieces.

KIND: ${Object.keys(kinds).join(" ")} (default: all)`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    gib: { type: "string", default: "10" },
    "most-mib": { type: "string", default: "250" },
    folder: { type: "string", default: tmpdir() },
    help: { type: "boolean", default: false },
  },
});

const zeros = Buffer.alloc(MIB);

/** Bytes that nothing can make smaller, the same for the same key: a cipher over zeros. */
function* sourceOf(key: Buffer, mebibytes: number): Generator<Uint8Array> {
  const cipher = createCipheriv(CIPHER, key, Buffer.alloc(16));
  for (let at = 0; at < mebibytes; at++) yield cipher.update(zeros);
}

/** Whether a stream is that of {@link sourceOf}, byte for byte: the cipher makes zeros of it again. */
async function isSource(key: Buffer, mebibytes: number, bytes: AsyncIterable<Buffer>): Promise<boolean> {
  const cipher = createCipheriv(CIPHER, key, Buffer.alloc(16));
  let count = 0;
  let same = true;
  for await (const chunk of bytes) {
    count += chunk.length;
    same &&= cipher.update(chunk).equals(zeros.subarray(0, chunk.length));
  }
  return same && count === mebibytes * MIB;
}

/** Folders of what is being measured: they hold as much as is put. */
const homes = new Set<string>();

function removeHomes(): void {
  for (const home of homes) rmSync(home, { recursive: true, force: true });
  homes.clear();
}

interface Outcome {
  readonly kind: string;
  readonly version: string;
  readonly text: string;
  readonly good: boolean;
}

async function measureKind(name: string, kind: Kind, mebibytes: number, mostMib: number): Promise<Outcome> {
  const home = mkdtempSync(join(values.folder, "holdfast-large-put-"));
  homes.add(home);
  let version = kind.version ?? "";
  try {
    let place: Place;
    if (kind.server === undefined) {
      if (kind.place === undefined) throw new Error(`${name} has no place`);
      place = kind.place(home);
    } else {
      const server = await startServer(kind.server, kind.env === undefined ? {} : { env: kind.env(mebibytes) });
      if (!server.running) return { kind: name, version: kind.server, text: `left out: ${server.skipped}`, good: true };
      version = server.version;
      place = await placeOn(server, kind.scheme === undefined ? {} : { scheme: kind.scheme });
    }
    return { kind: name, version, ...(await putAndGet(home, place, mebibytes, mostMib)) };
  } catch (error) {
    return { kind: name, version, text: error instanceof Error ? error.message : String(error), good: false };
  } finally {
    await stopServers();
    removeHomes();
  }
}

async function putAndGet(
  home: string,
  { url, env }: Place,
  mebibytes: number,
  mostMib: number,
): Promise<Pick<Outcome, "text" | "good">> {
  const main = join(import.meta.dirname, "../../dist/cli/main.js");
  const key = randomBytes(16);
  const run = { home, env: { ...env, TMPDIR: home } };
  const put = await runMeasured(main, ["-q", "-p", url, "put", "-", "large"], {
    ...run,
    input: sourceOf(key, mebibytes),
  });
  if (put.code !== 0) return { text: `put failed (exit code ${put.code})`, good: false };
  let same = false;
  const get = await runMeasured(main, ["-q", "-p", url, "get", "large", "-"], {
    ...run,
    drain: async (stdout) => {
      same = await isSource(key, mebibytes, stdout);
    },
  });
  if (get.code !== 0) return { text: `get failed (exit code ${get.code})`, good: false };
  const rate = (seconds: number): string => (mebibytes / seconds).toFixed(0);
  const columns = [
    (mebibytes / 1024).toFixed(mebibytes % 1024 === 0 ? 0 : 3),
    put.peakMib.toFixed(0),
    rate(put.seconds),
    get.peakMib.toFixed(0),
    rate(get.seconds),
  ];
  const good = same && put.peakMib < mostMib && get.peakMib < mostMib;
  return { text: `${columns.join(" | ")}${same ? "" : " | WRONG BYTES"}`, good };
}

async function run(): Promise<number> {
  const mebibytes = Math.round(Number(values.gib) * 1024);
  const mostMib = Number(values["most-mib"]);
  if (!(mebibytes >= 1) || !(mostMib > 0)) throw new Error("--gib and --most-mib are numbers above 0");
  const wanted = positionals.length > 0 ? positionals : Object.keys(kinds);
  let failed = 0;
  console.log(
    "| kind | server | GiB | put: peak MiB | MiB/s | get: peak MiB | MiB/s |\n| --- | --- | --- | --- | --- | --- | --- |",
  );
  for (const name of wanted) {
    const kind = kinds[name];
    if (kind === undefined) throw new Error(`${name} is no kind: ${Object.keys(kinds).join(", ")}`);
    const outcome = await measureKind(name, kind, mebibytes, mostMib);
    console.log(`| ${outcome.kind} | ${outcome.version} | ${outcome.text} |${outcome.good ? "" : " FAILED"}`);
    if (!outcome.good) failed++;
  }
  return failed === 0 ? 0 : 1;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(
    signal,
    () =>
      void stopServers().finally(() => {
        removeHomes();
        process.exit(1);
      }),
  );
}
if (values.help) console.log(HELP);
else process.exitCode = await run();
