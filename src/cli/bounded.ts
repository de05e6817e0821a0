/** Work on many things at once, but not on all. */
import { throwIfAborted } from "../errors.ts";

/**
 * Calls `work` for each item, on at most `limit` at a time, taking items only as fast as they are worked on. The first
 * rejection stops taking items, waits for what is under way, and is the result. So is the signal's error.
 */
export async function forEachBounded<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const item of items) {
      if (failure) break;
      throwIfAborted(signal);
      const one: Promise<void> = work(item)
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => running.delete(one));
      running.add(one);
      if (running.size >= limit) await Promise.race(running);
    }
  } finally {
    await Promise.all(running);
  }
  if (failure) throw failure.error;
  throwIfAborted(signal);
}
