/** Objects that were uploaded in parts: read by the numbers of their parts, with checksums, completed by many requests. */
import { randomBytes } from "node:crypto";
import type {
  ChecksumAlgorithm,
  ChecksumType,
  CompleteMultipartUploadCommandOutput,
  CompletedPart,
  S3,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Store } from "../../src/contract/store.ts";
import { gate } from "../helpers/gate.ts";
import type { Gate } from "../helpers/gate.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { sdkClient } from "../helpers/sdk-client.ts";
import { waitUntil } from "../helpers/wait-until.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

const MiB = 1024 * 1024;
const Bucket = "bucket";
const bodies = [randomBytes(5 * MiB), randomBytes(5 * MiB), randomBytes(77)];
const whole = Buffer.concat(bodies);
let gateways: TestGateways;
/** Takes requests without a signature, for what no SDK would send. */
let open: TestGateways;
let s3: S3;
/** Puts of objects wait here while there is one, and say so. */
let held: { readonly begun: Gate; readonly goOn: Gate } | undefined;

const holding = (store: Store): Store =>
  storeLike(store, {
    put: async (name, ...rest) => {
      if (held && !name.startsWith(".holdfast/")) {
        held.begun.open();
        await held.goOn.opened;
      }
      return store.put(name, ...rest);
    },
  });

beforeAll(async () => {
  [gateways, open] = await Promise.all([
    startTestGateways({ protocols: ["s3"], bucket: Bucket, wrap: holding }),
    startTestGateways({ protocols: ["s3"], guarded: false, bucket: Bucket }),
  ]);
  s3 = sdkClient(gateways.url("s3"));
});

afterAll(async () => {
  s3?.destroy();
  await gateways?.end();
  await open?.end();
});

interface Sum {
  readonly algorithm?: ChecksumAlgorithm;
  readonly type?: ChecksumType;
}

interface Begun {
  readonly UploadId: string;
  readonly Parts: CompletedPart[];
}

async function upload(Key: string, parts: readonly Uint8Array[], { algorithm, type }: Sum = {}): Promise<Begun> {
  const { UploadId = "" } = await s3.createMultipartUpload({
    Bucket,
    Key,
    ChecksumAlgorithm: algorithm,
    ChecksumType: type,
  });
  const Parts: CompletedPart[] = [];
  for (const [index, Body] of parts.entries()) {
    const PartNumber = index + 1;
    const sum = algorithm === undefined ? {} : { ChecksumAlgorithm: algorithm };
    const { ETag } = await s3.uploadPart({ Bucket, Key, UploadId, PartNumber, Body, ...sum });
    Parts.push({ PartNumber, ETag });
  }
  return { UploadId, Parts };
}

const complete = (Key: string, { UploadId, Parts }: Begun): Promise<CompleteMultipartUploadCommandOutput> =>
  s3.completeMultipartUpload({ Bucket, Key, UploadId, MultipartUpload: { Parts } });

const failure = (status: number, name?: string): unknown =>
  expect.objectContaining({
    ...(name === undefined ? {} : { name }),
    $metadata: expect.objectContaining({ httpStatusCode: status }),
  });

