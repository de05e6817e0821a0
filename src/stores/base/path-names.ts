/** The names that a store with folders can hold, and those that it keeps for its temporary files. */
import { HoldfastError } from "../../contract/errors.ts";
import type { Runtime } from "../../contract/runtime.ts";

const TEMP_NAME = /^\.holdfast-[0-9a-f]{16}(?:-[Aa][a\u00e9])?\.tmp$/u;

/**
 * A new name for a file that is not an object yet. Hidden from listings, and refused as a part of a name. `mark`: see
 * `FoldingNames.markFor`.
 */
export function tempName(runtime: Runtime, mark = ""): string {
  return `.holdfast-${runtime.randomHex(8)}${mark}.tmp`;
}

export function isTempName(name: string): boolean {
  // A file system may keep it in lower case, or decomposed.
  return TEMP_NAME.test(name.normalize("NFC"));
}

/** Temporary files older than this belong to no put that is still under way, in milliseconds. */
export const STALE_TEMP_MS = 24 * 60 * 60 * 1000;

/**
 * Throws `invalid` for names that a store with folders would map onto others: with empty parts, `.` or `..`, or a
 * temporary file's name (see `tempName`).
 */
export function checkPathName(name: string): void {
  for (const part of name.split("/")) {
    if (part === "" || part === "." || part === "..") {
      throw new HoldfastError(
        "invalid",
        `the name ${JSON.stringify(name)} holds ${part === "" ? "an empty part" : `the part "${part}"`}, which a path cannot hold`,
      );
    }
    if (isTempName(part)) {
      throw new HoldfastError("invalid", `names like ${part} are kept for temporary files`);
    }
  }
}

/** Throws `invalid` when a part of the name is longer than `maxBytes` of UTF-8. */
export function checkParts(name: string, maxBytes: number): void {
  for (const part of name.split("/")) {
    const bytes = Buffer.byteLength(part);
    if (bytes > maxBytes) {
      throw new HoldfastError("invalid", `a part of the name is ${bytes} bytes long; at most ${maxBytes} are possible`);
    }
  }
}

/**
 * The folder in which the names that begin with `prefix` stand (`""` for the root), or undefined where no name that
 * `checkPathName` lets pass can begin with it.
 */
export function folderOfPrefix(prefix: string): string | undefined {
  const slash = prefix.lastIndexOf("/");
  if (slash === -1) return "";
  const folder = prefix.slice(0, slash);
  if (folder.split("/").some((part) => part === "" || part === "." || part === "..")) return undefined;
  return folder;
}
