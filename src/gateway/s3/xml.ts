/** XML in and out, as S3 uses it. */
import { escapeXml, parseXmlDocument } from "../../xml.ts";
import type { XmlElement } from "../../xml.ts";
import { S3Error } from "./s3-error.ts";

/** Parses a document and gives its root, which must be called `root`. Throws MalformedXML. */
export function parseXml(bytes: Buffer, root: string): XmlElement {
  let document: ReturnType<typeof parseXmlDocument>;
  try {
    document = parseXmlDocument(bytes.toString("utf8"));
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
