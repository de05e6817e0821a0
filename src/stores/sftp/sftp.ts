/**
 * Folders reached over SSH: `sftp://user@host/relative` and `sftp://user@host//absolute`, as duplicity reads them.
 *
 * Several connections at most, each with many requests at once; opened when needed, reused, replaced when the server
 * drops them. Objects are flushed to the server's disk where it has `fsync@openssh.com`, and renamed onto their place with
 * `posix-rename@openssh.com`. Symbolic links below the root are not followed.
 */
import { HoldfastError } from "../../contract/errors.ts";
import type { Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { serverPath } from "../base/place.ts";
import { decodePath, readNumber, readQuery } from "../base/query.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { TreeStore } from "../base/tree-store.ts";
import { SftpSessions } from "./sftp-sessions.ts";
import { SftpTree } from "./sftp-tree.ts";
import { resolveSsh } from "./ssh-settings.ts";
import type { SshSettings } from "./ssh-settings.ts";

const DEFAULT_CONNECTIONS = 4;

const parameters = ["identity", "known-hosts", "ssh-config", "connections"] as const;

export const sftpKind: StoreKind = {
  open: async (url: StoreUrl, context: StoreContext): Promise<Store> => {
    if (url.host === "") throw new HoldfastError("config", `a URL of ${url.scheme}:// needs a host`);
    const settings = await settingsOf(url, context.env);
    const connections = readNumber("connections", readQuery(url, parameters).connections, DEFAULT_CONNECTIONS, 1, 64);
    return new TreeStore({ context, tree: new SftpTree(new SftpSessions(settings, connections), rootOf(url)) });
  },
  place: async (url, env) => ({
    server: ["sftp", ...hopsTo(await settingsOf(url, env))],
    path: serverPath(rootOf(url)),
  }),
};

function settingsOf(url: StoreUrl, env: StoreContext["env"]): Promise<SshSettings> {
  const query = readQuery(url, parameters);
  return resolveSsh({
    host: url.host,
    port: url.port,
    user: url.username,
    password: url.password ?? env["FTP_PASSWORD"] ?? env["SSHPASS"],
    identity: query.identity,
    knownHosts: query["known-hosts"],
    configFile: query["ssh-config"],
    env,
  });
}

/** The hosts on the way: one address may be another host behind another jump. */
function hopsTo({ jump, user, host, port }: SshSettings): readonly string[] {
  return [...(jump === undefined ? [] : hopsTo(jump)), `${user}@${host.toLowerCase()}:${port}`];
}

/** The root as the server is to be told it: relative to the login's folder, or absolute. */
function rootOf(url: StoreUrl): string {
  const path = decodePath(url.path).slice(1).replace(/\/+$/u, "");
  if (path === "") return url.path.startsWith("//") ? "/" : ".";
  return path;
}
