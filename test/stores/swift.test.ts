import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { beforeAll, describe, expect, it, test } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { parseSwiftUrl } from "../../src/stores/swift/swift-settings.ts";
import { SwiftStore } from "../../src/stores/swift/swift.ts";
import type { SwiftStoreOptions } from "../../src/stores/swift/swift.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";

const swift = await startServer("swift");
const KIB = 1024;

function openSwift(text: string, env: Record<string, string>, options: SwiftStoreOptions = {}): SwiftStore {
  const url = parseStoreUrl(text);
  return new SwiftStore(url, { label: url.redacted, env, runtime: systemRuntime, logger: silentLogger }, options);
}

describe("URLs of Swift", () => {
  const read = (text: string, env: Record<string, string>) => parseSwiftUrl(parseStoreUrl(text), env);
  const env = { SWIFT_AUTHURL: "https://h/auth/v1.0", SWIFT_USERNAME: "u", SWIFT_PASSWORD: "p" };

  test.each([
    ["swift://box", env, { container: "box", prefix: "", access: { version: "1", username: "u" } }],
    ["swift://box/a//b/", env, { container: "box", prefix: "a/b/" }],
    [
      "swift://box",
      { ...env, SWIFT_AUTHVERSION: "3", SWIFT_TENANTNAME: "t" },
      { access: { version: "3", projectName: "t" } },
    ],
    [
      "swift://box",
      { SWIFT_PREAUTHURL: "https://h/v1/AUTH_x", SWIFT_PREAUTHTOKEN: "t" },
      { access: { kind: "token", storageUrl: "https://h/v1/AUTH_x" } },
    ],
  ])("%s", (text, env, expected) => {
    expect(read(text, env)).toMatchObject(expected);
  });

  test.each([
    ["swift://", env, /names no container/u],
    ["swift://box", {}, /SWIFT_AUTHURL, SWIFT_USERNAME, SWIFT_PASSWORD/u],
    ["swift://box", { ...env, SWIFT_AUTHVERSION: "4" }, /1, 2 or 3/u],
    ["swift://box", { ...env, SWIFT_AUTHURL: "h" }, /SWIFT_AUTHURL must be/u],
    ["swift://u:p@box", env, /names a container only/u],
    ["swift://box?x=1", env, /unknown parameter "x"/u],
  ])("%s is refused", (text, env, message) => {
    expect(() => read(text, env)).toThrow(
      expect.objectContaining({ code: "config", message: expect.stringMatching(message) }),
    );
  });
});

