/** restic's REST server behind a proxy that goes wrong, request by request: the other kinds over HTTP have their own file. */
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { HoldfastError } from "../../../src/contract/errors.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import { systemRuntime } from "../../../src/contract/runtime.ts";
import type { Store } from "../../../src/contract/store.ts";
import { deadline } from "../../../src/wrappers/deadline.ts";
import { retry } from "../../../src/wrappers/retry.ts";
import { startHttpFaults } from "../../fault-proxy/index.ts";
import type { HttpFault, HttpFaultProxy, SeenRequest } from "../../fault-proxy/index.ts";
import { HTTP_STATUSES } from "../../helpers/http-statuses.ts";
import { reportStore } from "../../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../../helpers/servers.ts";
import { namesOf, readBytes } from "../../helpers/store-answers.ts";

const server = await startServer("rclone-restic");
const MIB = 1024 * 1024;
const SECRET = "open-sesame";
const env = { http_proxy: "", https_proxy: "" };

async function failure(work: Promise<unknown>): Promise<HoldfastError> {
  const error: unknown = await work.then(
    () => new Error("it succeeded"),
    (error: unknown) => error,
  );
  if (!(error instanceof HoldfastError)) throw error;
  expect(inspect(error, { depth: 20 })).not.toContain(SECRET);
  return error;
}

const within = (store: Store, ms: number): Store =>
  deadline(store, { runtime: systemRuntime, callMs: ms, idleMs: ms, graceMs: 2000 });

