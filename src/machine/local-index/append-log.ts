/**
 * A log that several processes append to and follow at the same time.
 *
 * An entry is one frame: mark, digest, length, payload. It is written by one call at the end of the file, so frames never mix.
 * A torn frame (its writer was killed, the disk was full) is passed over once a whole one follows it. All see the same frames
 * in the same order, whichever process wrote them. The digest has a seed that belongs to this log alone, so that older bytes
 * on the disk are not taken for a part of it.
 *
 * A frame without a payload is the seal, which ends the log. Everything behind the first seal is ignored.
 */
import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { xxh64 } from "../../ledger/digest.ts";
import { damagedFile } from "./block-file.ts";

const MAGIC = Buffer.from("HFL1");
const HEAD_BYTES = 16;
/** No frame is larger. A larger length shows that the bytes are not a frame. */
const MAX_PAYLOAD_BYTES = 2 ** 28;

export class AppendLog {
  readonly #fd: number;
  readonly #seed: bigint;
  /** Everything before this position was read. */
  #position = 0;
  /** The length of the file when it was last read. */
  #seen = 0;
  #isSealed = false;
  #isRemoved = false;

  private constructor(fd: number, seed: bigint) {
    this.#fd = fd;
    this.#seed = seed;
  }

  /** Opens a log that exists, or makes it. Throws as `openSync` does. */
  static open(path: string, seed: bigint): AppendLog {
    const { O_APPEND, O_CREAT, O_RDWR } = constants;
    // oxlint-disable-next-line no-bitwise -- flags are combined by bits
    return new AppendLog(openSync(path, O_APPEND | O_CREAT | O_RDWR, 0o600), seed);
  }

  /** Opens a log that must exist. */
  static openExisting(path: string, seed: bigint): AppendLog {
    const { O_APPEND, O_RDWR } = constants;
    // oxlint-disable-next-line no-bitwise -- flags are combined by bits
    return new AppendLog(openSync(path, O_APPEND | O_RDWR), seed);
  }

  get isSealed(): boolean {
    return this.#isSealed;
  }

  /** Bytes that were read. */
  get size(): number {
    return this.#position;
  }

  /** Whether the file had been removed when it was last read. Then everything that was ever in it has been read. */
  get isRemoved(): boolean {
    return this.#isRemoved;
  }

  /** The payloads of the frames that have come since the last time. */
  read(): readonly Buffer[] {
    const { size, nlink } = fstatSync(this.#fd);
    this.#isRemoved = nlink === 0;
    if (size === this.#seen || this.#isSealed) return [];
    if (size < this.#seen) throw damagedFile("its log was cut");
    this.#seen = size;
    const payloads: Buffer[] = [];
    const bytes = this.#readFrom(this.#position, size);
    let at = 0;
    while (at < bytes.length && !this.#isSealed) {
      const end = this.#frameEnd(bytes, at);
      if (end === undefined) {
        const next = this.#nextFrame(bytes, at);
        if (next === undefined) break;
        // A frame that was incomplete when it was read is complete by now, because another one follows it.
        const again = this.#readFrom(this.#position + at, this.#position + next);
        again.copy(bytes, at);
        if (this.#frameEnd(bytes, at) === undefined) at = next;
        continue;
      }
      if (end === at + HEAD_BYTES) this.#isSealed = true;
      else payloads.push(bytes.subarray(at + HEAD_BYTES, end));
      at = end;
    }
    this.#position += at;
    return payloads;
  }

  /**
   * Appends a frame. False: only a part of it could be written. Throws the file system's errors. A later read shows whether
   * the frame counts.
   */
  append(payload: Buffer): boolean {
    if (payload.length === 0 || payload.length > MAX_PAYLOAD_BYTES) throw damagedFile("a frame cannot be so large");
    return this.#append(payload);
  }

  /** Ends the log. */
  seal(): boolean {
    return this.#append(Buffer.alloc(0));
  }

  #append(payload: Buffer): boolean {
    const frame = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
    MAGIC.copy(frame, 0);
    frame.writeUInt32LE(payload.length, 12);
    payload.copy(frame, HEAD_BYTES);
    frame.writeBigUInt64LE(xxh64(frame.subarray(12), this.#seed), 4);
    return writeSync(this.#fd, frame) === frame.length;
  }

  /** Makes all entries so far durable. */
  sync(): void {
    fdatasyncSync(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #readFrom(from: number, to: number): Buffer {
    const bytes = Buffer.alloc(to - from);
    let length = 0;
    while (length < bytes.length) {
      const read = readSync(this.#fd, bytes, length, bytes.length - length, from + length);
      if (read === 0) break;
      length += read;
    }
    return length === bytes.length ? bytes : bytes.subarray(0, length);
  }

  /** The end of the frame that begins at `at`; undefined if there is none. */
  #frameEnd(bytes: Buffer, at: number): number | undefined {
    if (at + HEAD_BYTES > bytes.length || bytes.compare(MAGIC, 0, 4, at, at + 4) !== 0) return undefined;
    const end = at + HEAD_BYTES + bytes.readUInt32LE(at + 12);
    if (end > bytes.length) return undefined;
    return xxh64(bytes.subarray(at + 12, end), this.#seed) === bytes.readBigUInt64LE(at + 4) ? end : undefined;
  }

  #nextFrame(bytes: Buffer, after: number): number | undefined {
    for (let at = bytes.indexOf(MAGIC, after + 1); at !== -1; at = bytes.indexOf(MAGIC, at + 1))
      if (this.#frameEnd(bytes, at) !== undefined) return at;
    return undefined;
  }
}
