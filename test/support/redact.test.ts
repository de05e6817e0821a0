import { describe, expect, it } from "vitest";
import { HoldfastError } from "../../src/contract/errors.ts";
import { redactError, redactText, secretsOf } from "../../src/support/redact.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";

const secret = 'p@ss/w"örd+ 1';

describe("redactText", () => {
  it.each([
    ["as it is", secret],
    ["percent-encoded", encodeURIComponent(secret)],
    ["percent-encoded in lower case", encodeURIComponent(secret).replace(/%[0-9A-F]{2}/gu, (x) => x.toLowerCase())],
    ["in base64", Buffer.from(secret).toString("base64")],
    ["as JSON", JSON.stringify(secret).slice(1, -1)],
  ])("takes out a secret %s", (_, spelling) => {
    expect(redactText(`before ${spelling} after`, [secret])).toBe("before *** after");
  });

  it.each([
    ["ftp://me:hunter22@host/x", "ftp://me:***@host/x"],
    ["GET https://h/x?a=1&X-Amz-Signature=abcdef&b=2", "GET https://h/x?a=1&X-Amz-Signature=***&b=2"],
    ["authorization: AWS4-HMAC-SHA256 Credential=AK/1, Signature=ff", "authorization: ***"],
    ['{"Authorization":"Bearer abc"}', '{"Authorization":"***"}'],
    ["AccountName=x;AccountKey=QUJD==;End=y", "AccountName=x;AccountKey=***;End=y"],
  ])("takes out the secret's shape in %s", (text, expected) => {
    expect(redactText(text)).toBe(expected);
  });

  it("leaves ordinary text alone", () => {
    const text = "put a/b failed: http://host:8080/x?prefix=a is out of order (503)";
    expect(redactText(text, ["a", "503"])).toBe(text);
  });
});

it("secretsOf finds them in a URL and in an environment", () => {
  const url = parseStoreUrl("azure://u:URLPASS@h/c?sas_token=QUERYSAS&x=1");
  const secrets = secretsOf(url, {
    AWS_SECRET_ACCESS_KEY: "AWSKEY",
    HOME: "/home/u",
    AZURE_CONNECTION_STRING: "AccountName=pub;AccountKey=KEYPART",
  });
  expect(secrets).toEqual(expect.arrayContaining(["URLPASS", "QUERYSAS", "AWSKEY", "KEYPART"]));
  expect(secrets).not.toContain("/home/u");
});

it("redactError goes through message, stack, causes and collected errors", () => {
  const library = Object.assign(new Error(`login ${secret} refused`), { code: "EAUTH", request: { secret } });
  const one = new HoldfastError("denied", `no entry with ${secret}`, { cause: library, store: "s1" });
  const all = new HoldfastError("unavailable", "every store failed", { errors: [one], cause: one });
  const redacted = redactError(all, [secret]);
  const flat = (error: unknown): string =>
    error instanceof Error
      ? [error.message, error.stack, JSON.stringify(error), flat(error.cause)].join("\n") +
        (error instanceof HoldfastError ? error.errors.map(flat).join("\n") : "")
      : "";
  expect(flat(all)).toContain(secret);
  expect(flat(redacted)).not.toContain(secret);
  expect(redacted).toMatchObject({ code: "unavailable", errors: [{ code: "denied", store: "s1" }] });
  const cycle: Error & { cause?: unknown } = new Error("a");
  cycle.cause = cycle;
  expect(redactError(cycle).message).toBe("a");
});
