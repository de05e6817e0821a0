/** XML as services use it: elements and text, without attributes, namespaces, document types and surprises. */
import { XMLParser, XMLValidator } from "fast-xml-parser";

/** Depth of nested elements that is accepted. */
const MAX_DEPTH = 16;

const parser = new XMLParser({
  ignoreAttributes: true,
  ignoreDeclaration: true,
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: false,
  // The five entities of XML and character codes are decoded here; there are no others without a document type.
  processEntities: false,
  maxNestedTags: MAX_DEPTH,
});

/** An element: its children by name, or its text. */
export interface XmlElement {
  /** Children of this name, in order. */
  all(name: string): XmlElement[];
  /** Text of the first child of this name; undefined where there is none. */
  text(name: string): string | undefined;
  /** Text of this element. */
  readonly value: string;
}

/** Parses a document. Throws an Error that says what is wrong with it. */
export function parseXmlDocument(text: string): { readonly name: string; readonly root: XmlElement } {
  if (/<!(?:DOCTYPE|ENTITY)/iu.test(text)) throw new Error("document types are not accepted");
  if (XMLValidator.validate(text) !== true) throw new Error("it is not well-formed XML");
  const document: unknown = parser.parse(text);
  const [entry] = Object.entries(document as Record<string, unknown>).filter(([name]) => name !== "#text");
  if (entry === undefined) throw new Error("it has no element");
  return { name: entry[0], root: element(entry[1]) };
}

function element(node: unknown): XmlElement {
  const children = (name: string): unknown[] => {
    if (typeof node !== "object" || node === null || !Object.hasOwn(node, name)) return [];
    const found = (node as Record<string, unknown>)[name];
    return Array.isArray(found) ? found : [found];
  };
  const ownText = typeof node === "string" ? node : children("#text").map(String).join("");
  return {
    all: (name) => children(name).map(element),
    text: (name) => {
      const [first] = children(name);
      return first === undefined ? undefined : element(first).value;
    },
    value: decodeEntities(ownText),
  };
}

const named: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** Text with XML's five entities and character codes as what they stand for; others stay as they are. */
export function decodeEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w{1,6}));/giu, (whole, hex, decimal, name) => {
    if (typeof name === "string") return named[name] ?? whole;
    const code = typeof hex === "string" ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

/** Text for use in XML. Characters that XML cannot carry are written as references, as S3 does. */
export function escapeXml(text: string): string {
  return text
    .replace(/[&<>"\r]/gu, (character) => {
      switch (character) {
        case "&":
          return "&amp;";
        case "<":
          return "&lt;";
        case ">":
          return "&gt;";
        case '"':
          return "&quot;";
        default:
          return "&#13;";
      }
    })
    .replace(
      // oxlint-disable-next-line no-control-regex -- these are what is looked for
      /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/gu,
      (character) => `&#x${character.charCodeAt(0).toString(16)};`,
    );
}
