/**
 * XML as WebDAV uses it: with namespaces, and with values of properties kept as they are.
 *
 * Text keeps its entity references throughout, so what a client stored is given back as it wrote it.
 */
import { XMLParser, XMLValidator } from "fast-xml-parser";
import { HoldfastError } from "../../errors.ts";
import { ClientError } from "../http-tools.ts";

/** What a document begins with. */
export const PROLOG = '<?xml version="1.0" encoding="utf-8"?>\n';

/** Depth of nested elements that is accepted. */
const MAX_DEPTH = 32;
const XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace";

export interface XmlNode {
  readonly namespace: string;
  readonly name: string;
  /** Attributes other than declarations of namespaces, as `prefix:name` with raw values. */
  readonly attributes: readonly { readonly namespace: string; readonly name: string; readonly value: string }[];
  /** Elements, and text with its references as they stand. */
  readonly children: readonly (XmlNode | string)[];
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  processEntities: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
  maxNestedTags: MAX_DEPTH,
});

/** Parses a document. Throws `invalid` for what is not well-formed, has a document type or an unknown prefix. */
export function parseDocument(bytes: Buffer): XmlNode {
  const text = bytes.toString("utf8").replace(/^\uFEFF/u, "");
  if (/<!(?:DOCTYPE|ENTITY)/iu.test(text)) throw new HoldfastError("invalid", "document types are not accepted");
  let roots: unknown;
  try {
    if (XMLValidator.validate(text) !== true) throw new HoldfastError("invalid", "the body is not well-formed XML");
    roots = parser.parse(text);
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    throw new ClientError("invalid", "the body is not acceptable XML", { cause: error });
  }
  const nodes = Array.isArray(roots) ? roots.map((root) => toNode(root, new Map([["xml", XML_NAMESPACE]]))) : [];
  const root = nodes.find((node) => typeof node === "object");
  if (!root) throw new HoldfastError("invalid", "the body has no element");
  return root;
}

function toNode(raw: unknown, scope: ReadonlyMap<string, string>): XmlNode | string {
  const entry = raw as Record<string, unknown>;
  if ("#text" in entry) return String(entry["#text"]);
  const tag = Object.keys(entry).find((key) => key !== ":@") ?? "";
  const attributes = (entry[":@"] ?? {}) as Record<string, unknown>;
  const inner = new Map(scope);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "xmlns") inner.set("", String(value));
    else if (name.startsWith("xmlns:")) {
      if (String(value) === "")
        throw new HoldfastError("invalid", `the prefix ${name.slice(6)} stands for no namespace`);
      inner.set(name.slice(6), String(value));
    }
  }
  const children = entry[tag];
  return {
    ...resolve(tag, inner, true),
    attributes: Object.entries(attributes)
      .filter(([name]) => name !== "xmlns" && !name.startsWith("xmlns:"))
      .map(([name, value]) => ({ ...resolve(name, inner, false), value: String(value) })),
    children: Array.isArray(children) ? children.map((child) => toNode(child, inner)) : [],
  };
}

function resolve(
  qualified: string,
  scope: ReadonlyMap<string, string>,
  isElement: boolean,
): { namespace: string; name: string } {
  const colon = qualified.indexOf(":");
  if (colon === -1) return { namespace: isElement ? (scope.get("") ?? "") : "", name: qualified };
  const namespace = scope.get(qualified.slice(0, colon));
  if (namespace === undefined) throw new HoldfastError("invalid", `the prefix of ${qualified} is not declared`);
  return { namespace, name: qualified.slice(colon + 1) };
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
  return node.children.map((child) => (typeof child === "string" ? child : outerXml(child))).join("");
}

export function outerXml(node: XmlNode): string {
  const prefixes = new Map<string, string>();
  const attributes = node.attributes.map(({ namespace, name, value }) => {
    const shown = value.replaceAll('"', "&quot;").replaceAll("<", "&lt;");
    if (namespace === "") return ` ${name}="${shown}"`;
    if (namespace === XML_NAMESPACE) return ` xml:${name}="${shown}"`;
    const prefix = prefixes.get(namespace) ?? `a${prefixes.size}`;
    prefixes.set(namespace, prefix);
    return ` ${prefix}:${name}="${shown}"`;
  });
  const declared = [...prefixes].map(
    ([namespace, prefix]) => ` xmlns:${prefix}="${namespace.replaceAll('"', "&quot;")}"`,
  );
  return element(node.namespace, node.name, innerXml(node), declared.join("") + attributes.join(""));
}

/** An element of any namespace with content that is XML already. */
export function element(namespace: string, name: string, content: string, attributes = ""): string {
  const open = `${name} xmlns="${namespace.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;")}"${attributes}`;
  return content === "" ? `<${open}/>` : `<${open}>${content}</${name}>`;
}
