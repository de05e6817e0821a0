/** How stores are told apart by where they are, and stores inside stores. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HoldfastError } from "../../src/contract/errors.ts";
import { openPool } from "../../src/open-pool.ts";
import { knownSchemes, placeOf } from "../../src/stores/open-store.ts";
import { parsePool } from "../../src/config/pool-config.ts";
import type { PoolDescription } from "../../src/config/pool-config.ts";
import { realPath } from "../../src/support/real-path.ts";
import {
  addressOf,
  formerAddressOf,
  placesOf,
  refuseStoresInStores,
  storeFolders,
} from "../../src/stores/store-address.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";

let home: string;

beforeAll(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "holdfast-address-")));
  await mkdir(join(home, "disk/sub"), { recursive: true });
  await mkdir(join(home, "disk-2"));
  await symlink("disk", join(home, "link"));
  await symlink("disk/sub", join(home, "link-into"));
  await symlink(join(home, "disk/not-mounted"), join(home, "dangling"));
  await symlink("round", join(home, "round"));
  await writeFile(join(home, "netrc"), "machine nas login netuser password sesame\n");
  await mkdir(join(home, ".ssh"));
  await writeFile(join(home, ".ssh/config"), SSH_CONFIG);
});
afterAll(() => rm(home, { recursive: true, force: true }));

const SSH_CONFIG = `
Host alias
  HostName nas
  Port 2222
  User me
Host behind-*
  HostName localhost
  User me
Host behind-one
  ProxyJump one
Host behind-two
  ProxyJump two
`;

/** A URL, with a store's environment and a description where they matter. */
type Given = string | readonly [url: string, env: Record<string, string>, description?: string];

/** What the pools in a pool's file are called there, and their stores. */
type Nested = Record<string, readonly Given[]>;

/** `~` in a URL stands for the test's folder, which is the home of every store, too. */
async function describePool(stores: readonly Given[], nested: Nested = {}): Promise<PoolDescription> {
  const text = (list: readonly Given[]): string =>
    JSON.stringify(
      list.map((one) => {
        const [url, env, description] = typeof one === "string" ? [one, {}] : one;
        const variables = Object.entries({ HOME: home, ...env });
        return {
          url: url.replace("~", home),
          env: variables.map(([name, value]) => ({ name, value: value.replace("~", home) })),
          ...(description === undefined ? {} : { description }),
        };
      }),
    );
  const parsed = await parsePool("multi:///pool.json?mode=mirror", {
    readFile: (path) =>
      Promise.resolve({ bytes: Buffer.from(text(path === "/pool.json" ? stores : (nested[path] ?? []))) }),
  });
  if (parsed.kind !== "pool") throw new Error("it is no pool");
  return parsed;
}

async function addressesOf(...stores: readonly Given[]): Promise<readonly string[]> {
  const found: string[] = [];
  // Each in a pool of its own, as two pools of one machine.
  for (const store of stores) {
    const pool = await describePool([store]);
    const places = await placesOf(pool);
    found.push(...pool.stores.map((one) => addressOf(one, places)));
  }
  return found;
}

async function refusal(stores: readonly Given[], nested?: Nested): Promise<string | undefined> {
  const pool = await describePool(stores, nested);
  try {
    refuseStoresInStores(pool, await placesOf(pool));
    return undefined;
  } catch (error) {
    if (error instanceof HoldfastError && error.code === "config") return error.message;
    throw error;
  }
}

const azure = (account: string, more: Record<string, string> = {}): Given => [
  "azure://backup/x",
  { AZURE_ACCOUNT_NAME: account, AZURE_ACCOUNT_KEY: "a2V5", ...more },
];
const connection = (text: string): Given => ["azure://backup/x", { AZURE_CONNECTION_STRING: text }];
const swift = (more: Record<string, string>, url = "swift://c"): Given => [
  url,
  { SWIFT_AUTHURL: "http://one/auth/v1.0", SWIFT_USERNAME: "u", SWIFT_PASSWORD: "p", ...more },
];
const keys = (name: string, more: Record<string, string> = {}): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: name,
  AWS_SECRET_ACCESS_KEY: "s",
  ...more,
});
const minio = "s3://nas:9000/bucket/a";
const drive = (token: string, description?: string, url = "gdrive://backup"): Given =>
  description === undefined
    ? [url, { OPENDAL_GDRIVE_REFRESH_TOKEN: token }]
    : [url, { OPENDAL_GDRIVE_REFRESH_TOKEN: token }, description];

