/** WebDAV on Apache and on nginx. */
import { describe } from "vitest";
import { openStore } from "../../../src/stores/open-store.ts";
import { describeConformance } from "../../helpers/run-conformance.ts";
import { reportStore } from "../../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../../helpers/servers.ts";

const apache = await startServer("apache-dav");
const nginx = await startServer("nginx-dav");

/** A home without a .netrc, and no proxy. */
const env = { HOME: "/nonexistent", http_proxy: "", https_proxy: "" };

describe.runIf(apache.running)("webdav on Apache", onServer, () => {
  reportStore("webdav", apache);
  if (!apache.running) return;
  const url = `webdav://test:test@${apache.host}:${apache.port}/auth/${uniqueName()}`;
  describeConformance("webdav on Apache", { open: () => openStore(url, { env }) });
});

describe.runIf(nginx.running)("webdav on nginx", onServer, () => {
  reportStore("webdav", nginx);
  if (!nginx.running) return;
  const url = `webdav://${nginx.host}:${nginx.port}/${uniqueName()}`;
  describeConformance("webdav on nginx", { open: () => openStore(url, { env }) });
});
