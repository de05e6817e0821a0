/** Bodies that give their bytes once, made to be opened again: what was read is kept, in memory or in a temporary file. */
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HoldfastError, abortError } from "../contract/errors.ts";
import { makeFolder } from "./make-folder.ts";
import type { Body } from "../contract/store.ts";

export interface Replayable {
  readonly body: Body;
  /** Whether the source has given all its bytes. */
  readonly ended: boolean;
  /** Whether all that is kept is held in memory. */
  readonly isInMemory: boolean;
  /** Takes from the source until its end, or until so many bytes are kept. Rejects with its error, or the signal's. */
  fill(bytes: number, signal?: AbortSignal): Promise<void>;
  /** Removes what was kept. An opening that still waits for the source gets an error. */
  dispose(): Promise<void>;
}

export interface ReplayableOptions {
  /** Where the temporary file is made; it is made, too. Default the system's folder for those. */
  readonly folder?: string | undefined;
  /** Memory that several share. Default none: all is kept in a file. */
  readonly memory?: SharedMemory | undefined;
}

/** Memory for the first bytes of many bodies. */
export class SharedMemory {
  readonly #eachBytes: number;
  #freeBytes: number;

  /** `eachBytes`: what one body may have of all of it. */
  constructor(bytes: number, eachBytes: number) {
    this.#freeBytes = bytes;
    this.#eachBytes = eachBytes;
  }

  /**
   * Whether there is room for `bytes` more of a body that has `held` of them. There is none for one that is known to come
   * to more than it may have: all that was held of it would go to the disk later.
   */
  take(bytes: number, held: number, sizeBytes = 0): boolean {
    if (bytes > this.#freeBytes || Math.max(held + bytes, sizeBytes) > this.#eachBytes) return false;
    this.#freeBytes -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#freeBytes += bytes;
  }
}

/** Bytes of a chunk that is read from the file. */
const READ_BYTES = 256 * 1024;

const FULL: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Writes every byte: a disk that becomes full takes a part, and says so the next time. */
async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < chunk.byteLength;)
    at += (await file.write(chunk, at, chunk.byteLength - at, position + at)).bytesWritten;
}

/** Bytes in the order in which they came, which can be read from any place on. */
class Kept {
  readonly #options: ReplayableOptions;
  readonly #size: number | undefined;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #file: FileHandle | undefined;
  #last: Uint8Array = new Uint8Array();
  bytes = 0;

  constructor(options: ReplayableOptions, size: number | undefined) {
    this.#options = options;
    this.#size = size;
  }

  async add(chunk: Uint8Array): Promise<void> {
    if (
      this.#file === undefined &&
      this.#options.memory?.take(chunk.byteLength, this.#heldBytes, this.#size) === true
    ) {
      this.#heldBytes += chunk.byteLength;
      // A small part of a large buffer would keep all of it.
      this.#held.push(chunk.byteLength * 2 < chunk.buffer.byteLength ? Uint8Array.from(chunk) : chunk);
    } else {
      try {
        this.#file ??= await this.#move();
        await writeAll(this.#file, chunk, this.bytes);
      } catch (error) {
        if (!(error instanceof Error && "code" in error && FULL.has(error.code))) throw error;
        throw new HoldfastError("full", "the disk for what is being received is full", { cause: error });
      }
    }
    this.bytes += chunk.byteLength;
    this.#last = chunk;
  }

  /** The file, with what was held in memory. Nothing has its name any more: whatever ends this process removes it. */
  async #move(): Promise<FileHandle> {
    const { folder = tmpdir() } = this.#options;
    await makeFolder(folder, 0o700);
    const own = await mkdtemp(join(folder, "holdfast-"));
    const file = await open(join(own, "body"), "wx+", 0o600);
    try {
      await rm(own, { recursive: true, force: true });
      let at = 0;
      for (const chunk of this.#held.splice(0)) {
        await writeAll(file, chunk, at);
        at += chunk.byteLength;
      }
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#forget();
    return file;
  }

  #forget(): void {
    this.#options.memory?.give(this.#heldBytes);
    this.#heldBytes = 0;
    this.#held = [];
  }

