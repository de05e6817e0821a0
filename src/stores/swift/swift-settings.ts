/** Settings of a Swift store, by its URL and the environment. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { containerOf, urlParameters } from "../base/url-parameters.ts";

export interface SwiftSettings {
  readonly container: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  readonly caFile?: string | undefined;
  readonly access: SwiftAccess;
}

export type SwiftAccess =
  | { readonly kind: "token"; readonly storageUrl: string; readonly token: string }
  | {
      readonly kind: "password";
      readonly version: "1" | "2" | "3";
      readonly authUrl: string;
      readonly username?: string | undefined;
      readonly userId?: string | undefined;
      readonly password: string;
      readonly projectName?: string | undefined;
      readonly projectId?: string | undefined;
      readonly userDomain: { readonly name: string } | { readonly id: string };
      readonly projectDomain: { readonly name: string } | { readonly id: string };
      readonly region?: string | undefined;
    };

/** Reads a URL and the credentials that go with it. Throws `config`. */
export function parseSwiftUrl(url: StoreUrl, env: StoreContext["env"]): SwiftSettings {
  const { ca } = urlParameters(url, ["ca"]);
  if (url.username !== undefined || url.port !== undefined) {
    throw new HoldfastError(
      "config",
      "a swift URL names a container only: the server and user stand in SWIFT_… in env",
    );
  }
  const { container, prefix } = containerOf(url);
  if (container === undefined) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no container: write swift://CONTAINER[/PREFIX]`);
  }
  return {
    container,
    prefix,
    caFile: ca,
    access: readAccess(env),
  };
}

function readAccess(env: StoreContext["env"]): SwiftAccess {
  const read = (name: string): string | undefined => env[`SWIFT_${name}`] || undefined;
  const storageUrl = read("PREAUTHURL");
  const token = read("PREAUTHTOKEN");
  if (storageUrl !== undefined && token !== undefined) {
    return { kind: "token", storageUrl: httpUrl("SWIFT_PREAUTHURL", storageUrl), token };
  }
  const authUrl = read("AUTHURL");
  const username = read("USERNAME");
  const userId = read("USERID");
  const password = read("PASSWORD");
  const missing = [
    ...(authUrl === undefined ? ["SWIFT_AUTHURL"] : []),
    ...(username === undefined && userId === undefined ? ["SWIFT_USERNAME"] : []),
    ...(password === undefined ? ["SWIFT_PASSWORD"] : []),
  ];
  if (authUrl === undefined || password === undefined || missing.length > 0) {
    throw new HoldfastError("config", `no credentials for Swift: set ${missing.join(", ")} in the store's env`);
  }
  const version = /^[123]/u.exec(read("AUTHVERSION") ?? "1")?.[0];
  if (version !== "1" && version !== "2" && version !== "3") {
    throw new HoldfastError("config", "SWIFT_AUTHVERSION may be 1, 2 or 3");
  }
  const domain = (kind: string): { name: string } | { id: string } => {
    const id = read(`${kind}_DOMAIN_ID`);
    const name = read(`${kind}_DOMAIN_NAME`);
    return name !== undefined ? { name } : { id: id ?? "default" };
  };
  return {
    kind: "password",
    version,
    authUrl: httpUrl("SWIFT_AUTHURL", authUrl),
    username,
    userId,
    password,
    projectName: read("PROJECT_NAME") ?? read("TENANTNAME"),
    projectId: read("PROJECT_ID") ?? read("TENANTID"),
    userDomain: domain("USER"),
    projectDomain: domain("PROJECT"),
    region: read("REGIONNAME"),
  };
}

function httpUrl(name: string, text: string): string {
  if (!/^https?:\/\/[^\s@?#]+$/u.test(text) || !URL.canParse(text)) {
    throw new HoldfastError("config", `${name} must be an http:// or https:// URL without a user`);
  }
  return text.replace(/\/+$/u, "");
}
