/** Requests that are signed wrongly, in a thousand ways: none may be let in, none may bring the gateway down. */
import { createHash, createHmac } from "node:crypto";
import { request as httpRequest } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";

let gateways: TestGateways;
let host: string;
/** Added to the gateway's clock, in milliseconds. */
let skewMs = 0;

beforeAll(async () => {
  gateways = await startTestGateways({
    protocols: ["s3"],
    bucket: "bucket",
    runtime: { ...systemRuntime, now: () => Date.now() + skewMs },
  });
  host = gateways.url("s3").replace("http://", "");
  await gateways.pool.put("object", toBody("the object"));
});

afterAll(() => gateways?.end());

interface Raw {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Sends a request exactly as it is. Resolves with its status; 0 where the connection was cut. */
function sendRaw(raw: Raw): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const [name, port] = host.split(":");
    const headers = { ...raw.headers, "content-length": String(Buffer.byteLength(raw.body)) };
    let request;
    try {
      request = httpRequest({ host: name, port, method: raw.method, path: raw.path, headers, agent: false });
    } catch {
      // Node itself does not send it.
      resolve({ status: 0, text: "" });
      return;
    }
    request.on("error", () => resolve({ status: 0, text: "" }));
    request.on("response", (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("error", () => resolve({ status: 0, text: "" }));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    // Beside a string node would send the headers as UTF-8 of their characters, not as the bytes that they are.
    request.end(Buffer.from(raw.body));
  });
}

const key = (secret: string, date: string): Buffer =>
  ["us-east-1", "s3", "aws4_request"].reduce(
    (key, part) => createHmac("sha256", key).update(part).digest(),
    createHmac("sha256", `AWS4${secret}`).update(date).digest(),
  );

const stamp = (date: Date): string => `${date.toISOString().slice(0, 19).replace(/[-:]/gu, "")}Z`;
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/gu, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);

/** Signature of a request by the rules of AWS's documentation, written apart from the gateway's. */
function signature(
  method: string,
  path: string,
  query: string,
  headers: Record<string, string>,
  payload: string,
  timestamp: string,
): string {
  const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const names = Object.keys(headers).sort();
  const canonical = [
    method,
    path,
    query,
    ...names.map((name) => `${name}:${headers[name]}`),
    "",
    names.join(";"),
    payload,
  ];
  const text = ["AWS4-HMAC-SHA256", timestamp, scope, sha256(canonical.join("\n"))].join("\n");
  return createHmac("sha256", key(credential.password, timestamp.slice(0, 8)))
    .update(text)
    .digest("hex");
}

const sortedQuery = (query: Record<string, string>): string =>
  Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join("&");

/** A request signed in its Authorization header. */
async function signed(method: string, path: string, body: string, date = new Date(Date.now() + skewMs)): Promise<Raw> {
  const [bare = "", rawQuery = ""] = path.split("?");
  const timestamp = stamp(date);
  const headers: Record<string, string> = {
    host,
    "x-amz-content-sha256": sha256(body),
    "x-amz-date": timestamp,
    "x-amz-meta-note": "signed",
  };
  const query = sortedQuery(Object.fromEntries(new URLSearchParams(rawQuery)));
  const canonicalPath = bare
    .split("/")
    .map((part) => encode(decodeURIComponent(part)))
    .join("/");
  const given = signature(method, canonicalPath, query, headers, sha256(body), timestamp);
  const names = Object.keys(headers).sort().join(";");
  const authorization = `AWS4-HMAC-SHA256 Credential=${credential.user}/${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request, SignedHeaders=${names}, Signature=${given}`;
  return { method, path, headers: { ...headers, authorization }, body };
}

