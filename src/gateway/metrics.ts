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

export function createMetrics(options: MetricsOptions): GatewayMetrics {
  const registry = new Registry();
  // These are called process_… and nodejs_… themselves.
  collectDefaultMetrics({ register: registry, prefix: "holdfast_" });
  const registers = [registry];
  const requests = new Counter({
    name: "holdfast_gateway_requests_total",
    help: "Requests answered.",
    labelNames: ["protocol", "method", "status"],
    registers,
  });
  const requestSeconds = new Histogram({
    name: "holdfast_gateway_request_seconds",
    help: "Time from a request's headers to the end of its answer.",
    labelNames: ["protocol", "method"],
    buckets: secondsBuckets,
    registers,
  });
  const connections = new Gauge({
    name: "holdfast_gateway_connections",
    help: "Open connections.",
    labelNames: ["protocol"],
    registers,
  });
  const degradedWrites = new Counter({
    name: "holdfast_degraded_writes_total",
    help: "Writes that were acknowledged while stores still owe them.",
    registers,
  });
  const operations = new Counter({
    name: "holdfast_store_operations_total",
    help: "Operations of each store by result: ok, or the error's code.",
    labelNames: ["store", "operation", "result"],
    registers,
  });
  const operationSeconds = new Histogram({
    name: "holdfast_store_operation_seconds",
    help: "Time that operations of each store took, bodies included.",
    labelNames: ["store", "operation"],
    buckets: secondsBuckets,
    registers,
  });
  const bytes = new Counter({
    name: "holdfast_store_bytes_total",
    help: "Bytes written to (in) and read from (out) each store.",
    labelNames: ["store", "direction"],
    registers,
  });
  const breakers = new Gauge({
    name: "holdfast_store_breaker",
    help: "Circuit breaker of each store: 0 closed, 1 open.",
    labelNames: ["store"],
    registers,
  });
  let refresh = (): Promise<void> => Promise.resolve();
  return {
    request(protocol, method, status, seconds) {
      const known = methods.has(method) ? method : "other";
      requests.inc({ protocol, method: known, status });
      requestSeconds.observe({ protocol, method: known }, seconds);
    },
    connections: (protocol, count) => connections.set({ protocol }, count),
    degradedWrite: () => degradedWrites.inc(),
    operation(store, operation, result, seconds) {
      operations.inc({ store, operation, result });
      operationSeconds.observe({ store, operation }, seconds);
    },
    bytes: (store, direction, count) => bytes.inc({ store, direction }, count),
    breaker: (store, state) => breakers.set({ store }, state === "open" ? 1 : 0),
    watch(pool) {
      refresh = poolGauges(registry, pool, options);
    },
    async text() {
      await refresh();
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

/** Makes the figures of a pool, and gives what brings them up to date. */
function poolGauges(registry: Registry, pool: Pool, options: MetricsOptions): () => Promise<void> {
  const { runtime, statusAgeMs = 15_000 } = options;
  const registers = [registry];
  const up = new Gauge({ name: "holdfast_pool_status_known", help: "1 when the figures below are known.", registers });
  const objects = new Gauge({ name: "holdfast_objects", help: "Objects that the ledger knows.", registers });
  const unsettled = new Gauge({ name: "holdfast_unsettled", help: "Writes begun and not settled.", registers });
  const owed = new Gauge({
    name: "holdfast_debts",
    help: "What each store owes.",
    labelNames: ["store", "owes"],
    registers,
  });
  const owedBytes = new Gauge({
    name: "holdfast_debt_bytes",
    help: "Bytes of the copies that each store owes.",
    labelNames: ["store"],
    registers,
  });
  const since = new Gauge({
    name: "holdfast_oldest_debt_timestamp_seconds",
    help: "Since when each store owes the oldest of its debts; 0 when it owes nothing.",
    labelNames: ["store"],
    registers,
  });
  const reachable = new Gauge({
    name: "holdfast_store_reachable",
    help: "1 when the store answered.",
    labelNames: ["store"],
    registers,
  });
  const degraded = new Gauge({
    name: "holdfast_degraded_objects",
    help: "Objects with at least one debt.",
    registers,
  });
  const lost = new Gauge({
    name: "holdfast_lost_objects",
    help: "Objects that no store holds any more, as far as is known.",
    registers,
  });
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
