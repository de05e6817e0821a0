/** Byte ranges, read the same way by every store. */
import { HoldfastError } from "./errors.ts";
import type { ByteRange } from "./store.ts";

/** Throws `invalid` unless offset and length are whole numbers, not negative. For stores that learn the size later. */
export function checkRange(range: ByteRange): void {
  if (!Number.isSafeInteger(range.offset) || range.offset < 0) {
    throw new HoldfastError("invalid", `the offset of a range must be a whole number from 0, not ${range.offset}`);
  }
  if (range.length !== undefined && (!Number.isSafeInteger(range.length) || range.length < 0)) {
    throw new HoldfastError("invalid", `the length of a range must be a whole number from 0, not ${range.length}`);
  }
}

/**
 * The first byte and the byte behind the last of a range in an object of `size` bytes. The whole object when `range` is
 * undefined. Cut at the end; an offset equal to the size gives nothing; one beyond it throws `invalid`.
 */
export function resolveRange(range: ByteRange | undefined, size: number): { start: number; end: number } {
  if (!range) return { start: 0, end: size };
  checkRange(range);
  if (range.offset > size) {
    throw new HoldfastError("invalid", `the range begins at byte ${range.offset} of an object of ${size} bytes`);
  }
  const end = range.length === undefined ? size : Math.min(size, range.offset + range.length);
  return { start: range.offset, end };
}
