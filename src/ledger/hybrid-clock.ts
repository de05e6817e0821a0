/**
 * Versions from a hybrid logical clock.
 *
 * A version is a string that orders as text: 12 hexadecimal digits of wall-clock milliseconds, 4 of a counter, `-`, and
 * 16 of the writer. The clock never goes back and never gives a version at or below one it has observed, so a machine
 * whose wall clock is behind still writes versions above those it has read. Above the last millisecond and counter that
 * the digits can hold, versions have a second counter of 16 digits before the `-`, which orders behind them.
 *
 * Source: S. Kulkarni and others, "Logical Physical Clocks" (OPODIS 2014).
 */
import { HoldfastError } from "../contract/errors.ts";
import type { Runtime } from "../contract/runtime.ts";

/** See the head of this file. Compare two with `<` and `>`. The empty string is below every version. */
export type Version = string;

const VERSION_FORM = /^[0-9a-f]{16}(?:[0-9a-f]{16})?-[0-9a-f]{16}$/u;
const MAX_COUNTER = 0xffff;
const MAX_MS = 0xffff_ffff_ffff;

export function isVersion(text: unknown): text is Version {
  return typeof text === "string" && VERSION_FORM.test(text);
}

/** The wall-clock part of a version, in milliseconds since 1970. */
export function versionMs(version: Version): number {
  return Number.parseInt(version.slice(0, 12), 16);
}

/** The writer that drew a version: 16 hexadecimal digits, the first 8 of which stand for the machine. */
export function versionWriter(version: Version): string {
  return version.slice(version.indexOf("-") + 1);
}

/** The machine that drew a version: 8 hexadecimal digits. */
export function versionMachine(version: Version): string {
  return versionWriter(version).slice(0, 8);
}

/** The version of a writer that is below all that a clock gives. */
export function lowestVersion(writer: string): Version {
  return `${"0".repeat(16)}-${writer}`;
}

export class HybridClock {
  readonly #runtime: Pick<Runtime, "now">;
  readonly #writer: string;
  #ms = 0;
  #counter = 0;
  /** Continues the count when the digits of `#ms` and `#counter` are used up. */
  #beyond = 0n;

  /** `writer`: 16 lower-case hexadecimal digits, different for every process that writes. */
  constructor(runtime: Pick<Runtime, "now">, writer: string) {
    if (!/^[0-9a-f]{16}$/u.test(writer)) throw new HoldfastError("internal", "a writer is 16 hexadecimal digits");
    this.#runtime = runtime;
    this.#writer = writer;
  }

  /** A version above every version that this clock gave or observed. */
  next(): Version {
    const now = Math.min(MAX_MS, Math.max(0, Math.floor(this.#runtime.now())));
    if (now > this.#ms) {
      this.#ms = now;
      this.#counter = 0;
    } else if (this.#counter < MAX_COUNTER) {
      this.#counter++;
    } else if (this.#ms < MAX_MS) {
      this.#ms++;
      this.#counter = 0;
    } else {
      this.#beyond++;
    }
    return this.#text();
  }

  /** The last version given, or one as high as the highest observed. */
  get latest(): Version {
    return this.#text();
  }

  /** Takes note of a version made elsewhere. */
  observe(version: Version): void {
    const ms = versionMs(version);
    const counter = Number.parseInt(version.slice(12, 16), 16);
    const beyond = version[16] === "-" ? 0n : BigInt(`0x${version.slice(16, 32)}`);
    if (
      ms > this.#ms ||
      (ms === this.#ms && (counter > this.#counter || (counter === this.#counter && beyond > this.#beyond)))
    ) {
      this.#ms = ms;
      this.#counter = counter;
      this.#beyond = beyond;
    }
  }

  #text(): Version {
    const beyond = this.#beyond === 0n ? "" : this.#beyond.toString(16).padStart(16, "0");
    return `${hex(this.#ms, 12)}${hex(this.#counter, 4)}${beyond}-${this.#writer}`;
  }
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
