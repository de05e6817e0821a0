/**
 * Folders on an FTP server: `ftp://` in the clear, `ftpes://` with TLS after AUTH TLS (RFC 4217), `ftps://` with TLS from
 * the first byte. `/path` stands below the login's folder, `//path` is absolute.
 *
 * A connection does one thing at a time, so several are kept. A transfer that breaks off leaves a partial file, and the
 * server cannot tell it from a whole one; so an object is sent under a temporary name, its size (and its SHA-256, where the
 * server has HASH) compared, and renamed. Listings are read with MLSD; with LIST only where a server has no MLSD, and then
 * names that LIST does not show exactly are refused.
 */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { Store } from "../../contract/store.ts";
import { netrcLogin } from "../base/netrc.ts";
import { serverPath } from "../base/place.ts";
import { decodePath, readNumber, readQuery } from "../base/query.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { serverName, tlsOptions } from "../base/tls.ts";
import { TreeStore } from "../base/tree-store.ts";
import { DEFAULT_CONNECTIONS, FtpTree } from "./ftp-tree.ts";

export const ftpKind: StoreKind = {
  open: async (url: StoreUrl, context: StoreContext): Promise<Store> => {
    if (url.host === "") throw new HoldfastError("config", `a URL of ${url.scheme}:// needs a host`);
    const query = readQuery(url, ["ca", "connections"]);
    const path = decodePath(url.path);
    if (/[\r\n]/u.test(path))
      throw new HoldfastError("config", `the path of a URL of ${url.scheme}:// holds a line break`);
    const secure = url.scheme === "ftps" ? "implicit" : url.scheme === "ftpes";
    const tls = await tlsOptions(query.ca);
    if (query.ca !== undefined && secure === false) {
      throw new HoldfastError("config", "ftp:// has no TLS, so ca= means nothing; use ftpes:// or ftps://");
    }
    const tree = new FtpTree(
      {
        host: url.host,
        port: portOf(url),
        ...(await loginOf(url, context.env)),
        secure,
        ...(secure === false ? {} : { secureOptions: { ...tls, host: url.host, ...serverName(url.host) } }),
      },
      path,
      readNumber("connections", query.connections, DEFAULT_CONNECTIONS, 1, 64),
    );
    return new TreeStore({
      context,
      tree,
      refusePart: (part) => tree.refusePart(part),
    });
  },
  place: async (url, env) => {
    const { user } = await loginOf(url, env);
    const path = decodePath(url.path).slice(1);
    return { server: ["ftp", `${user}@${url.host.toLowerCase()}:${portOf(url)}`], path: serverPath(path) };
  },
};

function portOf(url: StoreUrl): number {
  return url.port ?? (url.scheme === "ftps" ? 990 : 21);
}

async function loginOf(url: StoreUrl, env: StoreContext["env"]): Promise<{ user: string; password: string }> {
  const password = url.password ?? env["FTP_PASSWORD"];
  if (url.username !== undefined && password !== undefined) return { user: url.username, password };
  const entry = await netrcLogin(url.host, url.username, env);
  const user = url.username ?? entry?.login ?? "anonymous";
  // Anonymous servers want something that looks like an address.
  return { user, password: password ?? entry?.password ?? (user === "anonymous" ? "anonymous@" : "") };
}
