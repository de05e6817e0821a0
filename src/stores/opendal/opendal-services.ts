/** The services behind OpenDAL: how each behaves, and its settings and place by a URL and the environment. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { otherSettings, ownVariables, placeOfFolder, publicSettings, serverPath } from "../base/place.ts";
import { decodePath } from "../base/query.ts";
import type { StoreContext, StorePlace } from "../base/store-kind.ts";

export interface Service {
  /** OpenDAL's name. */
  readonly name: string;
  /** The URL's host is a bucket. */
  readonly bucket?: boolean;
  /** It has folders: `a` and `a/b` cannot both be. */
  readonly folders?: boolean;
  /** A write is seen before it is complete, so that it needs a temporary name and a rename. */
  readonly renames?: boolean;
  readonly caseFolding?: boolean;
  /** Deleting a folder that is not empty fails. With most services it deletes what is in it. */
  readonly prunes?: boolean;
}

/** Scheme → service. */
const SERVICES: Readonly<Record<string, Service>> = {
  gdrive: { name: "gdrive", folders: true },
  onedrive: { name: "onedrive", folders: true, caseFolding: true },
  dropbox: { name: "dropbox", folders: true, caseFolding: true },
  dpbx: { name: "dropbox", folders: true, caseFolding: true },
  b2: { name: "b2", bucket: true },
  oss: { name: "oss", bucket: true },
  cos: { name: "cos", bucket: true },
  obs: { name: "obs", bucket: true },
};

/** What is known of services behind `opendal://`. Others are taken to have folders, and to write at once. */
const NAMED: Readonly<Record<string, Omit<Service, "name">>> = {
  fs: { folders: true, renames: true, prunes: true },
  webdav: { folders: true, renames: true },
  memory: {},
  s3: {},
  oss: {},
  cos: {},
  obs: {},
  b2: {},
  onedrive: { folders: true, caseFolding: true },
  dropbox: { folders: true, caseFolding: true },
};

/** Services where one name of a bucket is one bucket, whoever asks for it. */
const ONE_NAMESPACE: ReadonlySet<string> = new Set(["b2", "oss", "cos", "obs"]);

export function serviceOf(url: StoreUrl): Service {
  if (url.query !== undefined) {
    throw new HoldfastError(
      "config",
      `a URL of ${url.scheme}:// takes no parameters: settings stand in the store's env`,
    );
  }
  const named = url.scheme === "opendal" ? url.host.replaceAll("-", "_") : undefined;
  const service: Service | undefined =
    named === undefined ? SERVICES[url.scheme] : { name: named, ...(NAMED[named] ?? { folders: true }) };
  if (!service || service.name === "") {
    throw new HoldfastError("config", "an opendal:// URL has the form opendal://service/path");
  }
  return service;
}

/** Most of these services tell accounts by a token alone. */
export async function opendalPlace(url: StoreUrl, env: StoreContext["env"]): Promise<StorePlace> {
  const service = serviceOf(url);
  const { root = "/", ...settings } = readSettings(service, url, env);
  if (service.name === "fs") return placeOfFolder(root);
  const { root: _, ...own } = readSettings(service, url, ownVariables(env));
  return {
    server: ["opendal", service.name, ...publicSettings(Object.entries(settings))],
    path: serverPath(service.caseFolding ? root.toLowerCase() : root),
    login: ONE_NAMESPACE.has(service.name) ? undefined : otherSettings(Object.entries(own)),
  };
}

export function readSettings(service: Service, url: StoreUrl, env: StoreContext["env"]): Record<string, string> {
  const settings: Record<string, string> = {};
  const prefix = `OPENDAL_${service.name.toUpperCase()}_`;
  for (const [name, value] of Object.entries(env)) {
    if (name.startsWith(prefix) && value !== undefined) settings[name.slice(prefix.length).toLowerCase()] = value;
  }
  const inPath = decodePath(url.path);
  if (service.bucket) settings["bucket"] = url.host;
  const root = url.scheme === "opendal" || service.bucket ? inPath : `/${url.host}${inPath}`;
  settings["root"] = `${settings["root"] ?? ""}/${root}`.replaceAll(/\/+/gu, "/");
  if (service.name === "b2") {
    if (url.username !== undefined) settings["application_key_id"] = url.username;
    if (url.password !== undefined) settings["application_key"] = url.password;
  }
  // duplicity's variable.
  if (service.name === "dropbox" && env["DPBX_ACCESS_TOKEN"]) settings["access_token"] ??= env["DPBX_ACCESS_TOKEN"];
  return settings;
}
