/** A put that has begun: the state of its name, the news from other processes, and the stores it went to. */
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Following } from "../ledger/following.ts";
import type { Member } from "../ledger/member.ts";
import type { NameState, StoreId } from "../ledger/record.ts";
import type { Debt } from "../contract/store.ts";

export interface PutInProgress {
  readonly name: string;
  /** Drawn at the beginning. The put takes another version if another process wrote the name meanwhile. */
  readonly version: Version;
  /** Versions that its record makes history, its intent's among them. */
  readonly settles: readonly Version[];
  /** The highest version of the name that the put is made over. */
  readonly base: Version;
  readonly state: NameState | undefined;
  /** Whether an intent tells others that the put has begun. */
  readonly hasIntent: boolean;
  readonly following: Following;
  /** The stores' ids at the beginning. A store with another id at the end does not have the put. */
  readonly ids: ReadonlyMap<Member, StoreId | undefined>;
  /** Stores that were asked to take its bytes, with any result. */
  readonly sentTo: Set<Member>;
  /** Stores that were given all of its bytes, with any result. No other store can have the object. */
  readonly offered: Set<Member>;
  /** Those of `sentTo` with a late request, although another attempt succeeded. */
  readonly landing: Set<Member>;
  /** Debts of it on members that are pools themselves. */
  readonly below: Map<Member, readonly Debt[]>;
}
