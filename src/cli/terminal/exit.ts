/** Exit codes of the command, and how a run arrives at one. */
import type { HoldfastError } from "../../contract/errors.ts";

/** Everything was done, and everything is where it should be. */
export const EXIT_DONE = 0;
/** Something was not done. */
export const EXIT_FAILED = 1;
/** The command line, the environment or the pool's configuration is wrong; nothing was tried. */
export const EXIT_USAGE = 2;
/** Done, but copies are owed, a listing may lack something, or a store was not heard. */
export const EXIT_DEGRADED = 3;
/** The object that was asked for does not exist. */
export const EXIT_NOT_FOUND = 4;
/** Whoever read the output went away, as if killed by SIGPIPE. */
export const EXIT_PIPE = 141;

/** The exit code that an error alone stands for. */
export function exitCodeOf(error: HoldfastError): number {
  switch (error.code) {
    case "config":
      return EXIT_USAGE;
    case "incomplete":
      return EXIT_DEGRADED;
    case "not-found":
      return EXIT_NOT_FOUND;
    default:
      return EXIT_FAILED;
  }
}

/** What a run has come to so far. The worst counts: failed, then degraded, then not found. */
export class Outcome {
  #failed = false;
  #degraded = false;
  #notFound = false;
  #usage = false;
  #command = 0;
  #degradedCode = EXIT_DEGRADED;

  /** An error that ended the run, or one part of it. */
  error(error: HoldfastError): void {
    const code = exitCodeOf(error);
    if (code === EXIT_USAGE) this.#usage = true;
    else if (code === EXIT_DEGRADED) this.#degraded = true;
    else if (code === EXIT_NOT_FOUND) this.#notFound = true;
    else this.#failed = true;
  }

  failed(): void {
    this.#failed = true;
  }

  degraded(): void {
    this.#degraded = true;
  }

  /**
   * The code of a command that was run on the user's behalf; what went wrong here says more only where it is 0. Degraded
   * is told by a code of the user's choice, for commands that end with 3 themselves.
   */
  command(code: number, degradedCode: number): void {
    this.#command = code;
    this.#degradedCode = degradedCode;
  }

  get exitCode(): number {
    if (this.#command !== 0) return this.#command;
    if (this.#usage) return EXIT_USAGE;
    if (this.#failed) return EXIT_FAILED;
    if (this.#degraded) return this.#degradedCode;
    if (this.#notFound) return EXIT_NOT_FOUND;
    return EXIT_DONE;
  }
}
