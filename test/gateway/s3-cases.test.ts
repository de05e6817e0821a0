/**
 * Behaviours of S3 that ceph's s3-tests ask for and that are offered here. Which of its cases each test stands for is in
 * docs/gateway-suites.md.
 */
import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import type { S3 } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compareNames } from "../../src/contract/names.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { sdkClient } from "../helpers/sdk-client.ts";

let gateways: TestGateways;
/** Takes requests without a signature, for what no SDK would send. */
let open: TestGateways;
let s3: S3;
const Bucket = "cases";

beforeAll(async () => {
  [gateways, open] = await Promise.all([
    startTestGateways({ protocols: ["s3"] }),
    startTestGateways({ protocols: ["s3"], guarded: false, bucket: Bucket }),
  ]);
  s3 = sdkClient(gateways.url("s3"));
  await s3.createBucket({ Bucket });
});

afterAll(async () => {
  s3?.destroy();
  await gateways?.end();
  await open?.end();
});

const failure = (status: number, name?: string): unknown =>
  expect.objectContaining({
    ...(name === undefined ? {} : { name }),
    $metadata: expect.objectContaining({ httpStatusCode: status }),
  });

const put = (Key: string, Body: string | Uint8Array = Key, more: object = {}): Promise<{ ETag?: string | undefined }> =>
  s3.putObject({ Bucket, Key, Body, ...more });

