/** The AWS CLI, s3cmd, rclone, boto3 and restic from Debian against the S3 gateway; rclone and restic against the others. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client, runClient } from "../helpers/clients.ts";
import type { Ran } from "../helpers/clients.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { contentsOf, plantTree } from "../helpers/three-stores.ts";

let gateways: TestGateways;
let tree: string;
let home: string;
const { user, password } = credential;

beforeAll(async () => {
  gateways = await startTestGateways({ protocols: ["s3", "webdav", "restic"], on: "folders" });
  home = path.join(gateways.folder, "home");
  tree = path.join(home, "tree");
  await mkdir(home);
  await plantTree(tree, "programs", 2);
  await writeFile(path.join(tree, "big.bin"), Buffer.alloc(17 * 1024 * 1024, "big"));
});

afterAll(() => gateways?.end());

const host = (url: string): string => url.replace("http://", "");
const env = (): Record<string, string> => ({
  HOME: home,
  AWS_ACCESS_KEY_ID: user,
  AWS_SECRET_ACCESS_KEY: password,
  AWS_DEFAULT_REGION: "us-east-1",
  AWS_EC2_METADATA_DISABLED: "true",
  RESTIC_PASSWORD: "restic",
});

describe.runIf(client("aws").there)("the AWS CLI", () => {
  const aws = (...args: string[]): Promise<Ran> =>
    runClient("aws", ["--endpoint-url", gateways.url("s3"), ...args], { env: env(), cwd: home });

  test("copies, syncs in parts, presigns and removes", async () => {
    await aws("s3", "mb", "s3://awscli");
    await aws("s3", "sync", "--quiet", tree, "s3://awscli/tree");
    for (const store of gateways.stores) {
      expect(await contentsOf(path.join(store, "awscli/tree"))).toEqual(await contentsOf(tree));
    }
    await aws("s3", "sync", "--quiet", "s3://awscli/tree", path.join(home, "aws-back"));
    expect(await contentsOf(path.join(home, "aws-back"))).toEqual(await contentsOf(tree));
    const again = await aws("s3", "sync", tree, "s3://awscli/tree");
    expect(again.stdout).toBe("");
    const { stdout: url } = await aws("s3", "presign", "s3://awscli/tree/deep/er/grüße & more.txt");
    const response = await fetch(url.trim());
    expect(await response.text()).toBe("text of programs\n");
    const listed = await aws(
      "s3api",
      "list-objects-v2",
      "--bucket",
      "awscli",
      "--page-size",
      "2",
      "--query",
      "length(Contents)",
    );
    expect(Number(listed.stdout)).toBe(Object.keys(await contentsOf(tree)).length);
    await aws("s3", "rm", "--quiet", "--recursive", "s3://awscli");
    await aws("s3", "rb", "s3://awscli");
  });
});

describe.runIf(client("s3cmd").there)("s3cmd", () => {
  test("puts in parts, syncs, gets, signs and deletes", async () => {
    const config = path.join(home, "s3cfg");
    const at = host(gateways.url("s3"));
    await writeFile(
      config,
      `[default]\naccess_key = ${user}\nsecret_key = ${password}\nhost_base = ${at}\nhost_bucket = ${at}\nuse_https = False\nsignature_v2 = False\n`,
    );
    const s3cmd = (...args: string[]): Promise<Ran> =>
      runClient("s3cmd", ["-c", config, "--no-progress", ...args], { env: env(), cwd: home });
    await s3cmd("mb", "s3://s3cmd");
    await s3cmd("put", "--multipart-chunk-size-mb=5", path.join(tree, "big.bin"), "s3://s3cmd/big.bin");
    await s3cmd("sync", `${tree}/`, "s3://s3cmd/tree/");
    await s3cmd("sync", "s3://s3cmd/tree/", `${home}/s3cmd-back/`);
    expect(await contentsOf(path.join(home, "s3cmd-back"))).toEqual(await contentsOf(tree));
    await s3cmd("get", "s3://s3cmd/big.bin", path.join(home, "s3cmd-big"));
    expect((await readFile(path.join(home, "s3cmd-big"))).equals(await readFile(path.join(tree, "big.bin")))).toBe(
      true,
    );
    await s3cmd("mv", "s3://s3cmd/big.bin", "s3://s3cmd/moved.bin");
    expect((await s3cmd("ls", "s3://s3cmd/")).stdout).toContain("moved.bin");
    await s3cmd("del", "--recursive", "--force", "s3://s3cmd");
    await s3cmd("rb", "s3://s3cmd");
  });
});

describe.runIf(client("python3").there)("boto3", () => {
  test("uploads in parts, pages, copies, presigns and cleans up by versions", async () => {
    const script = `
import boto3, io, os, sys, urllib.request
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from botocore.config import Config
s3 = boto3.resource("s3", endpoint_url=sys.argv[1], config=Config(signature_version="s3v4"))
c = s3.meta.client
b = s3.create_bucket(Bucket="boto3")
data = os.urandom(13 << 20)
b.upload_fileobj(io.BytesIO(data), "odd/ key+&=?.bin", ExtraArgs={"Metadata": {"x": "y"}, "ContentType": "a/b"},
                 Config=TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=6 << 20))
o = b.Object("odd/ key+&=?.bin")
assert o.metadata == {"x": "y"} and o.content_type == "a/b" and o.e_tag.endswith('-3"'), (o.metadata, o.e_tag)
got = io.BytesIO(); b.download_fileobj("odd/ key+&=?.bin", got); assert got.getvalue() == data
c.copy({"Bucket": "boto3", "Key": "odd/ key+&=?.bin"}, "boto3", "copied", Config=TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=6 << 20))
assert b.Object("copied").get(Range="bytes=100-199")["Body"].read() == data[100:200]
for i in range(25): b.put_object(Key="page/%02d" % i, Body=b"x")
keys = [x["Key"] for p in c.get_paginator("list_objects_v2").paginate(Bucket="boto3", Prefix="page/", PaginationConfig={"PageSize": 10}) for x in p["Contents"]]
assert keys == ["page/%02d" % i for i in range(25)], keys
url = c.generate_presigned_url("put_object", Params={"Bucket": "boto3", "Key": "presigned"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT", headers={"Content-Type": ""}))
assert b.Object("presigned").get()["Body"].read() == b"by url"
try: c.head_object(Bucket="boto3", Key="none"); assert False
except ClientError as e: assert e.response["Error"]["Code"] == "404"
b.object_versions.delete()
assert list(b.objects.all()) == []
b.delete()
print("all well")
`;
    const { stdout } = await runClient("python3", ["-c", script, gateways.url("s3")], { env: env() });
    expect(stdout).toBe("all well\n");
  });
});

describe.runIf(client("rclone").there)("rclone", () => {
  const remotes = {
    s3: () => ({
      TYPE: "s3",
      PROVIDER: "Other",
      ENDPOINT: gateways.url("s3"),
      ACCESS_KEY_ID: user,
      SECRET_ACCESS_KEY: password,
    }),
    webdav: () => ({ TYPE: "webdav", URL: gateways.url("webdav"), VENDOR: "other", USER: user, PASS: "" }),
  };

  test.each(["s3", "webdav"] as const)("copies, syncs, checks by downloading, moves and purges on %s", async (kind) => {
    const config: Record<string, string> = { RCLONE_CONFIG: "/dev/null" };
    const facts: Record<string, string> = remotes[kind]();
    if (kind === "webdav") facts["PASS"] = (await runClient("rclone", ["obscure", password])).stdout.trim();
    for (const [name, value] of Object.entries(facts)) config[`RCLONE_CONFIG_POOL_${name}`] = value;
    const rclone = (...args: string[]): Promise<Ran> =>
      runClient(
        "rclone",
        [...args, "--retries", "1", "--low-level-retries", "1", "--s3-chunk-size", "5M", "--s3-upload-cutoff", "6M"],
        {
          env: { ...config, HOME: home },
        },
      );
    const to = `pool:rclone-${kind}/tree`;
    await rclone("copy", tree, to);
    await rclone("check", "--download", tree, to);
    for (const store of gateways.stores) {
      expect(await contentsOf(path.join(store, `rclone-${kind}/tree`))).toEqual(await contentsOf(tree));
    }
    const changed = path.join(home, `changed-${kind}`);
    await plantTree(changed, "other", 1);
    // By plain WebDAV rclone sees sizes alone.
    await rclone("sync", "--ignore-times", changed, to);
    await rclone("check", "--download", changed, to);
    await rclone("moveto", `${to}/empty`, `${to}/moved/empty`);
    await rclone("purge", `pool:rclone-${kind}`);
    await expect(rclone("lsf", to)).rejects.toThrow(/directory not found/u);
  });
});

describe.runIf(client("restic").there)("restic", () => {
  test.each(["rest", "s3"] as const)(
    "backs up twice, checks every byte, forgets, prunes and restores by %s",
    async (kind) => {
      const repository =
        kind === "rest"
          ? `rest:http://${user}:${encodeURIComponent(password)}@${host(gateways.url("restic"))}/restic-rest/`
          : `s3:${gateways.url("s3")}/restic-s3/repository`;
      const restic = (...args: string[]): Promise<Ran> =>
        runClient("restic", ["-r", repository, "--no-cache", ...args], { env: env(), cwd: home });
      await restic("init");
      await restic("backup", "tree");
      await writeFile(path.join(tree, "added.txt"), kind);
      await restic("backup", "tree");
      await restic("check", "--read-data");
      await restic("forget", "--keep-last", "1", "--prune");
      await restic("check", "--read-data");
      const target = path.join(home, `restored-${kind}`);
      await restic("restore", "latest", "--target", target);
      expect(await contentsOf(path.join(target, "tree"))).toEqual(await contentsOf(tree));
      const folder = kind === "rest" ? "restic-rest" : "restic-s3/repository";
      const [first, ...others] = await Promise.all(
        gateways.stores.map((store) => contentsOf(path.join(store, folder))),
      );
      for (const other of others) expect(other).toEqual(first);
      // A store on its own is a repository that restic opens without Holdfast.
      await runClient("restic", ["-r", path.join(gateways.stores[1] ?? "", folder), "--no-cache", "check"], {
        env: env(),
      });
      await rm(target, { recursive: true });
    },
  );
});
