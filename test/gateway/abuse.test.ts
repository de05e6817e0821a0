/** What clients do wrong, or on purpose, and what a gateway must be like after it. */
import { readdirSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import type { Socket } from "node:net";
import { createHash, randomBytes } from "node:crypto";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HoldfastError } from "../../src/contract/errors.ts";
import { toBody } from "../../src/contract/body.ts";
import { startGateways } from "../../src/gateway/gateways.ts";
import type { Store } from "../../src/contract/store.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { exitOf, startCommand } from "../helpers/command.ts";
import { waitUntil } from "../helpers/wait-until.ts";
import { hookedStore } from "../helpers/wrapped-store.ts";

let gateways: TestGateways;
/** Indexes of stores that answer nothing. */
const down = new Set<number>();

/** A store that can be taken down. */
function breakable(store: Store, index: number): Store {
  const check = (): void => {
    if (down.has(index)) throw new HoldfastError("unavailable", "the store is down", { store: store.label });
  };
  return hookedStore(store, { before: check });
}

beforeEach(async () => {
  gateways = await startTestGateways({
    protocols: ["s3", "webdav", "restic", "metrics"],
    bucket: "bucket",
    wrap: breakable,
    limits: { headersMs: 2000, bodyIdleMs: 400, bodyMinBytes: 1000, keepAliveMs: 1000, connections: 100 },
  });
});
afterEach(async () => {
  down.clear();
  await gateways.end();
});

const basic = `Basic ${btoa(`${credential.user}:${credential.password}`)}`;

function open(protocol: "s3" | "webdav" | "restic"): Promise<Socket> {
  const { hostname, port } = new URL(gateways.url(protocol));
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => resolve(socket));
    socket.on("error", reject);
  });
}

/** What a socket receives until it is closed by the other side. */
function received(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.removeAllListeners("error");
    socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
  });
}

async function connectionsOf(protocol: string): Promise<number> {
  const text = await gateways.metrics.text();
  return Number(
    new RegExp(`holdfast_gateway_connections\\{protocol="${protocol}"\\} (\\d+)`, "u").exec(text)?.[1] ?? 0,
  );
}

