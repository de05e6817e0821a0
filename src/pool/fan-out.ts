/**
 * One source read once by several readers, each at its own pace within a window.
 *
 * The source is read no faster than the slowest listening reader allows. So the window bounds a source's memory, and a
 * shared budget bounds the memory of all windows in the process. A reader that stops listening (its store failed) no
 * longer counts; when none is left, the source is closed.
 *
 * With `enough`, a reader that holds up the others is dropped if enough others keep pace without it.
 */
import { abortError, HoldfastError } from "../contract/errors.ts";
import type { Runtime } from "../contract/runtime.ts";

const MIB = 1024 * 1024;
/** How many bytes a reader may lag behind the source. */
const WINDOW_BYTES = 8 * MIB;
/** Bytes that each source may have in its window in any case, so that no source waits for another. */
const OWN_BYTES = MIB;
/** Bytes that all windows of this process may hold beyond that. */
const SHARED_BYTES = 32 * MIB;

/** One window's part of the shared budget. */
class Share {
  static #used = 0;
  #bytes = 0;

  /** Notes how many bytes the window holds. The last chunk may exceed the budget. */
  hold(windowBytes: number): void {
    const bytes = Math.max(0, windowBytes - OWN_BYTES);
    Share.#used += bytes - this.#bytes;
    this.#bytes = bytes;
  }

  /** Whether a window of this size may not grow. */
  isFull(windowBytes: number): boolean {
    return windowBytes >= WINDOW_BYTES || (windowBytes >= OWN_BYTES && Share.#used >= SHARED_BYTES);
  }
}

export interface FanOut {
  /** One stream for each reader; to be read once. */
  readonly branches: readonly FanOutBranch[];
  /**
   * Resolves to true when the source was read to its end, and to false when all readers had stopped before that.
   * Rejects with the source's own error.
   */
  readonly source: Promise<boolean>;
}

export interface FanOutBranch extends AsyncIterable<Uint8Array> {
  /** The reader stops listening. */
  stop(): void;
}

export interface FanOutOptions {
  readonly readers: number;
  /** Sees each chunk once, before any reader does. */
  readonly onChunk: (chunk: Uint8Array) => void;
  /**
   * Called at the source's end, before any reader sees it. If it throws, the readers get that error instead of the end.
   */
  readonly onEnd: () => void;
  readonly signal?: AbortSignal | undefined;
  /**
   * Do not wait longer than its `patienceMs` for a reader (given for each, in order) as long as `readers` others keep
   * pace. Default: wait for all.
   */
  readonly enough?:
    | { readonly readers: number; readonly patienceMs: readonly number[]; readonly runtime: Runtime }
    | undefined;
}

export function fanOut(source: AsyncIterable<Uint8Array>, options: FanOutOptions): FanOut {
  const share = new Share();
  const branches: readonly Branch[] = Array.from({ length: options.readers }, () => new Branch(share, onChange));
  // Readers share the chunks, so the window holds the bytes that the slowest reader has not taken yet.
  function onChange(): void {
    share.hold(Math.max(0, ...branches.map((branch) => branch.bytes)));
  }
  return { branches, source: pump(source, branches, options) };
}

async function pump(
  source: AsyncIterable<Uint8Array>,
  branches: readonly Branch[],
  options: FanOutOptions,
): Promise<boolean> {
  const { onChunk, signal } = options;
  const onAbort = (): void => {
    for (const branch of branches) branch.wake();
  };
  signal?.addEventListener("abort", onAbort);
  try {
    // The source is not read before a reader begins, so that a put waiting for its stores holds no memory.
    while (branches.every((branch) => branch.isIdle)) await Promise.race(branches.map((branch) => branch.begun()));
    if (branches.every((branch) => branch.stopped)) return false;
    for await (const chunk of source) {
      if (signal?.aborted) throw abortError(signal);
      if (chunk.byteLength > 0) {
        onChunk(chunk);
        for (const branch of branches) branch.push(chunk);
      }
      for (const branch of branches) {
        while (branch.isFull && !isAborted(signal)) await room(branch, branches, options);
      }
      if (branches.every((branch) => branch.stopped)) return false;
    }
    if (signal?.aborted) throw abortError(signal);
    options.onEnd();
    for (const branch of branches) branch.end();
    return true;
  } catch (error) {
    for (const branch of branches) branch.fail(error);
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Waits until a reader that is behind has caught up. If enough others keep pace, the wait is limited. */
async function room(behind: Branch, branches: readonly Branch[], { enough }: FanOutOptions): Promise<void> {
  const caughtUp = behind.room();
  const keepingPace = branches.filter((branch) => !branch.stopped && !branch.isFull).length;
  if (enough === undefined || keepingPace < enough.readers) return caughtUp;
  const patienceMs = enough.patienceMs[branches.indexOf(behind)] ?? 0;
  const cancel = enough.runtime.timer(patienceMs, () => {
    behind.drop(new HoldfastError("timeout", "it was too slow for the others"));
  });
  await caughtUp;
  cancel();
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted ?? false;
}

class Branch implements FanOutBranch {
  readonly #share: Share;
  readonly #onChange: () => void;
  readonly #queue: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #stopped = false;
  #isRead = false;
  #onBegun: (() => void) | undefined;
  #onData: (() => void) | undefined;
  #onRoom: (() => void) | undefined;

  constructor(share: Share, onChange: () => void) {
    this.#share = share;
    this.#onChange = onChange;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Bytes that the reader has not taken yet. */
  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return !this.#stopped && this.#share.isFull(this.#bytes);
  }

  push(chunk: Uint8Array): void {
    if (this.#stopped) return;
    this.#queue.push(chunk);
    this.#bytes += chunk.byteLength;
    this.#onChange();
    this.#onData?.();
  }

  end(): void {
    this.#ended = true;
    this.#onData?.();
  }

  fail(error: unknown): void {
    this.#failure = { error };
    this.#onData?.();
  }

  /** Ends a reader that holds up the others. It gets an error, never the end of the stream. */
  drop(error: HoldfastError): void {
    this.#failure = { error };
    this.stop();
  }

  stop(): void {
    this.#stopped = true;
    this.#queue.length = 0;
    this.#bytes = 0;
    this.#onChange();
    this.wake();
  }

  /** Whether no reader has begun to read it. */
  get isIdle(): boolean {
    return !this.#stopped && !this.#isRead;
  }

  /** Resolves when reading begins, or at any other change. */
  begun(): Promise<void> {
    return new Promise((resolve) => {
      this.#onBegun = resolve;
    });
  }

  /** Wakes all waiters, so that they look again. */
  wake(): void {
    this.#onBegun?.();
    this.#onRoom?.();
    this.#onData?.();
  }

  room(): Promise<void> {
    return new Promise((resolve) => {
      this.#onRoom = () => {
        this.#onRoom = undefined;
        resolve();
      };
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    this.#isRead = true;
    this.#onBegun?.();
    try {
      for (;;) {
        const chunk = this.#queue.shift();
        if (chunk !== undefined) {
          this.#bytes -= chunk.byteLength;
          this.#onChange();
          this.#onRoom?.();
          yield chunk;
        } else if (this.#failure !== undefined) {
          throw this.#failure.error;
        } else if (this.#ended || this.#stopped) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#onData = () => {
              this.#onData = undefined;
              resolve();
            };
          });
        }
      }
    } finally {
      this.stop();
    }
  }
}
