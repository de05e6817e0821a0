/**
 * The object stores of clouds behind servers that go wrong: each fault becomes an error of the right code by the deadline,
 * nothing that was acknowledged is lost, nothing half-done is visible or left behind, and credentials go nowhere else.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { StorageSharedKeyCredential, BlobServiceClient } from "@azure/storage-blob";
import * as azureSdk from "@azure/storage-blob";
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { silentLogger } from "../../src/contract/log.ts";
import type { StoreContext } from "../../src/stores/base/store-kind.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Store } from "../../src/contract/store.ts";
import { AzureStore } from "../../src/stores/azure.ts";
import { GcsStore } from "../../src/stores/gcs.ts";
import { S3Store } from "../../src/stores/s3/s3.ts";
import { SwiftStore } from "../../src/stores/swift/swift.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";
import type { StoreUrl } from "../../src/contract/store-url.ts";
import { retry } from "../../src/wrappers/retry.ts";
import { makeCertificates, startHttpFaults } from "../fault-proxy/index.ts";
import type { Answer, Certificates, HttpFault, HttpFaultProxy, SeenRequest } from "../fault-proxy/index.ts";
import { HTTP_STATUSES } from "../helpers/http-statuses.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";
import type { Server } from "../helpers/servers.ts";
import { namesOf } from "../helpers/store-answers.ts";

const KIB = 1024;
const SECRET = "testing-secret-of-the-store";

interface Kind {
  readonly name: string;
  readonly server: Server;
  /** Opens a store whose server is at this origin. */
  readonly open: (origin: string, options?: { ca?: string; env?: Record<string, string> }) => Store;
  /** Makes the bucket. */
  readonly prepare: () => Promise<void>;
  /** One page of a listing with these names behind the store's prefix, and whether another is said to follow. */
  readonly page: (names: readonly string[], more: number | undefined) => Answer;
  readonly isList: (request: SeenRequest) => boolean;
  /** Requests that carry the bytes of a small object. */
  readonly isPut: (request: SeenRequest) => boolean;
  /** Those that carry the bytes of a piece of a large one; undefined where they cannot be told. */
  readonly isPiece?: (request: SeenRequest) => boolean;
  /** What a failed put may leave, counted. */
  readonly leftovers?: () => Promise<number>;
}

function contextOf(url: StoreUrl, env: Record<string, string>): StoreContext {
  return { label: url.redacted, env, runtime: systemRuntime, logger: silentLogger };
}

const [ceph, azurite, swift, emulator] = await Promise.all([
  startServer("ceph-rgw"),
  startServer("azurite"),
  startServer("swift"),
  startServer("gcs-firebase"),
]);
const bucket = uniqueName();
const azureKey = /key (\S+)\)/u.exec(azurite.running ? azurite.address : "")?.[1] ?? "";
const originOf = (server: Server): string =>
  server.running ? `http://127.0.0.1:${server.port}` : "http://127.0.0.1:9";
const swiftEnv = { SWIFT_USERNAME: "test:tester", SWIFT_PASSWORD: "testing" };

async function swiftAccount(): Promise<{ url: string; headers: Record<string, string> }> {
  const headers = { "x-auth-user": swiftEnv.SWIFT_USERNAME, "x-auth-key": swiftEnv.SWIFT_PASSWORD };
  const answer = await fetch(`${originOf(swift)}/auth/v1.0`, { headers });
  return {
    url: answer.headers.get("x-storage-url") ?? "",
    headers: { "x-auth-token": answer.headers.get("x-auth-token") ?? "" },
  };
}

const xml = { "content-type": "application/xml" };
const json = { "content-type": "application/json" };

