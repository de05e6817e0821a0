/** HTTP servers on loopback that answer as a test says, and certificates for them. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { IncomingMessage, RequestListener, Server } from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface TestHttpServer {
  readonly port: number;
  readonly server: Server;
  /** What was asked, in order. */
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingMessage["headers"] }[];
  close(): Promise<void>;
}

/** Serves over TLS when `tls` is given. */
export async function httpServer(
  listener: RequestListener,
  tls?: { readonly key: string; readonly cert: string },
): Promise<TestHttpServer> {
  const requests: TestHttpServer["requests"] = [];
  const recorded: RequestListener = (request, response) => {
    requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
    listener(request, response);
  };
  const server = tls ? https.createServer({ ...tls }, recorded) : http.createServer(recorded);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    port: address.port,
    server,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

/** A private authority, and certificates that it signed: a right one for 127.0.0.1, and wrong ones. */
export interface Authority {
  /** File with the authority's certificate. */
  readonly caFile: string;
  readonly right: Certificate;
  readonly otherHost: Certificate;
  readonly expired: Certificate;
  remove(): Promise<void>;
}

export async function makeAuthority(): Promise<Authority> {
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-ca-"));
  const file = (name: string): string => path.join(folder, name);
  const openssl = (...args: string[]): Promise<unknown> => run("openssl", args, { cwd: folder });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca");
  await writeFile(
    file("ca.conf"),
    "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\nprivate_key=ca.key\n" +
      "default_md=sha256\npolicy=any\ncopy_extensions=copy\nunique_subject=no\n[any]\ncommonName=supplied\n",
  );
  await writeFile(file("index"), "");
  await writeFile(file("serial"), "01\n");
  const sign = async (name: string, host: string, ...times: string[]): Promise<Certificate> => {
    const names = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=${host}`];
    await openssl("req", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`, ...names);
    await openssl(
      "ca",
      "-batch",
      "-config",
      "ca.conf",
      "-in",
      `${name}.csr`,
      "-out",
      `${name}.pem`,
      "-notext",
      ...times,
    );
    return { key: await readFile(file(`${name}.key`), "utf8"), cert: await readFile(file(`${name}.pem`), "utf8") };
  };
  return {
    caFile: file("ca.pem"),
    right: await sign("right", "IP:127.0.0.1", "-days", "2"),
    otherHost: await sign("other", "DNS:other.example.org", "-days", "2"),
    expired: await sign("expired", "IP:127.0.0.1", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z"),
    remove: () => rm(folder, { recursive: true }),
  };
}
