/** Repair: corrects faults object by object, and takes a census at the end. */
import { toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Finding, RepairOptions, RepairReport } from "../contract/pool.ts";
import { versionWriter } from "../ledger/hybrid-clock.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { forEachBounded } from "../support/bounded.ts";
import type { ObjectPlan } from "./assess.ts";
import { byListedSize, ledgerFindings, toFinding, unheardLabels } from "./findings.ts";
import { describePlan, mend } from "./mend.ts";
import { inspect, scanNames } from "./scan.ts";
import type { Inspected, ScanItem, ScanScope } from "./scan.ts";
import type { Spread, Sum } from "./spread.ts";
import { storeCalled } from "./store-names.ts";

/** The limit of findings in a report; `onFinding` gets all of them. */
const MAX_LEFT = 1000;

/** `spread`: keeps one copy of each object that has several in a stripe. */
export function repair(pool: PoolContext, options: RepairOptions, spread?: Spread): Promise<RepairReport> {
  return new Repair(pool, options, spread).run();
}

class Repair {
  readonly #pool: PoolContext;
  readonly #options: RepairOptions;
  readonly #spread: Spread | undefined;
  readonly #isDry: boolean;
  readonly #sum: Sum = { planned: 0, done: 0, failed: 0, bytes: 0 };
  readonly #left: Finding[] = [];
  readonly #unheard = new Map<Member, HoldfastError>();
  /** Stores that could not be asked about every object. */
  readonly #silent = new Set<Member>();

  constructor(pool: PoolContext, options: RepairOptions, spread: Spread | undefined) {
    this.#pool = pool;
    this.#options = options;
    this.#spread = spread;
    this.#isDry = options.dryRun ?? false;
  }