async function bytesOf(Key: string, more: object = {}): Promise<Buffer> {
  const { Body } = await s3.getObject({ Bucket, Key, ...more });
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

describe("listings", () => {
  const keys = [
    "_obj1_", "_under1/bar", "_under1/baz/xyzzy", "_under2/thud", "asdf+b", "b%ar", "b%az", "b ar", "b.ar", "bar", "baz",
    "boo/bar", "boo/baz/xyzzy", "cab", "c%ab", "cquux/bla", "cquux/thud", "foo", "foo+1/bar", "foo/", "foo/bar",
    "foo/baz", "0/", "0/1999", "q\nu", "quux ab/thud", "ünder/x", "x",
  ].toSorted(compareNames); // prettier-ignore
  const Listed = "listed-cases";

  beforeAll(async () => {
    await s3.createBucket({ Bucket: Listed });
    const one = (Key: string): Promise<unknown> => s3.putObject({ Bucket: Listed, Key, Body: "" });
    await Promise.all(keys.map(one));
  });

  /** What S3 defines a listing to be, in the words of its documentation. */
  const wanted = (prefix: string, delimiter: string, after: string): string[] => {
    const found: string[] = [];
    for (const key of keys) {
      if (!key.startsWith(prefix)) continue;
      const cut = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
      const shown = cut === -1 ? key : key.slice(0, cut + delimiter.length);
      if (compareNames(shown, after) > 0 && found.at(-1) !== shown) found.push(shown);
    }
    return found;
  };

  const delimiters = ["", "/", "a", "%", " ", ".", "\n", "none of them"];
  const prefixes = ["", "boo/", "ba", "_under1/", "foo", "d", "q\n", "ü"];

  test.each([1, 2, 3, 1000])("are what they are defined to be, in pages of %d, by both versions", async (MaxKeys) => {
    for (const Delimiter of delimiters) {
      for (const Prefix of prefixes) {
        const pages: Record<1 | 2, string[]> = { 1: [], 2: [] };
        let Marker = "";
        for (let more = true; more;) {
          const page = await s3.listObjects({
            Bucket: Listed,
            Prefix,
            Delimiter,
            MaxKeys,
            Marker,
            EncodingType: undefined,
          });
          const shown = [
            ...(page.Contents ?? []).map((one) => one.Key ?? ""),
            ...(page.CommonPrefixes ?? []).map((one) => one.Prefix ?? ""),
          ].toSorted(compareNames);
          expect(shown.length).toBeLessThanOrEqual(MaxKeys);
          pages[1].push(...shown);
          more = page.IsTruncated === true;
          // Without a delimiter the last key is the marker.
          if (more) Marker = page.NextMarker ?? shown.at(-1) ?? "";
          // The SDK drops a line feed that it reads.
          expect(page.Delimiter ?? "").toBe(Delimiter.replace("\n", ""));
        }
        let ContinuationToken: string | undefined;
        do {
          const page = await s3.listObjectsV2({ Bucket: Listed, Prefix, Delimiter, MaxKeys, ContinuationToken });
          const shown = [
            ...(page.Contents ?? []).map((one) => one.Key ?? ""),
            ...(page.CommonPrefixes ?? []).map((one) => one.Prefix ?? ""),
          ];
          expect(page.KeyCount).toBe(shown.length);
          pages[2].push(...shown.toSorted(compareNames));
          ContinuationToken = page.NextContinuationToken;
        } while (ContinuationToken !== undefined);
        const right = wanted(Prefix, Delimiter, "");
        expect({ Delimiter, Prefix, pages }).toEqual({ Delimiter, Prefix, pages: { 1: right, 2: right } });
      }
    }
  });

  test("begin behind a marker that need not be a key", async () => {
    for (const after of ["", "bar", "blah", "boo/", "\n", "zzz", "_under1/c"]) {
      const first = await s3.listObjects({ Bucket: Listed, Marker: after });
      const second = await s3.listObjectsV2({ Bucket: Listed, StartAfter: after });
      // The SDK trims what it reads.
      expect(first.Marker).toBe(after.trim());
      expect((first.Contents ?? []).map((one) => one.Key)).toEqual(wanted("", "", after));
      expect((second.Contents ?? []).map((one) => one.Key)).toEqual(wanted("", "", after));
    }
  });

  test("go on from a token, which outweighs where to start; an empty token is none", async () => {
    const first = await s3.listObjectsV2({ Bucket: Listed, MaxKeys: 3, StartAfter: "bar" });
    expect(first).toMatchObject({ StartAfter: "bar", IsTruncated: true });
    const next = await s3.listObjectsV2({
      Bucket: Listed,
      StartAfter: "zzz",
      ContinuationToken: first.NextContinuationToken,
      MaxKeys: 2,
    });
    expect((next.Contents ?? []).map((one) => one.Key)).toEqual(wanted("", "", "bar").slice(3, 5));
    expect(next.ContinuationToken).toBe(first.NextContinuationToken);
    const whole = await s3.listObjectsV2({ Bucket: Listed, ContinuationToken: "" });
    expect((whole.Contents ?? []).map((one) => one.Key)).toEqual(keys);
  });

  test("give each page its size, its owners where asked, and codes where asked", async () => {
    const none = await s3.listObjects({ Bucket: Listed, MaxKeys: 0 });
    expect(none).toMatchObject({ MaxKeys: 0, IsTruncated: false });
    expect((await s3.listObjects({ Bucket: Listed })).MaxKeys).toBe(1000);
    const refused = await fetch(`${open.url("s3")}/${Bucket}?max-keys=blah`);
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining("InvalidArgument")]);
    const owned = await s3.listObjectsV2({ Bucket: Listed, FetchOwner: true, MaxKeys: 1 });
    expect(owned.Contents?.[0]?.Owner?.ID).toBe("holdfast");
    const bare = await s3.listObjectsV2({ Bucket: Listed, MaxKeys: 1 });
    expect(bare.Contents?.[0]).not.toHaveProperty("Owner");
    const coded = { Bucket: Listed, Delimiter: "/", EncodingType: "url", Prefix: "foo+" } as const;
    expect(await s3.listObjectsV2(coded)).toMatchObject({
      Prefix: "foo%2B",
      CommonPrefixes: [{ Prefix: "foo%2B1/" }],
    });
    expect(await s3.listObjects({ Bucket: Listed, EncodingType: "url", Prefix: "asdf" })).toMatchObject({
      Contents: [{ Key: "asdf%2Bb" }],
    });
  });

  test("say of each object what a HEAD of it says", async () => {
    const { ETag } = await put("said", "of an object");
    const { Contents } = await s3.listObjectsV2({ Bucket, Prefix: "said" });
    const head = await s3.headObject({ Bucket, Key: "said" });
    expect(Contents).toEqual([expect.objectContaining({ Key: "said", Size: 12, ETag, StorageClass: "STANDARD" })]);
    expect(Contents?.[0]?.LastModified).toEqual(head.LastModified);
    const versions = await s3.listObjectVersions({ Bucket, Prefix: "said", Delimiter: "" });
    expect(versions).toMatchObject({ Delimiter: "", Versions: [{ VersionId: "null", IsLatest: true, ETag }] });
  });
});

