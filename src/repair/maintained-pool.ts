/** A pool with everything that can be asked of one: the store itself, its state, verify, repair, drain, rebalance, drill. */
import { bySize, forEachBounded } from "../support/bounded.ts";
import type { Bound } from "../support/bounded.ts";
import { HoldfastError, throwIfAborted } from "../contract/errors.ts";
import { hint } from "../support/hint.ts";
import { versionWriter } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { PutRecord, StoreId } from "../ledger/record.ts";
import type { Logger } from "../contract/log.ts";
import type { PoolStore } from "../pool/pool-store.ts";
import { verifiedRead } from "../pool/verified-read.ts";
import type {
  DrainOptions,
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
  RebalanceOptions,
  RepairOptions,
  RepairReport,
  ScanOptions,
  StoreReport,
  VerifyOptions,
  VerifyReport,
} from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";
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
} from "../contract/store.ts";
import type { ObjectFinding, ObjectPlan } from "./assess.ts";
import { describePlan, mend } from "./mend.ts";
import { Spread } from "./spread.ts";
import type { Sum } from "./spread.ts";
import { inspect, scanNames } from "./scan.ts";
import type { Inspected, ScanItem } from "./scan.ts";
import { debtsOf, describeMember, statusOf } from "./status.ts";
import { storeCalled, storeNames } from "./store-names.ts";

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

  debts(options: OperationOptions = {}): AsyncIterable<Debt> {
    return debtsOf(this.#core, options);
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

  status(options: OperationOptions = {}): Promise<PoolStatus> {
    return statusOf(this.#core, options);
  }

  // ------------------------------------------------------------------------------------------------------- verify

  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    const { ledger } = this.#core;
    await this.#core.listenToAll();
    const outdated = await this.#core.findOutdated();
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
    const silent = new Set<Member>();
    const report = (finding: Finding): void => {
      tally.findings++;
      tally.byKind[finding.kind] = (tally.byKind[finding.kind] ?? 0) + 1;
      options.onFinding?.(finding);
    };
    if (resumed === undefined) for (const finding of await this.#ledgerFindings(true)) report(finding);
    const scope = { prefix, after: resumed?.after, quick: options.quick ?? false, signal: options.signal, outdated };
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
      const { assessment, copies, bytes, ...seen } = await inspect(this.#core, item, scope, unheard);
      for (const member of seen.silent) silent.add(member);
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
    return { ...tally, unheard: this.#unheard(unheard, silent) };
  }

  /** Stores that could not be looked at, or (`silent`) not at every object, and those that the file does not name among them. */
  #unheard(unheard: ReadonlyMap<Member, unknown>, silent: ReadonlySet<Member>): readonly string[] {
    const absent = this.#core.ledger.absentees.map(({ label }) => label);
    return [...[...new Set([...unheard.keys(), ...silent])].map((member) => member.label), ...absent];
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

  /** `spread`: keep one copy of what has several in a stripe. */
  async #repair(options: RepairOptions, spread?: Spread): Promise<RepairReport> {
    const { ledger } = this.#core;
    await this.#core.open();
    const { completeness } = ledger;
    await this.#core.listenToAll();
    const dryRun = options.dryRun ?? false;
    // A store that is filled again counts among those that a new machine needs to hear.
    await this.#refill(options, dryRun);
    if (!dryRun) await ledger.initialise();
    const sum = { planned: 0, done: 0, failed: 0, bytes: 0 };
    const left: Finding[] = [];
    const unheard = new Map<Member, HoldfastError>();
    const silent = new Set<Member>();
    const outdated = await this.#core.findOutdated();
    await this.#repairLedger(options, dryRun, sum, left);
    const scope = {
      prefix: options.prefix ?? "",
      quick: options.quick === true && options.trustStores !== true,
      keep: true,
      signal: options.signal,
      outdated,
      keepOne: spread?.keepOne,
      trustStores: options.trustStores,
    };
    const act = async (item: ScanItem): Promise<void> => {
      const { assessment, state, kept, ...seen } = await inspect(this.#core, item, scope, unheard);
      for (const member of seen.silent) silent.add(member);
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
      this.#core.hold(item.name, () => act(item)),
    );
    if (dryRun) return { ...sum, left, whole: false, unheard: this.#unheard(unheard, silent) };
    await ledger.settle();
    await ledger.hear();
    // A list of segments that was asked for while some were merged names ones that are gone, and stops the next merge.
    await ledger.settle();
    // A segment that was copied to a store while it was merged into another one is left behind there.
    await this.#syncLedger(sum);
    await this.#census(scope.prefix, left, unheard, silent, options.signal);
    // A store that could not be given its identity answers, and is no part of the pool yet.
    for (const member of ledger.members) if (!member.ready) unheard.set(member, member.trouble());
    const notHeard = this.#unheard(unheard, silent);
    const whole = left.length === 0 && notHeard.length === 0 && sum.failed === 0;
    if (whole && scope.prefix === "") await this.#noteWhole(completeness);
    return { ...sum, left, whole, unheard: notHeard };
  }

  /** After a census of all stores: what is known of them from now on. `completeness`: the ledger's, before they were heard. */
  async #noteWhole(completeness: string): Promise<void> {
    const { ledger } = this.#core;
    for (const member of ledger.members) {
      const known = ledger.storeOf(member);
      if (known === undefined) continue;
      await ledger.recordStore(known.id, {
        censused: true,
        label: member.label,
        addresses: [member.fingerprint],
        prefixes: known.prefixes ?? member.prefixes,
        ...(known.state === "joining" ? { state: "member" } : {}),
      });
      // What its address owed has been paid.
      for (const id of member.aliases) await ledger.recordStore(id, { state: "removed" });
    }
    const { sure, min } = ledger.epoch;
    if (sure < min) await ledger.changeEpoch({ sure: min });
    this.#clearPending();
    ledger.noteComplete(completeness);
    ledger.sightings.prune();
    await ledger.settle();
  }

  /** After a census of all stores nothing that was begun here can be hidden any more. */
  #clearPending(): void {
    const { index } = this.#core.ledger;
    for (const [key, version] of index.facts("pending:")) {
      const writer = versionWriter(version);
      const isOther = writer !== this.#core.ledger.writer && this.#core.ledger.isLiveWriter(writer) === true;
      if (!isOther && !this.#core.isBusy(key.slice("pending:".length))) index.setFact(key, undefined);
    }
  }

  async #refill(options: RepairOptions, dryRun: boolean): Promise<void> {
    for (const wanted of options.refill ?? []) {
      const member = this.#member(wanted);
      if (member.ready) continue;
      if (member.state === "unreachable" || member.state === "foreign") throw member.trouble();
      if (!dryRun) await this.#core.ledger.refill(member);
    }
  }

  #member(wanted: string): Member {
    return storeCalled(wanted, this.#core.ledger.members);
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
    silent: Set<Member>,
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
      const { assessment, ...seen } = await inspect(this.#core, item, scope, unheard);
      for (const member of seen.silent) silent.add(member);
      for (const finding of assessment.findings) add(toFinding(item.name, finding));
      if (assessment.findings.length === 0 && assessment.plan !== undefined) {
        add({ kind: "unsettled", object: item.name, detail: "a debt is not cleared" });
      }
    });
    // A debt of a store that was not heard stands all the same.
    for (const [name, state] of this.#core.ledger.index.unsettled(prefix)) {
      const current = currentRecord(state);
      for (const member of this.#core.ledger.members) {
        const mark = this.#core.ledger.markOf(current, member);
        if (!unheard.has(member) || (mark?.state !== "copy" && mark?.state !== "delete")) continue;
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

  async create(): Promise<void> {
    await this.#core.open();
    await this.#core.ledger.initialise(true);
  }

  async drain(store: string, options: DrainOptions = {}): Promise<DrainReport> {
    await this.#core.listenToAll();
    const { ledger } = this.#core;
    await ledger.initialise();
    const member = this.#member(store);
    // One that never answered holds nothing to be moved.
    if (member.id === undefined) throw member.trouble();
    this.#refuseDrain(member, options.leaveCopies);
    if (options.dryRun !== true) await this.#beginDrain(member, member.id, options.leaveCopies);
    const report = await this.#repair(options);
    const removable =
      options.dryRun !== true &&
      this.#isDispensable(member) &&
      report.left.every((finding) => finding.store === member.label);
    if (removable) await ledger.recordStore(member.id, { state: "drained" });
    return { ...report, removable };
  }

  /** Says that a store is being drained, and takes that back where another machine began to drain one at the same moment. */
  async #beginDrain(member: Member, id: StoreId, leaveCopies: number | undefined): Promise<void> {
    const { ledger } = this.#core;
    const state = ledger.storeOf(member)?.state;
    await ledger.recordStore(id, { state: "draining" });
    await ledger.hear();
    try {
      this.#refuseDrain(member, leaveCopies);
    } catch (error) {
      if (state !== undefined) await ledger.recordStore(id, { state });
      throw error;
    }
  }

  /** A drain takes a copy of everything: who wants so few says so. */
  #refuseDrain(member: Member, leaveCopies: number | undefined): void {
    const { ledger, mode } = this.#core;
    const staying = ledger.members.filter((one) => one !== member && !ledger.isDraining(one));
    if (staying.length === 0) {
      throw new HoldfastError("invalid", "the last store of a pool cannot be drained", { store: member.label });
    }
    if (mode !== "mirror") return;
    if (staying.length < ledger.epoch.min) {
      throw new HoldfastError(
        "conflict",
        `draining ${member.label} would leave ${staying.length} of the ${ledger.epoch.min} stores that every put needs: nothing was changed (to need fewer, run: ${hint("rebalance", "--min", String(staying.length))})`,
        { store: member.label },
      );
    }
    if (staying.length >= (leaveCopies ?? 2)) return;
    const copies = staying.length === 1 ? "1 copy" : `${staying.length} copies`;
    throw new HoldfastError(
      "conflict",
      `draining ${member.label} would leave ${copies} of every object, on ${staying.map((one) => one.label).join(", ")}: nothing was changed (if that is meant: --leave-copies ${staying.length})`,
      { store: member.label },
    );
  }

  async cancelDrain(store: string): Promise<void> {
    await this.#core.listenToAll();
    const { ledger } = this.#core;
    await ledger.initialise();
    const member = this.#member(store);
    const record = ledger.storeOf(member);
    if (record?.state !== "draining" && record?.state !== "drained") {
      throw new HoldfastError("invalid", `${member.label} is not being drained`, { store: member.label });
    }
    // What was moved away is to be brought back before it counts as whole.
    await ledger.recordStore(record.id, { state: "joining" });
  }

  async forget(store: string): Promise<void> {
    await this.#core.listenToAll();
    const { ledger } = this.#core;
    const absent = ledger.absentees.find((record) => storeNames(record).includes(store));
    const member = absent === undefined ? this.#member(store) : undefined;
    const id = absent?.id ?? member?.id;
    if (member?.ready === true) {
      throw new HoldfastError(
        "conflict",
        `${member.label} answers: to drain it first, run: ${hint("drain", member.label)}`,
        {
          store: member.label,
        },
      );
    }
    if (id === undefined) throw new HoldfastError("invalid", `the pool never knew ${store}: take it out of its file`);
    await ledger.recordStore(id, { state: "removed" });
  }

  async forgetPool(): Promise<void> {
    await this.#core.open();
    await this.#core.ledger.forgetPool();
  }

  /** Whether every object is somewhere else, by the records. */
  #isDispensable(member: Member): boolean {
    const { ledger } = this.#core;
    for (const [name, state] of ledger.index.iterate("")) {
      const current = currentRecord(state);
      if (state.records.length > 1) return false;
      if (!isPut(current)) continue;
      const holders = ledger.members.filter((one) => one !== member && ledger.holds(current, one));
      const enough =
        this.#core.modeFor(name) === "mirror" ? holders.length === this.#core.targets(name).length : holders.length > 0;
      if (!enough) return false;
    }
    return true;
  }

  async rebalance(options: RebalanceOptions = {}): Promise<RepairReport> {
    await this.#changePool(options);
    await this.#core.listen();
    if (this.mode !== "stripe") return this.#repair(options);
    const spread = new Spread(this.#core, this.#logger);
    const report = await this.#repair(options, spread);
    const moved = await spread.move(options);
    return {
      ...report,
      planned: report.planned + moved.planned,
      done: report.done + moved.done,
      failed: report.failed + moved.failed,
      bytes: report.bytes + moved.bytes,
      whole: report.whole && moved.failed === 0,
    };
  }

  /** A new epoch of the pool: what it is to be from now on, before anything is moved. Each object can be read throughout. */
  async #changePool({ mode, min, prefixes, dryRun }: RebalanceOptions): Promise<void> {
    if ((mode === undefined && min === undefined && prefixes !== true) || dryRun === true) return;
    const { ledger } = this.#core;
    await this.#core.open();
    await ledger.hear();
    ledger.accept({ mode, min });
    const known = prefixes === true ? ledger.members.filter((member) => ledger.storeOf(member) !== undefined) : [];
    for (const { id, prefixes: wanted } of known)
      if (id !== undefined) await ledger.recordStore(id, { prefixes: wanted });
    await ledger.initialise();
    const next = { ...ledger.epoch, ...(mode === undefined ? {} : { mode }), ...(min === undefined ? {} : { min }) };
    if (next.mode === "mirror" && next.min > ledger.members.length) {
      throw new HoldfastError("invalid", `a pool of ${ledger.members.length} stores cannot have min=${next.min}`);
    }
    await ledger.changeEpoch(next.mode === "stripe" ? { ...next, min: 1, sure: 1 } : next);
  }

  // -------------------------------------------------------------------------------------------------------- drill

  async drill(
    options: ScanOptions & { store?: string | undefined; samplePercent?: number | undefined } = {},
  ): Promise<DrillReport> {
    await this.#core.listenToAll();
    const { ledger } = this.#core;
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
        .filter((member) => member !== gone && member.readable && ledger.holds(record, member))
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
