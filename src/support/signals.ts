/** AbortSignals that end together. */
import { setMaxListeners } from "node:events";
import { abortError } from "../contract/errors.ts";

export interface LinkedSignal {
  /** Fires when one of the sources does, with its reason. */
  readonly signal: AbortSignal;
  /** Fires it. */
  abort(reason: unknown): void;
  /** Lets go of the sources, so that one that lives for long does not gather listeners. */
  release(): void;
}

/** Sources that many may listen to: saying so takes longer than the rest of it does. */
const unlimited = new WeakSet<AbortSignal>();

/** A signal that fires with the first of several (`AbortSignal.any` keeps what it makes alive with its sources). */
export function linkSignals(...sources: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  // Each request under way listens; how many there are is limited elsewhere.
  setMaxListeners(0, controller.signal);
  const listeners: (() => void)[] = [];
  for (const source of sources) {
    if (!source) continue;
    // A caller's signal hears of as many calls as there are stores, which is no leak to be warned of.
    if (!unlimited.has(source)) {
      setMaxListeners(0, source);
      unlimited.add(source);
    }
    if (source.aborted) {
      controller.abort(source.reason);
      break;
    }
    const listener = (): void => controller.abort(source.reason);
    source.addEventListener("abort", listener, { once: true });
    listeners.push(() => source.removeEventListener("abort", listener));
  }
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    release: () => {
      for (const remove of listeners.splice(0)) remove();
    },
  };
}

/** Waits for work that others wait for too, until the signal fires. */
export async function raceSignal<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  // Its failure is for those who still wait.
  work.catch(() => undefined);
  if (signal.aborted) throw abortError(signal);
  let onAbort = (): void => undefined;
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(abortError(signal));
        signal.addEventListener("abort", onAbort, { once: true });
      }),
    ]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
