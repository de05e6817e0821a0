/**
 * Reads of a pool: the current version from any store that has it good; an object without a record from any store that
 * has it.
 */
import { ContentDigest } from "../ledger/digest.ts";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import type { Member } from "../ledger/member.ts";
import { countingStores, currentRecord, isContested, isPut, mayBeUnfinished, openIntents } from "../ledger/record.ts";
import type { CopyMark, NameState, ObjectRecord, PutRecord } from "../ledger/record.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";
import { resolveRange } from "../contract/ranges.ts";
import { linkSignals } from "../support/signals.ts";
import type { GetOptions, GetResult, OperationOptions } from "../contract/store.ts";
import { compareNumbers } from "./placement.ts";
import { infoOf } from "./pool-answers.ts";
import { notNamed } from "./pool-context.ts";
import type { PoolContext } from "./pool-context.ts";
import { unrecordedRead } from "./unrecorded-read.ts";
import { noGoodCopy, verifiedRead } from "./verified-read.ts";
import type { Source } from "./verified-read.ts";

export class PoolReads {
  readonly #pool: PoolContext;

  constructor(pool: PoolContext) {
    this.#pool = pool;
  }

  get(inner: string, name: string, options: GetOptions): Promise<GetResult> {
    return this.#askingAgain(inner, options, ["invalid"], (state) => this.#getFrom(state, inner, name, options));
  }