describe("a store's address", () => {
  it.each<[what: string, one: Given, other: Given]>([
    ["a folder and a link to it", "file://~/disk", "file://~/link"],
    ["a folder that is not there, through a link that is", "file://~/disk/not-yet/b", "~/link/not-yet/b"],
    ["a link whose target is not there, and the target", "file://~/dangling/x", "file://~/disk/not-mounted/x"],
    ["passwords and default ports", "sftp://me:one@nas/a", "scp://me:two@NAS:22/./a/"],
    [
      "Azure's emulator",
      connection("UseDevelopmentStorage=true"),
      connection("BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1"),
    ],
    ["an alias of ~/.ssh/config", "sftp://alias/a", "sftp://me@nas:2222/a"],
    ["FTP with and without TLS on one port", "ftp://me:p@nas/a", "ftpes://me@nas:21/a/"],
    ["a user of .netrc", ["ftp://nas/a", { NETRC: "~/netrc" }], "ftp://netuser:x@nas/a"],
    ["WebDAV's passwords and ports", "webdav://me:a@nas/x", "webdav://me:b@nas:80/x/"],
    ["SMB in upper and lower case", "smb://me:a@nas/Share/Folder", "smb://ME@NAS:445/share/folder"],
    ["an rsync daemon's module", "rsync://me@nas::mod/a", "rsync://me:p@nas::mod/a/"],
    [
      "restic's server, its user in env",
      "rest:http://me:p@nas:8000/a",
      ["rest:http://nas:8000/a/", { RESTIC_REST_USERNAME: "me" }],
    ],
    [
      "an endpoint in the URL and in env",
      "s3://bucket/a?endpoint=https://nas",
      ["s3://bucket/a/", { AWS_ENDPOINT_URL: "https://nas/" }],
    ],
    ["AWS by region and by key", ["s3://bucket/a", keys("one")], ["s3://bucket/a?region=eu-west-1", keys("two")]],
    [
      "a bucket of Google's by HMAC",
      "gs://bucket/a",
      ["gs://bucket/a/", { GS_ACCESS_KEY_ID: "k", GS_SECRET_ACCESS_KEY: "s" }],
    ],
    ["Azure by name and by connection string", azure("acc"), connection("AccountName=acc;AccountKey=a2V5")],
    [
      "Azure by its endpoint",
      azure("acc"),
      connection("BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sig=x"),
    ],
    [
      "Azure by key and by signature",
      azure("acc"),
      ["azure://backup/x", { AZURE_STORAGE_ACCOUNT: "acc", AZURE_STORAGE_SAS_TOKEN: "sig=x" }],
    ],
    ["Swift's passwords", swift({}), swift({ SWIFT_PASSWORD: "another" })],
    ["a service's secrets", ["b2://k:one@bucket/a", {}], ["b2://k:two@bucket/a", {}]],
    [
      "rclone's secrets",
      ["rclone://r:a", { RCLONE_CONFIG_R_PASS: "one" }],
      ["rclone://r:a", { RCLONE_CONFIG_R_PASS: "two" }],
    ],
    ["a token's account", drive("one"), drive("two")],
    ["rclone's own folders", "rclone://:local:~/disk", "file://~/disk"],
    ["a scheme that is not known", "other://me:one@nas/a", "other://me:two@nas/a"],
  ])("is one for %s", async (_, one, other) => {
    const [a, b] = await addressesOf(one, other);
    expect(a).toMatch(/^[0-9a-f]{32}$/u);
    expect(b).toBe(a);
  });

  it.each<[what: string, one: Given, other: Given]>([
    ["folders", "file://~/disk", "file://~/disk-2"],
    ["SFTP users", "sftp://me@nas/a", "sftp://you@nas/a"],
    ["SFTP hosts of one address behind two others", "sftp://behind-one/a", "sftp://behind-two/a"],
    ["SFTP ports", "sftp://me@nas/a", "sftp://me@nas:2222/a"],
    ["relative and absolute paths", "sftp://me@nas/a", "sftp://me@nas//a"],
    ["FTP users", "ftp://me@nas/a", "ftp://nas/a"],
    ["WebDAV users", "webdav://me@nas/a", ["webdav://nas/a", { NETRC: "~/netrc" }]],
    ["SMB shares", "smb://me@nas/one", "smb://me@nas/two"],
    ["rsync modules", "rsync://nas::one", "rsync://nas::two"],
    [
      "restic users in env",
      ["rest:http://nas/a", { RESTIC_REST_USERNAME: "me" }],
      ["rest:http://nas/a", { RESTIC_REST_USERNAME: "you" }],
    ],
    [
      "AWS_ENDPOINT_URL",
      ["s3://bucket", { AWS_ENDPOINT_URL: "http://one" }],
      ["s3://bucket", { AWS_ENDPOINT_URL: "http://two" }],
    ],
    ["AWS_ENDPOINT_URL_S3", "s3://bucket", ["s3://bucket", { AWS_ENDPOINT_URL_S3: "http://two" }]],
    ["AWS's partitions", "s3://bucket", ["s3://bucket", { AWS_REGION: "cn-north-1" }]],
    ["another service's users", [minio, keys("one")], [minio, keys("two")]],
    ["another service's profiles", [minio, { AWS_PROFILE: "one" }], [minio, { AWS_PROFILE: "two" }]],
    ["Google's emulator", "gs://bucket", ["gs://bucket", { STORAGE_EMULATOR_HOST: "127.0.0.1:9" }]],
    ["Azure's accounts", azure("one"), azure("two")],
    [
      "Azure's accounts without a key",
      ["azure://backup", { AZURE_ACCOUNT_NAME: "one" }],
      ["azure://backup", { AZURE_ACCOUNT_NAME: "two" }],
    ],
    ["Azure's clouds", azure("one"), azure("one", { AZURE_ENDPOINT_SUFFIX: "core.chinacloudapi.cn" })],
    [
      "Azure's connection strings",
      connection("AccountName=one;AccountKey=a2V5"),
      connection("AccountName=two;AccountKey=a2V5"),
    ],
    [
      "an emulator of Azure's",
      connection("UseDevelopmentStorage=true"),
      connection("BlobEndpoint=http://127.0.0.1:1/devstoreaccount1"),
    ],
    ["Swift's servers", swift({}), swift({ SWIFT_AUTHURL: "http://two/auth/v1.0" })],
    ["Swift's users", swift({}), swift({ SWIFT_USERNAME: "other" })],
    ["Swift's projects", swift({ SWIFT_PROJECT_NAME: "one" }), swift({ SWIFT_PROJECT_NAME: "two" })],
    ["Swift's regions", swift({}), swift({ SWIFT_REGIONNAME: "two" })],
    [
      "Swift's storage URLs",
      swift({ SWIFT_PREAUTHURL: "http://h/v1/AUTH_a", SWIFT_PREAUTHTOKEN: "t" }),
      swift({ SWIFT_PREAUTHURL: "http://h/v1/AUTH_b", SWIFT_PREAUTHTOKEN: "t" }),
    ],
    ["rclone's remotes", "rclone://r:a", "rclone://s:a"],
    [
      "rclone's configurations",
      ["rclone://r:a", { RCLONE_CONFIG: "/one" }],
      ["rclone://r:a", { RCLONE_CONFIG: "/two" }],
    ],
    [
      "a remote's hosts in env",
      ["rclone://r:a", { RCLONE_CONFIG_R_HOST: "one" }],
      ["rclone://r:a", { RCLONE_CONFIG_R_HOST: "two" }],
    ],
    ["a remote's accounts in its URL", "rclone://:b2,account=one:bucket", "rclone://:b2,account=two:bucket"],
    [
      "a service's endpoints",
      ["oss://bucket", { OPENDAL_OSS_ENDPOINT: "http://one" }],
      ["oss://bucket", { OPENDAL_OSS_ENDPOINT: "http://two" }],
    ],
    ["a token's account, by description", drive("one", "mine"), drive("two", "yours")],
    ["memories", "memory://a", "memory://a/b"],
  ])("tells apart %s", async (_, one, other) => {
    const [a, b] = await addressesOf(one, other);
    expect(b).not.toBe(a);
  });

  it.each<[what: string, one: Given, other: Given]>([
    [
      "a password in an endpoint",
      ["opendal://webdav/a", { OPENDAL_WEBDAV_ENDPOINT: "https://u:one@h" }],
      ["opendal://webdav/a", { OPENDAL_WEBDAV_ENDPOINT: "https://u:two@h" }],
    ],
    ["a key in a remote's name", "rclone://:b2,account=a,key=one:bucket", "rclone://:b2,account=a,key=two:bucket"],
    ["a password in quotes", `rclone://:webdav,url="https://u:one@h":p`, `rclone://:webdav,url="https://u:two@h":p`],
    [
      "a remote that holds a key",
      ["rclone://c:", { RCLONE_CONFIG_C_REMOTE: ":b2,key=one:b" }],
      ["rclone://c:", { RCLONE_CONFIG_C_REMOTE: ":b2,key=two:b" }],
    ],
    [
      "a signature",
      connection("BlobEndpoint=https://a.blob.x?sig=one;SharedAccessSignature=sig=one"),
      connection("BlobEndpoint=https://a.blob.x?sig=two;SharedAccessSignature=sig=two"),
    ],
    [
      "a URL that is a secret",
      ["rclone://r:a", { RCLONE_CONFIG_R_SAS_URL: "https://h/one" }],
      ["rclone://r:a", { RCLONE_CONFIG_R_SAS_URL: "https://h/two" }],
    ],
    [
      "a proxy's password",
      ["rsync://nas::m", { RSYNC_PROXY: "u:one@h:1" }],
      ["rsync://nas::m", { RSYNC_PROXY: "u:two@h:1" }],
    ],
    ["a query that is not known", "other://nas/a?pin=1234", "other://nas/a?pin=1235"],
    ["what opening refuses", "s3://me:one@bucket", "s3://me:two@bucket"],
  ])("holds nothing of %s", async (_, one, other) => {
    const [a, b] = await addressesOf(one, other);
    expect(b).toBe(a);
  });

  it("is told by each kind of store there is", async () => {
    const urls: Record<string, string> = {
      rest: "rest:http://h/a",
      file: "/a",
      rclone: "rclone://r:a",
      opendal: "opendal://fs/a",
    };
    const env = { AZURE_ACCOUNT_NAME: "a", SWIFT_PREAUTHURL: "http://h/v1/a", SWIFT_PREAUTHTOKEN: "t", HOME: home };
    const untold: string[] = [];
    for (const scheme of knownSchemes()) {
      if ((await placeOf(parseStoreUrl(urls[scheme] ?? `${scheme}://host/bucket/a`), env)) === undefined)
        untold.push(scheme);
    }
    expect(untold).toEqual([]);
  });

  it("of a pool is made of those of its stores, in any order", async () => {
    const pool = await describePool(["multi:///ab", "multi:///ba", "multi:///ac"], {
      "/ab": ["memory://a", "memory://b"],
      "/ba": ["memory://b", "memory://a"],
      "/ac": ["memory://a", "memory://c"],
    });
    const places = await placesOf(pool);
    const [ab, ba, ac] = pool.stores.map((store) => addressOf(store, places));
    expect(ba).toBe(ab);
    expect(ac).not.toBe(ab);
  });

  it("that older pools know is what it was", async () => {
    const sha = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);
    const { stores } = await describePool([
      ["sftp://me:pw@nas:22//a", {}],
      ["s3://b/x?endpoint=http://h&region=r&sse-kms-key=k", keys("k")],
      ["file://~/link/../x", {}],
    ]);
    expect(stores.map(formerAddressOf)).toEqual([
      sha("sftp nas:22//a?"),
      sha("s3 b:/x?endpoint=http://h&region=r"),
      sha(`file ${home}/x`),
    ]);
  });
});

