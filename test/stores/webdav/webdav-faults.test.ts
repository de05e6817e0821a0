/** WebDAV against servers that are broken or hostile. */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import net from "node:net";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { collect, toBody } from "../../../src/contract/body.ts";
import { HoldfastError } from "../../../src/contract/errors.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import type { ByteRange, Store } from "../../../src/contract/store.ts";
import { httpServer, makeAuthority } from "../../helpers/http-server.ts";
import type { Authority, TestHttpServer } from "../../helpers/http-server.ts";
import { HTTP_STATUSES } from "../../helpers/http-statuses.ts";
import { namesOf } from "../../helpers/store-answers.ts";

const env = { HOME: "/nonexistent", http_proxy: "", https_proxy: "", HTTPS_PROXY: "", no_proxy: "", NO_PROXY: "" };

const toClose: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of toClose.splice(0).reverse()) await one.close();
});

async function serve(listener: (request: IncomingMessage, response: ServerResponse) => void): Promise<TestHttpServer> {
  const server = await httpServer((request, response) => {
    request.resume();
    listener(request, response);
  });
  toClose.push(server);
  return server;
}

async function open(server: { readonly port: number }, login = "me:my-secret-word@", more = env): Promise<Store> {
  const store = await openStore(`webdav://${login}127.0.0.1:${server.port}/top`, { env: more });
  toClose.push(store);
  return store;
}

const entry = (href: string, size: number | "folder"): string =>
  `<D:response><D:href>${href}</D:href><D:propstat><D:prop>` +
  (size === "folder"
    ? "<D:resourcetype><D:collection/></D:resourcetype>"
    : `<D:resourcetype/><D:getcontentlength>${size}</D:getcontentlength>`) +
  "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>";

const multistatus = (...entries: string[]): string =>
  `<?xml version="1.0"?>\n<D:multistatus xmlns:D="DAV:">${entries.join("")}</D:multistatus>`;

/** Answers PROPFIND for a file of `size` bytes, and lets `get` answer GET. */
function oneFile(size: number, get: (request: IncomingMessage, response: ServerResponse) => void) {
  return (request: IncomingMessage, response: ServerResponse): void => {
    if (request.method === "PROPFIND") response.writeHead(207).end(multistatus(entry(request.url ?? "", size)));
    else if (request.method === "OPTIONS") response.writeHead(200, { dav: "1" }).end();
    else get(request, response);
  };
}

/** Takes a put, of which the server keeps `size` bytes. */
function keeping(size: number) {
  return (request: IncomingMessage, response: ServerResponse): void => {
    if (request.method === "PROPFIND") {
      const kept = request.url?.includes(".tmp") ? size : "folder";
      response.writeHead(207).end(multistatus(entry(request.url ?? "", kept)));
    } else response.writeHead(request.method === "OPTIONS" ? 200 : 201).end();
  };
}

async function read(store: Store, range?: ByteRange): Promise<string> {
  return Buffer.from(await collect((await store.get("x", { range })).body)).toString();
}

describe("statuses", () => {
  it.each([
    ...HTTP_STATUSES,
    [400, "invalid", false],
    [407, "denied", false],
    [408, "timeout", true],
    [412, "conflict", false],
    [423, "unavailable", true],
    [501, "unsupported", false],
  ] as const)("%i is %s", async (status, code, retryable) => {
    const server = await serve((_request, response) => {
      response.writeHead(status, { "retry-after": "7" }).end("my-secret-word is wrong");
    });
    const store = await open(server);
    const error: unknown = await store.stat("x").catch((error: unknown) => error);
    expect(error).toMatchObject({ code, retryable, operation: "stat", object: "x", retryAfterMs: 7000 });
    expect(inspect(error, { depth: 10 })).not.toContain("my-secret-word");
  });

  it("an absent file is not-found, and so is one in an absent folder", async () => {
    const store = await open(await serve((_request, response) => response.writeHead(404).end()));
    await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
    await expect(store.get("a/x")).rejects.toMatchObject({ code: "not-found" });
    await expect(store.delete("x")).resolves.toEqual({ existed: false });
    await expect(namesOf(store)).resolves.toEqual([]);
  });
});