const kinds: Kind[] = [
  {
    name: "s3",
    server: ceph,
    open: (origin, options = {}) => {
      const ca = options.ca === undefined ? "" : `&ca=${options.ca}`;
      const url = parseStoreUrl(`s3://test-bucket/${bucket}/p?endpoint=${origin}${ca}`);
      const env = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "testtest", ...options.env };
      return new S3Store(url, contextOf(url, env), { partBytes: 64 * KIB });
    },
    prepare: async () => undefined,
    page: (names, more) => ({
      headers: xml,
      body:
        `<?xml version="1.0"?><ListBucketResult><IsTruncated>${more !== undefined}</IsTruncated>` +
        (more === undefined ? "" : `<NextContinuationToken>t${more}</NextContinuationToken>`) +
        names.map((name) => `<Contents><Key>${name}</Key><Size>1</Size></Contents>`).join("") +
        "</ListBucketResult>",
    }),
    isList: (request) => request.url.includes("list-type=2"),
    isPut: (request) => request.method === "PUT",
    isPiece: (request) => request.url.includes("partNumber="),
    leftovers: async () => {
      const url = parseStoreUrl(`s3://test-bucket/${bucket}/p?endpoint=${originOf(ceph)}`);
      const env = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "testtest" };
      const store = new S3Store(url, contextOf(url, env));
      const count = await store.abortStrayUploads({ olderThanMs: -600_000 });
      await store.close();
      return count;
    },
  },
  {
    name: "azure",
    server: azurite,
    open: (origin, options = {}) => {
      const ca = options.ca === undefined ? "" : `&ca=${options.ca}`;
      const url = parseStoreUrl(`azure://${bucket}/p?endpoint=${origin}/devstoreaccount1${ca}`);
      const env = { AZURE_ACCOUNT_NAME: "devstoreaccount1", AZURE_ACCOUNT_KEY: azureKey || "a2V5", ...options.env };
      return new AzureStore(azureSdk, url, contextOf(url, env), { partBytes: 64 * KIB });
    },
    prepare: async () => {
      const credential = new StorageSharedKeyCredential("devstoreaccount1", azureKey);
      await new BlobServiceClient(`${originOf(azurite)}/devstoreaccount1`, credential).createContainer(bucket);
    },
    page: (names, more) => ({
      headers: xml,
      body:
        `<?xml version="1.0"?><EnumerationResults ServiceEndpoint="x" ContainerName="c"><Blobs>` +
        names
          .map(
            (name) =>
              `<Blob><Name>${name}</Name><Properties><Content-Length>1</Content-Length><Etag>x</Etag><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified></Properties></Blob>`,
          )
          .join("") +
        `</Blobs><NextMarker>${more === undefined ? "" : `t${more}`}</NextMarker></EnumerationResults>`,
    }),
    isList: (request) => request.url.includes("comp=list"),
    isPut: (request) => request.method === "PUT",
    isPiece: (request) => request.url.includes("comp=block&"),
  },
  {
    name: "swift",
    server: swift,
    open: (origin, options = {}) => {
      const ca = options.ca === undefined ? "" : `?ca=${options.ca}`;
      const url = parseStoreUrl(`swift://${bucket}/p${ca}`);
      const context = contextOf(url, { ...swiftEnv, SWIFT_AUTHURL: `${origin}/auth/v1.0`, ...options.env });
      return new SwiftStore(url, context, { partBytes: 64 * KIB });
    },
    prepare: async () => {
      const { url, headers } = await swiftAccount();
      for (const name of [bucket, `${bucket}_segments`]) {
        await fetch(`${url}/${name}`, { method: "PUT", headers });
      }
    },
    page: (names) => ({ headers: json, body: JSON.stringify(names.map((name) => ({ name, bytes: 1 }))) }),
    isList: (request) => request.url.includes("format=json"),
    isPut: (request) => request.method === "PUT",
    isPiece: (request) => request.method === "PUT" && request.url.includes("_segments/"),
    leftovers: async () => {
      const { url, headers } = await swiftAccount();
      const text = await (await fetch(`${url}/${bucket}_segments`, { headers })).text();
      // The listing of a server under load lags behind, so each is asked for.
      const listed = text.split("\n").filter((line) => line !== "");
      const heads = await Promise.all(
        listed.map((name) => fetch(`${url}/${bucket}_segments/${name}`, { method: "HEAD", headers })),
      );
      return heads.filter((head) => head.ok).length;
    },
  },
  {
    name: "gcs",
    server: emulator,
    open: (origin, options = {}) => {
      const ca = options.ca === undefined ? "" : `&ca=${options.ca}`;
      const url = parseStoreUrl(`gs://${bucket}/p?endpoint=${origin}${ca}`);
      return new GcsStore(url, contextOf(url, options.env ?? {}), async () => ({ authorization: `Bearer ${SECRET}` }));
    },
    prepare: async () => undefined,
    page: (names, more) => ({
      headers: json,
      body: JSON.stringify({
        items: names.map((name) => ({ name, size: "1" })),
        ...(more === undefined ? {} : { nextPageToken: `t${more}` }),
      }),
    }),
    isList: (request) => request.method === "GET" && request.url.includes("fields="),
    isPut: (request) => request.method === "POST",
  },
];

