/** Parameters behind the `?` of a store's URL, read strictly: what is unknown or repeated is an error, not ignored. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";

/**
 * The parameters of a URL by name, percent-decoded. `known` lists the names that are possible. Throws `config` for any
 * other name, for one that is given twice, and for one without a value.
 */
export function readQuery<Name extends string>(url: StoreUrl, known: readonly Name[]): Partial<Record<Name, string>> {
  const found: Partial<Record<Name, string>> = {};
  for (const pair of url.query?.split("&") ?? []) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const text = decode(equals === -1 ? pair : pair.slice(0, equals), url);
    const name = known.find((one) => one === text);
    if (name === undefined) {
      const possible = known.length === 0 ? "it takes none" : `possible are ${known.join(", ")}`;
      throw new HoldfastError(
        "config",
        `a URL of ${url.scheme}:// has no parameter ${JSON.stringify(text)}; ${possible}`,
      );
    }
    if (found[name] !== undefined) {
      throw new HoldfastError("config", `the parameter ${name} of a URL of ${url.scheme}:// is given twice`);
    }
    const value = equals === -1 ? "" : decode(pair.slice(equals + 1), url);
    if (value === "")
      throw new HoldfastError("config", `the parameter ${name} of a URL of ${url.scheme}:// has no value`);
    found[name] = value;
  }
  return found;
}

/** A whole number from `min` to `max`, or `config`. */
export function readNumber(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const number = /^\d{1,9}$/u.test(text) ? Number(text) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw new HoldfastError("config", `the parameter ${name} must be a whole number from ${min} to ${max}`);
}

/** `true` or `false` (also `yes`, `no`, `1`, `0`), or `config`. */
export function readFlag(name: string, text: string | undefined, fallback: boolean): boolean {
  if (text === undefined) return fallback;
  if (["true", "yes", "1"].includes(text)) return true;
  if (["false", "no", "0"].includes(text)) return false;
  throw new HoldfastError("config", `the parameter ${name} must be true or false`);
}

function decode(text: string, url: StoreUrl): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new HoldfastError("config", `a parameter of a URL of ${url.scheme}:// is not percent-encoded correctly`, {
      cause: error,
    });
  }
}

/**
 * A URL's path as it is meant: `%XX` decoded as duplicity does, a `%` that begins no such code left as it is. Throws
 * `config` when the codes are no UTF-8 or hold a NUL.
 */
export function decodePath(path: string): string {
  const decoded = path.replace(/(?:%[0-9A-Fa-f]{2})+/gu, (codes) => {
    try {
      return decodeURIComponent(codes);
    } catch (error) {
      throw new HoldfastError("config", "the path of a store's URL is not percent-encoded UTF-8", { cause: error });
    }
  });
  if (decoded.includes("\0")) throw new HoldfastError("config", "the path of a store's URL holds a NUL character");
  return decoded;
}
