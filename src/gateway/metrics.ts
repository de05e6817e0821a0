/**
 * Figures for Prometheus: what the gateways answer, what each store does, and what the pool owes.
 *
 * `measured(store, metrics)` is a store over a store; put around each store of a pool it counts what that one does.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { toHoldfastError } from "../contract/errors.ts";
import type { Operation } from "../contract/errors.ts";
import type { Pool } from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";
import type {
  Body,
  DeleteResult,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";

const secondsBuckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300];

export interface GatewayMetrics {
  request(protocol: string, method: string, status: number, seconds: number): void;
  connections(protocol: string, count: number): void;
  /** An acknowledged write of which stores still owe copies or deletes. */
  degradedWrite(): void;
  operation(store: string, operation: Operation, result: string, seconds: number): void;
  bytes(store: string, direction: "in" | "out", bytes: number): void;
  breaker(store: string, state: "closed" | "open"): void;
  /** Shows what a pool owes, from now on. */
  watch(pool: Pool): void;
  /** The text that Prometheus reads. */
  text(): Promise<string>;
  readonly contentType: string;
}

const methods = new Set(["GET", "HEAD", "PUT", "POST", "DELETE", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE"]);
methods.add("LOCK").add("UNLOCK").add("OPTIONS");

export interface MetricsOptions {
  readonly runtime: Runtime;
  /** Milliseconds that the pool's state is taken from memory before the pool is asked again. Default 15,000. */
  readonly statusAgeMs?: number | undefined;
}

/** Makes the figures, each registered as it is made: they are shown in that order. */
class Figures {
  readonly registry = new Registry();

  counter<Label extends string>(name: string, help: string, ...labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  gauge<Label extends string>(name: string, help: string, ...labelNames: Label[]): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  seconds<Label extends string>(name: string, help: string, ...labelNames: Label[]): Histogram<Label> {
    return new Histogram({ name, help, labelNames, buckets: secondsBuckets, registers: [this.registry] });
  }
}

export function createMetrics(options: MetricsOptions): GatewayMetrics {
  const figures = new Figures();
  const { registry } = figures;
  // These are called process_… and nodejs_… themselves.
  collectDefaultMetrics({ register: registry, prefix: "holdfast_" });
  const requests = figures.counter(
    "holdfast_gateway_requests_total",
    "Requests answered.",
    "protocol",
    "method",
    "status",
  );
  const requestSeconds = figures.seconds(
    "holdfast_gateway_request_seconds",
    "Time from a request's headers to the end of its answer.",
    "protocol",
    "method",
  );
  const connections = figures.gauge("holdfast_gateway_connections", "Open connections.", "protocol");
  const degradedWrites = figures.counter(
    "holdfast_degraded_writes_total",
    "Writes that were acknowledged while stores still owe them.",
  );
  const store = storeFigures(figures);
  let refresh = (): Promise<void> => Promise.resolve();
  return {
    request(protocol, method, status, seconds) {
      const known = methods.has(method) ? method : "other";
      requests.inc({ protocol, method: known, status });
      requestSeconds.observe({ protocol, method: known }, seconds);
    },
    connections: (protocol, count) => connections.set({ protocol }, count),
    degradedWrite: () => degradedWrites.inc(),
    ...store,
    watch(pool) {
      refresh = poolGauges(figures, pool, options);
    },
    async text() {
      await refresh();
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

/** Makes the figures of each store. */
function storeFigures(figures: Figures): Pick<GatewayMetrics, "operation" | "bytes" | "breaker"> {
  const operations = figures.counter(
    "holdfast_store_operations_total",
    "Operations of each store by result: ok, or the error's code.",
    "store",
    "operation",
    "result",
  );
  const operationSeconds = figures.seconds(
    "holdfast_store_operation_seconds",
    "Time that operations of each store took, bodies included.",
    "store",
    "operation",
  );
  const bytes = figures.counter(
    "holdfast_store_bytes_total",
    "Bytes written to (in) and read from (out) each store.",
    "store",
    "direction",
  );
  const breakers = figures.gauge("holdfast_store_breaker", "Circuit breaker of each store: 0 closed, 1 open.", "store");
  return {
    operation(store, operation, result, seconds) {
      operations.inc({ store, operation, result });
      operationSeconds.observe({ store, operation }, seconds);
    },
    bytes: (store, direction, count) => bytes.inc({ store, direction }, count),
    breaker: (store, state) => breakers.set({ store }, state === "open" ? 1 : 0),
  };
}

/** Makes the figures of a pool, and gives what brings them up to date. */
function poolGauges(figures: Figures, pool: Pool, options: MetricsOptions): () => Promise<void> {
  const { runtime, statusAgeMs = 15_000 } = options;
  const up = figures.gauge("holdfast_pool_status_known", "1 when the figures below are known.");
  const objects = figures.gauge("holdfast_objects", "Objects that the ledger knows.");
  const unsettled = figures.gauge("holdfast_unsettled", "Writes begun and not settled.");
  const owed = figures.gauge("holdfast_debts", "What each store owes.", "store", "owes");
  const owedBytes = figures.gauge("holdfast_debt_bytes", "Bytes of the copies that each store owes.", "store");
  const since = figures.gauge(
    "holdfast_oldest_debt_timestamp_seconds",
    "Since when each store owes the oldest of its debts; 0 when it owes nothing.",
    "store",
  );
  const reachable = figures.gauge("holdfast_store_reachable", "1 when the store answered.", "store");
  const degraded = figures.gauge("holdfast_degraded_objects", "Objects with at least one debt.");
  const lost = figures.gauge("holdfast_lost_objects", "Objects that no store holds any more, as far as is known.");
  let askedMs = Number.NEGATIVE_INFINITY;
  return async () => {
    if (runtime.monotonicMs() - askedMs < statusAgeMs) return;
    askedMs = runtime.monotonicMs();
    try {
      const status = await pool.maintenance.status();
      up.set(1);
      objects.set(status.objects);
      unsettled.set(status.unsettled);
      degraded.set(status.degraded);
      lost.set(status.lost);
      for (const store of status.stores) {
        owed.set({ store: store.label, owes: "copy" }, store.owedCopies);
        owed.set({ store: store.label, owes: "delete" }, store.owedDeletes);
        owedBytes.set({ store: store.label }, store.owedBytes);
        since.set({ store: store.label }, (store.owesSinceMs ?? 0) / 1000);
        reachable.set({ store: store.label }, store.reachable ? 1 : 0);
      }
    } catch {
      // Shown as unknown: the other figures are old ones.
      up.set(0);
    }
  };
}

/** A store whose operations are counted under its label. */
export function measured(store: Store, metrics: GatewayMetrics, runtime: Runtime): Store {
  const { label } = store;
  metrics.breaker(label, "closed");
  const timed = async <T>(operation: Operation, work: () => Promise<T>): Promise<T> => {
    const startedMs = runtime.monotonicMs();
    const note = (result: string): void =>
      metrics.operation(label, operation, result, (runtime.monotonicMs() - startedMs) / 1000);
    try {
      const result = await work();
      note("ok");
      return result;
    } catch (error) {
      note(toHoldfastError(error).code);
      throw error;
    }
  };
  async function* listing<T>(found: AsyncIterable<T>): AsyncGenerator<T> {
    const startedMs = runtime.monotonicMs();
    let result = "ok";
    try {
      for await (const one of found) yield one;
    } catch (error) {
      result = toHoldfastError(error).code;
      throw error;
    } finally {
      metrics.operation(label, "list", result, (runtime.monotonicMs() - startedMs) / 1000);
    }
  }
  const listNames = store.listNames?.bind(store);
  return {
    label,
    capabilities: store.capabilities,
    put: (name: string, body: Body, options?: PutOptions): Promise<PutResult> =>
      timed("put", async () => {
        const result = await store.put(name, body, options);
        metrics.bytes(label, "in", result.size);
        return result;
      }),
    get: async (name: string, options?: GetOptions): Promise<GetResult> => {
      const result = await timed("get", () => store.get(name, options));
      const body = async function* (): AsyncGenerator<Uint8Array> {
        let count = 0;
        try {
          for await (const chunk of result.body) {
            count += chunk.length;
            yield chunk;
          }
        } catch (error) {
          metrics.operation(label, "get", `stream-${toHoldfastError(error).code}`, 0);
          throw error;
        } finally {
          metrics.bytes(label, "out", count);
        }
      };
      return { ...result, body: body(), close: () => result.close() };
    },
    stat: (name: string, options?: OperationOptions): Promise<ObjectInfo> =>
      timed("stat", () => store.stat(name, options)),
    list: (prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> => listing(store.list(prefix, options)),
    listNames: listNames && ((prefix, options) => listing(listNames(prefix, options))),
    delete: (name: string, options?: OperationOptions): Promise<DeleteResult> =>
      timed("delete", () => store.delete(name, options)),
    close: () => store.close(),
  };
}
