/**
 * Deletes of a pool: the tombstone first, then the stores are heard, then the bytes go; what a store missed, it owes.
 *
 * Between the tombstone and the bytes one hearing tells whether somebody else writes the name: what was recorded before the
 * delete ended is deleted with it, under a new tombstone above it; what is being written stays, and repair decides.
 */
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Following } from "../ledger/following.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, highestVersion, isPut } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, StoreId } from "../ledger/record.ts";
import { compareNames } from "../contract/names.ts";
import type { PoolDeleteResult } from "../contract/pool.ts";
import type { Debt, OperationOptions } from "../contract/store.ts";
import { checkHeld } from "./capabilities.ts";
import { ownFile, pendingKey } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import { debtsBelow, formerStores, isAnother, tooFew } from "./pool-answers.ts";

/** How often a tombstone is written anew because others write the same name, at most. */
const MAX_ROUNDS = 8;

export class PoolDeletes {
  readonly #pool: PoolContext;

  constructor(pool: PoolContext) {
    this.#pool = pool;
  }

  /** To be called while nobody else in this process changes the name. */
  async delete(name: string, options: OperationOptions): Promise<PoolDeleteResult> {
    const { ledger } = this.#pool;
    await ledger.initialise();
    const following = ledger.follow(name);
    try {
      // What is not there by what was heard may be there by now.
      if (!isPut(currentRecord(ledger.index.get(name)))) await ledger.hear();
      const state = ledger.index.get(name);
      const current = currentRecord(state);
      let existed = isPut(current);
      if (state === undefined) {
        checkHeld(name, this.#pool.capabilities);
        const answers = await this.#pool.statAll(name, options);
        existed = answers.some(([, answer]) => !(answer instanceof HoldfastError));
        const certain = answers.every(
          ([, answer]) => !(answer instanceof HoldfastError) || answer.code === "not-found",
        );
        if (!existed && certain && ledger.members.every((member) => member.readable))
          return { existed: false, owed: [] };
      } else if (current?.kind === "delete" && state.records.length === 1) {
        // Whoever deleted it may have told too few stores, and failed.
        const { told, failed } = await this.#tell({ ...current, copies: {} });
        if (!this.#isEnough(told)) throw tooFew(this.#pool, ledger.members, failed);
        return { existed: false, owed: this.#pool.debtsOf(current) };
      }
      const own = ledger.members.filter((member) => this.#pool.hasOwnFiles(member, state));
      const { record, failed } = await this.#bury(name, state, following);
      for (const member of own) if (!failed.has(member)) failed.set(member, ownFile(member, name, "delete"));
      ledger.index.setFact(pendingKey(name), undefined);
      const owed = await this.deleteFrom(record, ledger.members, following.foreign, failed);
      if (owed.length > 0) this.#pool.logger.warn("degraded", { object: name, owing: owed.map((debt) => debt.store) });
      ledger.maintainSoon();
      return { existed, owed };
    } finally {
      following.end();
    }
  }

  /** Makes the tombstone durable, above everything that is heard of the name. */
  async #bury(
    name: string,
    state: NameState | undefined,
    following: Following,
  ): Promise<{ readonly record: ObjectRecord; readonly failed: Map<Member, HoldfastError> }> {
    const { ledger } = this.#pool;
    const settles = new Set<Version>();
    let base = highestVersion(state);
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const known = ledger.index.get(name);
      const record = this.#tombstone(name, [state, known], base, settles);
      const { told, failed } = await this.#tell(record);
      if (!this.#isEnough(told)) {
        if (told > 0) await this.#undo(known, record);
        throw tooFew(this.#pool, ledger.members, failed);
      }
      await ledger.hear();
      ledger.checkEpoch();
      const finished = following.take().filter((one) => one.kind !== "intent" && one.version !== record.version);
      const others = (ledger.index.get(name)?.records ?? []).filter(
        (one) => one.kind !== "intent" && one.version !== record.version,
      );
      if (finished.length === 0 || others.length === 0) return { record, failed };
      // Of two that delete it at once, the higher version stays, and both go on by it.
      if (others.every((one) => one.kind === "delete")) return { record: await this.#highest(record, others), failed };
      settles.add(record.version);
      for (const other of others) {
        settles.add(other.version);
        if (other.base > base) base = other.base;
      }
    }
    throw new HoldfastError("conflict", "somebody else writes the same object at the same moment", {
      object: name,
      retryable: true,
    });
  }

  /** The highest of several tombstones, which from now on makes the others history. */
  async #highest(own: ObjectRecord, others: readonly ObjectRecord[]): Promise<ObjectRecord> {
    const all = [own, ...others].sort((a, b) => (a.version < b.version ? 1 : -1));
    const [highest = own, ...lower] = all;
    const base = all.reduce((most, one) => (one.base > most ? one.base : most), "");
    const settles = [...new Set([...(highest.settles ?? []), ...lower.map(({ version }) => version)])].sort();
    const record = { ...highest, base, settles };
    await this.#tell(record);
    return record;
  }

  /** Writes a record on every store: how many have it, and why the others do not. */
  async #tell(
    record: ObjectRecord,
    others: readonly ObjectRecord[] = [],
  ): Promise<{ readonly told: number; readonly failed: Map<Member, HoldfastError> }> {
    const failed = new Map<Member, HoldfastError>();
    const appended = this.#pool.ledger.append({ objects: [record, ...others] });
    for (const [member, outcome] of appended) {
      const error = await outcome;
      if (error !== undefined) failed.set(member, error);
    }
    return { told: appended.size - failed.size, failed };
  }

  #isEnough(told: number): boolean {
    return told >= Math.max(1, Math.min(this.#pool.min, this.#pool.ledger.members.length));
  }

  /** Says first that every store owes the delete: what is not confirmed afterwards stays owed. */
  #tombstone(
    name: string,
    states: readonly (NameState | undefined)[],
    base: Version,
    settled: ReadonlySet<Version>,
  ): ObjectRecord {
    const { ledger } = this.#pool;
    const version = ledger.stamp(...states.flatMap((state) => state?.records ?? []));
    const copies: Record<StoreId, CopyMark> = {};
    for (const { owingId } of ledger.members) {
      if (owingId !== undefined) copies[owingId] = { state: "delete", rev: version };
    }
    for (const id of states.flatMap((state) => [...formerStores(state)])) {
      if (ledger.memberById(id) === undefined) copies[id] ??= { state: "delete", rev: version, reason: "absent" };
    }
    const settles = [...settled].sort();
    const before = states.map(currentRecord).find((record) => record !== undefined);
    const former = before?.content?.sha256 ?? before?.former;
    return {
      name,
      version,
      base,
      kind: "delete",
      copies,
      ...(former === undefined ? {} : { former }),
      ...(settles.length > 0 ? { settles } : {}),
    };
  }

  /**
   * A delete that failed must not have happened for those who read the few stores that were told: nothing is gone yet.
   * What was known before is said again as it was, so that it makes nothing history that this machine has not heard of.
   */
  async #undo(known: NameState | undefined, tombstone: ObjectRecord): Promise<void> {
    const { ledger } = this.#pool;
    const current = currentRecord(known);
    if (current !== undefined) {
      const others = known?.records.filter((record) => record !== current) ?? [];
      await this.#tell({ ...current, undone: [...(current.undone ?? []), tombstone.version] }, others);
      return;
    }
    // There is no record that could carry it.
    const rev = ledger.stamp(tombstone);
    const copies = Object.entries(tombstone.copies).map(([id, mark]) => [id, { ...mark, rev, reason: "not begun" }]);
    await this.#tell({ ...tombstone, copies: Object.fromEntries(copies) as ObjectRecord["copies"] });
  }

  /**
   * Deletes what `record` says that `members` owe, and notes what was done. Gives what is still owed. The stores were heard
   * since the record is on them. `before`: what others said of the name, for requests that may still take effect.
   */
  async deleteFrom(
    record: ObjectRecord,
    members: readonly Member[],
    before: NameState | undefined,
    failed: ReadonlyMap<Member, HoldfastError> = new Map(),
  ): Promise<Debt[]> {
    const owed: Debt[] = [];
    const ended: Record<StoreId, CopyMark> = {};
    const done = new Map<Member, StoreId | undefined>();
    if (members.length === 0) return owed;
    const { ledger } = this.#pool;
    const contested = this.#contested(record);
    const owe = (member: Member, id: StoreId | undefined, error: HoldfastError, mayLand = false): void => {
      owed.push(this.#debt(record, member, error));
      if (id === undefined) return;
      const rev = ledger.stamp(record);
      const late = mayLand ? rev : (ended[id]?.late ?? this.#pool.lateOn(member, before));
      // A delete that has ended is told apart from one that is under way, however it ended.
      ended[id] = { state: "delete", rev, reason: error.code, ...(late === undefined ? {} : { late }) };
    };
    await Promise.all(
      members.map(async (member) => {
        const id = member.owingId;
        const refused = failed.get(member) ?? contested ?? (member.ready ? undefined : member.trouble());
        if (refused !== undefined) return owe(member, id, refused);
        try {
          const result = await member.store.delete(record.name);
          owed.push(...debtsBelow(member, result.owed));
          done.set(member, id);
          if (id !== undefined) ended[id] = this.#deleted(record, member, result.mayLand === true, before);
        } catch (caught) {
          const error = toHoldfastError(caught).within({
            store: member.label,
            operation: "delete",
            object: record.name,
          });
          owe(member, id, error, error.mayLand);
        }
      }),
    );
    if (done.size > 0) await ledger.hear();
    for (const [member, id] of done) {
      // What was deleted counts only if the store is still the one that was meant.
      if (member.ready && member.owingId === id) continue;
      done.delete(member);
      owe(member, id, member.ready ? isAnother(member) : member.trouble());
    }
    // May follow later: until then the delete is owed, which is true as far as anyone else can know.
    ledger.appendLater([{ ...record, copies: ended }]);
    await this.#oweWhatWasPut(
      record,
      [...done.values()].filter((id) => id !== undefined),
    );
    return owed.sort((a, b) => compareNames(a.store, b.store));
  }

  /** The mark of a store that has deleted its copy: it has none, but for a request that may still take effect. */
  #deleted(record: ObjectRecord, member: Member, mayLand: boolean, before: NameState | undefined): CopyMark {
    const rev = this.#pool.ledger.stamp(record);
    const late = mayLand ? rev : this.#pool.lateOn(member, before);
    return late === undefined ? { state: "none", rev } : { state: "delete", rev, reason: "late", late };
  }

  #debt(record: ObjectRecord, member: Member, error: HoldfastError): Debt {
    return {
      object: this.#pool.shownName(record.name),
      store: member.label,
      owes: "delete",
      sinceMs: versionMs(record.version),
      reason: error.message,
    };
  }

  /**
   * Stores have no delete on a condition: what another machine put between the look and the delete went with it. That
   * machine knows that a delete was under way; should it not have waited for its end, the stores owe the copy.
   */
  async #oweWhatWasPut(record: ObjectRecord, ids: readonly StoreId[]): Promise<void> {
    const { ledger } = this.#pool;
    if (ids.length === 0 || ledger.soleWriter) return;
    const newer = currentRecord(ledger.index.get(record.name));
    if (!isPut(newer) || newer.version <= record.version) return;
    const owed = ledger.owedAnew(newer, ids, "deleted at the same moment");
    await Promise.all(ledger.append({ objects: [owed] }).values());
  }

  /** Why nothing may be deleted on the word of `record`: somebody else changes the name too. */
  #contested(record: ObjectRecord): HoldfastError | undefined {
    const state = this.#pool.ledger.index.get(record.name);
    if (state?.records.length === 1 && state.records[0]?.version === record.version) return undefined;
    return new HoldfastError("conflict", "another process changes it at the same moment");
  }
}
