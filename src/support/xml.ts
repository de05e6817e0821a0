/**
 * XML as services and clients use it: elements, attributes and text, without document types and surprises.
 *
 * Bytes say little of what a document costs: how many elements it may have, how deep they may stand, and how many
 * attributes one may have is bounded too. What clients send is read in pieces, so that others are served meanwhile.
 */
import { setImmediate } from "node:timers/promises";
import sax from "sax";
import type { QualifiedTag, Tag } from "sax";

export interface XmlBounds {
  /** Elements of the document. */
  readonly elements: number;
  /** How deep elements may stand in each other. */
  readonly depth: number;
}

/** For answers of services: a page of a listing has a thousand entries of some ten elements. */
const SERVICE_BOUNDS: XmlBounds = { elements: 100_000, depth: 16 };
/** Attributes of one element. */
const MAX_ATTRIBUTES = 64;
/** Characters that are parsed at a time: a few milliseconds. */
const PIECE_CHARS = 16 * 1024;

export interface XmlNode {
  /** Empty where namespaces are not looked at. */
  readonly namespace: string;
  /** Without prefix. */
  readonly name: string;
  /** Without declarations of namespaces. Empty where namespaces are not looked at. */
  readonly attributes: readonly { readonly namespace: string; readonly name: string; readonly value: string }[];
  /** Elements, and text with its references resolved. */
  readonly children: readonly (XmlNode | string)[];
}

/** An element: its children by name, or its text. */
export interface XmlElement {
  /** Children of this name, in order. */
  all(name: string): XmlElement[];
  /** Text of the first child of this name; undefined where there is none. */
  text(name: string): string | undefined;
  /** Text of this element. */
  readonly value: string;
}

export interface XmlDocument {
  readonly name: string;
  readonly root: XmlElement;
}

/** Parses an answer at once, whatever its prefixes stand for. Throws an Error that says what is wrong with it. */
export function parseXmlDocument(text: string): XmlDocument {
  const parsing = parse(withControls(text), { bounds: SERVICE_BOUNDS, namespaces: false });
  for (;;) {
    const step = parsing.next();
    if (step.done) return documentOf(step.value);
  }
}

/** The same for what a client sent, piece by piece. */
export async function parseXmlInPieces(text: string, bounds: XmlBounds): Promise<XmlDocument> {
  return documentOf(await inPieces(parse(withControls(text), { bounds, namespaces: false })));
}

/** The same with namespaces and attributes. A prefix that stands for nothing is an error, and a character that XML has not. */
export async function parseXmlTree(text: string, bounds: XmlBounds): Promise<XmlNode> {
  if (NO_CHARACTER.test(text)) throw new Error("it has characters that XML has not");
  return inPieces(parse(text, { bounds, namespaces: true }));
}

async function inPieces<T>(parsing: Generator<void, T>): Promise<T> {
  for (;;) {
    const step = parsing.next();
    if (step.done) return step.value;
    await setImmediate();
  }
}

interface OpenNode extends XmlNode {
  readonly children: (XmlNode | string)[];
}

function* parse(
  text: string,
  { bounds, namespaces }: { readonly bounds: XmlBounds; readonly namespaces: boolean },
): Generator<void, XmlNode> {
  const parser = sax.parser(true, { xmlns: namespaces, position: false, strictEntities: true } as sax.SAXOptions);
  const open: OpenNode[] = [];
  let root: XmlNode | undefined;
  let elements = 0;
  let attributes = 0;
  const add = (more: string): void => {
    const children = open.at(-1)?.children;
    if (children === undefined) return;
    // Long text comes in pieces.
    const last = children.at(-1);
    if (typeof last === "string") children[children.length - 1] = last + more;
    else children.push(more);
  };
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a parser has no other way to be listened to
  parser.onerror = (error) => {
    throw new Error(`it is not well-formed XML: ${error.message.split("\n", 1)[0] ?? ""}`);
  };
  parser.ondoctype = () => {
    throw new Error("document types are not accepted");
  };
  parser.onattribute = () => {
    if (++attributes > MAX_ATTRIBUTES) throw new Error(`an element has more than ${MAX_ATTRIBUTES} attributes`);
  };
  parser.onopentag = (tag) => {
    if (++elements > bounds.elements) throw new Error(`it has more than ${bounds.elements} elements`);
    if (open.length >= bounds.depth) throw new Error(`its elements stand more than ${bounds.depth} deep`);
    if (root !== undefined) throw new Error("it has several elements at its top");
    attributes = 0;
    const node = nodeOf(tag);
    open.at(-1)?.children.push(node);
    open.push(node);
  };
  parser.onclosetag = () => {
    const node = open.pop();
    if (open.length === 0) root = node;
  };
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- likewise
  parser.ontext = add;
  parser.oncdata = add;
  for (let at = 0; at < text.length; at += PIECE_CHARS) {
    if (at > 0) yield;
    parser.write(text.slice(at, at + PIECE_CHARS));
  }
  parser.close();
  if (root === undefined) throw new Error("it has no element");
  return root;
}

function nodeOf(tag: Tag | QualifiedTag): OpenNode {
  if (!("uri" in tag)) {
    return { namespace: "", name: tag.name.slice(tag.name.lastIndexOf(":") + 1), attributes: [], children: [] };
  }
  if (tag.local.includes(":") || tag.name.split(":").length > 2) throw new Error(`${tag.name} is no name`);
  const attributes = Object.values(tag.attributes)
    .filter(({ prefix, name }) => prefix !== "xmlns" && name !== "xmlns")
    .map(({ uri, local, value }) => ({ namespace: uri, name: local, value }));
  return { namespace: tag.uri, name: tag.local, attributes, children: [] };
}

function documentOf(node: XmlNode): XmlDocument {
  return { name: node.name, root: elementOf(node) };
}

function elementOf(node: XmlNode): XmlElement {
  const named = (name: string): XmlNode[] =>
    node.children.filter((child): child is XmlNode => typeof child === "object" && child.name === name);
  return {
    all: (name) => named(name).map(elementOf),
    text: (name) => {
      const [first] = named(name);
      return first === undefined ? undefined : elementOf(first).value;
    },
    value: node.children.filter((child) => typeof child === "string").join(""),
  };
}

/** S3 and its clients write characters that XML has not as references, which no parser takes. */
function withControls(text: string): string {
  return text.replace(/&#(?:x0*([01]?[0-9a-f]|fff[ef])|0*(\d{1,2}|6553[45]));/giu, (whole, hex, decimal) => {
    const character = String.fromCharCode(typeof hex === "string" ? Number.parseInt(hex, 16) : Number(decimal));
    return NO_CHARACTER.test(character) ? character : whole;
  });
}

/** Characters that a document cannot hold in any form. */
// oxlint-disable-next-line no-control-regex -- these are what is looked for
const NO_CHARACTER = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ud800-\udfff\ufffe\uffff]/u;
const NO_CHARACTERS = new RegExp(NO_CHARACTER.source, "gu");
/** What stands in their place. */
const REPLACEMENT = "\ufffd";

const ESCAPED: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/**
 * Text for use in XML. A character that XML cannot hold, not as a reference either, becomes U+FFFD: with it, the whole
 * document would be unreadable.
 */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"\r]/gu, (character) => ESCAPED[character] ?? "&#13;").replace(NO_CHARACTERS, REPLACEMENT);
}
