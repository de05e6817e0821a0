/** Cutting a body of any size into parts for services that take large objects piecewise. */
import { HoldfastError } from "../contract/errors.ts";

export const MIB = 1024 * 1024;

/** One part of a body. */
export interface Part {
  /** From 1. */
  readonly number: number;
  /** Empty after `releasePart`. */
  readonly chunks: Uint8Array[];
  /** Size in bytes. */
  readonly size: number;
  /** Nothing follows. */
  readonly last: boolean;
}

export interface PartPlan {
  /** Size of the first parts, in bytes. Default 8 MiB. */
  readonly partBytes?: number | undefined;
  /** How many parts the service takes. Default 10,000. */
  readonly maxParts?: number | undefined;
  /** Size of the largest object, in bytes. */
  readonly maxBytes: number;
}

/**
 * Size of part `number` (from 1). With a known size all are alike, as small as `maxParts` allows. With an unknown one they
 * begin small and double with every tenth of `maxParts`, up to 256 times: 10,000 parts that begin with 8 MiB reach 5.8 TiB, and 7.8 GiB are
 * written before the first doubling, so that memory grows only with objects that nobody streams by chance.
 */
export function partSize(number: number, size: number | undefined, plan: PartPlan): number {
  const least = plan.partBytes ?? 8 * MIB;
  const maxParts = plan.maxParts ?? 10_000;
  const unit = Math.min(least, MIB);
  if (size !== undefined) return Math.max(least, Math.ceil(size / maxParts / unit) * unit);
  return least * 2 ** Math.min(8, Math.floor(((number - 1) * 10) / maxParts));
}

/**
 * The parts of a body, read one after the other; there is always at least one, which may be empty. Chunks are passed on
 * without copying. Throws `invalid` when the body is larger than the plan allows.
 */
export async function* cutParts(
  source: AsyncIterable<Uint8Array>,
  size: number | undefined,
  plan: PartPlan,
): AsyncGenerator<Part> {
  if (size !== undefined && size > plan.maxBytes) throw tooLarge(plan.maxBytes);
  const maxParts = plan.maxParts ?? 10_000;
  let number = 1;
  let wanted = partSize(number, size, plan);
  let chunks: Uint8Array[] = [];
  let held = 0;
  let total = 0;
  for await (const chunk of source) {
    total += chunk.length;
    if (total > plan.maxBytes) throw tooLarge(plan.maxBytes);
    let at = 0;
    while (at < chunk.length) {
      // Full, and there is more: only now is it known not to be the last.
      if (held === wanted) {
        if (number === maxParts) throw tooLarge(total);
        yield { number, chunks, size: held, last: false };
        chunks = [];
        held = 0;
        number++;
        wanted = partSize(number, size, plan);
      }
      const taken = chunk.subarray(at, at + wanted - held);
      chunks.push(taken);
      held += taken.length;
      at += taken.length;
    }
  }
  yield { number, chunks, size: held, last: true };
}

function tooLarge(maxBytes: number): HoldfastError {
  return new HoldfastError("invalid", `the object is larger than the ${maxBytes} bytes that this store can take`);
}

/** Lets go of the bytes of a part that was sent, whoever still holds the part itself. */
export function releasePart(part: Part): void {
  part.chunks.length = 0;
}

/** The chunks of a part as one buffer: itself, without copying, when there is just one. */
export function joinChunks(chunks: readonly Uint8Array[]): Uint8Array {
  const [only] = chunks;
  return chunks.length === 1 && only ? only : Buffer.concat(chunks);
}

/**
 * Runs tasks for items, at most `limit` at a time (which may depend on the item), the one that is being read included, and
 * stops at the first failure: no
 * further item is taken, `stop` is called with the error, and all that run are awaited before it is thrown.
 */
export async function forEachParallel<T>(
  items: AsyncIterable<T>,
  limit: (item: T) => number,
  task: (item: T) => Promise<void>,
  stop: (error: unknown) => void,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  const fail = (error: unknown): void => {
    if (failure) return;
    failure = { error };
    stop(error);
  };
  try {
    for await (const item of items) {
      if (failure) break;
      const promise: Promise<void> = task(item)
        .catch(fail)
        .finally(() => running.delete(promise));
      running.add(promise);
      // Before the next one is read: it takes memory, too.
      while (running.size > 0 && running.size >= limit(item)) await Promise.race(running);
      if (failure) break;
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(running);
  if (failure) throw failure.error;
}
