/** A put that has begun: what was known of its name, what others say of it meanwhile, and which stores it went to. */
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Following } from "../ledger/following.ts";
import type { Member } from "../ledger/member.ts";
import type { NameState, StoreId } from "../ledger/record.ts";
import type { Debt } from "../contract/store.ts";

export interface PutInProgress {
  readonly name: string;
  /** Drawn when it began. The put takes another one where somebody else wrote the name meanwhile. */
  readonly version: Version;
  /** The version of its intent, where that is another one. */
  readonly settles: readonly Version[];
  /** The highest version of the name that was known when it began. */
  readonly base: Version;
  readonly state: NameState | undefined;
  /** Others know that it has begun. */
  readonly hasIntent: boolean;
  readonly following: Following;
  /** Who the stores were when it began: a store that is another one by its end has not got it. */
  readonly ids: ReadonlyMap<Member, StoreId | undefined>;
  /** Stores that were asked to take bytes of it, whatever came of that. */
  readonly sentTo: Set<Member>;
  /** Of these, the ones where an attempt ended without an answer and may still take effect, though another one succeeded. */
  readonly landing: Set<Member>;
  /** What members that are pools themselves still owe of it. */
  readonly below: Map<Member, readonly Debt[]>;
}