describe.runIf(swift.running)("swift on OpenStack Swift", onServer, () => {
  reportStore("swift", swift);
  const root = swift.running ? `http://127.0.0.1:${swift.port}` : "";
  const env = { SWIFT_AUTHURL: `${root}/auth/v1.0`, SWIFT_USERNAME: "test:tester", SWIFT_PASSWORD: "testing" };
  const container = uniqueName();
  const url = `swift://${container}/some/prefix`;
  let account = "";
  let token = "";

  beforeAll(async () => {
    const answer = await fetch(`${root}/auth/v1.0`, {
      headers: { "x-auth-user": env.SWIFT_USERNAME, "x-auth-key": env.SWIFT_PASSWORD },
    });
    account = answer.headers.get("x-storage-url") ?? "";
    token = answer.headers.get("x-auth-token") ?? "";
    const made = await fetch(`${account}/${container}`, { method: "PUT", headers: { "x-auth-token": token } });
    if (made.status !== 201) throw new Error(`the container was not made: ${made.status}`);
  });

  async function segments(): Promise<string[]> {
    const answer = await fetch(`${account}/${container}_segments`, { headers: { "x-auth-token": token } });
    return (await answer.text()).split("\n").filter((line) => line !== "");
  }

  describeConformance("swift", { open: async () => openSwift(url, env, { pageNames: 50 }), listCount: 130 });
  describeConformance("swift, in segments of 64 KiB", {
    open: async () => openSwift(`swift://${container}/segments`, env, { partBytes: 64 * KIB }),
    listCount: 5,
    quick: true,
  });

  it("deletes the segments of what is replaced, deleted, failed and aborted", async () => {
    const before = await segments();
    const store = openSwift(url, env, { partBytes: 64 * KIB });
    await store.put("large", toBody(Buffer.alloc(300 * KIB, 1)));
    expect((await segments()).length - before.length).toBe(5);
    await store.put("large", toBody(Buffer.alloc(150 * KIB, 2)));
    expect((await segments()).length - before.length).toBe(3);
    expect(Buffer.from(await collect((await store.get("large")).body)).equals(Buffer.alloc(150 * KIB, 2))).toBe(true);
    await store.put("large", toBody("small"));
    expect(await segments()).toEqual(before);
    await store.put("large", toBody(Buffer.alloc(300 * KIB, 1)));
    await expect(store.delete("large")).resolves.toEqual({ existed: true });
    expect(await segments()).toEqual(before);
    const source = async function* (end: () => void) {
      for (let n = 0; n < 6; n++) yield Buffer.alloc(64 * KIB + 1);
      end();
    };
    const broken = source(() => {
      throw new Error("the source broke");
    });
    await expect(store.put("large", toBody(broken))).rejects.toMatchObject({ code: "invalid" });
    const controller = new AbortController();
    const aborted = source(() => controller.abort());
    await expect(store.put("large", toBody(aborted), { signal: controller.signal })).rejects.toMatchObject({
      code: "aborted",
    });
    await expect(store.stat("large")).rejects.toMatchObject({ code: "not-found" });
    expect(await segments()).toEqual(before);
    await store.close();
  });

  it("gives the MD5 of what was put at once, and the whole size of what was not", async () => {
    const store = openSwift(url, env, { partBytes: 64 * KIB });
    await store.put("one", toBody("hello"));
    const md5 = createHash("md5").update("hello").digest("hex");
    await expect(store.stat("one")).resolves.toMatchObject({ size: 5, digests: { md5 } });
    await store.put("many", toBody(Buffer.alloc(200 * KIB)));
    const info = await store.stat("many");
    expect(info.size).toBe(200 * KIB);
    expect(info.digests).toBeUndefined();
    const listed = [];
    for await (const { name, size } of store.list("many")) listed.push({ name, size });
    expect(listed).toEqual([{ name: "many", size: 200 * KIB }]);
    await store.delete("many");
    await store.close();
  });

  it("gets a new token when the one it has is refused", async () => {
    const store = openSwift(url, env);
    await store.put("token", toBody("x"));
    // Tempauth forgets a user's token when a new one is asked for with this header.
    const headers = { "x-auth-user": env.SWIFT_USERNAME, "x-auth-key": env.SWIFT_PASSWORD, "x-auth-new-token": "true" };
    await (await fetch(`${root}/auth/v1.0`, { headers })).text();
    await expect(store.stat("token")).resolves.toMatchObject({ size: 1 });
    await store.close();
    const stale = openSwift(url, { SWIFT_PREAUTHURL: account, SWIFT_PREAUTHTOKEN: "AUTH_tkstale-token" });
    await expect(stale.stat("token")).rejects.toMatchObject({ code: "denied", retryable: false });
    await stale.close();
  });

  it("says that a container is missing, and that a password is wrong, without printing it", async () => {
    const store = openSwift("swift://no-such-box", env);
    const missing = { code: "unavailable", retryable: false, message: "the container no-such-box does not exist" };
    await expect(store.stat("a")).rejects.toMatchObject(missing);
    await expect(store.get("a")).rejects.toMatchObject(missing);
    await expect(store.put("a", toBody("x"))).rejects.toMatchObject(missing);
    await expect(store.delete("a")).rejects.toMatchObject(missing);
    await expect(store.list("")[Symbol.asyncIterator]().next()).rejects.toMatchObject(missing);
    await store.close();
    const wrong = openSwift(url, { ...env, SWIFT_PASSWORD: "wrong-password" });
    const error: unknown = await wrong.stat("a").catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "denied", operation: "stat" });
    expect(inspect(error, { depth: 20 })).not.toContain("wrong-password");
    await wrong.close();
  });
});

