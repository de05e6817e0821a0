/** Stores that pass everything on to another: what wrappers begin with. */
import type { Operation } from "../contract/errors.ts";
import type {
  Body,
  Capabilities,
  DeleteResult,
  GetOptions,
  GetResult,
  HashOperation,
  ListOptions,
  NamesOperation,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../contract/store.ts";

export class ForwardingStore implements Store {
  protected readonly inner: Store;
  /** Where the store below has it and {@link hashing} says what becomes of it. */
  readonly hash?: HashOperation;
  /** Likewise, with {@link naming}. */
  readonly listNames?: NamesOperation;

  constructor(inner: Store) {
    this.inner = inner;
    const naming = inner.listNames === undefined ? undefined : this.naming(inner.listNames.bind(inner));
    if (naming !== undefined) this.listNames = naming;
    const through = inner.hash === undefined ? undefined : this.hashing(inner.hash.bind(inner));
    if (through !== undefined) this.hash = through;
  }

  /** What `hash` is here. Default: nothing, since it would go past a wrapper that does something to the bytes of a get. */
  protected hashing(_inner: HashOperation): HashOperation | undefined {
    return undefined;
  }

  /** What `listNames` is here. Default: nothing, since it would go past a wrapper that does something to listings. */
  protected naming(_inner: NamesOperation): NamesOperation | undefined {
    return undefined;
  }

  get label(): string {
    return this.inner.label;
  }

  get capabilities(): Capabilities {
    return this.inner.capabilities;
  }

  put(name: string, body: Body, options?: PutOptions): Promise<PutResult> {
    return this.inner.put(name, body, options);
  }

  get(name: string, options?: GetOptions): Promise<GetResult> {
    return this.inner.get(name, options);
  }

  stat(name: string, options?: OperationOptions): Promise<ObjectInfo> {
    return this.inner.stat(name, options);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return this.inner.list(prefix, options);
  }

  delete(name: string, options?: OperationOptions): Promise<DeleteResult> {
    return this.inner.delete(name, options);
  }

  async freeBytes(options?: OperationOptions): Promise<number | undefined> {
    return this.inner.freeBytes?.(options);
  }

  async sweep(options?: OperationOptions): Promise<void> {
    await this.inner.sweep?.(options);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

/** One call of a store, as a wrapper sees it. */
export interface Call {
  readonly operation: Operation;
  /** Undefined for a listing. */
  readonly name: string | undefined;
  readonly options: OperationOptions;
}

/** Does the same around every operation: around its beginning, and around each step of a body or listing. */
export abstract class SteppedStore extends ForwardingStore {
  /** A whole put, stat, delete or hash; a get until its body begins; a listing until its first entry. */
  protected abstract begin<T>(call: Call, work: () => Promise<T>): Promise<T>;
  /** One chunk of a body, or one further entry of a listing. */
  protected abstract step<T>(call: Call, work: () => Promise<T>): Promise<T>;

  override put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    return this.begin({ operation: "put", name, options }, () => this.inner.put(name, body, options));
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const call: Call = { operation: "get", name, options };
    const result = await this.begin(call, () => this.inner.get(name, options));
    return { ...result, body: pulling(result.body, (next) => this.step(call, next)) };
  }

  override stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.begin({ operation: "stat", name, options }, () => this.inner.stat(name, options));
  }

  override list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    return this.#listing(this.inner.list(prefix, options), options);
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return (prefix, options = {}) => this.#listing(inner(prefix, options), options);
  }

  #listing<T>(source: AsyncIterable<T>, options: ListOptions): AsyncIterable<T> {
    const call: Call = { operation: "list", name: undefined, options };
    let begun = false;
    return pulling(source, (next) => {
      if (begun) return this.step(call, next);
      begun = true;
      return this.begin(call, next);
    });
  }

  protected override hashing(inner: HashOperation): HashOperation {
    return (name, options = {}) => this.begin({ operation: "get", name, options }, () => inner(name, options));
  }

  override delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.begin({ operation: "delete", name, options }, () => this.inner.delete(name, options));
  }
}

/**
 * A body whose bytes pass through `pass`. The rest of the body stays as it is, but for the path: what reads the file
 * itself would go around the wrapper.
 */
export function throughBody(body: Body, pass: (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>): Body {
  return { size: body.size, reopenable: body.reopenable, open: () => pass(body.open()) };
}

/** Calls `next` and takes care that the iterator is let go of, however the loop around it ends. */
export async function* pulling<T>(
  source: AsyncIterable<T>,
  pull: (next: () => Promise<IteratorResult<T>>) => Promise<IteratorResult<T>>,
  /** Whether letting go may be waited for: false when the source may hang. */
  waitForReturn: () => boolean = () => true,
): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      const result = await pull(async () => {
        try {
          const result = await iterator.next();
          if (result.done) finished = true;
          return result;
        } catch (error) {
          finished = true;
          throw error;
        }
      });
      if (result.done) return;
      yield result.value;
    }
  } finally {
    if (!finished) {
      const returned = iterator.return?.();
      if (waitForReturn()) await returned;
      else returned?.catch(() => undefined);
    }
  }
}
