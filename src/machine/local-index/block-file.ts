/**
 * Files of entries in the order of their keys, in blocks of about 16 KiB, each with a digest. Written once, never changed.
 *
 * Blocks of entries come first. Blocks of the same form follow, whose entries name blocks (first key; offset, length, digest and
 * last key), and blocks that name those, until one block names all. At the end are a text of the writer's own, and a foot of 64
 * bytes that names the last block and the text. So every block is checked by the digest in the entry that names it, and a key is
 * found by reading one block of each level.
 *
 * This code does not use files: bytes go to `write`, and come from a {@link BlockSource}. Keys and values are bytes; a key has at
 * most 65,535.
 */
import { xxh64 } from "../../ledger/digest.ts";
import { HoldfastError } from "../../contract/errors.ts";

/** The source of a file's bytes. `read` gives exactly the number asked for, or throws. */
export interface BlockSource {
  /** In bytes. */
  readonly size: number;
  read(offset: number, length: number): Buffer;
}

export interface BlockEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** A block ends when it has at least this many bytes. One entry may be larger. */
const BLOCK_BYTES = 16 * 1024;
const MAGIC = Buffer.from("HOLDBLK1");
const FOOT_BYTES = 64;
/** Key length in 2 bytes, value length in 4. */
const ENTRY_HEAD_BYTES = 6;
/** Offset in 6 bytes, length in 4, digest in 8. */
const PLACE_BYTES = 18;
/** No file is larger. */
const MAX_FILE_BYTES = 2 ** 40;
/** The limit of levels, which is more than any file can have. */
const MAX_DEPTH = 12;

export function damagedFile(why: string): HoldfastError {
  return new HoldfastError("corrupt", `the local index is damaged: ${why}`);
}

/** Writes a file from entries in ascending order of keys. Holds one block of each level in memory. */
export class BlockFileWriter {
  readonly #write: (bytes: Buffer) => void;
  readonly #levels: OpenBlock[] = [new OpenBlock()];
  #offset = 0;
  #entries = 0;

  constructor(write: (bytes: Buffer) => void) {
    this.#write = write;
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#offset;
  }

  add(key: Buffer, value: Buffer): void {
    this.#entries++;
    this.#add(0, key, value, key);
  }

  /** Begins a new block, so that a reader of the next entries need not read the previous ones. */
  endBlock(): void {
    this.#endBlock(0);
  }

