/**
 * Writing to stdout and stderr: in blocks, no faster than the reader, and without a stack when the reader goes away.
 * Everything that a command prints goes through here, and it is known of each byte whether it was written.
 */
import { once } from "node:events";
import { fstatSync } from "node:fs";
import type { Writable } from "node:stream";
import { isatty } from "node:tty";
import { systemCode } from "../../support/network-errors.ts";
import { FileOutput } from "./file-output.ts";

/** Text waits for so many characters or so many milliseconds before it is written. */
const BLOCK_CHARS = 16 * 1024;
const HOLD_MS = 50;

export class Output {
  readonly stream: Writable;
  readonly isTerminal: boolean;
  #waiting = "";
  #timer: NodeJS.Timeout | undefined;
  #broken = false;
  #lost: Error | undefined;

  /** `onBroken` is called once when something could not be written: the reader has gone away, or there is no room. */
  constructor(stream: Writable, isTerminal: boolean, onBroken: () => void) {
    this.stream = stream;
    this.isTerminal = isTerminal;
    stream.on("error", (error) => {
      if (this.#broken) return;
      this.#broken = true;
      this.#waiting = "";
      if (systemCode(error) !== "EPIPE") this.#lost ??= error;
      onBroken();
    });
    // A stream that goes on after a failure says so by this event (see FileOutput).
    stream.on("lost", (error: Error) => {
      const isFirst = this.#lost === undefined;
      this.#lost ??= error;
      if (isFirst) onBroken();
    });
  }

  /** Nobody reads it any more, or nothing can be written. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Why something was not written although it may have a reader; undefined when nothing was lost so. */
  get lost(): Error | undefined {
    return this.#lost;
  }

  /** Adds text. Await it: it resolves when more may be written. */
  write(text: string): Promise<void> | void {
    if (this.#broken) return;
    this.#waiting += text;
    if (this.#waiting.length >= BLOCK_CHARS) return this.flush();
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, HOLD_MS);
  }

  /** Writes what waits; resolves when the stream takes more. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#waiting;
    this.#waiting = "";
    if (text.length === 0 || this.#broken) return;
    if (!this.stream.write(text)) await this.#drained();
  }

  /** Writes bytes, after the text before them. */
  async bytes(chunk: Uint8Array): Promise<void> {
    await this.flush();
    if (!this.#broken && !this.stream.write(chunk)) await this.#drained();
  }

  /** Resolves when everything has been handed to the system, or could not be. */
  async end(): Promise<void> {
    await this.flush();
    if (this.#broken) return;
    await new Promise<void>((resolve) => {
      if (this.stream instanceof FileOutput) this.stream.end(() => resolve());
      // Never ended: the process's own stream cannot be.
      else this.stream.write("", () => resolve());
    });
  }

  async #drained(): Promise<void> {
    // `once` rejects on "error", which the constructor's listener deals with.
    if (this.#broken || !this.stream.writableNeedDrain) return;
    await once(this.stream, "drain").catch(() => undefined);
  }
}

/** Stdout or stderr of this process. */
export function processOutput(stream: NodeJS.WriteStream & { readonly fd: number }, onBroken: () => void): Output {
  return new Output(isFile(stream.fd) ? new FileOutput(stream.fd) : stream, stream.isTTY, onBroken);
}

/** Whether it is a file or a device that is no terminal. Node's own streams write whole what is anything else. */
function isFile(fd: number): boolean {
  const stats = fstatSync(fd);
  return stats.isFile() || stats.isBlockDevice() || (stats.isCharacterDevice() && !isatty(fd));
}
