/** What a gateway takes at most: sizes, depths, connections, requests and patience. */
import { readdirSync } from "node:fs";
import path from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Store } from "../../src/contract/store.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { rawClient } from "../helpers/raw-client.ts";
import type { RawClient } from "../helpers/raw-client.ts";
import { waitUntil } from "../helpers/wait-until.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

let gateways: TestGateways;
/** Bodies that the first store is reading now. */
let reading = 0;
/** Bytes that it has read of them. */
let taken = 0;

function watched(store: Store, index: number): Store {
  if (index !== 0) return store;
  return storeLike(store, {
    put: (name, body, options) => {
      const counted = async function* (): AsyncGenerator<Uint8Array> {
        reading++;
        try {
          for await (const chunk of body.open()) {
            taken += chunk.length;
            yield chunk;
          }
        } finally {
          reading--;
        }
      };
      return store.put(name, { ...body, open: counted }, options);
    },
  });
}

beforeEach(async () => {
  reading = 0;
  gateways = await startTestGateways({
    protocols: ["s3", "webdav", "restic", "metrics"],
    guarded: false,
    bucket: "bucket",
    wrap: watched,
    limits: {
      headersMs: 500,
      bodyIdleMs: 5000,
      keepAliveMs: 300,
      answerIdleMs: 500,
      connections: 12,
      requests: 4,
    },
  });
});
afterEach(() => gateways.end());

type Protocol = "s3" | "webdav" | "restic";
const protocols = ["s3", "webdav", "restic"] as const;

async function connections(protocol: Protocol): Promise<number> {
  const line = new RegExp(`holdfast_gateway_connections\\{protocol="${protocol}"\\} (\\d+)`, "u");
  return Number(line.exec(await gateways.metrics.text())?.[1] ?? 0);
}

/** Nothing but Holdfast's own is on the stores, nothing is owed, and every connection and file is let go. */
async function expectNothingLeft(protocol: Protocol, files: number): Promise<void> {
  await waitUntil(async () => (await connections(protocol)) === 0, 10_000);
  for await (const info of gateways.pool.list("")) expect(info.name).toBe("nothing");
  for (const objects of gateways.objects) {
    for (let at = objects.next("", false); at !== undefined; at = objects.next(at, true)) {
      expect(at).toMatch(/^\.holdfast\//u);
    }
  }
  expect((await gateways.pool.maintenance.status()).degraded).toBe(0);
  await waitUntil(() => readdirSync("/proc/self/fd").length <= files, 10_000);
}

/** Memory that is in use once what can be collected has been. */
async function memoryMiB(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let count = 0; count < 3; count++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return (heapUsed + arrayBuffers) / 1024 ** 2;
}

const target = (protocol: Protocol): string =>
  protocol === "restic"
    ? `POST /data/${"ab".repeat(32)}`
    : protocol === "s3"
      ? "PUT /bucket/broken-off"
      : "PUT /broken-off";

/** Begins an upload, of 5 MB unless it is said otherwise, and waits until the gateway is at work on what was sent of it. */
async function beginUpload(
  protocol: Protocol,
  sentBytes: number,
  head = target(protocol),
  size = 5_000_000,
): Promise<RawClient> {
  const client = await rawClient(gateways.url(protocol));
  client.socket.write(`${head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${size}\r\nExpect: 100-continue\r\n\r\n`);
  // The body is asked for when the gateway begins to read it.
  await waitUntil(() => client.received().includes("100 Continue"));
  client.socket.write(Buffer.alloc(sentBytes, "x"));
  return client;
}

describe.each(protocols)("by %s, an upload", (protocol) => {
  test.each([0, 1, 3_000_000, 12_000_000])("that is cut off after %d bytes leaves nothing", async (sentBytes) => {
    const files = readdirSync("/proc/self/fd").length;
    const before = taken;
    const client = await beginUpload(protocol, sentBytes, target(protocol), 50_000_000);
    // What is not much is taken whole before a store sees it.
    await waitUntil(() => taken - before > 1_000_000 || sentBytes < 8_000_000);
    client.socket.destroy();
    await waitUntil(() => reading === 0);
    expect(client.received()).not.toMatch(/HTTP\/1\.1 2/u);
    await expectNothingLeft(protocol, files);
  });

  test("that is cut off, forty times over, keeps no memory", async () => {
    const cutOff = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done++) {
        const client = await beginUpload(protocol, 2_000_000);
        client.socket.destroy();
        // Only so many are taken at once.
        await waitUntil(async () => (await connections(protocol)) === 0);
      }
      await waitUntil(async () => reading === 0 && (await connections(protocol)) === 0, 20_000);
    };
    await cutOff(5);
    const before = await memoryMiB();
    await cutOff(40);
    // Of 80 MB that came.
    expect((await memoryMiB()) - before).toBeLessThan(10);
  });

  test("of which only the half that receives stays open leaves nothing", async () => {
    const files = readdirSync("/proc/self/fd").length;
    const client = await beginUpload(protocol, 2_000_000);
    client.socket.end();
    expect(await client.over).not.toMatch(/HTTP\/1\.1 2\d\d/u);
    await waitUntil(() => reading === 0);
    await expectNothingLeft(protocol, files);
  });

  test("of which nothing more comes is ended", async () => {
    await gateways.end();
    gateways = await startTestGateways({
      protocols: ["s3", "webdav", "restic"],
      guarded: false,
      bucket: "bucket",
      limits: { bodyIdleMs: 300, keepAliveMs: 300 },
    });
    const files = readdirSync("/proc/self/fd").length;
    const client = await beginUpload(protocol, 1000);
    expect(await client.over).toMatch(/HTTP\/1\.1 (?:408|400|503)/u);
    await expectNothingLeft(protocol, files);
  });
});

