/** A pool with everything that can be asked of one: the store itself, its state, verify, repair, drain, rebalance, drill. */
import { bySize, forEachBounded } from "../bounded.ts";
import type { Bound } from "../bounded.ts";
import { HoldfastError, throwIfAborted } from "../errors.ts";
import { versionMs } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { CopyMark, ObjectRecord, PutRecord, StoreId } from "../ledger/record.ts";
import type { Logger } from "../log.ts";
import type { PoolStore } from "../modes/pool-store.ts";
import { copyTo } from "../modes/copy.ts";
import { verifiedRead } from "../modes/verified-read.ts";
import type {
  DrainReport,
  DrillReport,
  Finding,
  FindingKind,
  Mode,
  OnFail,
  Pool,
  PoolDeleteResult,
  PoolObjectInfo,
  PoolPutResult,
  PoolStatus,
  RepairOptions,
  RepairReport,
  ScanOptions,
  StoreReport,
  StoreStatus,
  VerifyOptions,
  VerifyReport,
} from "../pool.ts";
import type { Runtime } from "../runtime.ts";
import type {
  Body,
  Capabilities,
  Debt,
  DeleteOptions,
  GetOptions,
  GetResult,
  ListOptions,
  OperationOptions,
  PutOptions,
} from "../store.ts";
import type { ObjectFinding, ObjectPlan } from "./assess.ts";
import { describePlan, mend } from "./mend.ts";
import { inspect, scanNames } from "./scan.ts";
import type { Inspected, ScanItem } from "./scan.ts";
import { storeNames } from "./store-names.ts";

/** Objects looked at, at once; of small ones more. */
const WIDTH = 8;
const byListedSize: Bound<ScanItem> = bySize(WIDTH, ({ listed, state }) => {
  // What is listed by its name alone is as large as its record says; without one it may be of any size.
  const recorded = currentRecord(state)?.content?.size ?? Infinity;
  return [...listed.values()].reduce(
    (most, one) => Math.max(most, typeof one === "object" ? one.size : one === undefined ? 0 : recorded),
    0,
  );
});
/** After so many objects, verify notes how far it has come. */
const REMEMBER_EVERY = 500;
/** Findings kept in a report; all of them are given to `onFinding`. */
const MAX_LEFT = 1000;

export class MaintainedPool implements Pool {
  readonly #core: PoolStore;
  readonly #runtime: Runtime;
  readonly #logger: Logger;

  constructor(core: PoolStore, options: { runtime: Runtime; logger: Logger }) {
    this.#core = core;
    this.#runtime = options.runtime;
    this.#logger = options.logger;
  }

  get label(): string {
    return this.#core.label;
  }

  get capabilities(): Capabilities {
    return this.#core.capabilities;
  }

  get mode(): Mode {
    return this.#core.mode;
  }

  get onfail(): OnFail {
    return this.#core.onfail;
  }

  put(name: string, body: Body, options?: PutOptions): Promise<PoolPutResult> {
    return this.#core.put(name, body, options);
  }

  get(name: string, options?: GetOptions): Promise<GetResult> {
    return this.#core.get(name, options);
  }

  stat(name: string, options?: OperationOptions): Promise<PoolObjectInfo> {
    return this.#core.stat(name, options);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<PoolObjectInfo> {
    return this.#core.list(prefix, options);
  }

  delete(name: string, options?: DeleteOptions): Promise<PoolDeleteResult> {
    return this.#core.delete(name, options);
  }

  debts(options?: OperationOptions): AsyncIterable<Debt> {
    return this.#core.debts(options);
  }

  close(): Promise<void> {
    return this.#core.close();
  }

  // ------------------------------------------------------------------------------------------------------- status

