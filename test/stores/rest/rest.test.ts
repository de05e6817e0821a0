import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import type { OpenStoreOptions } from "../../../src/stores/open-store.ts";
import { systemRuntime } from "../../../src/contract/runtime.ts";
import type { Body, Store } from "../../../src/contract/store.ts";
import { describeConformance } from "../../helpers/run-conformance.ts";
import { HTTP_STATUSES } from "../../helpers/http-statuses.ts";
import { reportStore } from "../../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../../helpers/servers.ts";
import { readText } from "../../helpers/store-answers.ts";

const server = await startServer("rclone-restic");
const MIB = 1024 * 1024;

describe.runIf(server.running)("rest", onServer, () => {
  reportStore("rest", server);
  const port = server.running ? server.port : 0;
  const folderOf = (base: string): string => path.join(server.running ? server.folder : "", "data", base);
  const open = (base: string, options: OpenStoreOptions = {}): Promise<Store> =>
    openStore(`rest:http://127.0.0.1:${port}/${base}/`, options);
  const files = (folder: string): string[] =>
    existsSync(folder)
      ? readdirSync(folder, { withFileTypes: true, recursive: true })
          .filter((entry) => entry.isFile())
          .map((entry) => path.join(entry.parentPath, entry.name))
      : [];
  const withStore = async (work: (store: Store, folder: string, base: string) => Promise<void>): Promise<void> => {
    const base = uniqueName();
    const store = await open(base);
    try {
      await work(store, folderOf(base), base);
    } finally {
      await store.close();
    }
  };

  const base = uniqueName();
  describeConformance("restic's REST server (rclone serve restic)", { open: () => open(base), listCount: 300 });

  it("replacing and deleting an object leaves none of its pieces", () =>
    withStore(async (store, folder) => {
      await store.put("big", toBody(Buffer.alloc(9 * MIB, 1)));
      expect(files(path.join(folder, "data"))).toHaveLength(3);
      await store.put("big", toBody(Buffer.alloc(5 * MIB, 2)));
      expect(files(path.join(folder, "data"))).toHaveLength(2);
      await store.delete("big");
      expect(files(path.join(folder, "data"))).toEqual([]);
    }));

  it("a put that fails leaves no piece", () =>
    withStore(async (store, folder) => {
      const body: Body = {
        size: undefined,
        reopenable: false,
        async *open() {
          yield Buffer.alloc(9 * MIB);
          throw new Error("the source broke");
        },
      };
      await expect(store.put("x", body)).rejects.toMatchObject({ code: "invalid" });
      expect(files(path.join(folder, "data"))).toEqual([]);
      expect(files(path.join(folder, "index"))).toEqual([]);
    }));

  it("what one store puts, replaces and deletes another sees at once", () =>
    withStore(async (store, _, base) => {
      const other = await open(base);
      try {
        for (let round = 0; round < 5; round++) {
          await store.put("x", toBody(`store ${round}`));
          expect(await readText(other, "x")).toBe(`store ${round}`);
          await other.put("x", toBody(`other ${round}`));
          expect(await readText(store, "x")).toBe(`other ${round}`);
        }
        await other.delete("x");
        await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
      } finally {
        await other.close();
      }
    }));

  it("small segments are merged, and go once their time of grace is over", async () => {
    const base = uniqueName();
    let aheadMs = 0;
    const runtime = { ...systemRuntime, now: () => Date.now() + aheadMs };
    const store = await open(base, { runtime });
    for (let i = 0; i < 100; i++) await store.put(`n${i % 50}`, toBody(`${i}`));
    await store.close();
    aheadMs = 3 * 60 * 1000;
    const later = await open(base, { runtime });
    await later.put("last", toBody("x"));
    await later.close();
    expect(files(path.join(folderOf(base), "index")).length).toBeLessThan(45);
    expect(files(path.join(folderOf(base), "data"))).toHaveLength(51);
    const other = await open(base);
    for (let i = 0; i < 50; i++) expect(await readText(other, `n${i}`)).toBe(`${i + 50}`);
    await other.close();
  });

  it("a flipped byte in a piece is corrupt", () =>
    withStore(async (store, folder) => {
      await store.put("x", toBody("some bytes"));
      const [file = ""] = files(path.join(folder, "data"));
      const bytes = readFileSync(file);
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      await expect(readText(store, "x")).rejects.toMatchObject({ code: "corrupt", retryable: false });
    }));

  it("a segment that was cut is corrupt: its objects are not said to be absent", () =>
    withStore(async (store, folder, base) => {
      await store.put("x", toBody("some bytes"));
      const [file = ""] = files(path.join(folder, "index"));
      truncateSync(file, 50);
      const other = await open(base);
      await expect(other.stat("x")).rejects.toMatchObject({ code: "corrupt" });
      await other.close();
    }));

  it("a repository of restic's is refused", () =>
    withStore(async (store, folder) => {
      mkdirSync(folder, { recursive: true });
      writeFileSync(path.join(folder, "config"), "restic's");
      await expect(store.put("x", toBody("x"))).rejects.toMatchObject({ code: "config" });
      expect(files(folder)).toEqual([path.join(folder, "config")]);
    }));

  it("a server that dies in mid-put makes the put unavailable, and the old object is there when it is back", async () => {
    const own = await startServer("rclone-restic", { instance: "rest-crash" });
    expect(own.running).toBe(true);
    if (!own.running) return;
    const store = await openStore(`rest:http://127.0.0.1:${own.port}/`);
    try {
      await store.put("x", toBody("old"));
      const body: Body = {
        size: undefined,
        reopenable: false,
        async *open() {
          yield Buffer.alloc(5 * MIB);
          await own.control("crash");
          yield Buffer.alloc(5 * MIB);
        },
      };
      await expect(store.put("x", body)).rejects.toMatchObject({ code: "unavailable", retryable: true });
      await expect(store.stat("x")).rejects.toMatchObject({ code: "unavailable" });
      await own.control("start");
      expect(await readText(store, "x")).toBe("old");
      await store.put("x", toBody("new"));
      expect(await readText(store, "x")).toBe("new");
    } finally {
      await store.close();
      await own.control("stop");
    }
  });

  it("a password is taken from the URL or from restic's own variables, and stands in no error", async () => {
    const own = await startServer("rclone-restic", {
      instance: "rest-login",
      env: { RCLONE_USER: "u", RCLONE_PASS: "open sesame" },
    });
    expect(own.running).toBe(true);
    if (!own.running) return;
    const url = (login: string): string => `rest:http://${login}127.0.0.1:${own.port}/p`;
    try {
      const env = { RESTIC_REST_USERNAME: "u", RESTIC_REST_PASSWORD: "open sesame" };
      for (const store of [await openStore(url("u:open%20sesame@")), await openStore(url(""), { env })]) {
        await expect(store.put("x", toBody("x"))).resolves.toMatchObject({ size: 1 });
        await store.close();
      }
      for (const store of [await openStore(url("u:wrong-sesame@")), await openStore(url(""))]) {
        const error = await store.put("x", toBody("x")).catch((error: unknown) => error);
        expect(error).toMatchObject({ code: "denied", retryable: false });
        expect(`${String(error)} ${JSON.stringify(error)} ${store.label}`).not.toContain("sesame");
        await store.close();
      }
    } finally {
      await own.control("stop");
    }
  });
});

