/** The bytes of an open file, sent and received with many requests under way at once. */
import { setMaxListeners } from "node:events";
import { HoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { isEnd, sftpError } from "./sftp-error.ts";
import type { Session } from "./sftp-session.ts";

/** Bytes of one read or write request: what a packet of 34,000 bytes, which every server takes, has room for. */
const REQUEST_BYTES = 31 * 1024;
/** Requests of one transfer that are under way at once. */
const REQUESTS = 64;
/** Bytes of a chunk that a read gives. */
const CHUNK_BYTES = 8 * REQUEST_BYTES;
/** Chunks that one read may be ahead of its consumer, and all reads of a store together; each has one in any case. */
const AHEAD = (REQUESTS * REQUEST_BYTES) / CHUNK_BYTES;
const AHEAD_OF_ALL = 8 * AHEAD;

/** What rclone says of a write that comes before the one that it should follow. */
const OUT_OF_ORDER = /illegal seek/iu;

interface Write {
  readonly bytes: Buffer;
  readonly position: number;
  /** All before it have been confirmed: to refuse it now is a failure. */
  readonly again: boolean;
}

/** Sends bytes as write requests, in order, many at once. */
class WriteWindow {
  readonly #session: Session;
  readonly #handle: Buffer;
  readonly #signal: AbortSignal | undefined;
  /** Requests without an answer. */
  #underWay = 0;
  #failure: HoldfastError | undefined;
  readonly #refused: Write[] = [];
  #wake: (() => void) | undefined;
  /** Where the next bytes go: so many were sent. */
  position = 0;

  constructor(session: Session, handle: Buffer, signal: AbortSignal | undefined) {
    this.#session = session;
    this.#handle = handle;
    this.#signal = signal;
  }

  /** Runs `work`, which sends, and waits until all is confirmed. */
  async run(work: () => Promise<void>): Promise<void> {
    const unwatch = this.#session.watch(this.#rouse);
    this.#signal?.addEventListener("abort", this.#rouse, { once: true });
    try {
      await work();
      await this.#room(0);
    } catch (error) {
      if (this.#signal?.aborted && this.#underWay > 0) this.#session.probe();
      throw error;
    } finally {
      unwatch();
      this.#signal?.removeEventListener("abort", this.#rouse);
    }
  }

  /** Sends at most `REQUEST_BYTES`, when fewer than `REQUESTS` requests are under way. */
  async send(bytes: Buffer): Promise<void> {
    await this.#room(REQUESTS - 1);
    this.#transmit({ bytes, position: this.position, again: false });
    this.position += bytes.length;
  }

  readonly #rouse = (): void => this.#wake?.();

  /**
   * Waits until at most so many requests are under way. A server that looks at several at once and takes them in order
   * alone (rclone waits a second for the one before) may refuse some on a busy machine: these are sent again, one by one.
   */
  async #room(limit: number): Promise<void> {
    await this.#settle(limit);
    if (this.#refused.length === 0) return;
    // When all have been answered, it is known which was the first.
    await this.#settle(0);
    for (const { bytes, position } of this.#refused.splice(0).sort((a, b) => a.position - b.position)) {
      this.#transmit({ bytes, position, again: true });
      await this.#settle(0);
    }
  }

  async #settle(limit: number): Promise<void> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      if (this.#session.dead) throw this.#session.dead;
      throwIfAborted(this.#signal);
      if (this.#underWay <= limit) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #transmit(write: Write): void {
    this.#underWay++;
    const { bytes, position } = write;
    this.#session.sftp.write(this.#handle, bytes, 0, bytes.length, position, (error: unknown) => {
      this.#underWay--;
      this.#session.used = true;
      if (error instanceof Error && OUT_OF_ORDER.test(error.message) && !write.again) this.#refused.push(write);
      else if (error !== undefined && error !== null) this.#failure ??= sftpError(error);
      this.#rouse();
    });
  }
}

/** Writes the chunks to an open file, and gives the number of bytes when all are confirmed. */
export async function sendAll(
  session: Session,
  handle: Buffer,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<number> {
  const requests = new WriteWindow(session, handle, signal);
  // Small chunks are gathered, so that a request is never much smaller than it can be.
  let gathered = Buffer.allocUnsafe(REQUEST_BYTES);
  let filled = 0;
  await requests.run(async () => {
    for await (const chunk of chunks) {
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      for (let at = 0; at < buffer.length;) {
        if (filled === 0 && buffer.length - at >= REQUEST_BYTES) {
          await requests.send(buffer.subarray(at, at + REQUEST_BYTES));
          at += REQUEST_BYTES;
          continue;
        }
        const copied = buffer.copy(gathered, filled, at);
        filled += copied;
        at += copied;
        if (filled < REQUEST_BYTES) continue;
        await requests.send(gathered);
        gathered = Buffer.allocUnsafe(REQUEST_BYTES);
        filled = 0;
      }
    }
    if (filled > 0) await requests.send(gathered.subarray(0, filled));
  });
  return requests.position;
}

/** What is read of an open file. */
export interface Wanted {
  readonly handle: Buffer;
  /** The first byte that is wanted, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  /** Run before each chunk is given. */
  readonly check: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly signal: AbortSignal | undefined;
  /** As in `GetOptions`. */
  readonly reuse: boolean;
}

/** The reads of one store, each with many requests at once. What they read ahead is bounded together. */
export class Receiver {
  /** Reads whose chunks are being taken. */
  #reads = 0;

  /** Chunks in order. */
  async *chunks(session: Session, { handle, start, end, check, signal, reuse }: Wanted): AsyncGenerator<Uint8Array> {
    const idle: Buffer[] = [];
    const ahead: Promise<Buffer>[] = [];
    let next = start;
    const stopped = new AbortController();
    // There is one listener for each request, which is no leak.
    const stop = signal ? AbortSignal.any([signal, stopped.signal]) : stopped.signal;
    setMaxListeners(0, stop);
    this.#reads++;
    try {
      for (;;) {
        while (next < end && ahead.length < this.#ahead) {
          const length = Math.min(CHUNK_BYTES, end - next);
          const buffer = idle.pop()?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
          const chunk = readChunk(session, handle, next, buffer, stop);
          chunk.catch(() => undefined);
          ahead.push(chunk);
          next += length;
        }
        const chunk = ahead.shift();
        if (!chunk) return;
        const bytes = await chunk;
        await check?.(stop);
        yield bytes;
        if (reuse && ahead.length + idle.length < this.#ahead) idle.push(bytes);
      }
    } finally {
      this.#reads--;
      stopped.abort();
    }
  }

  /** Chunks that one read may be ahead. */
  get #ahead(): number {
    return Math.max(1, Math.min(AHEAD, Math.floor(AHEAD_OF_ALL / this.#reads)));
  }
}

async function readChunk(
  session: Session,
  handle: Buffer,
  position: number,
  buffer: Buffer,
  signal: AbortSignal,
): Promise<Buffer> {
  const { length } = buffer;
  const requests: Promise<void>[] = [];
  for (let at = 0; at < length; at += REQUEST_BYTES) {
    requests.push(fill(session, handle, buffer, at, Math.min(length, at + REQUEST_BYTES), position, signal));
  }
  await Promise.all(requests);
  return buffer;
}

/** Fills `buffer` from `from` to `to` with the file's bytes at `position` and on; servers may give fewer than asked. */
async function fill(
  session: Session,
  handle: Buffer,
  buffer: Buffer,
  from: number,
  to: number,
  position: number,
  signal: AbortSignal,
): Promise<void> {
  let at = from;
  while (at < to) {
    let count: number;
    try {
      count = await session.request<number>(signal, (callback) =>
        session.sftp.read(handle, buffer, at, to - at, position + at, callback),
      );
    } catch (error) {
      if (isEnd(error)) count = 0;
      else throw error;
    }
    if (count === 0) {
      throw new HoldfastError("corrupt", "the file on the server ended before its size: it was cut while it was read");
    }
    at += count;
  }
}
