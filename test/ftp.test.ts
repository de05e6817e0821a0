/** FTP on ProFTPD and on vsftpd. */
import path from "node:path";
import { describe } from "vitest";
import { openStore } from "../src/open-store.ts";
import { describeConformance } from "./helpers/run-conformance.ts";
import { reportStore } from "./helpers/server-report.ts";
import { startServer, uniqueName } from "./helpers/servers.ts";

const proftpd = await startServer("proftpd");
const vsftpd = await startServer("vsftpd");

/** A home without a .netrc. */
const env = { HOME: "/nonexistent" };

describe.runIf(proftpd.running)("ftp on ProFTPD", () => {
  reportStore("ftp", proftpd);
  if (!proftpd.running) return;
  const { host, port, folder } = proftpd;
  const place = uniqueName();
  describeConformance("ftp on ProFTPD", { open: () => openStore(`ftp://test:test@${host}:${port}/${place}`, { env }) });
  const ca = path.join(folder, "rsa.pem");
  describeConformance("ftpes on ProFTPD", {
    quick: true,
    open: () => openStore(`ftpes://test:test@${host}:${port}//${place}/tls?ca=${ca}`, { env }),
  });
});

describe.runIf(vsftpd.running)("ftp on vsftpd", () => {
  reportStore("ftp", vsftpd);
  if (!vsftpd.running) return;
  const url = `ftp://${vsftpd.host}:${vsftpd.port}/data/${uniqueName()}`;
  describeConformance("ftp on vsftpd", { open: () => openStore(url, { env }) });
});