  /** Ends the file. `text`: the text that the reader gets. */
  finish(text: string): void {
    // Each level's last block is named in the level above, until there is only one block.
    let level = 0;
    for (; level < this.#levels.length - 1; level++) this.#endBlock(level);
    const top = this.#levels[level]?.take() ?? Buffer.alloc(0);
    const foot = Buffer.alloc(FOOT_BYTES);
    MAGIC.copy(foot, 0);
    writePlace(foot, 8, this.#put(top));
    foot.writeUInt8(level, 26);
    foot.writeUIntLE(this.#entries, 27, 6);
    writePlace(foot, 33, this.#put(Buffer.from(text)));
    foot.writeBigUInt64LE(xxh64(foot.subarray(0, 56)), 56);
    this.#write(foot);
  }

  /** `last`: the last key below this entry. */
  #add(level: number, key: Buffer, value: Buffer, last: Buffer): void {
    this.#levels[level] ??= new OpenBlock();
    const block = this.#levels[level];
    block.add(key, value, last);
    if (block.size >= BLOCK_BYTES) this.#endBlock(level);
  }

  #endBlock(level: number): void {
    const block = this.#levels[level];
    const first = block?.first;
    if (block === undefined || first === undefined) return;
    const { last } = block;
    const child = Buffer.alloc(PLACE_BYTES + last.length);
    last.copy(child, PLACE_BYTES);
    writePlace(child, 0, this.#put(block.take()));
    this.#add(level + 1, first, child, last);
  }

  #put(bytes: Buffer): BlockPlace {
    const place = { offset: this.#offset, length: bytes.length, digest: xxh64(bytes) };
    if (bytes.length > 0) this.#write(bytes);
    this.#offset += bytes.length;
    return place;
  }
}

class OpenBlock {
  #parts: Buffer[] = [];
  first: Buffer | undefined;
  last: Buffer = Buffer.alloc(0);
  size = 0;

  add(key: Buffer, value: Buffer, last: Buffer): void {
    this.first ??= Buffer.from(key);
    this.last = last;
    const head = Buffer.allocUnsafe(ENTRY_HEAD_BYTES);
    head.writeUInt16LE(key.length, 0);
    head.writeUInt32LE(value.length, 2);
    this.#parts.push(head, key, value);
    this.size += ENTRY_HEAD_BYTES + key.length + value.length;
  }

  take(): Buffer {
    const bytes = Buffer.concat(this.#parts, this.size);
    this.#parts = [];
    this.first = undefined;
    this.size = 0;
    return bytes;
  }
}

interface BlockPlace {
  readonly offset: number;
  readonly length: number;
  readonly digest: bigint;
}

function writePlace(bytes: Buffer, at: number, { offset, length, digest }: BlockPlace): void {
  bytes.writeUIntLE(offset, at, 6);
  bytes.writeUInt32LE(length, at + 6);
  bytes.writeBigUInt64LE(digest, at + 10);
}

function readPlace(bytes: Buffer, at: number): BlockPlace {
  return {
    offset: bytes.readUIntLE(at, 6),
    length: bytes.readUInt32LE(at + 6),
    digest: bytes.readBigUInt64LE(at + 10),
  };
}

/** A cache of the blocks read last, of several files. */
export class BlockCache {
  readonly #blocks = new Map<number, Block>();
  readonly #max: number;

  /** `max`: the number of blocks to keep. */
  constructor(max: number) {
    this.#max = max;
  }

  get(key: number): Block | undefined {
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    return block;
  }

  set(key: number, block: Block): void {
    this.#blocks.set(key, block);
    if (this.#blocks.size <= this.#max) return;
    for (const [oldest] of this.#blocks) {
      this.#blocks.delete(oldest);
      return;
    }
  }
}

/** A block that was read, with the offset of each entry. */
class Block {
  readonly #bytes: Buffer;
  readonly #starts: readonly number[];

  constructor(bytes: Buffer) {
    const starts: number[] = [];
    let at = 0;
    while (at < bytes.length) {
      starts.push(at);
      if (at + ENTRY_HEAD_BYTES > bytes.length) throw damagedFile("an entry is cut short");
      at += ENTRY_HEAD_BYTES + bytes.readUInt16LE(at) + bytes.readUInt32LE(at + 2);
    }
    if (at !== bytes.length) throw damagedFile("an entry is cut short");
    this.#bytes = bytes;
    this.#starts = starts;
  }

  get count(): number {
    return this.#starts.length;
  }

  key(place: number): Buffer {
    const start = this.#starts[place] ?? 0;
    const from = start + ENTRY_HEAD_BYTES;
    return this.#bytes.subarray(from, from + this.#bytes.readUInt16LE(start));
  }

  value(place: number): Buffer {
    const start = this.#starts[place] ?? 0;
    const from = start + ENTRY_HEAD_BYTES + this.#bytes.readUInt16LE(start);
    return this.#bytes.subarray(from, from + this.#bytes.readUInt32LE(start + 2));
  }

  /** The first entry whose key is not below `key`; `count` if there is none. */
  find(key: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(middle, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The last entry whose key is not above `key`; the first entry if there is none. */
  findChild(key: Buffer): number {
    const at = this.find(key);
    return at < this.count && this.#compare(at, key) === 0 ? at : Math.max(0, at - 1);
  }

  /** Whether a key is behind all keys below the entry at `place`. */
  isBehind(place: number, key: Buffer): boolean {
    const value = this.value(place);
    return key.compare(value, PLACE_BYTES) > 0;
  }

  #compare(place: number, key: Buffer): number {
    const start = this.#starts[place] ?? 0;
    const from = start + ENTRY_HEAD_BYTES;
    return this.#bytes.compare(key, 0, key.length, from, from + this.#bytes.readUInt16LE(start));
  }
}

function childOf(block: Block, at: number): BlockPlace {
  if (at >= block.count || block.value(at).length < PLACE_BYTES) throw damagedFile("a block names no other");
  return readPlace(block.value(at), 0);
}

let opened = 0;

/** Reads a file of blocks. Every method throws `corrupt` if the bytes are not those that were written. */
export class BlockFileReader {
  /** The text that the writer wrote beside the entries. */
  readonly text: string;
  readonly entries: number;
  readonly #source: BlockSource;
  readonly #cache: BlockCache;
  readonly #id = opened++;
  readonly #root: BlockPlace;
  /** The topmost block, once it was read. */
  #top: Block | undefined;
  readonly #depth: number;

  /** Reads the foot and the text. */
  constructor(source: BlockSource, cache: BlockCache) {
    this.#source = source;
    this.#cache = cache;
    if (source.size < FOOT_BYTES) throw damagedFile("a file is cut short");
    const foot = source.read(source.size - FOOT_BYTES, FOOT_BYTES);
    if (xxh64(foot.subarray(0, 56)) !== foot.readBigUInt64LE(56) || !foot.subarray(0, 8).equals(MAGIC))
      throw damagedFile("a file has no foot");
    this.#root = readPlace(foot, 8);
    this.#depth = foot.readUInt8(26);
    this.entries = foot.readUIntLE(27, 6);
    if (this.#depth > MAX_DEPTH) throw damagedFile("a file has no end of levels");
    this.text = this.#read(readPlace(foot, 33)).toString();
  }

  /** The value of a key; undefined if there is none. */
  get(key: Buffer): Buffer | undefined {
    let block = this.#first();
    for (let level = this.#depth; level > 0; level--) {
      const child = block.findChild(key);
      if (block.isBehind(child, key)) return undefined;
      block = this.#child(block, child);
    }
    const at = block.find(key);
    return at < block.count && block.key(at).equals(key) ? block.value(at) : undefined;
  }

  /** Reads every block once, and keeps none. */
  check(): void {
    this.#checkBelow(this.#root, this.#depth);
  }

  #checkBelow(place: BlockPlace, level: number): void {
    const block = new Block(this.#read(place));
    if (level === 0) return;
    for (let at = 0; at < block.count; at++) this.#checkBelow(childOf(block, at), level - 1);
  }

  /** The entries from a key on, in order. */
  *from(key: Buffer): Generator<BlockEntry, void, undefined> {
    yield* this.#walk(this.#first(), this.#depth, key);
  }

  *#walk(block: Block, level: number, from: Buffer | undefined): Generator<BlockEntry, void, undefined> {
    if (level === 0) {
      for (let at = from === undefined ? 0 : block.find(from); at < block.count; at++)
        yield { key: block.key(at), value: block.value(at) };
      return;
    }
    let start = from;
    for (let at = from === undefined ? 0 : block.findChild(from); at < block.count; at++) {
      yield* this.#walk(this.#child(block, at), level - 1, start);
      start = undefined;
    }
  }

  #first(): Block {
    this.#top ??= new Block(this.#read(this.#root));
    return this.#top;
  }

  #child(block: Block, at: number): Block {
    return this.#block(childOf(block, at));
  }

  #block(place: BlockPlace): Block {
    // Keys of the cache are unique across files.
    const key = this.#id * MAX_FILE_BYTES + place.offset;
    const known = this.#cache.get(key);
    if (known !== undefined) return known;
    const block = new Block(this.#read(place));
    this.#cache.set(key, block);
    return block;
  }

  #read({ offset, length, digest }: BlockPlace): Buffer {
    if (offset + length > this.#source.size) throw damagedFile("a block is not there");
    const bytes = length === 0 ? Buffer.alloc(0) : this.#source.read(offset, length);
    if (xxh64(bytes) !== digest) throw damagedFile("the digest of a block is wrong");
    return bytes;
  }
}
