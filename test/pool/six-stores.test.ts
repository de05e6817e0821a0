/**
 * A mirror of a folder and of five real servers, SFTP, WebDAV, S3, FTP and Azure, of which each in turn is killed in the
 * middle of a put and brought back, and becomes a black hole in the middle of a put and is brought back.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import { openStore } from "../../src/stores/open-store.ts";
import { parsePool } from "../../src/config/pool-config.ts";
import type {
  Body,
  GetOptions,
  GetResult,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  Store,
} from "../../src/contract/store.ts";
import { ForwardingStore, throughBody } from "../../src/wrappers/forward.ts";
import { MachineClock } from "../helpers/machine-clock.ts";
import { placeOn } from "../helpers/places.ts";
import { reportStore } from "../helpers/server-report.ts";
import { startServer } from "../helpers/servers.ts";
import type { RunningServer, ServerName } from "../helpers/servers.ts";
import { waitUntil } from "../helpers/wait-until.ts";

const MIB = 1024 * 1024;
const DEADLINE_MS = 3000;
/** Every operation is some calls of a store, one after the other, and each of them has the deadline. */
const MOST_MS = 6 * DEADLINE_MS;
/** A little longer than a request that got no answer may still take effect. */
const LATE_MS = 61_000;

const servers: readonly (readonly [string, ServerName])[] = [
  ["sftp", "sshd"],
  ["webdav", "apache-dav"],
  ["s3", "ceph-rgw"],
  ["ftp", "proftpd"],
  ["azure", "azurite"],
];
const started = await Promise.all(servers.map(async ([, name]) => startServer(name, { instance: "six" })));
const missing = started.filter((server) => !server.running);

/** One of the six, and how it fails. */
interface Victim {
  readonly label: string;
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  kill(): Promise<void>;
  /** Takes everything, answers nothing. */
  freeze(): Promise<void>;
  revive(): Promise<void>;
}

/** A folder that answers nothing while `gate` is pending: as one on a network share whose server is gone. */
class GatedStore extends ForwardingStore {
  readonly #gate: () => Promise<void>;

  constructor(inner: Store, gate: () => Promise<void>) {
    super(inner);
    this.#gate = gate;
  }

  override async put(name: string, body: Body, options?: PutOptions): ReturnType<Store["put"]> {
    await this.#gate();
    const gate = this.#gate;
    const gated = throughBody(body, async function* (chunks) {
      for await (const chunk of chunks) {
        await gate();
        yield chunk;
      }
    });
    const result = await super.put(name, gated, options);
    await this.#gate();
    return result;
  }

  override async get(name: string, options?: GetOptions): Promise<GetResult> {
    await this.#gate();
    return super.get(name, options);
  }

  override async stat(name: string, options?: OperationOptions): Promise<ObjectInfo> {
    await this.#gate();
    return super.stat(name, options);
  }

  override async *list(prefix: string, options?: OperationOptions): AsyncGenerator<ObjectInfo> {
    await this.#gate();
    yield* super.list(prefix, options);
  }

  override async delete(name: string, options?: OperationOptions): ReturnType<Store["delete"]> {
    await this.#gate();
    return super.delete(name, options);
  }
}

/** The disk with the folder is taken away, or hangs. */
class FolderVictim implements Victim {
  readonly label = "folder";
  readonly env = {};
  readonly url: string;
  readonly #disk: string;
  #released: (() => void) | undefined;
  #held = Promise.resolve();

  constructor(disk: string) {
    this.#disk = disk;
    this.url = `file://${path.join(disk, "store")}`;
  }

  gated(store: Store): Store {
    return new GatedStore(store, () => this.#held);
  }

  async kill(): Promise<void> {
    await rename(this.#disk, `${this.#disk}-away`);
  }

  async freeze(): Promise<void> {
    this.#held = new Promise((resolve) => {
      this.#released = resolve;
    });
  }

