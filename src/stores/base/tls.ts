/** TLS options that the kinds of store share: certificates are verified always, a private CA can be named. */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import tls from "node:tls";
import { HoldfastError } from "../../contract/errors.ts";

export interface TlsOptions {
  /** Certificates of the authorities that are trusted: the named ones beside the usual, or undefined for the usual. */
  readonly ca?: string[];
}

/** TLS options with the authorities in a PEM file beside the usual ones. Rejects with `config` when there are none. */
export async function tlsOptions(caFile: string | undefined): Promise<TlsOptions> {
  if (caFile === undefined) return {};
  let text: string;
  try {
    text = await readFile(caFile, "utf8");
  } catch (error) {
    throw new HoldfastError("config", `cannot read the certificates ${caFile}`, { cause: error });
  }
  if (!text.includes("-----BEGIN CERTIFICATE-----")) {
    throw new HoldfastError("config", `${caFile} holds no certificate in PEM form`);
  }
  return { ca: [...tls.rootCertificates, text] };
}

/** The name that TLS tells the server: none for an address, which is no name (RFC 6066). The host is verified either way. */
export function serverName(host: string): { readonly servername?: string } {
  return isIP(host.replaceAll(/[[\]]/gu, "")) === 0 ? { servername: host } : {};
}
