/** Pools over stores in memory, whose members tests can take down, look into and change by hand. */
import { randomBytes } from "node:crypto";
import { collect } from "../../src/contract/body.ts";
import { abortError, HoldfastError } from "../../src/contract/errors.ts";
import { Ledger } from "../../src/ledger/ledger.ts";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import type { LedgerIndex } from "../../src/ledger/ledger-index.ts";
import { Member } from "../../src/ledger/member.ts";
import { silentLogger } from "../../src/contract/log.ts";
import type { PoolContext } from "../../src/pool/pool-context.ts";
import type { PoolStore } from "../../src/pool/pool-store.ts";
import type { PoolStoreOptions } from "../../src/pool/pool-context.ts";
import { maintainedPool } from "../../src/repair/maintained-pool.ts";
import type { PoolBelow } from "../../src/repair/nested-maintenance.ts";
import { replayable } from "../../src/support/replayable.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { Runtime } from "../../src/contract/runtime.ts";
import type { Operation } from "../../src/contract/errors.ts";
import type { Store } from "../../src/contract/store.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { hookedStore } from "./wrapped-store.ts";
import type { Hooks } from "./wrapped-store.ts";

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

/** A store as one machine sees it: others may reach it while this one does not. */
export interface View {
  readonly store: Store;
  down: boolean;
  /** Called before each call of this machine; may throw. */
  onCall: ((operation: Operation, name: string) => void | Promise<void>) | undefined;
  /** Called when a put or a delete of this machine has taken effect, before the machine is told; may throw. */
  afterCall: ((operation: Operation, name: string) => void | Promise<void>) | undefined;
}

function hooked(inner: Store, hooks: Hooks): Store {
  return {
    ...hookedStore(inner, hooks),
    async *listNames(prefix, options) {
      await hooks.before("list", prefix);
      if (inner.listNames === undefined) throw new Error("a store in memory gives names alone");
      yield* inner.listNames(prefix, options);
    },
    // Several pools share the members, as machines do: one that closes does not take them from the others.
    close: () => Promise.resolve(),
  };
}

function refused(store: string, operation: Operation, object: string): HoldfastError {
  return new HoldfastError("unavailable", "connection refused", { store, operation, object });
}

export function switched(label: string, objects = new MemoryObjects()): Switched {
  const self: Omit<Switched, "store"> = { objects, down: false, onCall: undefined, calls: [] };
  const store = hooked(new MemoryStore({ label, objects }), {
    before: async (operation, name) => {
      self.calls.push(`${operation} ${name}`);
      if (self.down) throw refused(label, operation, name);
      await self.onCall?.(operation, name);
    },
  });
  return Object.assign(self, { store });
}

export function viewOf({ store: seen }: Switched): View {
  const self: Omit<View, "store"> = { down: false, onCall: undefined, afterCall: undefined };
  const store = hooked(seen, {
    before: async (operation, name) => {
      if (self.down) throw refused(seen.label, operation, name);
      await self.onCall?.(operation, name);
    },
    after: async (operation, name) => self.afterCall?.(operation, name),
  });
  return Object.assign(self, { store });
}

/** A store whose puts of one name may end otherwise than they should. */
export interface Taking {
  readonly store: Store;
  /** Where set: how a put ends once the store has read all of the bytes, in place of taking effect. */
  instead: (() => Promise<never>) | undefined;
}

export function takingOf({ store: inner }: { readonly store: Store }, taken: string): Taking {
  const self: Omit<Taking, "store"> = { instead: undefined };
  const store: Store = {
    ...inner,
    async put(name, body, options) {
      if (name !== taken || self.instead === undefined) return inner.put(name, body, options);
      await collect(body.open());
      return self.instead();
    },
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
  /** Opens the index that takes the place of one that was lost. Default: the same. */
  readonly openIndex?: () => LedgerIndex;
  readonly fingerprints?: readonly string[];
  readonly mergeAt?: number;
  /** Default 0: every operation asks the stores anew. */
  readonly freshMs?: number;
  /** How long a request that ended without an answer may still take effect. Default 60,000. */
  readonly lateMs?: number;
  /** Whether a process of this machine still runs, by its writer. Default: unknown. */
  readonly isLiveWriter?: (writer: string) => boolean | undefined;
  /** The pool that this machine saw at an address before. Default none. */
  readonly remembered?: (address: string) => string | undefined;
  /** How long records that may follow later wait. Infinity: until the pool is closed. */
  readonly laterMs?: number;
  /** Default the system's. */
  readonly runtime?: Runtime;
  /** Members that are pools. Default none. */
  readonly below?: readonly PoolBelow[];
}

export interface MemoryPool {
  readonly pool: PoolStore;
  readonly context: PoolContext;
  readonly ledger: Ledger;
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
  let opened = 0;
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
    openIndex: () => {
      opened++;
      return opened === 1 ? index : (options.openIndex?.() ?? index);
    },
    freshMs: options.freshMs ?? 0,
    hearMs: 1000,
    ...(options.mergeAt === undefined ? {} : { mergeAt: options.mergeAt }),
    ...(options.laterMs === undefined ? {} : { laterMs: options.laterMs }),
    ...(options.lateMs === undefined ? {} : { lateMs: options.lateMs }),
    ...(options.isLiveWriter === undefined ? {} : { isLiveWriter: options.isLiveWriter }),
    ...(options.remembered === undefined ? {} : { remembered: options.remembered }),
  });
  const parts = maintainedPool(
    {
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
    },
    options.below,
  );
  return { ...parts, ledger, index };
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
