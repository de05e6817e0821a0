/**
 * The interface of a store: one place that keeps objects.
 *
 * What every store guarantees (the conformance suite, `holdfast/conformance`, checks each of them):
 *
 * 1. A put is all or nothing. Until it resolves, readers see the former object or none; they never see a part. A put
 *    that rejects has either changed nothing or stored the whole object (the answer was lost); never a part, and it
 *    leaves nothing behind that a listing shows.
 * 2. When a put resolves, the object is durable and the next get, stat and list by anyone see it. Likewise a delete.
 * 3. A put replaces an object of the same name, atomically.
 * 4. Names are opaque: well-formed Unicode, 1 to 1,024 bytes as UTF-8, compared byte by byte. No normalisation, no case
 *    folding. A name that the store cannot hold exactly is refused with `invalid`, never mapped onto another one.
 *    `/` has no meaning beyond being a common place to cut a prefix. `a` and `a/b` may both exist where
 *    `capabilities.prefixNames` says so; otherwise the second put is refused with `conflict`.
 * 5. A get streams in constant memory; it gives the bytes of one version, whole, or rejects. A stream that ends early or
 *    goes wrong rejects; it never simply ends.
 * 6. A list gives each object whose name starts with the prefix once, in name order (see `compareNames`) where
 *    `capabilities.orderedList` says so; it streams, and rejects when it could not see everything.
 * 7. `not-found` is said only by a store that has answered; when it could not be asked, the code is another.
 * 8. Deleting an object that does not exist succeeds.
 * 9. Every method takes an AbortSignal and ends soon after it fires, with `aborted` (or the signal's HoldfastError
 *    reason); an aborted put leaves nothing behind.
 * 10. Methods may run concurrently with each other. After `close`, every method rejects.
 */

/** What a kind of store can and cannot do. A test is skipped only because of an entry here. */
export interface Capabilities {
  /** `list` gives names in order. */
  readonly orderedList: boolean;
  /** `put` with `ifAbsent` is decided by the store, atomically. Without it such a put rejects with `unsupported`. */
  readonly conditionalPut: boolean;
  /** `a` and `a/b` may both exist. False for file systems. */
  readonly prefixNames: boolean;
  /** The largest object, in bytes; undefined when there is no limit worth knowing. */
  readonly maxObjectBytes?: number;
  /** The longest name, in bytes of UTF-8. */
  readonly maxNameBytes: number;
  /** The longest part of a name between two slashes, in bytes; undefined when parts have no limit of their own. */
  readonly maxNamePartBytes?: number;
  /** Two names that differ only in case are two objects. */
  readonly caseSensitive: boolean;
  /** Digests that the store computes itself and returns from `stat`, without sending the object. */
  readonly storeDigests: readonly DigestAlgorithm[];
}

/** Algorithms of digests as reported by stores; values are lower-case hexadecimal. */
export type DigestAlgorithm = "md5" | "sha1" | "sha256" | "crc32c";

export interface ObjectInfo {
  readonly name: string;
  /** Size in bytes. */
  readonly size: number;
  /** When it was last put, in milliseconds since 1970 by the store's clock, where known. */
  readonly modifiedMs?: number;
  /** Digests that the store vouches for, by algorithm. */
  readonly digests?: Readonly<Partial<Record<DigestAlgorithm, string>>>;
  /** Metadata as it was put; only pools keep it (see `PutOptions.metadata`). */
  readonly metadata?: ObjectMetadata;
}

/** Small facts a caller wants kept with an object: content type, modification time. At most 8 KiB in all. */
export type ObjectMetadata = Readonly<Record<string, string>>;

/**
 * The bytes of an object to be put.
 *
 * A store reads `open()` once for each attempt. `reopenable` says whether `open` may be called again (a file, a buffer)
 * or gives its bytes once (a pipe). Chunks belong to the consumer: a producer never changes a chunk it has handed out.
 */
export interface Body {
  /** Size in bytes where it is known before reading. A body that turns out longer or shorter fails the put. */
  readonly size: number | undefined;
  readonly reopenable: boolean;
  /** Path of the regular file whose whole content this is, where it is one: lets a folder store copy in the kernel. */
  readonly path?: string;
  open(): AsyncIterable<Uint8Array>;
}

export interface OperationOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Called by a store, now and then, while it gets on with a put or a get but neither takes nor gives bytes of the body: it
   * has to bring the whole object to the server, or from it, first. Whoever waits for signs of life sees one.
   */
  readonly onAlive?: (() => void) | undefined;
}

export interface HashResult {
  readonly size: number;
  readonly sha256: string;
}

export type HashOperation = (name: string, options?: OperationOptions) => Promise<HashResult>;

/** Names, a non-empty batch of them at a time. */
export type NamesOperation = (prefix: string, options?: ListOptions) => AsyncIterable<readonly string[]>;

/** Throws to refuse a change of an object, which is `current` now; undefined: there is none, and that is certain. */
export type ChangeCondition = (current: ObjectInfo | undefined) => void;

