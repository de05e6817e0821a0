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
      for await (const bytes of checkedPieces(source.store, name, content, piece, behind, options.signal)) {
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
  name: string,
  content: Content,
  first: number,
  behind: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { pieceBytes, size } = content;
  const offset = first * pieceBytes;
  const endOfPieces = Math.min(size, behind * pieceBytes);
  const isWhole = offset === 0 && endOfPieces === size;
  const range = isWhole ? {} : { range: { offset, length: endOfPieces - offset } };
  const found = await store.get(name, { ...range, signal }).catch((error: unknown) => {
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
    let gathered: Uint8Array[] = [];
    let bytes = 0;
    const wanted = (): number => Math.min(size, (index + 1) * pieceBytes) - index * pieceBytes;
    const piece = (): Uint8Array => {
      const only = gathered[0];
      const joined = gathered.length === 1 && only !== undefined ? only : Buffer.concat(gathered, bytes);
      check(store, name, content, index, joined);
      gathered = [];
      bytes = 0;
      index++;
      return joined;
    };
    for await (const chunk of body) {
      let rest = chunk;
      while (rest.byteLength > 0) {
        if (index >= behind) throw corrupt(store, name, "it is longer than it should be");
        const part = rest.subarray(0, wanted() - bytes);
        gathered.push(part);
        bytes += part.byteLength;
        rest = rest.subarray(part.byteLength);
        if (bytes === wanted()) yield piece();
      }
    }
    if (size === 0 && index === first) yield piece();
    if (index < behind) throw corrupt(store, name, "it ends too early");
  } finally {
    await found.close();
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
