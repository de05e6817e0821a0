/** Headers and trailers of objects through S3, as they come back, and many objects deleted by one request. */
import { request as httpRequest } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Store } from "../../src/contract/store.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

let gateways: TestGateways;
let at: string;
/** Puts of the first store, ledger and all, by the name of the object. */
let puts: string[] = [];

const watched = (store: Store, index: number): Store =>
  storeLike(store, {
    put: (name, ...rest) => {
      if (index === 0) puts.push(name);
      return store.put(name, ...rest);
    },
  });

beforeAll(async () => {
  gateways = await startTestGateways({
    protocols: ["s3", "webdav"],
    guarded: false,
    bucket: "bucket",
    wrap: watched,
  });
  at = `${gateways.url("s3")}/bucket`;
});
afterAll(() => gateways?.end());

/** A request with headers as bytes, which are given and come back as Latin-1. */
function ask(
  method: string,
  url: string,
  headers: Record<string, string> = {},
  body = "",
): Promise<{ status: number; headers: IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers: { ...headers, "content-length": Buffer.byteLength(body) } });
    request.on("error", reject);
    request.on("response", (response) => {
      response.resume().on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers }));
    });
    request.end(Buffer.from(body));
  });
}

const latin1 = (text: string): string => Buffer.from(text).toString("latin1");

describe("the content encoding of an object", () => {
  test.each([
    ["gzip", "gzip"],
    ["deflate, gzip", "deflate, gzip"],
    ["deflate,gzip", "deflate,gzip"],
    ["gzip, aws-chunked", "gzip"],
    ["aws-chunked, gzip", "gzip"],
    ["aws-chunked", undefined],
    ["aws-chunked, deflate, aws-chunked, gzip, aws-chunked", "deflate, gzip"],
  ])("is kept as it was given, but for aws-chunked: %s", async (given, kept) => {
    const headers = { "content-encoding": given, "x-amz-content-sha256": "UNSIGNED-PAYLOAD" };
    const body = given.includes("aws-chunked") ? "2\r\nok\r\n0\r\n\r\n" : "ok";
    const put = await ask("PUT", `${at}/encoded`, { ...headers, "x-amz-decoded-content-length": "2" }, body);
    expect(put.status).toBe(200);
    expect((await ask("HEAD", `${at}/encoded`)).headers["content-encoding"]).toBe(kept);
  });
});

describe("headers in any script", () => {
  const disposition = 'attachment; filename="отчёт 日本.txt"';

  test("are answered as the address asks for them", async () => {
    await gateways.pool.put("object", toBody("x"));
    const asked = `response-content-disposition=${encodeURIComponent(disposition)}`;
    const got = await ask("GET", `${at}/object?${asked}`);
    expect([got.status, got.headers["content-disposition"]]).toEqual([200, latin1(disposition)]);
  });

  test("with a control character are not taken from the address", async () => {
    expect((await ask("GET", `${at}/object?response-content-type=a%0d%0ax-evil:1`)).status).toBe(400);
  });

  test("are kept with an object, and given back by WebDAV too", async () => {
    const type = latin1('text/plain; name="отчёт"');
    // Node's client spoils a Content-Disposition in another script.
    const headers = { "x-amz-meta-title": latin1(disposition), "content-type": type };
    expect((await ask("PUT", `${at}/script`, headers, "x")).status).toBe(200);
    const got = await ask("GET", `${at}/script`);
    expect([got.headers["x-amz-meta-title"], got.headers["content-type"]]).toEqual([latin1(disposition), type]);
    const dav = await ask("GET", `${gateways.url("webdav")}/script`);
    expect([dav.status, dav.headers["content-type"]]).toEqual([200, type]);
  });

  test("that came by WebDAV are given back by S3", async () => {
    const type = latin1('text/plain; name="отчёт"');
    await ask("PUT", `${gateways.url("webdav")}/from-webdav`, { "content-type": type }, "x");
    expect((await ask("HEAD", `${at}/from-webdav`)).headers["content-type"]).toBe(type);
  });
});

describe("a trailer", () => {
  const sum = (text: string): string => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(crc32(text));
    return bytes.toString("base64");
  };
  const put = (trailer: string, announced?: string): Promise<{ status: number }> =>
    ask(
      "PUT",
      `${at}/trailer`,
      {
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "2",
        ...(announced === undefined ? {} : { "x-amz-trailer": announced }),
      },
      `2\r\nok\r\n0\r\n${trailer}\r\n\r\n`,
    );

  test("with the right checksum is taken where it was announced", async () => {
    expect((await put(`x-amz-checksum-crc32:${sum("ok")}`, "x-amz-checksum-crc32")).status).toBe(200);
  });

  test.each([
    ["a wrong checksum", `x-amz-checksum-crc32:${sum("no")}`, "x-amz-checksum-crc32"],
    ["a wrong checksum that was not announced", `x-amz-checksum-crc32:${sum("no")}`, undefined],
    ["a right checksum that was not announced", `x-amz-checksum-crc32:${sum("ok")}`, undefined],
    ["another checksum than was announced", `x-amz-checksum-crc32:${sum("ok")}`, "x-amz-checksum-sha256"],
    ["what is no checksum", "x-amz-meta-a:b", undefined],
  ])("with %s stores nothing", async (_, trailer, announced) => {
    await gateways.pool.delete("trailer");
    expect((await put(trailer, announced)).status).toBe(400);
    await expect(gateways.pool.stat("trailer")).rejects.toMatchObject({ code: "not-found" });
  });
});

test("many objects deleted by one request take few writes of the ledger", async () => {
  const keys = Array.from({ length: 128 }, (_, index) => `many/${index}`);
  await Promise.all(keys.map((key) => gateways.pool.put(key, toBody(key))));
  puts = [];
  const list = keys.map((key) => `<Object><Key>${key}</Key></Object>`).join("");
  const answer = await fetch(`${at}?delete`, { method: "POST", body: `<Delete>${list}</Delete>` });
  expect((await answer.text()).match(/<Deleted>/gu)).toHaveLength(128);
  expect(puts.length).toBeLessThan(16);
  for (const key of keys) await expect(gateways.pool.stat(key)).rejects.toMatchObject({ code: "not-found" });
});