describe("refusals that tell little", () => {
  /** PUT, or MOVE onto the name, is answered with `status`; `at` says what stands where. */
  const refusing = (method: string, status: number, at: (path: string) => "folder" | number | undefined) =>
    serve((request, response) => {
      const path = (request.url ?? "").replace(/\/$/u, "");
      const kind = at(path);
      if (request.method === "OPTIONS") response.writeHead(200, { dav: "1" }).end();
      else if (request.method === method) response.writeHead(status).end();
      else if (request.method !== "PROPFIND") response.writeHead(201).end();
      else if (kind === undefined) response.writeHead(404).end();
      else response.writeHead(207).end(multistatus(entry(request.url ?? "", kind)));
    });

  it.each([400, 403, 404, 409])(
    "a PUT that is answered %i is tried again where its folder was removed",
    async (status) => {
      let asked = 0;
      const store = await open(
        // There when the put begins, and gone when it is refused.
        await refusing("PUT", status, (path) => (path === "/top/sub" && asked++ > 0 ? undefined : "folder")),
      );
      await expect(store.put("sub/x", toBody("x"))).rejects.toMatchObject({
        code: "unavailable",
        retryable: true,
        message: expect.stringMatching(/folder of the object was removed/u),
      });
    },
  );

  it("a PUT that is answered 403 is denied where its folder is there", async () => {
    const store = await open(await refusing("PUT", 403, () => "folder"));
    await expect(store.put("sub/x", toBody("x"))).rejects.toMatchObject({ code: "denied", retryable: false });
  });

  it.each([400, 403, 405, 409])("a MOVE onto a folder that is answered %i is a conflict", async (status) => {
    const at = (path: string): "folder" | number => (path.includes(".holdfast") ? 1 : "folder");
    const store = await open(await refusing("MOVE", status, at));
    await expect(store.put("x", toBody("x"))).rejects.toMatchObject({ code: "conflict" });
  });
});

describe("redirects", () => {
  it.each([301, 302, 303, 307, 308])("%i to another server is refused, and it is never asked", async (status) => {
    const thief = await serve((_request, response) => response.writeHead(200).end("stolen"));
    const server = await serve((request, response) => {
      response.writeHead(status, { location: `http://127.0.0.1:${thief.port}${request.url ?? ""}` }).end();
    });
    const store = await open(server);
    for (const call of [
      () => store.stat("x"),
      () => store.get("x"),
      () => store.put("x", toBody("y")),
      () => store.delete("x"),
      () => namesOf(store),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: "config", retryable: false });
    }
    expect(thief.requests).toEqual([]);
  });
});

