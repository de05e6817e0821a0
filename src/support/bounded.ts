/** Work on many things at once, but not on all. */
import { throwIfAborted } from "../contract/errors.ts";

/** Up to so many bytes an object is a small one. */
const SMALL_BYTES = 64 * 1024;
/** So many small objects count as one: what they take is mostly waiting, and their records share what is written. */
const SMALL_PER_JOB = 8;

/** How `jobs` objects at a time are counted by their sizes: the limit, and what one object takes of it. */
export function bySize<T>(jobs: number, bytesOf: (item: T) => number): Bound<T> {
  return { limit: jobs * SMALL_PER_JOB, weigh: (item) => (bytesOf(item) <= SMALL_BYTES ? 1 : SMALL_PER_JOB) };
}

/** The same for work that is done for many more small objects ahead of what follows. */
export function farAhead<T>(jobs: number, bytesOf: (item: T) => number): Bound<T> {
  const { limit, weigh } = bySize(jobs, bytesOf);
  return { limit: limit * SMALL_PER_JOB, weigh: (item) => (weigh(item) === 1 ? 1 : weigh(item) * SMALL_PER_JOB) };
}

export interface Bound<T> {
  readonly limit: number;
  /** What an item takes of the limit, at most all of it. */
  readonly weigh: (item: T) => number;
}

/**
 * Calls `work` for each item, on at most `bound` at a time, taking items only as fast as they are worked on. The first
 * rejection stops taking items, waits for what is under way, and is the result. So is the signal's error.
 */
export async function forEachBounded<T>(
  items: AsyncIterable<T> | Iterable<T>,
  bound: number | Bound<T>,
  work: (item: T) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const { limit, weigh } = typeof bound === "number" ? { limit: bound, weigh: () => 1 } : bound;
  const running = new Set<Promise<void>>();
  let used = 0;
  let wake: (() => void) | undefined;
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const item of items) {
      const weight = weigh(item);
      const fits = (): boolean => used === 0 || used + weight <= limit;
      while (!fits()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (failure) break;
      throwIfAborted(signal);
      used += weight;
      const one: Promise<void> = work(item)
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => {
          running.delete(one);
          used -= weight;
          wake?.();
        });
      running.add(one);
    }
  } finally {
    await Promise.all(running);
  }
  if (failure) throw failure.error;
  throwIfAborted(signal);
}

/**
 * What `work` makes of each item, in the order of the items. It is begun ahead for as many as `bound` allows, done or not,
 * that were not taken yet.
 */
export async function* aheadOf<T, R>(
  items: AsyncIterable<T>,
  { limit, weigh }: Bound<T>,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const begun: { readonly weight: number; readonly result: Promise<R> }[] = [];
  let used = 0;
  try {
    for await (const item of items) {
      const weight = weigh(item);
      for (let first = begun[0]; first && used + weight > limit; first = begun[0]) {
        begun.shift();
        used -= first.weight;
        yield await first.result;
      }
      const result = work(item);
      // Who takes it hears of it.
      result.catch(() => undefined);
      begun.push({ weight, result });
      used += weight;
    }
    for (let first = begun.shift(); first; first = begun.shift()) yield await first.result;
  } finally {
    await Promise.allSettled(begun.map(({ result }) => result));
  }
}