  get hasFile(): boolean {
    return this.#file !== undefined;
  }

  /** Some of the bytes from `at`, which is below `bytes`. */
  async from(at: number): Promise<Uint8Array> {
    const lastAt = this.bytes - this.#last.byteLength;
    if (at >= lastAt) return this.#last.subarray(at - lastAt);
    if (this.#file === undefined) {
      let start = 0;
      for (const chunk of this.#held) {
        if (at < start + chunk.byteLength) return chunk.subarray(at - start);
        start += chunk.byteLength;
      }
    }
    const chunk = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, this.bytes - at));
    const { bytesRead } = (await this.#file?.read(chunk, 0, chunk.byteLength, at)) ?? { bytesRead: 0 };
    if (bytesRead === 0) throw new HoldfastError("internal", "what was kept of the source is gone");
    return chunk.subarray(0, bytesRead);
  }

  async remove(): Promise<void> {
    this.#forget();
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

/**
 * A body that can be opened again already passes through, and nothing is kept. Otherwise every opening gives all bytes
 * from the first on, or the source's own error: also when an earlier opening was abandoned while the source was slow.
 */
export function replayable(body: Body, options: ReplayableOptions = {}): Replayable {
  if (body.reopenable) {
    const nothing = (): Promise<void> => Promise.resolve();
    return { body, ended: true, isInMemory: true, fill: nothing, dispose: nothing };
  }
  return new Replay(body, options);
}

/** A source that gives its bytes once, with what was taken from it so far. */
class Replay implements Replayable {
  readonly #source: Body;
  readonly #kept: Kept;
  readonly body: Body;
  #iterator: AsyncIterator<Uint8Array> | undefined;
  #pulling: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #ended = false;
  #keeping: Promise<void> | undefined;
  #disposed = false;

  constructor(source: Body, options: ReplayableOptions) {
    this.#source = source;
    this.#kept = new Kept(options, source.size);
    this.body = { size: source.size, reopenable: true, open: () => this.#open() };
  }

  get ended(): boolean {
    return this.#ended;
  }

  get isInMemory(): boolean {
    return !this.#kept.hasFile;
  }

  async *#open(): AsyncGenerator<Uint8Array> {
    let at = 0;
    for (;;) {
      if (this.#disposed) throw new HoldfastError("internal", "the source was let go of");
      if (at < this.#kept.bytes) {
        const chunk = await this.#kept.from(at);
        at += chunk.byteLength;
        yield chunk;
        continue;
      }
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#ended) return;
      await this.#pulled();
    }
  }

  /** Takes one chunk from the source. Openings share it: what one of them asked for, all of them see. */
  #pulled(): Promise<void> {
    return (this.#pulling ??= this.#pull().finally(() => {
      this.#pulling = undefined;
    }));
  }

  async #pull(): Promise<void> {
    try {
      this.#iterator ??= this.#source.open()[Symbol.asyncIterator]();
      const next = await this.#iterator.next();
      if (next.done === true) this.#ended = true;
      // Of a source that answers too late nothing is kept: nobody would remove it.
      else if (!this.#disposed) await (this.#keeping = this.#kept.add(next.value));
    } catch (error) {
      this.#failure = { error };
    }
  }

  async fill(bytes: number, signal?: AbortSignal): Promise<void> {
    const isDone = (): boolean => this.#ended || this.#failure !== undefined || this.#kept.bytes >= bytes;
    while (!isDone()) await unlessAborted(this.#pulled(), signal);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    if (!this.#ended && this.#failure === undefined) {
      const returned = this.#iterator?.return?.();
      // A source that hangs cannot be waited for; it is let go of whenever it answers.
      if (this.#pulling === undefined) await returned;
      else returned?.catch(() => undefined);
    }
    await this.#keeping?.catch(() => undefined);
    await this.#kept.remove();
  }
}

/** What `work` gives, or the signal's error as soon as it fires. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(abortError(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