/** The same numbers each time, from a seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe("signed requests", () => {
  test("that are right are let in", async () => {
    expect(await sendRaw(await signed("GET", "/bucket/object", ""))).toEqual({ status: 200, text: "the object" });
    const put = await signed("PUT", "/bucket/put%20%2B%26%C3%A9~(x)", "content");
    expect((await sendRaw(put)).status).toBe(200);
    expect((await sendRaw(await signed("GET", "/bucket?list-type=2&prefix=pu", ""))).text).toContain("put +&amp;é~(x)");
  });

  test("that were changed in any way are not let in, a thousand times", async () => {
    const random = generator(20_261_123);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
    const flip = (text: string): string => {
      if (text === "") return "x";
      const at = Math.floor(random() * text.length);
      const other = pick("abcdef0123456789ABCXYZ/=;,".split("").filter((character) => character !== text[at]));
      return text.slice(0, at) + other + text.slice(at + 1);
    };
    const mutations: ((raw: Raw) => void)[] = [
      (raw) => (raw.method = pick(["GET", "PUT", "DELETE", "POST", "HEAD"].filter((one) => one !== raw.method))),
      (raw) => (raw.path = raw.path.replace(/[^/]+$/u, (last) => flip(last.replaceAll("%", "")))),
      (raw) => (raw.path += `${raw.path.includes("?") ? "&" : "?"}${pick(["acl", "uploads", "delete", "versionId=null", "x-id=1"])}`),
      (raw) => (raw.body = raw.body === "" ? "added" : flip(raw.body)),
      (raw) => (raw.headers["x-amz-meta-note"] = flip(raw.headers["x-amz-meta-note"] ?? "")),
      (raw) => (raw.headers["x-amz-meta-more"] = "not signed"),
      (raw) => (raw.headers["x-amz-copy-source"] = "/bucket/object"),
      (raw) => delete raw.headers["x-amz-meta-note"],
      (raw) => delete raw.headers["authorization"],
      (raw) => delete raw.headers["x-amz-date"],
      (raw) => delete raw.headers["x-amz-content-sha256"],
      (raw) => (raw.headers["x-amz-content-sha256"] = pick(["UNSIGNED-PAYLOAD", sha256("other"), "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])),
      (raw) => (raw.headers["x-amz-date"] = flip(raw.headers["x-amz-date"] ?? "")),
      (raw) => (raw.headers["host"] = pick(["evil.example", "127.0.0.1", `${host}0`])),
      (raw) => (raw.headers["authorization"] = flip(raw.headers["authorization"] ?? "")),
      (raw) => (raw.headers["authorization"] = (raw.headers["authorization"] ?? "").replace(/Signature=\w+/u, () => `Signature=${pick(["", "0".repeat(64), "f".repeat(63), "é", sha256(String(random()))])}`)),
      (raw) => (raw.headers["authorization"] = (raw.headers["authorization"] ?? "").replace(/Credential=[^/]+/u, () => `Credential=${pick(["", "root", "__proto__", "constructor", credential.user.slice(1)])}`)),
      (raw) => (raw.headers["authorization"] = (raw.headers["authorization"] ?? "").replace("x-amz-date;", "")),
      (raw) => (raw.headers["authorization"] = (raw.headers["authorization"] ?? "").replace("host;", "")),
      (raw) => (raw.headers["authorization"] = (raw.headers["authorization"] ?? "").replace("/s3/", pick(["/sts/", "/S3/", "//"]))),
      (raw) => (raw.headers["authorization"] = pick(["AWS test-key:c2ln", "AWS4-HMAC-SHA256", `Basic ${btoa(`${credential.user}:${credential.password}`)}`, "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature="])),
    ]; // prettier-ignore
    const bodies = ["", "content of a put"];
    let refused = 0;
    const one = async (index: number): Promise<void> => {
      const write = index % 2 === 0;
      const raw = write
        ? await signed("PUT", "/bucket/victim", bodies[1] ?? "")
        : await signed("GET", "/bucket/object?response-content-type=a%2Fb", "");
      const before = JSON.stringify(raw);
      const mutate = mutations[index % mutations.length];
      mutate?.(raw);
      if (JSON.stringify(raw) === before) return;
      const { status, text } = await sendRaw(raw);
      if (status !== 0 && (status < 400 || status >= 500)) throw new Error(`${status}: ${JSON.stringify(raw)} ${text}`);
      refused++;
    };
    for (let index = 0; index < 1050; index += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, more) => one(index + more)));
    }
    expect(refused).toBeGreaterThanOrEqual(1000);
    await expect(gateways.pool.stat("victim")).rejects.toMatchObject({ code: "not-found" });
    expect((await sendRaw(await signed("GET", "/bucket/object", ""))).text).toBe("the object");
  });

  test("that are too old or too new are refused", async () => {
    for (const minutes of [-16, 16]) {
      const raw = await signed("GET", "/bucket/object", "", new Date(Date.now() + minutes * 60_000));
      expect(await sendRaw(raw)).toMatchObject({ status: 403, text: expect.stringContaining("RequestTimeTooSkewed") });
    }
    for (const minutes of [-14, 14]) {
      const raw = await signed("GET", "/bucket/object", "", new Date(Date.now() + minutes * 60_000));
      expect((await sendRaw(raw)).status).toBe(200);
    }
  });

  test("that write are not taken again later", async () => {
    const raw = await signed("PUT", "/bucket/replayed", "first");
    expect((await sendRaw(raw)).status).toBe(200);
    // A client that lost the answer repeats the request at once.
    expect((await sendRaw(raw)).status).toBe(200);
    expect((await sendRaw(await signed("PUT", "/bucket/replayed", "second"))).status).toBe(200);
    skewMs = 60_000;
    try {
      expect(await sendRaw(raw)).toMatchObject({ status: 403, text: expect.stringContaining("made before") });
      expect((await sendRaw(await signed("GET", "/bucket/replayed", ""))).text).toBe("second");
    } finally {
      skewMs = 0;
    }
  });
});

describe("signed headers that are no ASCII", () => {
  /** A PUT with a header whose bytes are given, and whose signature is over `signedValue` as UTF-8. */
  const put = async (bytes: Buffer, signedBytes: Buffer): Promise<{ status: number; text: string }> => {
    const timestamp = stamp(new Date(Date.now() + skewMs));
    const headers: Record<string, string> = {
      host,
      "x-amz-content-sha256": sha256("letters"),
      "x-amz-date": timestamp,
      "x-amz-meta-word": "\0",
    };
    const names = Object.keys(headers).sort();
    const lines = [
      "PUT",
      "/bucket/letters",
      "",
      ...names.map((name) => `${name}:${headers[name]}`),
      "",
      names.join(";"),
    ];
    const [before = "", after = ""] = [...lines, sha256("letters")].join("\n").split("\0");
    const canonical = Buffer.concat([Buffer.from(before), signedBytes, Buffer.from(after)]);
    const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
    const digest = createHash("sha256").update(canonical).digest("hex");
    const given = createHmac("sha256", key(credential.password, timestamp.slice(0, 8)))
      .update(["AWS4-HMAC-SHA256", timestamp, scope, digest].join("\n"))
      .digest("hex");
    const authorization = `AWS4-HMAC-SHA256 Credential=${credential.user}/${scope}, SignedHeaders=${names.join(";")}, Signature=${given}`;
    return sendRaw({
      method: "PUT",
      path: "/bucket/letters",
      headers: { ...headers, "x-amz-meta-word": bytes.toString("latin1"), authorization },
      body: "letters",
    });
  };
  const kept = async (): Promise<string> => {
    const raw = await signed("HEAD", "/bucket/letters", "");
    return new Promise((resolve, reject) => {
      const [name, port] = host.split(":");
      httpRequest({ host: name, port, method: "HEAD", path: raw.path, headers: raw.headers, agent: false })
        .on("response", (response) => {
          response.resume();
          resolve(String(response.headers["x-amz-meta-word"]));
        })
        .on("error", reject)
        .end();
    });
  };

  test.each(["grün", "日本語", "à", "à b", "🎉"])(
    "are taken as the bytes that were sent, and come back so: %s",
    async (word) => {
      const bytes = Buffer.from(word);
      expect((await put(bytes, bytes)).status).toBe(200);
      expect(Buffer.from(await kept(), "latin1").toString()).toBe(word);
    },
  );

  test("are taken as Latin-1 of a text that was signed as UTF-8, as ceph's s3-tests send it, and come back so", async () => {
    const bytes = Buffer.from("Hello World\u00e9", "latin1");
    expect((await put(bytes, Buffer.from("Hello World\u00e9"))).status).toBe(200);
    expect(await kept()).toBe("Hello World\u00e9");
  });

  test("are refused where another letter was signed", async () => {
    expect((await put(Buffer.from("grün"), Buffer.from("grån"))).status).toBe(403);
    expect((await put(Buffer.from("à"), Buffer.from("\u00c3"))).status).toBe(403);
  });
});

