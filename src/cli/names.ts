/** Names of objects as arguments, and as paths of files. */
import { resolve } from "node:path";
import { HoldfastError } from "../contract/errors.ts";
import { checkName } from "../contract/names.ts";

/** Throws `config` (wrong usage) for an argument that cannot be an object's name. */
export function nameArgument(name: string): string {
  try {
    checkName(name);
  } catch (error) {
    throw new HoldfastError("config", error instanceof Error ? error.message : "not a name", { cause: error });
  }
  return name;
}

/** The absolute path that an argument names. Throws `config` for an empty one, which would be the working directory. */
export function pathArgument(cwd: string, path: string, what: string): string {
  if (path === "") throw new HoldfastError("config", `${what} cannot be empty`);
  return resolve(cwd, path);
}

/** PREFIX of push and pull names a folder: it ends in a slash unless it is empty. */
export function folderPrefix(prefix: string): string {
  return prefix.length === 0 || prefix.endsWith("/") ? prefix : `${prefix}/`;
}

/**
 * The parts of the path that an object has in a folder, or the reason why it can have none: a name is outside the
 * folder, or is no file's.
 */
export function pathParts(name: string): readonly string[] | string {
  const parts = name.split("/");
  for (const part of parts) {
    if (part === "") return "a part of its name is empty";
    if (part === "." || part === "..") return `its name has the part ${part}`;
    if (part.includes("\0")) return "its name holds a NUL character";
    if (process.platform === "win32" && /[\\:]/u.test(part)) return "its name holds a backslash or a colon";
  }
  return parts;
}