/** A signal that fires as a deadline does. */
function deadline(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new HoldfastError("timeout", "the deadline has passed")), ms).unref();
  return controller.signal;
}

async function failure(promise: Promise<unknown>): Promise<HoldfastError> {
  const error: unknown = await promise.then(
    () => new Error("it succeeded"),
    (error: unknown) => error,
  );
  if (!(error instanceof HoldfastError)) throw error;
  for (const secret of [SECRET, azureKey]) {
    if (secret !== "" && inspect(error, { depth: 20 }).includes(secret)) throw new Error("a secret stands in an error");
  }
  return error;
}

describe.each(kinds)("$name", onServer, (kind) => {
  reportStore(kind.name, kind.server);

  describe.runIf(kind.server.running)("behind a server that goes wrong", () => {
    let proxy: HttpFaultProxy;
    let store: Store;
    let steady: Store;
    const content = Buffer.from(Array.from({ length: 40 * KIB }, (_, n) => (n * 7) % 251));
    const isAuth = (request: SeenRequest): boolean => request.url.startsWith("/auth/");
    const strike = (fault: HttpFault, when: (request: SeenRequest) => boolean = () => true, times?: number): void =>
      proxy.add({
        fault,
        when: (request) => !isAuth(request) && when(request),
        ...(times === undefined ? {} : { times }),
      });
    const read = async (name: string, signal = deadline(10_000)): Promise<Buffer> =>
      Buffer.from(await collect((await store.get(name, { signal })).body));
    /** Reads as a pool does: a kept connection that the server dropped is one of the things that are tried again. */
    const readSteadily = async (name: string): Promise<Buffer> =>
      Buffer.from(await collect((await steady.get(name)).body));
    /** The request of a get that brings the bytes. */
    const isContent = (request: SeenRequest): boolean =>
      request.method === "GET" && (kind.name !== "gcs" || request.url.includes("alt=media"));

    beforeAll(async () => {
      await kind.prepare();
      proxy = await startHttpFaults({ target: originOf(kind.server) });
      store = kind.open(proxy.url);
      steady = retry(store, { runtime: systemRuntime });
      await steady.put("there", toBody(content));
    });
    afterEach(() => proxy.clear());
    afterAll(async () => {
      await store.close();
      await proxy.close();
    });

    test.each([...HTTP_STATUSES, [409, "conflict", false], [412, "conflict", false], [423, "conflict", true]] as const)(
      "an answer of %i is %s",
      async (status, code, retryable) => {
        strike({ kind: "respond", status, headers: { "retry-after": "2" } });
        const expected = { code, retryable };
        expect(await failure(store.put("new", toBody("x")))).toMatchObject({ ...expected, operation: "put" });
        expect(await failure(store.stat("there"))).toMatchObject({ ...expected, operation: "stat" });
        expect(await failure(store.get("there"))).toMatchObject({ ...expected, operation: "get" });
        expect(await failure(namesOf(store, "", { signal: deadline(10_000) }))).toMatchObject({
          ...expected,
          operation: "list",
        });
        expect(await failure(store.delete("there"))).toMatchObject({ ...expected, operation: "delete" });
        expect((await failure(store.stat("there"))).retryAfterMs ?? 2000).toBe(2000);
      },
    );

    it("a connection that is reset is unavailable, and the next one works", async () => {
      strike({ kind: "reset" });
      const all = [
        store.put("new", toBody(content)),
        store.stat("there"),
        store.get("there"),
        namesOf(store, "", { signal: deadline(10_000) }),
      ];
      for (const error of await Promise.all(all.map(failure))) {
        expect(error).toMatchObject({ code: "unavailable", retryable: true });
      }
      proxy.clear();
      proxy.cut();
      expect(await readSteadily("there")).toEqual(content);
      expect(await namesOf(steady, "", { signal: deadline(10_000) })).toEqual(["there"]);
    });

    it("a server that answers nothing is given up at the deadline", async () => {
      strike({ kind: "hang" });
      const start = performance.now();
      const signal = deadline(300);
      const all = [
        store.put("new", toBody(content), { signal }),
        store.stat("there", { signal }),
        store.get("there", { signal }),
        store.delete("there", { signal }),
        store.list("", { signal })[Symbol.asyncIterator]().next(),
      ];
      for (const error of await Promise.all(all.map(failure))) expect(error).toMatchObject({ code: "timeout" });
      expect(performance.now() - start).toBeLessThan(3000);
    });

    it("a body that stops, ends early, or comes at one byte a second is no object", async () => {
      strike({ kind: "hang-at", byte: 1000 }, isContent);
      expect(await failure(read("there", deadline(300)))).toMatchObject({ code: "timeout" });
      proxy.clear();
      strike({ kind: "trickle", bytesPerSecond: 1 }, isContent);
      expect(await failure(read("there", deadline(300)))).toMatchObject({ code: "timeout" });
      proxy.clear();
      strike({ kind: "truncate", byte: 1000 }, isContent);
      expect(await failure(read("there"))).toMatchObject({ code: "unavailable", retryable: true });
    });

    it("a body of another length, or with one bit changed, is no object", async () => {
      for (const fault of [
        { kind: "flip", byte: 20_000 },
        { kind: "shorten", byte: 1000 },
        { kind: "pad", bytes: 10, honest: true },
        { kind: "wrong-length", by: -10 },
      ] as const) {
        strike(fault, isContent);
        const { code } = await failure(read("there"));
        expect(["corrupt", "unavailable"]).toContain(code);
        proxy.clear();
      }
      strike({ kind: "wrong-length", by: 10 }, isContent);
      expect(["corrupt", "timeout", "unavailable"]).toContain((await failure(read("there", deadline(500)))).code);
      proxy.clear();
      expect(await readSteadily("there")).toEqual(content);
    });

    it("a redirect to another place is not followed with credentials", async () => {
      const trap = await startHttpFaults();
      trap.add({ fault: { kind: "respond", status: 200, body: "x" } });
      for (const status of [301, 302, 307, 308]) {
        strike({ kind: "redirect", to: trap.url, status });
        expect(await failure(store.stat("there"))).toMatchObject({ code: "unavailable" });
        expect(await failure(store.get("there"))).toMatchObject({ code: "unavailable" });
        expect(await failure(store.put("new", toBody("x")))).toMatchObject({ code: "unavailable" });
        proxy.clear();
      }
      expect(trap.requests).toEqual([]);
      await trap.close();
    });

    it("names in a listing that were not asked for are refused", async () => {
      for (const name of ["../../etc/passwd", "/etc/passwd", "other"]) {
        strike({ kind: "answer", with: () => kind.page([name], undefined) }, kind.isList);
        expect(await failure(namesOf(store, "", { signal: deadline(10_000) }))).toMatchObject({
          code: "corrupt",
          operation: "list",
        });
        proxy.clear();
      }
    });

    it("a listing without end comes to one", async () => {
      const prefix = kind.name === "s3" ? `${bucket}/p/` : "p/";
      for (const page of [
        (n: number) => kind.page([`${prefix}same`], n),
        (n: number) => kind.page([`${prefix}${n % 2}`], n),
        () => kind.page([`${prefix}same`], 1),
        ...(kind.name === "swift" ? [] : [(n: number) => kind.page([], n)]),
      ]) {
        let n = 0;
        strike({ kind: "answer", with: () => page(n++) }, kind.isList);
        expect(await failure(namesOf(store, "", { signal: deadline(10_000) }))).toMatchObject({
          code: "corrupt",
          operation: "list",
        });
        proxy.clear();
      }
    });

    it("nonsense, a bomb and an answer without end are errors in bounded memory", async () => {
      const bomb =
        `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "aaaaaaaaaa">` +
        Array.from({ length: 12 }, (_, n) => `<!ENTITY a${n + 1} "${`&a${n};`.repeat(10)}">`).join("") +
        `]><ListBucketResult><Contents><Key>&a12;</Key></Contents></ListBucketResult>`;
      strike({ kind: "respond", headers: xml, body: bomb }, kind.isList);
      const before = process.memoryUsage().rss;
      expect(["unavailable", "corrupt"]).toContain(
        (await failure(namesOf(store, "", { signal: deadline(10_000) }))).code,
      );
      proxy.clear();
      const endless = async function* (): AsyncGenerator<Uint8Array> {
        for (;;) yield Buffer.alloc(256 * KIB, " ");
      };
      strike({ kind: "respond", headers: xml, body: endless() }, kind.isList);
      const list = store.list("", { signal: deadline(1500) })[Symbol.asyncIterator]();
      expect(["unavailable", "timeout"]).toContain((await failure(list.next())).code);
      proxy.clear();
      strike({ kind: "answer", with: () => ({ status: 403, headers: xml, body: endless() }) });
      for (const call of [
        (signal: AbortSignal) => store.put("new", toBody("x"), { signal }),
        (signal: AbortSignal) => store.stat("there", { signal }),
        (signal: AbortSignal) => read("there", signal),
        (signal: AbortSignal) => store.delete("there", { signal }),
      ]) {
        expect(["denied", "timeout", "unavailable"]).toContain((await failure(call(deadline(1500)))).code);
      }
      proxy.clear();
      strike({ kind: "respond", headers: { "x-large": "x".repeat(200_000) } });
      expect(["unavailable", "corrupt"]).toContain((await failure(store.stat("there"))).code);
      expect(process.memoryUsage().rss - before).toBeLessThan(400 * KIB * KIB);
    });

    it("a put whose answer is lost, or that is cut off, leaves the old object or the new one", async () => {
      const old = Buffer.alloc(3000, "o");
      for (const fault of [{ kind: "lost-answer" }, { kind: "reset", byte: 10_000 }] as const) {
        await steady.put("replaced", toBody(old));
        strike(fault, kind.isPut);
        await failure(store.put("replaced", toBody(content)));
        proxy.clear();
        const found = await readSteadily("replaced");
        expect(found.equals(old) || found.equals(content)).toBe(true);
        expect(await namesOf(steady, "", { signal: deadline(10_000) })).toEqual(["replaced", "there"]);
      }
      await steady.delete("replaced");
    });

    it("a body that cannot be read again survives a fault in passing", async () => {
      strike({ kind: "reset" }, kind.isPut, 1);
      const once = async function* (): AsyncGenerator<Uint8Array> {
        yield content;
      };
      await store.put("once", toBody(once()));
      proxy.clear();
      expect(await readSteadily("once")).toEqual(content);
      await steady.delete("once");
    });

    if (kind.isPiece) {
      const { isPiece } = kind;
      const large = Buffer.alloc(300 * KIB, "l");

      it("one piece that fails in passing is sent again", async () => {
        strike({ kind: "reset", byte: 30_000 }, isPiece, 1);
        await steady.put("large", toBody(large));
        proxy.clear();
        expect(await readSteadily("large")).toEqual(large);
        await steady.delete("large");
      });

      it("a large put that fails for good leaves nothing", async () => {
        const before = (await kind.leftovers?.()) ?? 0;
        strike({ kind: "respond", status: 403 }, (request) => isPiece(request) && proxy.requests.length % 3 === 0);
        expect(await failure(store.put("large", toBody(large)))).toMatchObject({ code: "denied" });
        proxy.clear();
        expect(await namesOf(steady, "", { signal: deadline(10_000) })).toEqual(["there"]);
        expect((await kind.leftovers?.()) ?? 0).toBe(before);
      });

      it("a large put that is aborted while the server hangs ends soon and leaves nothing", async () => {
        const before = (await kind.leftovers?.()) ?? 0;
        strike({ kind: "hang" }, isPiece);
        const start = performance.now();
        expect(await failure(store.put("large", toBody(large), { signal: deadline(300) }))).toMatchObject({
          code: "timeout",
        });
        expect(performance.now() - start).toBeLessThan(5000);
        proxy.clear();
        expect(await namesOf(steady, "", { signal: deadline(10_000) })).toEqual(["there"]);
        expect((await kind.leftovers?.()) ?? 0).toBe(before);
      });
    }
  });
});

