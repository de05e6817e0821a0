/**
 * The context that a pool's operations share: names, their locks, the placement of objects, and the meaning of silent
 * stores.
 */
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import { versionMs, versionWriter } from "../ledger/hybrid-clock.ts";
import type { Version } from "../ledger/hybrid-clock.ts";
import { loadDigests } from "../ledger/digest.ts";
import { renewedAt } from "../ledger/ledger.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import { findOutdated } from "../ledger/outdated.ts";
import type { Outdated } from "../ledger/outdated.ts";
import { currentRecord } from "../ledger/record.ts";
import type { NameState, ObjectRecord } from "../ledger/record.ts";
import type { Logger } from "../contract/log.ts";
import { isReserved, RESERVED_PREFIX } from "../contract/names.ts";
import { DEFAULT_LEASE_MS } from "../contract/pool.ts";
import type { Mode, OnFail } from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Body, Capabilities, Debt, ObjectInfo, OperationOptions } from "../contract/store.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { targetsOf } from "./placement.ts";
import type { Placement } from "./placement.ts";

export interface PoolStoreOptions {
  readonly label: string;
  readonly ledger: Ledger;
  readonly mode: Mode;
  readonly onfail: OnFail;
  /** The least number of copies that a mirror's put needs. Default 1. */
  readonly min?: number | undefined;
  readonly place?: Placement | undefined;
  /** Mirror: the copy that is read first. Default `first`, the pool's order. */
  readonly read?: "first" | "fastest" | undefined;
  /**
   * Mirror with `onfail=continue`: whether a put waits for all stores (the default), or only for `min` of them and then
   * as long again for the others. A slow store owes its copy, and gets it after the answer to the caller.
   */
  readonly wait?: "all" | "min" | undefined;
  readonly runtime: Runtime;
  readonly logger: Logger;
  /**
   * Makes a body that gives its bytes once into one that can be opened again. A stripe needs that to try the next
   * store.
   */
  readonly replayable: (body: Body) => { readonly body: Body; dispose(): Promise<void> };
  /**
   * Whether this pool is a store of another one. Then that one's reserved names are kept under `ABOVE_PREFIX`. Default
   * false.
   */
  readonly nested?: boolean | undefined;
  /** How long an intent of another machine is left alone, in milliseconds. Default one hour. */
  readonly leaseMs?: number | undefined;
}

/** The prefix of the names under which a pool keeps the reserved names of a pool above it. */
export const ABOVE_PREFIX = ".holdfast/above/";
/** How often another process's change of a name is waited for, and how long the first time, in milliseconds. */
const WAITS = 5;
const WAIT_MS = 40;

export class PoolContext {
  readonly label: string;
  readonly onfail: OnFail;
  readonly ledger: Ledger;
  readonly capabilities: Capabilities;
  readonly options: PoolStoreOptions;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly #locks = new Map<string, Promise<void>>();
  /** Work of a put that goes on after the answer to its caller, by name. */
  readonly #tails = new Map<string, Promise<void>>();
  /** Names that are held to be looked at (by repair or a condition), not to be written. */
  readonly #holding = new Set<string>();
  #opened: Promise<void> | undefined;
  #closed = false;

  constructor(options: PoolStoreOptions) {
    this.options = options;
    this.label = options.label;
    this.onfail = options.onfail;
    this.ledger = options.ledger;
    this.ledger.declare({ mode: options.mode, min: options.mode === "mirror" ? (options.min ?? 1) : 1 });
    this.runtime = options.runtime;
    this.logger = options.logger;
    this.capabilities = capabilitiesOf(options.ledger.members.map((member) => member.store));
  }

  get mode(): Mode {
    return this.ledger.epoch.mode;
  }

  /** The least number of copies that a put needs. */
  get min(): number {
    return this.mode === "mirror" ? this.ledger.epoch.min : 1;
  }

  // ---------------------------------------------------------------------------------------------- opening and hearing

  /** Loads the hash function, and hears the stores for the first time. */
  open(): Promise<void> {
    this.#opened ??= loadDigests().then(() => this.ledger.hear());
    return this.#opened;
  }

