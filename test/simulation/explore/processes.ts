/**
 * How a process opens its pool. All that the exploration knows of the classes of the core stands here: it is what has to
 * follow when their constructors change.
 */
import { Ledger } from "../../../src/ledger/ledger.ts";
import { MemoryIndex } from "../../../src/ledger/ledger-index.ts";
import type { IndexChanges } from "../../../src/ledger/ledger-index.ts";
import { Member } from "../../../src/ledger/member.ts";
import { isPut } from "../../../src/ledger/record.ts";
import { silentLogger } from "../../../src/contract/log.ts";
import type { Pool } from "../../../src/contract/pool.ts";
import { maintainedPool } from "../../../src/repair/maintained-pool.ts";
import type { Body } from "../../../src/contract/store.ts";
import type { Process } from "./actors.ts";
import { choiceStore } from "./choice-store.ts";
import type { Hash } from "./hash.ts";
import type { Scenario } from "./scenario.ts";

export const LEASE_MS = 3_600_000;
/** Timers that are part of ordinary work are shorter, see `SOON_MS`. */
const HEAR_MS = 10_000;
const LATER_MS = 20;

/** An index that notes, in a hash, each change that is made to it. */
class WatchedIndex extends MemoryIndex {
  readonly #changes: Hash | undefined;

  constructor(changes: Hash | undefined) {
    super();
    this.#changes = changes;
  }

  override apply(changes: IndexChanges): void {
    if (this.#changes === undefined) return super.apply(changes);
    const { objects = [], stores = [], facts = [] } = changes;
    const copy = { ...changes, objects: [...objects], stores: [...stores], facts: [...facts] };
    this.#changes.text(JSON.stringify(copy));
    super.apply(copy);
  }

  override forgetSegments(keep: ReadonlySet<string>): void {
    this.#changes?.text([...keep].sort().join());
    super.forgetSegments(keep);
  }

  override drop(name: string): void {
    this.#changes?.text(`drop ${name}`);
    super.drop(name);
  }

  override setFact(key: string, value: string | undefined): void {
    if (this.getFact(key) !== value) this.#changes?.text(`${key}=${String(value)}`);
    super.setFact(key, value);
  }
}

/** What a machine keeps of a pool between two processes, and they share. */
export class Cache {
  readonly index: MemoryIndex;
  pool: string | undefined;
  /** Its processes as writers, with whether they still run. */
  readonly writers = new Map<string, Process>();

  /** `changes`: takes note of what is changed. */
  constructor(changes?: Hash) {
    this.index = new WatchedIndex(changes);
  }

  /** Another cache that says the same, of a pool whose segments have these names. */
  copy(segments: Iterable<string>, changes: Hash | undefined): Cache {
    const cache = new Cache(changes);
    cache.pool = this.pool;
    for (const [, state] of this.index.iterate("")) cache.index.apply({ objects: state.records });
    for (const segment of segments) if (this.index.hasSegment(segment)) cache.index.apply({ segment });
    cache.index.apply({ stores: this.index.stores(), facts: this.index.facts("") });
    for (const [writer, process] of this.writers) cache.writers.set(writer, process);
    return cache;
  }
}

/** What the ledger says of a name. */
export interface Marks {
  /** SHA-256 of what it is. */
  readonly sha256: string;
  /** Labels of the stores that hold it, by the ledger. */
  readonly holders: readonly string[];
}

export interface OpenPool {
  readonly pool: Pool;
  /** What the ledger says of a name, as far as it was heard. Undefined: it is none, or several say different things of it. */
  readonly marks: (name: string) => Marks | undefined;
}

type Shape = Pick<Scenario, "mode" | "min" | "stores" | "freshMs" | "mergeAt" | "wait" | "onfail">;

export function openPool(process: Process, shape: Shape, cache: Cache): OpenPool {
  const { runtime, machine } = process;
  const shared = { runtime, logger: silentLogger };
  const ledger = new Ledger({
    ...shared,
    members: Array.from({ length: shape.stores }, (_, place) => {
      const store = choiceStore(process, place);
      return new Member({ store, fingerprint: `place of ${store.label}` }, place);
    }),
    machine: machine.id,
    openIndex: () => cache.index,
    remembered: () => cache.pool,
    onPool: (pool) => {
      cache.pool = pool;
    },
    freshMs: shape.freshMs,
    hearMs: HEAR_MS,
    mergeAt: shape.mergeAt,
    laterMs: LATER_MS,
    isLiveWriter: (writer) => {
      if (!writer.startsWith(machine.id)) return undefined;
      return cache.writers.get(writer)?.dead === false;
    },
  });
  cache.writers.set(ledger.writer, process);
  const { pool } = maintainedPool({
    ...shared,
    label: "pool",
    ledger,
    mode: shape.mode,
    onfail: shape.onfail,
    min: shape.min,
    wait: shape.wait,
    replayable: (body: Body) => ({ body, dispose: () => Promise.resolve() }),
    leaseMs: LEASE_MS,
  });
  return {
    pool,
    marks: (name) => {
      const [record, ...others] = ledger.index.get(name)?.records ?? [];
      if (!isPut(record) || others.length > 0) return undefined;
      const holders = ledger.members.filter(({ id }) => id !== undefined && record.copies[id]?.state === "holds");
      return { sha256: record.content.sha256, holders: holders.map(({ label }) => label) };
    },
  };
}
