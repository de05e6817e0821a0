/**
 * Digests of objects: SHA-256 of the whole, and XXH64 of each piece.
 *
 * The SHA-256 decides which object it is. With the pieces' digests a reader checks bytes before it hands them on, and
 * continues from another store at a piece that was wrong. Those digests need to be fast, not hard to forge. Sources:
 * FIPS 180-4; Y. Collet, XXH64 (xxHash specification 0.1.1).
 */
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import xxhash from "xxhash-wasm";
import type { XXHashAPI } from "xxhash-wasm";
import type { Content } from "./record.ts";

/** Bytes of a piece, in objects up to 4 GiB and in those whose size is not known beforehand. */
export const PIECE_BYTES = 1024 * 1024;
const LARGE_OBJECT_BYTES = 4 * 1024 ** 3;
const LARGE_PIECE_BYTES = 4 * 1024 * 1024;

const PIECE_DIGEST_CHARACTERS = 16;
let loaded: XXHashAPI | undefined;

/** Loads the hash function. Await it once before any digest is computed. */
export async function loadDigests(): Promise<void> {
  loaded ??= await xxhash();
}

function xx(): XXHashAPI {
  if (loaded === undefined) throw new Error("loadDigests was not awaited");
  return loaded;
}

/**
 * The XXH64 of bytes. `seed` stands for their purpose, so that the same bytes with another purpose have another digest.
 */
export function xxh64(bytes: Uint8Array, seed?: bigint): bigint {
  return xx().h64Raw(bytes, seed);
}

/** The XXH64 of one piece, 16 lower-case hexadecimal digits. */
export function pieceDigest(piece: Uint8Array): string {
  return xx().h64Raw(piece).toString(16).padStart(PIECE_DIGEST_CHARACTERS, "0");
}

/** The recorded digest of piece `index`; undefined for an object of one piece, which has only its SHA-256. */
export function recordedPiece(content: Content, index: number): string | undefined {
  if (content.pieces === "") return undefined;
  return content.pieces.slice(index * PIECE_DIGEST_CHARACTERS, (index + 1) * PIECE_DIGEST_CHARACTERS);
}

/** Computes an object's {@link Content} as its bytes pass. */
export class ContentDigest {
  readonly #whole: Hash = createHash("sha256");
  readonly #pieceBytes: number;
  readonly #pieces: string[] = [];
  #piece = xx().create64();
  #inPiece = 0;
  #size = 0;

  /** `expectedBytes`: the size, if it is known beforehand. It only decides the size of pieces. */
  constructor(expectedBytes?: number) {
    this.#pieceBytes = (expectedBytes ?? 0) > LARGE_OBJECT_BYTES ? LARGE_PIECE_BYTES : PIECE_BYTES;
  }

  /** Bytes seen so far. */
  get size(): number {
    return this.#size;
  }

  update(chunk: Uint8Array): void {
    this.#whole.update(chunk);
    this.#size += chunk.byteLength;
    let rest = chunk;
    while (rest.byteLength > 0) {
      const room = this.#pieceBytes - this.#inPiece;
      const part = rest.byteLength <= room ? rest : rest.subarray(0, room);
      this.#piece.update(part);
      this.#inPiece += part.byteLength;
      rest = rest.subarray(part.byteLength);
      if (this.#inPiece === this.#pieceBytes) this.#endPiece();
    }
  }

  finish(): Content {
    if (this.#inPiece > 0) this.#endPiece();
    return {
      size: this.#size,
      sha256: this.#whole.digest("hex"),
      pieceBytes: this.#pieceBytes,
      pieces: this.#size <= this.#pieceBytes ? "" : this.#pieces.join(""),
    };
  }

  #endPiece(): void {
    this.#pieces.push(this.#piece.digest().toString(16).padStart(PIECE_DIGEST_CHARACTERS, "0"));
    this.#piece = xx().create64();
    this.#inPiece = 0;
  }
}
