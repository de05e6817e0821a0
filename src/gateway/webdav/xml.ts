/** XML as WebDAV uses it: with namespaces, and with values of properties kept as they are. */
import { HoldfastError } from "../../contract/errors.ts";
import { ClientError } from "../http-tools.ts";
import { escapeXml, parseXmlTree } from "../../support/xml.ts";
import type { XmlBounds, XmlNode } from "../../support/xml.ts";

export type { XmlNode } from "../../support/xml.ts";

/** What a document begins with. */
export const PROLOG = '<?xml version="1.0" encoding="utf-8"?>\n';

const BOUNDS: XmlBounds = { elements: 2000, depth: 32 };
const XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace";

/** Parses a document. Rejects with `invalid` for what is not well-formed, has a document type or an unknown prefix. */
export async function parseDocument(bytes: Buffer): Promise<XmlNode> {
  try {
    return await parseXmlTree(bytes.toString("utf8").replace(/^\uFEFF/u, ""), BOUNDS);
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    throw new ClientError("invalid", "the body is not acceptable XML", { cause: error });
  }
}

/** The elements among a node's children. */
export function elements(node: XmlNode): XmlNode[] {
  return node.children.filter((child) => typeof child === "object");
}

/** The first child of this name in the namespace `DAV:`. */
export function davChild(node: XmlNode, name: string): XmlNode | undefined {
  return elements(node).find((child) => child.namespace === "DAV:" && child.name === name);
}

/** What stands between an element's tags, with every namespace declared where it is used. */
export function innerXml(node: XmlNode): string {
  return node.children.map((child) => (typeof child === "string" ? escapeXml(child) : outerXml(child))).join("");
}

export function outerXml(node: XmlNode): string {
  const prefixes = new Map<string, string>();
  const attributes = node.attributes.map(({ namespace, name, value }) => {
    const shown = attribute(value);
    if (namespace === "") return ` ${name}="${shown}"`;
    if (namespace === XML_NAMESPACE) return ` xml:${name}="${shown}"`;
    const prefix = prefixes.get(namespace) ?? `a${prefixes.size}`;
    prefixes.set(namespace, prefix);
    return ` ${prefix}:${name}="${shown}"`;
  });
  const declared = [...prefixes].map(([namespace, prefix]) => ` xmlns:${prefix}="${attribute(namespace)}"`);
  return element(node.namespace, node.name, innerXml(node), declared.join("") + attributes.join(""));
}

/** An element of any namespace with content that is XML already. */
export function element(namespace: string, name: string, content: string, attributes = ""): string {
  const open = `${name} xmlns="${attribute(namespace)}"${attributes}`;
  return content === "" ? `<${open}/>` : `<${open}>${content}</${name}>`;
}

/** A reader takes line breaks and tabs in an attribute for spaces, unless they are references. */
function attribute(value: string): string {
  return escapeXml(value).replaceAll("\n", "&#10;").replaceAll("\t", "&#9;");
}
