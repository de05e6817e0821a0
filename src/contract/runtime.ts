/**
 * What the core takes from outside: clock, timers and randomness.
 *
 * pool/, ledger/, repair/ and wrappers/ use nothing else for these, so that a simulation can drive a whole pool from a
 * seed. `systemRuntime` is the real one.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { abortError } from "./errors.ts";

export interface SinceBoot {
  /** Stands for one start of the machine, without spaces. */
  readonly boot: string;
  readonly ms: number;
}

export interface Runtime {
  /** Wall clock, in milliseconds since 1970. May jump. */
  now(): number;
  /** A clock that only goes forward, in milliseconds from an arbitrary start. */
  monotonicMs(): number;
  /**
   * A clock that only goes forward and that all processes of a machine share, in milliseconds, and which start of the machine
   * it counts from. Undefined where there is none.
   */
  sinceBoot?(): SinceBoot | undefined;
  /** Resolves after `ms` milliseconds; rejects with the signal's error when it fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `fire` after `ms` milliseconds unless the returned function is called before. Never keeps a process alive. */
  timer(ms: number, fire: () => void): () => void;
  /** A number from 0 (inclusive) to 1 (exclusive), for jitter and choice; not for secrets. */
  random(): number;
  /** `bytes` random bytes as lower-case hexadecimal, for identities. */
  randomHex(bytes: number): string;
}

let boot: string | undefined;

/** Linux tells its starts apart. Elsewhere, the result is empty. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return "";
  }
}

export const systemRuntime: Runtime = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sinceBoot: () => {
    boot ??= bootId();
    return boot === "" ? undefined : { boot, ms: Math.floor(Number(process.hrtime.bigint()) / 1e6) };
  },
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timeout);
        // oxlint-disable-next-line typescript/no-non-null-assertion -- only ever called by this signal
        reject(abortError(signal!));
      };
      const timeout = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms);
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
  timer: (ms, fire) => {
    const timeout = setTimeout(fire, ms);
    timeout.unref();
    return () => clearTimeout(timeout);
  },
  random: () => Math.random(),
  randomHex: (bytes) => randomBytes(bytes).toString("hex"),
};