  async stores(options: OperationOptions = {}): Promise<readonly StoreReport[]> {
    throwIfAborted(options.signal);
    await this.#core.open();
    const started = this.#runtime.monotonicMs();
    await this.#core.ledger.hear();
    const elapsed = this.#runtime.monotonicMs() - started;
    return this.#core.ledger.members.map((member) => ({
      ...describeMember(member),
      ...(member.readable ? { latencyMs: member.latencyMs ?? elapsed } : {}),
      draining: this.#core.ledger.isDraining(member),
    }));
  }

  async status(options: OperationOptions = {}): Promise<PoolStatus> {
    await this.#core.open();
    await this.#core.ledger.freshen();
    const { ledger } = this.#core;
    // What was done a moment ago may not be noted yet.
    await ledger.flushed();
    const tally = new Map<
      Member | StoreId,
      { copies: number; bytes: number; deletes: number; since: number | undefined }
    >();
    let degraded = 0;
    let unsettled = 0;
    for (const [, state] of ledger.index.unsettled("")) {
      throwIfAborted(options.signal);
      const current = currentRecord(state);
      if (state.records.length > 1 || current === undefined) unsettled++;
      let owes = false;
      for (const [id, mark] of Object.entries(current?.copies ?? {})) {
        if ((mark.state !== "copy" && mark.state !== "delete") || ledger.memberById(id) === undefined) continue;
        owes = true;
        const sum = tally.get(id) ?? { copies: 0, bytes: 0, deletes: 0, since: undefined };
        if (mark.state === "copy") {
          sum.copies++;
          sum.bytes += current?.content?.size ?? 0;
        } else sum.deletes++;
        sum.since = Math.min(sum.since ?? Infinity, versionMs(mark.rev));
        tally.set(id, sum);
      }
      if (owes) degraded++;
    }
    const late = this.#lateMembers();
    if (late.length > 0) degraded += this.#countLate(late, tally, options.signal);
    const stores = ledger.members.map((member): StoreStatus => {
      const sum = tally.get(member.id ?? member);
      return {
        ...describeMember(member),
        owedCopies: sum?.copies ?? 0,
        owedBytes: sum?.bytes ?? 0,
        owedDeletes: sum?.deletes ?? 0,
        ...(sum?.since === undefined ? {} : { owesSinceMs: sum.since }),
        draining: ledger.isDraining(member),
      };
    });
    return { mode: this.mode, stores, objects: ledger.index.counts().objects, degraded, unsettled };
  }

  /** Stores that came to a mirror after objects were put, and were not filled yet. */
  #lateMembers(): readonly Member[] {
    if (this.mode !== "mirror") return [];
    const { ledger } = this.#core;
    return ledger.members.filter((member) => {
      const state = member.id === undefined ? undefined : ledger.index.store(member.id)?.state;
      return state === "joining" || state === "expected" || member.id === undefined;
    });
  }

  #countLate(
    late: readonly Member[],
    tally: Map<Member | StoreId, { copies: number; bytes: number; deletes: number; since: number | undefined }>,
    signal: AbortSignal | undefined,
  ): number {
    let objects = 0;
    for (const [name, state] of this.#core.ledger.index.iterate("")) {
      throwIfAborted(signal);
      const current = currentRecord(state);
      if (!isPut(current)) continue;
      const targets = this.#core.targets(name);
      const missing = late.filter(
        (member) => targets.includes(member) && (member.id === undefined || current.copies[member.id] === undefined),
      );
      if (
        missing.length > 0 &&
        Object.values(current.copies).every((mark) => mark.state !== "copy" && mark.state !== "delete")
      )
        objects++;
      for (const member of missing) {
        const sum = tally.get(member.id ?? member) ?? { copies: 0, bytes: 0, deletes: 0, since: undefined };
        sum.copies++;
        sum.bytes += current.content.size;
        tally.set(member.id ?? member, sum);
      }
    }
    return objects;
  }

  // ------------------------------------------------------------------------------------------------------- verify

  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    const { ledger } = this.#core;
    await this.#core.open();
    await ledger.hear();
    const prefix = options.prefix ?? "";
    const mark = `verify:${options.quick === true ? "quick" : "full"}:${prefix}`;
    const sampling = options.samplePercent !== undefined && options.samplePercent < 100;
    const resumed = options.resume === false || sampling ? undefined : readMark(ledger.index.getFact(mark));
    const tally = {
      objects: 0,
      copies: 0,
      bytes: 0,
      findings: 0,
      byKind: {} as Partial<Record<FindingKind, number>>,
      ...resumed?.tally,
    };
    const unheard = new Map<Member, HoldfastError>();
    const report = (finding: Finding): void => {
      tally.findings++;
      tally.byKind[finding.kind] = (tally.byKind[finding.kind] ?? 0) + 1;
      options.onFinding?.(finding);
    };
    if (resumed === undefined) for (const finding of await this.#ledgerFindings(true)) report(finding);
    const scope = { prefix, after: resumed?.after, quick: options.quick ?? false, signal: options.signal };
    // Names in the order they were begun; everything before the first that is not done is where to go on from.
    const begun: { readonly name: string; done: boolean }[] = [];
    let reached = resumed?.after;
    const remember = (): void => {
      if (!sampling && reached !== undefined) ledger.index.setFact(mark, JSON.stringify({ after: reached, tally }));
    };
    const total = prefix === "" ? ledger.index.counts().objects : undefined;
    await forEachBounded(scanNames(this.#core, scope, unheard), byListedSize, async (item) => {
      if (sampling && this.#runtime.random() * 100 >= (options.samplePercent ?? 100)) return;
      const place = { name: item.name, done: false };
      begun.push(place);
      const { assessment, copies, bytes } = await inspect(this.#core, item, scope, unheard);
      for (const finding of assessment.findings) report(toFinding(item.name, finding));
      // A deleted name is looked at, too, and is no object.
      if (copies > 0 || isPut(currentRecord(item.state))) tally.objects++;
      tally.copies += copies;
      tally.bytes += bytes;
      place.done = true;
      while (begun[0]?.done === true) reached = begun.shift()?.name;
      options.onProgress?.({
        objects: tally.objects,
        bytes: tally.bytes,
        ...(total === undefined ? {} : { totalObjects: total }),
      });
      if (tally.objects % REMEMBER_EVERY === 0) remember();
    }).catch((error: unknown) => {
      // Interrupted, mostly: the next verify goes on from here.
      remember();
      throw error;
    });
    if (!sampling) ledger.index.setFact(mark, undefined);
    return { ...tally, unheard: [...unheard.keys()].map((member) => member.label) };
  }

  /** What is wrong with the ledger itself: segments missing on a store, or (when they are read) damaged. */
  async #ledgerFindings(read: boolean): Promise<readonly Finding[]> {
    const { ledger } = this.#core;
    const findings: Finding[] = [];
    // Nobody needs a segment that another one replaces, whole or damaged: it is only waiting to be removed.
    const surplus = new Set<string>();
    for (const gap of ledger.ledgerGaps()) {
      for (const name of gap.missing)
        findings.push({ kind: "ledger", object: name, store: gap.member.label, detail: "missing" });
      for (const name of gap.surplus) surplus.add(name);
    }
    for (const member of ledger.members) {
      if (!read || !member.ready) continue;
      for (const name of member.segments) {
        if (surplus.has(name)) continue;
        try {
          await ledger.fetchSegment(member, name);
        } catch (error) {
          if (error instanceof HoldfastError && error.code === "corrupt") {
            findings.push({ kind: "ledger", object: name, store: member.label, detail: "damaged" });
          }
        }
      }
    }
    return findings;
  }

  // ------------------------------------------------------------------------------------------------------- repair

  async repair(options: RepairOptions = {}): Promise<RepairReport> {
    return this.#repair(options);
  }

  async #repair(options: RepairOptions, only?: (item: ScanItem) => boolean): Promise<RepairReport> {
    const { ledger } = this.#core;
    await this.#core.open();
    await ledger.hear();
    const dryRun = options.dryRun ?? false;
    if (!dryRun) await ledger.initialise();
    await this.#refill(options, dryRun);
    const sum = { planned: 0, done: 0, failed: 0, bytes: 0 };
    const left: Finding[] = [];
    const unheard = new Map<Member, HoldfastError>();
    await this.#repairLedger(options, dryRun, sum, left);
    const scope = { prefix: options.prefix ?? "", quick: options.quick ?? false, keep: true, signal: options.signal };
    const act = async (item: ScanItem): Promise<void> => {
      if (only?.(item) === false) return;
      const { assessment, state, kept } = await inspect(this.#core, item, scope, unheard);
      for (const finding of assessment.findings) options.onFinding?.(toFinding(item.name, finding));
      const { plan } = assessment;
      if (plan === undefined) {
        for (const finding of assessment.findings) if (left.length < MAX_LEFT) left.push(toFinding(item.name, finding));
        return;
      }
      await this.#carryOut(item.name, plan, { state, kept }, options, dryRun, sum, left);
      options.onProgress?.({ objects: sum.done, bytes: sum.bytes });
    };
    await forEachBounded(scanNames(this.#core, scope, unheard), byListedSize, (item) =>
      this.#core.exclusive(item.name, () => act(item)),
    );
    if (dryRun) return { ...sum, left, whole: false, unheard: labels(unheard) };
    await ledger.settle();
    await ledger.hear();
    // A list of segments that was asked for while some were merged names ones that are gone, and stops the next merge.
    await ledger.settle();
    // A segment that was copied to a store while it was merged into another one is left behind there.
    await this.#syncLedger(sum);
    await this.#census(scope.prefix, left, unheard, options.signal);
    // A store that could not be given its identity answers, and is no part of the pool yet.
    for (const member of ledger.members) if (!member.ready) unheard.set(member, member.trouble());
    const whole = left.length === 0 && unheard.size === 0 && sum.failed === 0;
    if (whole && scope.prefix === "") {
      for (const member of ledger.members) {
        if (member.id === undefined) continue;
        const known = ledger.index.store(member.id);
        if (known === undefined) continue;
        await ledger.recordStore(member.id, {
          censused: true,
          label: member.label,
          fingerprint: member.fingerprint,
          ...(known.state === "joining" || known.state === "expected" ? { state: "member" } : {}),
        });
      }
      this.#clearPending();
      await ledger.settle();
    }
    return { ...sum, left, whole, unheard: labels(unheard) };
  }

  /** After a census of all stores nothing that was begun here can be hidden any more. */
  #clearPending(): void {
    const { index } = this.#core.ledger;
    for (const [key] of index.facts("pending:")) {
      if (!this.#core.isBusy(key.slice("pending:".length))) index.setFact(key, undefined);
    }
  }

  async #refill(options: RepairOptions, dryRun: boolean): Promise<void> {
    for (const wanted of options.refill ?? []) {
      const member = this.#member(wanted);
      if (member.state !== "missing") {
        if (member.readable) continue;
        throw member.trouble();
      }
      if (!dryRun) await this.#core.ledger.refill(member);
    }
  }

  #member(wanted: string): Member {
    const member = this.#core.ledger.members.find((one) => storeNames(one).includes(wanted));
    if (member === undefined) {
      const known = this.#core.ledger.members.map((one) => one.label).join(", ");
      throw new HoldfastError("config", `the pool has no store ${wanted} (its stores: ${known})`);
    }
    return member;
  }

  async #repairLedger(options: RepairOptions, dryRun: boolean, sum: Sum, left: Finding[]): Promise<void> {
    for (const finding of await this.#ledgerFindings(true)) {
      options.onFinding?.(finding);
      sum.planned++;
      options.onAction?.({
        action: "ledger",
        object: finding.object,
        ...(finding.store === undefined ? {} : { store: finding.store }),
        why: finding.detail ?? "",
      });
      if (dryRun) continue;
      if (finding.detail === "damaged" && !(await this.#mendSegment(finding, options.discardDamaged ?? false))) {
        left.push(finding);
      } else sum.done++;
    }
    if (!dryRun) await this.#syncLedger(sum);
  }

  /** A segment from a store where it is whole; else what it said from this machine's index; else, where asked to, without it. */
  async #mendSegment({ object, store }: Finding, discard: boolean): Promise<boolean> {
    const { ledger } = this.#core;
    const member = ledger.members.find((one) => one.label === store);
    // One that was damaged on several stores may be gone already.
    if (member?.segments.has(object) !== true) return member !== undefined;
    if (await ledger.mendSegment(member, object)) return true;
    if (ledger.index.hasSegment(object)) return ledger.compact();
    return discard && (await ledger.discardSegment(object));
  }

  async #syncLedger(sum: Sum): Promise<void> {
    try {
      await this.#core.ledger.sync();
    } catch (error) {
      sum.failed++;
      this.#logger.warn("the ledger could not be made the same on all stores", {
        reason: error instanceof Error ? error.message : String(error),
      });
    }
  }

  async #carryOut(
    name: string,
    plan: ObjectPlan,
    { state, kept }: Pick<Inspected, "state" | "kept">,
    options: RepairOptions,
    dryRun: boolean,
    sum: Sum,
    left: Finding[],
  ): Promise<void> {
    const actions = describePlan(name, plan);
    sum.planned += actions.length;
    for (const action of actions) options.onAction?.(action);
    if (dryRun) return;
    const mended = await mend(this.#core, name, plan, state, kept, options.signal);
    this.#core.ledger.maintainSoon();
    sum.done += mended.done;
    sum.failed += mended.failed;
    sum.bytes += mended.bytes;
    for (const error of mended.errors) {
      this.#logger.warn("repair could not finish an object", {
        object: name,
        store: error.store,
        reason: error.message,
      });
      if (left.length < MAX_LEFT) {
        left.push({
          kind: "missing",
          object: name,
          ...(error.store === undefined ? {} : { store: error.store }),
          detail: error.message,
        });
      }
    }
  }

  /** Looks at everything once more, from the stores' own listings, and adds what it finds to `left`. */
  async #census(
    prefix: string,
    left: Finding[],
    unheard: Map<Member, HoldfastError>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const scope = { prefix, quick: true, signal };
    const known = new Set(left.map((finding) => `${finding.kind} ${finding.store ?? ""} ${finding.object}`));
    const add = (finding: Finding): void => {
      if (left.length < MAX_LEFT && !known.has(`${finding.kind} ${finding.store ?? ""} ${finding.object}`))
        left.push(finding);
    };
    for (const finding of await this.#ledgerFindings(false)) add(finding);
    await forEachBounded(scanNames(this.#core, scope, unheard), byListedSize, async (item) => {
      const { assessment } = await inspect(this.#core, item, scope, unheard);
      for (const finding of assessment.findings) add(toFinding(item.name, finding));
      if (assessment.findings.length === 0 && assessment.plan !== undefined) {
        add({ kind: "unsettled", object: item.name, detail: "a debt is not cleared" });
      }
    });
    // A debt of a store that was not heard stands all the same.
    for (const [name, state] of this.#core.ledger.index.unsettled(prefix)) {
      const current = currentRecord(state);
      for (const [id, mark] of Object.entries(current?.copies ?? {})) {
        const member = this.#core.ledger.memberById(id);
        if (member === undefined || (mark.state !== "copy" && mark.state !== "delete")) continue;
        add({
          kind: mark.state === "copy" ? "missing" : "stray",
          object: name,
          store: member.label,
          detail: "still owed",
        });
      }
    }
  }

  // --------------------------------------------------------------------------------------------- drain, rebalance

  async drain(store: string, options: RepairOptions = {}): Promise<DrainReport> {
    await this.#core.open();
    const { ledger } = this.#core;
    await ledger.hear();
    await ledger.initialise();
    const member = this.#member(store);
    // One that never answered holds nothing to be moved.
    const isExpected = member.id !== undefined && ledger.index.store(member.id)?.state === "expected";
    if (member.id === undefined || (isExpected && !member.ready)) throw member.trouble();
    if (ledger.members.every((one) => one === member || ledger.isDraining(one))) {
      throw new HoldfastError("invalid", "the last store of a pool cannot be drained", { store: member.label });
    }
    if (options.dryRun !== true) await ledger.recordStore(member.id, { state: "draining" });
    const report = await this.#repair(options);
    const removable =
      options.dryRun !== true &&
      this.#isDispensable(member) &&
      report.left.every((finding) => finding.store === member.label);
    return { ...report, removable };
  }

  /** Whether every object is somewhere else, by the records. */
  #isDispensable(member: Member): boolean {
    const { index, members } = this.#core.ledger;
    for (const [name, state] of index.iterate("")) {
      const current = currentRecord(state);
      if (state.records.length > 1) return false;
      if (!isPut(current)) continue;
      const holders = members.filter(
        (one) => one !== member && one.id !== undefined && current.copies[one.id]?.state === "holds",
      );
      const enough =
        this.#core.modeFor(name) === "mirror" ? holders.length === this.#core.targets(name).length : holders.length > 0;
      if (!enough) return false;
    }
    return true;
  }

  async rebalance(options: RepairOptions = {}): Promise<RepairReport> {
    const report = await this.#repair(options);
    if (this.mode !== "stripe") return report;
    const moved = await this.#spread(options);
    return {
      ...report,
      planned: report.planned + moved.planned,
      done: report.done + moved.done,
      failed: report.failed + moved.failed,
      bytes: report.bytes + moved.bytes,
      whole: report.whole && moved.failed === 0,
    };
  }

  /** Stripe: moves objects from stores that hold more than their share of the bytes to those that hold less. */
  async #spread(options: RepairOptions): Promise<Sum> {
    const { ledger } = this.#core;
    const sum = { planned: 0, done: 0, failed: 0, bytes: 0 };
    const taking = ledger.members.filter((member) => member.ready && !ledger.isDraining(member));
    const held = new Map<Member, number>(taking.map((member) => [member, 0]));
    let total = 0;
    for (const [, record, holder] of this.#singly(options.prefix ?? "")) {
      if (!held.has(holder)) continue;
      held.set(holder, (held.get(holder) ?? 0) + record.content.size);
      total += record.content.size;
    }
    const weights = taking.reduce((all, member) => all + member.weight, 0);
    const share = (member: Member): number => (total * member.weight) / weights;
    const excess = (member: Member): number => (held.get(member) ?? 0) - share(member);
    for (const [name, , holder] of this.#singly(options.prefix ?? "")) {
      throwIfAborted(options.signal);
      await this.#core.exclusive(name, async () => {
        const current = currentRecord(ledger.index.get(name));
        if (!isPut(current) || holder.id === undefined || current.copies[holder.id]?.state !== "holds") return;
        const { size } = current.content;
        const to = [...taking].sort((a, b) => excess(a) - excess(b))[0];
        // Only a move that brings the two nearer to each other.
        if (to === undefined || to === holder || size === 0 || excess(holder) - size < excess(to)) return;
        sum.planned++;
        options.onAction?.({
          action: "copy",
          object: name,
          store: to.label,
          from: holder.label,
          bytes: size,
          why: "spreads the load",
        });
        held.set(holder, (held.get(holder) ?? 0) - size);
        held.set(to, (held.get(to) ?? 0) + size);
        if (options.dryRun === true) return;
        try {
          await this.#move(current, holder, to, options.signal);
          sum.done++;
          sum.bytes += size;
        } catch (error) {
          throwIfAborted(options.signal);
          sum.failed++;
          this.#logger.warn("an object could not be moved", {
            object: name,
            reason: error instanceof Error ? error.message : String(error),
          });
        }
      });
    }
    return sum;
  }

  /** Objects with one holder. */
  *#singly(prefix: string): Generator<readonly [string, PutRecord, Member]> {
    for (const [name, state] of this.#core.ledger.index.iterate(prefix)) {
      const current = currentRecord(state);
      if (state.records.length !== 1 || !isPut(current)) continue;
      const holders = this.#core.ledger.members.filter(
        (member) => member.id !== undefined && current.copies[member.id]?.state === "holds",
      );
      if (holders.length === 1 && holders[0] !== undefined) yield [name, current, holders[0]];
    }
  }

  /** Copies, records, and only then deletes; a crash in between leaves one copy too many, which the record names. */
  async #move(record: PutRecord, from: Member, to: Member, signal: AbortSignal | undefined): Promise<void> {
    const { ledger } = this.#core;
    await ledger.freshen();
    await copyTo(record, [from], to, signal);
    const marks = (fromState: CopyMark["state"]): ObjectRecord => {
      const rev = ledger.stamp(record);
      const copies: Record<StoreId, CopyMark> = {};
      if (from.id !== undefined) copies[from.id] = { state: fromState, rev };
      if (to.id !== undefined) copies[to.id] = { state: "holds", rev };
      return { ...record, copies };
    };
    const appended = ledger.append({ objects: [marks("delete")] });
    const error = await appended.get(to);
    if (error !== undefined) throw error;
    // Another machine may have begun to overwrite it where it was: then what stands there is not this copy any more.
    await ledger.hear();
    const records = ledger.index.get(record.name)?.records ?? [];
    if (records.length !== 1 || records[0]?.version !== record.version) return;
    await from.store.delete(record.name, { signal });
    ledger.appendLater([marks("none")]);
  }

  // -------------------------------------------------------------------------------------------------------- drill

  async drill(
    options: ScanOptions & { store?: string | undefined; samplePercent?: number | undefined } = {},
  ): Promise<DrillReport> {
    await this.#core.open();
    const { ledger } = this.#core;
    await ledger.hear();
    const gone = options.store === undefined ? undefined : this.#member(options.store);
    const started = this.#runtime.monotonicMs();
    const lost: string[] = [];
    let objects = 0;
    let bytes = 0;
    const core = this.#core;
    const runtime = this.#runtime;
    async function* chosen(): AsyncGenerator<readonly [string, PutRecord]> {
      for (const [name, state] of ledger.index.iterate(options.prefix ?? "")) {
        const current = currentRecord(state);
        if (!isPut(current) || runtime.random() * 100 >= (options.samplePercent ?? 100)) continue;
        yield [core.shownName(name), current];
      }
    }
    const bound = bySize<readonly [string, PutRecord]>(WIDTH, ([, { content }]) => content.size);
    await forEachBounded(chosen(), bound, async ([name, record]) => {
      const sources = ledger.members
        .filter(
          (member) =>
            member !== gone &&
            member.readable &&
            member.id !== undefined &&
            record.copies[member.id]?.state === "holds",
        )
        .map((member) => ({ store: member.store }));
      objects++;
      try {
        for await (const chunk of verifiedRead(sources, {
          name: record.name,
          content: record.content,
          start: 0,
          end: record.content.size,
          signal: options.signal,
        })) {
          bytes += chunk.byteLength;
        }
      } catch {
        throwIfAborted(options.signal);
        lost.push(name);
      }
      options.onProgress?.({ objects, bytes });
    });
    return { store: gone?.label, objects, bytes, lost: lost.sort(), elapsedMs: this.#runtime.monotonicMs() - started };
  }
}

