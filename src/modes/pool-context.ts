/**
 * What the operations of a pool share: its names, who may change one, where objects go, and what can be known while stores
 * are silent.
 */
import { HoldfastError, throwIfAborted, toHoldfastError } from "../errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import type { ObjectRecord } from "../ledger/record.ts";
import type { Logger } from "../log.ts";
import { isReserved, RESERVED_PREFIX } from "../names.ts";
import type { Mode, OnFail } from "../pool.ts";
import type { Runtime } from "../runtime.ts";
import type { Body, Capabilities, Debt, ObjectInfo, OperationOptions } from "../store.ts";
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
export const DEFAULT_LEASE_MS = 3_600_000;

export class PoolContext {
  readonly label: string;
  readonly mode: Mode;
  readonly onfail: OnFail;
  readonly ledger: Ledger;
  readonly capabilities: Capabilities;
  readonly options: PoolStoreOptions;
  /** Copies that a put needs at least. */
  readonly min: number;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly #locks = new Map<string, Promise<void>>();
  /** Work for a name that goes on after its caller was answered. */
  readonly #tails = new Map<string, Promise<void>>();
  /** Names held by who looks at them (repair, a condition) rather than by a write. */
  readonly #holding = new Set<string>();

  constructor(options: PoolStoreOptions) {
    this.options = options;
    this.label = options.label;
    this.mode = options.mode;
    this.onfail = options.onfail;
    this.ledger = options.ledger;
    this.min = options.mode === "mirror" ? (options.min ?? 1) : 1;
    this.runtime = options.runtime;
    this.logger = options.logger;
    this.capabilities = capabilitiesOf(options.ledger.members.map((member) => member.store));
  }

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
    const writer = intent.version.slice(17);
    if (writer === this.ledger.writer) return !this.#isBeingWritten(intent.name);
    const isLive = this.ledger.isLiveWriter(writer);
    if (isLive !== undefined) return !isLive;
    const renewed = Object.values(intent.copies).reduce(
      (rev, mark) => (mark.rev > rev ? mark.rev : rev),
      intent.version,
    );
    return this.runtime.now() - versionMs(renewed) > (this.options.leaseMs ?? DEFAULT_LEASE_MS);
  }

  /** Stores whose silence means that more, or newer, could exist than is known of `name` (undefined: of any name). */
  mayHide(name?: string): readonly Member[] {
    const unheard = this.ledger.members.filter((member) => !member.readable);
    if (unheard.length === 0) return [];
    if (this.ledger.unreadableSegments.size > 0) return unheard;
    if (!unheard.every((member) => this.ledger.isCensused(member))) return unheard;
    // Every acknowledged put is on at least `min` stores, so fewer silent ones than that cannot hide one.
    if (this.mode === "mirror" && unheard.length < this.min) return [];
    // Who else has begun to write meanwhile told every store that it reached: at least one has to answer.
    if (unheard.length === this.ledger.members.length) return unheard;
    // Nobody else ever wrote, and this machine's index knows all that it wrote itself.
    const own = this.ledger.soleWriter && unheard.every((member) => this.ledger.wasHeard(member));
    if (!own) return unheard;
    return this.#anyAbandoned(name) ? unheard : [];
  }

  /**
   * Whether a put of a new name was begun by this machine and never ended: what it left may stand on a silent store. One
   * that is still under way may count as not begun yet.
   */
  #anyAbandoned(name: string | undefined): boolean {
    const { index } = this.ledger;
    const key = name === undefined ? undefined : pendingKey(name);
    const version = key === undefined ? undefined : index.getFact(key);
    const begun =
      key === undefined ? index.facts(pendingKey("")) : version === undefined ? [] : [[key, version] as const];
    for (const [pending, by] of begun) {
      const writer = by.slice(17);
      const isLive =
        writer === this.ledger.writer
          ? this.#isBeingWritten(pending.slice(pendingKey("").length))
          : (this.ledger.isLiveWriter(writer) ?? false);
      if (!isLive) return true;
    }
    return false;
  }

  absent(name: string, operation: "get" | "stat"): HoldfastError {
    const silent = this.mayHide(name);
    const context = { store: this.label, operation, object: name } as const;
    if (silent.length === 0 && this.ledger.unreadableSegments.size === 0) {
      return new HoldfastError("not-found", "there is no such object", context);
    }
    const who = silent.map((member) => member.label).join(", ");
    return new HoldfastError(
      "unavailable",
      silent.length === 0
        ? "a part of the ledger is damaged on every store, so it cannot be said whether the object exists"
        : `no store that answered has it, but ${who} did not answer and could hold it`,
      { ...context, errors: silent.map((member) => member.trouble()), cause: silent[0]?.trouble() },
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
      const mark = member.id === undefined ? undefined : record.copies[member.id];
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

/** Key of the mark, in the local index, of a put of a new name that has not ended. */
export function pendingKey(name: string): string {
  return `pending:${name}`;
}
