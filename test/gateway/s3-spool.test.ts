/** Uploads in the gateway's spool: what rots, what a power loss leaves, who else wants the folder, and what nobody wants. */
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, open as openFile, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { Uploads } from "../../src/gateway/s3/uploads.ts";
import type { Upload } from "../../src/gateway/s3/uploads.ts";
import { startGateways } from "../../src/gateway/gateways.ts";
import type { Gateways } from "../../src/gateway/gateways.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { exitOf, startCommand } from "../helpers/command.ts";
import { FakeRuntime } from "../helpers/fake-runtime.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";

const WEEK_MS = 7 * 86_400_000;
const HOUR_MS = 3_600_000;
const MiB = 1024 * 1024;
/** Name of the socket that is the lock. */
const LOCK: unknown = expect.stringMatching(/^in-use\.[0-9a-f]{16}$/u);
const signal = new AbortController().signal;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "holdfast-spool-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("a part in the spool", () => {
  const body = randomBytes(5 * MiB);
  const etag = createHash("md5").update(body).digest("hex");
  let gateways: TestGateways;
  let at: string;
  let id: string;

  beforeEach(async () => {
    gateways = await startTestGateways({ protocols: ["s3"], guarded: false, bucket: "bucket" });
    at = `${gateways.url("s3")}/bucket/object`;
    const begun = await (await fetch(`${at}?uploads`, { method: "POST" })).text();
    id = /<UploadId>(\w+)</u.exec(begun)?.[1] ?? "";
    await send();
  });
  afterEach(() => gateways?.end());

  const send = async (): Promise<void> => {
    const sent = await fetch(`${at}?uploadId=${id}&partNumber=1`, { method: "PUT", body });
    expect(sent.headers.get("etag")).toBe(`"${etag}"`);
  };
  const complete = async (): Promise<[number, string]> => {
    const answer = await fetch(`${at}?uploadId=${id}`, {
      method: "POST",
      body: `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part></CompleteMultipartUpload>`,
    });
    return [answer.status, await answer.text()];
  };
  const numbers = async (): Promise<string[]> => {
    const text = await (await fetch(`${at}?uploadId=${id}`)).text();
    return [...text.matchAll(/<PartNumber>(\d+)</gu)].map(([, number]) => number ?? "");
  };
  const fileOf = async (pattern: RegExp): Promise<string> => {
    const names = await readdir(path.join(gateways.folder, "spool", id));
    return path.join(gateways.folder, "spool", id, names.find((name) => pattern.test(name)) ?? "");
  };
  const bytesFile = (): Promise<string> => fileOf(/^1\.[0-9a-f]{16}$/u);

  test("that rots makes no object, and is missed until it is sent again", async () => {
    const file = await openFile(await bytesFile(), "r+");
    await file.write("ROTTEN", 1000);
    await file.close();
    expect(await complete()).toEqual([400, expect.stringContaining("InvalidPart")]);
    await expect(gateways.pool.stat("object")).rejects.toMatchObject({ code: "not-found" });
    expect(await numbers()).toEqual([]);
    await send();
    expect((await complete())[0]).toBe(200);
    expect((await gateways.pool.stat("object")).sha256).toBe(createHash("sha256").update(body).digest("hex"));
  });

  test.each<[string, () => Promise<void>]>([
    ["its bytes are cut short", async () => truncate(await bytesFile(), 100)],
    ["its bytes are gone", async () => rm(await bytesFile())],
    ["its facts are empty", async () => writeFile(await fileOf(/^1\.json$/u), "")],
    ["its facts are zeros", async () => writeFile(await fileOf(/^1\.json$/u), Buffer.alloc(200))],
  ])("is missed, and can be sent again, where %s", async (_, spoil) => {
    await spoil();
    expect(await numbers()).toEqual([]);
    expect(await complete()).toEqual([400, expect.stringContaining("InvalidPart")]);
    await send();
    expect(await numbers()).toEqual(["1"]);
    expect((await complete())[0]).toBe(200);
  });

  test("is one of no upload where what is known of that is cut short", async () => {
    await truncate(await fileOf(/^upload\.json$/u), 10);
    expect(await complete()).toEqual([404, expect.stringContaining("NoSuchUpload")]);
  });
});

