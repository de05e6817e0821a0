/** TLS, and downloads that go on when the store they come from breaks off. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { GetResult, Store } from "../../src/contract/store.ts";
import { client } from "../helpers/clients.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

test.runIf(client("openssl").there)("a gateway with a certificate speaks TLS, and nothing older than 1.2", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-tls-"));
  const [cert, key] = [path.join(folder, "cert.pem"), path.join(folder, "key.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert, ...subject],
    {
      stdio: "ignore",
    },
  );
  const ca = readFileSync(cert, "utf8");
  const gateways = await startTestGateways({
    protocols: ["webdav"],
    guarded: false,
    tls: { cert: ca, key: readFileSync(key, "utf8") },
  });
  try {
    const url = gateways.url("webdav");
    expect(url).toMatch(/^https:/u);
    const ask = (options: object): Promise<number> =>
      new Promise((resolve, reject) => {
        request(url, { ca, method: "OPTIONS", agent: false, ...options }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
          .on("error", reject)
          .end();
      });
    expect(await ask({})).toBe(200);
    await expect(ask({ maxVersion: "TLSv1.1", minVersion: "TLSv1" })).rejects.toThrow(/protocol|alert/iu);
  } finally {
    await gateways.end();
    rmSync(folder, { recursive: true });
  }
});

test("a download goes on from another store when its own breaks off, and the client sees nothing of it", async () => {
  let cuts = 0;
  /** The first store breaks off in the middle of each object. */
  const breaking = (store: Store, index: number): Store => {
    if (index > 0) return store;
    const get = async (...given: Parameters<Store["get"]>): Promise<GetResult> => {
      const result = await store.get(...given);
      if (given[0].startsWith(".holdfast")) return result;
      const body = async function* (): AsyncGenerator<Uint8Array> {
        let bytes = 0;
        for await (const chunk of result.body) {
          bytes += chunk.length;
          if (bytes > 5_000_000) {
            cuts++;
            throw new HoldfastError("unavailable", "the connection broke", { store: store.label });
          }
          yield chunk;
        }
      };
      return { ...result, body: body() };
    };
    return storeLike(store, { get });
  };
  const gateways = await startTestGateways({
    protocols: ["webdav", "s3", "restic"],
    guarded: false,
    bucket: "bucket",
    wrap: breaking,
  });
  try {
    const content = randomBytes(12_000_000);
    const id = createHash("sha256").update(content).digest("hex");
    const name = `data/${id.slice(0, 2)}/${id}`;
    await gateways.pool.put(name, toBody(content));
    const addresses = [
      `${gateways.url("webdav")}/${name}`,
      `${gateways.url("s3")}/bucket/${name}`,
      `${gateways.url("restic")}/data/${id}`,
    ];
    for (const address of addresses) {
      const before = cuts;
      const got = Buffer.from(await (await fetch(address)).arrayBuffer());
      expect(got.equals(content)).toBe(true);
      expect(cuts).toBeGreaterThan(before);
    }
  } finally {
    await gateways.end();
  }
});
