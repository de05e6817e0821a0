/** The maintenance of a whole pool: status, verify, repair, drain, rebalance, drill. */
import { throwIfAborted } from "../contract/errors.ts";
import type {
  DrainOptions,
  DrainReport,
  DrillOptions,
  DrillReport,
  Maintenance,
  PoolStatus,
  RebalanceOptions,
  RepairOptions,
  RepairReport,
  StoreReport,
  VerifyOptions,
  VerifyReport,
} from "../contract/pool.ts";
import type { Debt, OperationOptions } from "../contract/store.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { cancelDrain, drain, forget } from "./drain.ts";
import { drill } from "./drill.ts";
import { rebalance } from "./rebalance.ts";
import { repair } from "./repair.ts";
import { debtsOf, describeMember, statusOf } from "./status.ts";
import { sweep } from "./sweep.ts";
import { verify } from "./verify.ts";

export class PoolMaintenance implements Maintenance {
  readonly #pool: PoolContext;

  constructor(pool: PoolContext) {
    this.#pool = pool;
  }

  async stores(options: OperationOptions = {}): Promise<readonly StoreReport[]> {
    const { ledger, runtime } = this.#pool;
    throwIfAborted(options.signal);
    await this.#pool.open();
    const started = runtime.monotonicMs();
    await ledger.hear();
    const elapsed = runtime.monotonicMs() - started;
    return ledger.members.map((member) => ({
      ...describeMember(member),
      ...(member.readable ? { latencyMs: member.latencyMs ?? elapsed } : {}),
      draining: ledger.isDraining(member),
    }));
  }

  status(options: OperationOptions = {}): Promise<PoolStatus> {
    return statusOf(this.#pool, options);
  }

  debts(options: OperationOptions = {}): AsyncIterable<Debt> {
    return debtsOf(this.#pool, options);
  }

  verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    return verify(this.#pool, options);
  }

  async repair(options: RepairOptions = {}): Promise<RepairReport> {
    const report = await repair(this.#pool, options);
    if (options.dryRun !== true) await sweep(this.#pool, report.unheard, options);
    return report;
  }

  async create(): Promise<void> {
    await this.#pool.open();
    await this.#pool.ledger.initialise(true);
  }

  drain(store: string, options: DrainOptions = {}): Promise<DrainReport> {
    return drain(this.#pool, store, options);
  }

  cancelDrain(store: string): Promise<void> {
    return cancelDrain(this.#pool, store);
  }

  forget(store: string): Promise<void> {
    return forget(this.#pool, store);
  }

  async forgetPool(): Promise<void> {
    await this.#pool.open();
    await this.#pool.ledger.forgetPool();
  }

  rebalance(options: RebalanceOptions = {}): Promise<RepairReport> {
    return rebalance(this.#pool, options);
  }

  drill(options: DrillOptions = {}): Promise<DrillReport> {
    return drill(this.#pool, options);
  }
}