test("a part that is cut off leaves nothing in the spool", async () => {
  const at = `${gateways.url("s3")}/bucket/object`;
  const begun = await (await fetch(`${at}?uploads`, { method: "POST" })).text();
  const id = /<UploadId>(\w+)</u.exec(begun)?.[1] ?? "";
  const folder = path.join(gateways.folder, "spool", id);
  const client = await beginUpload("s3", 3_000_000, `PUT /bucket/object?uploadId=${id}&partNumber=1`);
  await waitUntil(() => readdirSync(folder).length === 2);
  client.socket.destroy();
  await waitUntil(() => readdirSync(folder).length === 1);
  expect(readdirSync(folder)).toEqual(["upload.json"]);
  expect((await fetch(`${at}?uploadId=${id}`, { method: "DELETE" })).status).toBe(204);
});

describe.each(protocols)("by %s", (protocol) => {
  test("a connection without a request is ended, and one that has had its answer", async () => {
    const silent = await rawClient(gateways.url(protocol));
    expect(await silent.over).toMatch(/^(?:HTTP\/1\.1 408 |$)/u);
    const idle = await rawClient(gateways.url(protocol));
    idle.socket.write("GET /.holdfast/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await idle.over).toMatch(/^HTTP\/1\.1 200 /u);
    await waitUntil(async () => (await connections(protocol)) === 0);
  });

  test("connections beyond the limit are closed, and the others work", async () => {
    const first = await rawClient(gateways.url(protocol));
    const others: RawClient[] = [];
    for (let count = 1; count < 12; count++) others.push(await rawClient(gateways.url(protocol)));
    const beyond = await rawClient(gateways.url(protocol));
    expect(await beyond.over).toBe("");
    first.socket.write("GET /.holdfast/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect(await first.over).toMatch(/^HTTP\/1\.1 200 /u);
    for (const one of others) one.socket.destroy();
    await waitUntil(async () => (await connections(protocol)) === 0);
  });

  test("requests beyond the limit are told to come back, and those at work end well", async () => {
    const names = ["a", "b", "c", "d"];
    const clients = await Promise.all(
      names.map(async (name) => {
        const head = { s3: `PUT /bucket/${name}`, webdav: `PUT /${name}`, restic: "POST /config" }[protocol];
        // restic writes one name after another; the limit counts those that wait, too.
        if (protocol !== "restic" || name === "a") return beginUpload(protocol, 1000, head);
        const client = await rawClient(gateways.url(protocol));
        client.socket.write(`${head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n`);
        return client;
      }),
    );
    await waitUntil(async () => (await fetch(`${gateways.url(protocol)}/bucket/x`)).status === 503);
    const refused = await fetch(`${gateways.url(protocol)}/bucket/x`);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    clients[0]?.socket.write(Buffer.alloc(5_000_000 - 1000, "x"));
    await waitUntil(() => /HTTP\/1\.1 20[01]/u.test(clients[0]?.received() ?? ""));
    for (const client of clients) client.socket.destroy();
    await waitUntil(async () => (await fetch(`${gateways.url(protocol)}/bucket/x`)).status !== 503);
  });

  test("headers that are too long or too many are refused", async () => {
    for (const headers of [
      `X-Long: ${"x".repeat(40_000)}`,
      Array.from({ length: 3000 }, (_, n) => `X-${n}: ${n}`).join("\r\n"),
    ]) {
      const client = await rawClient(gateways.url(protocol));
      client.socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n`);
      expect(await client.over).toMatch(/^HTTP\/1\.1 431 /u);
    }
  });

  test("an answer that nobody takes is given up, and what it was read from let go", async () => {
    const name = protocol === "restic" ? "config" : "large";
    await gateways.pool.put(name, toBody(new Uint8Array(60_000_000)));
    const client = await rawClient(gateways.url(protocol));
    client.socket.pause();
    client.socket.write(`GET ${protocol === "s3" ? "/bucket" : ""}/${name} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await waitUntil(async () => (await connections(protocol)) === 1);
    await waitUntil(async () => (await connections(protocol)) === 0, 10_000);
    client.socket.destroy();
    expect((await gateways.metrics.text()).match(/^holdfast_gateway_requests_total/gmu)).toHaveLength(1);
  });
});

describe("XML", () => {
  const deep = `${"<a>".repeat(500)}${"</a>".repeat(500)}`;
  const bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>';
  const file = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>';
  const kinds = {
    "too deep": (root: string) => `<${root}>${deep}</${root}>`,
    "with more elements than anyone needs": (root: string) => `<${root}>${"<a/>".repeat(110_000)}</${root}>`,
    "with entities that grow": (root: string) => `${bomb}<${root}>&b;</${root}>`,
    "with entities from files": (root: string) => `${file}<${root}>&a;</${root}>`,
    "that is not well-formed": (root: string) => `<${root}><a></${root}>`,
    "that is too long": (root: string) => `<${root}>${" ".repeat(5 * 1024 * 1024)}</${root}>`,
    "that is something else": () => "<other/>",
    "that is no XML": () => "\0\u0001 [] {}",
  };

  test.each(Object.keys(kinds) as (keyof typeof kinds)[])("%s is refused", async (kind) => {
    const text = kinds[kind];
    const s3 = (name: string, root: string, method = "POST"): Promise<Response> =>
      fetch(`${gateways.url("s3")}/bucket${name}`, { method, body: text(root) });
    const webdav = (method: string, root: string): Promise<Response> =>
      fetch(`${gateways.url("webdav")}/`, {
        method,
        body: text(`${root} xmlns="DAV:"`).replace(/( xmlns="DAV:">)$/u, ">"),
        headers: { depth: "0" },
      });
    const begun = await (await fetch(`${gateways.url("s3")}/bucket/o?uploads`, { method: "POST" })).text();
    const id = /<UploadId>(\w+)</u.exec(begun)?.[1] ?? "";
    const answers = [
      await s3("?delete", "Delete"),
      await s3(`/o?uploadId=${id}`, "CompleteMultipartUpload"),
      await s3("", "CreateBucketConfiguration", "PUT"),
      await webdav("PROPFIND", "propfind"),
      await webdav("PROPPATCH", "propertyupdate"),
      await webdav("LOCK", "lockinfo"),
    ];
    for (const answer of answers) {
      const body = await answer.text();
      expect([answer.status, body]).toEqual([
        expect.toBeOneOf([400, 413, 415, 422]),
        expect.not.stringContaining("root:"),
      ]);
    }
    expect((await fetch(`${gateways.url("webdav")}/`, { method: "PROPFIND", headers: { depth: "0" } })).status).toBe(
      207,
    );
  });
});

test("a PROPFIND that asks for more properties than anyone has is refused", async () => {
  const asked = Array.from({ length: 101 }, (_, n) => `<p${n}/>`).join("");
  const answer = await fetch(`${gateways.url("webdav")}/`, {
    method: "PROPFIND",
    body: `<propfind xmlns="DAV:"><prop>${asked}</prop></propfind>`,
    headers: { depth: "1" },
  });
  expect(answer.status).toBe(400);
});

test("a put that says it is larger than S3 allows is refused before it is sent", async () => {
  const client = await rawClient(gateways.url("s3"));
  client.socket.write(
    `PUT /bucket/huge HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${5 * 1024 ** 3 + 1}\r\nExpect: 100-continue\r\n\r\n`,
  );
  await waitUntil(() => client.received().includes("</Error>"));
  expect(client.received()).toMatch(/^HTTP\/1\.1 400 [\s\S]*EntityTooLarge/u);
  client.socket.destroy();
});
