/** Names of objects as arguments, and as paths of files. */
import { HoldfastError } from "../errors.ts";
import { checkName } from "../names.ts";

/** Throws `config` (wrong usage) for an argument that cannot be an object's name. */
export function nameArgument(name: string): string {
  try {
    checkName(name);
  } catch (error) {
    throw new HoldfastError("config", error instanceof Error ? error.message : "not a name", { cause: error });
  }
  return name;
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
