/** A limit on bytes per second, up and down, shared by all operations on a store. */
import type { Runtime } from "../contract/runtime.ts";
import type { Body, GetOptions, GetResult, NamesOperation, PutOptions, PutResult, Store } from "../contract/store.ts";
import { ForwardingStore, throughBody } from "./forward.ts";

export interface BandwidthOptions {
  readonly runtime: Runtime;
  /** Bytes per second into the store. Default: no limit. */
  readonly upBytesPerSecond?: number | undefined;
  /** Bytes per second out of the store. Default: no limit. */
  readonly downBytesPerSecond?: number | undefined;
}

export function bandwidth(store: Store, options: BandwidthOptions): Store {
  return sharedBandwidth(options)(store);
}

/** One limit for several stores together: the function given back puts it around each of them. */
export function sharedBandwidth(options: BandwidthOptions): (store: Store) => Store {
  const { runtime, upBytesPerSecond: up, downBytesPerSecond: down } = options;
  const upBucket = up === undefined ? undefined : new Bucket(runtime, up);
  const downBucket = down === undefined ? undefined : new Bucket(runtime, down);
  if (upBucket === undefined && downBucket === undefined) return (store) => store;
  return (store) => new BandwidthStore(store, upBucket, downBucket);
}

/** Chunks are cut so that one takes a quarter of a second, but not into crumbs. */
const MIN_PIECE_BYTES = 4096;

/** A bucket of tokens that fills at a rate and holds a quarter of a second's worth; it may be drawn on in advance. */
class Bucket {
  readonly #runtime: Runtime;
  readonly #rate: number;
  /** When the bytes let through so far have been paid for, by the monotonic clock. */
  #paidMs = Number.NEGATIVE_INFINITY;

  constructor(runtime: Runtime, bytesPerSecond: number) {
    this.#runtime = runtime;
    this.#rate = bytesPerSecond / 1000;
  }

  async *pass(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const piece = Math.max(MIN_PIECE_BYTES, Math.floor(this.#rate * 250));
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += piece) {
        const part = chunk.length <= piece ? chunk : chunk.subarray(at, at + piece);
        await this.#take(part.length, signal);
        yield part;
      }
    }
  }

  async #take(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const now = this.#runtime.monotonicMs();
    const paidMs = Math.max(this.#paidMs, now - 250) + bytes / this.#rate;
    this.#paidMs = paidMs;
    if (paidMs > now) await this.#runtime.sleep(paidMs - now, signal);
  }
}

class BandwidthStore extends ForwardingStore {
  readonly #up: Bucket | undefined;
  readonly #down: Bucket | undefined;

  constructor(inner: Store, up: Bucket | undefined, down: Bucket | undefined) {
    super(inner);
    this.#up = up;
    this.#down = down;
  }

  override put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    const up = this.#up;
    if (!up) return this.inner.put(name, body, options);
    return this.inner.put(
      name,
      throughBody(body, (chunks) => up.pass(chunks, options.signal)),
      options,
    );
  }

  override async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    const result = await this.inner.get(name, options);
    return this.#down ? { ...result, body: this.#down.pass(result.body, options.signal) } : result;
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return inner;
  }
}
