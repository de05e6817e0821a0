import { createHash } from "node:crypto";
import { inspect } from "node:util";
import * as sdk from "@azure/storage-blob";
import { beforeAll, describe, expect, it, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { AzureStore, mapAzureError, parseAzureUrl } from "../../src/stores/azure.ts";
import type { AzureStoreOptions } from "../../src/stores/azure.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";

const azurite = await startServer("azurite");
/** Azurite's well-known account. */
const account = "devstoreaccount1";
const key = /key (\S+)\)/u.exec(azurite.running ? azurite.address : "")?.[1] ?? "";
const KIB = 1024;

function openAzure(text: string, env: Record<string, string>, options: AzureStoreOptions = {}): AzureStore {
  const url = parseStoreUrl(text);
  return new AzureStore(sdk, url, { label: url.redacted, env, runtime: systemRuntime, logger: silentLogger }, options);
}

describe("URLs of Azure", () => {
  const read = (text: string, env: Record<string, string>) => parseAzureUrl(parseStoreUrl(text), env);
  const named = { AZURE_ACCOUNT_NAME: "acc", AZURE_ACCOUNT_KEY: "a2V5" };

  test.each([
    ["azure://box", named, { container: "box", prefix: "", accountUrl: "https://acc.blob.core.windows.net" }],
    ["azure://box/a//b", named, { container: "box", prefix: "a/b/", key: { account: "acc", key: "a2V5" } }],
    ["azure://box", { AZURE_CONNECTION_STRING: "x" }, { connectionString: "x" }],
    ["azure://box?endpoint=http://h:1/acc", named, { accountUrl: "http://h:1/acc" }],
    [
      "azure://box",
      { ...named, AZURE_ENDPOINT_SUFFIX: "core.chinacloudapi.cn" },
      { accountUrl: "https://acc.blob.core.chinacloudapi.cn" },
    ],
    [
      "azure://box",
      { AZURE_STORAGE_ACCOUNT: "acc", AZURE_STORAGE_SAS_TOKEN: "?sv=1&sig=2" },
      { accountUrl: "https://acc.blob.core.windows.net?sv=1&sig=2" },
    ],
  ])("%s", (text, env, expected) => {
    expect(read(text, env)).toMatchObject(expected);
  });

  test.each([
    ["azure://", named, /names no container/u],
    ["azure://A_B", named, /names no container/u],
    ["azure://box", {}, /no credentials.*AZURE_CONNECTION_STRING/u],
    ["azure://box", { AZURE_ACCOUNT_NAME: "acc" }, /no credentials/u],
    ["azure://acc:key@box", named, /do not stand in an azure URL/u],
    ["azure://box?tier=hot", named, /unknown parameter "tier"/u],
    ["azure://box?endpoint=h", named, /http:\/\/ or https:\/\//u],
  ])("%s is refused", (text, env, message) => {
    expect(() => read(text, env)).toThrow(
      expect.objectContaining({ code: "config", message: expect.stringMatching(message) }),
    );
  });

  it("does not repeat a connection string that cannot be understood", () => {
    let thrown: unknown;
    try {
      openAzure("azure://box", { AZURE_CONNECTION_STRING: "AccountKey=topsecret;nonsense" });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "config" });
    expect(inspect(thrown)).not.toContain("topsecret");
  });
});

describe("errors of Azure", () => {
  const failure = (code: string, statusCode: number): Error => Object.assign(new Error("text"), { code, statusCode });

  test.each([
    ["BlobNotFound", 404, "not-found", false],
    ["ContainerNotFound", 404, "unavailable", false],
    ["BlobAlreadyExists", 409, "conflict", false],
    ["InvalidBlockList", 400, "conflict", true],
    ["AuthenticationFailed", 403, "denied", false],
    ["ServerBusy", 503, "throttled", true],
    ["OperationTimedOut", 500, "timeout", true],
    ["InternalError", 500, "unavailable", true],
    ["Md5Mismatch", 400, "corrupt", true],
    ["ECONNREFUSED", 0, "unavailable", true],
    ["CERT_HAS_EXPIRED", 0, "denied", false],
    ["Whatever", 429, "throttled", true],
    ["Whatever", 307, "unavailable", true],
  ])("%s (%i) is %s", (code, status, expected, retryable) => {
    expect(mapAzureError(failure(code, status), "c", 0)).toMatchObject({ code: expected, retryable });
  });
});

describe.runIf(azurite.running)("azure on Azurite", onServer, () => {
  reportStore("azure", azurite);
  const container = uniqueName();
  const endpoint = azurite.running ? `http://127.0.0.1:${azurite.port}/${account}` : "";
  const env = { AZURE_ACCOUNT_NAME: account, AZURE_ACCOUNT_KEY: key };
  const url = `azure://${container}/some/prefix?endpoint=${endpoint}`;

  beforeAll(async () => {
    const credential = new sdk.StorageSharedKeyCredential(account, key);
    await new sdk.BlobServiceClient(endpoint, credential).createContainer(container);
  });

  describeConformance("azure on Azurite", { open: async () => openAzure(url, env, { pageNames: 50 }), listCount: 130 });
  describeConformance("azure on Azurite, in blocks of 64 KiB", {
    open: async () => openAzure(`azure://${container}/blocks?endpoint=${endpoint}`, env, { partBytes: 64 * KIB }),
    listCount: 5,
    quick: true,
  });

  it("opens by a connection string", async () => {
    const text = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=${endpoint};`;
    const store = openAzure(url, { AZURE_CONNECTION_STRING: text });
    await expect(store.put("by-string", toBody("x"))).resolves.toEqual({ size: 1 });
    await store.close();
  });

  it("keeps the MD5 of the whole, also of an object in blocks", async () => {
    const store = openAzure(url, env, { partBytes: 64 * KIB });
    for (const size of [0, 1000, 200 * KIB]) {
      const bytes = Buffer.alloc(size, 7);
      await store.put("digest", toBody(bytes));
      const md5 = createHash("md5").update(bytes).digest("hex");
      await expect(store.stat("digest")).resolves.toMatchObject({ size, digests: { md5 } });
    }
    await store.close();
  });

  it("decides ifAbsent for objects in blocks, too", async () => {
    const store = openAzure(url, env, { partBytes: 64 * KIB });
    await store.put("once", toBody(Buffer.alloc(200 * KIB, 1)), { ifAbsent: true });
    const again = store.put("once", toBody(Buffer.alloc(300 * KIB, 2)), { ifAbsent: true });
    await expect(again).rejects.toMatchObject({ code: "conflict" });
    await expect(store.stat("once")).resolves.toMatchObject({ size: 200 * KIB });
    await store.close();
  });

  it("says that a container is missing, and that a key is wrong, without printing it", async () => {
    const store = openAzure(`azure://no-such-box?endpoint=${endpoint}`, env);
    const missing = { code: "unavailable", retryable: false, message: "the container no-such-box does not exist" };
    await expect(store.stat("a")).rejects.toMatchObject(missing);
    await expect(store.put("a", toBody("x"))).rejects.toMatchObject(missing);
    await expect(store.delete("a")).rejects.toMatchObject(missing);
    await store.close();
    const wrongKey = Buffer.from("a wrong key, but base64").toString("base64");
    const wrong = openAzure(url, { ...env, AZURE_ACCOUNT_KEY: wrongKey });
    const error: unknown = await wrong.stat("a").catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "denied", retryable: false });
    expect(inspect(error, { depth: 20 })).not.toContain(wrongKey);
    await wrong.close();
  });
});