describe("buckets", () => {
  const make = (name: string, more: object = {}): Promise<unknown> => s3.createBucket({ Bucket: name, ...more });

  test("have the names that S3 allows, and no others", async () => {
    const good = ["abc", "a".repeat(60), "a".repeat(63), "foo.bar", "foo-bar", "0start", "aaa.111"];
    for (const name of good) {
      await make(name);
      expect(await s3.listObjects({ Bucket: name })).not.toHaveProperty("Contents");
      await s3.deleteBucket({ Bucket: name });
    }
    const bad = ["aa", "a".repeat(64), "_foo", "foo_bar", "foo-", "foo..bar", "192.168.5.123", "Foo", "f!o"];
    for (const name of bad) {
      await expect(make(name)).rejects.toEqual(failure(400, "InvalidBucketName"));
      await expect(s3.listObjects({ Bucket: name })).rejects.toEqual(failure(400, "InvalidBucketName"));
    }
  });

  test("made again keep what is in them", async () => {
    await put("kept");
    await make(Bucket);
    expect((await bytesOf("kept")).toString()).toBe("kept");
    const elsewhere = { CreateBucketConfiguration: { LocationConstraint: "eu-central-1" } };
    await expect(make(Bucket, elsewhere)).rejects.toEqual(failure(409, "BucketAlreadyOwnedByYou"));
    expect((await s3.getBucketLocation({ Bucket })).LocationConstraint).toBeUndefined();
  });

  test("that are gone hold nothing, and take nothing", async () => {
    await make("gone-soon");
    await s3.deleteBucket({ Bucket: "gone-soon" });
    const gone = { Bucket: "gone-soon", Key: "x" };
    const calls = [
      () => s3.deleteBucket(gone),
      () => s3.listObjects(gone),
      () => s3.getObject(gone),
      () => s3.deleteObject(gone),
      () => s3.createMultipartUpload(gone),
      () => s3.copyObject({ ...gone, CopySource: `${Bucket}/kept` }),
      () => s3.copyObject({ Bucket, Key: "x", CopySource: "gone-soon/x" }),
      () => s3.deleteObjects({ ...gone, Delete: { Objects: [{ Key: "x" }] } }),
    ];
    for (const call of calls) await expect(call()).rejects.toEqual(failure(404, "NoSuchBucket"));
    await expect(s3.headBucket(gone)).rejects.toEqual(failure(404));
    expect((await s3.listBuckets({})).Buckets?.map((one) => one.Name)).not.toContain("gone-soon");
  });

  test("are shown to nobody without the right key", async () => {
    const wrong = sdkClient(gateways.url("s3"), { as: { ...credential, password: "another secret" } });
    await expect(wrong.listBuckets({})).rejects.toEqual(failure(403, "SignatureDoesNotMatch"));
    const unknown = sdkClient(gateways.url("s3"), { as: { ...credential, user: "nobody" } });
    await expect(unknown.listBuckets({})).rejects.toEqual(failure(403, "InvalidAccessKeyId"));
    for (const path of ["/", `/${Bucket}`, `/${Bucket}?list-type=2`, `/${Bucket}/kept`]) {
      expect((await fetch(gateways.url("s3") + path)).status).toBe(403);
    }
    expect((await fetch(`${gateways.url("s3")}/${Bucket}/x`, { method: "PUT", body: "x" })).status).toBe(403);
    wrong.destroy();
    unknown.destroy();
  });
});