describe("identity services of Swift", () => {
  /** Answers as Keystone's documentation says, and keeps what it was asked. */
  async function keystone(): Promise<{
    url: string;
    asked: { path: string; body: unknown; token: string | undefined }[];
    close: () => void;
  }> {
    const asked: { path: string; body: unknown; token: string | undefined }[] = [];
    const read = async (request: IncomingMessage): Promise<string> => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      return Buffer.concat(chunks).toString();
    };
    const server = createServer((request, response) => {
      void (async () => {
        const text = await read(request);
        const path = request.url ?? "";
        const token = request.headers["x-auth-token"] as string | undefined;
        asked.push({ path, body: text === "" ? undefined : (JSON.parse(text) as unknown), token });
        const place = (region: string): string => `${base}/${region}/AUTH_1`;
        if (path === "/v2.0/tokens") {
          const endpoints = ["north", "south"].map((region) => ({ region, publicURL: place(region) }));
          const access = { token: { id: "token-2" }, serviceCatalog: [{ type: "object-store", endpoints }] };
          response.end(JSON.stringify({ access }));
        } else if (path === "/v3/auth/tokens") {
          const endpoints = ["north", "south"].flatMap((region) => [
            { interface: "internal", region, url: "http://internal.invalid/" },
            { interface: "public", region, url: place(region) },
          ]);
          response.writeHead(201, { "x-subject-token": "token-3" });
          response.end(
            JSON.stringify({
              token: {
                catalog: [
                  { type: "identity", endpoints: [] },
                  { type: "object-store", endpoints },
                ],
              },
            }),
          );
        } else {
          response.writeHead(200, { "content-length": "3", etag: '"900150983cd24fb0d6963f7d28e17f72"' });
          response.end();
        }
      })();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url: base, asked, close: () => void server.close() };
  }

  it("version 2", async () => {
    const { url, asked, close } = await keystone();
    const env = {
      SWIFT_AUTHURL: `${url}/v2.0/`,
      SWIFT_AUTHVERSION: "2",
      SWIFT_USERNAME: "u",
      SWIFT_PASSWORD: "pass-word",
      SWIFT_TENANTNAME: "t",
      SWIFT_REGIONNAME: "south",
    };
    const store = openSwift("swift://box", env);
    await expect(store.stat("../a b")).resolves.toMatchObject({ size: 3 });
    expect(asked[0]?.body).toEqual({
      auth: { passwordCredentials: { username: "u", password: "pass-word" }, tenantName: "t" },
    });
    expect(asked[1]).toEqual({ path: "/south/AUTH_1/box/%2E%2E/a%20b", body: undefined, token: "token-2" });
    await store.close();
    close();
  });

  it("version 3", async () => {
    const { url, asked, close } = await keystone();
    const env = {
      SWIFT_AUTHURL: `${url}/v3`,
      SWIFT_AUTHVERSION: "3",
      SWIFT_USERNAME: "u",
      SWIFT_PASSWORD: "pass-word",
      SWIFT_PROJECT_NAME: "p",
      SWIFT_USER_DOMAIN_NAME: "d",
    };
    const store = openSwift("swift://box", env);
    await Promise.all([store.stat("a"), store.stat("a")]);
    expect(asked.map(({ path }) => path)).toEqual(["/v3/auth/tokens", "/north/AUTH_1/box/a", "/north/AUTH_1/box/a"]);
    expect(asked[0]?.body).toEqual({
      auth: {
        identity: {
          methods: ["password"],
          password: { user: { name: "u", domain: { name: "d" }, password: "pass-word" } },
        },
        scope: { project: { name: "p", domain: { id: "default" } } },
      },
    });
    expect(asked[1]?.token).toBe("token-3");
    await store.close();
    const nowhere = openSwift("swift://box", { ...env, SWIFT_REGIONNAME: "west" });
    await expect(nowhere.stat("a")).rejects.toMatchObject({ code: "config", message: expect.stringContaining("west") });
    await nowhere.close();
    close();
  });
});

it("segments under way are answered before a put that failed deletes them", async () => {
  const seen: string[] = [];
  let answerSlow: (() => void) | undefined;
  const server = createServer((request, response) => {
    const { method = "", url = "" } = request;
    const segment = url.includes("/box_segments/") ? url.slice(-1) : undefined;
    const answer = (status: number): void => {
      if (segment !== undefined) seen.push(`${method} ${segment}: ${response.destroyed ? "cut off" : status}`);
      response.writeHead(status).end();
      if (method === "PUT" && status === 403) answerSlow?.();
    };
    request.resume().on("end", () => {
      if (method === "HEAD") answer(404);
      else if (method === "DELETE") answer(204);
      // The first segment is stored only after the second was refused, when its put has failed.
      else if (segment === "1") answerSlow = () => setTimeout(() => answer(201), 100);
      else answer(segment === "2" ? 403 : 201);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const env = { SWIFT_PREAUTHURL: `http://127.0.0.1:${port}/v1/AUTH_1`, SWIFT_PREAUTHTOKEN: "t" };
  const store = openSwift("swift://box", env, { partBytes: 64 * KIB });
  await expect(store.put("large", toBody(Buffer.alloc(100 * KIB)))).rejects.toMatchObject({ code: "denied" });
  expect(seen.slice(0, 2)).toEqual(["PUT 2: 403", "PUT 1: 201"]);
  expect(seen.slice(2).sort()).toEqual(["DELETE 1: 204", "DELETE 2: 204"]);
  await store.close();
  server.close();
});
