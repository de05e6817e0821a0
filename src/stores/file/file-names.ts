/** Names of objects as paths below a folder. */
import { HoldfastError } from "../../contract/errors.ts";
import { RESERVED_PREFIX } from "../../contract/names.ts";

/** The longest part of a name, in bytes: the limit of every common file system. */
export const MAX_PART_BYTES = 255;
/** Where temporary files are, below the root: on its file system, and never listed. */
export const TMP = `${RESERVED_PREFIX}tmp`;

/** The parts of a name. Throws `invalid` where a folder cannot hold it. */
export function partsOf(name: string): string[] {
  if (name === TMP || name.startsWith(`${TMP}/`)) {
    throw new HoldfastError("invalid", `names under ${TMP}/ are kept for temporary files`);
  }
  const parts = name.split("/");
  for (const part of parts) {
    if (!isPart(part)) {
      throw new HoldfastError("invalid", `a folder cannot hold the name ${JSON.stringify(name)}: ${badPart(part)}`);
    }
    if (Buffer.byteLength(part) > MAX_PART_BYTES) {
      throw new HoldfastError("invalid", `a part of the name is longer than ${MAX_PART_BYTES} bytes`);
    }
  }
  return parts;
}

export function isPart(part: string): boolean {
  return part !== "" && part !== "." && part !== "..";
}

function badPart(part: string): string {
  return part === "" ? "it begins or ends with a slash or has two in a row" : `one of its parts is ${part}`;
}
