import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { S3Store } from "../../src/stores/s3/s3.ts";
import { GcsStore, gcsKind, parseGcsUrl } from "../../src/stores/gcs.ts";
import type { GcsStoreOptions } from "../../src/stores/gcs.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";

const emulator = await startServer("gcs-firebase");
const KIB = 1024;

function contextOf(text: string, env: Record<string, string>) {
  const url = parseStoreUrl(text);
  return { url, context: { label: url.redacted, env, runtime: systemRuntime, logger: silentLogger } };
}

function openGcs(text: string, env: Record<string, string>, options: GcsStoreOptions = {}): GcsStore {
  const { url, context } = contextOf(text, env);
  return new GcsStore(url, context, async () => ({ authorization: "Bearer test-token" }), options);
}

describe("URLs of Google Cloud Storage", () => {
  const read = (text: string, env: Record<string, string> = {}) => parseGcsUrl(parseStoreUrl(text), env);

  test.each([
    ["gs://bucket", {}, { bucket: "bucket", prefix: "", origin: "https://storage.googleapis.com", anonymous: false }],
    ["gs://my.bucket/a//b", {}, { bucket: "my.bucket", prefix: "a/b/" }],
    ["gs://bucket", { STORAGE_EMULATOR_HOST: "h:1" }, { origin: "http://h:1", anonymous: true }],
    ["gs://bucket?endpoint=https://h:1", {}, { origin: "https://h:1", anonymous: false }],
    ["gs://bucket?storage-class=COLDLINE", {}, { storageClass: "COLDLINE" }],
  ])("%s", (text, env, expected) => {
    expect(read(text, env as Record<string, string>)).toMatchObject(expected);
  });

  test.each([
    ["gs://", /names no bucket/u],
    ["gs://B", /names no bucket/u],
    ["gs://key@bucket", /names a bucket only/u],
    ["gs://bucket?region=x", /unknown parameter "region"/u],
    ["gs://bucket?endpoint=h", /http:\/\/ or https:\/\//u],
  ])("%s is refused", (text, message) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: "config", message: expect.stringMatching(message) }),
    );
  });

  it("opens through the S3-compatible API with duplicity's HMAC keys", async () => {
    const keys = { GS_ACCESS_KEY_ID: "id", GS_SECRET_ACCESS_KEY: "hmac-secret" };
    const { url, context } = contextOf("gs://my.bucket/a b", keys);
    const store = await gcsKind.open(url, context);
    expect(store).toBeInstanceOf(S3Store);
    await store.close();
  });
});

describe.runIf(emulator.running)("gcs on the emulator", onServer, () => {
  reportStore("gcs", emulator);
  const env = { STORAGE_EMULATOR_HOST: emulator.running ? `127.0.0.1:${emulator.port}` : "" };
  const bucket = uniqueName();

  describeConformance("gcs on the emulator", {
    open: async () => openGcs(`gs://${bucket}/some/prefix`, env, { pageNames: 50 }),
    listCount: 130,
  });

  it("gives the MD5 of an object", async () => {
    const store = openGcs(`gs://${bucket}`, env);
    await store.put("one", toBody("hello"));
    const md5 = createHash("md5").update("hello").digest("hex");
    await expect(store.stat("one")).resolves.toMatchObject({ size: 5, digests: { md5 } });
    await store.close();
  });
});

/**
 * The emulator takes an upload in one piece only, so the protocol of pieces is spoken with a server that follows Google's
 * description of it (cloud.google.com/storage/docs/performing-resumable-uploads) and misbehaves where a test says so.
 */