describe("a spool", () => {
  const start = async (spool: string | undefined): Promise<Gateways> => {
    const pool = path.join(folder, "pool.json");
    await writeFile(pool, JSON.stringify({ mode: "mirror", stores: [{ url: `file://${folder}/store` }] }));
    const listen = [{ protocol: "s3", host: "127.0.0.1", port: 0 }] as const;
    return startGateways(pool, { listen, spool, bucket: "bucket", pool: { cache: false } });
  };
  const begin = async (gateways: Gateways): Promise<string> => {
    const answer = await fetch(`${gateways.url("s3")}/bucket/object?uploads`, { method: "POST" });
    return /<UploadId>(\w+)</u.exec(await answer.text())?.[1] ?? "";
  };
  const has = async (gateways: Gateways, id: string): Promise<boolean> =>
    (await fetch(`${gateways.url("s3")}/bucket/object?uploadId=${id}`)).status === 200;

  test("is that of one gateway: a second one does not start, and leaves the first one's uploads alone", async () => {
    const spool = path.join(folder, "spool");
    const first = await start(spool);
    try {
      const id = await begin(first);
      await expect(start(spool)).rejects.toMatchObject({ code: "config", message: expect.stringContaining(spool) });
      expect(await has(first, id)).toBe(true);
    } finally {
      await first.stop(0);
    }
  });

  test("is the next one's when its gateway has stopped, with the uploads in it", async () => {
    const spool = path.join(folder, "s".repeat(200), "spool");
    const first = await start(spool);
    const id = await begin(first);
    await first.stop(0);
    const second = await start(spool);
    try {
      expect(await has(second, id)).toBe(true);
    } finally {
      await second.stop(0);
    }
  });

  test("that nobody chose is another one for each gateway of a pool", async () => {
    const before = process.env["XDG_CACHE_HOME"];
    process.env["XDG_CACHE_HOME"] = path.join(folder, "cache");
    try {
      const first = await start(undefined);
      const id = await begin(first);
      const second = await start(undefined);
      const other = await begin(second);
      expect([await has(first, id), await has(second, id)]).toEqual([true, false]);
      await first.stop(0);
      const third = await start(undefined);
      expect([await has(second, other), await has(third, id)]).toEqual([true, true]);
      await Promise.all([second.stop(0), third.stop(0)]);
    } finally {
      if (before === undefined) delete process.env["XDG_CACHE_HOME"];
      else process.env["XDG_CACHE_HOME"] = before;
    }
  });

  test("of a gateway that was killed is free at once", async () => {
    const pool = path.join(folder, "pool.json");
    const spool = path.join(folder, "spool");
    await writeFile(pool, JSON.stringify({ mode: "mirror", stores: [{ url: `file://${folder}/store` }] }));
    const child = await startCommand(["-p", pool, "serve", "--s3", "0", "--spool", spool], {
      cwd: folder,
      env: { HOLDFAST_CACHE: path.join(folder, "cache") },
    });
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    await expect(start(spool)).rejects.toMatchObject({ code: "config" });
    const ended = exitOf(child);
    child.kill("SIGKILL");
    await ended;
    expect(await readdir(spool)).toEqual([LOCK]);
    await (await start(spool)).stop(0);
  });

  test("is taken by one of several gateways that find a dead one's lock at the same moment", async () => {
    const spools = Array.from(
      { length: 8 },
      () => new Uploads({ folder, runtime: new FakeRuntime(), logger: silentLogger }),
    );
    await writeFile(path.join(folder, "in-use.0123456789abcdef"), "of a dead one");
    const results = await Promise.allSettled(spools.map((spool) => spool.open()));
    expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(1);
    await Promise.all(spools.map((spool) => spool.close()));
    expect(await readdir(folder)).toEqual([]);
  });
});

