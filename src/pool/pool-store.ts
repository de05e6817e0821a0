/**
 * A pool as a store: mirror and stripe over the same records.
 *
 * All that it does follows from the ledger: what is current, who holds it, who owes it. How is in `pool-puts.ts`,
 * `pool-reads.ts` and `pool-deletes.ts`.
 */
import { loadDigests } from "../ledger/digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { Operation } from "../contract/errors.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import { isIndexLost } from "../ledger/ledger.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import { findOutdated } from "../ledger/outdated.ts";
import type { Outdated } from "../ledger/outdated.ts";
import { currentRecord, isContested, isPut } from "../ledger/record.ts";
import type { NameState, ObjectRecord } from "../ledger/record.ts";
import { checkName, compareNames, isReserved, RESERVED_PREFIX } from "../contract/names.ts";
import type { Mode, OnFail, PoolDeleteResult, PoolObjectInfo, PoolPutResult } from "../contract/pool.ts";
import type {
  Body,
  Capabilities,
  DeleteOptions,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  Store,
} from "../contract/store.ts";
import { listMember, mergeLists } from "./merge-lists.ts";
import type { Listed, Merged } from "./merge-lists.ts";
import { infoOf } from "./pool-answers.ts";
import { ABOVE_PREFIX, PoolContext } from "./pool-context.ts";
import type { PoolStoreOptions } from "./pool-context.ts";
import { PoolDeletes } from "./pool-deletes.ts";
import { checkMetadata, PoolPuts } from "./pool-puts.ts";
import { PoolReads } from "./pool-reads.ts";

export class PoolStore implements Store {
  readonly #pool: PoolContext;
  readonly #puts: PoolPuts;
  readonly #reads: PoolReads;
  readonly #deletes: PoolDeletes;
  #opened: Promise<void> | undefined;
  #closed = false;

  constructor(options: PoolStoreOptions) {
    this.#pool = new PoolContext(options);
    this.#deletes = new PoolDeletes(this.#pool);
    this.#puts = new PoolPuts(this.#pool, this.#deletes);
    this.#reads = new PoolReads(this.#pool);
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

  get ledger(): Ledger {
    return this.#pool.ledger;
  }

  get capabilities(): Capabilities {
    return this.#pool.capabilities;
  }

  /** Loads what reads and writes need, and hears the stores for the first time. */
  open(): Promise<void> {
    this.#opened ??= loadDigests().then(() => this.ledger.hear());
    return this.#opened;
  }

  /** `name`: what is known of it is going to be needed. */
  async #enter(signal: AbortSignal | undefined, name?: string): Promise<void> {
    throwIfAborted(signal);
    if (this.#closed) throw new HoldfastError("invalid", "the pool is closed", { store: this.label });
    await this.open();
    await this.ledger.withIndex(async () => {
      await this.ledger.keepFresh();
      this.ledger.checkEpoch();
      if (name !== undefined) this.ledger.index.get(name);
    });
    throwIfAborted(signal);
  }

  /** What is read is what stood there when it was asked for: where others write, too, they are heard first. */
  async #enterToRead(signal: AbortSignal | undefined): Promise<void> {
    await this.#enter(signal);
    if (!this.ledger.soleWriter) await this.ledger.hear();
  }

  /** Hears the stores anew, for what is said of the pool as a whole. Throws where its file says otherwise of it. */
  async listen(): Promise<void> {
    await this.open();
    await this.ledger.withIndex(async () => {
      await this.ledger.hear();
      this.ledger.checkEpoch();
    });
  }

  /** The same, for what looks at everything: what is known can be read. */
  async listenToAll(): Promise<void> {
    await this.listen();
    await this.ledger.withIndex(async () => this.ledger.index.check());
  }

  // ----------------------------------------------------------------------------------- what repair needs to know

  modeFor(name: string): Mode {
    return this.#pool.modeFor(name);
  }

  targets(name: string): readonly Member[] {
    return this.#pool.targets(name);
  }

  shownName(name: string): string {
    return this.#pool.shownName(name);
  }

  isBusy(name: string): boolean {
    return this.#pool.isBusy(name);
  }

  isDead(intent: ObjectRecord): boolean {
    return this.#pool.isDead(intent);
  }

  mayChange(member: Member, state: NameState | undefined): boolean {
    return this.#pool.mayChange(member, state);
  }

  lateOn(member: Member, state: NameState | undefined): Version | undefined {
    return this.#pool.lateOn(member, state);
  }

  /** Resolves when the change of a name that is under way in this process has ended; undefined when there is none. */
  lockOf(name: string): Promise<void> | undefined {
    return this.#pool.lockOf(name);
  }

