/** An rsync URL and the environment: which folder is meant, and with which arguments and variables rsync is run. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { secretsOf } from "../../support/redact.ts";
import { childEnv } from "../base/child.ts";
import { serverPath } from "../base/place.ts";
import { decodePath } from "../base/query.ts";
import type { StoreContext, StorePlace } from "../base/store-kind.ts";

export interface Place extends Pick<StorePlace, "server" | "path"> {
  /** The store's folder, where files are sent and deleted; ends with `/`. */
  readonly remote: string;
  /**
   * What files are read from: `remote`, or a daemon's whole module. A daemon of rsync 3.5.0 without chroot says of every
   * file in a list that it has vanished when the list is read from a folder of the module.
   */
  readonly source: string;
  /** The store's folder in `source`: empty, or ends with `/`. */
  readonly inside: string;
  readonly args: readonly string[];
  readonly env: Record<string, string>;
  readonly secrets: readonly string[];
}

/** The URL's forms, as duplicity reads them: with `::` it is a daemon, without it is SSH. */
export function readPlace(url: StoreUrl, env: StoreContext["env"]): Place {
  if (url.query !== undefined) throw new HoldfastError("config", "an rsync:// URL takes no parameters");
  const daemon = /^(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@]+)(?::(\d+))?::\/*([^/]+)(\/.*)?$/su.exec(url.rest);
  const ssh = /^(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@]+)(?::(\d+))?\/(.*)$/su.exec(url.rest);
  const match = daemon ?? ssh;
  const host = match?.[2] ?? "";
  if (!match || !/^(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._][A-Za-z0-9._-]*)$/u.test(host)) {
    throw new HoldfastError(
      "config",
      "an rsync:// URL has the form rsync://user@host::module/path (a daemon) or rsync://user@host/path (over SSH)",
    );
  }
  const [username, password] = (match[1] ?? "").split(/:(.*)/su).map((text) => decodePath(text));
  if (username !== undefined && /^-|[\s@:/]/u.test(username)) {
    throw new HoldfastError("config", "the user name of an rsync:// URL holds a character that rsync cannot take");
  }
  const at = username === undefined || username === "" ? host : `${username}@${host}`;
  const base = decodePath(daemon ? (match[5] ?? "") : (match[4] ?? "")).replace(/\/+$/u, "");
  const module = daemon ? decodePath(match[4] ?? "") : "";
  // The far rsync takes these for patterns, and would find other folders than the one that is meant.
  if (/[*?[\\]|^-/u.test(module + base)) {
    throw new HoldfastError("config", "the path of an rsync:// URL cannot hold *, ?, [ or a backslash");
  }
  // The names of times and errors are read, and names are not to be converted.
  const more: Record<string, string> = { LC_ALL: "C", TZ: "UTC" };
  const secrets = secretsOf(url, env);
  const server = [`${username ?? ""}@${host.toLowerCase()}:${match[3] ?? ""}`, module];
  if (daemon) {
    const given = password ?? env["RSYNC_PASSWORD"];
    if (given !== undefined) {
      more["RSYNC_PASSWORD"] = given;
      secrets.push(given);
    }
    return {
      server,
      path: serverPath(`/${base}`),
      remote: `${at}::${module}${base}/`,
      source: `${at}::${module}/`,
      inside: base === "" ? "" : `${base.replace(/^\/+/u, "")}/`,
      // rsync's small messages would wait for each other's acknowledgement: several times 40 ms an operation.
      args: ["--sockopts=TCP_NODELAY", ...(match[3] === undefined ? [] : [`--port=${match[3]}`])],
      env: childEnv(env, (name) => name === "RSYNC_PROXY" || name === "RSYNC_CONNECT_PROG", more),
      secrets,
    };
  }
  if (password !== undefined) {
    throw new HoldfastError("config", "rsync over SSH takes no password: use a key, or an agent (SSH_AUTH_SOCK)");
  }
  const shell = env["RSYNC_RSH"] ?? "ssh -o BatchMode=yes -o ServerAliveInterval=15";
  more["RSYNC_RSH"] = match[3] === undefined ? shell : `${shell} -p ${match[3]}`;
  const folder = base === "" && !(match[4] ?? "").startsWith("/") ? "." : base;
  return {
    server,
    path: serverPath(folder === "" ? "/" : folder),
    remote: `${at}:${folder}/`,
    source: `${at}:${folder}/`,
    inside: "",
    args: [],
    env: childEnv(env, (name) => name === "SSH_AUTH_SOCK" || name === "SSH_AGENT_PID", more),
    secrets,
  };
}