  /** Begins an operation. `name`: a name whose state in the index the operation needs. */
  async enter(signal: AbortSignal | undefined, name?: string): Promise<void> {
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

  /**
   * Begins a read. If other machines write, the stores are heard first, so that the read sees every write acknowledged
   * before it.
   */
  async enterToRead(signal: AbortSignal | undefined): Promise<void> {
    await this.enter(signal);
    if (!this.ledger.soleWriter) await this.ledger.hear();
  }

  /**
   * Hears the stores again, before an answer about the whole pool. Throws if the pool's file contradicts the ledger.
   */
  async listen(): Promise<void> {
    await this.open();
    await this.ledger.withIndex(async () => {
      await this.ledger.hear();
      this.ledger.checkEpoch();
    });
  }

  /** Like `listen`, for work that goes through all objects: the index is checked before. */
  async listenToAll(): Promise<void> {
    await this.listen();
    await this.ledger.withIndex(async () => this.ledger.index.check());
  }

  /**
   * The names that outdated stores, or stores that were not in the pool's file, lack although they should have them.
   */
  async findOutdated(): Promise<Outdated> {
    const isWanted = (name: string, member: Member): boolean =>
      this.modeFor(name) === "mirror" && this.targets(name).includes(member);
    try {
      return await findOutdated(this.ledger, isWanted);
    } catch {
      // A store fell silent since the last hearing. The second attempt does without it.
      await this.listen();
      return findOutdated(this.ledger, isWanted);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.idle();
    if (this.#opened !== undefined) await this.#opened.catch(() => undefined);
    await this.ledger.close();
    await Promise.all(this.ledger.members.map((member) => member.store.close()));
  }

  // ------------------------------------------------------------------------------------------------- names and copies

  /** The name on this pool's stores. Reserved names are refused, or kept for the pool above. */
  innerName(name: string): string {
    if (!isReserved(name)) return name;
    if (this.options.nested !== true || !name.startsWith(RESERVED_PREFIX)) {
      throw new HoldfastError("invalid", `names that begin with ${RESERVED_PREFIX} are Holdfast's own`, {
        store: this.label,
        object: name,
      });
    }
    return ABOVE_PREFIX + name.slice(RESERVED_PREFIX.length);
  }

  /** The name that this pool's users see. */
  shownName(name: string): string {
    return name.startsWith(ABOVE_PREFIX) ? RESERVED_PREFIX + name.slice(ABOVE_PREFIX.length) : name;
  }

  /** The mode for a name. The reserved names of a pool above are kept on all stores. */
  modeFor(name: string): Mode {
    return name.startsWith(ABOVE_PREFIX) ? "mirror" : this.mode;
  }

  /** The stores where an object should be (mirror) or may be (stripe). */
  targets(name: string): readonly Member[] {
    return targetsOf(name, this.modeFor(name), this.ledger.members, (member) => this.ledger.isDraining(member));
  }

  /** Whether a change of the name is under way in this process. */
  isBusy(name: string): boolean {
    return this.#locks.has(name);
  }

  #isBeingWritten(name: string): boolean {
    return this.isBusy(name) && !this.#holding.has(name);
  }

  /** Whether the writer of an open intent is certainly gone. Call it only while holding the name (`exclusive`). */
  isDead(intent: ObjectRecord): boolean {
    const writer = versionWriter(intent.version);
    if (writer === this.ledger.writer) return !this.#isBeingWritten(intent.name);
    const isLive = this.ledger.isLiveWriter(writer);
    if (isLive !== undefined) return !isLive;
    return this.ledger.sightings.ageMs(renewedAt(intent)) > (this.options.leaseMs ?? DEFAULT_LEASE_MS);
  }

  /**
   * The silent stores that could hold something unknown or newer of `name` (undefined: of any name). An unfinished put of
   * this machine makes only its own name uncertain. The stores counted are those of the ledger, not of the pool's file.
   */
  mayHide(name?: string): readonly Silent[] {
    const { ledger } = this;
    const silent = ledger.members.filter((member) => !member.readable && !ledger.isGivenUp(member));
    const absent = ledger.absentees;
    if (silent.length + absent.length === 0) return [];
    const all: readonly Silent[] = [
      ...silent.map((member) => ({ label: member.label, trouble: () => member.trouble() })),
      ...absent.map(({ label }) => ({ label, trouble: () => notNamed(label) })),
    ];
    if (ledger.unreadableSegments.size > 0) return all;
    const isCensused = silent.every((member) => ledger.isCensused(member)) && absent.every((record) => record.censused);
    if (!isCensused) return all;
    const count = ledger.members.filter((member) => !ledger.isGivenUp(member)).length + absent.length;
    const vouching = ledger.members.filter((member) => ledger.vouches(member)).length;
    // At least `sure` stores know every acknowledged put. If fewer stores than that are silent or behind, they hide
    // none.
    if (this.mode === "mirror" && count - vouching < ledger.epoch.sure) return [];
    // A machine that hears most of the stores knows every machine that ever wrote, and it knows its own writes.
    const isAlone = ledger.soleWriter && vouching >= count - Math.floor(count / 2);
    return isAlone && !this.#isAbandoned(name) ? [] : all;
  }

  /** Whether this machine began a put of this new name and never ended it. A silent store may have its bytes. */
  #isAbandoned(name: string | undefined): boolean {
    const version = name === undefined ? undefined : this.ledger.index.getFact(pendingKey(name));
    if (name === undefined || version === undefined) return false;
    const writer = versionWriter(version);
    // A put that is still under way may count as not begun yet.
    return !(writer === this.ledger.writer ? this.#isBeingWritten(name) : (this.ledger.isLiveWriter(writer) ?? false));
  }

  /**
   * The `base` and `settles` of the record of a change: all finished writes, and unfinished ones whose writer is gone.
   * Writes that others are making at this moment stay open, because they may still take effect.
   */
  groundOf(state: NameState | undefined): { readonly base: Version; readonly settles: readonly Version[] } {
    const records = state?.records ?? [];
    const isOpen = (record: ObjectRecord): boolean =>
      record.kind === "intent" && record.repair !== true && !this.#isOwn(record) && !this.isDead(record);
    const lowest = records.reduce<Version>(
      (low, one) => (isOpen(one) && (low === "" || one.version < low) ? one.version : low),
      "",
    );
    const isBelow = (version: Version): boolean => lowest === "" || version < lowest;
    let base: Version = "";
    for (const record of records) {
      const ground = isBelow(record.version) ? record.version : record.kind === "intent" ? "" : record.base;
      if (ground > base) base = ground;
    }
    const settles = records.filter((record) => record.version > base && !isOpen(record)).map(({ version }) => version);
    return { base, settles };
  }

  /**
   * Whether this process wrote a record. A change holds its name, so this process's earlier writes of it have ended.
   */
  #isOwn(record: ObjectRecord): boolean {
    return versionWriter(record.version) === this.ledger.writer;
  }

  /**
   * Whether another process, or a late request, may change a store's copy at this moment. `which`: only changes of
   * processes, whose end will be heard of (`soon-over`), or only late requests (`late`).
   */
  mayChange(member: Member, state: NameState | undefined, which: "any" | "soon-over" | "late" = "any"): boolean {
    return (state?.records ?? []).some((record) => {
      const mark = this.ledger.markOf(record, member);
      if (mark === undefined || (which !== "any" && (which === "late") !== (mark.late !== undefined))) return false;
      return this.ledger.mayChange(record, mark);
    });
  }

  /** The latest late request that may still change a store's copy, by the version of the mark that noted it. */
  lateOn(member: Member, state: NameState | undefined): Version | undefined {
    let late: Version | undefined;
    for (const record of state?.records ?? []) {
      const mark = this.ledger.markOf(record, member);
      if (mark?.late === undefined || !this.ledger.mayChange(record, mark)) continue;
      if (late === undefined || mark.late > late) late = mark.late;
    }
    return late;
  }

  /** How long another process, or a late request, may still change a store's copy at most, in milliseconds. */
  changesForMs(member: Member, state: NameState | undefined): number {
    const { lateMs, sightings } = this.ledger;
    const ages = (state?.records ?? []).flatMap((record) => {
      const mark = this.ledger.markOf(record, member);
      return mark === undefined || !this.ledger.mayChange(record, mark) ? [] : sightings.ageMs(mark.late ?? mark.rev);
    });
    return ages.length === 0 ? 0 : lateMs - Math.min(...ages);
  }

  /** Whether a store's copy may be one of the files that it came with. The store keeps those. */
  hasOwnFiles(member: Member, state: NameState | undefined): boolean {
    const record = this.ledger.storeOf(member);
    const current = currentRecord(state);
    if (current === undefined || record?.state !== "joining" || record.censused) return false;
    return !this.ledger.holds(current, member);
  }

  /** Hears the stores until other processes' changes of a name have ended, a limited number of times. */
  async outwait(isOpen: () => boolean): Promise<void> {
    for (let wait = 0; wait < WAITS && isOpen(); wait++) {
      await this.runtime.sleep(WAIT_MS * 2 ** wait);
      await this.ledger.hear();
    }
  }

  absent(name: string, operation: "get" | "stat"): HoldfastError {
    const silent = this.mayHide(name);
    const context = { store: this.label, operation, object: name } as const;
    if (silent.length === 0 && this.ledger.unreadableSegments.size === 0) {
      return new HoldfastError("not-found", "there is no such object", context);
    }
    const who = silent.map((store) => store.label).join(", ");
    return new HoldfastError(
      "unavailable",
      silent.length === 0
        ? "a part of the ledger is damaged on every store, so it is not known whether the object exists"
        : `no store that answered has it, but ${who} did not answer and could hold it`,
      { ...context, errors: silent.map((store) => store.trouble()), cause: silent[0]?.trouble() },
    );
  }

  /** Asks all stores that answer at once for an object. Returns each one's facts or error, in the pool's order. */
  statAll(name: string, options: OperationOptions): Promise<(readonly [Member, ObjectInfo | HoldfastError])[]> {
    return Promise.all(
      this.ledger.members
        .filter((member) => member.readable)
        .map(async (member) => {
          try {
            return [member, await member.store.stat(name, options)] as const;
          } catch (error) {
            throwIfAborted(options.signal);
            return [
              member,
              toHoldfastError(error).within({ store: member.label, operation: "stat", object: name }),
            ] as const;
          }
        }),
    );
  }

  /** The debts of this pool's stores by a record. */
  debtsOf(record: ObjectRecord): Debt[] {
    return this.ledger.members.flatMap((member): Debt[] => {
      const mark = this.ledger.markOf(record, member);
      if (mark?.state !== "copy" && mark?.state !== "delete") return [];
      return [
        {
          object: this.shownName(record.name),
          store: member.label,
          owes: mark.state,
          sinceMs: versionMs(mark.rev),
          ...(mark.reason === undefined ? {} : { reason: mark.reason }),
        },
      ];
    });
  }

  /** For repair: no other change of the name runs in this process during `work`. */
  hold<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.exclusive(name, () => this.asHolder(name, work));
  }