describe("a pool is refused", () => {
  it.each<[what: string, outer: Given, inner: Given]>([
    ["a folder in a folder", "file://~/disk", "file://~/disk/deep/er"],
    ["a folder that a link leads into", "file://~/disk", "file://~/link-into"],
    ["a folder in one that a link leads to", "file://~/link", "file://~/disk/sub"],
    ["a folder that is not there yet, through a link", "file://~/disk", "file://~/link/new/folder"],
    ["a folder behind a link whose target is not there", "file://~/disk", "file://~/dangling"],
    ["the root of the file system", "file:///", "file://~/disk"],
    ["a path that goes up and down", "file://~/disk-2/../disk", "file://~/disk/sub"],
    ["OpenDAL's folders", ["opendal://fs/disk", { OPENDAL_FS_ROOT: "~" }], "file://~/disk/sub"],
    ["a prefix in a bucket", "s3://bucket", "s3://bucket/a/b"],
    ["a prefix in a prefix", ["s3://bucket/a", keys("one")], ["s3://bucket/a/b", keys("two")]],
    ["a prefix of another service", [minio, keys("k")], [`${minio}/b`, keys("k")]],
    ["a prefix of Google's", "gs://bucket/a", "gs://bucket/a/b/"],
    [
      "a prefix of Azure's",
      azure("one"),
      ["azure://backup/x/y", { AZURE_CONNECTION_STRING: "AccountName=one;AccountKey=b" }],
    ],
    ["a prefix of Swift's", swift({}), swift({}, "swift://c/x")],
    ["a folder of SFTP", "sftp://me@nas/a", "sftp://me:pw@nas/a/b"],
    ["the login's own folder", "sftp://me@nas", "sftp://me@nas/a"],
    ["the root of a server", "sftp://me@nas//", "sftp://me@nas/a"],
    ["an absolute path", "sftp://me@nas//srv", "scp://me@nas//srv/./a"],
    ["a folder of FTP", "ftp://me:a@nas/a", "ftpes://me:b@nas/a/b"],
    ["a folder of WebDAV", "webdavs://me:a@nas/x", "webdavs://me:b@nas:443/x/y"],
    ["a folder of a share", "smb://me@nas/share", "smb://me@nas/Share/a"],
    ["a folder of rsync's module", "rsync://nas::mod", "rsync://nas::mod/a"],
    ["a folder over rsync and SSH", "rsync://nas//srv", "rsync://nas//srv/a"],
    ["a folder of a remote", "rclone://r:", "rclone://r:a/b"],
    ["a folder of one account", drive("t", "one", "gdrive://a"), drive("t", "two", "gdrive://a/b")],
    ["a folder in upper case", ["onedrive://a", {}], ["onedrive://A/b", {}]],
  ])("for a store inside another: %s", async (_, outer, inner) => {
    expect(await refusal([outer, inner])).toMatch(/^the store .* is inside the store .*: give each a place/u);
    expect(await refusal([inner, outer])).toBe(await refusal([outer, inner]));
  });

  it.each<[what: string, one: Given, other: Given]>([
    ["a folder and a link to it", "file://~/disk", "file://~/link"],
    ["one address in two spellings", "sftp://alias/a", "sftp://me@nas:2222/a/"],
    [
      "one bucket, named in env",
      ["s3://bucket", { AWS_ENDPOINT_URL: "http://nas", ...keys("k") }],
      ["s3://bucket?endpoint=http://nas", keys("k")],
    ],
    ["restic's repository", "rest:http://nas/a", "rest:http://nas:80/a/"],
    ["two passwords of one user", "ftp://me:a@nas/x", "ftp://me:b@nas/x"],
    ["one token's account", drive("t", "one"), drive("t", "two", "gdrive://backup/.")],
  ])("for two stores in one place: %s", async (_, one, other) => {
    expect(await refusal([one, other])).toMatch(/^the stores .* are the same place: give each a place of its own/u);
  });

  it.each<[what: string, one: Given, other: Given]>([
    ["names that begin the same", "file://~/disk", "file://~/disk-2"],
    ["prefixes that begin the same", "s3://bucket/a", "s3://bucket/ab"],
    ["paths that begin the same", "sftp://me@nas/a", "sftp://me@nas/ab"],
    ["two buckets", "s3://bucket-1/a", "s3://bucket-2/a/b"],
    ["two ports", "sftp://me@nas:22/a", "sftp://me@nas:2222/a/b"],
    ["two users", "sftp://me@nas/a", "sftp://you@nas/a/b"],
    ["two hosts", "webdav://me@nas/a", "webdav://me@nas.lan/a/b"],
    ["two accounts", azure("one"), ["azure://backup/x/y", { AZURE_ACCOUNT_NAME: "two" }]],
    [
      "two endpoints",
      ["s3://bucket", { AWS_ENDPOINT_URL: "http://one" }],
      ["s3://bucket/a", { AWS_ENDPOINT_URL: "http://two" }],
    ],
    ["two tenants' keys", [minio, keys("one")], [`${minio}/b`, keys("two")]],
    ["relative and absolute paths", "sftp://me@nas/a", "sftp://me@nas//a/b"],
    ["a path that only the server can follow", "sftp://me@nas/a", "sftp://me@nas/a/../b"],
    ["two modules", "rsync://nas::a", "rsync://nas::b/a"],
    ["a repository below another's path", "rest:http://nas/a", "rest:http://nas/a/b"],
    ["two remotes", "rclone://r:a", "rclone://s:a/b"],
    [
      "two users' tickets",
      ["smb://nas/homes", { KRB5CCNAME: "/a" }, "me"],
      ["smb://nas/homes/a", { KRB5CCNAME: "/b" }, "you"],
    ],
    [
      "two servers behind proxies",
      ["rsync://nas::m", { RSYNC_PROXY: "a:1" }],
      ["rsync://nas::m/a", { RSYNC_PROXY: "b:1" }],
    ],
    ["two accounts by their tokens", drive("one", "mine"), drive("two", "yours")],
    [
      "two accounts by their tokens, one folder in the other",
      drive("one"),
      drive("two", undefined, "gdrive://backup/a"),
    ],
    ["memories", "memory://a", "memory://a/b"],
  ])("for no false alarm: %s", async (_, one, other) => {
    expect(await refusal([one, other])).toBeUndefined();
  });

  it("for two accounts that only secrets tell apart, until each has a description", async () => {
    const message = await refusal([drive("token-one"), drive("token-two")]);
    expect(message).toMatch(/gdrive:\/\/backup \(1\) .*gdrive:\/\/backup \(2\) differ only in secrets.*"description"/u);
    expect(message).not.toContain("token-");
    expect(await refusal([drive("token-one", "mine"), drive("token-two", "yours")])).toBeUndefined();
  });

  it("with the names, the URLs without passwords and the folders that links lead to", async () => {
    const message = await refusal([
      ["file://~/disk", {}, "disk"],
      ["file://~/link-into", {}, "attic"],
    ]);
    expect(message).toBe(
      `the store attic (file://${home}/link-into, really ${home}/disk/sub) is inside the store disk (file://${home}/disk), ` +
        "which would take its files for objects: give each a place beside the other",
    );
    const secret = await refusal(["ftp://me:sesame@nas/a", ["ftp://me:sesame@nas/a/b", {}, "inner"]]);
    expect(secret).toContain("inner (ftp://me:***@nas/a/b)");
    expect(secret).not.toContain("sesame");
  });

  it("when the stores of a pool inside it are concerned, at every depth", async () => {
    const nested = { "/mid": ["multi:///deep", "memory://m"], "/deep": ["file://~/disk/sub", "memory://d"] };
    expect(await refusal(["multi:///mid", "file://~/disk"], nested)).toMatch(
      /^the store multi:\/\/\/mid > multi:\/\/\/deep > file:\S+\/disk\/sub is inside the store file:\S+\/disk,/u,
    );
    expect(await refusal(["multi:///mid", "multi:///deep"], nested)).toMatch(/are the same place/u);
    expect(await refusal(["multi:///mid", "file://~/disk-2"], nested)).toBeUndefined();
  });

  it("before any of its stores is opened", async () => {
    const opened: string[] = [];
    const openStore = (url: string): Promise<never> => {
      opened.push(url);
      return Promise.reject(new HoldfastError("internal", "it was opened"));
    };
    const pool = await describePool(["file://~/disk", "file://~/disk/sub"]);
    await expect(openPool(pool, { cache: false, openStore })).rejects.toMatchObject({
      code: "config",
      operation: "open",
      message: expect.stringContaining("is inside the store") as string,
    });
    expect(opened).toEqual([]);
  });
});

describe("the folders of a pool's stores", () => {
  it("are given without links, with the names below the pools that they are in", async () => {
    const pool = await describePool(["file://~/link", "memory://m", "multi:///in"], { "/in": ["file://~/disk-2"] });
    expect(storeFolders(pool, await placesOf(pool))).toEqual([
      { label: `file://${home}/link`, folder: `${home}/disk` },
      { label: `multi:///in > file://${home}/disk-2`, folder: `${home}/disk-2` },
    ]);
  });
});

describe("a path without links", () => {
  it("is the path itself where links go round", async () => {
    // Without an end to it, the test would wait for as long.
    expect(await realPath(join(home, "round/x"), { waitMs: 600_000 })).toBe(join(home, "round/x"));
  });

  it("is not waited for on a disk that hangs", async () => {
    const realpath = (): Promise<string> => new Promise(() => undefined);
    expect(await realPath(join(home, "link"), { realpath, waitMs: 1 })).toBe(join(home, "link"));
  });
});
