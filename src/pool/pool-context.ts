/**
 * What the operations of a pool share: its names, who may change one, where objects go, and what can be known while stores
 * are silent.
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
import type { Place } from "./placement.ts";

export interface PoolStoreOptions {
  readonly label: string;
  readonly ledger: Ledger;
  readonly mode: Mode;
  readonly onfail: OnFail;
  /** Copies that a mirror's put needs at least. Default 1. */
  readonly min?: number | undefined;
  readonly place?: Place | undefined;
  /** Mirror: which copy is read first. Default `first`, the pool's order. */
  readonly read?: "first" | "fastest" | undefined;
  /**
   * Mirror with `onfail=continue`: whether a put waits for all stores (the default), or only for `min` of them and as
   * long again for the others. What those still miss is owed, and brought after the caller was answered.
   */
  readonly wait?: "all" | "min" | undefined;
  readonly runtime: Runtime;
  readonly logger: Logger;
  /** A body that gives its bytes once, as one that can be opened again; needed for stripe to go on to the next store. */
  readonly replayable: (body: Body) => { readonly body: Body; dispose(): Promise<void> };
  /** This pool is a store of another one: the other's own names are kept under a name of their own. Default false. */
  readonly nested?: boolean | undefined;
  /** How long an intent of another machine is left alone, in milliseconds. Default one hour. */
  readonly leaseMs?: number | undefined;
}