test("an upload that is begun on a full disk is refused as such, and leaves nothing", async () => {
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).status === 0;
  if (!mounted) {
    console.info("a full disk is not tried: mounting is not permitted here");
    return;
  }
  const uploads = new Uploads({ folder, runtime: new FakeRuntime(), logger: silentLogger });
  try {
    await uploads.open();
    await writeFile(path.join(folder, "full"), Buffer.alloc(100_000)).catch(() => undefined);
    const facts = { bucket: "bucket", key: "key", metadata: {} };
    await expect(uploads.create(facts)).rejects.toMatchObject({ s3Code: "InsufficientStorage", status: 507 });
    expect((await readdir(folder)).toSorted()).toEqual(["full", LOCK]);
    await rm(path.join(folder, "full"));
    const upload = await uploads.create(facts);
    const body = toBody(Buffer.alloc(100_000));
    const digests = (): { md5: string; checksums: object } => ({ md5: "", checksums: {} });
    await expect(uploads.putPart(upload, 1, body, digests, signal)).rejects.toMatchObject({ status: 507 });
    expect(await readdir(path.join(folder, upload.id))).toEqual(["upload.json"]);
  } finally {
    await uploads.close();
    spawnSync("umount", [folder]);
  }
});

describe("an upload that nobody touches", () => {
  let runtime: FakeRuntime;
  let uploads: Uploads;
  const facts = (): { md5: string; checksums: object } => ({ md5: "d41d8cd98f00b204e9800998ecf8427e", checksums: {} });
  const begin = (): Promise<Upload> => uploads.create({ bucket: "bucket", key: "key", metadata: {} });
  const keys = async (): Promise<string[]> => (await uploads.list("bucket")).map((upload) => upload.id);

  beforeEach(async () => {
    runtime = new FakeRuntime();
    uploads = new Uploads({ folder, runtime, logger: silentLogger });
    await uploads.open();
  });
  afterEach(() => uploads.close());

  const restart = async (): Promise<void> => {
    await uploads.close();
    uploads = new Uploads({ folder, runtime, logger: silentLogger });
    await uploads.open();
  };

  test("is given up a week after its last part, by a gateway that runs on", async () => {
    const upload = await begin();
    await runtime.advance(WEEK_MS - HOUR_MS);
    await uploads.putPart(upload, 1, toBody(""), facts, signal);
    await runtime.advance(WEEK_MS - HOUR_MS);
    await uploads.sweep();
    expect(await keys()).toEqual([upload.id]);
    await runtime.advance(2 * HOUR_MS);
    await uploads.sweep();
    expect(await keys()).toEqual([]);
  });

  test("is looked for every hour", async () => {
    await begin();
    await runtime.advance(WEEK_MS + 2 * HOUR_MS);
    await expect.poll(() => readdir(folder)).toEqual([LOCK]);
  });

  test("is given up a week after its last part, by a gateway that starts again", async () => {
    const upload = await begin();
    await runtime.advance(WEEK_MS - HOUR_MS);
    await uploads.putPart(upload, 1, toBody(""), facts, signal);
    await uploads.close();
    await runtime.advance(WEEK_MS - HOUR_MS);
    await restart();
    expect(await keys()).toEqual([upload.id]);
    await uploads.close();
    await runtime.advance(2 * HOUR_MS);
    await restart();
    expect(await keys()).toEqual([]);
  });

  test("stays while a part of it is coming, however long that takes", async () => {
    const upload = await begin();
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from("a");
      await runtime.advance(WEEK_MS + HOUR_MS);
      await uploads.sweep();
      yield Buffer.from("b");
    };
    await uploads.putPart(upload, 1, toBody(slow(), { size: 2 }), facts, signal);
    expect(await keys()).toEqual([upload.id]);
  });

  test("stays where only the clock was set forward", async () => {
    const upload = await begin();
    const now = runtime.now.bind(runtime);
    runtime.now = () => now() + 10 * 365 * 86_400_000;
    await uploads.sweep();
    expect(await keys()).toEqual([upload.id]);
  });

  test("leaves nothing of what a killed gateway was doing with it", async () => {
    const upload = await begin();
    await uploads.close();
    for (const name of ["new-", "gone-"]) await writeFile(path.join(folder, name + "0".repeat(32)), "");
    await restart();
    expect(await readdir(folder)).toHaveLength(2);
    expect(await readdir(folder)).toEqual(expect.arrayContaining([upload.id, LOCK]));
    expect(await readFile(path.join(folder, upload.id, "upload.json"), "utf8")).toContain('"key"');
  });
});
