/**
 * URLs of stores, as text that people write.
 *
 * Not WHATWG URLs: duplicity's forms give meaning to `//` in a path (`sftp://host//absolute`), to a relative path behind
 * `file://`, and to a colon inside `rclone://remote:path`, which `new URL` would change. So the text is cut here once,
 * nothing is normalised, and each kind of store reads the parts.
 */
import { HoldfastError } from "./errors.ts";

export interface StoreUrl {
  /** The whole text as given. May hold a password: never print it. */
  readonly text: string;
  /** Lower case, without `:`; `file` for a plain path. `rest:http://…` gives `rest` with the rest in `path`. */
  readonly scheme: string;
  /** Percent-decoded; undefined where absent. */
  readonly username?: string;
  readonly password?: string;
  /** As written, without port, user or brackets of an IPv6 address; empty where absent. */
  readonly host: string;
  readonly port?: number;
  /** From the first `/` behind the authority, as written (not percent-decoded), without the query. May be empty. */
  readonly path: string;
  /** Everything between `//` and the query, as written: for the kinds whose authority is none. */
  readonly rest: string;
  /** Behind `?`, as written; undefined where there is no `?`. */
  readonly query?: string;
  /** The text with user, password and query values replaced: this one may be printed. */
  readonly redacted: string;
}

const URL_FORM = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^?]*)(?:\?([\s\S]*))?$/u;
const REST_FORM = /^rest:(https?:\/\/[\s\S]*)$/iu;

/** Whether text has the form of a URL rather than of a path. */
export function looksLikeUrl(text: string): boolean {
  return URL_FORM.test(text) || REST_FORM.test(text);
}

/** Cuts a store's URL, or a plain path (which becomes scheme `file`), into its parts. Throws `config`. */
export function parseStoreUrl(text: string): StoreUrl {
  if (text.length === 0) throw new HoldfastError("config", "the URL of a store is empty");
  if (text.includes("\0")) throw new HoldfastError("config", "the URL of a store holds a NUL character");
  const rest = REST_FORM.exec(text);
  if (rest) {
    const inner = parseStoreUrl(rest[1] ?? "");
    return { ...inner, text, scheme: "rest", redacted: `rest:${inner.redacted}` };
  }
  const match = URL_FORM.exec(text);
  if (!match) {
    return { text, scheme: "file", host: "", path: text, rest: text, redacted: text };
  }
  const scheme = (match[1] ?? "").toLowerCase();
  const body = match[2] ?? "";
  const query = match[3];
  // A path's `?` is part of it: file names hold question marks, and no duplicity URL of a folder takes a query.
  if (scheme === "file") {
    const path = query === undefined ? body : `${body}?${query}`;
    return { text, scheme, host: "", path, rest: path, redacted: `file://${path}` };
  }
  const slash = body.indexOf("/");
  const authority = slash === -1 ? body : body.slice(0, slash);
  const path = slash === -1 ? "" : body.slice(slash);
  const at = authority.lastIndexOf("@");
  const hostPort = authority.slice(at + 1);
  const user = at === -1 ? undefined : authority.slice(0, at);
  const colon = user?.indexOf(":") ?? -1;
  const username = user === undefined ? undefined : decode(colon === -1 ? user : user.slice(0, colon), "user name");
  const password = user === undefined || colon === -1 ? undefined : decode(user.slice(colon + 1), "password");
  const portMatch = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/u.exec(hostPort);
  const port = portMatch?.[2] === undefined ? undefined : Number(portMatch[2]);
  if (port !== undefined && (port < 1 || port > 65_535)) {
    throw new HoldfastError("config", `the port ${port} is not between 1 and 65535`);
  }
  const host = (portMatch ? (portMatch[1] ?? "") : hostPort).replace(/^\[(.*)\]$/u, "$1");
  const redactedUser = user === undefined ? "" : password === undefined ? `${user}@` : `${username ?? ""}:***@`;
  const redactedQuery = query === undefined ? "" : `?${query.replace(/=[^&]*/gu, "=***")}`;
  return {
    text,
    scheme,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    host,
    ...(port === undefined ? {} : { port }),
    path,
    rest: body,
    ...(query === undefined ? {} : { query }),
    redacted: `${scheme}://${redactedUser}${hostPort}${path}${redactedQuery}`,
  };
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new HoldfastError("config", `the ${what} in a store's URL is not percent-encoded correctly`, {
      cause: error,
    });
  }
}