describe("a part of an object", () => {
  beforeAll(async () => {
    await complete("parts", await upload("parts", bodies));
    await s3.putObject({ Bucket, Key: "plain", Body: "plain" });
    await s3.putObject({ Bucket, Key: "empty", Body: "" });
  });

  test.each([1, 2, 3])("%d is read by its number", async (PartNumber) => {
    const body = bodies[PartNumber - 1] ?? Buffer.alloc(0);
    const got = await s3.getObject({ Bucket, Key: "parts", PartNumber });
    const begin = (PartNumber - 1) * 5 * MiB;
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(body)).toBe(true);
    expect(got).toMatchObject({
      PartsCount: 3,
      ContentLength: body.length,
      ContentRange: `bytes ${begin}-${begin + body.length - 1}/${whole.length}`,
      $metadata: { httpStatusCode: 206 },
    });
    const head = await s3.headObject({ Bucket, Key: "parts", PartNumber });
    expect(head).toMatchObject({ PartsCount: 3, ContentLength: body.length, ETag: got.ETag });
  });

  test("that it does not have cannot be had", async () => {
    await expect(s3.getObject({ Bucket, Key: "parts", PartNumber: 4 })).rejects.toEqual(
      failure(416, "InvalidPartNumber"),
    );
    await expect(s3.headObject({ Bucket, Key: "parts", PartNumber: 4 })).rejects.toEqual(failure(416));
    await expect(s3.getObject({ Bucket, Key: "plain", PartNumber: 2 })).rejects.toEqual(
      failure(416, "InvalidPartNumber"),
    );
  });

  test("that was put whole is the whole, and no number of parts is told", async () => {
    const got = await s3.getObject({ Bucket, Key: "plain", PartNumber: 1 });
    expect([await got.Body?.transformToString(), got.PartsCount, got.$metadata.httpStatusCode]).toEqual([
      "plain",
      undefined,
      206,
    ]);
    const empty = await s3.getObject({ Bucket, Key: "empty", PartNumber: 1 });
    expect([await empty.Body?.transformToString(), empty.$metadata.httpStatusCode]).toEqual(["", 200]);
  });

  test("is asked for by its number or by a range, not by both", async () => {
    await expect(s3.getObject({ Bucket, Key: "parts", PartNumber: 1, Range: "bytes=0-1" })).rejects.toEqual(
      failure(400, "InvalidRequest"),
    );
  });

  test("is that of a copy too", async () => {
    await s3.copyObject({ Bucket, Key: "copied", CopySource: `${Bucket}/parts` });
    const copied = await s3.headObject({ Bucket, Key: "copied", PartNumber: 3 });
    expect(copied).toMatchObject({ PartsCount: 3, ContentLength: 77 });
  });

  test.each(["0", "-1", "1e0", "0x1", "%201%20", "1.0", "10001", "", "one"])(
    "has no number like %j, whether it is read or put",
    async (number) => {
      await fetch(`${open.url("s3")}/${Bucket}/object`, { method: "PUT", body: "object" });
      const read = await fetch(`${open.url("s3")}/${Bucket}/object?partNumber=${number}`);
      expect([read.status, await read.text()]).toEqual([400, expect.stringContaining("InvalidArgument")]);
      const begun = await fetch(`${open.url("s3")}/${Bucket}/object?uploads`, { method: "POST" });
      const id = /<UploadId>(\w+)</u.exec(await begun.text())?.[1] ?? "";
      const put = await fetch(`${open.url("s3")}/${Bucket}/object?uploadId=${id}&partNumber=${number}`, {
        method: "PUT",
        body: "part",
      });
      expect([put.status, await put.text()]).toEqual([400, expect.stringContaining("InvalidArgument")]);
      const listed = await fetch(`${open.url("s3")}/${Bucket}/object?uploadId=${id}`);
      expect(await listed.text()).not.toContain("<Part>");
      const done = await fetch(`${open.url("s3")}/${Bucket}/object?uploadId=${id}`, {
        method: "POST",
        body: `<CompleteMultipartUpload><Part><PartNumber>${decodeURIComponent(number)}</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>`,
      });
      expect(done.status).toBe(400);
    },
  );
});

describe("attributes of an object", () => {
  test("are told one by one, with its parts and its checksum", async () => {
    const done = await complete("attributes", await upload("attributes", bodies, { algorithm: "SHA256" }));
    const got = await s3.getObjectAttributes({
      Bucket,
      Key: "attributes",
      ObjectAttributes: ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
      MaxParts: 2,
    });
    expect(got).toMatchObject({
      ETag: done.ETag?.replaceAll('"', ""),
      Checksum: { ChecksumSHA256: done.ChecksumSHA256, ChecksumType: "COMPOSITE" },
      ObjectParts: { TotalPartsCount: 3, IsTruncated: true, MaxParts: 2 },
      StorageClass: "STANDARD",
      ObjectSize: whole.length,
    });
    expect(got.ObjectParts?.Parts?.map((part) => [part.PartNumber, part.Size])).toEqual([
      [1, 5 * MiB],
      [2, 5 * MiB],
    ]);
    const some = await s3.getObjectAttributes({ Bucket, Key: "attributes", ObjectAttributes: ["ObjectSize"] });
    expect([some.ETag, some.ObjectParts, some.ObjectSize]).toEqual([undefined, undefined, whole.length]);
  });

  test("that do not exist are an error", async () => {
    const headers = { "x-amz-object-attributes": "ETag,Colour" };
    await fetch(`${open.url("s3")}/${Bucket}/object`, { method: "PUT", body: "object" });
    expect((await fetch(`${open.url("s3")}/${Bucket}/object?attributes`, { headers })).status).toBe(400);
    expect((await fetch(`${open.url("s3")}/${Bucket}/object?attributes`)).status).toBe(400);
  });
});

