/** Stripe: brings the bytes that each store holds near to its share, by its weight. */
import { throwIfAborted } from "../contract/errors.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { NameState, PutRecord } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import type { RepairOptions } from "../contract/pool.ts";
import type { ObjectPlan } from "./assess.ts";
import { mend } from "./mend.ts";
import type { Mended } from "./mend.ts";

/** Steps planned, done and failed, and the bytes that were copied. */
export interface Sum {
  planned: number;
  done: number;
  failed: number;
  bytes: number;
}

export class Spread {
  readonly #pool: PoolContext;
  readonly #taking: readonly Member[];
  readonly #held = new Map<Member, number>();
  #total = 0;

  /** Counts the bytes on the stores. Create it only after a hearing. */
  constructor(pool: PoolContext) {
    this.#pool = pool;
    this.#taking = pool.ledger.members.filter((member) => member.ready && !pool.ledger.isDraining(member));
    this.#count();
  }

  /** Chooses the store that keeps an object of `bytes` bytes, of those that have it. */
  readonly keepOne = (members: readonly Member[], bytes: number): Member | undefined => {
    const keeper = this.#leastLoaded(members);
    if (keeper !== undefined) this.#add(keeper, bytes);
    return keeper;
  };

  #leastLoaded(members: readonly Member[]): Member | undefined {
    return [...members].sort((a, b) => this.#excess(a) - this.#excess(b))[0];
  }

  /** Moves objects from stores that hold more than their share to those that hold less. */
  async move(options: RepairOptions): Promise<Sum> {
    const sum = { planned: 0, done: 0, failed: 0, bytes: 0 };
    this.#count();
    for (const [name, , holder] of this.#singly(options.prefix ?? "")) {
      throwIfAborted(options.signal);
      await this.#pool.hold(name, () => this.#moveOne(name, holder, options, sum));
    }
    return sum;
  }

  #count(): void {
    this.#held.clear();
    this.#total = 0;
    for (const member of this.#taking) this.#held.set(member, 0);
    for (const [, record, holder] of this.#singly("")) {
      if (!this.#held.has(holder)) continue;
      this.#add(holder, record.content.size);
      this.#total += record.content.size;
    }
  }

  #add(member: Member, bytes: number): void {
    this.#held.set(member, (this.#held.get(member) ?? 0) + bytes);
  }

  /** Bytes that a store holds beyond its share. */
  #excess(member: Member): number {
    const weights = this.#taking.reduce((all, one) => all + one.weight, 0);
    return (this.#held.get(member) ?? 0) - (this.#total * member.weight) / weights;
  }

  async #moveOne(name: string, holder: Member, options: RepairOptions, sum: Sum): Promise<void> {
    const { ledger } = this.#pool;
    const state = ledger.index.get(name);
    const current = currentRecord(state);
    if (!isPut(current) || !ledger.holds(current, holder)) return;
    const { size } = current.content;
    const to = this.#leastLoaded(this.#taking);
    // An object is moved only if that brings the two stores' loads nearer to each other.
    if (to === undefined || to === holder || size === 0 || this.#excess(holder) - size < this.#excess(to)) return;
    sum.planned++;
    const why = "spreads the load";
    options.onAction?.({ action: "copy", object: name, store: to.label, from: holder.label, bytes: size, why });
    this.#add(holder, -size);
    this.#add(to, size);
    if (options.dryRun === true) return;
    try {
      const moved = await this.#carry(current, state, holder, to, options.signal);
      if (moved.errors[0] !== undefined) throw moved.errors[0];
      sum.done++;
      sum.bytes += moved.bytes;
    } catch (error) {
      throwIfAborted(options.signal);
      sum.failed++;
      this.#pool.logger.warn("an object could not be moved", {
        object: name,
        reason: error instanceof Error ? error.message : String(error),
      });
    }
  }

  /** Moves one object as repair does: the copy first, then the delete. */
  #carry(
    record: PutRecord,
    state: NameState | undefined,
    from: Member,
    to: Member,
    signal: AbortSignal | undefined,
  ): Promise<Mended> {
    const why = "spreads the load";
    const plan: ObjectPlan = {
      decision: { keep: record },
      why,
      good: [from],
      wanted: [to],
      copyTo: [{ member: to, why }],
      deleteFrom: [{ member: from, why }],
      confirm: [],
    };
    return mend(this.#pool, record.name, plan, state, undefined, signal);
  }

  /** Objects with one holder. */
  *#singly(prefix: string): Generator<readonly [string, PutRecord, Member]> {
    for (const [name, state] of this.#pool.ledger.index.iterate(prefix)) {
      const current = currentRecord(state);
      if (state.records.length !== 1 || !isPut(current)) continue;
      const holders = this.#pool.ledger.members.filter((member) => this.#pool.ledger.holds(current, member));
      if (holders.length === 1 && holders[0] !== undefined) yield [name, current, holders[0]];
    }
  }
}
