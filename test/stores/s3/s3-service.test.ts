/** The S3 store's own requests: where they go, how they are signed, and which are never sent twice. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, it, test } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { silentLogger } from "../../../src/contract/log.ts";
import type { Runtime } from "../../../src/contract/runtime.ts";
import { systemRuntime } from "../../../src/contract/runtime.ts";
import { canonicalQuery, canonicalText, sign, signingKey, stringToSign } from "../../../src/support/signature-v4.ts";
import { parseStoreUrl } from "../../../src/contract/store-url.ts";
import { parseS3Url } from "../../../src/stores/s3/s3-settings.ts";
import { S3Store } from "../../../src/stores/s3/s3.ts";
import { S3Service, placeOf } from "../../../src/stores/s3/s3-service.ts";
import { makeCertificates, startHttpFaults } from "../../fault-proxy/index.ts";
import type { Answer, HttpFaultProxy, SeenRequest } from "../../fault-proxy/index.ts";

const keys = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "testtest", AWS_REGION: "us-east-1" };
const xml = { "content-type": "application/xml" };
const closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function service(): Promise<HttpFaultProxy> {
  const proxy = await startHttpFaults();
  closing.push(() => proxy.close());
  return proxy;
}

function open(url: string, env: Record<string, string> = {}, runtime: Runtime = systemRuntime): S3Store {
  const parsed = parseStoreUrl(url);
  const store = new S3Store(parsed, {
    label: parsed.redacted,
    env: { ...keys, ...env },
    runtime,
    logger: silentLogger,
  });
  closing.push(() => store.close());
  return store;
}

describe("Signature Version 4", () => {
  // The first example of AWS's "Signature Calculations for the Authorization Header".
  it("is what AWS says it is", () => {
    const canonical = canonicalText({
      method: "GET",
      path: "/test.txt",
      query: "",
      headers: [
        ["host", "examplebucket.s3.amazonaws.com"],
        ["range", "bytes=0-9"],
        ["x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        ["x-amz-date", "20130524T000000Z"],
      ],
      payload: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    });
    const key = signingKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1");
    expect(sign(key, stringToSign("20130524T000000Z", "20130524/us-east-1/s3/aws4_request", canonical))).toBe(
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
  });

  it("sorts a query by its encoded names and values", () => {
    const query = [
      ["prefix", "a b/ä"],
      ["list-type", "2"],
      ["a", "2"],
      ["a", "1"],
      ["A", ""],
    ] as const;
    expect(canonicalQuery(query)).toBe("A=&a=1&a=2&list-type=2&prefix=a%20b%2F%C3%A4");
  });
});

describe("the place of a bucket", () => {
  const at = (url: string, region: string, env: Record<string, string> = {}): string => {
    const { origin, path: root } = placeOf(parseS3Url(parseStoreUrl(url), env), region, env);
    return origin + root;
  };
  test.each([
    ["s3://bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/"],
    ["s3://bucket", "aws-global", "https://bucket.s3.amazonaws.com/"],
    ["s3://bucket", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/"],
    ["s3://bucket", "us-gov-west-1", "https://bucket.s3.us-gov-west-1.amazonaws.com/"],
    ["s3://bucket?style=path", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/bucket/"],
    ["s3:///my.bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.bucket/"],
    ["s3://Bucket_1", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/Bucket_1/"],
    ["s3://b--use1-az4--x-s3", "us-east-1", "https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/"],
    ["s3://h.example:9000/bucket?tls=off", "x", "http://h.example:9000/bucket/"],
    ["s3://bucket?endpoint=https://h.example&style=virtual", "x", "https://bucket.h.example/"],
    ["s3://bucket?endpoint=https://h.example/s3/&style=virtual", "x", "https://bucket.h.example/s3/"],
    ["s3://bucket?endpoint=http://127.0.0.1:9&style=virtual", "x", "http://127.0.0.1:9/bucket/"],
    ["s3://bucket?endpoint=http://[::1]:9&style=virtual", "x", "http://[::1]:9/bucket/"],
  ])("%s in %s is %s", (url, region, place) => {
    expect(at(url, region)).toBe(place);
  });

  it("is AWS's place for FIPS and for both versions of IP where the environment wants them", () => {
    const env = { AWS_USE_FIPS_ENDPOINT: "true", AWS_USE_DUALSTACK_ENDPOINT: "true" };
    expect(at("s3://bucket", "us-east-1", env)).toBe("https://bucket.s3-fips.dualstack.us-east-1.amazonaws.com/");
  });

  it("is in the region of the profile", async () => {
    const proxy = await service();
    proxy.add({ fault: { kind: "respond", status: 200, headers: { etag: '"x"' } } });
    const folder = await mkdtemp(path.join(tmpdir(), "holdfast-aws-"));
    closing.push(() => rm(folder, { recursive: true }));
    const file = path.join(folder, "config");
    await writeFile(file, "[default]\nregion = eu-north-1\n[profile other]\nregion = sa-east-1\n");
    const own = { AWS_CONFIG_FILE: file, AWS_REGION: "" };
    await open(`s3://bucket?endpoint=${proxy.url}`, own).put("a", toBody("x"));
    await open(`s3://bucket?endpoint=${proxy.url}`, { ...own, AWS_PROFILE: "other", ...keys, AWS_REGION: "" }).put(
      "a",
      toBody("x"),
    );
    const scopes = proxy.requests.map(
      ({ headers }) => /\/([a-z0-9-]+)\/s3\/aws4_request/u.exec(headers.authorization ?? "")?.[1],
    );
    expect(scopes).toEqual(["eu-north-1", "sa-east-1"]);
  });
});

describe("what cannot work", () => {
  it("names the variables where there are no keys", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "holdfast-no-keys-"));
    closing.push(() => rm(folder, { recursive: true }));
    const none = { AWS_CONFIG_FILE: path.join(folder, "c"), AWS_SHARED_CREDENTIALS_FILE: path.join(folder, "s") };
    const store = new S3Store(parseStoreUrl("s3://bucket?endpoint=http://127.0.0.1:1&profile=nobody"), {
      label: "s3",
      env: none,
      runtime: systemRuntime,
      logger: silentLogger,
    });
    closing.push(() => store.close());
    await expect(store.stat("a")).rejects.toMatchObject({
      code: "denied",
      message: expect.stringMatching(
        /for the profile nobody: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/u,
      ) as string,
    });
  });

  it("says that a server of plain HTTP speaks no TLS", async () => {
    const proxy = await service();
    const url = proxy.url.replace("http:", "https:");
    await expect(open(`s3://bucket?endpoint=${url}`).stat("a")).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(/does not speak TLS on this port.*http:\/\/ or tls=off/u) as string,
    });
  });
});

describe("requests", () => {
  it("carry a session's token, signed", async () => {
    const proxy = await service();
    proxy.add({ fault: { kind: "respond", status: 200 } });
    await open(`s3://bucket?endpoint=${proxy.url}`, { AWS_SESSION_TOKEN: "the-token" }).delete("a");
    expect(proxy.requests[0]?.headers).toMatchObject({
      "x-amz-security-token": "the-token",
      authorization: expect.stringContaining("x-amz-security-token"),
    });
  });

  it("sign the MD5 of a body, with and without TLS, which the service checks", async () => {
    const plain = await service();
    const certificates = await makeCertificates();
    const secure = await startHttpFaults({ tls: certificates.good });
    closing.push(() => secure.close());
    const folder = await mkdtemp(path.join(tmpdir(), "holdfast-ca-"));
    closing.push(() => rm(folder, { recursive: true }));
    const ca = path.join(folder, "ca.pem");
    await writeFile(ca, certificates.ca);
    for (const proxy of [plain, secure]) {
      proxy.add({ fault: { kind: "respond", status: 200 } });
      await open(`s3://bucket?endpoint=${proxy.url}&ca=${ca}`).put("a", toBody("hello"));
    }
    for (const { requests } of [plain, secure]) {
      expect(requests[0]?.headers).toMatchObject({
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "content-md5": "XUFAKrxLKna5cZ2REBfFkg==",
        authorization: expect.stringContaining("content-md5"),
      });
    }
  });

  it("sign the digest of a body where neither TLS nor the answer's ETag shows that the service has the right one", async () => {
    const plain = await service();
    plain.add({ fault: { kind: "respond", status: 200 } });
    await open(`s3://bucket?endpoint=${plain.url}&etag=opaque`).put("a", toBody("hello"));
    expect(plain.requests[0]?.headers["x-amz-content-sha256"]).toBe(
      "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    );
  });

  it("are signed with the service's time once it has said that this one is wrong", async () => {
    const proxy = await service();
    const theirs = new Date(systemRuntime.now() + 7_200_000);
    const skewed = "<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>";
    proxy.add({
      times: 1,
      fault: { kind: "respond", status: 403, headers: { ...xml, date: theirs.toUTCString() }, body: skewed },
    });
    proxy.add({ fault: { kind: "respond", status: 200 } });
    const store = open(`s3://bucket?endpoint=${proxy.url}`);
    await expect(store.delete("a")).rejects.toMatchObject({ code: "denied", retryable: true });
    await store.delete("a");
    const [before = 0, after = 0] = proxy.requests.map(({ headers }) => timeOf(headers["x-amz-date"]));
    expect(after - before).toBeGreaterThan(7_000_000);
  });

  it("keep the dots and slashes of a name", async () => {
    const proxy = await service();
    proxy.add({ fault: { kind: "respond", status: 200 } });
    const store = open(`s3://bucket/p?endpoint=${proxy.url}`);
    await store.delete("a/../b//c (d)!");
    expect(proxy.requests[0]?.url).toBe("/bucket/p/a/../b//c%20%28d%29%21");
  });

  it("that are answered 200 with an error inside have failed", async () => {
    const proxy = await service();
    const page = "<Error><Code>SlowDown</Code><Message>later</Message></Error>";
    proxy.add({ fault: { kind: "respond", status: 200, headers: xml, body: page } });
    const list = open(`s3://bucket?endpoint=${proxy.url}`).list("")[Symbol.asyncIterator]();
    await expect(list.next()).rejects.toMatchObject({ code: "throttled" });
  });

  describe("on a kept connection that was dropped", () => {
    const dropSecond = async (isSecond: (request: SeenRequest) => boolean): Promise<HttpFaultProxy> => {
      const proxy = await service();
      proxy.add({ when: isSecond, times: 1, fault: { kind: "reset" } });
      proxy.add({ fault: { kind: "respond", status: 200 } });
      return proxy;
    };

    /** Leaves a connection to be used again, which is so from the next turn of the event loop on. */
    const deleteAndKeep = async (store: S3Store): Promise<void> => {
      await store.delete("a");
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    };

    it("are sent again", async () => {
      const proxy = await dropSecond((request) => request.method === "PUT");
      const store = open(`s3://bucket?endpoint=${proxy.url}`);
      await deleteAndKeep(store);
      await store.put("a", toBody("x"));
      expect(proxy.requests.map(({ method }) => method)).toEqual(["DELETE", "PUT", "PUT"]);
    });

    it("are not sent again where the second would be refused because of the first", async () => {
      const proxy = await dropSecond((request) => request.headers["if-none-match"] !== undefined);
      const store = open(`s3://bucket?endpoint=${proxy.url}&conditional-put=on`);
      await deleteAndKeep(store);
      await expect(store.put("a", toBody("x"), { ifAbsent: true })).rejects.toMatchObject({ code: "unavailable" });
      expect(proxy.requests.map(({ method }) => method)).toEqual(["DELETE", "PUT"]);
    });
  });
});

