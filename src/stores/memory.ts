/**
 * Objects in the process's memory: for tests, for simulations, and as the shortest example of a whole store.
 *
 * `memory://name` gives every opener in the process the same objects under that name; they go when the process ends.
 */
import { HoldfastError } from "../contract/errors.ts";
import { CHUNK_BYTES, checkedBytes } from "../contract/body.ts";
import { nameBatches } from "../support/name-batches.ts";
import { MAX_NAME_BYTES, compareNames } from "../contract/names.ts";
import { silentLogger } from "../contract/log.ts";
import { Operations, notFound, refuseUnsupported } from "./base/operations.ts";
import type { StoreKind } from "./base/store-kind.ts";
import { resolveRange } from "../contract/ranges.ts";
import { systemRuntime } from "../contract/runtime.ts";
import type { Runtime } from "../contract/runtime.ts";
import type {
  Body,
  Capabilities,
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

/** Few, so that the ends of batches are met often. */
const NAMES_BATCH = 3;

interface Entry {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

/** Objects that several memory stores may share. */
export class MemoryObjects {
  readonly #entries = new Map<string, Entry>();
  /** The names, always in order. */
  readonly #names: string[] = [];
  #bytes = 0;

  /** Bytes held, names not counted. */
  get bytes(): number {
    return this.#bytes;
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  set(name: string, entry: Entry): void {
    const old = this.#entries.get(name);
    if (!old) this.#names.splice(this.#position(name), 0, name);
    this.#bytes += entry.bytes.length - (old?.bytes.length ?? 0);
    this.#entries.set(name, entry);
  }

  delete(name: string): boolean {
    const old = this.#entries.get(name);
    if (!old) return false;
    this.#names.splice(this.#position(name), 1);
    this.#bytes -= old.bytes.length;
    return this.#entries.delete(name);
  }

  /** The first name that is not before `from`, or, with `after`, the first behind it. */
  next(from: string, after: boolean): string | undefined {
    const at = this.#position(from);
    const name = this.#names[at];
    return after && name === from ? this.#names[at + 1] : name;
  }

  #position(name: string): number {
    let low = 0;
    let high = this.#names.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareNames(this.#names[middle] ?? "", name) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export interface MemoryStoreOptions {
  readonly label?: string | undefined;
  /** Objects to share with another store. Default: its own, empty. */
  readonly objects?: MemoryObjects | undefined;
  /** Puts that would hold more than this many bytes reject with `full`. Default: no limit. */
  readonly maxBytes?: number | undefined;
  readonly runtime?: Runtime | undefined;
}

export class MemoryStore implements Store {
  readonly label: string;
  readonly capabilities: Capabilities = {
    orderedList: true,
    conditionalPut: true,
    prefixNames: true,
    maxNameBytes: MAX_NAME_BYTES,
    caseSensitive: true,
    storeDigests: [],
  };
  readonly #objects: MemoryObjects;
  readonly #maxBytes: number;
  readonly #runtime: Runtime;
  readonly #operations: Operations;

  constructor(options: MemoryStoreOptions = {}) {
    this.label = options.label ?? "memory://";
    this.#objects = options.objects ?? new MemoryObjects();
    this.#maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
    this.#runtime = options.runtime ?? systemRuntime;
    const context = { label: this.label, logger: silentLogger, runtime: this.#runtime };
    this.#operations = new Operations({ context });
  }

  put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.#operations.run("put", name, options, async (running) => {
      refuseUnsupported(options);
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of checkedBytes(body, options.signal)) {
        size += chunk.length;
        if (size > this.#maxBytes) throw this.#full();
        chunks.push(chunk);
      }
      running.check();
      const old = this.#objects.get(name);
      if (old && options.ifAbsent) throw new HoldfastError("conflict", "the object exists already");
      if (this.#objects.bytes - (old?.bytes.length ?? 0) + size > this.#maxBytes) throw this.#full();
      // A copy always: the caller may use its buffer for something else after the put.
      const bytes = new Uint8Array(size);
      let at = 0;
      for (const chunk of chunks) {
        bytes.set(chunk, at);
        at += chunk.length;
      }
      this.#objects.set(name, { bytes, modifiedMs: this.#runtime.now() });
      return { size };
    });
  }

  get(name: string, options: GetOptions = {}): Promise<GetResult> {
    return this.#operations.get(name, options, async () => {
      const entry = this.#find(name);
      const { start, end } = resolveRange(options.range, entry.bytes.length);
      const body = async function* (): AsyncGenerator<Uint8Array> {
        // Copies: chunks belong to the consumer.
        for (let at = start; at < end; at += CHUNK_BYTES) yield entry.bytes.slice(at, Math.min(end, at + CHUNK_BYTES));
      };
      return { info: info(name, entry), body: body(), close: async () => undefined };
    });
  }

  stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#operations.run("stat", name, options, async () => info(name, this.#find(name)));
  }

  list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    return this.#operations.iterate(options, () => this.#infos(prefix));
  }

  async *#infos(prefix: string): AsyncGenerator<ObjectInfo> {
    for (let name = this.#objects.next(prefix, false); name !== undefined; name = this.#objects.next(name, true)) {
      if (!name.startsWith(prefix)) return;
      const entry = this.#objects.get(name);
      if (entry) yield info(name, entry);
    }
  }

  /** Names come no cheaper here; but so pools read them in simulations as they do from folders. */
  listNames(prefix: string, options: ListOptions = {}): AsyncIterable<readonly string[]> {
    return nameBatches(this.list(prefix, options), NAMES_BATCH);
  }

  delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#operations.run("delete", name, options, async () => ({ existed: this.#objects.delete(name) }));
  }

  async close(): Promise<void> {
    this.#operations.end();
  }

  #find(name: string): Entry {
    const entry = this.#objects.get(name);
    if (!entry) throw notFound();
    return entry;
  }

  #full(): HoldfastError {
    return new HoldfastError("full", `the store holds at most ${this.#maxBytes} bytes`);
  }
}

function info(name: string, entry: Entry): ObjectInfo {
  return { name, size: entry.bytes.length, modifiedMs: entry.modifiedMs };
}

const shared = new Map<string, MemoryObjects>();

export const memoryKind: StoreKind = {
  open: async (url, context) => {
    let objects = shared.get(url.rest);
    if (!objects) shared.set(url.rest, (objects = new MemoryObjects()));
    return new MemoryStore({ label: context.label, objects, runtime: context.runtime });
  },
  place: (url) => ({ server: ["memory", url.rest], path: [] }),
};
