/** A member: one store of a pool, with what is known of its identity and of the ledger on it. */
import { createHash } from "node:crypto";
import { HoldfastError } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import type { StoreTrouble } from "../contract/pool.ts";
import type { Store } from "../contract/store.ts";
import type { StoreId } from "./record.ts";

/** How a member is given to a pool. */
export interface MemberOptions {
  /** The store, with its deadline and retries around it. */
  readonly store: Store;
  /** Digest of the store's address, without secrets: the same store is recognised by it while it cannot be reached. */
  readonly fingerprint: string;
  /** Digests that earlier versions of Holdfast made of the same address. Default none. */
  readonly formerFingerprints?: readonly string[];
  /** Mirror: only names with one of these prefixes go here. Empty: all names that no other store's prefix claims. */
  readonly prefixes?: readonly string[];
  /** Stripe with `place=weighted`: its share. Default 1. */
  readonly weight?: number;
}

export class Member {
  readonly store: Store;
  readonly fingerprint: string;
  /** By any of these it is recognised. */
  readonly addresses: readonly string[];
  readonly prefixes: readonly string[];
  readonly weight: number;
  /** Place in the pool's file, from 0. */
  readonly position: number;
  /** From the store's identity, or from the ledger by its address; undefined while neither is known. */
  id: StoreId | undefined;
  /** Ids under which its address owed something before it was known by its own. */
  aliases: readonly StoreId[] = [];
  /** - `ready`: its identity was read, and is this pool's. - `new`: it answers, and may be given an identity. */
  state: "unheard" | "ready" | "new" | StoreTrouble = "unheard";
  /** Why it is not ready. */
  error: HoldfastError | undefined;
  /** Segments of the ledger seen on it. */
  segments: Set<string> = new Set();
  /** Segments written to it since it was last asked for its list, which may therefore lack them. */
  written: Set<string> = new Set();
  /** How often it was given an identity by this process: an answer from before the last time is no longer true. */
  identified = 0;
  /** The identity that this process means to give it, the same at every attempt: one may take effect late. */
  intended: StoreId | undefined;
  /** Whether it has said who it is, in this process. */
  isNamed = false;
  /** How long it took to say who it is, the last time, in milliseconds. */
  latencyMs: number | undefined;
  /** Whether it kept a put waiting that had enough without it, the last time: then the next one does not wait at all. */
  late = false;
  /** Writes to its ledger that have not ended. A batch does not wait for a member that still has an earlier one. */
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

  /** Every id by which records may name it. */
  get ids(): readonly StoreId[] {
    return this.id === undefined ? this.aliases : [this.id, ...this.aliases];
  }

  /** The id by which records name it from now on; undefined before the pool was first written to. */
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

/** Why a store that answers is not used, by its state. */
const TROUBLES: Readonly<Record<string, (label: string) => string>> = {
  missing: (label) =>
    `it holds nothing of this pool, although it should. Is it mounted? If an empty one took its place, run: ${hint("repair", "--refill", label)}`,
  foreign: () => "it belongs to another pool",
  removed: (label) =>
    `it was replaced or given up, and came back as it was: take it away, or fill it anew with: ${hint("repair", "--refill", label)}`,
  twin: (label) =>
    `it has the identity of another store of this pool: it is a copy of that one, or the same place under another name; take it out, or fill it anew with: ${hint("repair", "--refill", label)}`,
};

/** The id by which the ledger names an address of which no store has ever said who it is. */
export function addressId(address: string): StoreId {
  return createHash("sha256").update(address).digest("hex").slice(0, 16);
}

/** Notes that a segment stands on a member. */
export function noteSegment(member: Member, name: string): void {
  member.segments.add(name);
  member.written.add(name);
}