  /**
   * For a caller that holds the name (`exclusive`) without writing it: during `work`, the name does not count as being
   * written.
   */
  async asHolder<T>(name: string, work: () => Promise<T>): Promise<T> {
    this.#holding.add(name);
    try {
      return await work();
    } finally {
      this.#holding.delete(name);
    }
  }

  isHeld(name: string): boolean {
    return this.#holding.has(name);
  }

  /**
   * Runs one change of a name at a time in this process. Changes of other processes are told apart by their versions.
   */
  async exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const result = before.then(work);
    const done = result
      .then(
        () => undefined,
        () => undefined,
      )
      // The rest of a put with `wait=min` must not overwrite a later put.
      .then(() => this.#tails.get(name))
      .then(() => {
        this.#tails.delete(name);
      });
    this.#locks.set(name, done);
    void done.then(() => {
      if (this.#locks.get(name) === done) this.#locks.delete(name);
    });
    return result;
  }

  /** Resolves when the current change of a name has ended; undefined if there is none. */
  lockOf(name: string): Promise<void> | undefined {
    return this.#locks.get(name);
  }

  /** Keeps other changes from the name until `work` has ended, although its caller does not wait for it. */
  keepUntil(name: string, work: Promise<void>): void {
    this.#tails.set(name, work);
  }

  /** Resolves when no change of any name is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#locks.values());
  }
}

/** A silent store that could know more. */
export interface Silent {
  readonly label: string;
  /** The reason why it was not heard. */
  readonly trouble: () => HoldfastError;
}

export function notNamed(label: string): HoldfastError {
  return new HoldfastError(
    "unavailable",
    `${label} is a store of this pool, and the pool's file does not name it (if it is gone for good, run: ${hint("forget", label)})`,
    { store: label, retryable: false },
  );
}

/** The error for a store that is left alone because it came with files of its own. */
export function ownFile(member: Member, object: string, operation: "put" | "delete"): HoldfastError {
  return new HoldfastError("conflict", `${member.label} came with files of its own: repair has to look at them first`, {
    store: member.label,
    operation,
    object,
    retryable: false,
  });
}

/** The key, in the local index, of the mark of an unfinished put of a new name. */
export function pendingKey(name: string): string {
  return `pending:${name}`;
}