interface Sum {
  planned: number;
  done: number;
  failed: number;
  bytes: number;
}

function describeMember(member: Member): Omit<StoreReport, "latencyMs" | "draining"> {
  const { state } = member;
  const trouble = state === "missing" || state === "foreign" || state === "unreachable" ? state : undefined;
  return {
    label: member.label,
    ...(member.id === undefined ? {} : { id: member.id }),
    reachable: member.readable,
    ...(trouble === undefined ? {} : { trouble, reason: member.trouble().message }),
  };
}

function labels(members: ReadonlyMap<Member, unknown>): readonly string[] {
  return [...members.keys()].map((member) => member.label);
}

function toFinding(object: string, finding: ObjectFinding): Finding {
  return {
    kind: finding.kind,
    object,
    ...(finding.member === undefined ? {} : { store: finding.member.label }),
    ...(finding.detail === undefined ? {} : { detail: finding.detail }),
  };
}

interface VerifyMark {
  readonly after: string;
  readonly tally: {
    objects: number;
    copies: number;
    bytes: number;
    findings: number;
    byKind: Partial<Record<FindingKind, number>>;
  };
}

function readMark(text: string | undefined): VerifyMark | undefined {
  return text === undefined ? undefined : (JSON.parse(text) as VerifyMark);
}