  /**
   * A read that fails hears the stores once more before it gives up, because this machine's index may be behind, or a
   * silent store may answer now. Errors with a code in `final` are thrown at once.
   */
  async #askingAgain<T>(
    inner: string,
    options: OperationOptions,
    final: readonly ErrorCode[],
    read: (state: NameState | undefined) => Promise<T>,
  ): Promise<T> {
    const state = this.#pool.ledger.index.get(inner);
    const answering = this.#answering();
    try {
      return await read(state);
    } catch (error) {
      throwIfAborted(options.signal);
      const code = error instanceof HoldfastError ? error.code : undefined;
      // The only writer knows all its own writes, so another hearing would be useless.
      const isKnown = code === "not-found" && this.#pool.ledger.soleWriter;
      if (isKnown || (code !== undefined && final.includes(code))) throw error;
      // A write of this process may have changed copies before its record is written, so its end is waited for. A write
      // of a new name counts as not begun yet.
      if (code !== "not-found") await this.#pool.lockOf(inner);
      await this.#pool.ledger.hear();
      const fresh = this.#pool.ledger.index.get(inner);
      if (JSON.stringify(fresh) === JSON.stringify(state) && this.#answering() === answering) throw error;
      return read(fresh);
    }
  }

  #answering(): string {
    return this.#pool.ledger.members
      .filter((member) => member.readable)
      .map((member) => member.position)
      .join();
  }

  async #getFrom(state: NameState | undefined, inner: string, name: string, options: GetOptions): Promise<GetResult> {
    const current = currentRecord(state);
    const unheard = this.#pool.mayHide(inner).map((member) => member.label);
    if (state === undefined || current === undefined) return this.#getUnrecorded(state, inner, name, unheard, options);
    let failure: unknown;
    // The newest version is the object. An older one, written at the same time elsewhere, counts only if every store
    // has answered and none has a good copy of the newest.
    for (const record of state.records) {
      if (record.kind === "intent") continue;
      // A tombstone written at the same time as the newest version has no copies that could prove it, so the copies of a
      // later unfinished write come first.
      if (!isPut(record) && failure !== undefined && openIntents(state).length > 0) continue;
      if (!isPut(record)) throw this.#pool.absent(inner, "get");
      try {
        return await this.#getVersion(record, inner, name, unheard, options);
      } catch (error) {
        const { code } = toHoldfastError(error);
        if (code !== "invalid" || failure === undefined) failure = error;
        // A range that this version lacks does not show whether the version is the right one.
        const isLost =
          code === "corrupt" || (code === "invalid" && !(await this.#stands(state, record, inner, options)));
        if (!isLost || !this.#allHeard(record)) throw error;
      }
    }
    if (openIntents(state).length > 0) return this.#getUnrecorded(state, inner, name, unheard, options);
    throw failure;
  }

  /** Whether a version has a good copy. It is read only if another version may be the object. */
  async #stands(state: NameState, record: PutRecord, inner: string, { signal }: GetOptions): Promise<boolean> {
    if (state.records.length === 1) return true;
    try {
      const found = await this.#getVersion(record, inner, inner, [], { signal });
      await found.close();
      return true;
    } catch (error) {
      if (toHoldfastError(error).code !== "corrupt") throw error;
      return false;
    }
  }

  /** Whether every store that may have a copy of this version answers now. */
  #allHeard(record: ObjectRecord): boolean {
    if (this.#pool.ledger.absentees.some(({ id }) => (record.copies[id]?.state ?? "none") !== "none")) return false;
    return this.#pool.ledger.members.every(
      (member) => member.readable || this.#pool.ledger.markOf(record, member)?.state === "none",
    );
  }

  async #getVersion(
    record: PutRecord,
    inner: string,
    name: string,
    unheard: readonly string[],
    options: GetOptions,
  ): Promise<GetResult> {
    const { content } = record;
    const { start, end } = resolveRange(options.range, content.size);
    const linked = linkSignals(options.signal);
    const { sources, silent } = this.#sources(record);
    const failures: HoldfastError[] = [];
    const bytes = verifiedRead(sources, {
      name: inner,
      content,
      start,
      end,
      signal: linked.signal,
      reuse: options.reuse,
      onFailure: (error) => {
        failures.push(error);
        // A wrong copy is logged only after another hearing: see `#noteWrong`.
        if (error.code === "corrupt" || error.code === "not-found") return;
        this.#pool.logger.warn("copy passed over", { object: inner, store: error.store, reason: error.message });
      },
    });
    // The first piece is checked before the result is returned.
    let first: IteratorResult<Uint8Array>;
    try {
      first = await bytes.next();
    } catch (error) {
      linked.release();
      throwIfAborted(options.signal);
      const lost = error instanceof HoldfastError && error.code === "corrupt";
      if (lost && silent.length > 0) throw noGoodCopy(name, [...failures, ...silent]);
      throw error;
    }
    let isRead = false;
    const close = async (): Promise<void> => {
      // An abort makes an error, which would be wrong after a complete read.
      if (!isRead) linked.abort(new HoldfastError("aborted", "the read was closed"));
      linked.release();
      // oxlint-disable-next-line unicorn/no-useless-undefined -- ends a generator whose return type is void
      await bytes.return(undefined);
    };
    return {
      info: infoOf(name, record),
      body: joined(
        first,
        bytes,
        () => {
          isRead = true;
        },
        () => linked.release(),
      ),
      ...(unheard.length > 0 ? { unheard } : {}),
      close,
    };
  }

  /** The stores to read a version from, its holders first, and the errors of silent stores that may have it too. */
  #sources(record: PutRecord): { sources: Source[]; silent: HoldfastError[] } {
    const rank = (member: Member): number => {
      const mark = this.#pool.ledger.markOf(record, member)?.state;
      return mark === "holds" ? 0 : mark === "copy" || mark === undefined ? 1 : 2;
    };
    const latency = (member: Member): number =>
      this.#pool.options.read === "fastest" ? (member.latencyMs ?? Infinity) : 0;
    const possible = this.#pool.ledger.members
      .filter((member) => rank(member) < 2)
      .sort((a, b) => rank(a) - rank(b) || compareNumbers(latency(a), latency(b)) || a.position - b.position);
    return {
      sources: possible
        .filter((member) => member.readable)
        .map((member) => ({
          store: member.store,
          onWrong: (error) => {
            if (rank(member) === 0) void this.#noteWrong(record, member, error);
          },
        })),
      silent: [
        ...possible.filter((member) => !member.readable).map((member) => member.trouble()),
        ...this.#pool.ledger.absentees
          .filter(({ id }) => ["holds", "copy"].includes(record.copies[id]?.state ?? "none"))
          .map(({ label }) => notNamed(label)),
      ],
    };
  }

  /**
   * Records a missing or wrong copy as a debt, if the record is still current after another hearing; otherwise the copy
   * may be a newer version. A reader may have no write access, so a failure is ignored.
   */
  async #noteWrong(record: PutRecord, member: Member, error: HoldfastError): Promise<void> {
    const { ledger, logger } = this.#pool;
    const id = member.owingId;
    await ledger.hear().catch(() => undefined);
    const state = ledger.index.get(record.name);
    const current = currentRecord(state);
    if (id === undefined || current?.version !== record.version || openIntents(state).length > 0) return;
    if (!ledger.holds(current, member)) return;
    logger.warn("copy passed over", { object: record.name, store: error.store, reason: error.message });
    const reason = error.code === "not-found" ? "missing" : "wrong";
    const mark: CopyMark = { state: "copy", rev: ledger.stamp(record), reason };
    ledger.appendLater([{ ...record, copies: { [id]: mark } }]);
  }

  /**
   * Reads an object without a record, or with only an unfinished write, from the first store that has it. Without a
   * digest to check by, a read continues from another store only if that store's bytes were the same so far.
   */
  async #getUnrecorded(
    state: NameState | undefined,
    inner: string,
    name: string,
    unheard: readonly string[],
    options: GetOptions,
  ): Promise<GetResult> {
    const failures: HoldfastError[] = this.#pool.mayHide(inner).map((store) => store.trouble());
    const readable =
      state === undefined
        ? this.#pool.ledger.members.filter((member) => member.readable)
        : await this.#decided(inner, state);
    for (const [place, member] of readable.entries()) {
      try {
        const found = await member.store.get(inner, options);
        let opened = found;
        const others = readable.slice(place + 1).map(({ store }) => store);
        return {
          info: { ...found.info, name },
          body: unrecordedRead(inner, member.label, found, others, options, (next) => {
            opened = next;
          }),
          close: () => opened.close(),
          ...(unheard.length > 0 ? { unheard } : {}),
        };
      } catch (error) {
        throwIfAborted(options.signal);
        const failure = toHoldfastError(error).within({ store: member.label, operation: "get", object: inner });
        if (failure.code === "invalid") throw failure;
        if (failure.code !== "not-found") failures.push(failure);
      }
    }
    if (failures.length === 0) {
      // A write that was cut short does not undo the one before it, so an object without any copy is lost.
      const wasDeleted = state?.records.some((record) => record.kind === "delete") ?? false;
      if (isPut(currentRecord(state)) && !wasDeleted) throw noGoodCopy(name, failures);
      throw this.#pool.absent(inner, "get");
    }
    throw new HoldfastError(
      "unavailable",
      `no store that answered has it (${failures.map((failure) => `${failure.store ?? ""}: ${failure.message}`).join("; ")})`,
      {
        errors: failures,
        cause: failures.at(-1),
      },
    );
  }

  /**
   * The members whose copies of an unfinished write count. Throws unless all stores answer and those copies are alike.
   */
  async #decided(name: string, state: NameState): Promise<readonly Member[]> {
    const seen = new Map<Member, string>();
    for (const member of this.#pool.ledger.members) {
      if (!mayBeUnfinished(state, member.owingId)) continue;
      if (!member.readable) throw this.#undecided(name, member.trouble());
      try {
        const { body } = await member.store.get(name);
        const digest = new ContentDigest();
        for await (const chunk of body) digest.update(chunk);
        seen.set(member, digest.finish().sha256);
      } catch (error) {
        const failure = toHoldfastError(error);
        if (failure.code !== "not-found") throw this.#undecided(name, failure);
      }
    }
    const counting = countingStores(state, [...seen.keys()]);
    if (new Set(counting.map((member) => seen.get(member))).size > 1) {
      throw new HoldfastError(
        "conflict",
        `a write was not finished and the copies differ; to settle it, run: ${hint("repair")}`,
        {
          object: name,
        },
      );
    }
    return counting;
  }

  /**
   * The facts of an object that machines wrote at once, or whose write was cut short. Its copies decide, as in a read.
   */
  async statByCopies(inner: string, options: OperationOptions): Promise<PoolObjectInfo> {
    const found = await this.get(inner, inner, options);
    await found.close();
    return found.info;
  }

  #undecided(name: string, cause: HoldfastError): HoldfastError {
    return new HoldfastError(
      "unavailable",
      `a write was not finished, and its result is not known while ${cause.store ?? "a store"} does not answer`,
      { object: name, cause, errors: [cause] },
    );
  }

  stat(inner: string, options: OperationOptions): Promise<PoolObjectInfo> {
    return this.#askingAgain(inner, options, ["invalid"], (state) => this.#stat(state, inner, options));
  }

  /**
   * `stat` for a caller that holds the name and has just heard the stores. It neither hears them again nor waits for the
   * name's current change, which is the caller's own.
   */
  async statHeld(inner: string, options: OperationOptions): Promise<PoolObjectInfo> {
    const state = this.#pool.ledger.index.get(inner);
    if (!isContested(state)) return this.#stat(state, inner, options);
    const found = await this.#getFrom(state, inner, inner, options);
    await found.close();
    return found.info;
  }

  async #stat(state: NameState | undefined, inner: string, options: OperationOptions): Promise<PoolObjectInfo> {
    const current = currentRecord(state);
    if (isContested(state)) return this.statByCopies(inner, options);
    if (isPut(current)) {
      // The record shows that the object exists. But if no copy can be reached, it cannot be read either.
      const { sources, silent } = this.#sources(current);
      const { members } = this.#pool.ledger;
      const isHeld = members.some((member) => member.readable && this.#pool.ledger.holds(current, member));
      if (sources.length === 0 || (!isHeld && silent.length > 0)) throw noGoodCopy(inner, silent);
      return infoOf(inner, current);
    }
    if (current !== undefined) throw this.#pool.absent(inner, "stat");
    const answers = await this.#pool.statAll(inner, options);
    const failures: HoldfastError[] = [];
    for (const [, answer] of answers) {
      if (!(answer instanceof HoldfastError)) return answer;
      if (answer.code !== "not-found") failures.push(answer);
    }
    const failure = failures[0];
    // One store refused the name itself, so the answer of the others does not matter.
    if (failure?.code === "invalid") throw failure;
    if (failure !== undefined) {
      throw new HoldfastError("unavailable", `no store that answered has it (${failure.message})`, {
        cause: failure,
        errors: failures,
      });
    }
    throw this.#pool.absent(inner, "stat");
  }
}

async function* joined(
  first: IteratorResult<Uint8Array>,
  rest: AsyncGenerator<Uint8Array>,
  onRead: () => void,
  onEnd: () => void,
): AsyncGenerator<Uint8Array> {
  try {
    if (first.done !== true) {
      yield first.value;
      yield* rest;
    }
    onRead();
  } finally {
    onEnd();
  }
}
