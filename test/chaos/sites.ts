/**
 * Where the stores of a round stand, and what stands on them, seen past Holdfast: files under the objects' names.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { isReserved } from "../../src/contract/names.ts";
import { placeOn } from "../helpers/places.ts";
import { startServer } from "../helpers/servers.ts";
import type { RunningServer, ServerName } from "../helpers/servers.ts";
import { STORES } from "./plan.ts";
import type { PoolKind, Round, Store } from "./plan.ts";
import { sha256Of } from "./values.ts";

/** Small, so that it is full in no time. */
const DISK_MIB = 96;
const CHUNK_BYTES = 1024 * 1024;
/** A call to a store ends by then: so that there are many ends in a short run. */
const DEADLINE = "4s";
/** What a put that was killed leaves beside the object, on stores with folders, and an Apache that was killed in one. */
const TEMPORARY = /(?:^|\/)\.(?:holdfast-[0-9a-f]{16}(?:-A[a\u00e9])?\.tmp|davfs\.tmp)/u;

/** What a file is, without reading it; undefined: there is none. */
export type Identity = string | undefined;

/** A file that was made where a store should have been. */
export interface MadeFile {
  readonly name: string;
  readonly bytes: Buffer;
}

/** One store's place. */
export class Site {
  readonly label: Store;
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where its files stand. */
  readonly folder: string;
  readonly server: RunningServer | undefined;
  /** A file system of its own, where the folder is in one. */
  readonly disk: string | undefined;
  readonly #digests = new Map<string, { readonly identity: string; readonly sha256: string }>();
  #asides = 0;

  constructor(place: {
    readonly label: Store;
    readonly url: string;
    readonly folder: string;
    readonly env?: Readonly<Record<string, string>>;
    readonly server?: RunningServer | undefined;
    readonly disk?: string | undefined;
  }) {
    this.label = place.label;
    this.url = place.url;
    this.env = place.env ?? {};
    this.folder = place.folder;
    this.server = place.server;
    this.disk = place.disk;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Changes with each write of the file. */
  identity(name: string): Identity {
    try {
      const stats = statSync(this.path(name), { bigint: true });
      return stats.isFile() ? `${stats.ino} ${stats.size} ${stats.mtimeNs}` : undefined;
    } catch {
      return undefined;
    }
  }

  /** Undefined: there is no such file. */
  sha256(name: string): string | undefined {
    const identity = this.identity(name);
    if (identity === undefined) return undefined;
    const known = this.#digests.get(name);
    if (known?.identity === identity) return known.sha256;
    const sha256 = sha256Of(readFileSync(this.path(name)));
    this.#digests.set(name, { identity, sha256 });
    return sha256;
  }

  /** Objects that stand here. */
  names(): string[] {
    return filesBelow(this.folder).filter((name) => !isReserved(name) && !TEMPORARY.test(name));
  }

  /** Takes the folder out of its place; gives what brings it back and tells what was made in its place meanwhile. */
  setAside(instead: "nothing" | "folder" | "file"): () => readonly MadeFile[] {
    const aside = `${this.folder}.aside`;
    renameSync(this.folder, aside);
    if (instead === "folder") mkdirSync(this.folder);
    if (instead === "file") writeFileSync(this.folder, "no folder\n");
    return () => {
      const made = `${this.folder}.made-${++this.#asides}`;
      if (existsSync(this.folder)) renameSync(this.folder, made);
      renameSync(aside, this.folder);
      if (instead === "file" || !existsSync(made)) return [];
      return filesBelow(made).map((name) => ({ name, bytes: readFileSync(join(made, name)) }));
    };
  }

  /** Fills the disk; gives what empties it again. */
  fill(): () => readonly MadeFile[] {
    if (this.disk === undefined) return this.setAside("file");
    const ballast = join(this.disk, "ballast");
    const file = openSync(ballast, "w");
    // In smaller and smaller pieces, until nothing fits.
    for (let size = CHUNK_BYTES; size > 0;) {
      try {
        writeSync(file, Buffer.alloc(size, 1));
      } catch {
        size = Math.floor(size / 4);
      }
    }
    closeSync(file);
    return () => {
      rmSync(ballast);
      return [];
    };
  }

  /** Keeps what stands here; gives where. */
  copyTo(image: string): void {
    rmSync(image, { recursive: true, force: true });
    cpSync(this.folder, image, { recursive: true, preserveTimestamps: true });
  }

  /** Makes what stands here what stood here then. Folders stay what they are, as in a file system put back in place. */
  restoreFrom(image: string): void {
    for (const name of filesBelow(this.folder)) rmSync(this.path(name));
    for (const name of filesBelow(image)) {
      mkdirSync(dirname(this.path(name)), { recursive: true });
      cpSync(join(image, name), this.path(name), { preserveTimestamps: true });
    }
  }
}

export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

/** The places of a round's stores, and the pool's file. */
export interface Sites {
  readonly all: readonly Site[];
  readonly pool: string;
  /** What could not be had. */
  readonly skipped: readonly string[];
}

/** Makes the stores' places. Without a server the pool has two of them, and `skipped` says why. */
export async function makeSites(root: string, round: Round, canMount: boolean): Promise<Sites> {
  const skipped: string[] = [];
  const all: Site[] = [];
  for (const label of STORES) {
    const onServer = label === "c" && round.kind === "mirror-on-server";
    const site = onServer ? await serverSite(round, skipped) : folderSite(root, label, canMount, skipped);
    if (site !== undefined) all.push(site);
  }
  const pool = join(root, "pool.json");
  const stores = all.map(({ label, url, env }) => ({
    url,
    description: label,
    env: Object.entries(env).map(([name, value]) => ({ name, value })),
  }));
  writeFileSync(pool, JSON.stringify({ ...parametersOf(round.kind), deadline: DEADLINE, attempts: 2, stores }));
  return { all, pool, skipped };
}

function parametersOf(kind: PoolKind): Readonly<Record<string, string | number>> {
  if (kind === "stripe") return { mode: "stripe" };
  return { mode: "mirror", min: kind === "mirror-min-2" ? 2 : 1 };
}

function folderSite(root: string, label: Store, canMount: boolean, skipped: string[]): Site {
  const home = join(root, label);
  const folder = join(home, "store");
  mkdirSync(home);
  let disk: string | undefined;
  if (canMount) {
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", home]);
    if (mounted.status === 0) disk = home;
    else skipped.push(`a full disk: ${mounted.stderr.toString().trim()}`);
  }
  mkdirSync(folder);
  return new Site({ label, url: `file://${folder}`, folder, disk });
}

const SERVERS: readonly ServerName[] = ["sshd", "apache-dav"];

async function serverSite(round: Round, skipped: string[]): Promise<Site | undefined> {
  const order = round.server === 0 ? SERVERS : [...SERVERS].reverse();
  for (const name of order) {
    const server = await startServer(name, { instance: "chaos" });
    if (!server.running) {
      skipped.push(`a store on ${name}: ${server.skipped}`);
      continue;
    }
    const { url, env, folder } = await placeOn(server);
    if (folder === undefined) throw new Error(`files on ${name} cannot be looked at`);
    mkdirSync(folder, { recursive: true });
    return new Site({ label: "c", url, env, folder, server });
  }
  return undefined;
}