  async run(): Promise<RepairReport> {
    const { ledger } = this.#pool;
    await this.#pool.open();
    const { completeness } = ledger;
    await this.#pool.listenToAll();
    // Refilled stores come first, because they count among those that a new machine needs to hear.
    await this.#refill();
    if (!this.#isDry) await ledger.initialise();
    const scope = await this.#scope();
    await this.#repairLedger();
    await forEachBounded(scanNames(this.#pool, scope, this.#unheard), byListedSize, (item) =>
      this.#pool.hold(item.name, () => this.#act(item, scope)),
    );
    if (this.#isDry) return this.#report(false);
    await ledger.settle();
    await ledger.hear();
    // Segments are merged once more, because a list read during a merge names removed segments and stops the next
    // merge.
    await ledger.settle();
    // A segment that was copied to a store while it was merged into another one is removed from there.
    await this.#syncLedger();
    await this.#census(scope.prefix);
    // A store that could not be given an identity answers, but is not a part of the pool yet.
    for (const member of ledger.members) if (!member.ready) this.#unheard.set(member, member.trouble());
    const isAllHeard = unheardLabels(ledger, this.#unheard, this.#silent).length === 0;
    const whole = this.#left.length === 0 && isAllHeard && this.#sum.failed === 0;
    if (whole && scope.prefix === "") await this.#noteWhole(completeness);
    return this.#report(whole);
  }

  #report(whole: boolean): RepairReport {
    const unheard = unheardLabels(this.#pool.ledger, this.#unheard, this.#silent);
    return { ...this.#sum, left: this.#left, whole, unheard };
  }

  async #scope(): Promise<ScanScope> {
    const { prefix, quick, trustStores, signal } = this.#options;
    return {
      prefix: prefix ?? "",
      quick: quick === true && trustStores !== true,
      keep: true,
      signal,
      outdated: await this.#pool.findOutdated(),
      keepOne: this.#spread?.keepOne,
      trustStores,
    };
  }

  /** Looks at one object and mends it. Call it only while holding the name. */
  async #act(item: ScanItem, scope: ScanScope): Promise<void> {
    const { onFinding, onProgress } = this.#options;
    const { assessment, state, kept, silent } = await inspect(this.#pool, item, scope, this.#unheard);
    for (const member of silent) this.#silent.add(member);
    const findings = assessment.findings.map((finding) => toFinding(item.name, finding));
    for (const finding of findings) onFinding?.(finding);
    const { plan } = assessment;
    if (plan === undefined) {
      for (const finding of findings) this.#leave(finding);
      return;
    }
    await this.#carryOut(item.name, plan, { state, kept });
    onProgress?.({ objects: this.#sum.done, bytes: this.#sum.bytes });
  }

  #leave(finding: Finding): void {
    if (this.#left.length < MAX_LEFT) this.#left.push(finding);
  }

  /**
   * Records the result of a whole census of all stores. `completeness`: the ledger's, read before the stores were
   * heard.
   */
  async #noteWhole(completeness: string): Promise<void> {
    const { ledger } = this.#pool;
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
      // The debts of its address are paid.
      for (const id of member.aliases) await ledger.recordStore(id, { state: "removed" });
    }
    const { sure, min } = ledger.epoch;
    if (sure < min) await ledger.changeEpoch({ sure: min });
    this.#clearPending();
    ledger.noteComplete(completeness);
    ledger.sightings.prune();
    await ledger.settle();
  }

  /** Forgets this machine's unfinished puts of new names. After a census of all stores none of them can be hidden. */
  #clearPending(): void {
    const { index } = this.#pool.ledger;
    for (const [key, version] of index.facts("pending:")) {
      const writer = versionWriter(version);
      const isOther = writer !== this.#pool.ledger.writer && this.#pool.ledger.isLiveWriter(writer) === true;
      if (!isOther && !this.#pool.isBusy(key.slice("pending:".length))) index.setFact(key, undefined);
    }
  }

  async #refill(): Promise<void> {
    const { ledger } = this.#pool;
    for (const wanted of this.#options.refill ?? []) {
      const member = storeCalled(wanted, ledger.members);
      if (member.ready) continue;
      if (member.state === "unreachable" || member.state === "foreign") throw member.trouble();
      if (!this.#isDry) await ledger.refill(member);
    }
  }

  async #repairLedger(): Promise<void> {
    const { onFinding, onAction, discardDamaged } = this.#options;
    for (const finding of await ledgerFindings(this.#pool.ledger, true)) {
      onFinding?.(finding);
      this.#sum.planned++;
      onAction?.({
        action: "ledger",
        object: finding.object,
        ...(finding.store === undefined ? {} : { store: finding.store }),
        why: finding.detail ?? "",
      });
      if (this.#isDry) continue;
      if (finding.detail === "damaged" && !(await this.#mendSegment(finding, discardDamaged ?? false))) {
        this.#left.push(finding);
      } else this.#sum.done++;
    }
    if (!this.#isDry) await this.#syncLedger();
  }

  /**
   * Mends a damaged segment: from a store that has it whole, else from this machine's index. Else, with `discard`,
   * removes it.
   */
  async #mendSegment({ object, store }: Finding, discard: boolean): Promise<boolean> {
    const { ledger } = this.#pool;
    const member = ledger.members.find((one) => one.label === store);
    // A segment that was damaged on several stores may be gone already.
    if (member?.segments.has(object) !== true) return member !== undefined;
    if (await ledger.mendSegment(member, object)) return true;
    if (ledger.index.hasSegment(object)) return ledger.compact();
    return discard && (await ledger.discardSegment(object));
  }

  async #syncLedger(): Promise<void> {
    try {
      await this.#pool.ledger.sync();
    } catch (error) {
      this.#sum.failed++;
      this.#pool.logger.warn("the ledger could not be made the same on all stores", {
        reason: toHoldfastError(error).message,
      });
    }
  }

  async #carryOut(name: string, plan: ObjectPlan, { state, kept }: Pick<Inspected, "state" | "kept">): Promise<void> {
    const actions = describePlan(name, plan);
    this.#sum.planned += actions.length;
    for (const action of actions) this.#options.onAction?.(action);
    if (this.#isDry) return;
    const mended = await mend(this.#pool, name, plan, state, kept, this.#options.signal);
    this.#pool.ledger.maintainSoon();
    this.#sum.done += mended.done;
    this.#sum.failed += mended.failed;
    this.#sum.bytes += mended.bytes;
    for (const error of mended.errors) {
      this.#pool.logger.warn("repair could not finish an object", {
        object: name,
        store: error.store,
        reason: error.message,
      });
      const store = error.store === undefined ? {} : { store: error.store };
      this.#leave({ kind: "missing", object: name, ...store, detail: error.message });
    }
  }

  /** Looks at all objects once more, from the stores' own listings, and notes the findings. */
  async #census(prefix: string): Promise<void> {
    const { ledger } = this.#pool;
    const scope = { prefix, quick: true, signal: this.#options.signal };
    const known = new Set(this.#left.map(keyOf));
    const add = (finding: Finding): void => {
      if (!known.has(keyOf(finding))) this.#leave(finding);
    };
    for (const finding of await ledgerFindings(ledger, false)) add(finding);
    await forEachBounded(scanNames(this.#pool, scope, this.#unheard), byListedSize, async (item) => {
      const { assessment, silent } = await inspect(this.#pool, item, scope, this.#unheard);
      for (const member of silent) this.#silent.add(member);
      for (const finding of assessment.findings) add(toFinding(item.name, finding));
      if (assessment.findings.length === 0 && assessment.plan !== undefined) {
        add({ kind: "unsettled", object: item.name, detail: "a debt is not cleared" });
      }
    });
    // The debts of a silent store are findings too.
    for (const [name, state] of ledger.index.unsettled(prefix)) {
      const current = currentRecord(state);
      for (const member of ledger.members) {
        const mark = ledger.markOf(current, member);
        if (!this.#unheard.has(member) || (mark?.state !== "copy" && mark?.state !== "delete")) continue;
        add({
          kind: mark.state === "copy" ? "missing" : "stray",
          object: name,
          store: member.label,
          detail: "still owed",
        });
      }
    }
  }
}

function keyOf({ kind, store, object }: Finding): string {
  return `${kind} ${store ?? ""} ${object}`;
}
