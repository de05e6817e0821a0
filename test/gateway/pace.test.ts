/** Clients that take their time, and what they must not hold up: stores, names, and what is known of names. */
import { once } from "node:events";
import { request } from "node:http";
import type { ClientRequest } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Store } from "../../src/contract/store.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { waitUntil } from "../helpers/wait-until.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

const MIB = 1024 * 1024;
type Protocol = "s3" | "webdav" | "restic";
const protocols = ["s3", "webdav", "restic"] as const;

let gateways: TestGateways;
/** Puts of objects that a store is at work on now. */
let putting = 0;
/** Bytes that a store has read of them. */
let taken = 0;

function watched(store: Store): Store {
  return storeLike(store, {
    put: async (name, body, options) => {
      if (name.startsWith(".holdfast/")) return store.put(name, body, options);
      putting++;
      async function* counted(): AsyncGenerator<Uint8Array> {
        for await (const chunk of body.open()) {
          taken += chunk.length;
          yield chunk;
        }
      }
      try {
        return await store.put(name, { size: body.size, reopenable: body.reopenable, open: counted }, options);
      } finally {
        putting--;
      }
    },
  });
}

beforeEach(async () => {
  putting = 0;
  taken = 0;
  gateways = await startTestGateways({ protocols: [...protocols], guarded: false, bucket: "bucket", wrap: watched });
});
afterEach(() => gateways.end());

const pathOf = (protocol: Protocol, name: string): string =>
  protocol === "s3" ? `/bucket/${name}` : protocol === "webdav" ? `/${name}` : `/${name}/config`;
const objectOf = (protocol: Protocol, name: string): string => (protocol === "restic" ? `${name}/config` : name);

interface Upload {
  readonly client: ClientRequest;
  readonly status: Promise<number>;
}

/** Begins an upload, and sends the first of its bytes when the gateway asks for them. */
async function begin(protocol: Protocol, name: string, size: number, first: number): Promise<Upload> {
  const client = request(`${gateways.url(protocol)}${pathOf(protocol, name)}`, {
    method: protocol === "restic" ? "POST" : "PUT",
    headers: { "content-length": size, expect: "100-continue" },
  });
  const status = new Promise<number>((resolve) => {
    client.on("response", (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    client.on("error", () => resolve(0));
  });
  client.flushHeaders();
  await once(client, "continue");
  if (first > 0) client.write(Buffer.alloc(first, "slow"));
  return { client, status };
}

async function put(protocol: Protocol, name: string, content: string): Promise<number> {
  const { client, status } = await begin(protocol, name, content.length, 0);
  client.end(content);
  return status;
}

async function contentOf(name: string): Promise<string> {
  const { body } = await gateways.pool.get(name);
  let text = "";
  for await (const chunk of body) text += Buffer.from(chunk).toString();
  return text;
}

describe.each(protocols)("by %s", (protocol) => {
  test("more clients that stall than a store has places hold up nobody", async () => {
    const slow = await Promise.all(
      Array.from({ length: 40 }, (_, n) => begin(protocol, `slow-${n}`, 100 * MIB, n === 0 ? 12 * MIB : 1000)),
    );
    await waitUntil(() => taken > 0);
    expect(await put(protocol, "quick", "quick")).toBeLessThan(300);
    for (const { client } of slow) client.destroy();
  });

  test.each([1000, 12 * MIB])("one that stalls after %d bytes does not hold up a put of its name", async (first) => {
    const slow = await begin(protocol, "name", 13 * MIB, first);
    if (first > 1000) await waitUntil(() => taken > 0);
    expect(await put(protocol, "name", "quick")).toBeLessThan(300);
    expect(await contentOf(objectOf(protocol, "name"))).toBe("quick");
    slow.client.destroy();
    await slow.status;
  });

  test("one whose client goes away leaves the stores when it is not whole", async () => {
    const slow = await begin(protocol, "name", 100 * MIB, 12 * MIB);
    await waitUntil(() => putting > 0);
    slow.client.destroy();
    await waitUntil(() => putting === 0);
    await expect(gateways.pool.stat(objectOf(protocol, "name"))).rejects.toMatchObject({ code: "not-found" });
  });

  test("one that stalls steps back from the stores", async () => {
    const slow = await begin(protocol, "name", 13 * MIB, 12 * MIB);
    await waitUntil(() => putting > 0);
    await waitUntil(() => putting === 0);
    slow.client.end(Buffer.alloc(MIB));
    expect(await slow.status).toBeLessThan(300);
    expect((await gateways.pool.stat(objectOf(protocol, "name"))).size).toBe(13 * MIB);
  });
});

describe.each(["s3", "webdav"] as const)("by %s", (protocol) => {
  test("of two puts of a name the last one that is whole stays", async () => {
    const slow = await begin(protocol, "name", 12 * MIB + 4, 12 * MIB);
    await waitUntil(() => taken > 0);
    expect(await put(protocol, "name", "quick")).toBeLessThan(300);
    slow.client.end("last");
    expect(await slow.status).toBeLessThan(300);
    expect((await contentOf("name")).slice(-8)).toBe("slowlast");
  });

  test("a delete does not wait for a put that stalls", async () => {
    expect(await put(protocol, "name", "before")).toBeLessThan(300);
    const slow = await begin(protocol, "name", 13 * MIB, 12 * MIB);
    await waitUntil(() => taken > "before".length * gateways.objects.length);
    const answer = await fetch(`${gateways.url(protocol)}${pathOf(protocol, "name")}`, { method: "DELETE" });
    expect(answer.status).toBe(204);
    await expect(gateways.pool.stat("name")).rejects.toMatchObject({ code: "not-found" });
    slow.client.destroy();
    await slow.status;
  });
});

test("what came whole is put, though its client is gone before the answer", async () => {
  const { client, status } = await begin("webdav", "name", 1000, 1000);
  client.on("finish", () => client.destroy());
  client.end();
  await status;
  const stat = (): Promise<{ size: number } | undefined> => gateways.pool.stat("name").catch(() => undefined);
  await waitUntil(async () => (await stat()) !== undefined);
  expect(await stat()).toMatchObject({ size: 1000 });
});