describe("the checksum of an upload", () => {
  const cases = [
    { algorithm: "CRC32", type: "COMPOSITE" },
    { algorithm: "CRC32", type: "FULL_OBJECT" },
    { algorithm: "SHA256", type: "COMPOSITE" },
    { algorithm: "CRC64NVME", type: "FULL_OBJECT" },
  ] as const;
  test.each(cases)("$algorithm, $type, stands in the answer that completes it as a HEAD tells it", async (sum) => {
    const done = await complete("sums", await upload("sums", bodies, sum));
    const head = await s3.headObject({ Bucket, Key: "sums", ChecksumMode: "ENABLED" });
    const name = `Checksum${sum.algorithm}` as const;
    expect(done[name]).toBeDefined();
    expect([done[name], done.ChecksumType]).toEqual([head[name], sum.type]);
  });

  test("is refused of a type that it cannot be", async () => {
    await expect(
      s3.createMultipartUpload({
        Bucket,
        Key: "sums",
        ChecksumAlgorithm: "CRC64NVME",
        ChecksumType: "COMPOSITE",
      }),
    ).rejects.toEqual(failure(400, "InvalidRequest"));
  });

  test("and its size are checked against what the client says", async () => {
    const { UploadId, Parts } = await upload("size", [Buffer.from("12345")]);
    const of = (MpuObjectSize: number): Promise<unknown> =>
      s3.completeMultipartUpload({
        Bucket,
        Key: "size",
        UploadId,
        MultipartUpload: { Parts },
        MpuObjectSize,
      });
    await expect(of(6)).rejects.toEqual(failure(400, "InvalidRequest"));
    await of(5);
  });

  test("is computed for a copy where that is asked", async () => {
    await s3.putObject({ Bucket, Key: "source", Body: "123456789", ChecksumAlgorithm: "SHA1" });
    const copy = await s3.copyObject({
      Bucket,
      Key: "target",
      CopySource: `${Bucket}/source`,
      ChecksumAlgorithm: "CRC32",
    });
    // The check value of CRC-32, cbf43926.
    expect(copy.CopyObjectResult?.ChecksumCRC32).toBe("y/Q5Jg==");
    const head = await s3.headObject({ Bucket, Key: "target", ChecksumMode: "ENABLED" });
    expect([head.ChecksumCRC32, head.ChecksumSHA1]).toEqual(["y/Q5Jg==", undefined]);
  });
});

describe("an upload that is completed by several requests at once", () => {
  test("is completed once, and all of them get the same answer", async () => {
    const begun = await upload("together", [Buffer.from("together")]);
    held = { begun: gate(), goOn: gate() };
    const first = complete("together", begun);
    await held.begun.opened;
    const others = Array.from({ length: 7 }, () => complete("together", begun));
    await waitUntil(async () => /gateway_connections\{protocol="s3"\} [89]$/mu.test(await gateways.metrics.text()));
    held.goOn.open();
    held = undefined;
    const answers = await Promise.all([first, ...others]);
    expect(new Set(answers.map((answer) => answer.ETag)).size).toBe(1);
  });

  test("answers a repetition, and not a request for other parts", async () => {
    const begun = await upload("again", [Buffer.from("again")]);
    const { ETag } = await complete("again", begun);
    expect((await complete("again", begun)).ETag).toBe(ETag);
    const other = { ...begun, Parts: [{ PartNumber: 1, ETag: '"ffffffffffffffffffffffffffffffff"' }] };
    await expect(complete("again", other)).rejects.toEqual(failure(404, "NoSuchUpload"));
  });

  test("is completed by the next one where the first asked for what cannot be", async () => {
    const begun = await upload("mistaken", [Buffer.from("mistaken")]);
    const wrong = { ...begun, Parts: [{ PartNumber: 1, ETag: '"ffffffffffffffffffffffffffffffff"' }] };
    const results = await Promise.allSettled([complete("mistaken", wrong), complete("mistaken", begun)]);
    expect(results.map((result) => result.status)).toEqual(["rejected", "fulfilled"]);
  });
});
