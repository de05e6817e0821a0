import { describe, expect, test } from "vitest";
import { innerXml, outerXml, parseDocument } from "../../src/gateway/webdav/xml.ts";
import { escapeXml, parseXmlDocument, parseXmlInPieces, parseXmlTree } from "../../src/support/xml.ts";

const bounds = { elements: 1000, depth: 5 };

/** How often others had their turn while `work` ran. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let over = false;
  const count = (): void => {
    turns++;
    if (!over) setImmediate(count);
  };
  setImmediate(count);
  await work();
  over = true;
  return turns;
}

describe("a document of a client", () => {
  test("leaves others their turns while it is parsed", async () => {
    const text = `<a>${"<b>c</b>".repeat(50_000)}</a>`;
    const turns = await turnsDuring(() => parseXmlInPieces(text, { elements: 60_000, depth: 3 }));
    expect(turns).toBeGreaterThan(20);
  });

  test.each([
    ["elements", `<a>${"<b/>".repeat(1000)}</a>`, /more than 1000 elements/u],
    ["depth", "<a>".repeat(6) + "</a>".repeat(6), /more than 5 deep/u],
    ["attributes", `<a ${Array.from({ length: 65 }, (_, n) => `b${n}=""`).join(" ")}/>`, /more than 64 attributes/u],
  ])("is refused for too many: %s", async (_, text, reason) => {
    await expect(parseXmlInPieces(text, bounds)).rejects.toThrow(reason);
    await expect(parseXmlTree(text, bounds)).rejects.toThrow(reason);
  });

  test.each([
    "", "x", "x<a/>", "<a/>x", "<a/><b/>", "<a>", "<a></b>", "<a b=c/>", "<a>&foo;</a>", "<a>&</a>", "<a", "<a><![CDATA[x]]y</a>",
    "<!DOCTYPE a><a/>", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
  ])("%j is none", async (text) => {
    await expect(parseXmlInPieces(text, bounds)).rejects.toThrow(/not well-formed|not accepted|has no element|several/u);
    expect(() => parseXmlDocument(text)).toThrow(/not well-formed|not accepted|has no element|several/u);
  }); // prettier-ignore

  test("has its text whole, whatever its length and its parts", async () => {
    const long = "x".repeat(200_000);
    const { root } = await parseXmlInPieces(`<a><b>1&amp;<![CDATA[<2>]]>&#51;${long}</b><b/></a>`, bounds);
    expect(root.all("b").map((one) => one.value)).toEqual([`1&<2>3${long}`, ""]);
  });

  test("of S3 may name a character that XML has not by its number", async () => {
    const { root } = await parseXmlInPieces("<a><Key>x&#x1;&#2;&#xFFFE;&#65;</Key></a>", bounds);
    expect(root.text("Key")).toBe("x\u0001\u0002\ufffeA");
  });
});

describe("a property", () => {
  const parsed = async (text: string): Promise<string> => outerXml(await parseDocument(Buffer.from(text)));

  test("means the same when it is given back", async () => {
    const text = '<p:x xmlns:p="urn:a&amp;b" c="1&quot;&#10;2" p:d="3"><y>&lt;4&gt; <![CDATA[&5]]></y></p:x>';
    const again = await parseDocument(Buffer.from(await parsed(text)));
    expect(again).toEqual(await parseDocument(Buffer.from(text)));
    expect(innerXml(again)).toBe('<y xmlns="">&lt;4&gt; &amp;5</y>');
  });

  test.each([
    "<x>&#1;</x>",
    "<x>\u0001</x>",
    "<x>\ufffe</x>",
    "<x>&#xffff;</x>",
    '<x y="\u0002"/>',
    '<x xmlns="\u0003"/>',
  ])("%j, which no reader would take, is refused", async (text) => {
    await expect(parsed(text)).rejects.toMatchObject({ code: "invalid" });
  });

  test.each(["<p:x/>", '<x xmlns:p=""><p:y/></x>', '<x p:y="1"/>', '<a:b:c xmlns:a="u"/>'])(
    "%j, whose namespace is not known, is refused",
    async (text) => {
      await expect(parsed(text)).rejects.toMatchObject({ code: "invalid" });
    },
  );
});

test.each(["\u0000", "\u0001", "\u000b", "\u001f", "\ufffe", "\uffff", "\ud800"])(
  "%j does not make a document unreadable",
  async (character) => {
    const { root } = await parseXmlInPieces(`<a>${escapeXml(`x${character}y`)}</a>`, bounds);
    expect(root.value).toBe("x\ufffdy");
  },
);
