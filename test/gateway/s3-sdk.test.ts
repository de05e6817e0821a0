import { createHash, randomBytes } from "node:crypto";
import type { S3 } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { sdkClient } from "../helpers/sdk-client.ts";

let gateways: TestGateways;
let s3: S3;
const Bucket = "first";

beforeAll(async () => {
  gateways = await startTestGateways({ protocols: ["s3"] });
  s3 = sdkClient(gateways.url("s3"), { region: "eu-west-9" });
  await s3.createBucket({ Bucket });
});

afterAll(async () => {
  s3?.destroy();
  await gateways?.end();
});

async function textOf(Key: string): Promise<string | undefined> {
  const result = await s3.getObject({ Bucket, Key });
  return result.Body?.transformToString();
}

const put = (Key: string, Body: string | Uint8Array = Key): Promise<unknown> => s3.putObject({ Bucket, Key, Body });

const failure = (status: number, name?: string): unknown =>
  expect.objectContaining({
    ...(name === undefined ? {} : { name }),
    $metadata: expect.objectContaining({ httpStatusCode: status }),
  });

describe("buckets", () => {
  test("are made, listed, found and deleted, and one that holds something stays", async () => {
    await s3.createBucket({ Bucket: "second" });
    await s3.headBucket({ Bucket: "second" });
    const { Buckets } = await s3.listBuckets({});
    expect(Buckets?.map((bucket) => bucket.Name)).toEqual([Bucket, "second"]);
    await s3.putObject({ Bucket: "second", Key: "x", Body: "x" });
    await expect(s3.deleteBucket({ Bucket: "second" })).rejects.toEqual(failure(409, "BucketNotEmpty"));
    await s3.deleteObject({ Bucket: "second", Key: "x" });
    await s3.headBucket({ Bucket: "second" });
    await s3.deleteBucket({ Bucket: "second" });
    await expect(s3.headBucket({ Bucket: "second" })).rejects.toEqual(failure(404));
  });

  test("with impossible names are refused", async () => {
    for (const name of ["ab", "Upper", "a..b", "1.2.3.4"]) {
      await expect(s3.createBucket({ Bucket: name })).rejects.toEqual(failure(400, "InvalidBucketName"));
    }
  });

  test("that do not exist take no objects and have none", async () => {
    const missing = { Bucket: "missing", Key: "x" };
    await expect(s3.putObject({ ...missing, Body: "x" })).rejects.toEqual(failure(404, "NoSuchBucket"));
    await expect(s3.getObject(missing)).rejects.toEqual(failure(404, "NoSuchBucket"));
    await expect(s3.listObjectsV2(missing)).rejects.toEqual(failure(404, "NoSuchBucket"));
  });
});

