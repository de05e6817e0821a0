/** What a client learns when stores fail: whether it should come again. Which store it was, and why, is for the log. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { ErrorCode } from "../../src/contract/errors.ts";
import type { LogFields, Logger } from "../../src/contract/log.ts";
import { toS3Error } from "../../src/gateway/s3/s3-error.ts";
import type { Protocol } from "../../src/gateway/gateways.ts";
import type { Store } from "../../src/contract/store.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { hookedStore } from "../helpers/wrapped-store.ts";

const SECRETS = ["/srv/secret-folder", "secret-host", "secret-user", "2222"];
const said = `EACCES: permission denied, open '/srv/secret-folder/x' (sftp://secret-user@secret-host:2222)`;
let gateways: TestGateways;
/** The code that every call of every store fails with. */
let failing: ErrorCode | undefined;
let logged: string;

const breakable = (store: Store): Store => {
  const check = (): void => {
    if (failing !== undefined)
      throw new HoldfastError(failing, said, { store: store.label, cause: new Error(said), retryable: false });
  };
  return hookedStore(store, { before: check });
};

beforeEach(async () => {
  failing = undefined;
  logged = "";
  const note = (event: string, fields: LogFields = {}): void => {
    logged += `${event} ${JSON.stringify(fields)}\n`;
  };
  const logger: Logger = { debug: note, info: note, warn: note, error: note };
  gateways = await startTestGateways({
    protocols: ["s3", "webdav", "restic"],
    guarded: false,
    bucket: "bucket",
    wrap: breakable,
    logger,
  });
  await gateways.pool.put("object", toBody("the object"));
  await gateways.pool.put("config", toBody("a repository's"));
});
afterEach(() => gateways?.end());

interface Asked {
  readonly protocol: Protocol;
  readonly method: string;
  readonly path: string;
  readonly body?: string;
}

const asked: Asked[] = [
  { protocol: "s3", method: "GET", path: "/bucket/object" },
  { protocol: "s3", method: "PUT", path: "/bucket/object", body: "other" },
  { protocol: "s3", method: "DELETE", path: "/bucket/object" },
  { protocol: "s3", method: "GET", path: "/bucket?versions" },
  {
    protocol: "s3",
    method: "POST",
    path: "/bucket?delete",
    body: "<Delete><Object><Key>object</Key></Object></Delete>",
  },
  { protocol: "webdav", method: "GET", path: "/object" },
  { protocol: "webdav", method: "PUT", path: "/object", body: "other" },
  { protocol: "webdav", method: "DELETE", path: "/object" },
  { protocol: "webdav", method: "PROPFIND", path: "/" },
  { protocol: "restic", method: "GET", path: "/config" },
  { protocol: "restic", method: "POST", path: `/locks/${"ab".repeat(32)}`, body: "other" },
  { protocol: "restic", method: "GET", path: "/keys/" },
];

const codes: ErrorCode[] = ["unavailable", "denied", "timeout", "throttled", "full", "corrupt", "conflict", "internal"];

describe.each(codes)("where every store says %s", (code) => {
  test.each(asked)(
    "$method $path by $protocol tells the client nothing of the stores, and the log all",
    async (one) => {
      failing = code;
      const answer = await fetch(`${gateways.url(one.protocol)}${one.path}`, {
        method: one.method,
        headers: one.method === "PROPFIND" ? { depth: "1" } : {},
        ...(one.body === undefined ? {} : { body: one.body }),
      });
      const text = [...answer.headers].flat().join("\n") + (await answer.text());
      for (const secret of [...SECRETS, "store 1", "store 2", gateways.folder]) expect(text).not.toContain(secret);
      expect(answer.status < 500 || logged.includes("/srv/secret-folder")).toBe(true);
    },
  );
});

test("an error that is about what the client sent says what", async () => {
  const answer = await fetch(`${gateways.url("webdav")}/.holdfast/x`, { method: "PUT", body: "x" });
  expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining("Holdfast's own")]);
});

test("an error that says how many bytes something has is not taken for one about a key", () => {
  const error = new HoldfastError("invalid", "the body was declared to be 5 bytes long and gave 4");
  expect(toS3Error(error).s3Code).toBe("InvalidArgument");
});

test("a key that is too long is called so wherever it stands", async () => {
  const at = `${gateways.url("s3")}/bucket`;
  const long = await fetch(`${at}/${"x".repeat(1025)}`, { method: "PUT", body: "x" });
  expect(await long.text()).toContain("<Code>KeyTooLongError</Code>");
  const list = `<Delete><Object><Key>${"x".repeat(1025)}</Key></Object></Delete>`;
  expect(await (await fetch(`${at}?delete`, { method: "POST", body: list })).text()).toContain("KeyTooLongError");
  const copy = await fetch(`${at}/target`, {
    method: "PUT",
    headers: { "x-amz-copy-source": `bucket/${"x".repeat(1025)}` },
  });
  expect(await copy.text()).toContain("KeyTooLongError");
});
