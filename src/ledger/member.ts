/** A member: one store of a pool, with its identity and its ledger as far as this process knows them. */
import { createHash } from "node:crypto";
import { HoldfastError } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import type { StoreTrouble } from "../contract/pool.ts";
import type { Store } from "../contract/store.ts";
import type { StoreId } from "./record.ts";

/** The options of one member of a pool. */
export interface MemberOptions {
  /** The store, with its deadline and retries around it. */
  readonly store: Store;
  /** Digest of the store's address, without secrets. An unreachable store is recognised by it. */
  readonly fingerprint: string;
  /** Digests of the same address as earlier versions of Holdfast computed them. Default none. */
  readonly formerFingerprints?: readonly string[];
  /**
   * Mirror: names with one of these prefixes go only to the stores that have it. Names without a prefix of any store go
   * to all.
   */
  readonly prefixes?: readonly string[];
  /** Stripe with `place=weighted`: its share. Default 1. */
  readonly weight?: number;
}

export class Member {
  readonly store: Store;
  readonly fingerprint: string;
  /** The digests of its address: any of them identifies it. */
  readonly addresses: readonly string[];
  readonly prefixes: readonly string[];
  readonly weight: number;
  /** Position in the pool's file, from 0. */
  readonly position: number;
  /** From the store's identity, or from the ledger by its address; undefined while neither is known. */
  id: StoreId | undefined;
  /** Ids under which records named its address while its own id was unknown. */
  aliases: readonly StoreId[] = [];
  /** `ready`: its identity was read, and is this pool's. `new`: it answers, and may be given an identity. */
  state: "unheard" | "ready" | "new" | StoreTrouble = "unheard";
  /** Why it is not ready. */
  error: HoldfastError | undefined;
  /** Segments of the ledger seen on it. */
  segments: Set<string> = new Set();
  /** Segments written to it since its list was last asked for. That list may lack them. */
  written: Set<string> = new Set();
  /** How often this process gave it an identity. An answer from before the last time is outdated. */
  identified = 0;
  /**
   * The identity that this process intends for it. All attempts use the same one, because an attempt may take effect
   * late.
   */
  intended: StoreId | undefined;
  /** Whether this process has read its identity. */
  isNamed = false;
  /** Duration of the last answer to a hearing, in milliseconds. */
  latencyMs: number | undefined;
  /**
   * Whether the store was still writing when the last put with `wait=min` stopped waiting. The next such put does not
   * wait for it.
   */
  slow = false;
  /**
   * Writes to its ledger that have not ended. A batch does not wait for a member that is still writing an earlier one.
   */
  appending = 0;

  constructor(options: MemberOptions, position: number) {
    this.store = options.store;
    this.fingerprint = options.fingerprint;
    this.addresses = [options.fingerprint, ...(options.formerFingerprints ?? [])];
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

  /** Every id by which records may name this member. */
  get ids(): readonly StoreId[] {
    return this.id === undefined ? this.aliases : [this.id, ...this.aliases];
  }

  /** The id by which new records name it; undefined before the first write to the pool. */
  get owingId(): StoreId | undefined {
    return this.id ?? this.aliases[0];
  }

  /** Why the member cannot be used now, as an error. */
  trouble(): HoldfastError {
    const said =
      this.error?.within({ store: this.label }) ??
      new HoldfastError("unavailable", "it has not answered", { store: this.label });
    const why = TROUBLES[this.state];
    if (why === undefined || this.error !== undefined) return said;
    return new HoldfastError("unavailable", why(this.label), {
      store: this.label,
      retryable: false,
    });
  }
}

/** Messages for stores that answer but are not used, by state. */
const TROUBLES: Readonly<Record<string, (label: string) => string>> = {
  missing: (label) =>
    `it holds nothing of this pool, although it should. Is it mounted? If an empty one took its place, run: ${hint("repair", "--refill", label)}`,
  foreign: () => "it belongs to another pool",
  removed: (label) =>
    `it was replaced or given up, and came back as it was: take it away, or fill it anew with: ${hint("repair", "--refill", label)}`,
  twin: (label) =>
    `it has the identity of another store of this pool: it is a copy of that one, or the same place under another name; take it out, or fill it anew with: ${hint("repair", "--refill", label)}`,
};

/** The ledger's id for an address at which no identity was ever read. */
export function addressId(address: string): StoreId {
  return createHash("sha256").update(address).digest("hex").slice(0, 16);
}

/** Notes that a member has a segment. */
export function noteSegment(member: Member, name: string): void {
  member.segments.add(name);
  member.written.add(name);
}