describe("objects", () => {
  test("come back with their bytes, metadata and MD5, and stand on every store under their own name", async () => {
    const Body = randomBytes(3 * 1024 * 1024 + 17);
    const md5 = createHash("md5").update(Body).digest("hex");
    const done = await s3.putObject({
      Bucket,
      Key: "dir/füße & more+plus?#",
      Body,
      ContentType: "text/x-test",
      CacheControl: "no-store",
      Metadata: { mtime: "1700000000.5", note: "a b" },
    });
    expect(done.ETag).toBe(`"${md5}"`);
    const got = await s3.getObject({ Bucket, Key: "dir/füße & more+plus?#" });
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(Body)).toBe(true);
    expect(got).toMatchObject({
      ETag: `"${md5}"`,
      ContentType: "text/x-test",
      CacheControl: "no-store",
      ContentLength: Body.length,
      Metadata: { mtime: "1700000000.5", note: "a b" },
    });
    for (const objects of gateways.objects) {
      expect(objects.get("first/dir/füße & more+plus?#")?.bytes.length).toBe(Body.length);
    }
  });

  test("of no bytes at all are objects too", async () => {
    await put("empty", new Uint8Array(0));
    expect(await textOf("empty")).toBe("");
  });

  test("are read in ranges", async () => {
    await put("ranges", "0123456789");
    const range = async (Range: string): Promise<string | undefined> => {
      const result = await s3.getObject({ Bucket, Key: "ranges", Range });
      return `${result.ContentRange} ${await result.Body?.transformToString()}`;
    };
    expect(await range("bytes=2-4")).toBe("bytes 2-4/10 234");
    expect(await range("bytes=8-")).toBe("bytes 8-9/10 89");
    expect(await range("bytes=-3")).toBe("bytes 7-9/10 789");
    expect(await range("bytes=5-999")).toBe("bytes 5-9/10 56789");
    await expect(range("bytes=10-")).rejects.toEqual(failure(416, "InvalidRange"));
  });

  test("are read and written under conditions", async () => {
    const Key = "conditions";
    const { ETag } = await s3.putObject({ Bucket, Key, Body: "1" });
    const get = (conditions: object): Promise<unknown> => s3.getObject({ Bucket, Key, ...conditions });
    await get({ IfMatch: ETag });
    await expect(get({ IfMatch: '"other"' })).rejects.toEqual(failure(412));
    await expect(get({ IfNoneMatch: ETag })).rejects.toEqual(failure(304));
    await expect(get({ IfModifiedSince: new Date(Date.now() + 1000) })).rejects.toEqual(failure(304));
    await expect(get({ IfUnmodifiedSince: new Date(1e9) })).rejects.toEqual(failure(412));
    const write = (conditions: object): Promise<unknown> => s3.putObject({ Bucket, Key, Body: "2", ...conditions });
    await expect(write({ IfNoneMatch: "*" })).rejects.toEqual(failure(412, "PreconditionFailed"));
    await expect(write({ IfMatch: '"other"' })).rejects.toEqual(failure(412, "PreconditionFailed"));
    await write({ IfMatch: ETag });
    expect(await textOf(Key)).toBe("2");
    const race = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) =>
        s3.putObject({ Bucket, Key: "race", Body: String(index), IfNoneMatch: "*" }),
      ),
    );
    expect(race.filter((one) => one.status === "fulfilled")).toHaveLength(1);
  });

  test("are not kept when a digest is wrong", async () => {
    const wrong = (headers: object): Promise<unknown> =>
      s3.putObject({ Bucket, Key: "digest", Body: "right", ...headers });
    await expect(wrong({ ContentMD5: "AAAAAAAAAAAAAAAAAAAAAA==" })).rejects.toEqual(failure(400, "BadDigest"));
    await expect(wrong({ ContentMD5: "AAAA" })).rejects.toEqual(failure(400, "InvalidDigest"));
    await expect(wrong({ ChecksumCRC32: "AAAAAA==" })).rejects.toEqual(failure(400, "BadDigest"));
    await expect(wrong({ ChecksumSHA256: "AAAA" })).rejects.toEqual(failure(400, "BadDigest"));
    await expect(textOf("digest")).rejects.toEqual(failure(404, "NoSuchKey"));
  });

  test("have the checksums that their clients sent", async () => {
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"] as const) {
      const Key = `checksum-${ChecksumAlgorithm}`;
      const done = await s3.putObject({ Bucket, Key, Body: "123456789", ChecksumAlgorithm });
      const head = await s3.headObject({ Bucket, Key, ChecksumMode: "ENABLED" });
      const name = `Checksum${ChecksumAlgorithm}` as const;
      expect(head[name]).toBeDefined();
      expect(head[name]).toBe(done[name]);
    }
    const head = await s3.headObject({ Bucket, Key: "checksum-CRC32C", ChecksumMode: "ENABLED" });
    expect(Buffer.from(head.ChecksumCRC32C ?? "", "base64").toString("hex")).toBe("e3069283");
  });

  test("are streamed in chunks with a trailer", async () => {
    const body = randomBytes(300_000);
    const stream = Readable.from([body.subarray(0, 100_000), body.subarray(100_000)]);
    await s3.putObject({
      Bucket,
      Key: "stream",
      Body: stream,
      ContentLength: body.length,
      ChecksumAlgorithm: "CRC32",
    });
    const got = await s3.getObject({ Bucket, Key: "stream" });
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(body)).toBe(true);
  });

  test("are copied with their metadata or with other", async () => {
    await s3.putObject({ Bucket, Key: "copy/from", Body: "copied", ContentType: "text/a", Metadata: { a: "1" } });
    const CopySource = `${Bucket}/copy/from`;
    await s3.copyObject({ Bucket, Key: "copy/to", CopySource });
    const to = await s3.headObject({ Bucket, Key: "copy/to" });
    expect(to).toMatchObject({ ContentType: "text/a", Metadata: { a: "1" }, ContentLength: 6 });
    await expect(s3.copyObject({ Bucket, Key: "copy/from", CopySource })).rejects.toEqual(failure(400));
    await s3.copyObject({
      Bucket,
      Key: "copy/from",
      CopySource,
      MetadataDirective: "REPLACE",
      ContentType: "text/b",
      Metadata: { b: "2" },
    });
    const from = await s3.headObject({ Bucket, Key: "copy/from" });
    expect(from).toMatchObject({ ContentType: "text/b", Metadata: { b: "2" }, ETag: to.ETag });
    expect(await textOf("copy/from")).toBe("copied");
    await expect(s3.copyObject({ Bucket, Key: "x", CopySource: `${Bucket}/none` })).rejects.toEqual(
      failure(404, "NoSuchKey"),
    );
  });

  test("are deleted singly and in bulk, and deleting what is not there succeeds", async () => {
    await put("bulk/1");
    await put("bulk/2");
    const { Deleted, Errors } = await s3.deleteObjects({
      Bucket,
      Delete: { Objects: [{ Key: "bulk/1" }, { Key: "bulk/2" }, { Key: "bulk/none & <odd>" }] },
    });
    expect(Deleted?.map((one) => one.Key)).toEqual(["bulk/1", "bulk/2", "bulk/none & <odd>"]);
    expect(Errors ?? []).toEqual([]);
    await s3.deleteObject({ Bucket, Key: "bulk/1" });
    await expect(textOf("bulk/1")).rejects.toEqual(failure(404, "NoSuchKey"));
  });

  test("cannot have Holdfast's own names, nor leave the bucket", async () => {
    await expect(put("a/.holdfast-folder")).rejects.toEqual(failure(400));
    await expect(put("x".repeat(1025))).rejects.toEqual(failure(400, "KeyTooLongError"));
    await expect(s3.putObject({ Bucket: ".holdfast", Key: "x", Body: "x" })).rejects.toEqual(failure(400));
  });

  test("take no more user metadata than S3 does", async () => {
    const Metadata = { a: "x".repeat(3000) };
    await expect(s3.putObject({ Bucket, Key: "m", Body: "m", Metadata })).rejects.toEqual(failure(400));
  });

  test("are refused with what cannot be kept, instead of losing it", async () => {
    const refused = (more: object): Promise<unknown> => s3.putObject({ Bucket, Key: "refused", Body: "r", ...more });
    await expect(refused({ ACL: "public-read" })).rejects.toEqual(failure(501));
    await expect(refused({ Tagging: "a=b" })).rejects.toEqual(failure(501));
    await expect(refused({ StorageClass: "GLACIER" })).rejects.toEqual(failure(400));
    await expect(refused({ ServerSideEncryption: "AES256" })).rejects.toEqual(failure(501));
  });
});