describe("clients that dawdle", () => {
  test("over their headers are cut off", async () => {
    const sockets = await Promise.all(Array.from({ length: 20 }, () => open("webdav")));
    const ends = sockets.map(received);
    const drip = setInterval(() => {
      for (const socket of sockets) if (!socket.destroyed) socket.write("X");
    }, 20);
    for (const socket of sockets) socket.write("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    for (const end of await Promise.all(ends)) expect(end === "" || end.startsWith("HTTP/1.1 408")).toBe(true);
    clearInterval(drip);
    await waitUntil(async () => (await connectionsOf("webdav")) === 0);
  });

  test("over their body, though they drip, are cut off, and nothing is stored", async () => {
    const socket = await open("webdav");
    const end = received(socket);
    socket.write(`PUT /slow HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic}\r\nContent-Length: 100000\r\n\r\nbegin`);
    const drip = setInterval(() => !socket.destroyed && socket.write("x"), 20);
    expect(await end).toMatch(/^HTTP\/1\.1 (503|408|400)/u);
    clearInterval(drip);
    await expect(gateways.pool.stat("slow")).rejects.toMatchObject({ code: "not-found" });
    // The client is to blame, not the stores.
    expect((await gateways.pool.maintenance.status()).degraded).toBe(0);
    await waitUntil(async () => (await connectionsOf("webdav")) === 0);
  });

  test("with more headers than anyone needs are refused", async () => {
    const socket = await open("s3");
    const end = received(socket);
    socket.write(`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(40_000)}\r\n\r\n`);
    expect(await end).toMatch(/^HTTP\/1\.1 431/u);
  });
});

describe("uploads that break off", () => {
  test.each(["s3", "webdav", "restic"] as const)("leave nothing by %s, however far they came", async (protocol) => {
    const part = `/part-${protocol}`;
    const name = protocol === "restic" ? `/data/${"ab".repeat(32)}` : protocol === "s3" ? `/bucket${part}` : part;
    const url = `${gateways.url(protocol)}${name}`;
    const before = readdirSync("/proc/self/fd").length;
    for (const length of [0, 1, 70_000, 3_000_000]) {
      const controller = new AbortController();
      const body = new ReadableStream({
        start(stream) {
          if (length > 0) stream.enqueue(new Uint8Array(length));
        },
      });
      const sent = fetch(url, {
        method: protocol === "restic" ? "POST" : "PUT",
        headers: { authorization: basic },
        body,
        duplex: "half",
        signal: controller.signal,
      });
      const outcome = sent.then(
        (response) => response.status,
        () => 0,
      );
      setImmediate(() => controller.abort());
      expect([0, 400, 403, 411]).toContain(await outcome);
    }
    for await (const info of gateways.pool.list("")) expect(info).toBe("nothing");
    await waitUntil(async () => (await connectionsOf(protocol)) <= 1, 10_000);
    for (const objects of gateways.objects) {
      for (let at = objects.next("", false); at !== undefined; at = objects.next(at, true)) {
        expect(at.startsWith(".holdfast/")).toBe(true);
      }
    }
    await waitUntil(() => readdirSync("/proc/self/fd").length <= before + 4, 10_000);
  });

  test("do not touch the object that they would have replaced", async () => {
    await gateways.pool.put("kept", toBody("the former content"));
    const socket = await open("webdav");
    const end = received(socket);
    socket.write(`PUT /kept HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic}\r\nContent-Length: 2000000\r\n\r\n`);
    socket.write(randomBytes(1_000_000), () => socket.destroy());
    await end;
    await waitUntil(async () => (await connectionsOf("webdav")) === 0);
    const response = await fetch(`${gateways.url("webdav")}/kept`, { headers: { authorization: basic } });
    expect(await response.text()).toBe("the former content");
    expect((await gateways.pool.maintenance.status()).degraded).toBe(0);
  });

  test("downloads that break off let go of everything", async () => {
    await gateways.pool.put("large", toBody(new Uint8Array(20_000_000)));
    for (let count = 0; count < 10; count++) {
      const controller = new AbortController();
      const response = await fetch(`${gateways.url("webdav")}/large`, {
        headers: { authorization: basic },
        signal: controller.signal,
      });
      expect(response.status).toBe(200);
      controller.abort();
    }
    await waitUntil(async () => (await connectionsOf("webdav")) === 0, 10_000);
  });
});

describe("with a store down", () => {
  const get = (
    protocol: "webdav" | "restic",
    name: string,
    { headers = {}, ...init }: { method?: string; body?: string; headers?: Record<string, string> } = {},
  ): Promise<Response> =>
    fetch(`${gateways.url(protocol)}${name}`, { ...init, headers: { authorization: basic, ...headers } });

  test("a write succeeds, is counted and owed, and what it wrote is read and listed", async () => {
    await get("webdav", "/before", { method: "PUT", body: "before" });
    down.add(1);
    const put = await get("webdav", "/during", { method: "PUT", body: "during" });
    expect(put.status).toBe(201);
    expect(put.headers.get("x-holdfast-owed")).toBe("1");
    expect(await (await get("webdav", "/during")).text()).toBe("during");
    const { hostname, port } = new URL(gateways.url("metrics"));
    const metrics = await (await fetch(`http://${hostname}:${port}/metrics`)).text();
    expect(metrics).toContain("holdfast_degraded_writes_total 1");
    expect(metrics).toMatch(/holdfast_debts\{store="store 2",owes="copy"\} 1/u);
    expect(metrics).toMatch(
      /holdfast_store_operations_total\{store="store 2",operation="\w+",result="unavailable"\} \d/u,
    );
    expect((await fetch(`http://${hostname}:${port}/healthz`)).status).toBe(200);
    const listed = await get("webdav", "/", { method: "PROPFIND", headers: { depth: "1" } });
    expect([listed.status, await listed.text()]).toEqual([207, expect.stringMatching(/\/before<.*\/during</u)]);
  });

  test("the gateway is alive, and says that it is degraded, to those who ask no more than that it can be read", async () => {
    await get("webdav", "/before", { method: "PUT", body: "before" });
    down.add(1);
    await get("webdav", "/during", { method: "PUT", body: "during" });
    for (const at of [`${gateways.url("webdav")}/.holdfast/readyz`, `${gateways.url("metrics")}/readyz`]) {
      const ready = await fetch(at);
      const said = "degraded: 0 objects lost, 1 degraded, 1 of 2 stores not reached\n";
      expect([ready.status, await ready.text()]).toEqual([200, said]);
    }
  });

  test("a gateway that is to be whole is not ready", async () => {
    const options = { wrap: breakable, guarded: false, readyWhen: "whole" } as const;
    const strict = await startTestGateways({ ...options, protocols: ["webdav"] });
    try {
      await strict.pool.put("x", toBody("1"));
      down.add(1);
      expect((await fetch(`${strict.url("webdav")}/.holdfast/healthz`)).status).toBe(200);
      const ready = await fetch(`${strict.url("webdav")}/.holdfast/readyz`);
      expect([ready.status, await ready.text()]).toEqual([503, expect.stringMatching(/^degraded: /u)]);
    } finally {
      await strict.end();
    }
  });

  test.each([
    ["mirror", [0, 1]],
    ["stripe", [1]],
  ] as const)("a %s that cannot be read any more is not ready", async (mode, gone) => {
    const other = await startTestGateways({ protocols: ["webdav"], wrap: breakable, guarded: false, mode });
    try {
      await other.pool.put("x", toBody("1"));
      for (const index of gone) down.add(index);
      const ready = await fetch(`${other.url("webdav")}/.holdfast/readyz`);
      expect([ready.status, await ready.text()]).toEqual([503, expect.stringMatching(/^(?:unreadable|unknown): /u)]);
    } finally {
      await other.end();
    }
  });

  test("the figures tell requests, bytes, errors and times of each store, what is owed, and that its breaker is open", async () => {
    await get("webdav", "/before", { method: "PUT", body: "12345" });
    down.add(1);
    for (let count = 0; count < 20; count++) await get("webdav", `/object-${count}`, { method: "PUT", body: "12345" });
    await get("webdav", "/object-1");
    const text = await (await fetch(`${gateways.url("metrics")}/metrics`)).text();
    const value = (series: string): number =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length) ?? Number.NaN,
      );
    expect(value('holdfast_gateway_requests_total{protocol="webdav",method="PUT",status="201"}')).toBe(21);
    expect(value('holdfast_gateway_request_seconds_count{protocol="webdav",method="PUT"}')).toBe(21);
    expect(value('holdfast_store_bytes_total{store="store 1",direction="in"}')).toBeGreaterThan(100);
    expect(value('holdfast_store_bytes_total{store="store 1",direction="out"}')).toBeGreaterThan(4);
    expect(value('holdfast_store_operations_total{store="store 1",operation="put",result="ok"}')).toBeGreaterThan(19);
    expect(value('holdfast_store_operation_seconds_count{store="store 1",operation="put"}')).toBeGreaterThan(19);
    expect(text).toMatch(
      /^holdfast_store_operations_total\{store="store 2",operation="\w+",result="unavailable"\} \d/mu,
    );
    expect(value("holdfast_degraded_objects")).toBe(20);
    expect(value("holdfast_degraded_writes_total")).toBe(20);
    expect(value('holdfast_debts{store="store 2",owes="copy"}')).toBe(20);
    expect(value('holdfast_debt_bytes{store="store 2"}')).toBe(100);
    expect(value('holdfast_store_reachable{store="store 2"}')).toBe(0);
    expect(value('holdfast_store_breaker{store="store 2"}')).toBe(1);
    expect(value('holdfast_store_breaker{store="store 1"}')).toBe(0);
  });

  test("a listing that may lack something is an error by every protocol, never a short list", async () => {
    const stripe = await startTestGateways({
      protocols: ["webdav", "restic", "s3"],
      mode: "stripe",
      wrap: breakable,
      guarded: false,
      bucket: "bucket",
    });
    try {
      const id = "cd".repeat(32);
      await stripe.pool.put("a", toBody("1"));
      await stripe.pool.put("b", toBody("2"));
      // Put there by other hands: only a listing of the store tells.
      for (const objects of stripe.objects) objects.set(`data/cd/${id}`, { bytes: new Uint8Array(1), modifiedMs: 1 });
      down.add(0).add(1);
      const ask = (protocol: "webdav" | "restic" | "s3", name: string, init: RequestInit = {}): Promise<Response> =>
        fetch(`${stripe.url(protocol)}${name}`, init);
      expect((await ask("webdav", "/", { method: "PROPFIND", headers: { depth: "1" } })).status).toBe(503);
      expect((await ask("restic", "/data/")).status).toBe(503);
      const s3 = await ask("s3", "/bucket?list-type=2");
      expect([s3.status, await s3.text()]).toEqual([503, expect.stringContaining("<Code>ServiceUnavailable</Code>")]);
    } finally {
      await stripe.end();
    }
  });
});