describe("rest against servers that misbehave", () => {
  /** A server of the test's own: what it answers to everything is set by the test. */
  const against = async (
    answer: Parameters<typeof createServer>[1],
    work: (store: Store) => Promise<void>,
  ): Promise<void> => {
    const http = createServer(answer ?? (() => undefined));
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    const store = await openStore(`rest:http://u:open-sesame@127.0.0.1:${(http.address() as AddressInfo).port}/`);
    try {
      await work(store);
    } finally {
      await store.close();
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    }
  };

  it.each([
    ...HTTP_STATUSES,
    [413, "full", false],
    [423, "conflict", true],
    [302, "unavailable", true],
    [308, "unavailable", false],
  ] as const)("status %i is %s", (status, code, retryable) =>
    against(
      (_, response) => {
        response.writeHead(status, { "retry-after": "7", location: "http://127.0.0.2:1/" }).end("no");
      },
      async (store) => {
        const retryAfterMs = status === 413 ? undefined : 7000;
        const wanted = { code, retryable, retryAfterMs, operation: "stat", object: "x" };
        await expect(store.stat("x")).rejects.toMatchObject(wanted);
      },
    ),
  );

  it("a wrong password is called one", () =>
    against(
      (_, response) => {
        response.writeHead(401).end("no");
      },
      async (store) => {
        await expect(store.stat("x")).rejects.toThrow("it does not accept the user name and password");
      },
    ));

  it("lists that are no lists, or have names that climb, read nothing outside and are corrupt or empty", async () => {
    const asked: string[] = [];
    let list = "";
    await against(
      (request, response) => {
        asked.push(request.url ?? "");
        if (request.url?.endsWith("/config")) response.writeHead(404).end();
        else response.end(list);
      },
      async (store) => {
        for (list of ["<html>", '{"name":1}', '[{"name":1}]', "[".repeat(100_000)]) {
          await expect(store.stat("x")).rejects.toMatchObject({ code: "corrupt" });
        }
        list = '[{"name":"../../etc/passwd","size":1},{"name":"..","size":1}]';
        await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
        expect(new Set(asked)).toEqual(new Set(["/config", "/index/"]));
      },
    );
  });

  it("a server that never answers is left at once when the signal fires", () =>
    against(
      () => undefined,
      async (store) => {
        const signal = AbortSignal.timeout(200);
        await expect(store.stat("x", { signal })).rejects.toMatchObject({ code: "aborted" });
        await expect(store.put("x", toBody("x"), { signal: AbortSignal.timeout(200) })).rejects.toMatchObject({
          code: "aborted",
        });
      },
    ));
});
