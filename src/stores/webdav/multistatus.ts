/** The entries of a multistatus document (RFC 4918, section 13). */
import { HoldfastError } from "../../contract/errors.ts";
import { parseXmlDocument } from "../../support/xml.ts";
import type { XmlDocument } from "../../support/xml.ts";
import type { TreeEntry } from "../base/tree-store.ts";

/** An answer to a question about one file, and one entry of a listing, has no reason to be longer. */
const MAX_ENTRY_CHARS = 64 * 1024;

const RESPONSE_END = /<\/(?:[\w.-]+:)?response\s*>/u;
const ROOT_START = /<(?:[\w.-]+:)?multistatus(?:\s[^>]*)?>/u;
const ROOT_END = /<\/(?:[\w.-]+:)?multistatus\s*>|<(?:[\w.-]+:)?multistatus(?:\s[^>]*)?\/>/u;

/** Cuts a multistatus document into its response elements. Rejects with `corrupt` for what is none or ends early. */
export async function* responseElements(body: AsyncIterable<unknown>): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let begun = false;
  const corrupt = (why: string): HoldfastError => new HoldfastError("corrupt", `the server's listing ${why}`);
  for await (const chunk of body) {
    try {
      text += decoder.decode(chunk as Buffer, { stream: true });
    } catch (error) {
      throw new HoldfastError("corrupt", "the server's listing is no UTF-8", { cause: error });
    }
    // Entities that a document defines itself can grow without bounds; WebDAV has no use for them.
    if (!begun && /<!DOCTYPE/iu.test(text)) throw corrupt("has a document type, which none needs");
    if (!begun) {
      const start = ROOT_START.exec(text);
      if (start && !start[0].endsWith("/>")) {
        text = text.slice(start.index + start[0].length);
        begun = true;
      }
    }
    for (let end = begun ? RESPONSE_END.exec(text) : null; end; end = RESPONSE_END.exec(text)) {
      const cut = end.index + end[0].length;
      yield text.slice(0, cut);
      text = text.slice(cut);
    }
    if (text.length > MAX_ENTRY_CHARS) throw corrupt("has an entry that is too long");
  }
  if (!ROOT_END.test(text)) throw corrupt("ends early");
}

/** One response element; undefined when it says that nothing is there. */
export function parseResponse(xml: string): (TreeEntry & { readonly href: string }) | undefined {
  let document: XmlDocument;
  try {
    document = parseXmlDocument(xml.trim());
  } catch (error) {
    throw new HoldfastError("corrupt", "an entry of the server's listing is no proper XML", { cause: error });
  }
  const response = document.name === "response" ? document.root : undefined;
  const href = response?.text("href")?.trim();
  if (response === undefined || href === undefined) {
    throw new HoldfastError("corrupt", "an entry of the server's listing has no href");
  }
  const status = statusOf(response.text("status"));
  const [properties] =
    response
      .all("propstat")
      .find((one) => statusOf(one.text("status")) === 200)
      ?.all("prop") ?? [];
  if (properties === undefined) {
    if (status === 404 || status === 410) return undefined;
    throw new HoldfastError("incomplete", `the server told nothing of ${JSON.stringify(href)}`);
  }
  const isFolder = properties.all("resourcetype").some((type) => type.all("collection").length > 0);
  const length = properties.text("getcontentlength")?.trim() ?? "";
  const modifiedMs = Date.parse(properties.text("getlastmodified")?.trim() ?? "");
  const size = isFolder ? 0 : Number(/^\d+$/u.test(length) ? length : Number.NaN);
  if (!Number.isSafeInteger(size)) {
    throw new HoldfastError("corrupt", `the server told no size of ${JSON.stringify(href)}`);
  }
  return {
    href,
    name: "",
    kind: isFolder ? "folder" : "file",
    size,
    ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
  };
}

function statusOf(line: string | undefined): number {
  return Number(/^\s*HTTP\/\S+\s+(\d{3})/u.exec(line ?? "")?.[1]);
}
