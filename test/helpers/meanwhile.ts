/** Gateways in which a test can stop a write on its way to a store, and hear when the pool is asked for one. */
import { ForwardingStore } from "../../src/wrappers/forward.ts";
import type { Body, DeleteOptions, DeleteResult, PutOptions, PutResult, Store } from "../../src/contract/store.ts";
import { gate } from "./gate.ts";
import type { Gate } from "./gate.ts";
import { startTestGateways } from "./gateways.ts";
import type { TestGateways, TestGatewaysOptions } from "./gateways.ts";

type Change = "put" | "delete";

export interface Stopped {
  /** Resolves when the call has come to the store. */
  readonly reached: Promise<void>;
  goOn(): void;
}

export interface MeanwhileGateways extends TestGateways {
  /** Such calls to the stores wait there, with nothing changed, until they are told to go on. */
  stopAt(change: Change, name: string): Stopped;
  /** Resolves when the pool is asked the next time to do this. */
  asked(operation: Change | "get", name: string): Promise<void>;
}

class StoppingStore extends ForwardingStore {
  readonly #stops: Map<string, { readonly reached: Gate; readonly goOn: Gate }>;

  constructor(inner: Store, stops: Map<string, { readonly reached: Gate; readonly goOn: Gate }>) {
    super(inner);
    this.#stops = stops;
  }

  override async put(name: string, body: Body, options?: PutOptions): Promise<PutResult> {
    await this.#pause(`put ${name}`);
    return super.put(name, body, options);
  }

  override async delete(name: string, options?: DeleteOptions): Promise<DeleteResult> {
    await this.#pause(`delete ${name}`);
    return super.delete(name, options);
  }

  async #pause(call: string): Promise<void> {
    const stop = this.#stops.get(call);
    if (stop === undefined) return;
    stop.reached.open();
    await stop.goOn.opened;
  }
}

/** S3 (one bucket, the pool), WebDAV and restic over a mirror of two stores in memory, open to everybody. */
export async function startMeanwhile(options: Partial<TestGatewaysOptions> = {}): Promise<MeanwhileGateways> {
  const stops = new Map<string, { readonly reached: Gate; readonly goOn: Gate }>();
  const waiting = new Map<string, Gate>();
  const gateways = await startTestGateways({
    protocols: ["s3", "webdav", "restic"],
    guarded: false,
    bucket: "bucket",
    wrap: (store) => new StoppingStore(store, stops),
    ...options,
  });
  const { pool } = gateways;
  const announce = (call: string): void => {
    waiting.get(call)?.open();
    waiting.delete(call);
  };
  const [put, get, remove] = [pool.put.bind(pool), pool.get.bind(pool), pool.delete.bind(pool)];
  Object.assign(pool, {
    put: (...given: Parameters<typeof put>) => {
      announce(`put ${given[0]}`);
      return put(...given);
    },
    get: (...given: Parameters<typeof get>) => {
      announce(`get ${given[0]}`);
      return get(...given);
    },
    delete: (...given: Parameters<typeof remove>) => {
      announce(`delete ${given[0]}`);
      return remove(...given);
    },
  });
  return {
    ...gateways,
    stopAt(change, name) {
      const stop = { reached: gate(), goOn: gate() };
      stops.set(`${change} ${name}`, stop);
      const goOn = (): void => {
        stops.delete(`${change} ${name}`);
        stop.goOn.open();
      };
      return { reached: stop.reached.opened, goOn };
    },
    end: async () => {
      // A test that failed may have left some.
      for (const { goOn } of stops.values()) goOn.open();
      await gateways.end();
    },
    asked(operation, name) {
      const call = gate();
      waiting.set(`${operation} ${name}`, call);
      return call.opened;
    },
  };
}
