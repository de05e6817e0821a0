/** Putting a file that may be written to at the same time. */
import { isHoldfastError } from "../../contract/errors.ts";
import type { FileBody } from "../../contract/file-body.ts";
import type { Body } from "../../contract/store.ts";

/** A file that changes each time that it is read is read so often. */
const READS = 3;

/** Bytes to be put, and the file that they come from where it is read by the put. */
export interface Source {
  readonly body: Body;
  readonly file?: Pick<FileBody, "changed" | "stats"> | undefined;
}

/**
 * Puts what `open` gives, and opens and puts it anew where it changed while it was read, `reads` times in all. Resolves to
 * undefined, with nothing put, where the file does not stand still.
 */
export async function putStanding<T>(
  open: () => Promise<Source>,
  put: (source: Source) => Promise<T>,
  reads = READS,
): Promise<T | undefined> {
  for (let read = 0; read < reads; read++) {
    const source = await open();
    try {
      return await put(source);
    } catch (error) {
      if (source.file?.changed !== true || isHoldfastError(error, "aborted")) throw error;
    }
  }
  return undefined;
}

/** What there is to be said of a file that does not stand still. */
export const KEEPS_CHANGING = `it was changed each of the ${READS} times that it was read`;
