/** The parts that an object was uploaded in: their sizes are kept with it, so that each can be read by its number. */
import type { ObjectMetadata } from "../../contract/store.ts";
import type { ServedRange } from "../http-tools.ts";
import { S3Error } from "./s3-error.ts";

/** The highest number of a part. */
export const MAX_PART_NUMBER = 10_000;
/** Room in the metadata, in bytes. Uploads have parts of one size but for the last, so that a few bytes are enough. */
const MAX_BYTES = 4096;

/** A part's number as clients write it. Throws InvalidArgument for what is none. */
export function partNumber(text: string | undefined): number {
  const number = /^\d{1,5}$/u.test(text ?? "") ? Number(text) : 0;
  if (number < 1 || number > MAX_PART_NUMBER)
    throw new S3Error("InvalidArgument", `a part's number is from 1 to ${MAX_PART_NUMBER}`);
  return number;
}

/** Metadata that holds the sizes, such as `parts: "5242880*3,77"`; none where they have no room. */
export function partsMetadata(sizes: readonly number[]): ObjectMetadata {
  const runs: { size: number; count: number }[] = [];
  for (const size of sizes) {
    const last = runs.at(-1);
    if (last?.size === size) last.count++;
    else runs.push({ size, count: 1 });
  }
  const text = runs.map(({ size, count }) => (count === 1 ? String(size) : `${size}*${count}`)).join(",");
  return text.length > MAX_BYTES ? {} : { parts: text };
}

/** Sizes of the parts; undefined where the object was put whole, or where they are not known. */
export function partSizes(metadata: ObjectMetadata | undefined): number[] | undefined {
  const text = metadata?.["parts"];
  if (text === undefined || !/^\d+(?:\*\d{1,5})?(?:,\d+(?:\*\d{1,5})?)*$/u.test(text)) return undefined;
  const sizes = text.split(",").flatMap((run) => {
    const [size = 0, count = 1] = run.split("*").map(Number);
    return Array.from({ length: Math.min(count, MAX_PART_NUMBER) }, () => size);
  });
  return sizes.length <= MAX_PART_NUMBER ? sizes : undefined;
}

/** Number of the parts that an object was uploaded in; undefined where it was put whole. */
export function partsCount(metadata: ObjectMetadata | undefined): number | undefined {
  const count = partSizes(metadata)?.length ?? Number(/-(\d{1,5})$/u.exec(metadata?.["etag"] ?? "")?.[1]);
  return Number.isNaN(count) ? undefined : count;
}

/**
 * Where a part of an object lies; an object that was put whole is one part. Throws InvalidPartNumber for a part that it
 * does not have.
 */
export function partRange(
  object: { readonly size: number; readonly metadata?: ObjectMetadata | undefined },
  number: number,
): ServedRange {
  const sizes = partSizes(object.metadata) ?? [object.size];
  if (sizes.length === 1 && (partsCount(object.metadata) ?? 1) > 1)
    throw new S3Error("NotImplemented", "where the parts of this object begin is not known");
  const length = sizes[number - 1];
  if (length === undefined) throw new S3Error("InvalidPartNumber", `the object has ${sizes.length} parts`);
  return { offset: sizes.slice(0, number - 1).reduce((sum, size) => sum + size, 0), length };
}
