/** Deletes of a pool: the tombstone first, then the bytes; what a store missed, it owes. */
import { HoldfastError, toHoldfastError } from "../errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion, isPut } from "../ledger/record.ts";
import type { CopyMark, ObjectRecord, StoreId } from "../ledger/record.ts";
import { compareNames } from "../names.ts";
import type { PoolDeleteResult } from "../pool.ts";
import type { Debt, OperationOptions } from "../store.ts";
import { checkHeld } from "./capabilities.ts";
import { pendingKey } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import { debtsBelow, formerStores, tooFew } from "./pool-answers.ts";

export class PoolDeletes {
  readonly #pool: PoolContext;

  constructor(pool: PoolContext) {
    this.#pool = pool;
  }

  /** To be called while nobody else in this process changes the name. */
  async delete(name: string, options: OperationOptions): Promise<PoolDeleteResult> {
    await this.#pool.ledger.initialise();
    const state = this.#pool.ledger.index.get(name);
    const current = currentRecord(state);
    let existed = isPut(current);
    if (state === undefined) {
      checkHeld(name, this.#pool.capabilities);
      const answers = await this.#pool.statAll(name, options);
      existed = answers.some(([, answer]) => !(answer instanceof HoldfastError));
      const certain = answers.every(([, answer]) => !(answer instanceof HoldfastError) || answer.code === "not-found");
      if (!existed && certain && this.#pool.ledger.members.every((member) => member.readable))
        return { existed: false, owed: [] };
    } else if (current?.kind === "delete" && state.records.length === 1) {
      const owed = this.#pool.debtsOf(current);
      return { existed: false, owed };
    }
    // The tombstone says first that every store owes the delete: what is not confirmed below stays owed.
    const version = this.#pool.ledger.stamp(...(state?.records ?? []));
    const copies: Record<StoreId, CopyMark> = {};
    for (const member of this.#pool.ledger.members) {
      if (member.id !== undefined) copies[member.id] = { state: "delete", rev: version };
    }
    for (const id of formerStores(state)) copies[id] ??= { state: "delete", rev: version };
    const record: ObjectRecord = { name, version, base: highestVersion(state), kind: "delete", copies };
    const appended = this.#pool.ledger.append({ objects: [record] });
    const failed = new Map<Member, HoldfastError>();
    await Promise.all(
      this.#pool.ledger.members.map(async (member) => {
        const error = await appended.get(member);
        if (error !== undefined) failed.set(member, error);
      }),
    );
    const told = this.#pool.ledger.members.filter((member) => !failed.has(member));
    if (told.length < Math.max(1, Math.min(this.#pool.min, this.#pool.ledger.members.length)))
      throw tooFew(this.#pool, this.#pool.ledger.members, failed);
    this.#pool.ledger.index.setFact(pendingKey(name), undefined);
    const owed = await this.deleteFrom(record, this.#pool.ledger.members, failed);
    if (owed.length > 0) this.#pool.logger.warn("degraded", { object: name, owing: owed.map((debt) => debt.store) });
    this.#pool.ledger.maintainSoon();
    return { existed, owed };
  }

  /** Deletes what `record` says that `members` owe, and notes what was done. Gives what is still owed. */
  async deleteFrom(
    record: ObjectRecord,
    members: readonly Member[],
    failed: ReadonlyMap<Member, HoldfastError> = new Map(),
  ): Promise<Debt[]> {
    const owed: Debt[] = [];
    const done: Record<StoreId, CopyMark> = {};
    if (members.length === 0) return owed;
    // What stands on a store now may be what another process has just put there: then repair decides, on what it sees.
    const contested = await this.#contested(record);
    await Promise.all(
      members.map(async (member) => {
        let error = failed.get(member) ?? contested ?? (member.ready ? undefined : member.trouble());
        try {
          if (error === undefined) owed.push(...debtsBelow(member, (await member.store.delete(record.name)).owed));
        } catch (caught) {
          error = toHoldfastError(caught).within({ store: member.label, operation: "delete", object: record.name });
        }
        if (error !== undefined) {
          owed.push({
            object: this.#pool.shownName(record.name),
            store: member.label,
            owes: "delete",
            sinceMs: versionMs(record.version),
            reason: error.message,
          });
        } else if (member.id !== undefined) {
          done[member.id] = { state: "none", rev: this.#pool.ledger.stamp(record) };
        }
      }),
    );
    // May follow later: until then the delete is owed, which is true as far as anyone else can know.
    if (Object.keys(done).length > 0) {
      this.#pool.ledger.appendLater([{ ...record, copies: done }]);
      await this.#oweWhatWasPut(record, Object.keys(done));
    }
    return owed.sort((a, b) => compareNames(a.store, b.store));
  }

  /**
   * Stores have no delete on a condition: what another machine put between the look and the delete went with it. The
   * stores owe its copy then, which repair brings from those that the delete did not reach.
   */
  async #oweWhatWasPut(record: ObjectRecord, ids: readonly StoreId[]): Promise<void> {
    const { ledger } = this.#pool;
    if (ledger.soleWriter) return;
    await ledger.hear();
    const newer = currentRecord(ledger.index.get(record.name));
    if (!isPut(newer) || newer.version <= record.version) return;
    const owed = ledger.owedAnew(newer, ids, "deleted at the same moment");
    await Promise.all(ledger.append({ objects: [owed] }).values());
  }

  /** Why nothing may be deleted on the word of `record`: another process changes the name too. */
  async #contested(record: ObjectRecord): Promise<HoldfastError | undefined> {
    await this.#pool.ledger.hear();
    const state = this.#pool.ledger.index.get(record.name);
    if (state?.records.length === 1 && state.records[0]?.version === record.version) return undefined;
    return new HoldfastError("conflict", "another process changes it at the same moment");
  }
}
