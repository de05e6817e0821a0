/**
 * The oracle: what a name may be, given what each process was told and when, by one clock.
 *
 * A write takes effect between its start and its end. One that failed, or whose process died, may have done so or not: a
 * later write that was acknowledged decides, or a read that saw everything.
 */

/** SHA-256 of the bytes; undefined: the object is absent. */
export type Value = string | undefined;

export type Outcome = "open" | "acknowledged" | "failed" | "died";

export interface Write {
  readonly value: Value;
  /** Of what was put: from which its bytes can be made again. */
  readonly token: string;
  readonly size: number;
  /** The machine. */
  readonly by: string;
  readonly startMs: number;
  /** Infinity while it is under way. */
  endMs: number;
  outcome: Outcome;
  /** Labels of the stores that owe a copy or the delete, by the answer. */
  owed: readonly string[];
  /** Stores whose ledgers know of it; undefined where nobody can tell which do. */
  holders: Set<string> | undefined;
}

/** A read that heard every store gave `value`. */
interface Decision {
  readonly value: Value;
  readonly startMs: number;
  readonly endMs: number;
}

/** Writes of one name that are kept before the past is cut off. */
const MANY = 24;

export class History {
  readonly name: string;
  #writes: Write[] = [
    {
      value: undefined,
      token: "",
      size: 0,
      by: "",
      startMs: Number.NEGATIVE_INFINITY,
      endMs: Number.NEGATIVE_INFINITY,
      outcome: "acknowledged",
      owed: [],
      holders: undefined,
    },
  ];
  #decisions: Decision[] = [];
  /** All that was ever put. */
  readonly #known = new Map<string, Write>();
  /** Its bytes and index may be gone before its record was written: see `mayBeUnrecorded`. */
  #unrecorded: Write | undefined;
  readonly #lateMs: number;

  /**
   * `lateMs`: for how long after its end a write that failed or died can still take effect, beside what a read decided: a
   * server goes on with what it had taken.
   */
  constructor(name: string, lateMs: number) {
    this.name = name;
    this.#lateMs = lateMs;
  }

  begin(write: Pick<Write, "value" | "token" | "size" | "by" | "startMs">): Write {
    const begun: Write = { ...write, endMs: Number.POSITIVE_INFINITY, outcome: "open", owed: [], holders: undefined };
    this.#writes.push(begun);
    if (begun.value !== undefined) this.#known.set(begun.value, begun);
    return begun;
  }

  /** The write that put these bytes, however long ago. */
  known(value: string): Write | undefined {
    return this.#known.get(value);
  }

  /** Bytes that were put before, newest last. */
  get former(): readonly Write[] {
    return [...this.#known.values()];
  }

  /** Writes whose value an operation from `startMs` to `endMs` may see. */
  legal(startMs: number, endMs: number): Write[] {
    return this.#writes.filter((write) => write.startMs < endMs && !this.#isPast(write, startMs));
  }

  /** Acknowledged writes that began after this one had ended, and ended before `startMs`. */
  after(write: Write, startMs: number): Write[] {
    return this.#writes.filter(
      (later) => later.outcome === "acknowledged" && later.endMs < startMs && later.startMs > write.endMs,
    );
  }

  /** Acknowledged writes of the same time: each of them may have come last. */
  beside(write: Write): Write[] {
    return this.#writes.filter(
      (other) =>
        other !== write &&
        other.outcome === "acknowledged" &&
        other.startMs < write.endMs &&
        other.endMs > write.startMs,
    );
  }

  #isPast(write: Write, startMs: number): boolean {
    if (this.after(write, startMs).length > 0) return true;
    const endMs = write.endMs + (write.outcome === "acknowledged" ? 0 : this.#lateMs);
    return this.#decisions.some(
      (decision) => decision.endMs < startMs && endMs < decision.startMs && decision.value !== write.value,
    );
  }

  decide(value: Value, startMs: number, endMs: number): void {
    if (this.#writes.length > 1) this.#decisions.push({ value, startMs, endMs });
  }

  get isBusy(): boolean {
    return this.#writes.some((write) => write.outcome === "open");
  }

  /** The acknowledged write that decides what the name is now, where nothing else can be and nothing is under way. */
  get only(): Write | undefined {
    const now = Number.MAX_VALUE;
    const legal = this.legal(now, now);
    const [first] = legal;
    if (first === undefined || this.isBusy || this.isContested) return undefined;
    return legal.every((write) => write.outcome === "acknowledged" && write.value === first.value)
      ? legal.at(-1)
      : undefined;
  }

  /**
   * Two machines changed the name at one moment, and one of them deleted it, failed or died: its bytes may be gone, since
   * stores have no delete on a condition (docs/guarantees.md). A later acknowledged write ends it.
   */
  get isContested(): boolean {
    return this.#writes.some((one) =>
      this.#writes.some(
        (other) =>
          one.by !== other.by &&
          one.startMs < other.endMs &&
          other.startMs < one.endMs &&
          (one.value === undefined || one.outcome !== "acknowledged") &&
          !this.#writes.some(
            (later) => later.outcome === "acknowledged" && later.startMs > Math.max(one.endMs, other.endMs),
          ),
      ),
    );
  }

  /** The machine and its index were lost within a moment of this write's end: a new object may be without a record. */
  lostMachine(by: string, sinceMs: number): void {
    for (const write of this.#writes) {
      if (write.by === by && write.endMs >= sinceMs && write.outcome === "acknowledged") this.#unrecorded = write;
    }
  }

  /** Nothing decides between copies of an object without a record: they are not to be damaged. */
  get mayBeUnrecorded(): boolean {
    return this.#unrecorded !== undefined && this.#writes.at(-1) === this.#unrecorded;
  }

  /** A store went back to what it was at `sinceMs`: it knows nothing of what came after. */
  forget(store: string, sinceMs: number): void {
    for (const write of this.#writes) if (write.endMs >= sinceMs) write.holders?.delete(store);
  }

  /** Whether an acknowledged write since `sinceMs` is known to this store alone, as far as its answer told. */
  dependsOn(store: string, sinceMs: number): boolean {
    return this.#writes.some(
      (write) =>
        write.endMs >= sinceMs &&
        write.outcome === "acknowledged" &&
        write.holders !== undefined &&
        [...write.holders].every((holder) => holder === store),
    );
  }

  /** Lets go of what no operation that began at `beforeMs` or later can see. */
  prune(beforeMs: number): void {
    if (this.#writes.length < MANY) return;
    this.#writes = this.#writes.filter((write) => !this.#isPast(write, beforeMs));
    this.#decisions = this.#decisions.filter((decision) => decision.endMs >= beforeMs);
  }

  /** What it may be now, in words. */
  describe(legal: readonly Write[]): string {
    const words = legal.map((write) =>
      write.value === undefined
        ? `absent (${write.outcome === "acknowledged" && write.by !== "" ? `deleted by ${write.by}` : write.outcome})`
        : `${write.token} (${write.outcome})`,
    );
    return [...new Set(words)].join(" or ");
  }
}
