/**
 * A pool as a store: mirror and stripe over the same records.
 *
 * Every operation follows the ledger, which has each object's current version, its holders and its debts. The work is
 * done in `pool-puts.ts`, `pool-reads.ts` and `pool-deletes.ts`.
 */
import { toBody } from "../contract/body.ts";
import type { BodyInput } from "../contract/body.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Operation } from "../contract/errors.ts";
import { isIndexLost } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isContested, isPut } from "../ledger/record.ts";
import { checkName, compareNames, isReserved, RESERVED_PREFIX } from "../contract/names.ts";
import type {
  DrainOptions,
  DrillOptions,
  Maintenance,
  Mode,
  OnFail,
  Pool,
  PoolDeleteResult,
  PoolGetResult,
  PoolObjectInfo,
  PoolPutResult,
  RebalanceOptions,
  RepairOptions,
  VerifyOptions,
} from "../contract/pool.ts";
import type {
  Capabilities,
  DeleteOptions,
  GetOptions,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
} from "../contract/store.ts";
import { listMember, mergeLists } from "./merge-lists.ts";
import type { Listed, Merged } from "./merge-lists.ts";
import { infoOf } from "./pool-answers.ts";
import { ABOVE_PREFIX } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import { PoolDeletes } from "./pool-deletes.ts";
import { checkMetadata, PoolPuts } from "./pool-puts.ts";
import { PoolReads } from "./pool-reads.ts";
import { ReadObject } from "./read-object.ts";

export class PoolStore implements Pool {
  readonly maintenance: Maintenance;
  readonly #pool: PoolContext;
  readonly #puts: PoolPuts;
  readonly #reads: PoolReads;
  readonly #deletes: PoolDeletes;

  constructor(pool: PoolContext, maintenance: Maintenance) {
    this.maintenance = maintenance;
    this.#pool = pool;
    this.#deletes = new PoolDeletes(pool);
    this.#puts = new PoolPuts(pool, this.#deletes);
    this.#reads = new PoolReads(pool);
  }

  get label(): string {
    return this.#pool.label;
  }

  get mode(): Mode {
    return this.#pool.mode;
  }

  get onfail(): OnFail {
    return this.#pool.onfail;
  }

  get capabilities(): Capabilities {
    return this.#pool.capabilities;
  }

  // -------------------------------------------------------------------------------------------------- operations

