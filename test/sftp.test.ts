/** SFTP on OpenSSH and on rclone. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe } from "vitest";
import { openStore } from "../src/open-store.ts";
import { describeConformance } from "./helpers/run-conformance.ts";
import { reportStore } from "./helpers/server-report.ts";
import { startServer, uniqueName } from "./helpers/servers.ts";
import type { RunningServer } from "./helpers/servers.ts";

const openssh = await startServer("sshd");
const rclone = await startServer("rclone-sftp");

/** A home without an agent, a configuration or keys. */
const env = { HOME: "/nonexistent", SSH_AUTH_SOCK: "" };

/** Parameters with which OpenSSH lets us in: its key in a known_hosts file of the test's, and the key it accepts. */
async function opensshQuery(server: RunningServer): Promise<string> {
  const key = (await readFile(path.join(server.folder, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
  const file = path.join(server.folder, `known_hosts-${uniqueName()}`);
  await writeFile(file, `[${server.host}]:${server.port} ${key}\n`);
  return `identity=${path.join(server.folder, "id")}&known-hosts=${file}`;
}

function opensshUrl(server: RunningServer, folder: string, query: string): string {
  return `sftp://${server.host}:${server.port}/${path.join(server.folder, "data", folder)}?${query}`;
}

describe.runIf(openssh.running)("sftp on OpenSSH", async () => {
  reportStore("sftp", openssh);
  if (!openssh.running) return;
  const query = await opensshQuery(openssh);
  const folder = uniqueName();
  describeConformance("sftp on OpenSSH", { open: () => openStore(opensshUrl(openssh, folder, query), { env }) });
});

describe.runIf(rclone.running)("sftp on rclone", async () => {
  reportStore("sftp", rclone);
  if (!rclone.running) return;
  const config = path.join(rclone.folder, "ssh_config");
  await writeFile(config, `Host *\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile ${config}-known\n`);
  const url = `sftp://test:test@${rclone.host}:${rclone.port}/${uniqueName()}?ssh-config=${config}`;
  describeConformance("sftp on rclone", { open: () => openStore(url, { env }) });
});