describe("objects", () => {
  test("keep metadata, in any language, until they are replaced", async () => {
    const meta = async (): Promise<unknown> => (await s3.headObject({ Bucket, Key: "meta" })).Metadata;
    await put("meta", "1", { Metadata: { meta1: "mymeta", empty: "" } });
    expect(await meta()).toEqual({ meta1: "mymeta", empty: "" });
    await put("meta", "2", { Metadata: { meta2: "other" } });
    expect(await meta()).toEqual({ meta2: "other" });
    await put("meta", "3");
    expect(await meta()).toEqual({});
    const raw = await fetch(`${open.url("s3")}/${Bucket}/meta`, {
      method: "PUT",
      body: "4",
      headers: { "x-amz-meta-word": Buffer.from("Hello World\u00e9").toString("latin1") },
    });
    expect(raw.status).toBe(200);
    const got = await fetch(`${open.url("s3")}/${Bucket}/meta`, { method: "HEAD" });
    expect(Buffer.from(got.headers.get("x-amz-meta-word") ?? "", "latin1").toString()).toBe("Hello World\u00e9");
  });

  test("are answered with the headers that the address asks for", async () => {
    await put("headers", "x", { CacheControl: "public, max-age=14400", ContentType: "a/b" });
    const asked = {
      ResponseCacheControl: "no-cache",
      ResponseContentDisposition: "bla",
      ResponseContentEncoding: "aaa",
      ResponseContentLanguage: "esperanto",
      ResponseContentType: "foo/bar",
    };
    expect(await s3.getObject({ Bucket, Key: "headers", ...asked })).toMatchObject({
      CacheControl: "no-cache",
      ContentDisposition: "bla",
      ContentEncoding: "aaa",
      ContentLanguage: "esperanto",
      ContentType: "foo/bar",
    });
    expect(await s3.headObject({ Bucket, Key: "headers" })).toMatchObject({
      CacheControl: "public, max-age=14400",
      ContentType: "a/b",
    });
  });

  test("can have odd names, and none that is not UTF-8", async () => {
    for (const Key of [
      " ",
      '"',
      "$",
      "%",
      "&",
      "'",
      "<",
      ">",
      "_",
      "_ ",
      "_ _",
      "__",
      "_bla/1",
      "a//b",
      "ü/é",
      "%41",
      "?",
    ]) {
      await put(Key);
      expect((await bytesOf(Key)).toString()).toBe(Key);
      await s3.deleteObject({ Bucket, Key });
    }
    const odd = await fetch(`${open.url("s3")}/${Bucket}/%ae%8a-`);
    expect([odd.status, await odd.text()]).toEqual([400, expect.stringContaining("InvalidURI")]);
  });

  test("are missed with the request's number in the answer", async () => {
    const missing = await fetch(`${open.url("s3")}/${Bucket}/missing`);
    const text = await missing.text();
    expect(missing.status).toBe(404);
    expect(text).toContain(`<RequestId>${missing.headers.get("x-amz-request-id")}</RequestId>`);
    expect(text).toContain("<Code>NoSuchKey</Code>");
    expect(missing.headers.get("x-amz-id-2")).not.toBeNull();
  });

  test("of no bytes have no ranges, and big ones many", async () => {
    await put("nothing", "");
    await expect(bytesOf("nothing", { Range: "bytes=40-50" })).rejects.toEqual(failure(416, "InvalidRange"));
    const body = randomBytes(8 * 1024 * 1024);
    await put("big", body);
    const got = await s3.getObject({ Bucket, Key: "big", Range: "bytes=3145728-5242880" });
    expect([got.ContentRange, got.$metadata.httpStatusCode]).toEqual(["bytes 3145728-5242880/8388608", 206]);
    const part = Buffer.from((await got.Body?.transformToByteArray()) ?? []);
    expect(part.equals(body.subarray(3145728, 5242881))).toBe(true);
  });

  test("are put under conditions that S3 knows, and refused with others", async () => {
    const { ETag } = await put("condition", "1");
    await expect(put("absent", "x", { IfMatch: ETag })).rejects.toEqual(failure(404, "NoSuchKey"));
    await put("condition", "2", { IfNoneMatch: '"other"' });
    for (const name of ["if-modified-since", "if-unmodified-since"]) {
      const refused = await fetch(`${open.url("s3")}/${Bucket}/condition`, {
        method: "PUT",
        body: "3",
        headers: { [name]: new Date(0).toUTCString() },
      });
      expect(refused.status).toBe(501);
    }
  });

  test("are deleted a thousand at a time at most, and never without a key", async () => {
    const remove = (Objects: { Key: string }[]): Promise<unknown> => s3.deleteObjects({ Bucket, Delete: { Objects } });
    const many = Array.from({ length: 1001 }, (_, index) => ({ Key: `key-${index}` }));
    await expect(remove(many)).rejects.toEqual(failure(400, "MalformedXML"));
    expect(await remove(many.slice(1))).toMatchObject({ Deleted: expect.objectContaining({ length: 1000 }) });
    await expect(remove([{ Key: "" }])).rejects.toEqual(failure(400, "UserKeyMustBeSpecified"));
  });

  test("are old or new to a reader while they are replaced, never both", async () => {
    const versions = ["A", "B", "C", "D"].map((letter) => Buffer.alloc(4 * 1024 * 1024, letter));
    await put("atomic", versions[0]);
    const whole = new Set(versions.map((body) => createHash("md5").update(body).digest("hex")));
    /** The digest of what is read, or the name of the error. */
    const read = async (): Promise<string> => {
      try {
        return createHash("md5")
          .update(await bytesOf("atomic"))
          .digest("hex");
      } catch (error) {
        return error instanceof Error ? error.name : "";
      }
    };
    const reads: Promise<string>[] = [];
    for (const body of versions.slice(1)) {
      for (let count = 0; count < 4; count++) reads.push(read());
      await put("atomic", body);
    }
    // What was replaced under a reader is an error that it can repeat, not other bytes.
    whole.add("ServiceUnavailable");
    expect((await Promise.all(reads)).filter((one) => !whole.has(one))).toEqual([]);
    await Promise.all(versions.map((body) => put("atomic", body)));
    expect(whole).toContain(await read());
  });
});

