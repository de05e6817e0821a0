/**
 * The maintenance of a pool with stores that are pools themselves.
 *
 * Reads and writes do not need this, because a pool is a store. But a pool below may be degraded while it has every
 * object, and may have wrong copies while it gives the right bytes. So status, verify and repair include the pools below.
 * Their stores are called `pool > store`.
 */
import type { PoolContext } from "../pool/pool-context.ts";
import { nestedLabel } from "../contract/nested-label.ts";
import type {
  DrainOptions,
  DrainReport,
  Finding,
  Maintenance,
  PoolStatus,
  RepairAction,
  RepairOptions,
  RepairReport,
  StoreReport,
  VerifyOptions,
  VerifyReport,
} from "../contract/pool.ts";
import type { Debt, OperationOptions } from "../contract/store.ts";
import { PoolMaintenance } from "./pool-maintenance.ts";
import { storeCalled, storeNames } from "./store-names.ts";

/** A store of a pool that is a pool itself. */
export interface PoolBelow {
  /** Its label in the pool above. */
  readonly label: string;
  readonly maintenance: Maintenance;
}

export class NestedMaintenance extends PoolMaintenance {
  readonly #below: readonly PoolBelow[];

  constructor(pool: PoolContext, below: readonly PoolBelow[]) {
    super(pool);
    this.#below = below;
  }

  override async stores(options?: OperationOptions): Promise<readonly StoreReport[]> {
    const own = await super.stores(options);
    const below = await Promise.all(
      this.#below.map(async ({ label, maintenance }) => [label, await maintenance.stores(options)] as const),
    );
    return withBelow(own, new Map(below));
  }

  override async status(options?: OperationOptions): Promise<PoolStatus> {
    const own = await super.status(options);
    const below = await Promise.all(
      this.#below.map(async ({ label, maintenance }) => [label, await maintenance.status(options)] as const),
    );
    const sum = (field: "degraded" | "lost" | "unsettled"): number =>
      below.reduce((total, [, status]) => total + status[field], own[field]);
    const stores = withBelow(own.stores, new Map(below.map(([label, status]) => [label, status.stores])));
    const absent = [
      ...own.absent,
      ...below.flatMap(([label, status]) => status.absent.map((one) => nestedLabel(label, one))),
    ];
    return { ...own, stores, degraded: sum("degraded"), lost: sum("lost"), unsettled: sum("unsettled"), absent };
  }

  override async *debts(options?: OperationOptions): AsyncGenerator<Debt> {
    yield* super.debts(options);
    for (const { label, maintenance } of this.#below) {
      for await (const debt of maintenance.debts(options)) yield { ...debt, store: nestedLabel(label, debt.store) };
    }
  }

  override async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    const reports: VerifyReport[] = [];
    for (const below of this.#below) {
      const report = await below.maintenance.verify({ ...options, ...toldBelow(below.label, options) });
      reports.push({ ...report, unheard: report.unheard.map((store) => nestedLabel(below.label, store)) });
    }
    const own = await super.verify(options);
    const byKind: Partial<Record<Finding["kind"], number>> = {};
    for (const report of [own, ...reports]) {
      for (const [kind, count] of Object.entries(report.byKind) as [Finding["kind"], number][]) {
        byKind[kind] = (byKind[kind] ?? 0) + count;
      }
    }
    const sum = (field: "copies" | "bytes" | "findings"): number =>
      reports.reduce((total, report) => total + report[field], own[field]);
    return {
      objects: own.objects,
      copies: sum("copies"),
      bytes: sum("bytes"),
      findings: sum("findings"),
      byKind,
      unheard: [...own.unheard, ...reports.flatMap((report) => report.unheard)],
    };
  }

  override async repair(options: RepairOptions = {}): Promise<RepairReport> {
    const refill = await this.#sortByPool(options.refill ?? []);
    const reports: RepairReport[] = [];
    for (const below of this.#below) {
      const report = await below.maintenance.repair({
        ...options,
        ...toldBelow(below.label, options),
        refill: refill.get(below) ?? [],
      });
      reports.push(fromBelow(below.label, report));
    }
    const own = await super.repair({ ...options, refill: refill.get(undefined) ?? [] });
    if (options.dryRun !== true) {
      // A copy to a pool below may have missed a store there, or may have brought back an object that was lost there.
      for (const [place, below] of this.#below.entries()) {
        const isWhole = reports[place]?.whole ?? false;
        const { degraded, unsettled } = await below.maintenance.status({ signal: options.signal });
        if (isWhole && degraded + unsettled === 0) continue;
        // Faults that were found by reading can only be confirmed as corrected by reading.
        const quick = isWhole || options.quick;
        const again = await below.maintenance.repair({ prefix: options.prefix, quick, signal: options.signal });
        reports[place] = addReports(fromBelow(below.label, again), [onlyDone(reports[place])]);
      }
    }
    return addReports(own, reports);
  }

  override async create(): Promise<void> {
    for (const { maintenance } of this.#below) await maintenance.create();
    await super.create();
  }

  override async cancelDrain(store: string): Promise<void> {
    const [[below, [inner] = []] = []] = await this.#sortByPool([store]);
    if (below === undefined || inner === undefined) return super.cancelDrain(store);
    return below.maintenance.cancelDrain(inner);
  }

  override async forget(store: string): Promise<void> {
    for (const below of this.#below) {
      const prefix = nestedLabel(below.label, "");
      if (store.startsWith(prefix)) return below.maintenance.forget(store.slice(prefix.length));
    }
    return super.forget(store);
  }

  override async drain(store: string, options?: DrainOptions): Promise<DrainReport> {
    const [[below, [inner] = []] = []] = await this.#sortByPool([store]);
    if (below === undefined || inner === undefined) return super.drain(store, options);
    const report = await below.maintenance.drain(inner, { ...options, ...toldBelow(below.label, options ?? {}) });
    return { ...fromBelow(below.label, report), removable: report.removable };
  }

  /** The stores by the pool that they belong to (undefined: this one), under the names that those pools know. */
  async #sortByPool(stores: readonly string[]): Promise<ReadonlyMap<PoolBelow | undefined, readonly string[]>> {
    const sorted = new Map<PoolBelow | undefined, string[]>();
    if (stores.length === 0) return sorted;
    const known = (await super.stores()).map((report) => knownStore(undefined, report));
    for (const below of this.#below) {
      for (const report of await below.maintenance.stores()) known.push(knownStore(below, report));
    }
    for (const store of stores) {
      const { below, inner } = storeCalled(store, known, ({ names }) => names);
      sorted.set(below, [...(sorted.get(below) ?? []), inner]);
    }
    return sorted;
  }
}

