/** Sleep for runtimes that have timers of their own. */
import { abortError } from "../../src/contract/errors.ts";

/**
 * Resolves when the timer fires that `begin` sets, which gives what takes it back. Rejects with the signal's error when the
 * signal fires first, and takes the timer back.
 */
export function sleepOn(begin: (fire: () => void) => () => void, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(abortError(signal));
      return;
    }
    const onAbort = (): void => {
      cancel();
      if (signal !== undefined) reject(abortError(signal));
    };
    const cancel = begin(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
