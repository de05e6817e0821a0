/** Pools over stores in memory, whose members tests can take down, look into and change by hand. */
import { randomBytes } from "node:crypto";
import { abortError, HoldfastError } from "../../src/errors.ts";
import { Ledger } from "../../src/ledger/ledger.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import type { LedgerIndex } from "../../src/ledger/ledger-index.ts";
import { Member } from "../../src/ledger/member.ts";
import { silentLogger } from "../../src/log.ts";
import { PoolStore } from "../../src/modes/pool-store.ts";
import type { PoolStoreOptions } from "../../src/modes/pool-context.ts";
import { MaintainedPool } from "../../src/repair/maintained-pool.ts";
import { replayable } from "../../src/replayable.ts";
import { systemRuntime } from "../../src/runtime.ts";
import type { Runtime } from "../../src/runtime.ts";
import type { Operation } from "../../src/errors.ts";
import type { Store } from "../../src/store.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";

/** A store that a test can take down. */
export interface Switched {
  readonly store: Store;
  readonly objects: MemoryObjects;
  /** Every call rejects with `unavailable` while true. */
  down: boolean;
  /** Called before each call; may throw. */
  onCall: ((operation: Operation, name: string) => void | Promise<void>) | undefined;
  readonly calls: string[];
}

export function switched(label: string, objects = new MemoryObjects()): Switched {
  const inner = new MemoryStore({ label, objects });
  const self: Switched = { store: inner, objects, down: false, onCall: undefined, calls: [] };
  const before = async (operation: Operation, name: string): Promise<void> => {
    self.calls.push(`${operation} ${name}`);
    if (self.down)
      throw new HoldfastError("unavailable", "connection refused", { store: label, operation, object: name });
    await self.onCall?.(operation, name);
  };
  const store: Store = {
    label,
    capabilities: inner.capabilities,
    async put(name, body, options) {
      await before("put", name);
      return inner.put(name, body, options);
    },
    async get(name, options) {
      await before("get", name);
      return inner.get(name, options);
    },
    async stat(name, options) {
      await before("stat", name);
      return inner.stat(name, options);
    },
    async *list(prefix, options) {
      await before("list", prefix);
      yield* inner.list(prefix, options);
    },
    async *listNames(prefix, options) {
      await before("list", prefix);
      yield* inner.listNames(prefix, options);
    },
    async delete(name, options) {
      await before("delete", name);
      return inner.delete(name, options);
    },
    // Several pools share the members, as machines do: one that closes does not take them from the others.
    close: () => Promise.resolve(),
  };
  return Object.assign(self, { store });
}

export interface MemoryPoolOptions extends Partial<
  Pick<PoolStoreOptions, "mode" | "onfail" | "min" | "nested" | "leaseMs" | "place" | "read" | "wait">
> {
  readonly prefixes?: readonly (readonly string[])[];
  /** 8 hexadecimal digits; the same machine shares an index. */
  readonly machine?: string;
  readonly index?: LedgerIndex;
  readonly fingerprints?: readonly string[];
  readonly mergeAt?: number;
  /** Default 0: every operation asks the stores anew. */
  readonly freshMs?: number;
  /** How long records that may follow later wait. Infinity: until the pool is closed. */
  readonly laterMs?: number;
  /** Default the system's. */
  readonly runtime?: Runtime;
}

export interface MemoryPool {
  readonly pool: MaintainedPool;
  readonly core: PoolStore;
  readonly index: LedgerIndex;
}

/** A runtime in which who sleeps for ever wakes only when told. */
const patientRuntime: Runtime = {
  ...systemRuntime,
  sleep: (ms, signal) => (ms === Infinity ? untilAborted(signal) : systemRuntime.sleep(ms, signal)),
};

function untilAborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(abortError(signal)), { once: true });
  });
}

/** An opened pool over the members given; more than one may be opened over the same members, as by several machines. */
export function memoryPool(members: readonly { store: Store }[], options: MemoryPoolOptions = {}): MemoryPool {
  const runtime = options.runtime ?? (options.laterMs === Infinity ? patientRuntime : systemRuntime);
  // An index outlives the pool that used it, as one on disk does.
  const index = options.index ?? new MemoryIndex();
  const ledger = new Ledger({
    members: members.map(
      ({ store }, position) =>
        new Member(
          {
            store,
            fingerprint: options.fingerprints?.[position] ?? `place of ${store.label}`,
            prefixes: options.prefixes?.[position] ?? [],
          },
          position,
        ),
    ),
    runtime,
    logger: silentLogger,
    machine: options.machine ?? randomBytes(4).toString("hex"),
    openIndex: () => index,
    freshMs: options.freshMs ?? 0,
    hearMs: 1000,
    ...(options.mergeAt === undefined ? {} : { mergeAt: options.mergeAt }),
    ...(options.laterMs === undefined ? {} : { laterMs: options.laterMs }),
  });
  const core = new PoolStore({
    label: "pool",
    ledger,
    mode: options.mode ?? "mirror",
    onfail: options.onfail ?? "continue",
    min: options.min,
    place: options.place,
    read: options.read,
    wait: options.wait,
    runtime,
    logger: silentLogger,
    replayable,
    nested: options.nested,
    leaseMs: options.leaseMs,
  });
  return { pool: new MaintainedPool(core, { runtime, logger: silentLogger }), core, index };
}

/** What a member holds under a name, as text; undefined where it has nothing. */
export function textOn(member: Switched, name: string): string | undefined {
  const entry = member.objects.get(name);
  return entry === undefined ? undefined : Buffer.from(entry.bytes).toString();
}

/** Changes a member's copy behind the pool's back. */
export function plant(member: Switched, name: string, bytes: Uint8Array | string): void {
  member.objects.set(name, { bytes: Buffer.from(bytes), modifiedMs: 1 });
}