  async put(name: string, body: BodyInput, options: PutOptions = {}): Promise<PoolPutResult> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    if (options.ifAbsent === true) {
      // Another machine may put the object between the look at the ledger and the put.
      throw new HoldfastError("unsupported", "a pool cannot decide, for all machines, that an object is new", {
        store: this.label,
        operation: "put",
        object: name,
      });
    }
    if (typeof options.metadata !== "function") checkMetadata(options.metadata);
    await this.#pool.enter(options.signal, inner);
    return this.#pool.exclusive(inner, async () => {
      await this.#askOnlyIf(inner, { store: this.label, operation: "put", object: name }, options);
      try {
        return await this.#puts.put(inner, toBody(body), options);
      } catch (error) {
        throw toHoldfastError(error).within({ store: this.label, operation: "put", object: name });
      }
    });
  }

  /** Call it only while holding the name (`exclusive`). An error that `onlyIf` throws is passed on as it is. */
  async #askOnlyIf(
    inner: string,
    context: { readonly store: string; readonly operation: Operation; readonly object: string },
    { onlyIf, signal }: DeleteOptions,
  ): Promise<void> {
    if (onlyIf === undefined) return;
    let current: PoolObjectInfo | undefined;
    try {
      await this.#pool.ledger.hear();
      const info = await this.#pool.asHolder(inner, () => this.#reads.statHeld(inner, { signal }));
      current = { ...info, name: context.object };
      throwIfAborted(signal);
    } catch (error) {
      const failure = toHoldfastError(error).within(context);
      if (failure.code !== "not-found") throw failure;
    }
    onlyIf(current);
  }

  async get(name: string, options: GetOptions = {}): Promise<PoolGetResult> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    await this.#pool.enterToRead(options.signal);
    try {
      return new ReadObject(await this.#pool.ledger.withIndex(() => this.#reads.get(inner, name, options)));
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "get", object: name });
    }
  }

  async stat(name: string, options: OperationOptions = {}): Promise<PoolObjectInfo> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    await this.#pool.enterToRead(options.signal);
    try {
      const info = await this.#pool.ledger.withIndex(() => this.#reads.stat(inner, options));
      return { ...info, name };
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "stat", object: name });
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<PoolObjectInfo> {
    let { after } = options;
    for (;;) {
      try {
        for await (const info of this.#list(prefix, { ...options, after })) {
          yield info;
          after = info.name;
        }
        return;
      } catch (error) {
        if (!isIndexLost(error)) throw error;
        await this.#pool.ledger.renewIndex();
      }
    }
  }

  async *#list(prefix: string, options: ListOptions): AsyncGenerator<PoolObjectInfo> {
    await this.#pool.enterToRead(options.signal);
    const above = this.#pool.options.nested === true && prefix.startsWith(RESERVED_PREFIX);
    const inner = above ? ABOVE_PREFIX + prefix.slice(RESERVED_PREFIX.length) : prefix;
    const unheard = new Map<string, HoldfastError>();
    for (const store of this.#pool.mayHide()) unheard.set(store.label, store.trouble());
    const heard = this.#pool.ledger.members.filter((member) => member.readable);
    const onFailure = ({ label }: Member, error: HoldfastError): void => void unheard.set(label, error);
    const after = options.after === undefined ? undefined : this.#pool.innerName(options.after);
    const within = { ...options, after };
    const lists = heard.map((member) =>
      // Fully recorded stores list names only. The few names without a record are asked for later.
      listMember(member, this.#pool.ledger.isCensused(member), inner, within, (error) => onFailure(member, error)),
    );
    const isMeant = ({ name }: Merged<Listed>): boolean =>
      (after === undefined || compareNames(name, after) > 0) &&
      (above ? name.startsWith(ABOVE_PREFIX) : !isReserved(name));
    for await (const batch of mergeLists(lists, this.#pool.ledger.index.iterate(inner, after))) {
      const meant = batch.filter(isMeant);
      const unrecorded = await this.#findUnrecorded(meant, heard, options, onFailure);
      for (const { name, state } of meant) {
        throwIfAborted(options.signal);
        const current = currentRecord(state);
        if (isContested(state)) {
          const info = await this.#reads.statByCopies(name, options).catch((error: unknown) => {
            throwIfAborted(options.signal);
            const failure = toHoldfastError(error);
            if (failure.code === "not-found") return undefined;
            // Wrong or differing copies prove that the object exists. A silent store might know that it was deleted.
            if (failure.code !== "corrupt" && failure.code !== "conflict")
              unheard.set(failure.store ?? this.label, failure);
            return isPut(current) ? infoOf(name, current) : undefined;
          });
          if (info !== undefined) yield { ...info, name: this.#pool.shownName(name) };
        } else if (current !== undefined) {
          if (isPut(current)) yield infoOf(this.#pool.shownName(name), current);
        } else {
          const found = unrecorded.get(name);
          if (found !== undefined) yield { ...found, name: this.#pool.shownName(name) };
        }
      }
    }
    if (unheard.size > 0 || this.#pool.ledger.unreadableSegments.size > 0) {
      const who = [...unheard.keys()].join(", ");
      throw new HoldfastError(
        "incomplete",
        unheard.size > 0
          ? `the listing may lack objects: not heard: ${who}`
          : "the listing may be wrong: a part of the ledger is damaged on every store",
        { store: this.label, operation: "list", errors: [...unheard.values()], cause: [...unheard.values()][0] },
      );
    }
  }

  /** The facts of each of these names that has no record, from the first store that has it. */
  async #findUnrecorded(
    names: readonly Merged<Listed>[],
    heard: readonly Member[],
    options: ListOptions,
    onFailure: (member: Member, error: HoldfastError) => void,
  ): Promise<ReadonlyMap<string, ObjectInfo>> {
    const found = new Map<string, ObjectInfo>();
    const look = async ({ name, all }: Merged<Listed>): Promise<void> => {
      for (const [place, member] of heard.entries()) {
        const listed = all[place];
        if (listed === undefined) continue;
        try {
          found.set(name, typeof listed === "object" ? listed : await member.store.stat(name, options));
          return;
        } catch (error) {
          throwIfAborted(options.signal);
          const failure = toHoldfastError(error).within({ store: member.label, operation: "list", object: name });
          // The object was deleted since it was listed.
          if (failure.code !== "not-found") onFailure(member, failure);
        }
      }
    };
    await Promise.all(names.filter(({ state }) => currentRecord(state) === undefined).map(look));
    return found;
  }

  async delete(name: string, options: DeleteOptions = {}): Promise<PoolDeleteResult> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    await this.#pool.enter(options.signal, inner);
    return this.#pool.exclusive(inner, async () => {
      await this.#askOnlyIf(inner, { store: this.label, operation: "delete", object: name }, options);
      try {
        return await this.#deletes.delete(inner, options);
      } catch (error) {
        throw toHoldfastError(error).within({ store: this.label, operation: "delete", object: name });
      }
    });
  }

  // Programs of before `maintenance` ask the pool itself. The type `Pool` offers it no more.

  stores(options?: OperationOptions): ReturnType<Maintenance["stores"]> {
    return this.maintenance.stores(options);
  }

  status(options?: OperationOptions): ReturnType<Maintenance["status"]> {
    return this.maintenance.status(options);
  }

  debts(options?: OperationOptions): ReturnType<Maintenance["debts"]> {
    return this.maintenance.debts(options);
  }

  verify(options?: VerifyOptions): ReturnType<Maintenance["verify"]> {
    return this.maintenance.verify(options);
  }

  repair(options?: RepairOptions): ReturnType<Maintenance["repair"]> {
    return this.maintenance.repair(options);
  }

  create(): ReturnType<Maintenance["create"]> {
    return this.maintenance.create();
  }

  drain(store: string, options?: DrainOptions): ReturnType<Maintenance["drain"]> {
    return this.maintenance.drain(store, options);
  }

  cancelDrain(store: string): ReturnType<Maintenance["cancelDrain"]> {
    return this.maintenance.cancelDrain(store);
  }

  forget(store: string): ReturnType<Maintenance["forget"]> {
    return this.maintenance.forget(store);
  }

  forgetPool(): ReturnType<Maintenance["forgetPool"]> {
    return this.maintenance.forgetPool();
  }

  rebalance(options?: RebalanceOptions): ReturnType<Maintenance["rebalance"]> {
    return this.maintenance.rebalance(options);
  }

  drill(options?: DrillOptions): ReturnType<Maintenance["drill"]> {
    return this.maintenance.drill(options);
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