/** Where a pool keeps the reserved names of a pool above it. */
export const ABOVE_PREFIX = ".holdfast/above/";
/** How often, and how long at first, somebody else's change of a name is waited for, in milliseconds. */
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
  /** Work for a name that goes on after its caller was answered. */
  readonly #tails = new Map<string, Promise<void>>();
  /** Names held by who looks at them (repair, a condition) rather than by a write. */
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

  /** Copies that a put needs at least. */
  get min(): number {
    return this.mode === "mirror" ? this.ledger.epoch.min : 1;
  }

  // ---------------------------------------------------------------------------------------------- opening and hearing

  /** Loads what reads and writes need, and hears the stores for the first time. */
  open(): Promise<void> {
    this.#opened ??= loadDigests().then(() => this.ledger.hear());
    return this.#opened;
  }

  /** Begins an operation. `name`: what is known of it is going to be needed. */
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

  /** Begins a read, of what stands there when it is asked for: where others write, too, the stores are heard first. */
  async enterToRead(signal: AbortSignal | undefined): Promise<void> {
    await this.enter(signal);
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

  /** What stores that went back in time, or were not in the pool's file, do not have although they should. */
  async findOutdated(): Promise<Outdated> {
    const isWanted = (name: string, member: Member): boolean =>
      this.modeFor(name) === "mirror" && this.targets(name).includes(member);
    try {
      return await findOutdated(this.ledger, isWanted);
    } catch {
      // A store went silent since it was heard: what is said now is said without it.
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

  /** The name as this pool's stores have it: reserved names are refused, or kept for the pool above. */
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

  /** The name as this pool's users know it. */
  shownName(name: string): string {
    return name.startsWith(ABOVE_PREFIX) ? RESERVED_PREFIX + name.slice(ABOVE_PREFIX.length) : name;
  }

  /** The mode that holds for a name: a pool's own names are kept on all its stores. */
  modeFor(name: string): Mode {
    return name.startsWith(ABOVE_PREFIX) ? "mirror" : this.mode;
  }

  /** Where an object should be (mirror) or may be (stripe). */
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

  /** Whether the writer of an open intent is certainly gone. To be asked while holding the name (`exclusive`). */
  isDead(intent: ObjectRecord): boolean {
    const writer = versionWriter(intent.version);
    if (writer === this.ledger.writer) return !this.#isBeingWritten(intent.name);
    const isLive = this.ledger.isLiveWriter(writer);
    if (isLive !== undefined) return !isLive;
    return this.ledger.sightings.ageMs(renewedAt(intent)) > (this.options.leaseMs ?? DEFAULT_LEASE_MS);
  }

  /**
   * Stores whose silence means that more, or newer, could exist than is known of `name` (undefined: of any name; a put of
   * this machine that never ended makes only its own name uncertain). Members are those of the ledger, not of the file.
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
    // Every acknowledged put is known to at least `sure` stores: fewer than that, silent or not knowing all, hide none.
    if (this.mode === "mirror" && count - vouching < ledger.epoch.sure) return [];
    // Who hears most of the stores knows every machine that ever wrote, and this one knows all that it wrote itself.
    const isAlone = ledger.soleWriter && vouching >= count - Math.floor(count / 2);
    return isAlone && !this.#isAbandoned(name) ? [] : all;
  }

  /** Whether a put of this new name was begun by this machine and never ended: a silent store may have what it left. */
  #isAbandoned(name: string | undefined): boolean {
    const version = name === undefined ? undefined : this.ledger.index.getFact(pendingKey(name));
    if (name === undefined || version === undefined) return false;
    const writer = versionWriter(version);
    // One that is still under way may count as not begun yet.
    return !(writer === this.ledger.writer ? this.#isBeingWritten(name) : (this.ledger.isLiveWriter(writer) ?? false));
  }

  /**
   * What a change of a name is made over: `base` and `settles` of its record. Everything that is finished, or was begun
   * and will not be; what others are writing at this moment stays open, since it may yet take effect.
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

  /** Whether this process wrote it: whoever changes a name holds it, so what this process began before is over. */
  #isOwn(record: ObjectRecord): boolean {
    return versionWriter(record.version) === this.ledger.writer;
  }

  /**
   * Whether somebody else, or a request of which nobody knows the end, may change what a store has of a name just now.
   * `which`: only what somebody does whose end will be heard of (`soon-over`), or only such requests (`late`).
   */
  mayChange(member: Member, state: NameState | undefined, which: "any" | "soon-over" | "late" = "any"): boolean {
    return (state?.records ?? []).some((record) => {
      const mark = this.ledger.markOf(record, member);
      if (mark === undefined || (which !== "any" && (which === "late") !== (mark.late !== undefined))) return false;
      return this.ledger.mayChange(record, mark);
    });
  }

  /** The request of which nobody knows the end that may still change what a store has, by the mark that noted it. */
  lateOn(member: Member, state: NameState | undefined): Version | undefined {
    let late: Version | undefined;
    for (const record of state?.records ?? []) {
      const mark = this.ledger.markOf(record, member);
      if (mark?.late === undefined || !this.ledger.mayChange(record, mark)) continue;
      if (late === undefined || mark.late > late) late = mark.late;
    }
    return late;
  }

  /** How long somebody else, or such a request, may still change what a store has, at most, in milliseconds. */
  changesForMs(member: Member, state: NameState | undefined): number {
    const { lateMs, sightings } = this.ledger;
    const ages = (state?.records ?? []).flatMap((record) => {
      const mark = this.ledger.markOf(record, member);
      return mark === undefined || !this.ledger.mayChange(record, mark) ? [] : sightings.ageMs(mark.late ?? mark.rev);
    });
    return ages.length === 0 ? 0 : lateMs - Math.min(...ages);
  }

  /** Whether what a store has under a name of the pool may be one of the files that it came with: it keeps these. */
  hasOwnFiles(member: Member, state: NameState | undefined): boolean {
    const record = this.ledger.storeOf(member);
    const current = currentRecord(state);
    if (current === undefined || record?.state !== "joining" || record.censused) return false;
    return !this.ledger.holds(current, member);
  }

  /** Hears the stores until somebody else's changes of a name have ended, or long enough. */
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
        ? "a part of the ledger is damaged on every store, so it cannot be said whether the object exists"
        : `no store that answered has it, but ${who} did not answer and could hold it`,
      { ...context, errors: silent.map((store) => store.trouble()), cause: silent[0]?.trouble() },
    );
  }

  /** All stores that answer, asked at once: what they have of a name, or the error. In the pool's order. */
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

  /** What a record says that stores of this pool owe. */
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

  /** For repair: nobody else in this process changes the name while `work` runs. */
  hold<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.exclusive(name, () => this.asHolder(name, work));
  }

  /** For who holds the name (`exclusive`): while `work` runs, the name is not busy with a write of this process. */
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

  /** One change of a name at a time in this process; other processes are told apart by their versions. */
  async exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const result = before.then(work);
    const done = result
      .then(
        () => undefined,
        () => undefined,
      )
      // A put that was not waited for must not land on top of a later one.
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

  /** Resolves when the change of a name that is under way has ended; undefined when there is none. */
  lockOf(name: string): Promise<void> | undefined {
    return this.#locks.get(name);
  }

  /** Keeps the name from other changes until `work`, which nobody waits for, has ended. */
  keepUntil(name: string, work: Promise<void>): void {
    this.#tails.set(name, work);
  }

  /** Resolves when no change of any name is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#locks.values());
  }
}

/** A store that was not heard and could know more. */
export interface Silent {
  readonly label: string;
  /** Why it was not heard, as an error. */
  readonly trouble: () => HoldfastError;
}

export function notNamed(label: string): HoldfastError {
  return new HoldfastError(
    "unavailable",
    `${label} is a store of this pool, and its file does not name it (if it is gone for good, run: ${hint("forget", label)})`,
    { store: label, retryable: false },
  );
}

/** Why a store that came with files of its own is left alone. */
export function ownFile(member: Member, object: string, operation: "put" | "delete"): HoldfastError {
  return new HoldfastError("conflict", `${member.label} came with files of its own: repair has to look at them first`, {
    store: member.label,
    operation,
    object,
    retryable: false,
  });
}

/** Key of the mark, in the local index, of a put of a new name that has not ended. */
export function pendingKey(name: string): string {
  return `pending:${name}`;
}