describe("copies", () => {
  const copy = (Key: string, CopySource: string, more: object = {}): Promise<{ CopyObjectResult?: unknown }> =>
    s3.copyObject({ Bucket, Key, CopySource, ...more });

  test("are whole, of any size, within a bucket and between two", async () => {
    await s3.createBucket({ Bucket: "copies-go-here" });
    for (const size of [0, 1, 16 * 1024 * 1024]) {
      const body = randomBytes(size);
      await put("source", body, { ContentType: "text/bla", Metadata: { foo: "bar" } });
      const { CopyObjectResult } = await copy("copied", `/${Bucket}/source`);
      const head = await s3.headObject({ Bucket, Key: "copied" });
      expect(head).toMatchObject({ ContentType: "text/bla", Metadata: { foo: "bar" }, ContentLength: size });
      expect(CopyObjectResult).toMatchObject({ ETag: head.ETag, LastModified: head.LastModified });
      expect((await bytesOf("copied")).equals(body)).toBe(true);
      await s3.copyObject({ Bucket: "copies-go-here", Key: "c", CopySource: `${Bucket}/source` });
      const there = await s3.headObject({ Bucket: "copies-go-here", Key: "c" });
      expect([there.ETag, there.ContentLength]).toEqual([head.ETag, size]);
    }
  });

  test("are made of sources with odd names, encoded or not, and of nothing else", async () => {
    for (const Key of ["a %-sign ?", "ü+ &", "%41"]) {
      await put(Key);
      await copy("odd", `${Bucket}/${encodeURIComponent(Key)}`);
      expect((await bytesOf("odd")).toString()).toBe(Key);
    }
    const raw = Buffer.from(`/${Bucket}/a %-sign ü`).toString("latin1");
    await fetch(`${open.url("s3")}/${Bucket}/${encodeURIComponent("a %-sign ü")}`, { method: "PUT", body: "raw" });
    const url = `${open.url("s3")}/${Bucket}/odd`;
    expect((await fetch(url, { method: "PUT", headers: { "x-amz-copy-source": raw } })).status).toBe(200);
    expect(await (await fetch(url)).text()).toBe("raw");
    await copy("odd", `${Bucket}/kept?versionId=null`);
    for (const source of [`${Bucket}/kept?nonsense`, `${Bucket}/kept?versionId=null&nonsense`, Bucket, "/"]) {
      await expect(copy("odd", source)).rejects.toEqual(failure(400, "InvalidArgument"));
    }
    await expect(copy("odd", `${Bucket}/kept?versionId=7`)).rejects.toEqual(failure(404, "NoSuchVersion"));
    await expect(copy("odd", `${Bucket}/kept`, { MetadataDirective: "MERGE" })).rejects.toEqual(
      failure(400, "InvalidArgument"),
    );
  });

  test("are made under conditions on their source", async () => {
    const { ETag } = await put("source", "conditional");
    await copy("copied", `${Bucket}/source`, { CopySourceIfMatch: ETag });
    await copy("copied", `${Bucket}/source`, { CopySourceIfNoneMatch: '"ABCORZ"' });
    expect((await bytesOf("copied")).toString()).toBe("conditional");
    for (const condition of [{ CopySourceIfMatch: '"ABCORZ"' }, { CopySourceIfNoneMatch: ETag }]) {
      await expect(copy("copied", `${Bucket}/source`, condition)).rejects.toEqual(failure(412, "PreconditionFailed"));
    }
  });
});