describe("a gateway", () => {
  test("refuses to listen beyond this machine without credentials", async () => {
    await expect(
      startGateways(gateways.poolFile, {
        listen: [{ protocol: "s3", host: "0.0.0.0", port: 0 }],
        pool: { cache: false },
      }),
    ).rejects.toMatchObject({ code: "config", message: expect.stringContaining("credentials") });
  });

  test.each(["s3", "webdav"] as const)("that is to be added to only does not start beside %s", async (protocol) => {
    await expect(
      startGateways(gateways.poolFile, {
        listen: [protocol, "restic" as const].map((one) => ({ protocol: one, host: "127.0.0.1", port: 0 })),
        appendOnly: true,
        pool: { cache: false },
      }),
    ).rejects.toMatchObject({ code: "config", message: expect.stringContaining("a process of their own") });
  });

  test("that asks for no credential takes nothing that a web page could send", async () => {
    const free = await startTestGateways({ protocols: ["webdav"], guarded: false });
    try {
      const url = `${free.url("webdav")}/x`;
      expect((await fetch(url, { method: "PUT", body: "x" })).status).toBe(201);
      expect((await fetch(url, { method: "PUT", body: "x", headers: { origin: "https://evil.example" } })).status).toBe(
        403,
      );
      const rebound = await new Promise<string>((resolve) => {
        const { hostname, port } = new URL(url);
        const socket = connect(Number(port), hostname, () => {
          void received(socket).then(resolve);
          socket.write("GET /x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        });
      });
      expect(rebound).toMatch(/^HTTP\/1\.1 403/u);
    } finally {
      await free.end();
    }
  });

  test("that is stopped finishes what is in flight and takes nothing new", async () => {
    let push: ((bytes: Uint8Array | undefined) => void) | undefined;
    const body = new ReadableStream<Uint8Array>({
      start(stream) {
        push = (bytes) => (bytes ? stream.enqueue(bytes) : stream.close());
      },
    });
    const sent = fetch(`${gateways.url("webdav")}/in-flight`, {
      method: "PUT",
      headers: { authorization: basic },
      body,
      duplex: "half",
    });
    push?.(new Uint8Array(1000));
    await waitUntil(async () => (await connectionsOf("webdav")) === 1);
    const url = gateways.url("webdav");
    const stopped = gateways.stop(10_000);
    await expect(fetch(url)).rejects.toThrow("fetch failed");
    push?.(new Uint8Array(500));
    push?.(undefined);
    expect((await sent).status).toBe(201);
    await stopped;
    expect(gateways.objects[0]?.get("in-flight")?.bytes.length).toBe(1500);
  });

  test("keeps parts of uploads in its spool, and none behind a failed one", async () => {
    const free = await startTestGateways({ protocols: ["s3"], guarded: false, bucket: "bucket" });
    try {
      const at = `${free.url("s3")}/bucket/object`;
      const begun = await (await fetch(`${at}?uploads`, { method: "POST" })).text();
      const id = /<UploadId>(\w+)</u.exec(begun)?.[1] ?? "";
      const wrong = await fetch(`${at}?uploadId=${id}&partNumber=1`, {
        method: "PUT",
        body: "part",
        headers: { "content-md5": "AAAAAAAAAAAAAAAAAAAAAA==" },
      });
      expect(wrong.status).toBe(400);
      expect(readdirSync(path.join(free.folder, "spool", id))).toEqual(["upload.json"]);
      expect((await fetch(`${at}?uploadId=${id}`, { method: "DELETE" })).status).toBe(204);
      expect(readdirSync(path.join(free.folder, "spool"))).toEqual([expect.stringMatching(/^in-use\./u)]);
    } finally {
      await free.end();
    }
  });
});

/** A gateway over a mirror of two folders, in a process of its own; `peak` gives the most MiB that it has taken so far. */
async function withServer(work: (base: string, peak: () => Promise<number>) => Promise<void>): Promise<void> {
  const home = await mkdtemp(path.join(tmpdir(), "holdfast-clients-"));
  const stores = ["a", "b"].map((name) => ({ url: `file://${home}/${name}` }));
  await writeFile(path.join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
  const serving = await startCommand(["-p", "pool.json", "serve", "--webdav", "0"], { cwd: home });
  try {
    serving.stderr?.resume();
    let said = "";
    serving.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
    await waitUntil(() => /http:\S+/u.test(said));
    const peak = async (): Promise<number> => {
      const status = await readFile(`/proc/${serving.pid}/status`, "utf8");
      return Number(/VmHWM:\s+(\d+) kB/u.exec(status)?.[1]) / 1024;
    };
    await work(/http:\S+/u.exec(said)?.[0] ?? "", peak);
  } finally {
    serving.kill("SIGTERM");
    await exitOf(serving);
    await rm(home, { recursive: true, force: true });
  }
}

/** Reads an answer, and does not go on behind any MiB before `others` are there too. Gives the digest of all bytes. */
async function readInStep(url: string, others: () => Promise<void>): Promise<string> {
  const hash = createHash("sha256");
  let bytes = 0;
  let met = 0;
  for await (const chunk of (await fetch(url)).body as AsyncIterable<Uint8Array>) {
    hash.update(chunk);
    bytes += chunk.length;
    for (; met < Math.floor(bytes / 1024 ** 2); met++) await others();
  }
  return hash.digest("hex");
}

/** Lets nobody go on before all `count` have come. */
function meetingOf(count: number): () => Promise<void> {
  let waiting: (() => void)[] = [];
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve);
      if (waiting.length < count) return;
      for (const go of waiting) go();
      waiting = [];
    });
}

describe("with 64 clients at once", () => {
  test("slow downloads are whole and right, and each takes a few MiB of memory at most", async () => {
    await withServer(async (base, peak) => {
      const content = randomBytes(16 * 1024 * 1024);
      const url = `${base}/object`;
      expect((await fetch(url, { method: "PUT", body: content })).status).toBe(201);
      const together = meetingOf(64);
      const got = await Promise.all(Array.from({ length: 64 }, () => readInStep(url, together)));
      expect(new Set(got)).toEqual(new Set([createHash("sha256").update(content).digest("hex")]));
      // What a download holds: the piece that is being sent, and the one that is read ahead. The rest is the process.
      expect(await peak()).toBeLessThan(150 + 64 * 2);
    });
  }, 180_000);

  test.each([6, 12, 24])(
    "memory stays bounded while they upload and download %d MiB each",
    async (mib) => {
      const home = await mkdtemp(path.join(tmpdir(), "holdfast-clients-"));
      const stores = ["a", "b"].map((name) => ({ url: `file://${home}/${name}` }));
      await writeFile(path.join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
      const serving = await startCommand(["-p", "pool.json", "serve", "--webdav", "0"], { cwd: home });
      try {
        const troubles: string[] = [];
        const lines = createInterface({ input: serving.stderr ?? Readable.from([]) });
        lines.on("line", (line) => /"level":(?:40|50)/u.test(line) && troubles.push(line));
        let said = "";
        serving.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
        await waitUntil(() => /http:\S+/u.test(said));
        const base = /http:\S+/u.exec(said)?.[0] ?? "";
        const size = mib * 1024 * 1024;
        const content = Buffer.alloc(size, "bounded");
        const clients = Array.from({ length: 64 }, (_, index) => `${base}/object-${index}`);
        const peak = async (): Promise<number> => {
          const status = await readFile(`/proc/${serving.pid}/status`, "utf8");
          return Number(/VmHWM:\s+(\d+) kB/u.exec(status)?.[1]) / 1024;
        };
        const put = async (url: string): Promise<void> => {
          const answer = await fetch(url, { method: "PUT", body: content });
          // What the client was told, and the log, say why.
          expect([answer.status, await answer.text(), answer.status < 300 ? [] : troubles]).toEqual([201, "", []]);
        };
        const get = async (url: string): Promise<void> => {
          const got = await fetch(url);
          let bytes = 0;
          for await (const chunk of got.body as AsyncIterable<Uint8Array>) bytes += chunk.length;
          expect(bytes).toBe(size);
        };
        await Promise.all(clients.map(put));
        const up = await peak();
        await Promise.all(clients.map(get));
        const down = await peak();
        const told = `at most ${Math.round(up)} MiB for uploads, ${Math.round(down)} MiB with downloads`;
        process.stdout.write(`64 clients, ${(64 * size) / 1024 ** 2} MiB each way: ${told}\n`);
        expect(up).toBeLessThan(350);
        expect(down).toBeLessThan(350);
      } finally {
        serving.kill("SIGTERM");
        await exitOf(serving);
        await rm(home, { recursive: true, force: true });
      }
    },
    240_000,
  );
});
