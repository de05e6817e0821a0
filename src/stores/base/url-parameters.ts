/** The query parameters of a store's URL, read the same way by every kind: nothing unknown, nothing twice. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";

/** Parameters by name, percent-decoded. Throws `config` for an unknown, a repeated or an unreadable one. */
export function urlParameters<Name extends string>(
  url: StoreUrl,
  known: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const parameters: Partial<Record<Name, string>> = {};
  if (url.query === undefined || url.query === "") return parameters;
  for (const pair of url.query.split("&")) {
    const equals = pair.indexOf("=");
    const name = equals === -1 ? pair : pair.slice(0, equals);
    const found = known.find((one) => one === name);
    if (found === undefined) {
      const list = known.length === 0 ? "none" : known.join(", ");
      throw new HoldfastError(
        "config",
        `unknown parameter ${JSON.stringify(name)} in a URL of ${url.scheme}:// (known: ${list})`,
      );
    }
    if (parameters[found] !== undefined) {
      throw new HoldfastError("config", `the parameter ${name} stands twice in a URL of ${url.scheme}://`);
    }
    if (equals === -1) throw new HoldfastError("config", `the parameter ${name} needs a value: ${name}=…`);
    try {
      parameters[found] = decodeURIComponent(pair.slice(equals + 1));
    } catch (error) {
      throw new HoldfastError("config", `the parameter ${name} is not percent-encoded correctly`, { cause: error });
    }
  }
  return parameters;
}

/** One of a parameter's possible values. Throws `config`, naming them, for another. */
export function oneOf<Value extends string>(
  name: string,
  value: string | undefined,
  values: readonly Value[],
): Value | undefined {
  if (value === undefined) return undefined;
  const found = values.find((one) => one === value);
  if (found === undefined) {
    throw new HoldfastError("config", `${name}=${value} is not possible: it may be ${values.join(" or ")}`);
  }
  return found;
}

/** The parts of a URL's path, percent-decoded, without empty ones: how duplicity reads a bucket and prefix. */
export function pathParts(path: string): string[] {
  return path
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch (error) {
        throw new HoldfastError("config", "the path of a store's URL is not percent-encoded correctly", {
          cause: error,
        });
      }
    });
}

/** What `scheme://CONTAINER[/PREFIX]` names. A prefix that is not empty ends with `/`. */
export function containerOf(url: StoreUrl): { readonly container: string | undefined; readonly prefix: string } {
  const [container, ...prefix] = [...(url.host === "" ? [] : [url.host]), ...pathParts(url.path)];
  return { container, prefix: prefix.map((part) => `${part}/`).join("") };
}