  /** What stores that went back in time, or were not in the pool's file, do not have although they should. */
  async findOutdated(): Promise<Outdated> {
    const isWanted = (name: string, member: Member): boolean =>
      this.#pool.modeFor(name) === "mirror" && this.#pool.targets(name).includes(member);
    try {
      return await findOutdated(this.ledger, isWanted);
    } catch {
      // A store went silent since it was heard: what is said now is said without it.
      await this.listen();
      return findOutdated(this.ledger, isWanted);
    }
  }

  /** Whether repair holds the name. */
  isHeld(name: string): boolean {
    return this.#pool.isHeld(name);
  }

  /** Nobody else in this process changes the name while `work` runs. */
  hold<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#pool.hold(name, work);
  }

  // -------------------------------------------------------------------------------------------------- operations

  async put(name: string, body: Body, options: PutOptions = {}): Promise<PoolPutResult> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    if (options.ifAbsent === true) {
      // What the ledgers say and what the stores decide are two moments: another machine may put in between.
      throw new HoldfastError("unsupported", "a pool cannot decide, for all machines, that an object is new", {
        store: this.label,
        operation: "put",
        object: name,
      });
    }
    if (typeof options.metadata !== "function") checkMetadata(options.metadata);
    await this.#enter(options.signal, inner);
    return this.#pool.exclusive(inner, async () => {
      await this.#askOnlyIf(inner, { store: this.label, operation: "put", object: name }, options);
      try {
        return await this.#puts.put(inner, body, options);
      } catch (error) {
        throw toHoldfastError(error).within({ store: this.label, operation: "put", object: name });
      }
    });
  }

  /** To be called while nobody else in this process changes the name. What `onlyIf` throws passes as it is. */
  async #askOnlyIf(
    inner: string,
    context: { readonly store: string; readonly operation: Operation; readonly object: string },
    { onlyIf, signal }: DeleteOptions,
  ): Promise<void> {
    if (onlyIf === undefined) return;
    let current: PoolObjectInfo | undefined;
    try {
      await this.ledger.hear();
      const info = await this.#pool.asHolder(inner, () => this.#reads.statHeld(inner, { signal }));
      current = { ...info, name: context.object };
      throwIfAborted(signal);
    } catch (error) {
      const failure = toHoldfastError(error).within(context);
      if (failure.code !== "not-found") throw failure;
    }
    onlyIf(current);
  }

  async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    await this.#enterToRead(options.signal);
    try {
      return await this.ledger.withIndex(() => this.#reads.get(inner, name, options));
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "get", object: name });
    }
  }

  async stat(name: string, options: OperationOptions = {}): Promise<PoolObjectInfo> {
    checkName(name);
    const inner = this.#pool.innerName(name);
    await this.#enterToRead(options.signal);
    try {
      const info = await this.ledger.withIndex(() => this.#reads.stat(inner, options));
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
        await this.ledger.renewIndex();
      }
    }
  }

  async *#list(prefix: string, options: ListOptions): AsyncGenerator<PoolObjectInfo> {
    await this.#enterToRead(options.signal);
    const above = this.#pool.options.nested === true && prefix.startsWith(RESERVED_PREFIX);
    const inner = above ? ABOVE_PREFIX + prefix.slice(RESERVED_PREFIX.length) : prefix;
    const unheard = new Map<string, HoldfastError>();
    for (const store of this.#pool.mayHide()) unheard.set(store.label, store.trouble());
    const heard = this.ledger.members.filter((member) => member.readable);
    const onFailure = ({ label }: Member, error: HoldfastError): void => void unheard.set(label, error);
    const after = options.after === undefined ? undefined : this.#pool.innerName(options.after);
    const within = { ...options, after };
    const lists = heard.map((member) =>
      // What little has no record on a store where everything is known to have one is asked for afterwards.
      listMember(member, this.ledger.isCensused(member), inner, within, (error) => onFailure(member, error)),
    );
    const isMeant = ({ name }: Merged<Listed>): boolean =>
      (after === undefined || compareNames(name, after) > 0) &&
      (above ? name.startsWith(ABOVE_PREFIX) : !isReserved(name));
    for await (const batch of mergeLists(lists, this.ledger.index.iterate(inner, after))) {
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
            // Copies that are wrong, or differ, are there; what a silent store would say may be that it was deleted.
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
    if (unheard.size > 0 || this.ledger.unreadableSegments.size > 0) {
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

  /** What the first store, in order, that has it says of each of these that has no record. */
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
          // Gone since its name was read.
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
    await this.#enter(options.signal, inner);
    return this.#pool.exclusive(inner, async () => {
      await this.#askOnlyIf(inner, { store: this.label, operation: "delete", object: name }, options);
      try {
        return await this.#deletes.delete(inner, options);
      } catch (error) {
        throw toHoldfastError(error).within({ store: this.label, operation: "delete", object: name });
      }
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pool.idle();
    if (this.#opened !== undefined) await this.#opened.catch(() => undefined);
    await this.ledger.close();
    await Promise.all(this.ledger.members.map((member) => member.store.close()));
  }
}