describe("multipart uploads", () => {
  const MiB = 1024 * 1024;
  const begin = async (Key: string, more: object = {}): Promise<{ Bucket: string; Key: string; UploadId: string }> => {
    const { UploadId = "" } = await s3.createMultipartUpload({ Bucket, Key, ...more });
    return { Bucket, Key, UploadId };
  };
  type Begun = Awaited<ReturnType<typeof begin>>;
  interface Part {
    readonly PartNumber: number;
    readonly ETag: string | undefined;
  }
  const part = async (upload: Begun, PartNumber: number, Body: Uint8Array): Promise<Part> => {
    const { ETag } = await s3.uploadPart({ ...upload, PartNumber, Body });
    return { PartNumber, ETag };
  };
  const complete = (upload: Begun, Parts: Part[], more: object = {}): Promise<{ ETag?: string | undefined }> =>
    s3.completeMultipartUpload({ ...upload, MultipartUpload: { Parts }, ...more });
  const etagOfParts = (bodies: Uint8Array[]): string => {
    const digests = bodies.map((body) => createHash("md5").update(body).digest());
    return `"${createHash("md5").update(Buffer.concat(digests)).digest("hex")}-${bodies.length}"`;
  };

  test.each([[[1]], [[5 * MiB]], [[5 * MiB, 100]], [[5 * MiB + 600 * 1024, 5 * MiB]], [[5 * MiB, 5 * MiB, 1]]])(
    "of parts of %j bytes make one object, with type and metadata",
    async (sizes) => {
      const bodies = sizes.map((size) => randomBytes(size));
      const upload = await begin("multi", { ContentType: "text/bla", Metadata: { foo: "bar" } });
      const parts: Part[] = [];
      for (const [index, body] of bodies.entries()) parts.push(await part(upload, index + 1, body));
      const { ETag } = await complete(upload, parts);
      expect(ETag).toBe(etagOfParts(bodies));
      const whole = Buffer.concat(bodies);
      expect(await s3.headObject({ Bucket, Key: "multi" })).toMatchObject({
        ContentType: "text/bla",
        Metadata: { foo: "bar" },
        ContentLength: whole.length,
        ETag,
      });
      expect((await bytesOf("multi")).equals(whole)).toBe(true);
      expect((await bytesOf("multi", { Range: "bytes=-1" })).equals(whole.subarray(-1))).toBe(true);
      // A client that lost the answer asks again.
      expect((await complete(upload, parts)).ETag).toBe(ETag);
    },
  );

  test("are completed with a checksum of the object, which says nothing about the request that completes them", async () => {
    // MinIO's client sends the CRC-32C of the parts' CRC-32Cs.
    const upload = await begin("sums", { ChecksumAlgorithm: "CRC32C" });
    const bodies = [Buffer.alloc(5 * MiB, "a"), Buffer.from("b")];
    const parts = [];
    for (const [index, Body] of bodies.entries()) {
      const done = await s3.uploadPart({ ...upload, PartNumber: index + 1, Body, ChecksumAlgorithm: "CRC32C" });
      parts.push({ PartNumber: index + 1, ETag: done.ETag, ChecksumCRC32C: done.ChecksumCRC32C });
    }
    await expect(complete(upload, parts, { ChecksumCRC32C: "AAAAAA==" })).rejects.toEqual(failure(400, "BadDigest"));
    const rehearsal = await begin("sums", { ChecksumAlgorithm: "CRC32C" });
    for (const [index, Body] of bodies.entries()) {
      await s3.uploadPart({ ...rehearsal, PartNumber: index + 1, Body, ChecksumAlgorithm: "CRC32C" });
    }
    await complete(rehearsal, parts);
    const { ChecksumCRC32C = "" } = await s3.headObject({ Bucket, Key: "sums", ChecksumMode: "ENABLED" });
    expect(ChecksumCRC32C).toMatch(/-2$/u);
    await complete(upload, parts, { ChecksumCRC32C: ChecksumCRC32C.replace("-2", "") });
    expect((await bytesOf("sums")).equals(Buffer.concat(bodies))).toBe(true);
  });

  test("are refused without parts, with parts that are not there, and with others than were sent", async () => {
    const upload = await begin("refused");
    await expect(complete(upload, [])).rejects.toEqual(failure(400, "MalformedXML"));
    const good = await part(upload, 1, Buffer.from("1"));
    await expect(complete(upload, [{ PartNumber: 9999, ETag: good.ETag }])).rejects.toEqual(
      failure(400, "InvalidPart"),
    );
    const other = '"ffffffffffffffffffffffffffffffff"';
    await expect(complete(upload, [{ PartNumber: 1, ETag: other }])).rejects.toEqual(failure(400, "InvalidPart"));
    await complete(upload, [good]);
  });

  test("replace an object at their end, not before, and the part that ended last counts", async () => {
    await put("replaced", "before");
    const upload = await begin("replaced");
    await part(upload, 1, Buffer.alloc(5 * MiB, "A"));
    expect((await bytesOf("replaced")).toString()).toBe("before");
    const last = await part(upload, 1, Buffer.alloc(5 * MiB, "B"));
    await put("replaced", "meanwhile");
    await complete(upload, [last]);
    expect((await bytesOf("replaced")).equals(Buffer.alloc(5 * MiB, "B"))).toBe(true);
  });

  test("that are aborted are gone, once", async () => {
    const upload = await begin("aborted");
    await part(upload, 1, Buffer.from("1"));
    const { Uploads } = await s3.listMultipartUploads({ Bucket, Prefix: "aborted" });
    expect(Uploads?.map((one) => one.UploadId)).toEqual([upload.UploadId]);
    expect((await s3.listParts(upload)).Parts).toHaveLength(1);
    await s3.abortMultipartUpload(upload);
    await expect(s3.abortMultipartUpload(upload)).rejects.toEqual(failure(404, "NoSuchUpload"));
    await expect(s3.listParts(upload)).rejects.toEqual(failure(404, "NoSuchUpload"));
    await expect(bytesOf("aborted")).rejects.toEqual(failure(404, "NoSuchKey"));
  });

  test("take parts of other objects, by ranges that are in them", async () => {
    const source = randomBytes(10 * MiB);
    const odd = " _?&=__";
    await put(odd, source);
    const CopySource = `${Bucket}/${encodeURIComponent(odd)}`;
    const upload = await begin("of parts");
    const take = async (PartNumber: number, CopySourceRange?: string): Promise<Part> => {
      const done = await s3.uploadPartCopy({ ...upload, PartNumber, CopySource, CopySourceRange });
      return { PartNumber, ETag: done.CopyPartResult?.ETag };
    };
    const parts = [await take(1, "bytes=0-5242879"), await take(2)];
    await complete(upload, parts);
    expect((await bytesOf("of parts")).equals(Buffer.concat([source.subarray(0, 5 * MiB), source]))).toBe(true);
    const second = await begin("of parts");
    for (const CopySourceRange of [
      "bytes=0-10485760",
      "0-2",
      "bytes=0",
      "bytes=hello-world",
      "bytes=0-bar",
      "bytes=0-0,1-2",
    ]) {
      const bad = s3.uploadPartCopy({ ...second, PartNumber: 1, CopySource, CopySourceRange });
      await expect(bad).rejects.toEqual(failure(400, "InvalidArgument"));
    }
    await s3.abortMultipartUpload(second);
  });
});

