/** Listings of a bucket's objects: versions 1 and 2, and the listing of versions, of which every object has one. */
import { compareNames, isReserved } from "../../contract/names.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { position } from "../listing.ts";
import { FOLDER_MARKER, etagOf, isFolderMarker } from "../object-facts.ts";
import { OWNER, isoDate, sendXml } from "./answers.ts";
import type { Buckets } from "./buckets.ts";
import type { Call } from "./call.ts";
import { decodeToken, encodeToken, encoder, maxKeys, prefixesXml } from "./paging.ts";
import { tag } from "./xml.ts";

interface Entry {
  /** The key. */
  readonly name: string;
  readonly info: PoolObjectInfo;
}

interface Page {
  readonly contents: Entry[];
  readonly prefixes: string[];
  last: string;
  truncated: boolean;
}

export class ObjectListings {
  readonly #context: GatewayContext;
  readonly #buckets: Buckets;

  constructor(context: GatewayContext, buckets: Buckets) {
    this.#context = context;
    this.#buckets = buckets;
  }

  async version2(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const token = query.get("continuation-token");
    const startAfter = query.get("start-after");
    const after = token === undefined || token === "" ? (startAfter ?? "") : decodeToken(token);
    const page = await this.#page(call, prefix, delimiter, after, max);
    const owner = query.get("fetch-owner") === "true";
    sendXml(
      exchange,
      "ListBucketResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("MaxKeys", max) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("KeyCount", page.contents.length + page.prefixes.length) +
        tag("IsTruncated", page.truncated) +
        tag("ContinuationToken", token) +
        (page.truncated ? tag("NextContinuationToken", encodeToken(page.last)) : "") +
        (startAfter === undefined ? "" : tag("StartAfter", encode(startAfter))) +
        contentsXml(page, encode, owner),
    );
  }

  async version1(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const marker = query.get("marker") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const page = await this.#page(call, prefix, delimiter, marker, max);
    sendXml(
      exchange,
      "ListBucketResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        tag("Marker", encode(marker)) +
        tag("MaxKeys", max) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", page.truncated) +
        (page.truncated && delimiter !== "" ? tag("NextMarker", encode(page.last)) : "") +
        contentsXml(page, encode, true),
    );
  }

  async versions(call: Call): Promise<void> {
    const { query, exchange, bucket } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const marker = query.get("key-marker") ?? "";
    const max = maxKeys(query.get("max-keys"));
    const encode = encoder(query);
    const page = await this.#page(call, prefix, delimiter, marker, max);
    const versions = page.contents
      .map(
        ({ name, info }) =>
          `<Version>${tag("Key", encode(name))}${tag("VersionId", "null")}${tag("IsLatest", true)}` +
          `${tag("LastModified", isoDate(info.modifiedMs ?? 0))}${tag("ETag", `"${etagOf(info)}"`)}` +
          `${tag("Size", info.size)}<Owner>${OWNER}</Owner>${tag("StorageClass", "STANDARD")}</Version>`,
      )
      .join("");
    sendXml(
      exchange,
      "ListVersionsResult",
      tag("Name", bucket) +
        tag("Prefix", encode(prefix)) +
        tag("KeyMarker", encode(marker)) +
        tag("VersionIdMarker", query.get("version-id-marker") ?? "") +
        (page.truncated ? tag("NextKeyMarker", encode(page.last)) + tag("NextVersionIdMarker", "null") : "") +
        tag("MaxKeys", max) +
        tag("Delimiter", query.has("delimiter") ? encode(delimiter) : undefined) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", page.truncated) +
        versions +
        prefixesXml(page.prefixes, encode),
    );
  }

  /** Keys of a bucket in order, folders among them. */
  async #entries(call: Call, prefix: string, goOn: boolean): Promise<Entry[]> {
    const root = this.#buckets.prefixOf(call.bucket);
    const infos = await this.#context.listings.entries(root + prefix, goOn, { signal: call.exchange.signal });
    const entries: Entry[] = [];
    let unordered = false;
    for (const info of infos) {
      if (isReserved(info.name)) continue;
      let name = info.name.slice(root.length);
      if (isFolderMarker(name)) {
        name = name.slice(0, -FOLDER_MARKER.length);
        // A folder's object does not stand where its key belongs in the order.
        unordered = true;
      }
      if (name !== "" && name.startsWith(prefix)) entries.push({ name, info });
    }
    if (unordered) entries.sort((a, b) => compareNames(a.name, b.name));
    return entries;
  }

  /** One page: at most `max` keys and common prefixes behind `after`. */
  async #page(call: Call, prefix: string, delimiter: string, after: string, max: number): Promise<Page> {
    const page: Page = { contents: [], prefixes: [], last: "", truncated: false };
    const entries = await this.#entries(call, prefix, after !== "");
    // The common prefix that the page before ended with, or ended in.
    const afterCut = delimiter === "" ? -1 : after.indexOf(delimiter, prefix.length);
    let common = afterCut === -1 ? undefined : after.slice(0, afterCut + delimiter.length);
    for (let at = after === "" ? 0 : position(entries, after); at < entries.length; at++) {
      const entry = entries[at];
      if (!entry || entry.name === after) continue;
      if (common !== undefined && entry.name.startsWith(common)) continue;
      if (page.contents.length + page.prefixes.length >= max) {
        page.truncated = max > 0;
        break;
      }
      const cut = delimiter === "" ? -1 : entry.name.indexOf(delimiter, prefix.length);
      if (cut === -1) {
        page.contents.push(entry);
        page.last = entry.name;
      } else {
        common = entry.name.slice(0, cut + delimiter.length);
        page.prefixes.push(common);
        page.last = common;
      }
    }
    return page;
  }
}

function contentsXml(page: Page, encode: (text: string) => string, owner: boolean): string {
  return (
    page.contents
      .map(
        ({ name, info }) =>
          `<Contents>${tag("Key", encode(name))}${tag("LastModified", isoDate(info.modifiedMs ?? 0))}` +
          `${tag("ETag", `"${etagOf(info)}"`)}${tag("Size", info.size)}` +
          `${owner ? `<Owner>${OWNER}</Owner>` : ""}${tag("StorageClass", "STANDARD")}</Contents>`,
      )
      .join("") + prefixesXml(page.prefixes, encode)
  );
}
