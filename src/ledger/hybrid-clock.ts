/**
 * Versions from a hybrid logical clock.
 *
 * A version is a string of fixed width that orders as text: 12 hexadecimal digits of wall-clock milliseconds, 4 of a
 * counter, `-`, and 16 of the writer. The clock never goes back and never gives a version at or below one it has
 * observed, so a machine whose wall clock is behind still writes versions above those it has read.
 *
 * Source: S. Kulkarni and others, "Logical Physical Clocks" (OPODIS 2014).
 */
import { HoldfastError } from "../errors.ts";
import type { Runtime } from "../runtime.ts";

/** See the head of this file. Compare two with `<` and `>`. The empty string is below every version. */
export type Version = string;

const VERSION_FORM = /^[0-9a-f]{12}[0-9a-f]{4}-[0-9a-f]{16}$/u;
const MAX_COUNTER = 0xffff;

export function isVersion(text: unknown): text is Version {
  return typeof text === "string" && VERSION_FORM.test(text);
}

/** The wall-clock part of a version, in milliseconds since 1970. */
export function versionMs(version: Version): number {
  return Number.parseInt(version.slice(0, 12), 16);
}

export class HybridClock {
  readonly #runtime: Pick<Runtime, "now">;
  readonly #writer: string;
  #ms = 0;
  #counter = 0;

  /** `writer`: 16 lower-case hexadecimal digits, different for every process that writes. */
  constructor(runtime: Pick<Runtime, "now">, writer: string) {
    if (!/^[0-9a-f]{16}$/u.test(writer)) throw new HoldfastError("internal", "a writer is 16 hexadecimal digits");
    this.#runtime = runtime;
    this.#writer = writer;
  }

  /** A version above every version that was given or observed. */
  next(): Version {
    const now = Math.max(0, Math.floor(this.#runtime.now()));
    if (now > this.#ms) {
      this.#ms = now;
      this.#counter = 0;
    } else if (this.#counter < MAX_COUNTER) {
      this.#counter++;
    } else {
      this.#ms++;
      this.#counter = 0;
    }
    return `${hex(this.#ms, 12)}${hex(this.#counter, 4)}-${this.#writer}`;
  }

  /** Takes note of a version made elsewhere. */
  observe(version: Version): void {
    const ms = versionMs(version);
    const counter = Number.parseInt(version.slice(12, 16), 16);
    if (ms > this.#ms || (ms === this.#ms && counter > this.#counter)) {
      this.#ms = ms;
      this.#counter = counter;
    }
  }
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
