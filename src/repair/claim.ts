/**
 * Claims: before repair changes copies, it announces that, and then checks that no other process changes the object.
 *
 * The claim, an intent of repair, is durable on each store to be changed before the stores are heard. A process that
 * writes the name either hears of the claim, and does not count those stores as holders until the claim is released; or
 * repair hears of its write, and leaves the object to it.
 */
import type { HoldfastError } from "../contract/errors.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, StoreId } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { keepAnnounced } from "../pool/renewal.ts";

export interface Claim {
  readonly version: Version;
  /** The stores that have the claim. Only these may be changed. */
  readonly members: ReadonlySet<Member>;
  /** The errors of the stores that do not have it. */
  readonly refused: ReadonlyMap<Member, HoldfastError>;
  /** Call it when the changes have ended. */
  readonly stopRenewing: () => void;
}

/**
 * Claims a name in the state in which it was `seen`. Undefined: another process changes it, or no store took the claim.
 * `changes`: the stores to be changed, and how.
 */
export async function claimName(
  pool: PoolContext,
  name: string,
  seen: NameState | undefined,
  changes: ReadonlyMap<Member, "copy" | "delete">,
): Promise<Claim | undefined> {
  const { ledger } = pool;
  const version = ledger.stamp(...(seen?.records ?? []));
  const copies: Record<StoreId, CopyMark> = {};
  for (const [{ owingId }, state] of changes) if (owingId !== undefined) copies[owingId] = { state, rev: version };
  const record: ObjectRecord = { name, version, base: highestVersion(seen), kind: "intent", repair: true, copies };
  const appended = ledger.append({ objects: [record] });
  const outcomes = await Promise.all([...appended].map(async ([member, outcome]) => [member, await outcome] as const));
  const told = new Set(outcomes.filter(([, error]) => error === undefined).map(([member]) => member));
  const refused = new Map(
    outcomes.flatMap(([member, error]) => (error === undefined ? [] : [[member, error] as const])),
  );
  if (told.size === 0) return undefined;
  await ledger.hear();
  if (sameVersions(ledger.index.get(name), seen, version))
    return { version, members: told, refused, stopRenewing: keepAnnounced(pool, record, ledger.lateMs) };
  const current = currentRecord(ledger.index.get(name));
  if (current !== undefined) ledger.appendLater([{ ...current, copies: {}, settles: [version] }]);
  return undefined;
}

/** Whether a name has only the versions that were `seen`, and the claim. */
export function sameVersions(now: NameState | undefined, seen: NameState | undefined, claim?: Version): boolean {
  const versions = (state: NameState | undefined): string =>
    (state?.records ?? [])
      .filter((record) => record.version !== claim)
      .map((record) => `${record.version}${record.kind}`)
      .join(" ");
  return versions(now) === versions(seen);
}
