/** Certificates that are right, and that are wrong in one way each; made by openssl. See index.ts. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** In PEM. */
export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

export interface Certificates {
  /** The CA that signed `good`, `expired` and `otherHost`, in PEM. */
  readonly ca: string;
  /** The same as a file, for clients that want one. */
  readonly caFile: string;
  /** For localhost and 127.0.0.1. */
  readonly good: Certificate;
  readonly expired: Certificate;
  readonly otherHost: Certificate;
  /** For localhost, signed by itself. */
  readonly selfSigned: Certificate;
  /** Removes the files. */
  remove(): Promise<void>;
}

const run = promisify(execFile);
const HERE = "DNS:localhost,IP:127.0.0.1";

export async function makeCertificates(): Promise<Certificates> {
  const dir = await mkdtemp(join(tmpdir(), "holdfast-certificates-"));
  const openssl = (...args: string[]): Promise<unknown> => run("openssl", args, { cwd: dir });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const selfSign = async (name: string, ...more: string[]): Promise<void> => {
    const files = ["-keyout", `${name}.key`, "-out", `${name}.crt`];
    await openssl("req", "-x509", ...newKey, ...files, "-subj", `/CN=${name}`, "-days", "2", ...more);
  };
  const sign = async (name: string, hosts: string, days: number): Promise<Certificate> => {
    await openssl("req", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    await writeFile(join(dir, `${name}.ext`), `subjectAltName=${hosts}\n`);
    const ca = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    const files = ["-in", `${name}.csr`, "-out", `${name}.crt`, "-extfile", `${name}.ext`];
    await openssl("x509", "-req", ...ca, ...files, "-days", String(days));
    return pair(name);
  };
  const pair = async (name: string): Promise<Certificate> => ({
    key: await readFile(join(dir, `${name}.key`), "utf8"),
    cert: await readFile(join(dir, `${name}.crt`), "utf8"),
  });
  await selfSign("ca");
  await selfSign("self-signed", "-addext", `subjectAltName=${HERE}`);
  return {
    ca: await readFile(join(dir, "ca.crt"), "utf8"),
    caFile: join(dir, "ca.crt"),
    good: await sign("good", HERE, 2),
    expired: await sign("expired", HERE, -1),
    otherHost: await sign("other-host", "DNS:elsewhere.example", 2),
    selfSigned: await pair("self-signed"),
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}
