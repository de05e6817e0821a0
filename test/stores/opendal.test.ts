import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { openStore } from "../../src/stores/open-store.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";

const folder = mkdtempSync(path.join(tmpdir(), "holdfast-opendal-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const version = "OpenDAL 0.49.2";

describe("opendal on fs", () => {
  reportStore("opendal", { running: true, version: `${version}, service fs` });
  const env = { OPENDAL_FS_ROOT: folder };
  describeConformance("opendal, service fs", { open: () => openStore("opendal://fs/base", { env }), listCount: 300 });

  it("objects are plain files, and larger ones go through a local file that is gone afterwards", async () => {
    const local = mkdtempSync(path.join(tmpdir(), "holdfast-opendal-local-"));
    const store = await openStore("opendal://fs/plain", { env: { ...env, TMPDIR: local } });
    await store.put("a/small", toBody("bytes"));
    await store.put("a/large", toBody(Buffer.alloc(20 * 1024 * 1024, 7)));
    expect(readFileSync(path.join(folder, "plain/a/small"), "utf8")).toBe("bytes");
    const large = await collect((await store.get("a/large")).body);
    expect(Buffer.from(large).equals(Buffer.alloc(20 * 1024 * 1024, 7))).toBe(true);
    expect(readdirSync(path.join(folder, "plain/a")).sort()).toEqual(["large", "small"]);
    expect(readdirSync(local)).toEqual([]);
    await store.close();
    rmSync(local, { recursive: true });
  });
});

const ceph = await startServer("ceph-rgw");
describe.runIf(ceph.running)("opendal on S3", onServer, () => {
  reportStore("opendal", ceph);
  const env = {
    OPENDAL_S3_ENDPOINT: `http://127.0.0.1:${ceph.running ? ceph.port : 0}`,
    OPENDAL_S3_BUCKET: "test-bucket",
    OPENDAL_S3_REGION: "us-east-1",
    OPENDAL_S3_ACCESS_KEY_ID: "test",
    OPENDAL_S3_SECRET_ACCESS_KEY: "testtest",
  };
  const base = uniqueName();
  describeConformance("opendal, service s3", {
    open: () => openStore(`opendal://s3/${base}`, { env }),
    listCount: 100,
  });

  it("a wrong secret is denied and named in no error; a service that is down is unavailable", async () => {
    const wrong = await openStore("opendal://s3/x", { env: { ...env, OPENDAL_S3_SECRET_ACCESS_KEY: "wrong-sesame" } });
    const error = await wrong.put("x", toBody("x")).catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "denied", retryable: false });
    expect(`${String(error)} ${JSON.stringify(error)}`).not.toContain("sesame");
    await wrong.close();
    const down = await openStore("opendal://s3/x", { env: { ...env, OPENDAL_S3_ENDPOINT: "http://127.0.0.1:9" } });
    await expect(down.stat("x")).rejects.toMatchObject({ code: "unavailable", retryable: true });
    await down.close();
  });
});

describe("opendal", () => {
  it("every scheme is a service that this OpenDAL has", async () => {
    const key = {
      ACCESS_TOKEN: "t",
      BUCKET: "b",
      ENDPOINT: "https://h",
      BUCKET_ID: "i",
      APPLICATION_KEY_ID: "i",
      APPLICATION_KEY: "k",
    };
    for (const [scheme, service] of [
      ["gdrive", "GDRIVE"],
      ["onedrive", "ONEDRIVE"],
      ["dropbox", "DROPBOX"],
      ["dpbx", "DROPBOX"],
      ["b2", "B2"],
      ["oss", "OSS"],
      ["cos", "COS"],
      ["obs", "OBS"],
    ] as const) {
      const env = Object.fromEntries(Object.entries(key).map(([name, value]) => [`OPENDAL_${service}_${name}`, value]));
      const store = await openStore(`${scheme}://bucket/path`, { env });
      expect(store.label).toBe(`${scheme}://bucket/path`);
      await store.close();
    }
  });
});