describe("requests as no SDK sends them", () => {
  /** Sends a request as it stands, and gives the first line of the answer and the rest. */
  const raw = (head: string, body = ""): Promise<string> =>
    new Promise((resolve, reject) => {
      const { port } = new URL(open.url("s3"));
      const socket = connect(Number(port), "127.0.0.1", () => socket.end(`${head}\r\n\r\n${body}`, "latin1"));
      let text = "";
      socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
      socket.on("error", reject);
      socket.on("close", () => resolve(text));
    });
  const putWith = (headers: string, body = "bar"): Promise<string> =>
    raw(`PUT /${Bucket}/raw HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}`, body);

  test.each([
    ["Content-Length: 3\r\nContent-MD5: YWJyYWNhZGFicmE=", 400, "InvalidDigest"],
    ["Content-Length: 3\r\nContent-MD5: ", 400, "InvalidDigest"],
    ["Content-Length: 3\r\nContent-MD5: rL0Y20zC+Fzt72VPzMSk2A==", 400, "BadDigest"],
    ["Content-Length: ", 400, ""],
    ["Content-Length: -1", 400, ""],
    ["Content-Length: 3x", 400, ""],
    ["Accept: */*", 411, "MissingContentLength"],
    ["Transfer-Encoding: chunked", 411, "MissingContentLength"],
    ["Content-Length: 3\r\nExpect: 200", 417, ""],
    ["Content-Length: 3\r\nx-amz-acl: public-ready", 400, "InvalidArgument"],
  ])("with %j are refused: %d %s", async (headers, status, code) => {
    const body = headers.startsWith("Transfer") ? "3\r\nbar\r\n0\r\n\r\n" : headers.includes("Length") ? "bar" : "";
    const answer = await putWith(headers, body);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `, "u"));
    expect(answer).toContain(code);
  });

  test.each([
    "Content-Length: 3\r\nContent-MD5: N7UdGUp1E+RbVvZSTy1R8g==",
    "Content-Length: 3\r\nContent-Type: ",
    "Content-Length: 3\r\nContent-Type: text/plain",
    "Content-Length: 3\r\nExpect: 100-continue",
    "Content-Length: 3\r\nExpect: ",
    "Content-Length: 3\r\nUser-Agent: ",
  ])("with %j are taken", async (headers) => {
    expect(await putWith(headers)).toMatch(/^HTTP\/1\.1 (?:100 Continue\r\n\r\nHTTP\/1\.1 )?200 /u);
    expect(await (await fetch(`${open.url("s3")}/${Bucket}/raw`)).text()).toBe("bar");
  });
});
