/**
 * Verified reads: every byte is checked before it is handed on, and another store continues when one fails.
 *
 * Bytes are gathered into pieces as the ledger records them, and each piece is checked before it is given out. When a
 * store fails, misses its deadline, or gives a wrong piece, the next one continues at the start of that piece. The
 * reader of the stream sees no gap, no repeat and no wrong byte, or gets an error.
 */
import { createHash } from "node:crypto";
import { recordedPiece, pieceDigest } from "../ledger/digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Content } from "../ledger/record.ts";
import type { Store } from "../contract/store.ts";

export interface Source {
  readonly store: Store;
  /** Called when this store's copy is missing or wrong (and not merely out of reach). */
  readonly onWrong?: (error: HoldfastError) => void;
}

export interface VerifiedReadOptions {
  readonly name: string;
  readonly content: Content;
  /** The first byte, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  readonly signal?: AbortSignal | undefined;
  /** As in `GetOptions`. */
  readonly reuse?: boolean | undefined;
  /** Called for each store that was passed over. */
  readonly onFailure?: (error: HoldfastError, store: Store) => void;
}

/** The bytes from `start` to `end`. Throws `noGoodCopy` when no source is left. */
export async function* verifiedRead(
  sources: readonly Source[],
  options: VerifiedReadOptions,
): AsyncGenerator<Uint8Array> {
  const { name, content, start, end } = options;
  const { pieceBytes } = content;
  let piece = Math.floor(start / pieceBytes);
  const behind = Math.max(Math.ceil(end / pieceBytes), piece + (end > start || content.size === 0 ? 1 : 0));
  const failures: HoldfastError[] = [];
  // A read of the whole object is also checked by its SHA-256, because the pieces' digests are fast rather than strong.
  const whole = start === 0 && end === content.size && content.pieces !== "" ? createHash("sha256") : undefined;
  const waiting = [...sources];
  for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
    throwIfAborted(options.signal);
    try {
      for await (const bytes of checkedPieces(source.store, options, piece, behind)) {
        const from = Math.max(0, start - piece * pieceBytes);
        const to = Math.min(bytes.byteLength, end - piece * pieceBytes);
        piece++;
        const part = from === 0 && to === bytes.byteLength ? bytes : bytes.subarray(from, to);
        whole?.update(part);
        if (part.byteLength > 0) yield part;
      }
      if (piece < behind) throw corrupt(source.store, name, "it ends too early");
      if (whole !== undefined && whole.digest("hex") !== content.sha256) {
        throw new HoldfastError("corrupt", "the digest of the whole is wrong although every piece's was right", {
          store: source.store.label,
          operation: "get",
          object: name,
          retryable: false,
        });
      }
      return;
    } catch (error) {
      throwIfAborted(options.signal);
      const failure = toHoldfastError(error).within({ store: source.store.label, operation: "get", object: name });
      if (whole !== undefined && piece >= behind) throw failure;
      failures.push(failure);
      options.onFailure?.(failure, source.store);
      if (failure.code === "corrupt" || failure.code === "not-found") source.onWrong?.(failure);
    }
  }
  throw noGoodCopy(name, failures);
}

/** The error when no store gave a good copy: `corrupt` if all answered and none is good, else `unavailable`. */
export function noGoodCopy(name: string, failures: readonly HoldfastError[]): HoldfastError {
  const answered = failures.every((failure) => failure.code === "not-found" || failure.code === "corrupt");
  const why = failures.map((failure) => `${failure.store ?? "a store"}: ${failure.message}`).join("; ");
  return new HoldfastError(
    answered ? "corrupt" : "unavailable",
    failures.length === 0 ? "no store is known to hold a copy" : `no good copy could be read (${why})`,
    { operation: "get", object: name, errors: failures, cause: failures.at(-1), retryable: !answered },
  );
}

/** Pieces `first` to `behind` (exclusive) of one store's copy, each checked before it is given. */
async function* checkedPieces(
  store: Store,
  { name, content, signal, reuse }: VerifiedReadOptions,
  first: number,
  behind: number,
): AsyncGenerator<Uint8Array> {
  const { pieceBytes, size } = content;
  const offset = first * pieceBytes;
  const endOfPieces = Math.min(size, behind * pieceBytes);
  const isWhole = offset === 0 && endOfPieces === size;
  const range = isWhole ? {} : { range: { offset, length: endOfPieces - offset } };
  const found = await store.get(name, { ...range, signal, reuse }).catch((error: unknown) => {
    // The range fits the record's size, so a copy without it is too short.
    if (!isWhole && toHoldfastError(error).code === "invalid") throw corrupt(store, name, "it ends too early");
    throw error;
  });
  const { info, body } = found;
  try {
    if (info.size !== size) {
      throw corrupt(store, name, `it has ${info.size} bytes, not ${size}`);
    }
    let index = first;
    const gathered = new Gathered(reuse ?? false);
    const wanted = (): number => Math.min(size, (index + 1) * pieceBytes) - index * pieceBytes;
    for await (const chunk of body) {
      let rest = chunk;
      while (rest.byteLength > 0) {
        if (index >= behind) throw corrupt(store, name, "it is longer than it should be");
        const part = rest.subarray(0, wanted() - gathered.bytes);
        const piece = gathered.add(part, wanted());
        rest = rest.subarray(part.byteLength);
        if (piece === undefined) continue;
        check(store, name, content, index, piece);
        index++;
        yield piece;
      }
    }
    if (size === 0 && index === first) {
      const nothing = new Uint8Array();
      check(store, name, content, index, nothing);
      index++;
      yield nothing;
    }
    if (index < behind) throw corrupt(store, name, "it ends too early");
  } finally {
    await found.close();
  }
}

/** The parts of a piece as they come, copied together: none of them is held beside the piece. */
class Gathered {
  readonly #reuse: boolean;
  #buffer: Uint8Array | undefined;
  bytes = 0;

  constructor(reuse: boolean) {
    this.#reuse = reuse;
  }

  /** Adds a part of a piece of `wanted` bytes. Gives the piece when it is whole: a part that is all of it, as it came. */
  add(part: Uint8Array, wanted: number): Uint8Array | undefined {
    if (part.byteLength === wanted) return part;
    // The first piece of a read is never shorter than a later one.
    const buffer = (this.#buffer ??= Buffer.allocUnsafeSlow(wanted));
    buffer.set(part, this.bytes);
    this.bytes += part.byteLength;
    if (this.bytes < wanted) return undefined;
    this.bytes = 0;
    if (!this.#reuse) this.#buffer = undefined;
    return buffer.subarray(0, wanted);
  }
}

function check(store: Store, name: string, content: Content, index: number, bytes: Uint8Array): void {
  const recorded = recordedPiece(content, index);
  const right =
    recorded === undefined
      ? createHash("sha256").update(bytes).digest("hex") === content.sha256
      : pieceDigest(bytes) === recorded;
  if (!right) throw corrupt(store, name, `its bytes from ${index * content.pieceBytes} on are wrong`);
}

function corrupt(store: Store, name: string, why: string): HoldfastError {
  return new HoldfastError("corrupt", `the copy on ${store.label} is wrong: ${why}`, {
    store: store.label,
    operation: "get",
    object: name,
  });
}
