/** A member: one store of a pool, with what is known of its identity and of the ledger on it. */
import { HoldfastError } from "../errors.ts";
import type { StoreTrouble } from "../pool.ts";
import type { Store } from "../store.ts";
import type { StoreId } from "./record.ts";

/** How a member is given to a pool. */
export interface MemberOptions {
  /** The store, with its deadline and retries around it. */
  readonly store: Store;
  /** Digest of the store's URL without credentials: the same store is recognised by it while it cannot be reached. */
  readonly fingerprint: string;
  /** Mirror: only names with one of these prefixes go here. Empty: all names that no other store's prefix claims. */
  readonly prefixes?: readonly string[];
  /** Stripe with `place=weighted`: its share. Default 1. */
  readonly weight?: number;
}

export class Member {
  readonly store: Store;
  readonly fingerprint: string;
  readonly prefixes: readonly string[];
  readonly weight: number;
  /** Place in the pool's file, from 0. */
  readonly position: number;
  /** From the store's identity, or from the ledger by its fingerprint; undefined while neither is known. */
  id: StoreId | undefined;
  /** - `ready`: its identity was read, and is this pool's. - `new`: it answers, and has no identity yet. */
  state: "unheard" | "ready" | "new" | StoreTrouble = "unheard";
  /** Why it is not ready. */
  error: HoldfastError | undefined;
  /** Segments of the ledger seen on it. */
  segments: Set<string> = new Set();
  /** Segments written to it since it was last asked for its list, which may therefore lack them. */
  written: Set<string> = new Set();
  /** How often it was given an identity by this process: an answer from before the last time is no longer true. */
  identified = 0;
  /** How long it took to say who it is, the last time, in milliseconds. */
  latencyMs: number | undefined;
  /** Whether it kept a put waiting that had enough without it, the last time: then the next one does not wait at all. */
  late = false;
  /** Writes to its ledger that have not ended. A batch does not wait for a member that still has an earlier one. */
  appending = 0;

  constructor(options: MemberOptions, position: number) {
    this.store = options.store;
    this.fingerprint = options.fingerprint;
    this.prefixes = options.prefixes ?? [];
    this.weight = options.weight ?? 1;
    this.position = position;
  }

  get label(): string {
    return this.store.label;
  }

  get ready(): boolean {
    return this.state === "ready";
  }

  /** Whether the store answers and may be read. A new one may hold objects from before the ledger. */
  get readable(): boolean {
    return this.state === "ready" || this.state === "new";
  }

  /** Why the member cannot be used now, as an error. */
  trouble(): HoldfastError {
    if (this.state === "missing") {
      return new HoldfastError(
        "unavailable",
        `${this.label} belongs to this pool but holds nothing of it: is it mounted? (if it was replaced: holdfast repair --refill)`,
        { store: this.label, retryable: false },
      );
    }
    if (this.state === "foreign") {
      return new HoldfastError("unavailable", `${this.label} belongs to another pool`, {
        store: this.label,
        retryable: false,
      });
    }
    return (
      this.error?.within({ store: this.label }) ??
      new HoldfastError("unavailable", `${this.label} has not answered`, { store: this.label })
    );
  }
}

/** Notes that a segment stands on a member. */
export function noteSegment(member: Member, name: string): void {
  member.segments.add(name);
  member.written.add(name);
}
