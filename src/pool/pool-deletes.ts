/**
 * Deletes of a pool. The tombstone is written first, then the stores are heard, then the copies are deleted. A store that
 * misses its delete owes it.
 *
 * The hearing between shows whether another process writes the name. A version recorded before the delete ended is deleted
 * with it, under a new tombstone above it. A write that is still under way stays, and repair decides.
 */
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import type { Following } from "../ledger/following.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut, takenBackTombstone } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, StoreId } from "../ledger/record.ts";
import { compareNames } from "../contract/names.ts";
import type { PoolDeleteResult } from "../contract/pool.ts";
import type { Debt, OperationOptions } from "../contract/store.ts";
import { checkHeld } from "./capabilities.ts";
import { ownFile, pendingKey } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import { debtsBelow, formerStores, isAnother, tooFew } from "./pool-answers.ts";
import { keepAnnounced } from "./renewal.ts";

/** The tombstone is written anew at most this often because others write the same name. */
const MAX_ROUNDS = 8;

export class PoolDeletes {
  readonly #pool: PoolContext;

  constructor(pool: PoolContext) {
    this.#pool = pool;
  }

  /** Call it only while holding the name (`exclusive`). */
  async delete(name: string, options: OperationOptions): Promise<PoolDeleteResult> {
    const { ledger } = this.#pool;
    await ledger.initialise();
    const following = ledger.follow(name);
    try {
      // An object that was unknown at the last hearing may exist by now.
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
        // An earlier delete may have failed after it told too few stores.
        const { told, failed } = await this.#tell({ ...current, copies: {} });
        if (!this.#isEnough(told.length)) throw tooFew(this.#pool, ledger.members, failed);
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

  /** Makes the tombstone durable, with a version above all that are heard of the name. */
  async #bury(
    name: string,
    state: NameState | undefined,
    following: Following,
  ): Promise<{ readonly record: ObjectRecord; readonly failed: Map<Member, HoldfastError> }> {
    const { ledger } = this.#pool;
    // A put that another process has begun may still overwrite whatever comes after this delete, so it stays known.
    const ground = this.#pool.groundOf(state);
    const settles = new Set(ground.settles);
    let { base } = ground;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const known = ledger.index.get(name);
      const record = this.#tombstone(name, [state, known], base, settles);
      const ids = new Map(ledger.members.map((member) => [member, member.id]));
      const { told, failed } = await this.#tell(record);
      if (this.#isEnough(told.length)) {
        await ledger.hear();
        ledger.checkEpoch();
      }
      // What went to a folder in a store's place is on no store of the pool.
      const lost = told.filter((member) => !member.ready || member.id !== ids.get(member));
      if (!this.#isEnough(told.length - lost.length)) {
        for (const member of lost) failed.set(member, member.ready ? isAnother(member) : member.trouble());
        if (told.length > 0) await this.#undo(known, record);
        throw tooFew(this.#pool, ledger.members, failed);
      }
      const finished = following.take().filter((one) => one.kind !== "intent" && one.version !== record.version);
      const others = (ledger.index.get(name)?.records ?? []).filter(
        (one) => one.kind !== "intent" && one.version !== record.version,
      );
      if (finished.length === 0 || others.length === 0) return { record, failed };
      // If two processes delete it at once, both go on with the higher tombstone.
      if (others.every((one) => one.kind === "delete")) return { record: await this.#highest(record, others), failed };
      settles.add(record.version);
      for (const other of others) {
        settles.add(other.version);
        if (other.base > base) base = other.base;
      }
    }
    throw new HoldfastError("conflict", "another process writes the same object at the same moment", {
      object: name,
      retryable: true,
    });
  }

  /** Writes the highest of several tombstones anew, so that it makes the others history. */
  async #highest(own: ObjectRecord, others: readonly ObjectRecord[]): Promise<ObjectRecord> {
    const all = [own, ...others].sort((a, b) => (a.version < b.version ? 1 : -1));
    const [highest = own, ...lower] = all;
    const base = all.reduce((most, one) => (one.base > most ? one.base : most), "");
    const settles = [...new Set([...(highest.settles ?? []), ...lower.map(({ version }) => version)])].sort();
    const record = { ...highest, base, settles };
    await this.#tell(record);
    return record;
  }

  /** Writes a record on every store. Returns those that have it, and the errors of the others. */
  async #tell(
    record: ObjectRecord,
    others: readonly ObjectRecord[] = [],
  ): Promise<{ readonly told: readonly Member[]; readonly failed: Map<Member, HoldfastError> }> {
    const told: Member[] = [];
    const failed = new Map<Member, HoldfastError>();
    for (const [member, outcome] of this.#pool.ledger.append({ objects: [record, ...others] })) {
      const error = await outcome;
      if (error === undefined) told.push(member);
      else failed.set(member, error);
    }
    return { told, failed };
  }

  #isEnough(told: number): boolean {
    return told >= Math.max(1, Math.min(this.#pool.min, this.#pool.ledger.members.length));
  }

  /** The tombstone, with the delete owed by every store. A delete that is not confirmed afterwards stays owed. */
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
   * Takes back the tombstone of a failed delete from the few stores that have it. No copy is deleted yet. The former
   * records are written again as they were, so that they make nothing history that this machine has not heard of.
   */
  async #undo(known: NameState | undefined, tombstone: ObjectRecord): Promise<void> {
    const { ledger } = this.#pool;
    const current = currentRecord(known);
    if (current !== undefined) {
      const others = known?.records.filter((record) => record !== current) ?? [];
      return this.#tellOrKeep({ ...current, undone: [...(current.undone ?? []), tombstone.version] }, others);
    }
    const rev = ledger.stamp(tombstone);
    const copies = Object.entries(tombstone.copies).map(([id, mark]) => [id, { ...mark, rev, reason: "not begun" }]);
    const copied = Object.fromEntries(copies) as ObjectRecord["copies"];
    await this.#tellOrKeep(takenBackTombstone(tombstone.name, ledger.writer, [tombstone.version], copied));
  }

  /** Writes records on every store. If no store takes them, they are written later, and this machine goes by them until then. */
  async #tellOrKeep(record: ObjectRecord, others: readonly ObjectRecord[] = []): Promise<void> {
    const { ledger } = this.#pool;
    const { told } = await this.#tell(record, others);
    if (told.length > 0) return;
    ledger.noteBegun([record, ...others]);
    ledger.appendLater([record, ...others]);
  }

