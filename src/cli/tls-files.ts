/** The files of --cert and --key, looked at before a server takes them: OpenSSL's own words name neither. */
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { HoldfastError } from "../contract/errors.ts";

export interface PemFile {
  /** As the user named it. */
  readonly file: string;
  readonly text: string;
}

/** Throws `config` where one of them is no PEM of its kind, or they do not belong together. */
export function checkTlsFiles(cert: PemFile, key: PemFile): void {
  const certificate = readAs(`--cert: ${cert.file} holds no certificate in PEM`, () => new X509Certificate(cert.text));
  const privateKey = readAs(
    `--key: ${key.file} holds no private key in PEM that can be read without a passphrase`,
    (): KeyObject => createPrivateKey(key.text),
  );
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new HoldfastError("config", `--key: ${key.file} is not the key of the certificate in ${cert.file}`);
  }
}

function readAs<T>(message: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new HoldfastError("config", message, { cause: error });
  }
}