describe("listings", () => {
  it.each([
    "/top/../secret",
    "/top/..",
    "/top/%2e%2e/secret",
    "/top/a%2Fb",
    "/top/%2e%2e",
    "/top/a/b",
    "/other/a",
    "/",
    "a",
    "//evil.example.org/top/a",
    "http://evil.example.org/top/a",
    "file:///top/a",
    "/top/%ff",
    "/top/a%00b",
  ])("an entry %s is refused", async (href) => {
    const listing = multistatus(entry("/top/", "folder"), entry(href, 1));
    const store = await open(await serve((_request, response) => response.writeHead(207).end(listing)));
    await expect(namesOf(store)).rejects.toMatchObject({ code: "corrupt", operation: "list" });
  });

  it("hrefs are read as the standard allows them", async () => {
    const server = await serve((request, response) => {
      const origin = `http://${request.headers.host ?? ""}`;
      response.writeHead(207).end(
        multistatus(
          entry(`${origin}/top/`, "folder"),
          entry("/top/a%20b&amp;c", 1),
          entry(`${origin}/top/d`, 2),
          entry("/top/%E2%82%AC&#x65;", 3),
          entry("/top/gone", 4)
            .replace("200 OK", "404 Not Found")
            .replace("</D:propstat>", "</D:propstat><D:status>HTTP/1.1 404 -</D:status>"),
        )
          .replaceAll("D:", "x-1:")
          .replace("xmlns:D", "xmlns:x-1"),
      );
    });
    await expect(namesOf(await open(server))).resolves.toEqual(["a b&c", "d", "\u20ace"]);
  });

  it.each([
    ["an XML bomb", `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]>${multistatus()}`],
    [
      "an external entity",
      `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>${multistatus(entry("/top/&a;", 1))}`,
    ],
    ["a listing that ends early", multistatus(entry("/top/", "folder")).slice(0, -20)],
    ["a listing that ends in an entry", multistatus(entry("/top/", "folder"), entry("/top/a", 1)).slice(0, -60)],
    ["a page instead of a listing", "<html><body>Please log in</body></html>"],
    ["an empty answer", ""],
    ["an entry without end", `<D:multistatus xmlns:D="DAV:"><D:response>${"<D:href>x</D:href>".repeat(20_000)}`],
    ["markup that is none", multistatus("<D:response><D:href>/top/a</D:propstat></D:response>")],
    ["an entry without a size", multistatus(entry("/top/a", 1).replace(">1<", ">many<"))],
    ["bytes that are no UTF-8", Buffer.from([0xff, 0xfe, 0x00])],
  ])("%s is corrupt", async (_what, listing) => {
    const store = await open(await serve((_request, response) => response.writeHead(207).end(listing)));
    await expect(namesOf(store)).rejects.toMatchObject({ code: "corrupt", retryable: false });
  });

  it("an entry that the server tells nothing of makes the listing incomplete", async () => {
    const hidden = entry("/top/a", 1).replace("200 OK", "403 Forbidden");
    const listing = multistatus(entry("/top/", "folder"), hidden);
    const store = await open(await serve((_request, response) => response.writeHead(207).end(listing)));
    await expect(namesOf(store)).rejects.toMatchObject({ code: "incomplete" });
  });

  it("a connection that breaks off in a listing is no end of it", async () => {
    const server = await serve((_request, response) => {
      response.writeHead(207);
      response.write(multistatus(entry("/top/", "folder"), entry("/top/a", 1)).slice(0, -10), () => response.destroy());
    });
    await expect(namesOf(await open(server))).rejects.toMatchObject({ code: "unavailable", retryable: true });
  });
});

describe("bodies", () => {
  it("one that breaks off rejects", async () => {
    const server = await serve(
      oneFile(100, (_request, response) => {
        response.writeHead(200, { "content-length": "100" });
        response.write("x".repeat(50), () => response.destroy());
      }),
    );
    await expect(read(await open(server))).rejects.toMatchObject({ code: "unavailable", operation: "get" });
  });

  it.each([
    ["shorter", 99],
    ["longer", 101],
  ])("one that is %s than the file is said to be rejects", async (_what, bytes) => {
    for (const chunked of [true, false]) {
      const server = await serve(
        oneFile(100, (_request, response) => {
          response.writeHead(200, chunked ? {} : { "content-length": String(bytes) });
          if (chunked) response.flushHeaders();
          response.end("x".repeat(bytes));
        }),
      );
      const code = chunked ? "corrupt" : "unavailable";
      await expect(read(await open(server))).rejects.toMatchObject({ code, operation: "get" });
    }
  });

  it("one in an encoding that was not asked for rejects", async () => {
    const server = await serve(
      oneFile(10, (_request, response) => {
        response.writeHead(200, { "content-encoding": "gzip", "content-length": "10" }).end("0123456789");
      }),
    );
    await expect(read(await open(server))).rejects.toMatchObject({ code: "corrupt" });
  });

  it("a range that is ignored is cut out of the whole", async () => {
    const server = await serve(oneFile(10, (_request, response) => response.writeHead(200).end("0123456789")));
    const store = await open(server);
    await expect(read(store, { offset: 3, length: 4 })).resolves.toBe("3456");
    await expect(read(store, { offset: 7 })).resolves.toBe("789");
    await expect(read(store, { offset: 0, length: 1 })).resolves.toBe("0");
  });

  it.each(["bytes 0-3/10", "bytes 3-7/10", "bytes 3-6/*", "", "bytes 3-6/11"])(
    "another range than the one asked for (%s) rejects",
    async (range) => {
      const server = await serve(
        oneFile(10, (_request, response) => response.writeHead(206, { "content-range": range }).end("3456")),
      );
      await expect(read(await open(server), { offset: 3, length: 4 })).rejects.toMatchObject({
        code: range.endsWith("/11") ? "unavailable" : "corrupt",
      });
    },
  );

  it("a put of which the server keeps less is corrupt, and its temporary file goes", async () => {
    const server = await serve(keeping(2));
    await expect((await open(server)).put("x", toBody("abc"))).rejects.toMatchObject({ code: "corrupt" });
    expect(server.requests.map(({ method }) => method)).not.toContain("MOVE");
    expect(server.requests.filter(({ method }) => method === "DELETE")).toHaveLength(1);
  });
});

