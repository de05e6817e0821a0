/** Names that XML has no characters for: what they stand beside must stay readable. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { parseXmlTree } from "../../src/support/xml.ts";
import type { XmlNode } from "../../src/support/xml.ts";
import { startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";

const odd = ["bad\u0001name", "bad\ufffe", "bad\u001b[31m"];
let gateways: TestGateways;

beforeAll(async () => {
  gateways = await startTestGateways({ protocols: ["s3", "webdav"], guarded: false, bucket: "bucket" });
  for (const name of [...odd, "good"]) await gateways.pool.put(`d/${name}`, toBody("1"));
});
afterAll(() => gateways.end());

/** The texts of all elements of a name, in a document that every parser takes. */
async function texts(answer: Response, name: string): Promise<string[]> {
  const root = await parseXmlTree(await answer.text(), { elements: 10_000, depth: 20 });
  const found: string[] = [];
  const look = (node: XmlNode): void => {
    if (node.name === name) found.push(node.children.filter((child) => typeof child === "string").join(""));
    for (const child of node.children) if (typeof child === "object") look(child);
  };
  look(root);
  return found;
}

test("a WebDAV listing tells of each by an address that leads there", async () => {
  const answer = await fetch(`${gateways.url("webdav")}/d/`, { method: "PROPFIND", headers: { depth: "1" } });
  const hrefs = (await texts(answer, "href")).filter((href) => href !== "/d/");
  expect(hrefs.map((href) => decodeURIComponent(href)).sort()).toEqual([...odd, "good"].map((n) => `/d/${n}`).sort());
  for (const href of hrefs) expect((await fetch(`${gateways.url("webdav")}${href}`)).status).toBe(200);
});

test.each(["list-type=2", "", "versions"])(
  "an S3 listing (%s) is whole, with U+FFFD for what XML has not",
  async (query) => {
    const answer = await fetch(`${gateways.url("s3")}/bucket?${query}&prefix=d/`);
    expect(await texts(answer, "Key")).toContain("d/good");
  },
);

test.each(["list-type=2", ""])("an S3 listing (%s) with encoding-type=url has the names themselves", async (query) => {
  const answer = await fetch(`${gateways.url("s3")}/bucket?${query}&prefix=d/&encoding-type=url`);
  const keys = (await texts(answer, "Key")).map((key) => decodeURIComponent(key));
  expect(keys.sort()).toEqual([...odd, "good"].map((name) => `d/${name}`).sort());
});

test("an S3 error that names one is readable", async () => {
  const answer = await fetch(`${gateways.url("s3")}/bucket/none%01`);
  expect([answer.status, await texts(answer, "Code")]).toEqual([404, ["NoSuchKey"]]);
});

test("S3 deletes one by its number, and the answer is readable", async () => {
  await gateways.pool.put("gone\u0002", toBody("1"));
  const body = "<Delete><Object><Key>gone&#x2;</Key></Object></Delete>";
  const answer = await fetch(`${gateways.url("s3")}/bucket?delete`, { method: "POST", body });
  expect(await texts(answer, "Key")).toEqual(["gone\ufffd"]);
  await expect(gateways.pool.stat("gone\u0002")).rejects.toMatchObject({ code: "not-found" });
});

test("a property with one is refused, so that the folder stays readable", async () => {
  const body = `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">&#1;</x></prop></set></propertyupdate>`;
  const answer = await fetch(`${gateways.url("webdav")}/d/good`, { method: "PROPPATCH", body });
  expect(answer.status).toBe(400);
});