describe("resumable uploads to Google Cloud Storage", () => {
  let bytes = Buffer.alloc(0);
  let stored: Buffer | undefined;
  let asked: string[] = [];
  /** Called for each request with bytes: may answer it wrongly, and then gives true. */
  let meddle: (range: string, response: ServerResponse) => boolean = () => false;
  let location = "";

  const read = async (request: IncomingMessage): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const server = createServer((request, response) => {
    void (async () => {
      const content = await read(request);
      const range = request.headers["content-range"] ?? "";
      asked.push(`${request.method} ${range}`.trim());
      if (request.method === "POST") {
        bytes = Buffer.alloc(0);
        response.writeHead(200, { location }).end();
        return;
      }
      if (request.method === "DELETE") {
        bytes = Buffer.alloc(0);
        response.writeHead(499).end();
        return;
      }
      const match = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/u.exec(range);
      if (match?.[1] !== undefined && bytes.length === Number(match[1])) bytes = Buffer.concat([bytes, content]);
      if (meddle(range, response)) return;
      if (match && Number(match[3]) === bytes.length) {
        stored = bytes;
        const md5Hash = createHash("md5").update(bytes).digest("base64");
        response.writeHead(200).end(JSON.stringify({ name: "n", size: String(bytes.length), md5Hash }));
      } else {
        response.writeHead(308, bytes.length === 0 ? {} : { range: `bytes=0-${bytes.length - 1}` }).end();
      }
    })();
  });
  let endpoint = "";

  beforeAll(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => void server.close());

  const open = (): GcsStore => {
    asked = [];
    stored = undefined;
    meddle = () => false;
    location = `${endpoint}/upload/session?upload_id=secret-upload`;
    return openGcs(`gs://bucket?endpoint=${endpoint}`, {}, { partBytes: 256 * KIB });
  };
  const content = randomBytes(600 * KIB);
  const source = async function* (end: () => void = () => undefined): AsyncGenerator<Uint8Array> {
    yield content;
    end();
  };

  it("sends pieces one after the other, and the size with the last", async () => {
    const store = open();
    await expect(store.put("n", toBody(source()))).resolves.toEqual({ size: 600 * KIB });
    expect(stored?.equals(content)).toBe(true);
    expect(asked).toEqual([
      "POST",
      `PUT bytes 0-${256 * KIB - 1}/*`,
      `PUT bytes ${256 * KIB}-${512 * KIB - 1}/*`,
      `PUT bytes ${512 * KIB}-${600 * KIB - 1}/${600 * KIB}`,
    ]);
    await store.close();
  });

  it("goes on where the service stopped, when an answer is lost and when only a beginning is kept", async () => {
    const store = open();
    let lost = 0;
    meddle = (range, response) => {
      if (range.startsWith(`bytes ${256 * KIB}-`) && lost++ === 0) {
        response.destroy();
        return true;
      }
      if (range.startsWith(`bytes ${512 * KIB}-`) && lost++ === 1) {
        bytes = bytes.subarray(0, 520 * KIB);
        response.writeHead(308, { range: `bytes=0-${520 * KIB - 1}` }).end();
        return true;
      }
      return false;
    };
    await store.put("n", toBody(source()));
    expect(stored?.equals(content)).toBe(true);
    expect(asked).toContain("PUT bytes */*");
    expect(asked).toContain(`PUT bytes ${520 * KIB}-${600 * KIB - 1}/${600 * KIB}`);
    await store.close();
  });

  it("cancels what fails, is aborted, or comes to another size", async () => {
    const store = open();
    const broken = source(() => {
      throw new Error("the source broke");
    });
    await expect(store.put("n", toBody(broken))).rejects.toMatchObject({ code: "invalid" });
    expect(asked.at(-1)).toBe("DELETE");
    const controller = new AbortController();
    const aborted = source(() => controller.abort());
    await expect(store.put("n", toBody(aborted), { signal: controller.signal })).rejects.toMatchObject({
      code: "aborted",
    });
    expect(asked.at(-1)).toBe("DELETE");
    await expect(store.put("n", toBody(source(), { size: 601 * KIB }))).rejects.toMatchObject({ code: "invalid" });
    expect(asked.at(-1)).toBe("DELETE");
    expect(stored).toBeUndefined();
    await store.close();
  });

  it("never follows an upload to another place", async () => {
    const store = open();
    location = "http://localhost:1/elsewhere?upload_id=x";
    await expect(store.put("n", toBody(source()))).rejects.toMatchObject({ code: "unavailable", retryable: false });
    expect(asked).toEqual(["POST"]);
    await store.close();
  });

  it("refuses other bytes than were sent", async () => {
    const store = open();
    meddle = (range) => {
      if (range.endsWith(`/${600 * KIB}`))
        bytes = Buffer.concat([Buffer.from([(bytes[0] ?? 0) ^ 1]), bytes.subarray(1)]);
      return false;
    };
    await expect(store.put("n", toBody(source()))).rejects.toMatchObject({ code: "corrupt" });
    await store.close();
  });

  it("reads nothing of an object that is not there, and says what it was told", async () => {
    const store = open();
    meddle = (_, response) => {
      response.writeHead(503, { "retry-after": "3" }).end('{"error":{"message":"Backend Error"}}');
      return true;
    };
    const failure = { code: "unavailable", retryAfterMs: 3000, message: expect.stringContaining("Backend Error") };
    await expect(store.stat("n")).rejects.toMatchObject(failure);
    await expect(store.get("n").then(({ body }) => collect(body))).rejects.toMatchObject(failure);
    await store.close();
  });
});