describe("servers that do not speak", () => {
  it("silence ends at the caller's deadline, in every operation", async () => {
    const store = await open(await serve(() => undefined));
    for (const call of [
      (signal: AbortSignal) => store.stat("x", { signal }),
      (signal: AbortSignal) => store.get("x", { signal }),
      (signal: AbortSignal) => store.put("x", toBody("y"), { signal }),
      (signal: AbortSignal) => store.delete("x", { signal }),
    ]) {
      const deadline = new AbortController();
      setTimeout(() => deadline.abort(new HoldfastError("timeout", "too late")), 50);
      await expect(call(deadline.signal)).rejects.toMatchObject({ code: "timeout", message: "too late" });
    }
  });

  it("nobody there is unavailable, and so are headers without end, and what is no HTTP", async () => {
    const gone = await serve(() => undefined);
    await gone.close();
    await expect((await open(gone)).stat("x")).rejects.toMatchObject({ code: "unavailable", retryable: true });
    const huge = await serve((_request, response) => response.writeHead(207, { "x-huge": "x".repeat(100_000) }).end());
    await expect((await open(huge)).stat("x")).rejects.toMatchObject({ code: "unavailable" });
    const other = net.createServer((socket) => socket.end("220 FTP server ready\r\n")).listen(0, "127.0.0.1");
    await new Promise((resolve) => {
      other.once("listening", resolve);
    });
    toClose.push({ close: async () => void other.close() });
    const port = (other.address() as net.AddressInfo).port;
    await expect((await open({ port })).stat("x")).rejects.toMatchObject({ code: "unavailable" });
  });

  it("a kept connection that the server closes is replaced, also under a put", async () => {
    const server = await serve(keeping(3));
    const store = await open(server);
    for (let round = 0; round < 3; round++) {
      await expect(store.put("x", toBody("abc"))).resolves.toEqual({ size: 3 });
      server.server.closeIdleConnections();
    }
  });
});

describe("logins", () => {
  it("Digest is answered, and the password is never sent", async () => {
    const md5 = (text: string): string => createHash("md5").update(text).digest("hex");
    const server = await serve((request, response) => {
      const given = request.headers.authorization ?? "";
      const field = (name: string): string => new RegExp(`[ ,]${name}="?([^",]*)`, "u").exec(given)?.[1] ?? "";
      const secret = md5("me:the realm:my-secret-word");
      const wanted = md5(
        `${secret}:n1:${field("nc")}:${field("cnonce")}:auth:${md5(`${request.method ?? ""}:${request.url ?? ""}`)}`,
      );
      if (field("response") !== wanted) {
        response.writeHead(401, {
          "www-authenticate": 'Basic realm="b", Digest realm="the realm", nonce="n1", qop="auth"',
        });
        response.end();
      } else if (request.method === "PROPFIND") {
        const size = request.url?.includes(".tmp") ? 3 : "folder";
        response.writeHead(207).end(multistatus(entry(request.url ?? "", size)));
      } else response.writeHead(request.method === "OPTIONS" ? 200 : 201).end();
    });
    await (await open(server)).put("x", toBody("abc"));
    const sent = server.requests.map(({ headers }) => headers.authorization ?? "").filter((header) => header !== "");
    expect(sent.every((header) => header.startsWith("Digest "))).toBe(true);
    expect(sent.length).toBeGreaterThan(3);
    const counts = sent.map((header) => /nc=([0-9a-f]+)/u.exec(header)?.[1]);
    expect(new Set(counts).size).toBe(counts.length);
  });

  it("a password is sent only to a server that asks for it, and a wrong one is not tried for ever", async () => {
    const server = await serve((_request, response) => {
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
    });
    await expect((await open(server)).stat("x")).rejects.toMatchObject({ code: "denied", retryable: false });
    expect(server.requests.map(({ headers }) => headers.authorization !== undefined)).toEqual([false, true]);
  });
});

