/** Names of objects: what is acceptable, and the one order in which listings give them. */
import { HoldfastError } from "./errors.ts";

/** The longest name, in bytes of UTF-8 (S3's limit, the smallest of the services that name it). */
export const MAX_NAME_BYTES = 1024;

/** Everything of Holdfast's own on a store stands under this prefix. */
export const RESERVED_PREFIX = ".holdfast/";

/**
 * Throws `invalid` unless `name` is one that a store can be asked for: well-formed Unicode, 1 to 1,024 bytes, no NUL.
 * NUL is refused for every store because no file system, and few protocols, can carry it.
 */
export function checkName(name: string): void {
  if (name.length === 0) throw new HoldfastError("invalid", "the name of an object cannot be empty");
  if (!name.isWellFormed()) {
    throw new HoldfastError("invalid", `the name ${JSON.stringify(name)} is not well-formed Unicode`);
  }
  if (name.includes("\0")) throw new HoldfastError("invalid", `the name ${JSON.stringify(name)} holds a NUL character`);
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) {
    throw new HoldfastError("invalid", `the name is ${bytes} bytes long; at most ${MAX_NAME_BYTES} are possible`);
  }
}

/** Whether a name is Holdfast's own on a store, and so neither listed nor accepted from a caller. */
export function isReserved(name: string): boolean {
  return name.startsWith(RESERVED_PREFIX) || name === ".holdfast";
}

/**
 * Order of names: by code point, which is the order of their UTF-8 bytes, as S3 lists them. JavaScript's own `<` orders
 * by UTF-16 unit, which differs for characters beyond U+FFFF.
 */
export function compareNames(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) {
      // A surrogate stands for a code point above every unit that is none.
      const xs = x >= 0xd800 && x <= 0xdfff;
      const ys = y >= 0xd800 && y <= 0xdfff;
      if (xs !== ys) return xs ? 1 : -1;
      return x < y ? -1 : 1;
    }
  }
  return a.length - b.length;
}

/** Every folder above a name, the highest first: `a/b/c` gives `a`, `a/b`. */
export function foldersAbove(name: string): string[] {
  const parts = name.split("/").slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}
