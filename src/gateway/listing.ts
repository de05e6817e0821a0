/**
 * Listings that are known to be whole before a word of them is sent.
 *
 * A pool says only at the end of a listing whether it may lack something, so the listing is read to its end first. The
 * rest of it is kept for the pages that follow, so that a listing in pages costs one reading and not one for each page.
 * Changes through this process in the meantime show in the later pages; changes by other machines show in the next listing.
 */
import { compareNames } from "../contract/names.ts";
import type { PoolObjectInfo } from "../contract/pool.ts";
import type { Runtime } from "../contract/runtime.ts";
import type {
  Body,
  DeleteOptions,
  DeleteResult,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";

/** A listing's rest may be used for this long, in milliseconds. */
const KEPT_MS = 10 * 60_000;
/** Entries of all kept listings together. */
const KEPT_ENTRIES = 1_000_000;
/** A kept listing that saw more changes than this is dropped. */
const KEPT_CHANGES = 10_000;

interface Kept {
  readonly prefix: string;
  readonly sinceMs: number;
  readonly entries: PoolObjectInfo[];
  readonly changed: Set<string>;
}

export class Listings {
  readonly #store: Store;
  readonly #runtime: Runtime;
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new Set<Kept>();

  constructor(store: Store, runtime: Runtime) {
    this.#store = store;
    this.#runtime = runtime;
  }

  /** The store, with puts and deletes noticed by the kept listings. Write through this one. */
  watched(): Store {
    const store = this.#store;
    return {
      label: store.label,
      capabilities: store.capabilities,
      get: (name, options) => store.get(name, options),
      stat: (name, options) => store.stat(name, options),
      list: (prefix, options) => store.list(prefix, options),
      close: () => store.close(),
      put: async (name: string, body: Body, options?: PutOptions): Promise<PutResult> => {
        try {
          return await store.put(name, body, options);
        } finally {
          this.#note(name);
        }
      },
      delete: async (name: string, options?: DeleteOptions): Promise<DeleteResult> => {
        try {
          return await store.delete(name, options);
        } finally {
          this.#note(name);
        }
      },
    };
  }

  /**
   * Every object whose name starts with `prefix`, in name order. `goOn`: this is a later page of a listing, which may be
   * answered from the reading that served the first. Rejects with `incomplete` as the pool does.
   */
  async entries(prefix: string, goOn: boolean, options: OperationOptions = {}): Promise<readonly PoolObjectInfo[]> {
    const kept = goOn ? this.#kept.get(prefix) : undefined;
    if (kept && this.#runtime.monotonicMs() - kept.sinceMs < KEPT_MS) {
      await this.#refresh(kept, options);
      return kept.entries;
    }
    const fresh: Kept = { prefix, sinceMs: this.#runtime.monotonicMs(), entries: [], changed: new Set() };
    this.#reading.add(fresh);
    try {
      for await (const info of this.#store.list(prefix, options)) fresh.entries.push(info);
    } finally {
      this.#reading.delete(fresh);
    }
    if (!this.#store.capabilities.orderedList) fresh.entries.sort((a, b) => compareNames(a.name, b.name));
    return fresh.changed.size > KEPT_CHANGES ? fresh.entries : this.#keep(fresh);
  }

  /** Lets go of what later pages would have used. */
  clear(): void {
    this.#kept.clear();
  }

  #keep(fresh: Kept): readonly PoolObjectInfo[] {
    // One page is the rule; only longer listings are worth their memory.
    if (fresh.entries.length <= 1000 && !this.#kept.has(fresh.prefix)) return fresh.entries;
    this.#kept.delete(fresh.prefix);
    if (fresh.entries.length > KEPT_ENTRIES) return fresh.entries;
    this.#kept.set(fresh.prefix, fresh);
    let total = 0;
    for (const one of this.#kept.values()) total += one.entries.length;
    for (const [prefix, one] of this.#kept) {
      if (total <= KEPT_ENTRIES) break;
      total -= one.entries.length;
      this.#kept.delete(prefix);
    }
    return fresh.entries;
  }

  #note(name: string): void {
    for (const kept of [...this.#kept.values(), ...this.#reading]) {
      if (!name.startsWith(kept.prefix)) continue;
      kept.changed.add(name);
      if (kept.changed.size > KEPT_CHANGES) this.#kept.delete(kept.prefix);
    }
  }

  async #refresh(kept: Kept, options: OperationOptions): Promise<void> {
    for (const name of kept.changed) {
      kept.changed.delete(name);
      let info: PoolObjectInfo | undefined;
      try {
        for await (const one of this.#store.list(name, options)) {
          if (one.name === name) info = one;
          break;
        }
      } catch (error) {
        kept.changed.add(name);
        throw error;
      }
      const at = position(kept.entries, name);
      const there = kept.entries[at]?.name === name;
      if (info) kept.entries.splice(at, there ? 1 : 0, info);
      else if (there) kept.entries.splice(at, 1);
    }
  }
}

/** Index of the first entry whose name is not before `name`. */
export function position(entries: readonly { readonly name: string }[], name: string): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareNames(entries[middle]?.name ?? "", name) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
