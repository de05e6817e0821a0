/** What a pool answers, put together from records and from what each store said. */
import { HoldfastError } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import type { NameState, PutRecord, StoreId } from "../ledger/record.ts";
import { nestedLabel } from "../contract/nested-label.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";
import type { Debt } from "../contract/store.ts";
import type { PoolContext } from "./pool-context.ts";

/** Fewer stores than needed hold the put: the last failure's error, with every store's cause. */
export function tooFew(
  pool: PoolContext,
  targets: readonly Member[],
  failed: ReadonlyMap<Member, HoldfastError>,
): HoldfastError {
  const errors = targets.flatMap((member) => failed.get(member) ?? []);
  const last = errors.at(-1) ?? new HoldfastError("unavailable", "no store took it");
  const causes = errors.map((error) => `${error.store ?? "a store"}: ${error.message}`).join("; ");
  const wanted = pool.min > 1 ? `fewer than ${pool.min} stores took it` : "every store failed";
  return new HoldfastError(last.code, `${wanted} (${causes})`, {
    store: pool.label,
    operation: "put",
    cause: last,
    errors,
    retryable: errors.some((error) => error.retryable),
    retryAfterMs: last.retryAfterMs,
  });
}

/** Why a store has nothing of a change: it is not the one that was there when the change began. */
export function isAnother(member: Member): HoldfastError {
  return new HoldfastError("unavailable", `${member.label} is another store now`, { store: member.label });
}

/** Why a store counts as owing what was put: somebody else's change of it, or an earlier request, may come on top. */
export function mayStillChange(member: Member): HoldfastError {
  return new HoldfastError("conflict", "an earlier request to it may still take effect", {
    store: member.label,
    operation: "put",
    retryable: true,
  });
}

/** What a store that is a pool itself still owes, by the name that it has from above. */
export function debtsBelow(member: Member, owed: readonly Debt[] | undefined): readonly Debt[] {
  return owed?.map((debt) => ({ ...debt, store: nestedLabel(member.label, debt.store) })) ?? [];
}

/** Stores on which some version of a name may stand. */
export function formerStores(state: NameState | undefined): ReadonlySet<StoreId> {
  const ids = new Set<StoreId>();
  for (const record of state?.records ?? []) {
    for (const [id, mark] of Object.entries(record.copies)) if (mark.state !== "none") ids.add(id);
  }
  return ids;
}

/** What is told of an object by its record. */
export function infoOf(name: string, record: PutRecord): PoolObjectInfo {
  return {
    name,
    size: record.content.size,
    modifiedMs: versionMs(record.version),
    sha256: record.content.sha256,
    digests: { sha256: record.content.sha256 },
    ...(record.metadata === undefined ? {} : { metadata: record.metadata }),
  };
}
