/** The answers of a pool, made from records and from the answers of its stores. */
import { HoldfastError } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import type { NameState, PutRecord, StoreId } from "../ledger/record.ts";
import { nestedLabel } from "../contract/nested-label.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";
import type { Debt } from "../contract/store.ts";
import type { PoolContext } from "./pool-context.ts";

/** The error of a put that too few stores hold: the last failure's code, with all stores' errors. */
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

/** The error for a store in whose place another one answers since the change began. */
export function isAnother(member: Member): HoldfastError {
  return new HoldfastError("unavailable", `${member.label} is another store now`, { store: member.label });
}

/** The error for a store that owes a put because another process's change, or an earlier request, may overwrite it. */
export function mayStillChange(member: Member): HoldfastError {
  return new HoldfastError("conflict", "an earlier request to it may still take effect", {
    store: member.label,
    operation: "put",
    retryable: true,
  });
}

/** The debts of a store that is a pool itself, with the labels of the pool above. */
export function debtsBelow(member: Member, owed: readonly Debt[] | undefined): readonly Debt[] {
  return owed?.map((debt) => ({ ...debt, store: nestedLabel(member.label, debt.store) })) ?? [];
}

/** The stores that may have some version of a name. */
export function formerStores(state: NameState | undefined): ReadonlySet<StoreId> {
  const ids = new Set<StoreId>();
  for (const record of state?.records ?? []) {
    for (const [id, mark] of Object.entries(record.copies)) if (mark.state !== "none") ids.add(id);
  }
  return ids;
}

/** An object's facts by its record. */
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