  /**
   * Deletes the copies of `members` that `record` says they owe to delete, and notes the results. Returns the remaining
   * debts. Call it only after a hearing that followed the record. `before`: others' records of the name, with their late
   * requests.
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
    const deleting = new Set<StoreId>();
    const owe = (member: Member, id: StoreId | undefined, error: HoldfastError, mayLand = false): void => {
      owed.push(this.#debt(record, member, error));
      if (id === undefined) return;
      const rev = ledger.stamp(record);
      const late = mayLand ? rev : (ended[id]?.late ?? this.#pool.lateOn(member, before));
      // The reason tells a delete that has ended from one that is under way.
      ended[id] = { state: "delete", rev, reason: error.code, ...(late === undefined ? {} : { late }) };
    };
    const stopRenewing = keepAnnounced(this.#pool, record, ledger.lateMs, (id) => !deleting.has(id));
    await Promise.all(
      members.map(async (member) => {
        const id = member.owingId;
        const refused = failed.get(member) ?? contested ?? (member.ready ? undefined : member.trouble());
        if (refused !== undefined) return owe(member, id, refused);
        if (id !== undefined) deleting.add(id);
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
        } finally {
          if (id !== undefined) deleting.delete(id);
        }
      }),
    );
    stopRenewing();
    if (done.size > 0) await ledger.hear();
    for (const [member, id] of done) {
      // A delete counts only if the store is still the intended one.
      if (member.ready && member.owingId === id) continue;
      done.delete(member);
      owe(member, id, member.ready ? isAnother(member) : member.trouble());
    }
    // These marks may follow later. Until then the delete counts as owed, which costs only another attempt.
    ledger.appendLater([{ ...record, copies: ended }]);
    await this.#oweWhatWasPut(
      record,
      [...done.values()].filter((id) => id !== undefined),
    );
    return owed.sort((a, b) => compareNames(a.store, b.store));
  }

  /** The mark of a store that has deleted its copy: `none`, or `delete` while a late request may still take effect. */
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
   * Stores have no conditional delete, so a copy that another machine put meanwhile was deleted too. That machine knew
   * of the delete. If it did not wait for its end, the stores now owe the copy.
   */
  async #oweWhatWasPut(record: ObjectRecord, ids: readonly StoreId[]): Promise<void> {
    const { ledger } = this.#pool;
    if (ids.length === 0 || ledger.soleWriter) return;
    const newer = currentRecord(ledger.index.get(record.name));
    if (!isPut(newer) || newer.version <= record.version) return;
    const owed = ledger.owedAnew(newer, ids, "deleted at the same moment");
    await Promise.all(ledger.append({ objects: [owed] }).values());
  }

  /** The error if nothing may be deleted because of `record`, since another process changes the name too. */
  #contested(record: ObjectRecord): HoldfastError | undefined {
    const state = this.#pool.ledger.index.get(record.name);
    if (state?.records.length === 1 && state.records[0]?.version === record.version) return undefined;
    return new HoldfastError("conflict", "another process changes it at the same moment");
  }
}