describe("the answer to the completion of an upload in parts", () => {
  it.runIf(ceph.running)("may be lost", async () => {
    const [kind] = kinds;
    const proxy = await startHttpFaults({ target: originOf(ceph) });
    const store = kind?.open(proxy.url);
    const bytes = Buffer.alloc(200 * KIB, "c");
    proxy.add({ method: "POST", path: /uploadId=/u, times: 1, fault: { kind: "lost-answer" } });
    await expect(store?.put("completed", toBody(bytes))).resolves.toEqual({ size: bytes.length });
    expect(proxy.struck).toBe(1);
    await expect(store?.stat("completed")).resolves.toMatchObject({ size: bytes.length });
    await store?.delete("completed");
    await store?.close();
    await proxy.close();
  });
});

describe("TLS", () => {
  let certificates: Certificates;
  let folder = "";
  beforeAll(async () => {
    certificates = await makeCertificates();
    folder = await mkdtemp(path.join(tmpdir(), "holdfast-ca-"));
  });
  afterAll(async () => rm(folder, { recursive: true }));

  test.each(kinds.map((kind) => [kind.name, kind] as const))(
    "%s refuses certificates that prove nothing",
    async (_, kind) => {
      for (const which of ["expired", "selfSigned", "otherHost", "good"] as const) {
        const proxy = await startHttpFaults({ tls: certificates[which] });
        const store = kind.open(proxy.url);
        const error = await failure(store.stat("a"));
        expect(error).toMatchObject({ code: "denied", retryable: false });
        expect(proxy.requests).toEqual([]);
        await store.close();
        await proxy.close();
      }
    },
  );

  test.each(kinds.map((kind) => [kind.name, kind] as const))(
    "%s takes the authority that its URL names",
    async (_, kind) => {
      const ca = path.join(folder, "ca.pem");
      await writeFile(ca, certificates.ca);
      const proxy = await startHttpFaults({ tls: certificates.good });
      proxy.add({ fault: { kind: "respond", status: 507 } });
      const store = kind.open(proxy.url, { ca });
      expect(await failure(store.stat("a"))).toMatchObject({ code: "full" });
      await store.close();
      await proxy.close();
    },
  );
});

