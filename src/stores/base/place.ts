/** What kinds of store share in telling where a store is. */
import { sep } from "node:path";
import type { StoreContext, StorePlace } from "./store-kind.ts";
import { realPath } from "../../support/real-path.ts";
import { isSecretName } from "../../support/redact.ts";

/** Where a folder of this machine is, whatever links lead to it. */
export async function placeOfFolder(path: string): Promise<StorePlace> {
  const folder = await realPath(path);
  return { server: ["file"], path: folder.split(sep).filter((part) => part !== ""), folder };
}

/** Stands for the login's folder, which only the server knows. No part of a path is called so. */
const LOGIN_FOLDER = "/";

/**
 * The parts of a path on a server. One that does not begin with `/` is below the login's folder, and that below the root.
 * Where a path goes up again only the server can tell, so that such a path is one part.
 */
export function serverPath(path: string): readonly string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  const known = parts.includes("..") ? [path] : parts;
  return path.startsWith("/") ? known : [LOGIN_FOLDER, ...known];
}

/** The parts of a prefix that is empty or ends with `/`. */
export function prefixParts(prefix: string): readonly string[] {
  return prefix.split("/").slice(0, -1);
}

/** The URL of a service: origin and path, without a slash at its end. Undefined for what is no URL. */
export function serviceUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const { origin, pathname } = new URL(text);
  return origin + pathname.replace(/\/+$/u, "");
}

/** Names of settings that say where something is or whose it is. */
const WHERE =
  /(?:^|_)(?:account(?:_id|_name)?|bucket|container|database|domain|drive_id|endpoint|host|port|project(?:_id|_number)?|region|remote|root(?:_folder_id)?|server|share|team_drive|tenant(?:_id)?|type|url|user(?:name)?)$/iu;

type Setting = readonly [name: string, value: string];

// A value that may hold a secret, such as a URL with a password, is not told.
const isPublic = ([name, value]: Setting): boolean =>
  WHERE.test(name) && !isSecretName(name) && !/[,=?;"']|\/\/[^/]*@/u.test(value);

/** Those of a service's settings that say where a store is or whose it is, and may be told. */
export function publicSettings(settings: readonly Setting[]): readonly string[] {
  return settings
    .filter(isPublic)
    .map(([name, value]) => `${name}=${value}`)
    .sort();
}

/** All the other settings, which may be secret and may lead to an account, as one text to compare; undefined for none. */
export function otherSettings(settings: readonly Setting[]): string | undefined {
  const others = settings.filter((setting) => !isPublic(setting)).sort(([a], [b]) => (a < b ? -1 : 1));
  return others.length === 0 ? undefined : JSON.stringify(others);
}

/** What was given to this store alone: all that differs from the process's environment. */
export function ownVariables(env: StoreContext["env"]): StoreContext["env"] {
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => value !== process.env[name]));
}
