/** XML in and out, as S3 uses it. */
import { XMLParser, XMLValidator } from "fast-xml-parser";
import { escapeXml } from "../escape-xml.ts";
import { S3Error } from "./s3-error.ts";

/** Depth of nested elements that is accepted. */
const MAX_DEPTH = 16;

const parser = new XMLParser({
  ignoreAttributes: true,
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: false,
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

/** Parses a document and gives its root, which must be called `root`. Throws MalformedXML. */
export function parseXml(bytes: Buffer, root: string): XmlElement {
  const text = bytes.toString("utf8");
  if (/<!(?:DOCTYPE|ENTITY)/iu.test(text)) throw new S3Error("MalformedXML", "document types are not accepted");
  let document: unknown;
  try {
    if (XMLValidator.validate(text) !== true) throw new S3Error("MalformedXML", "the body is not well-formed XML");
    document = parser.parse(text);
  } catch (error) {
    if (error instanceof S3Error) throw error;
    throw new S3Error("MalformedXML", "the body is not acceptable XML", error);
  }
  if (typeof document !== "object" || document === null || !Object.hasOwn(document, root)) {
    throw new S3Error("MalformedXML", `the body must be a ${root}`);
  }
  return element((document as Record<string, unknown>)[root]);
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

function decodeEntities(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w{1,6}));/giu, (whole, hex, decimal, name) => {
    if (typeof name === "string") return named[name] ?? whole;
    const code = typeof hex === "string" ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

/** An element with text; nothing where there is no value. */
export function tag(name: string, value: string | number | boolean | undefined): string {
  return value === undefined ? "" : `<${name}>${escapeXml(String(value))}</${name}>`;
}

/** A whole document. */
export function xmlDocument(root: string, content: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${content}</${root}>`;
}
