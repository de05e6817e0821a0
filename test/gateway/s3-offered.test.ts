/** What the S3 gateway does not offer is refused by its name, whatever it is asked of, and nothing is done. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { sdkClient } from "../helpers/sdk-client.ts";

let open: TestGateways;
let signed: TestGateways;

beforeAll(async () => {
  [open, signed] = await Promise.all([
    startTestGateways({ protocols: ["s3"], guarded: false }),
    startTestGateways({ protocols: ["s3"], bucket: "bucket" }),
  ]);
});

afterAll(async () => {
  await open?.end();
  await signed?.end();
});

beforeEach(async () => {
  await open.pool.put("bucket/object", toBody("the object"));
  await open.pool.put("bucket/source", toBody("the source"));
  await open.pool.delete("bucket/new");
});

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: Headers;
}

async function ask(method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer> {
  const answer = await fetch(`${open.url("s3")}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

const begun = async (key: string): Promise<string> =>
  /<UploadId>(\w+)</u.exec((await ask("POST", `/bucket/${key}?uploads`)).text)?.[1] ?? "";

const aclOf = (grants: string): string =>
  `<AccessControlPolicy><Owner><ID>holdfast</ID></Owner><AccessControlList>${grants}</AccessControlList></AccessControlPolicy>`;
const ownGrant = "<Grant><Grantee><ID>holdfast</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>";
const publicGrant =
  '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">' +
  "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>";

describe("headers that are not offered", () => {
  const lost: [string, string][] = [
    ["x-amz-acl", "public-read"],
    ["x-amz-grant-read", "uri=http://acs.amazonaws.com/groups/global/AllUsers"],
    ["x-amz-grant-full-control", "id=1"],
    ["x-amz-object-lock-mode", "COMPLIANCE"],
    ["x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00Z"],
    ["x-amz-object-lock-legal-hold", "ON"],
    ["x-amz-server-side-encryption", "AES256"],
    ["x-amz-server-side-encryption-customer-algorithm", "AES256"],
    ["x-amz-server-side-encryption-aws-kms-key-id", "key"],
    ["x-amz-tagging", "a=b"],
    ["x-amz-website-redirect-location", "/elsewhere"],
    ["x-amz-write-offset-bytes", "5"],
    ["x-amz-bypass-governance-retention", "true"],
    ["x-amz-mfa", "serial 123456"],
    ["x-amz-checksum-sha512", "AAAA"],
    ["x-amz-if-match-size", "5"],
    ["x-amz-something-new", "1"],
    ["if-modified-since", new Date(0).toUTCString()],
    ["if-unmodified-since", new Date(0).toUTCString()],
    ["content-range", "bytes 0-3/10"],
  ];

  test.each(lost)("%s: %s is refused where an object is put", async (name, value) => {
    const answer = await ask("PUT", "/bucket/new", { [name]: value }, "new");
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
    await expect(open.pool.stat("bucket/new")).rejects.toMatchObject({ code: "not-found" });
  });

  test.each(lost)("%s: %s is refused where an object is copied", async (name, value) => {
    const answer = await ask("PUT", "/bucket/new", { "x-amz-copy-source": "bucket/source", [name]: value });
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
  });

  test.each(lost)("%s: %s is refused where an upload is begun", async (name, value) => {
    const answer = await ask("POST", "/bucket/new?uploads", { [name]: value });
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
  });

  test.each([...lost, ["if-match", '"x"'] as const, ["if-none-match", "*"] as const])(
    "%s: %s is refused where a part is put",
    async (name, value) => {
      const id = await begun("new");
      const answer = await ask("PUT", `/bucket/new?uploadId=${id}&partNumber=1`, { [name]: value }, "part");
      expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
    },
  );

  test.each(lost.filter(([name]) => !name.startsWith("content-range")))(
    "%s: %s is refused where an upload is completed",
    async (name, value) => {
      const answer = await ask("POST", "/bucket/new?uploadId=1", { [name]: value }, "<CompleteMultipartUpload/>");
      expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
    },
  );

  test.each([
    ["x-amz-acl", "public-read"],
    ["x-amz-grant-write", "id=1"],
    ["x-amz-bucket-object-lock-enabled", "true"],
    ["x-amz-object-ownership", "ObjectWriter"],
    ["if-none-match", "*"],
  ])("%s: %s is refused where a bucket is made", async (name, value) => {
    const answer = await ask("PUT", "/new-bucket", { [name]: value });
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(name)]);
    expect((await ask("HEAD", "/new-bucket")).status).toBe(404);
  });

  test.each([
    ["GET", "/bucket/object", "x-amz-server-side-encryption-customer-key", "key"],
    ["HEAD", "/bucket/object", "x-amz-server-side-encryption-customer-key", "key"],
    ["DELETE", "/bucket/object", "x-amz-mfa", "serial 123456"],
    ["DELETE", "/bucket/object", "x-amz-bypass-governance-retention", "true"],
    ["DELETE", "/bucket/object", "x-amz-if-match-last-modified-time", new Date(0).toUTCString()],
    ["DELETE", "/bucket", "if-match", "*"],
    ["POST", "/bucket?delete", "x-amz-bypass-governance-retention", "true"],
    ["GET", "/bucket", "if-match", "*"],
  ])("%s %s with %s: %s is refused", async (method, path, name, value) => {
    const body = method === "POST" ? "<Delete><Object><Key>object</Key></Object></Delete>" : undefined;
    const answer = await ask(method, path, { [name]: value }, body);
    expect(answer.status).toBe(501);
    expect((await open.pool.stat("bucket/object")).size).toBe(10);
  });

  test("another owner of the bucket than this gateway's is refused, and this one is taken", async () => {
    for (const [method, path] of [
      ["GET", "/bucket/object"],
      ["PUT", "/bucket/new"],
      ["DELETE", "/bucket/object"],
      ["GET", "/bucket"],
    ] as const) {
      const refused = await ask(method, path, { "x-amz-expected-bucket-owner": "123456789012" });
      expect(refused.status).toBe(403);
    }
    expect((await ask("GET", "/bucket/object", { "x-amz-expected-bucket-owner": "holdfast" })).status).toBe(200);
  });

  test("words that say how it is anyway are taken", async () => {
    const taken = {
      "x-amz-acl": "private",
      "x-amz-storage-class": "STANDARD",
      "x-amz-request-payer": "requester",
      "x-amz-security-token": "token",
    };
    expect((await ask("PUT", "/bucket/new", taken, "new")).status).toBe(200);
    expect((await ask("PUT", "/bucket", { "x-amz-object-ownership": "BucketOwnerEnforced" })).status).toBe(200);
    expect((await ask("PUT", "/bucket", { "x-amz-bucket-object-lock-enabled": "false" })).status).toBe(200);
  });

  test("another storage class is refused by its own code", async () => {
    const answer = await ask("PUT", "/bucket/new", { "x-amz-storage-class": "GLACIER" }, "new");
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("InvalidStorageClass")]);
  });

  test("are refused in a presigned address just the same, and those that are offered are heeded there", async () => {
    const refused = await ask("PUT", "/bucket/new?x-amz-acl=public-read", {}, "new");
    expect([refused.status, refused.text]).toEqual([501, expect.stringContaining("x-amz-acl")]);
    const wrong = await ask("PUT", "/bucket/new?x-amz-checksum-crc32=AAAAAA%3D%3D", {}, "new");
    expect([wrong.status, wrong.text]).toEqual([400, expect.stringContaining("BadDigest")]);
    expect((await ask("PUT", "/bucket/new?x-amz-meta-word=w%C3%B6rd", {}, "new")).status).toBe(200);
    expect((await open.pool.stat("bucket/new")).metadata?.["x-amz-meta-word"]).toBe("wörd");
    expect((await ask("PUT", "/bucket/new?x-amz-copy-source=bucket%2Fsource")).text).toContain("CopyObjectResult");
  });
});

describe("words of the query that are not offered", () => {
  test.each([
    "accelerate", "analytics", "intelligent-tiering", "inventory", "logging", "metrics", "notification",
    "ownershipControls", "policyStatus", "publicAccessBlock", "replication", "metadataTable", "session", "new-in-s3",
  ])("GET of a bucket with ?%s is refused", async (word) => {
    const answer = await ask("GET", `/bucket?${word}`);
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(word)]);
  }); // prettier-ignore

  test.each([
    "accelerate", "analytics", "cors", "encryption", "intelligent-tiering", "inventory", "lifecycle", "logging", "metrics",
    "notification", "object-lock", "ownershipControls", "policy", "publicAccessBlock", "replication", "requestPayment",
    "tagging", "versioning", "website", "new-in-s3",
  ])("PUT and DELETE of a bucket with ?%s are refused", async (word) => {
    for (const method of ["PUT", "DELETE"]) {
      const answer = await ask(method, `/bucket?${word}`);
      expect([answer.status, answer.text]).toEqual([501, expect.stringContaining(word)]);
    }
  }); // prettier-ignore

  test.each(["legal-hold", "retention", "torrent", "annotation", "restore"])(
    "GET and HEAD of an object with ?%s are refused",
    async (word) => {
      for (const method of ["GET", "HEAD"]) expect((await ask(method, `/bucket/object?${word}`)).status).toBe(501);
    },
  );

  test.each(["legal-hold", "retention", "tagging", "renameObject", "append&position=10", "encryption", "partNumber=1"])(
    "PUT of an object with ?%s is refused, and the object stays",
    async (word) => {
      expect((await ask("PUT", `/bucket/object?${word}`, {}, "other")).status).toBe(501);
      expect((await open.pool.stat("bucket/object")).size).toBe(10);
    },
  );

  test.each(["tagging", "uploads"])("DELETE of an object with ?%s is refused, and the object stays", async (word) => {
    expect((await ask("DELETE", `/bucket/object?${word}`)).status).toBe(501);
    expect((await open.pool.stat("bucket/object")).size).toBe(10);
  });

  test.each(["restore", "select&select-type=2"])("POST of an object with ?%s is refused", async (word) => {
    const answer = await ask("POST", `/bucket/object?${word}`, {}, "x");
    expect([answer.status, answer.text]).toEqual([501, expect.stringContaining("NotImplemented")]);
  });

  test("are those of other operations too", async () => {
    expect((await ask("GET", "/bucket?marker=a&list-type=2")).status).toBe(501);
    expect((await ask("GET", "/bucket?continuation-token=a")).status).toBe(501);
    expect((await ask("GET", "/bucket?list-type=3")).status).toBe(400);
    expect((await ask("HEAD", "/bucket?acl")).status).toBe(501);
  });

  test("do not include words for logs, and the name of the call that SDKs add", async () => {
    expect((await ask("GET", "/bucket/object?x-id=GetObject&x-user=me")).text).toBe("the object");
  });
});

describe("bodies that ask for what is not offered", () => {
  test.each([
    ["PUT", "/bucket/object?acl"],
    ["PUT", "/bucket?acl"],
  ])("%s %s with a grant to everybody is refused, and one to the owner alone is taken", async (method, path) => {
    const refused = await ask(method, path, {}, aclOf(ownGrant + publicGrant));
    expect([refused.status, refused.text]).toEqual([501, expect.stringContaining("grants")]);
    expect((await ask(method, path, {}, aclOf(publicGrant))).status).toBe(501);
    expect((await ask(method, path, {}, aclOf(""))).status).toBe(501);
    expect((await ask(method, path, {}, aclOf(ownGrant.replace("holdfast", "other")))).status).toBe(501);
    expect((await ask(method, path, {}, aclOf(ownGrant))).status).toBe(200);
  });

  test("an ACL that is none of S3's is an error of another kind", async () => {
    const answer = await ask("PUT", "/bucket?acl", { "x-amz-acl": "public-ready" });
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("InvalidArgument")]);
  });

  test("an ACL that is neither in a header nor in the body, or in both, is an error", async () => {
    const nothing = await ask("PUT", "/bucket?acl");
    expect([nothing.status, nothing.text]).toEqual([400, expect.stringContaining("MissingSecurityHeader")]);
    expect((await ask("PUT", "/bucket?acl", { "x-amz-acl": "private" }, aclOf(ownGrant))).status).toBe(400);
    expect((await ask("PUT", "/bucket?acl", { "x-amz-acl": "private" })).status).toBe(200);
  });

  test("what an SDK reads of an ACL it can write again", async () => {
    const s3 = sdkClient(signed.url("s3"));
    await signed.pool.put("key", toBody("x"));
    const at = { Bucket: "bucket", Key: "key" };
    const { Owner, Grants } = await s3.getObjectAcl(at);
    await s3.putObjectAcl({ ...at, AccessControlPolicy: { Owner, Grants } });
    await expect(s3.putObjectAcl({ ...at, ACL: "public-read" })).rejects.toMatchObject({
      name: "NotImplemented",
    });
    await expect(s3.putBucketAcl({ Bucket: "bucket", GrantRead: "id=somebody" })).rejects.toMatchObject({
      name: "NotImplemented",
    });
    s3.destroy();
  });

  test.each(["<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>", "<Bucket><Type>Directory</Type></Bucket>"])(
    "a bucket is not made with %s",
    async (content) => {
      const body = `<CreateBucketConfiguration>${content}</CreateBucketConfiguration>`;
      expect((await ask("PUT", "/new-bucket", {}, body)).status).toBe(501);
      expect((await ask("HEAD", "/new-bucket")).status).toBe(404);
    },
  );
});

describe("buckets", () => {
  test("are listed by prefix and in pages", async () => {
    for (const name of ["page-a", "page-b", "page-c"]) await ask("PUT", `/${name}`);
    const names = (text: string): string[] => [...text.matchAll(/<Name>([^<]*)</gu)].map(([, name]) => name ?? "");
    const first = await ask("GET", "/?prefix=page-&max-buckets=2");
    expect(names(first.text)).toEqual(["page-a", "page-b"]);
    const token = /<ContinuationToken>([^<]*)</u.exec(first.text)?.[1] ?? "";
    const second = await ask("GET", `/?prefix=page-&max-buckets=2&continuation-token=${token}`);
    expect(names(second.text)).toEqual(["page-c"]);
    expect(second.text).not.toContain("ContinuationToken");
    expect((await ask("GET", "/?bucket-region=x")).status).toBe(501);
  });
});
