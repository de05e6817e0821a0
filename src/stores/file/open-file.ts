/** Reading a part of a file that is open. */
import { CHUNK_BYTES } from "../../contract/body.ts";
import { HoldfastError, abortError } from "../../contract/errors.ts";
import type { GetResult } from "../../contract/store.ts";
import { cutError } from "./file-errors.ts";
import { close, read } from "./system-calls.ts";

export interface OpenFile {
  readonly fd: number;
  /** The first byte that is wanted, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  readonly signal: AbortSignal | undefined;
  /** As in `GetOptions`. */
  readonly reuse: boolean;
  /** Makes of what goes wrong what the reader is told. */
  readonly failed: (error: unknown) => HoldfastError;
  /** Those whose files are open: this one is among them until it is closed. */
  readonly readers: Set<() => Promise<void>>;
}

/** The bytes, and what closes the file: when they have been read, the signal fires, or the caller says so. */
export function readOpen(file: OpenFile): Pick<GetResult, "body" | "close"> {
  const { fd, start, end, signal, readers } = file;
  let pending: Promise<unknown> | undefined;
  let closing: Promise<void> | undefined;
  const onAbort = (): void => void shut().catch(() => undefined);
  const shut = (): Promise<void> => {
    closing ??= (async () => {
      readers.delete(shut);
      signal?.removeEventListener("abort", onAbort);
      // A descriptor must not be closed under a read: its number may be another file's by then.
      await pending?.catch(() => undefined);
      await close(fd);
    })();
    return closing;
  };
  readers.add(shut);
  signal?.addEventListener("abort", onAbort, { once: true });
  // Given to nobody: the one that the reader had before the last.
  let idle: Buffer | undefined;
  const readAt = async (at: number): Promise<Buffer> => {
    const length = Math.min(CHUNK_BYTES, end - at);
    const buffer = idle ?? Buffer.allocUnsafeSlow(length);
    idle = undefined;
    const { bytesRead } = await read(fd, buffer, 0, length, at);
    if (bytesRead === 0) throw cutError(at);
    return buffer.subarray(0, bytesRead);
  };
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    try {
      // One chunk ahead of the consumer.
      let next: Promise<Buffer> | undefined;
      for (let at = start; at < end;) {
        if (signal?.aborted) throw abortError(signal);
        if (closing) throw new HoldfastError("invalid", "the read was closed");
        next ??= readAt(at);
        pending = next;
        const chunk = await next;
        at += chunk.length;
        next = undefined;
        if (at < end && !closing) {
          next = readAt(at);
          pending = next;
          next.catch(() => undefined);
        }
        yield chunk;
        if (file.reuse) idle = Buffer.from(chunk.buffer);
      }
      if (signal?.aborted) throw abortError(signal);
    } catch (error) {
      throw file.failed(error);
    } finally {
      await shut();
    }
  };
  return { body: chunks(), close: shut };
}