describe("requests of ceph's s3-tests that are signed wrongly", () => {
  const denied = ["AccessDenied"];
  const late = ["RequestTimeTooSkewed", "SignatureDoesNotMatch"];
  const undated = ["AccessDenied", "SignatureDoesNotMatch"];
  const someone =
    "AWS4-HMAC-SHA256 Credential=AKIAIGR7ZNNBHC5BKSUB/20150930/us-east-1/s3/aws4_request,SignedHeaders=host;user-agent,Signature=FWeDfwojDSdS2Ztmpfeubhd9isU=";

  test.each<[string, Record<string, string | undefined>, number, readonly string[]]>([
    ["an empty Authorization", { authorization: "" }, 403, denied],
    ["no Authorization", { authorization: undefined }, 403, denied],
    ["a part of one", { authorization: "AWS4-HMAC-SHA256 Credential=HAHAHA" }, 400, ["AuthorizationHeaderMalformed"]],
    ["no kind of one", { authorization: "AWS4 HAHAHA" }, 400, ["InvalidArgument"]],
    ["somebody's", { authorization: someone }, 403, ["InvalidAccessKeyId", ...undated]],
    ["no date in x-amz-date", { "x-amz-date": "Bad Date" }, 403, undated],
    ["an empty x-amz-date", { "x-amz-date": "" }, 403, undated],
    ["no x-amz-date", { "x-amz-date": undefined }, 403, undated],
    ["a date long ago", { "x-amz-date": "20100707T215304Z" }, 403, late],
    ["a date long to come", { "x-amz-date": "21300707T215304Z" }, 403, late],
    ["a date before 1970", { "x-amz-date": "19500707T215304Z" }, 403, undated],
    ["the last year that has four digits", { "x-amz-date": "99990707T215304Z" }, 403, late],
    ["another signed header", { "x-amz-meta-note": "" }, 403, ["SignatureDoesNotMatch"]],
    ["a signed header missing", { "x-amz-meta-note": undefined }, 403, ["SignatureDoesNotMatch"]],
  ])("such as with %s are refused as they ask for it", async (_, changes, status, codes) => {
    for (const path of ["/bucket/wrong", "/wrong-bucket"]) {
      const raw = await signed("PUT", path, "bar");
      for (const [name, value] of Object.entries(changes)) {
        if (value === undefined) delete raw.headers[name];
        else raw.headers[name] = value;
      }
      const answer = await sendRaw(raw);
      expect(answer.status).toBe(status);
      expect(codes).toContain(/<Code>(\w+)</u.exec(answer.text)?.[1]);
    }
  });
});

