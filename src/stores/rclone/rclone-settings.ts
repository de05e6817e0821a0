/** An rclone URL and the environment: which remote is meant, where it is, and what rclone may see of the environment. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { otherSettings, ownVariables, placeOfFolder, publicSettings, serverPath } from "../base/place.ts";
import type { StoreContext, StorePlace } from "../base/store-kind.ts";

/**
 * Global options of rclone that, taken from the environment, would hide objects, pretend, or move the port: an
 * environment made for other runs of rclone must not make this store lie.
 */
const UNWANTED =
  /^RCLONE_(?:INCLUDE|EXCLUDE|FILTER|FILES_FROM|MIN_|MAX_(?:AGE|SIZE|DEPTH|DELETE|DURATION|TRANSFER)|DRY_RUN|INTERACTIVE|RC(?:_|$)|LOG_|QUIET|VERBOSE|USE_JSON_LOG|SYSLOG|IMMUTABLE|BACKUP_DIR|SUFFIX|COMPARE_DEST|COPY_DEST|NO_CHECK_DEST|NO_TRAVERSE|IGNORE_|UPDATE|SIZE_ONLY|CHECKSUM|HOLDFAST|CONFIG_HOLDFAST)/u;

/** Variables that rclone's own kinds of remote read: its options, and the credential chains of the services. */
export function wantedByRclone(name: string): boolean {
  return (
    (name.startsWith("RCLONE_") && !UNWANTED.test(name)) ||
    /^(?:https?_proxy|all_proxy|no_proxy|ssl_cert_(?:file|dir)|ssh_auth_sock|ssh_agent_pid|(?:aws|azure|google|gcloud|os|st|b2|hdfs|krb5)_\w+|krb5ccname)$/iu.test(
      name,
    )
  );
}

/** Where a remote is stands in its name, its options, the environment, and rclone's own configuration, which is not read. */
export async function rclonePlace(url: StoreUrl, env: StoreContext["env"]): Promise<StorePlace> {
  const remote = remoteOf(url);
  const colon = remote.indexOf(":", 1);
  const [name = "", ...options] = remote.slice(0, colon).split(",");
  const path = remote.slice(colon + 1);
  if (name === ":local") return placeOfFolder(path);
  const config = env["RCLONE_CONFIG"] ?? "";
  // Quotes may hold colons and commas, so that it cannot be seen which part is secret.
  if (/["']/u.test(remote)) return { server: ["rclone", config], path: [], login: remote };
  const given = options.map((option): [string, string] => [
    option.replace(/=.*/su, ""),
    option.replace(/^[^=]*=?/su, ""),
  ]);
  const settings = (from: StoreContext["env"]): [string, string][] => [
    ...given,
    ...Object.entries(from).flatMap(([variable, value]): [string, string][] =>
      value !== undefined && (wantedByRclone(variable) || /^(?:XDG_CONFIG_)?HOME$/u.test(variable))
        ? [[variable, value]]
        : [],
    ),
  ];
  return {
    server: ["rclone", config, name, ...publicSettings(settings(env))],
    path: serverPath(path),
    login: otherSettings(settings(ownVariables(env))),
  };
}

export function remoteOf(url: StoreUrl): string {
  const remote = url.query === undefined ? url.rest : `${url.rest}?${url.query}`;
  if (!remote.includes(":")) {
    throw new HoldfastError("config", "an rclone URL has the form rclone://remote:path, with the remote's colon");
  }
  return remote;
}
