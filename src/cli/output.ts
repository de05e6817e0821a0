/** Writing to stdout and stderr: in blocks, no faster than the reader, and without a stack when the reader goes away. */
import { once } from "node:events";
import type { Writable } from "node:stream";

/** Text waits for so many characters or so many milliseconds before it is written. */
const BLOCK_CHARS = 16 * 1024;
const HOLD_MS = 50;

export class Output {
  readonly stream: Writable;
  readonly isTerminal: boolean;
  #waiting = "";
  #timer: NodeJS.Timeout | undefined;
  #broken = false;

  /** `onBroken` is called once when the reader has gone away (EPIPE). */
  constructor(stream: Writable, isTerminal: boolean, onBroken: () => void) {
    this.stream = stream;
    this.isTerminal = isTerminal;
    stream.on("error", () => {
      if (this.#broken) return;
      this.#broken = true;
      this.#waiting = "";
      onBroken();
    });
  }

  /** Nothing can be written any more. */
  get broken(): boolean {
    return this.#broken;
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

  /** Resolves when everything has been handed to the system. */
  async end(): Promise<void> {
    await this.flush();
    if (this.#broken) return;
    await new Promise<void>((resolve) => {
      this.stream.write("", () => resolve());
    });
  }

  async #drained(): Promise<void> {
    // `once` rejects on "error", which the constructor's listener deals with.
    if (this.#broken || !this.stream.writableNeedDrain) return;
    await once(this.stream, "drain").catch(() => undefined);
  }
}
