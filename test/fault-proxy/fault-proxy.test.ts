import { once } from "node:events";
import { createServer } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect, createServer as createTcpServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { makeCertificates, startHttpFaults, startTcpFaults } from "./index.ts";
import type { Certificates, HttpFaultProxy, TcpFault, TcpFaultProxy } from "./index.ts";

const listen = async (server: Server): Promise<number> => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
};

describe("TCP", () => {
  const echo = createTcpServer((socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  let proxy: TcpFaultProxy;
  beforeAll(async () => {
    proxy = await startTcpFaults({ port: await listen(echo) });
  });
  afterAll(async () => {
    await proxy.close();
    echo.close();
  });

  /** Sends bytes; resolves to what came back and how it ended. `enough` ends it from our side. */
  const talk = async (fault: TcpFault, bytes: number, enough = bytes): Promise<[bytes: number, end: string]> => {
    proxy.fault = fault;
    const socket: Socket = connect(proxy.port, "127.0.0.1");
    let received = 0;
    const ended = new Promise<string>((resolve) => {
      socket.on("data", (chunk) => {
        received += chunk.length;
        if (received >= enough) resolve("enough");
      });
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
      socket.on("end", () => resolve("end"));
    });
    socket.write(Buffer.alloc(bytes, "a"));
    const end = await ended;
    socket.destroy();
    return [received, end];
  };

  it("passes on, resets, ends and trickles at the byte it was told", async () => {
    expect(await talk({ kind: "none" }, 100_000)).toEqual([100_000, "enough"]);
    expect(await talk({ kind: "reset" }, 10)).toEqual([0, "ECONNRESET"]);
    expect(await talk({ kind: "reset", afterUp: 5 }, 10)).toEqual([expect.any(Number), "ECONNRESET"]);
    expect(await talk({ kind: "end", afterDown: 1234 }, 5000)).toEqual([1234, "end"]);
    const start = performance.now();
    expect(await talk({ kind: "trickle", bytesPerSecond: 50 }, 10, 5)).toEqual([5, "enough"]);
    expect(performance.now() - start).toBeGreaterThan(80);
  });

  it("swallows everything as a black hole, until it is cut", async () => {
    const before = proxy.connections;
    const talking = talk({ kind: "black-hole", afterDown: 100 }, 500_000);
    await vi.waitFor(() => expect(proxy.connections).toBe(before + 1));
    expect(await talk({ kind: "none" }, 10)).toEqual([10, "enough"]);
    proxy.cut();
    expect(await talking).toEqual([expect.any(Number), "ECONNRESET"]);
    expect(proxy.connections).toBeGreaterThan(5);
  });
});

describe("HTTP", () => {
  const seen: string[] = [];
  const real = createServer((request, response) => {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => (bytes += chunk.length));
    request.on("end", () => {
      seen.push(`${request.method} ${request.url} ${bytes}`);
      response.end("0123456789");
    });
  });
  let proxy: HttpFaultProxy;
  beforeAll(async () => {
    proxy = await startHttpFaults({ target: `http://127.0.0.1:${await listen(real)}` });
  });
  afterEach(() => proxy.clear());
  afterAll(async () => {
    await proxy.close();
    real.close();
  });

  const get = async (path = "/x", init: RequestInit = {}): Promise<string> => {
    try {
      const response = await fetch(proxy.url + path, { redirect: "manual", ...init });
      return `${response.status} ${await response.text()}`;
    } catch (error) {
      return (error as Error).name;
    }
  };

  it("passes requests on, and counts them for its rules", async () => {
    expect(await get("/a?b=1", { method: "PUT", body: "body" })).toBe("200 0123456789");
    expect(seen.at(-1)).toBe("PUT /a?b=1 4");
    proxy.add({
      method: "GET",
      path: /^\/y/u,
      nth: 2,
      times: 1,
      fault: { kind: "respond", status: 503, headers: { "retry-after": "2" }, body: "busy" },
    });
    expect([await get("/y"), await get("/x"), await get("/y"), await get("/y")]).toEqual([
      "200 0123456789",
      "200 0123456789",
      "503 busy",
      "200 0123456789",
    ]);
    expect(proxy.struck).toBe(1);
    expect(proxy.requests.length).toBe(5);
  });

  it.each([
    [{ kind: "truncate", byte: 3 }, "TypeError"],
    [{ kind: "shorten", byte: 3 }, "200 012"],
    [{ kind: "pad", bytes: 2, honest: true }, "200 0123456789XX"],
    [{ kind: "flip", byte: 1 }, "200 0023456789"],
    [{ kind: "reset" }, "TypeError"],
    [{ kind: "lost-answer" }, "TypeError"],
    [{ kind: "redirect", to: "http://127.0.0.1:1", status: 301 }, "301 "],
    [{ kind: "change", body: (text: string) => text.toUpperCase() + "!" }, "200 0123456789!"],
    [{ kind: "answer", with: () => ({ body: [Buffer.from("a"), Buffer.from("b")] }) }, "200 ab"],
    [{ kind: "delay", ms: 1 }, "200 0123456789"],
    [{ kind: "trickle", bytesPerSecond: 1000 }, "200 0123456789"],
  ] as const)("does %o", async (fault, expected) => {
    proxy.add({ fault });
    expect(await get()).toBe(expected);
  });

  it.each([{ kind: "hang" }, { kind: "hang-at", byte: 4 }, { kind: "wrong-length", by: 5 }] as const)(
    "stands still for %o",
    async (fault) => {
      proxy.add({ fault });
      expect(await get("/x", { signal: AbortSignal.timeout(100) })).toBe("TimeoutError");
    },
  );

  it("lets the server do what a reset request asks only when it was told to", async () => {
    const before = seen.length;
    proxy.add({ times: 1, fault: { kind: "reset" } });
    await get();
    expect(seen.length).toBe(before);
    proxy.clear();
    proxy.add({ times: 1, fault: { kind: "lost-answer" } });
    await get();
    expect(seen.length).toBe(before + 1);
  });

  it("answers 502 where nothing is behind it", async () => {
    const alone = await startHttpFaults();
    expect((await fetch(alone.url)).status).toBe(502);
    await alone.close();
  });
});

describe("TLS", () => {
  let certificates: Certificates;
  beforeAll(async () => {
    certificates = await makeCertificates();
  });
  afterAll(() => certificates.remove());

  it.each([
    ["good", 418],
    ["expired", "CERT_HAS_EXPIRED"],
    ["otherHost", "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["selfSigned", "DEPTH_ZERO_SELF_SIGNED_CERT"],
  ] as const)("with the certificate %s gives %s", async (which, expected) => {
    const proxy = await startHttpFaults({ tls: certificates[which] });
    proxy.add({ fault: { kind: "respond", status: 418 } });
    const outcome = await new Promise((resolve) => {
      const request = httpsRequest(proxy.url, { ca: certificates.ca, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
      request.end();
    });
    await proxy.close();
    expect(outcome).toBe(expected);
  });
});