export interface PutOptions extends OperationOptions {
  /** Reject with `conflict` when the object exists; needs `capabilities.conditionalPut`. Default false. */
  readonly ifAbsent?: boolean | undefined;
  /**
   * Kept by pools, in their ledger. A plain store rejects with `unsupported`. A function is called once, after the body
   * has been read to its end: for what is only known then, such as an MD5 that the caller computes on the way.
   */
  readonly metadata?: ObjectMetadata | (() => ObjectMetadata) | undefined;
  /**
   * Asked by a pool before the body is opened and the first byte changes: while nobody else in this process changes the
   * name, and after the stores were heard anew. What it throws rejects the put as it is, and nothing was changed. Where the
   * pool cannot tell what the object is now, the put is refused with the error that `stat` would give. Another process may
   * still put in between. A store that is no pool rejects with `unsupported`.
   */
  readonly onlyIf?: ChangeCondition | undefined;
}

export interface DeleteOptions extends OperationOptions {
  /** As for a put. Also asked where there is no such object. */
  readonly onlyIf?: ChangeCondition | undefined;
}

export interface ListOptions extends OperationOptions {
  /**
   * The caller needs only names behind this one (see `compareNames`). A hint that saves work: a store may give earlier
   * names all the same, so the caller filters.
   */
  readonly after?: string | undefined;
}

/** Bytes `offset` to `offset + length`. It is cut at the object's end; an offset beyond the end is `invalid`. */
export interface ByteRange {
  /** First byte, from 0. */
  readonly offset: number;
  /** How many bytes; to the end when left out. */
  readonly length?: number | undefined;
}

export interface GetOptions extends OperationOptions {
  readonly range?: ByteRange | undefined;
  /**
   * The caller is done with each chunk when it asks for the next: a store may then read into the same memory again, so that
   * a read has the same few buffers from its beginning to its end. Default false: chunks belong to the caller.
   */
  readonly reuse?: boolean | undefined;
}

/** What a store owes: a copy or a delete that it missed. */
export interface Debt {
  /** Name of the object. */
  readonly object: string;
  /** Label of the store that owes it. */
  readonly store: string;
  readonly owes: "copy" | "delete";
  /** Since when, in milliseconds since 1970. */
  readonly sinceMs: number;
  /** Why, where it is known. */
  readonly reason?: string;
}

export interface PutResult {
  /** Size in bytes of what was stored. */
  readonly size: number;
  /** SHA-256 of what was stored, lower-case hexadecimal, where it was computed. */
  readonly sha256?: string;
  /** Copies that are still missing. Empty or absent: the put is complete. Otherwise it is degraded. */
  readonly owed?: readonly Debt[];
  /** An earlier attempt of this put ended without an answer, and may still take effect. Default false. */
  readonly mayLand?: boolean;
}

export interface DeleteResult {
  /** Whether the object existed; undefined when the store does not tell. */
  readonly existed?: boolean;
  /** Deletes that stores still owe. */
  readonly owed?: readonly Debt[];
  /** An earlier attempt of this delete ended without an answer, and may still take effect. Default false. */
  readonly mayLand?: boolean;
}

export interface GetResult {
  readonly info: ObjectInfo;
  /** The bytes (of the range, when one was asked for). Can be iterated once. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Labels of stores that were not heard and could hold something newer. Absent or empty: the read is certain. */
  readonly unheard?: readonly string[];
  /** Lets go of what the read holds (a connection, a descriptor). Needed when `body` is not read to its end. */
  close(): Promise<void>;
}

export interface Store {
  /** What errors and reports call this store: its description, or its URL without credentials. */
  readonly label: string;
  readonly capabilities: Capabilities;
  put(name: string, body: Body, options?: PutOptions): Promise<PutResult>;
  get(name: string, options?: GetOptions): Promise<GetResult>;
  stat(name: string, options?: OperationOptions): Promise<ObjectInfo>;
  /** Objects whose name starts with `prefix` (`""`: all). An incomplete listing rejects with `incomplete` at its end. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
  /**
   * The names that `list` would give, in batches, with nothing said of the objects. Only where a store has names for less
   * than that. Rejects as `list` does.
   */
  readonly listNames?: NamesOperation | undefined;
  delete(name: string, options?: DeleteOptions): Promise<DeleteResult>;
  /** Bytes that can still be stored, where the store can tell; undefined where it cannot. */
  freeBytes?(options?: OperationOptions): Promise<number | undefined>;
  /**
   * Removes what puts that were killed left here and no listing gives: temporary files that have been untouched for a day,
   * uploads in parts that began a week ago. Stores with folders know of those that listings by this very object have come
   * upon. What cannot be removed stays for the next time. Absent where nothing is left, or nothing can be done about it.
   */
  sweep?(options?: OperationOptions): Promise<void>;
  /**
   * What `get` would give, read for this call, as its size and SHA-256 (lower-case hexadecimal). Only where a store has a
   * faster way to it than handing out the bytes. Rejects as `get` and its body do.
   */
  readonly hash?: HashOperation | undefined;
  /** Ends connections. Resolves when nothing is left open. A second call does nothing. */
  close(): Promise<void>;
}