interface KnownStore {
  /** The pool that it belongs to; undefined: this one. */
  readonly below: PoolBelow | undefined;
  readonly label: string;
  readonly id: string | undefined;
  readonly names: readonly string[];
  /** Its id or label in its own pool. */
  readonly inner: string;
}

function knownStore(below: PoolBelow | undefined, report: StoreReport): KnownStore {
  const named = (name: string): string =>
    below === undefined || name === report.id ? name : nestedLabel(below.label, name);
  const { label, id } = report;
  return { below, label: named(label), id, names: storeNames(report).map(named), inner: id ?? label };
}

/** Each store, followed by the stores below if it is a pool. */
function withBelow<T extends { readonly label: string; readonly within?: string }>(
  own: readonly T[],
  below: ReadonlyMap<string, readonly T[]>,
): readonly T[] {
  return own.flatMap((store) => [
    store,
    ...(below.get(store.label) ?? []).map((inner) => ({
      ...inner,
      label: nestedLabel(store.label, inner.label),
      within: store.label,
    })),
  ]);
}

interface Told {
  readonly onFinding?: ((finding: Finding) => void) | undefined;
  readonly onAction?: ((action: RepairAction) => void) | undefined;
}

/** The caller's callbacks, for a pool below. They get its stores under the names that the caller knows. */
function toldBelow(label: string, { onFinding, onAction }: Told): Told {
  return {
    onFinding: (finding) => onFinding?.(findingFrom(label, finding)),
    onAction: (action) =>
      onAction?.({
        ...action,
        ...(action.store === undefined ? {} : { store: nestedLabel(label, action.store) }),
        ...(action.from === undefined ? {} : { from: nestedLabel(label, action.from) }),
      }),
  };
}

function findingFrom(label: string, finding: Finding): Finding {
  return { ...finding, store: finding.store === undefined ? label : nestedLabel(label, finding.store) };
}

function fromBelow(label: string, report: RepairReport): RepairReport {
  return {
    ...report,
    left: report.left.map((finding) => findingFrom(label, finding)),
    unheard: report.unheard.map((store) => nestedLabel(label, store)),
  };
}

/** The counts of an earlier run without its remaining findings, which a later run reports. */
function onlyDone(report: RepairReport | undefined): RepairReport {
  const { planned = 0, done = 0, failed = 0, bytes = 0 } = report ?? {};
  return { planned, done, failed, bytes, left: [], whole: true, unheard: [] };
}

/** Adds up the reports of several pools. */
function addReports(last: RepairReport, others: readonly RepairReport[]): RepairReport {
  const sum = (field: "planned" | "done" | "failed" | "bytes"): number =>
    others.reduce((total, report) => total + report[field], last[field]);
  const done = { planned: sum("planned"), done: sum("done"), failed: sum("failed"), bytes: sum("bytes") };
  return {
    ...done,
    left: [...last.left, ...others.flatMap((report) => report.left)],
    whole: last.whole && others.every((report) => report.whole),
    unheard: [...last.unheard, ...others.flatMap((report) => report.unheard)],
  };
}