describe.runIf(server.running)("rest behind a server that goes wrong", onServer, () => {
  reportStore("rest", server);
  const base = uniqueName();
  const content = Buffer.from(Array.from({ length: 40_000 }, (_, n) => (n * 7) % 251));
  let proxy: HttpFaultProxy;
  let store: Store;

  const isPiece = ({ method, url }: SeenRequest): boolean => method === "GET" && url.includes("/data/");
  const isList = ({ method, url }: SeenRequest): boolean => method === "GET" && url.endsWith("/index/");
  const strike = (fault: HttpFault, when?: (request: SeenRequest) => boolean, times?: number): void =>
    proxy.add({ fault, ...(when && { when }), ...(times && { times }) });
  const calls = (on: Store): [string, () => Promise<unknown>][] => [
    ["put", () => on.put("new", toBody("x"))],
    ["get", () => on.get("there")],
    ["stat", () => on.stat("there")],
    ["list", () => namesOf(on)],
    ["delete", () => on.delete("there")],
  ];
  /** What no fault may change. */
  const expectWhole = async (): Promise<void> => {
    proxy.clear();
    proxy.cut();
    const steady = retry(store, { runtime: systemRuntime });
    expect(await namesOf(steady)).toEqual(["there"]);
    expect((await readBytes(steady, "there")).equals(content)).toBe(true);
  };

  beforeAll(async () => {
    if (!server.running) return;
    proxy = await startHttpFaults({ target: `http://127.0.0.1:${server.port}` });
    store = await openStore(`rest:http://u:${SECRET}@127.0.0.1:${proxy.port}/${base}/`, { env });
    await store.put("there", toBody(content));
  });
  afterEach(() => proxy.clear());
  afterAll(async () => {
    await store.close();
    await proxy.close();
  });

  test.each([
    ...HTTP_STATUSES,
    [407, "denied", false],
    [409, "conflict", false],
    [412, "conflict", false],
    [423, "conflict", true],
  ] as const)("an answer of %i to anything is %s, and says when to come back", async (status, code, retryable) => {
    const inTwoMinutes = new Date(Date.now() + 120_000).toUTCString();
    for (const [retryAfter, least, most] of [
      ["2", 2000, 2000],
      [inTwoMinutes, 100_000, 121_000],
    ] as const) {
      strike({ kind: "respond", status, headers: { "retry-after": retryAfter } });
      for (const [operation, call] of calls(store)) {
        const error = await failure(call());
        expect(error).toMatchObject({ code, retryable, operation });
        expect(error.retryAfterMs).toBeGreaterThanOrEqual(least);
        expect(error.retryAfterMs).toBeLessThanOrEqual(most);
      }
      proxy.clear();
    }
    await expectWhole();
  });

  it("a server that is busy for a moment is asked again after the time it named", async () => {
    const waits: number[] = [];
    const runtime = { ...systemRuntime, sleep: async (ms: number) => void waits.push(ms) };
    strike({ kind: "respond", status: 503, headers: { "retry-after": "7" } }, undefined, 1);
    strike({ kind: "respond", status: 429, headers: { "retry-after": "9" } }, undefined, 1);
    await retry(store, { runtime }).stat("there");
    expect(waits.map((ms) => Math.floor(ms / 1000))).toEqual([7, 9]);
  });

  test.each([301, 302, 303, 307, 308])("a redirect (%i) is not followed, by no operation", async (status) => {
    const trap = await startHttpFaults();
    trap.add({ fault: { kind: "respond", status: 200, body: "[]" } });
    strike({ kind: "redirect", to: trap.url, status });
    for (const [, call] of calls(store)) expect(await failure(call())).toMatchObject({ code: "unavailable" });
    expect(trap.requests).toEqual([]);
    await trap.close();
    await expectWhole();
  });

  it("a server that answers nothing, stops in an answer, or gives one byte a second is given up at the deadline", async () => {
    const impatient = within(store, 300);
    strike({ kind: "hang" });
    for (const [, call] of calls(impatient)) expect(await failure(call())).toMatchObject({ code: "timeout" });
    for (const fault of [
      { kind: "hang-at", byte: 1000 },
      { kind: "trickle", bytesPerSecond: 1 },
    ] as const) {
      proxy.clear();
      strike(fault, isPiece);
      expect(await failure(readBytes(impatient, "there"))).toMatchObject({ code: "timeout" });
    }
    await expectWhole();
  });

  test.each([
    ["is cut", { kind: "truncate", byte: 1000 }, "unavailable"],
    ["is shorter than it was", { kind: "shorten", byte: 1000 }, "corrupt"],
    ["is longer than it was", { kind: "pad", bytes: 10, honest: true }, "corrupt"],
    ["is shorter than its length", { kind: "wrong-length", by: 10 }, "timeout"],
    ["is longer than its length", { kind: "wrong-length", by: -10 }, "corrupt"],
    ["has one bit flipped", { kind: "flip", byte: 20_000 }, "corrupt"],
  ] as const)("a piece that %s is no piece", async (_, fault, code) => {
    strike(fault, isPiece);
    expect(await failure(readBytes(within(store, 3000), "there"))).toMatchObject({ code, operation: "get" });
    await expectWhole();
  });

  it("a put whose answer is lost, or that is cut off, leaves the old object or the new one", async () => {
    const old = Buffer.alloc(3000, "o");
    const steady = retry(store, { runtime: systemRuntime });
    for (const fault of [{ kind: "lost-answer" }, { kind: "reset", byte: 100 }] as const) {
      for (const part of ["/data/", "/index/"]) {
        await steady.put("replaced", toBody(old));
        strike(fault, ({ method, url }) => method === "POST" && url.includes(part));
        await failure(store.put("replaced", toBody(content)));
        proxy.clear();
        const found = await readBytes(steady, "replaced");
        expect(found.equals(old) || found.equals(content)).toBe(true);
      }
    }
    await steady.delete("replaced");
    await expectWhole();
  });

  it("answers without end, a list that is a bomb and huge headers are errors in bounded memory", async () => {
    const before = process.memoryUsage().rss;
    let sent = 0;
    const impatient = within(store, 1500);
    const endless = async function* (text: string): AsyncGenerator<Uint8Array> {
      // The same buffer again and again: what this process takes is to be the store's doing, not the server's.
      const chunk = Buffer.alloc(256 * 1024, text);
      yield Buffer.from("[");
      for (; ; sent += chunk.length) yield chunk;
    };
    const fresh = async (): Promise<Store> =>
      within(await openStore(`rest:http://u:${SECRET}@127.0.0.1:${proxy.port}/${base}/`, { env }), 3000);
    // Of the list of segments, of a segment, of a piece, and of a refusal.
    strike({ kind: "answer", with: () => ({ body: endless(" ") }) }, isList);
    expect(["corrupt", "timeout"]).toContain((await failure(impatient.stat("there"))).code);
    proxy.clear();
    strike({ kind: "answer", with: () => ({ body: endless(" ") }) }, ({ url }) => /\/index\/[0-9a-f]+$/u.test(url));
    const other = await fresh();
    expect(["corrupt", "timeout"]).toContain((await failure(other.stat("there"))).code);
    await other.close();
    proxy.clear();
    strike({ kind: "answer", with: () => ({ body: endless("x") }) }, isPiece);
    expect(["corrupt", "timeout"]).toContain((await failure(readBytes(impatient, "there"))).code);
    proxy.clear();
    strike({ kind: "answer", with: () => ({ status: 403, body: endless("x") }) });
    for (const [, call] of calls(impatient)) expect(["denied", "timeout"]).toContain((await failure(call())).code);
    proxy.clear();
    strike({ kind: "respond", body: "[".repeat(8 * MIB) }, isList);
    expect(await failure(store.stat("there"))).toMatchObject({ code: "corrupt" });
    proxy.clear();
    strike({ kind: "respond", headers: { "x-large": "x".repeat(200_000) } });
    expect(await failure(store.stat("there"))).toMatchObject({ code: "unavailable" });
    // Two of the answers may be read up to 64 MiB, others until their connections end; what was read is garbage for a while.
    expect(sent).toBeLessThan(800 * MIB);
    expect(process.memoryUsage().rss - before).toBeLessThan(600 * MIB);
    await expectWhole();
  });
});