describe("listings", () => {
  const keys = ["a", "b/", "b/!first", "b/1", "b/2", "b/c/1", "c", "d%2f &<>", "e/1", "f"];
  const Listed = "listed";

  beforeAll(async () => {
    await s3.createBucket({ Bucket: Listed });
    for (const Key of keys) await s3.putObject({ Bucket: Listed, Key, Body: Key === "b/" ? Buffer.alloc(0) : Key });
  });

  const pages = async (options: object): Promise<string[][]> => {
    const found: string[][] = [];
    let ContinuationToken: string | undefined;
    do {
      const page = await s3.listObjectsV2({ Bucket: Listed, ...options, ContinuationToken });
      expect(page.KeyCount).toBe((page.Contents?.length ?? 0) + (page.CommonPrefixes?.length ?? 0));
      found.push([
        ...(page.Contents ?? []).map((one) => one.Key ?? ""),
        ...(page.CommonPrefixes ?? []).map((one) => one.Prefix ?? ""),
      ]);
      ContinuationToken = page.NextContinuationToken;
      expect(page.IsTruncated).toBe(ContinuationToken !== undefined);
    } while (ContinuationToken !== undefined);
    return found;
  };

  test("give all keys in order, in one page or in many", async () => {
    expect(await pages({})).toEqual([keys]);
    for (let MaxKeys = 1; MaxKeys <= keys.length + 1; MaxKeys++)
      expect((await pages({ MaxKeys })).flat()).toEqual(keys);
    expect(await pages({ MaxKeys: 0 })).toEqual([[]]);
  });

  test("fold keys at the delimiter, each common prefix once", async () => {
    const folded = ["a", "b/", "c", "d%2f &<>", "e/", "f"];
    for (let MaxKeys = 1; MaxKeys <= 7; MaxKeys++) {
      const found = (await pages({ Delimiter: "/", MaxKeys })).flat();
      expect(found.toSorted()).toEqual(folded);
    }
    expect(await pages({ Delimiter: "/", Prefix: "b/" })).toEqual([["b/", "b/!first", "b/1", "b/2", "b/c/"]]);
    expect(await pages({ Delimiter: "2", Prefix: "" })).toEqual([
      ["a", "b/", "b/!first", "b/1", "b/c/1", "c", "e/1", "f", "b/2", "d%2"],
    ]);
  });

  test("begin behind a key", async () => {
    expect(await pages({ StartAfter: "b/2" })).toEqual([["b/c/1", "c", "d%2f &<>", "e/1", "f"]]);
    expect(await pages({ StartAfter: "b/1x" })).toEqual([["b/2", "b/c/1", "c", "d%2f &<>", "e/1", "f"]]);
  });

  test("of version 1 give markers that lead on", async () => {
    const found: string[] = [];
    let Marker: string | undefined;
    for (;;) {
      const page = await s3.listObjects({ Bucket: Listed, Delimiter: "/", MaxKeys: 2, Marker });
      found.push(...(page.Contents ?? []).map((one) => one.Key ?? ""));
      found.push(...(page.CommonPrefixes ?? []).map((one) => one.Prefix ?? ""));
      if (!page.IsTruncated) break;
      Marker = page.NextMarker;
    }
    expect(found.toSorted()).toEqual(["a", "b/", "c", "d%2f &<>", "e/", "f"]);
  });

  test("show in later pages what was written after the first", async () => {
    const Name = "paged";
    await s3.createBucket({ Bucket: Name });
    const number = (index: number): string => String(index).padStart(5, "0");
    for (let index = 0; index < 1100; index++) {
      await gateways.pool.put(`${Name}/${number(index)}`, { size: 0, reopenable: true, async *open() {} });
    }
    const first = await s3.listObjectsV2({ Bucket: Name });
    expect(first.Contents).toHaveLength(1000);
    await s3.deleteObject({ Bucket: Name, Key: number(1050) });
    await s3.putObject({ Bucket: Name, Key: "01050a", Body: "new" });
    await s3.putObject({ Bucket: Name, Key: number(1060), Body: "longer" });
    const second = await s3.listObjectsV2({ Bucket: Name, ContinuationToken: first.NextContinuationToken });
    expect(second.Contents).toHaveLength(100);
    expect(second.Contents?.map((one) => one.Key)).not.toContain(number(1050));
    expect(second.Contents?.find((one) => one.Key === "01050a")?.Size).toBe(3);
    expect(second.Contents?.find((one) => one.Key === number(1060))?.Size).toBe(6);
  });

  test("of versions name one version of each key", async () => {
    const { Versions } = await s3.listObjectVersions({ Bucket: Listed });
    expect(Versions?.map((one) => one.Key)).toEqual(keys);
    expect(new Set(Versions?.map((one) => one.VersionId))).toEqual(new Set(["null"]));
  });
});

