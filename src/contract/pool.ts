/** The interface of a pool: a store made of stores, with what only a pool can be asked. */
import type { BodyInput } from "./body.ts";
import type {
  Debt,
  DeleteOptions,
  DeleteResult,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "./store.ts";

export type Mode = "stripe" | "mirror";
export type OnFail = "continue" | "abort";

/** How long an unfinished write of another machine is left alone, in milliseconds, once it is not renewed any more. */
export const DEFAULT_LEASE_MS = 3_600_000;

/** Why a store of the pool cannot be used now. */
export type StoreTrouble =
  /** It did not answer, or answered with an error. */
  | "unreachable"
  /** It holds nothing of Holdfast's although it should: a folder that is not mounted, a wrong bucket, a wiped disk. */
  | "missing"
  /** It belongs to another pool. */
  | "foreign"
  /** It was a store of this pool, was replaced or given up, and came back as it was. */
  | "removed"
  /** It has the identity of another store of this pool: a copy of that one, or the same place under another name. */
  | "twin";

/** One store of a pool, as `holdfast stores` shows it. */
export interface StoreReport {
  readonly label: string;
  /** Label of the store that this is a store of, where that is a pool itself; `label` then begins with it. */
  readonly within?: string;
  /** Identity on the store; undefined before the first write to the pool. */
  readonly id?: string;
  readonly reachable: boolean;
  readonly trouble?: StoreTrouble;
  /** The error behind the trouble. */
  readonly reason?: string;
  /** Round trip of the probe, in milliseconds. */
  readonly latencyMs?: number;
  /** Being emptied by `drain`: takes no new objects. */
  readonly draining: boolean;
}

export interface PoolStatus {
  readonly mode: Mode;
  readonly stores: readonly StoreStatus[];
  /** Objects that the ledger knows. */
  readonly objects: number;
  /** Objects that are on fewer stores than they should be, or still on one that they should not be on. */
  readonly degraded: number;
  /** Objects that no store holds any more, as far as is known. */
  readonly lost: number;
  /** Writes that were begun and neither finished nor undone. */
  readonly unsettled: number;
  /** Stores of the pool, by its ledger, that its file does not name. */
  readonly absent: readonly string[];
}

export interface StoreStatus {
  readonly label: string;
  /** Label of the store that this is a store of, where that is a pool itself; `label` then begins with it. */
  readonly within?: string;
  readonly id?: string;
  readonly reachable: boolean;
  readonly trouble?: StoreTrouble;
  readonly reason?: string;
  readonly owedCopies: number;
  readonly owedBytes: number;
  readonly owedDeletes: number;
  /** Since when it owes the oldest of these, in milliseconds since 1970. */
  readonly owesSinceMs?: number;
  /** It was put back as it was at an earlier time: objects of which it lacks what was done since. Absent: none. */
  readonly outdated?: number;
  readonly draining: boolean;
}

/** What verify can find wrong with one object on one store (or with the object as a whole, then `store` is absent). */
export type FindingKind =
  /** The store should hold a copy and has none. */
  | "missing"
  /** The copy is an older version. */
  | "stale"
  /** The copy is shorter than it should be, and right as far as it goes. */
  | "truncated"
  /** The bytes are wrong. */
  | "corrupt"
  /** A copy that should not be there: of a deleted object, or on a store that the object is not placed on. */
  | "stray"
  /** No record in the ledger; the copies agree. Repair adopts it. */
  | "unrecorded"
  /** No record, or several, and copies that differ with nothing to decide by. */
  | "conflict"
  /** A write was begun and neither finished nor undone. */
  | "unsettled"
  /** No good copy is on any store that answered. */
  | "lost"
  /** The copy could not be read. */
  | "unreadable"
  /** A segment of the ledger is missing or damaged on a store that should hold it. */
  | "ledger";

export interface Finding {
  readonly kind: FindingKind;
  readonly object: string;
  readonly store?: string;
  readonly detail?: string;
}

export interface ScanOptions extends OperationOptions {
  /** Only objects whose name starts with this. Default all. */
  readonly prefix?: string | undefined;
  /** Compare sizes and the stores' own digests instead of reading. Default false. */
  readonly quick?: boolean | undefined;
  /** Called as work goes on; at most some times a second. */
  readonly onProgress?: ((progress: ScanProgress) => void) | undefined;
}

export interface ScanProgress {
  readonly objects: number;
  readonly bytes: number;
  readonly totalObjects?: number;
  readonly totalBytes?: number;
}

export interface VerifyOptions extends ScanOptions {
  /** Read only this percentage of the objects, chosen at random. Default 100. */
  readonly samplePercent?: number | undefined;
  /** Go on where an interrupted verify of the same pool and prefix stopped. Default true. */
  readonly resume?: boolean | undefined;
  readonly onFinding?: ((finding: Finding) => void) | undefined;
}

export interface VerifyReport {
  readonly objects: number;
  readonly copies: number;
  readonly bytes: number;
  readonly findings: number;
  readonly byKind: Readonly<Partial<Record<FindingKind, number>>>;
  /** Stores that could not be looked at: what they hold is unknown. */
  readonly unheard: readonly string[];
}

/** One step of a repair. */
export interface RepairAction {
  readonly action: "copy" | "delete" | "record" | "settle" | "ledger" | "clear";
  readonly object: string;
  /** The store that is written to; absent for what concerns the ledger alone. */
  readonly store?: string;
  /** For a copy: the store it comes from. */
  readonly from?: string;
  readonly bytes?: number;
  readonly why: string;
}

export interface RepairOptions extends ScanOptions {
  /** Plan and report, change nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Labels or ids of stores that are known to be empty now and are to be filled again (a replaced disk). */
  readonly refill?: readonly string[] | undefined;
  /**
   * Remove segments of the ledger that are damaged on every store, and take what the stores hold for what there is. What
   * those segments said is lost: the digests of what they recorded, and which names were deleted. Default false.
   */
  readonly discardDamaged?: boolean | undefined;
  /**
   * Take what the stores have of lost objects for what these are, where all stores answer and agree; what none has counts as
   * deleted. For stores that were all put back from one snapshot: what was written since is gone. Default false.
   */
  readonly trustStores?: boolean | undefined;
  readonly onAction?: ((action: RepairAction) => void) | undefined;
  readonly onFinding?: ((finding: Finding) => void) | undefined;
}

export interface RepairReport {
  readonly planned: number;
  readonly done: number;
  readonly failed: number;
  readonly bytes: number;
  /** What the census at the end still found. Empty: everything is where it should be. */
  readonly left: readonly Finding[];
  /** True only when the census saw every store and found nothing. */
  readonly whole: boolean;
  readonly unheard: readonly string[];
}

export interface DrainOptions extends RepairOptions {
  /**
   * Mirror: how many copies of each object are enough afterwards. Default: two, or the pool's `min` where that is more; a
   * drain that would leave fewer is refused with `conflict`.
   */
  readonly leaveCopies?: number | undefined;
}

export interface RebalanceOptions extends RepairOptions {
  /** Makes the pool one of this mode. Its file is to say so from then on. */
  readonly mode?: Mode | undefined;
  /** Copies that a put needs at least from then on. */
  readonly min?: number | undefined;
  /** Takes the prefixes of the stores from the pool's file. Default false: they are to be those of the ledger. */
  readonly prefixes?: boolean | undefined;
}

export interface DrainReport extends RepairReport {
  /** True when nothing of the pool is left that only this store holds, and it may be taken out of the pool's file. */
  readonly removable: boolean;
}

export interface DrillReport {
  readonly store: string | undefined;
  readonly objects: number;
  readonly bytes: number;
  readonly lost: readonly string[];
  readonly elapsedMs: number;
}

export interface PoolPutResult extends PutResult {
  readonly sha256: string;
  readonly owed: readonly Debt[];
}

export interface PoolDeleteResult extends DeleteResult {
  readonly existed: boolean;
  readonly owed: readonly Debt[];
}

/** A recorded object: its digest without reading it. `push` and `pull` skip by it. */
export interface PoolObjectInfo extends ObjectInfo {
  /** SHA-256 of the whole, lower-case hexadecimal; absent for an unrecorded object. */
  readonly sha256?: string;
}

export interface DrillOptions extends ScanOptions {
  /** Label or id of the store that counts as gone. Default none. */
  readonly store?: string | undefined;
  /** Read only this percentage of the objects, chosen at random. Default 100. */
  readonly samplePercent?: number | undefined;
}

/** What a pool's put takes. A pool cannot decide `ifAbsent` for all machines, and offers `onlyIf` instead. */
export type PoolPutOptions = Omit<PutOptions, "ifAbsent">;

export interface Pool extends Store {
  readonly mode: Mode;
  readonly onfail: OnFail;
  /** How the pool stands, and what is done to it as a whole. */
  readonly maintenance: Maintenance;
  /** `body`: whatever `toBody` takes. */
  put(name: string, body: BodyInput, options?: PoolPutOptions): Promise<PoolPutResult>;
  get(name: string, options?: GetOptions): Promise<PoolGetResult>;
  stat(name: string, options?: OperationOptions): Promise<PoolObjectInfo>;
  list(prefix: string, options?: ListOptions): AsyncIterable<PoolObjectInfo>;
  delete(name: string, options?: DeleteOptions): Promise<PoolDeleteResult>;
  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** An object that is being read: take its bytes in one of these ways, or leave it by `await using`. */
export interface PoolGetResult extends GetResult {
  /** All bytes, in memory. */
  bytes(): Promise<Uint8Array>;
  /** All bytes as text. They must be UTF-8: throws `invalid` where they are not. */
  text(): Promise<string>;
  /** The bytes as a stream of the web. */
  stream(): ReadableStream<Uint8Array>;
  /** Ends the reading; nothing, where all bytes were taken. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Maintenance {
  /** Probes each store. */
  stores(options?: OperationOptions): Promise<readonly StoreReport[]>;
  /** What the ledger says is missing. Reads no object. */
  status(options?: OperationOptions): Promise<PoolStatus>;
  /** The debts of the ledger, in name order. */
  debts(options?: OperationOptions): AsyncIterable<Debt>;
  /** Reads and compares everything; changes nothing. */
  verify(options?: VerifyOptions): Promise<VerifyReport>;
  /** Makes right what is wrong, and takes a census at the end. */
  repair(options?: RepairOptions): Promise<RepairReport>;
  /** Makes a new pool although some of its stores do not answer; they join it when they do. A pool that exists stays. */
  create(): Promise<void>;
  /** Moves everything off a store (label or id). */
  drain(store: string, options?: DrainOptions): Promise<DrainReport>;
  /** Calls off the drain of a store (label or id): it takes objects again. */
  cancelDrain(store: string): Promise<void>;
  /** Gives up a store (label or id) that is gone for good: nothing is expected of it any more. Not one that answers. */
  forget(store: string): Promise<void>;
  /** Makes this machine forget which pool these stores are, so that another one can be made in their places. */
  forgetPool(): Promise<void>;
  /** Spreads objects over the stores again (stripe), or fills stores that came late (mirror); changes what the pool is. */
  rebalance(options?: RebalanceOptions): Promise<RepairReport>;
  /** Reads everything, or a sample, to nowhere, pretending that a store (label or id) is gone. */
  drill(options?: DrillOptions): Promise<DrillReport>;
}
