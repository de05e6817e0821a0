/** The kind of store that a folder is, by its URL: `file:///absolute`, `file://relative` and plain paths, as duplicity reads them. */
import { HoldfastError } from "../../contract/errors.ts";
import { looksLikeUrl } from "../../contract/store-url.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { placeOfFolder } from "../base/place.ts";
import type { StoreKind } from "../base/store-kind.ts";
import { FileStore } from "./file-store.ts";

export const fileKind: StoreKind = {
  open: async (url, context) => new FileStore(folderOf(url), context),
  place: async (url) => placeOfFolder(folderOf(url)),
};

function folderOf(url: StoreUrl): string {
  const path = looksLikeUrl(url.text) ? decodePath(url.path) : url.path;
  if (path === "") throw new HoldfastError("config", "the URL names no folder");
  return path;
}

/** Percent-decoded as duplicity does it: what is no encoding stays as it is. */
function decodePath(path: string): string {
  return path.replaceAll(/(?:%[0-9A-Fa-f]{2})+/gu, (encoded) => {
    try {
      const decoded = decodeURIComponent(encoded);
      return decoded.includes("\0") ? encoded : decoded;
    } catch {
      return encoded;
    }
  });
}