describe("multipart uploads", () => {
  const MiB = 1024 * 1024;

  test("of parts that came out of order and twice make one object", async () => {
    const Key = "multi/out-of-order";
    const { UploadId } = await s3.createMultipartUpload({ Bucket, Key, ContentType: "video/x", Metadata: { m: "1" } });
    const bodies = [randomBytes(5 * MiB), randomBytes(5 * MiB + 1), randomBytes(77)];
    const etags = new Map<number, string | undefined>();
    const part = async (PartNumber: number, Body: Uint8Array): Promise<void> => {
      const { ETag } = await s3.uploadPart({ Bucket, Key, UploadId, PartNumber, Body });
      etags.set(PartNumber, ETag);
    };
    await part(9, bodies[2] ?? Buffer.alloc(0));
    await part(2, Buffer.from("replaced by the next"));
    await part(2, bodies[0] ?? Buffer.alloc(0));
    await part(4, bodies[1] ?? Buffer.alloc(0));
    const { Parts } = await s3.listParts({ Bucket, Key, UploadId });
    expect(Parts?.map((one) => [one.PartNumber, one.Size])).toEqual([
      [2, 5 * MiB],
      [4, 5 * MiB + 1],
      [9, 77],
    ]);
    const { Uploads } = await s3.listMultipartUploads({ Bucket, Prefix: "multi/" });
    expect(Uploads?.map((one) => one.UploadId)).toEqual([UploadId]);
    const complete = (numbers: readonly number[]): Promise<{ ETag?: string | undefined }> =>
      s3.completeMultipartUpload({
        Bucket,
        Key,
        UploadId,
        MultipartUpload: { Parts: numbers.map((PartNumber) => ({ PartNumber, ETag: etags.get(PartNumber) })) },
      });
    await expect(complete([4, 2, 9])).rejects.toEqual(failure(400, "InvalidPartOrder"));
    await expect(complete([2, 4, 11])).rejects.toEqual(failure(400, "InvalidPart"));
    const done = await complete([2, 4, 9]);
    const md5 = createHash("md5");
    for (const body of bodies) md5.update(createHash("md5").update(body).digest());
    expect(done.ETag).toBe(`"${md5.digest("hex")}-3"`);
    expect((await complete([2, 4, 9])).ETag).toBe(done.ETag);
    const got = await s3.getObject({ Bucket, Key });
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(Buffer.concat(bodies))).toBe(true);
    expect(got).toMatchObject({ ETag: done.ETag, ContentType: "video/x", Metadata: { m: "1" } });
    await expect(s3.listParts({ Bucket, Key, UploadId })).rejects.toEqual(failure(404, "NoSuchUpload"));
  });

  test("with a small part in the middle are refused", async () => {
    const Key = "multi/small";
    const { UploadId } = await s3.createMultipartUpload({ Bucket, Key });
    const Parts = [];
    for (const PartNumber of [1, 2]) {
      const { ETag } = await s3.uploadPart({ Bucket, Key, UploadId, PartNumber, Body: "small" });
      Parts.push({ PartNumber, ETag });
    }
    await expect(s3.completeMultipartUpload({ Bucket, Key, UploadId, MultipartUpload: { Parts } })).rejects.toEqual(
      failure(400, "EntityTooSmall"),
    );
    await s3.abortMultipartUpload({ Bucket, Key, UploadId });
    await expect(s3.abortMultipartUpload({ Bucket, Key, UploadId })).rejects.toEqual(failure(404, "NoSuchUpload"));
    await expect(textOf(Key)).rejects.toEqual(failure(404, "NoSuchKey"));
  });

  test("take parts from other objects", async () => {
    const source = randomBytes(6 * MiB);
    await put("multi/source", source);
    const Key = "multi/copied";
    const { UploadId } = await s3.createMultipartUpload({ Bucket, Key });
    const CopySource = `${Bucket}/multi/source`;
    const one = await s3.uploadPartCopy({
      Bucket,
      Key,
      UploadId,
      PartNumber: 1,
      CopySource,
      CopySourceRange: `bytes=5-${5 * MiB + 4}`,
    });
    const two = await s3.uploadPartCopy({ Bucket, Key, UploadId, PartNumber: 2, CopySource });
    await s3.completeMultipartUpload({
      Bucket,
      Key,
      UploadId,
      MultipartUpload: {
        Parts: [
          { PartNumber: 1, ETag: one.CopyPartResult?.ETag },
          { PartNumber: 2, ETag: two.CopyPartResult?.ETag },
        ],
      },
    });
    const got = await s3.getObject({ Bucket, Key });
    const expected = Buffer.concat([source.subarray(5, 5 * MiB + 5), source]);
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(expected)).toBe(true);
  });
});