describe("proxies of the environment", () => {
  test.each(kinds.map((kind) => kind.name))("%s goes through the tunnel of a proxy", async (name) => {
    const certificates = await makeCertificates();
    const folder = await mkdtemp(path.join(tmpdir(), "holdfast-ca-"));
    const ca = path.join(folder, "ca.pem");
    await writeFile(ca, certificates.ca);
    const service = await startHttpFaults({ tls: certificates.good });
    service.add({ fault: { kind: "respond", status: 507 } });
    const tunnels: string[] = [];
    const proxy = createServer();
    proxy.on("connect", (request: IncomingMessage, client: Socket) => {
      tunnels.push(`${request.url} ${request.headers["proxy-authorization"]}`);
      const server = connect(service.port, "127.0.0.1", () => client.write("HTTP/1.1 200 OK\r\n\r\n"));
      client.on("error", () => server.destroy());
      server.on("error", () => client.destroy());
      client.pipe(server).pipe(client);
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    const { port } = proxy.address() as AddressInfo;
    const env = { https_proxy: `http://me:secret-of-proxy@127.0.0.1:${port}` };
    const store = kinds.find((kind) => kind.name === name)?.open(service.url, { ca, env });
    const error = await failure(store?.stat("a") ?? Promise.resolve());
    expect(error).toMatchObject({ code: "full" });
    expect(inspect(error, { depth: 20 })).not.toContain("secret-of-proxy");
    const login = Buffer.from("me:secret-of-proxy").toString("base64");
    expect(tunnels).toEqual([`localhost:${service.port} Basic ${login}`]);
    await store?.close();
    proxy.closeAllConnections();
    proxy.close();
    await service.close();
    await rm(folder, { recursive: true });
  });

  it("azure asks the proxy", async () => {
    const proxy = await startHttpFaults();
    proxy.add({ fault: { kind: "respond", status: 403 } });
    const azure = kinds.find((kind) => kind.name === "azure");
    const store = azure?.open("http://blob.invalid:99", { env: { http_proxy: proxy.url } });
    expect(await failure(store?.stat("a") ?? Promise.resolve())).toMatchObject({ code: "denied" });
    expect(proxy.requests[0]?.url).toMatch(/^http:\/\/blob\.invalid:99\//u);
    await store?.close();
    await proxy.close();
  });

  it("s3 without TLS asks the proxy, unless the host is exempt", async () => {
    const [s3] = kinds;
    const proxy = await startHttpFaults();
    proxy.add({ fault: { kind: "respond", status: 403 } });
    const env = { http_proxy: proxy.url };
    const store = s3?.open("http://h.invalid", { env });
    expect(await failure(store?.stat("a") ?? Promise.resolve())).toMatchObject({ code: "denied" });
    expect(proxy.requests[0]?.url).toMatch(/^http:\/\/h\.invalid\/test-bucket\//u);
    const exempt = s3?.open("http://h.invalid", { env: { ...env, no_proxy: "h.invalid" } });
    expect(await failure(exempt?.stat("a") ?? Promise.resolve())).toMatchObject({ code: "unavailable" });
    expect(proxy.requests).toHaveLength(1);
    await store?.close();
    await exempt?.close();
    await proxy.close();
  });
});