describe("a directory bucket", () => {
  it("is asked for a session's keys, which sign until they end", async () => {
    const proxy = await service();
    let nowMs = systemRuntime.now();
    const runtime: Runtime = { ...systemRuntime, now: () => nowMs };
    let sessions = 0;
    const session = (): Answer => ({
      headers: xml,
      body:
        `<CreateSessionResult><Credentials><AccessKeyId>K${++sessions}</AccessKeyId><SecretAccessKey>S</SecretAccessKey>` +
        `<SessionToken>T${sessions}</SessionToken><Expiration>${new Date(nowMs + 300_000).toISOString()}</Expiration>` +
        "</Credentials></CreateSessionResult>",
    });
    proxy.add({ path: /\?session=/u, fault: { kind: "answer", with: session } });
    proxy.add({ fault: { kind: "respond", status: 200 } });
    const context = { label: "s3", env: keys, runtime, logger: silentLogger };
    const settings = parseS3Url(parseStoreUrl(`s3:///b--use1-az4--x-s3?endpoint=${proxy.url}`), keys);
    const directory = new S3Service(settings, context);
    const { signal } = new AbortController();
    for (const minutes of [0, 1, 5]) {
      nowMs += minutes * 60_000;
      await directory.headersOf({ method: "DELETE", key: "a", signal });
    }
    directory.close();
    expect(proxy.requests.map(({ url }) => url.replace(/^.*x-s3\//u, ""))).toEqual([
      "?session=",
      "a",
      "a",
      "?session=",
      "a",
    ]);
    expect(proxy.requests[0]?.headers.authorization).toMatch(/Credential=test\/\d+\/us-east-1\/s3express\//u);
    expect(proxy.requests.map(({ headers }) => headers["x-amz-s3session-token"])).toEqual([
      undefined,
      "T1",
      "T1",
      undefined,
      "T2",
    ]);
    expect(proxy.requests[4]?.headers.authorization).toMatch(/Credential=K2\//u);
  });
});

/** The time of an `x-amz-date` header, in milliseconds since 1970. */
function timeOf(header: string | string[] | undefined): number {
  const [, date, time] = /^(\d{8})T(\d{6})Z$/u.exec(String(header)) ?? [];
  return Date.parse(`${date?.replace(/(....)(..)(..)/u, "$1-$2-$3")}T${time?.replace(/(..)(..)(..)/u, "$1:$2:$3")}Z`);
}
