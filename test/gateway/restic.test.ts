/** restic's REST protocol, line by line of its documentation. */
import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";

let gateways: TestGateways;
let only: TestGateways;

beforeAll(async () => {
  gateways = await startTestGateways({ protocols: ["restic"], guarded: false });
  only = await startTestGateways({ protocols: ["restic"], guarded: false, appendOnly: true });
});
afterAll(async () => {
  await gateways?.end();
  await only?.end();
});

const idOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function repository(at: TestGateways, path: string) {
  const base = `${at.url("restic")}/${path}`;
  return async (method: string, name: string, body?: Uint8Array, headers: Record<string, string> = {}) => {
    const response = await fetch(base + name, { method, headers, ...(body ? { body: Buffer.from(body) } : {}) });
    return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
  };
}

describe.each(["", "deep/repository/"])("a repository at /%s", (path) => {
  const ask = (...given: Parameters<ReturnType<typeof repository>>): ReturnType<ReturnType<typeof repository>> =>
    repository(gateways, path)(...given);

  test("is created once", async () => {
    expect((await ask("POST", "?create=true")).status).toBe(200);
    expect((await ask("POST", "")).status).toBe(400);
    expect((await ask("HEAD", "config")).status).toBe(404);
    expect((await ask("POST", "config", Buffer.from("configuration"))).status).toBe(200);
    expect((await ask("POST", "?create=true")).status).toBe(409);
    expect((await ask("POST", "config", Buffer.from("another"))).status).toBe(403);
    const head = await ask("HEAD", "config");
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "13"]);
    expect((await ask("GET", "config")).bytes.toString()).toBe("configuration");
  });

  test.each(["data", "keys", "locks", "snapshots", "index"])(
    "keeps, lists, reads in ranges and deletes %s",
    async (type) => {
      expect(JSON.parse((await ask("GET", `${type}/`)).bytes.toString())).toEqual([]);
      const files = [randomBytes(1000), randomBytes(70_000), Buffer.alloc(0)];
      for (const file of files) expect((await ask("POST", `${type}/${idOf(file)}`, file)).status).toBe(200);
      const ids = files.map(idOf).toSorted();
      const v1 = await ask("GET", `${type}/`, undefined, { accept: "application/vnd.x.restic.rest.v1" });
      expect(v1.headers.get("content-type")).toBe("application/vnd.x.restic.rest.v1");
      expect((JSON.parse(v1.bytes.toString()) as string[]).toSorted()).toEqual(ids);
      const v2 = await ask("GET", `${type}/`, undefined, { accept: "application/vnd.x.restic.rest.v2" });
      expect(v2.headers.get("content-type")).toBe("application/vnd.x.restic.rest.v2");
      const sizes = JSON.parse(v2.bytes.toString()) as { name: string; size: number }[];
      expect(new Map(sizes.map(({ name, size }) => [name, size]))).toEqual(
        new Map(files.map((file) => [idOf(file), file.length])),
      );
      const [first = Buffer.alloc(0)] = files;
      const at = `${type}/${idOf(first)}`;
      expect((await ask("GET", at)).bytes.equals(first)).toBe(true);
      expect((await ask("HEAD", at)).headers.get("content-length")).toBe("1000");
      const range = await ask("GET", at, undefined, { range: "bytes=10-19" });
      expect([range.status, range.headers.get("content-range")]).toEqual([206, "bytes 10-19/1000"]);
      expect(range.bytes.equals(first.subarray(10, 20))).toBe(true);
      expect((await ask("GET", at, undefined, { range: "bytes=990-" })).bytes.equals(first.subarray(990))).toBe(true);
      expect((await ask("GET", at, undefined, { range: "bytes=1000-" })).status).toBe(416);
      for (const file of files) expect((await ask("DELETE", `${type}/${idOf(file)}`)).status).toBe(200);
      expect((await ask("GET", at)).status).toBe(404);
      expect((await ask("DELETE", at)).status).toBe(404);
      expect(JSON.parse((await ask("GET", `${type}/`)).bytes.toString())).toEqual([]);
    },
  );

  test("refuses content that is not what its name says, and keeps nothing of it", async () => {
    const name = `data/${"0".repeat(64)}`;
    for (const length of [10, 3_000_000]) expect((await ask("POST", name, Buffer.alloc(length))).status).toBe(400);
    expect((await ask("HEAD", name)).status).toBe(404);
  });

  test("knows nothing outside of the protocol", async () => {
    for (const name of [
      "data/short",
      "other/x",
      `data/${"g".repeat(64)}`,
      `DATA/${"0".repeat(64)}`,
      ".holdfast/store.json",
    ]) {
      const { status } = await ask("GET", name);
      expect([name, status]).toEqual([name, expect.toBeOneOf([404, 405, 400])]);
      expect((await ask("POST", name, Buffer.from("x"))).status).toBeGreaterThanOrEqual(400);
    }
    expect((await ask("PUT", "config", Buffer.from("x"))).status).toBe(405);
  });

  test("is deleted with all that is its own", async () => {
    const file = randomBytes(10);
    await ask("POST", `data/${idOf(file)}`, file);
    expect((await ask("DELETE", "")).status).toBe(200);
    expect((await ask("HEAD", "config")).status).toBe(404);
    expect((await ask("HEAD", `data/${idOf(file)}`)).status).toBe(404);
  });
});

test("a repository that can only be added to keeps everything but locks", async () => {
  const ask = repository(only, "");
  const file = randomBytes(100);
  for (const type of ["data", "keys", "snapshots", "index", "locks"]) {
    const at = `${type}/${idOf(file)}`;
    expect((await ask("POST", at, file)).status).toBe(200);
    expect((await ask("POST", at, file)).status).toBe(403);
    expect((await ask("DELETE", at)).status).toBe(type === "locks" ? 200 : 403);
  }
  await ask("POST", "config", Buffer.from("x"));
  expect((await ask("DELETE", "config")).status).toBe(403);
  expect((await ask("DELETE", "")).status).toBe(403);
  expect((await ask("GET", `data/${idOf(file)}`)).bytes.equals(file)).toBe(true);
});