describe("TLS and proxies", () => {
  let authority: Authority;
  beforeAll(async () => {
    authority = await makeAuthority();
  });
  afterAll(() => authority.remove());

  const answer = (_request: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(207).end(multistatus(entry("/top/x", 3)));
  };

  async function secure(which: "right" | "otherHost" | "expired", query: string, more = env): Promise<Store> {
    const server = await httpServer(answer, authority[which]);
    toClose.push(server);
    const store = await openStore(`webdavs://127.0.0.1:${server.port}/top${query}`, { env: more });
    toClose.push(store);
    return store;
  }

  it("a certificate of the named authority is trusted; without its name, it is not", async () => {
    const ca = `?ca=${authority.caFile}`;
    await expect((await secure("right", ca)).stat("x")).resolves.toMatchObject({ size: 3 });
    for (const store of [await secure("right", ""), await secure("otherHost", ca), await secure("expired", ca)]) {
      await expect(store.stat("x")).rejects.toMatchObject({ code: "denied", retryable: false });
    }
  });

  it("a file without certificates is a configuration error", async () => {
    await expect(secure("right", "?ca=/nonexistent")).rejects.toMatchObject({ code: "config" });
    await expect(secure("right", `?ca=${import.meta.filename}`)).rejects.toMatchObject({ code: "config" });
  });

  it("https goes through the proxy of the environment, unless the host is exempt", async () => {
    const proxy = await serve((_request, response) => response.writeHead(500).end());
    proxy.server.on("connect", (request: IncomingMessage, socket: net.Socket) => {
      proxy.requests.push({ method: "CONNECT", url: request.url ?? "", headers: request.headers });
      if (request.headers["proxy-authorization"] !== `Basic ${Buffer.from("p:w").toString("base64")}`) {
        socket.end("HTTP/1.1 407 no\r\n\r\n");
        return;
      }
      const [host = "", port] = (request.url ?? "").split(":");
      const target = net.connect(Number(port), host, () => socket.write("HTTP/1.1 200 ok\r\n\r\n"));
      target.on("error", () => socket.destroy());
      socket.on("error", () => target.destroy());
      target.pipe(socket).pipe(target);
    });
    const ca = `?ca=${authority.caFile}`;
    const https_proxy = `http://p:w@127.0.0.1:${proxy.port}`;
    const store = await secure("right", ca, { ...env, https_proxy });
    await expect(store.stat("x")).resolves.toMatchObject({ size: 3 });
    expect(new Set(proxy.requests.map(({ method }) => method))).toEqual(new Set(["CONNECT"]));
    const before = proxy.requests.length;
    const wrong = await secure("right", ca, { ...env, https_proxy: https_proxy.replace(":w@", ":no@") });
    await expect(wrong.stat("x")).rejects.toMatchObject({ code: "denied" });
    const exempt = await secure("right", ca, { ...env, https_proxy, no_proxy: "example.org, 127.0.0.1" });
    await expect(exempt.stat("x")).resolves.toMatchObject({ size: 3 });
    expect(proxy.requests).toHaveLength(before + 1);
  });

  it("http goes through the proxy with the whole URL", async () => {
    const proxy = await serve(answer);
    const store = await open({ port: 1 }, "", { ...env, http_proxy: `127.0.0.1:${proxy.port}` });
    await expect(store.stat("x")).resolves.toMatchObject({ size: 3 });
    expect(proxy.requests[0]?.url).toBe("http://127.0.0.1:1/top/x");
  });
});
