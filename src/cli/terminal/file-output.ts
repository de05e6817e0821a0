/** Writing to a descriptor that is a file or a device: every byte, or an error that says why not. */
import { fdatasync, write } from "node:fs";
import { Writable } from "node:stream";
import { promisify } from "node:util";
import { systemCode } from "../../support/network-errors.ts";

const writeTo = promisify(write);
const flush = promisify(fdatasync);
/** A device has nothing to flush, and some file systems know no flush. */
const NO_FLUSH: ReadonlySet<string> = new Set(["EINVAL", "ENOTSUP", "ENOSYS", "EROFS", "EBADF"]);

/**
 * Node's own stream for such a descriptor makes one call for each chunk and takes it for written whole: on a disk that
 * becomes full the rest is lost without a word. Here what is left is written on, until the system says why it cannot be.
 *
 * A failure is emitted as "lost", with the error and for each chunk that it happens to; the stream goes on, since there
 * may be room again for what a gateway logs tomorrow. At its end a file is flushed: what stands on a network, or in a
 * disk's queue, is known to be written only then.
 */
export class FileOutput extends Writable {
  readonly #fd: number;

  constructor(fd: number) {
    super({ decodeStrings: true });
    this.#fd = fd;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#writeAll(chunk)
      .catch((error: unknown) => this.#lose(error))
      .finally(done);
  }

  override _final(done: () => void): void {
    flush(this.#fd)
      .catch((error: unknown) => {
        if (!NO_FLUSH.has(systemCode(error) ?? "")) this.#lose(error);
      })
      .finally(done);
  }

  #lose(error: unknown): void {
    this.emit("lost", error instanceof Error ? error : new Error(String(error)));
  }

  async #writeAll(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      const { bytesWritten } = await writeTo(this.#fd, chunk, at);
      if (bytesWritten === 0) throw new Error("the system takes no more bytes");
      at += bytesWritten;
    }
  }
}
