/** XML in and out, as S3 uses it. */
import { escapeXml, parseXmlInPieces } from "../../support/xml.ts";
import type { XmlBounds, XmlDocument, XmlElement } from "../../support/xml.ts";
import { S3Error } from "./s3-error.ts";

/** 10,000 parts with number, tag, and checksums by all algorithms. */
const BOUNDS: XmlBounds = { elements: 100_000, depth: 16 };

/** Parses a document and gives its root, which must be called `root`. Rejects with MalformedXML. */
export async function parseXml(bytes: Buffer, root: string): Promise<XmlElement> {
  let document: XmlDocument;
  try {
    document = await parseXmlInPieces(bytes.toString("utf8").replace(/^\uFEFF/u, ""), BOUNDS);
  } catch (error) {
    throw new S3Error("MalformedXML", "the body is not acceptable XML", error);
  }
  if (document.name !== root) throw new S3Error("MalformedXML", `the body must be a ${root}`);
  return document.root;
}

/** An element with text; nothing where there is no value. */
export function tag(name: string, value: string | number | boolean | undefined): string {
  return value === undefined ? "" : `<${name}>${escapeXml(String(value))}</${name}>`;
}

/** A whole document. */
export function xmlDocument(root: string, content: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${content}</${root}>`;
}