describe("requests signed by other methods", () => {
  test.each([
    ["/bucket/object", "AWS test-key:c2lnbmF0dXJl"],
    ["/bucket/object", "AWS4-ECDSA-P256-SHA256 Credential=a, SignedHeaders=host, Signature=b"],
    ["/bucket/object?AWSAccessKeyId=test-key&Signature=c2ln&Expires=1999999999", undefined],
    ["/bucket/object?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Signature=c2ln", undefined],
  ])("such as %s with %s are told which one is taken", async (path, authorization) => {
    const headers: Record<string, string> = authorization === undefined ? { host } : { host, authorization };
    const { status, text } = await sendRaw({ method: "GET", path, headers, body: "" });
    expect([status, text]).toEqual([400, expect.stringContaining("Signature Version 4")]);
  });
});

describe("presigned addresses", () => {
  const presigned = (expiresIn: number, path = "/bucket/object", method = "GET"): string => {
    const timestamp = stamp(new Date());
    const query = sortedQuery({
      "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
      "X-Amz-Credential": `${credential.user}/${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`,
      "X-Amz-Date": timestamp,
      "X-Amz-Expires": String(expiresIn),
      "X-Amz-SignedHeaders": "host",
    });
    const given = signature(method, path, query, { host }, "UNSIGNED-PAYLOAD", timestamp);
    return `http://${host}${path}?${query}&X-Amz-Signature=${given}`;
  };

  test("open until they expire, for what they were made for", async () => {
    const url = presigned(60);
    expect(await (await fetch(url)).text()).toBe("the object");
    expect((await fetch(url, { method: "DELETE" })).status).toBe(403);
    expect((await fetch(url.replace("object", "other"))).status).toBe(403);
    expect((await fetch(url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"))).status).toBe(403);
    expect((await fetch(`${url}&X-Amz-Expires=6000`)).status).toBe(400);
    expect((await fetch(`${url}&response-content-type=text/html`)).status).toBe(403);
    expect((await fetch(url, { headers: { "x-amz-meta-a": "b" } })).status).toBe(403);
    skewMs = 61_000;
    try {
      expect((await fetch(url)).status).toBe(403);
    } finally {
      skewMs = 0;
    }
  });

  test("live seven days at most", async () => {
    const url = presigned(604_801);
    expect((await fetch(url)).status).toBe(400);
  });
});

describe("bodies in signed chunks", () => {
  const chunked = async (spoil: (parts: string[]) => string[]): Promise<{ status: number; text: string }> => {
    const now = new Date();
    const timestamp = `${now.toISOString().slice(0, 19).replace(/[-:]/gu, "")}Z`;
    const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
    const data = ["a".repeat(8192), "b".repeat(8192), "c".repeat(100), ""];
    const secret = key(credential.password, timestamp.slice(0, 8));
    const hmac = (text: string): string => createHmac("sha256", secret).update(text).digest("hex");
    const headers: Record<string, string> = {
      host,
      "content-encoding": "aws-chunked",
      "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
      "x-amz-date": timestamp,
      "x-amz-decoded-content-length": String(data.join("").length),
    };
    const names = Object.keys(headers).sort();
    let last = signature("PUT", "/bucket/chunked", "", headers, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", timestamp);
    headers["authorization"] =
      `AWS4-HMAC-SHA256 Credential=${credential.user}/${scope}, SignedHeaders=${names.join(";")}, Signature=${last}`;
    const parts = data.map((chunk) => {
      last = hmac(["AWS4-HMAC-SHA256-PAYLOAD", timestamp, scope, last, sha256(""), sha256(chunk)].join("\n"));
      return `${chunk.length.toString(16)};chunk-signature=${last}\r\n${chunk}\r\n`;
    });
    return sendRaw({ method: "PUT", path: "/bucket/chunked", headers, body: spoil(parts).join("") });
  };

  test.each<[string, (parts: string[]) => string[]]>([
    ["a letter changed", (parts) => parts.map((part) => part.replace("bb", "bx"))],
    ["chunks in another order", ([a = "", b = "", ...rest]) => [b, a, ...rest]],
    ["the last chunk missing", (parts) => parts.slice(0, -1)],
    ["a chunk missing", ([a = "", , ...rest]) => [a, ...rest]],
    ["a chunk twice", ([a = "", ...rest]) => [a, a, ...rest]],
    ["bytes behind the end", (parts) => [...parts, "more"]],
    ["no signatures", (parts) => parts.map((part) => part.replace(/;chunk-signature=\w+/u, ""))],
    ["an endless line", () => ["1".repeat(100_000)]],
    ["a size that is no number", ([a = "", ...rest]) => [a.replace(/^\w+/u, "zz"), ...rest]],
    ["nothing", () => []],
  ])("with %s store nothing", async (_, spoil) => {
    const { status } = await chunked(spoil);
    expect(status === 0 || (status >= 400 && status < 500)).toBe(true);
    await expect(gateways.pool.stat("chunked")).rejects.toMatchObject({ code: "not-found" });
  });

  test("that are right are stored", async () => {
    expect((await chunked((parts) => parts)).status).toBe(200);
    expect((await gateways.pool.stat("chunked")).size).toBe(16_484);
  });
});
