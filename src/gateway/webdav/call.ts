/** One request to the WebDAV gateway, and the addresses that it names. */
import type { Exchange } from "../exchange.ts";
import { percentDecode } from "../http-tools.ts";
import { DavStatus } from "./dav-status.ts";

/** Longest XML body, in bytes. */
export const MAX_XML_BYTES = 256 * 1024;

export interface Call {
  readonly exchange: Exchange;
  readonly path: string;
  /** "" where nobody has to say who they are. */
  readonly user: string;
  /** Lock tokens of the If header. */
  readonly tokens: Set<string>;
}

/** An address's path as a name: decoded, without slashes at its ends. */
export function toPath(rawPath: string): string {
  if (!rawPath.startsWith("/")) throw new DavStatus(400, "the address must begin with a slash");
  const parts = rawPath
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
      const decoded = percentDecode(part);
      if (decoded === "." || decoded === ".." || decoded.includes("/"))
        throw new DavStatus(400, "the address is not plain");
      return decoded;
    });
  return parts.join("/");
}

/** The path of an address on this gateway; undefined for one elsewhere. */
export function localPath(exchange: Exchange, address: string): string | undefined {
  const match = /^(?:[a-z][a-z0-9+.-]*:\/\/([^/?#]*))?(\/[^?#]*)?$/iu.exec(address);
  if (!match) return undefined;
  const host = match[1]?.replace(/^[^@]*@/u, "").toLowerCase();
  if (host !== undefined && host !== exchange.request.headers.host?.toLowerCase()) return undefined;
  return toPath(match[2] ?? "/");
}

export function destinationOf(exchange: Exchange): string {
  const header = exchange.request.headers["destination"]?.toString();
  if (header === undefined) throw new DavStatus(400, "the header Destination is missing");
  const path = localPath(exchange, header.trim());
  if (path === undefined) throw new DavStatus(502, "the destination is not on this gateway");
  return path;
}