  async revive(): Promise<void> {
    this.#released?.();
    this.#released = undefined;
    if (!existsSync(`${this.#disk}-away`)) return;
    const filled = existsSync(this.#disk) ? await readdir(this.#disk, { recursive: true }) : [];
    await rm(this.#disk, { recursive: true, force: true });
    await rename(`${this.#disk}-away`, this.#disk);
    if (filled.length > 0) throw new Error(`what stood in the disk's place was filled: ${filled.join(", ")}`);
  }
}

class ServerVictim implements Victim {
  readonly label: string;
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  readonly #server: RunningServer;
  #frozen = false;

  constructor(label: string, server: RunningServer, { url, env }: Pick<Victim, "url" | "env">) {
    this.label = label;
    this.url = url;
    this.env = env;
    this.#server = server;
  }

  async kill(): Promise<void> {
    if (this.#server.name === "azurite") await azuriteSaved(this.#server);
    await this.#server.control("crash");
  }

  async freeze(): Promise<void> {
    await this.#server.control("pause");
    this.#frozen = true;
  }

  async revive(): Promise<void> {
    await this.#server.control(this.#frozen ? "resume" : "start");
    this.#frozen = false;
  }
}

/**
 * Azurite keeps its index in memory and writes it every five seconds: unlike the service, it would lose by the kill what it
 * had acknowledged before. By now it has taken blocks of the put, so there is something to write.
 */
async function azuriteSaved(server: RunningServer): Promise<void> {
  const index = path.join(server.folder, "data", "__azurite_db_blob__.json");
  const beganMs = Date.now();
  await waitUntil(async () => (await stat(index)).mtimeMs > beganMs);
}

const labels = ["folder", ...servers.map(([label]) => label)];
if (missing.length > 0) {
  const why = missing.map((server) => `${server.name}: ${server.running ? "" : server.skipped}`).join("; ");
  process.stdout.write(`skipped: the mirror of six stores (${why})\n`);
}

describe.runIf(missing.length === 0)("a mirror of six kinds of stores", () => {
  for (const [index, server] of started.entries()) reportStore(`six-stores, ${servers[index]?.[0]}`, server);
  let home = "";
  let file = "";
  const victims: Victim[] = [];
  /** What was acknowledged, and not deleted since. */
  const expected = new Map<string, Buffer>();
  /** Put and delete calls of stores since it was emptied. */
  const writes: string[] = [];

  beforeAll(async () => {
    home = await mkdtemp(path.join(tmpdir(), "holdfast-six-"));
    file = path.join(home, "pool.json");
    const disk = path.join(home, "disk");
    victims.push(new FolderVictim(disk));
    for (const [index, [label]] of servers.entries()) {
      const server = started[index];
      if (server?.running) victims.push(new ServerVictim(label, server, await placeOn(server)));
    }
    const stores = victims.map(({ label, url, env }) => ({
      url,
      description: label,
      env: Object.entries(env).map(([name, value]) => ({ name, value })),
    }));
    await writeFile(file, JSON.stringify(stores));
  });
  afterAll(async () => {
    await Promise.all(started.map(async (server) => (server.running ? server.control("stop") : undefined)));
    await rm(home, { recursive: true, force: true });
  });

  let down: Victim | undefined;
  async function revive(): Promise<void> {
    await down?.revive();
    down = undefined;
  }
  afterEach(revive);

  /** Opens the pool as the next run of the command on this machine does. */
  async function open(clock: MachineClock): Promise<Pool> {
    const description = await parsePool(`multi://${file}?mode=mirror&attempts=1&deadline=${DEADLINE_MS}ms`);
    if (description.kind !== "pool") throw new Error("it is no pool");
    return openPool(description, {
      cache: path.join(home, "cache"),
      runtime: clock.runtime(),
      openStore: async (url, options) => {
        const store = await openStore(url, options);
        const victim = victims.find((one) => one.url === url);
        const counted = new CountingStore(store, (call) => writes.push(`${victim?.label}: ${call}`));
        return victim instanceof FolderVictim ? victim.gated(counted) : counted;
      },
    });
  }

  /** Ends in time, whatever a store does. */
  async function inTime<T>(work: Promise<T>): Promise<T> {
    const begun = performance.now();
    try {
      return await work;
    } finally {
      expect(performance.now() - begun).toBeLessThan(MOST_MS);
    }
  }

  async function putWhole(pool: Pool, name: string, bytes: Buffer): Promise<void> {
    const { owed } = await pool.put(name, bytes);
    expect(owed).toEqual([]);
    expected.set(name, bytes);
  }

  async function readAll(store: Store): Promise<void> {
    for (const [name, bytes] of expected) {
      const read = await inTime(store.get(name).then(async ({ body }) => collect(body)));
      expect(Buffer.compare(read, bytes), `${name} on ${store.label}`).toBe(0);
    }
  }

  async function namesOn(store: Store): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of store.list("")) if (!name.startsWith(".holdfast/")) names.push(name);
    return names.sort();
  }

  const sorted = (): string[] => [...expected.keys()].sort();
  const bytesOf = (text: string, length: number): Buffer => Buffer.alloc(length, `${text} `);

  /** Puts whose source makes the store fail between two chunks, when the others have begun. */
  function interrupted(bytes: Buffer, fail: () => Promise<void>): Body {
    let failed = false;
    return {
      ...toBody(bytes),
      size: undefined,
      reopenable: false,
      async *open() {
        for (let at = 0; at < bytes.length; at += MIB) {
          // Beyond the 8 MiB that an object store takes at once: parts are under way.
          if (at >= 9 * MIB && !failed) {
            failed = true;
            await fail();
          }
          yield bytes.subarray(at, at + MIB);
        }
      },
    };
  }

  it.each(labels.flatMap((label) => [[label, "killed"] as const, [label, "a black hole"] as const]))(
    "%s becomes %s in the middle of a put, and comes back",
    { timeout: 120_000 },
    async (label, fault) => {
      const victim = victims.find((one) => one.label === label);
      if (!victim) throw new Error(`${label} was not started`);
      const tag = `${label}-${fault.replaceAll(" ", "-")}`;
      const clock = new MachineClock();
      const pool = await open(clock);
      await putWhole(pool, "overwritten", bytesOf(`before ${tag}`, 70_000));
      await putWhole(pool, `kept/${tag}`, bytesOf(tag, 3000));
      await putWhole(pool, `deleted/${tag}`, bytesOf("to be deleted", 3000));

      const large = bytesOf(`large ${tag}`, 12 * MIB + 7);
      const fail = async (): Promise<void> => {
        down = victim;
        await (fault === "killed" ? victim.kill() : victim.freeze());
      };
      const put = await pool.put(`large/${tag}`, interrupted(large, fail));
      expected.set(`large/${tag}`, large);
      const owes = (object: string, what: "copy" | "delete") => [
        expect.objectContaining({ store: label, object, owes: what }) as unknown,
      ];
      expect(put.owed).toEqual(owes(`large/${tag}`, "copy"));

      const overwritten = bytesOf(`after ${tag}`, 50_000);
      expect((await inTime(pool.put("overwritten", overwritten))).owed).toEqual(owes("overwritten", "copy"));
      expected.set("overwritten", overwritten);
      const deleted = await inTime(pool.delete(`deleted/${tag}`));
      expect(deleted.owed).toEqual(owes(`deleted/${tag}`, "delete"));
      expected.delete(`deleted/${tag}`);

      await readAll(pool);
      expect(await inTime(namesOn(pool))).toEqual(sorted());
      await expect(inTime(pool.get(`deleted/${tag}`))).rejects.toMatchObject({ code: "not-found" });
      const status = await inTime(pool.maintenance.status());
      const debts = status.stores.map(({ label, owedCopies, owedDeletes }) => [label, owedCopies, owedDeletes]);
      expect(debts).toEqual(labels.map((one) => (one === label ? [one, 2, 1] : [one, 0, 0])));
      await inTime(pool.close());

      await revive();
      const again = await open(clock);
      await readAll(again);
      expect(await namesOn(again)).toEqual(sorted());
      // The put that got no answer may still take effect there.
      const isOpen = fault === "a black hole";
      const early = await again.maintenance.repair();
      expect(early).toMatchObject({ whole: !isOpen, failed: 0, unheard: [] });
      const found = early.left.map(({ object, store }) => `${object} on ${store}`);
      expect(new Set(found)).toEqual(new Set(isOpen ? [`large/${tag} on ${label}`] : []));
      expect(early.left.some(({ kind }) => kind === "unsettled")).toBe(isOpen);
      clock.pass(LATE_MS);
      const repaired = await again.maintenance.repair();
      expect(repaired).toMatchObject({ whole: true, failed: 0, left: [], unheard: [] });
      writes.length = 0;
      expect(await again.maintenance.repair()).toMatchObject({ whole: true, planned: 0, bytes: 0 });
      expect(writes).toEqual([]);
      expect(await again.maintenance.status()).toMatchObject({ degraded: 0, unsettled: 0 });
      await again.close();

      // Past all of the pool: each store itself.
      for (const { url, env } of victims) {
        const store = await openStore(url, { env });
        expect([store.label, await namesOn(store)]).toEqual([store.label, sorted()]);
        await readAll(store);
        await store.close();
      }
      const cleaning = await open(clock);
      await cleaning.delete(`large/${tag}`);
      expected.delete(`large/${tag}`);
      await cleaning.close();
    },
  );
});

/** Tells of each call that may change the store. */
class CountingStore extends ForwardingStore {
  readonly #tell: (call: string) => void;

  constructor(inner: Store, tell: (call: string) => void) {
    super(inner);
    this.#tell = tell;
  }

  override put(name: string, body: Body, options?: PutOptions): ReturnType<Store["put"]> {
    this.#tell(`put ${name}`);
    return super.put(name, body, options);
  }

  override delete(name: string, options?: OperationOptions): ReturnType<Store["delete"]> {
    this.#tell(`delete ${name}`);
    return super.delete(name, options);
  }
}
