/**
 * Takes in the bodies that clients send, so that a client's pace holds nothing of the pool: no turn at a store, and no name.
 *
 * A body is received before the pool is asked to put it. So bodies arrive beside each other, and only their puts are in
 * turn: the last one that is whole wins. A client whose put takes a store's time after its last byte might give up
 * waiting, so a long body goes on to the stores while it comes, at the pace of the slowest. It is kept as well: when it
 * holds up somebody else, or its client is slow, that put is called off, and made anew when the body is whole.
 */
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import { replayable, SharedMemory } from "../support/replayable.ts";
import type { Replayable } from "../support/replayable.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Body, Store } from "../contract/store.ts";
import { ForwardingStore } from "../wrappers/forward.ts";
import { Places } from "../support/places.ts";

const MIB = 1024 * 1024;
/** Memory for bodies, of all of them and of one; what is beyond goes to the disk. */
const MEMORY_BYTES = 32 * MIB;
const MEMORY_EACH_BYTES = MIB;
/** Up to this size a body is whole before its put begins: stores take so much in a moment. */
const WHOLE_BYTES = 8 * MIB;
/** Bodies that go to the stores while they come, at once: fewer than the connections that any store has. */
const STREAMS = 3;
/** Puts at once of what does not fit into memory, and has all come. */
const LARGE_AT_ONCE = 16;
/** A client of which this much comes in a second is not waited for. */
const PACE_BYTES_PER_S = 256 * 1024;
/** How far a client may fall behind that pace, in milliseconds. */
const PATIENCE_MS = 1000;

/** A put whose body is still coming. */
interface Stream {
  /** Calls the put off, unless its body is whole. */
  aside(): void;
}

/** Runs a put, maybe a second time after the signal of the first has called it off. */
export type PutAttempt<T> = (body: Body, signal: AbortSignal) => Promise<T>;

export class Intake {
  readonly #folder: string;
  readonly #runtime: Runtime;
  readonly #memory = new SharedMemory(MEMORY_BYTES, MEMORY_EACH_BYTES);
  readonly #large = new Places(LARGE_AT_ONCE);
  readonly #streams = new Map<Body, Stream>();
  readonly #byName = new Map<string, Stream>();

  /** `folder`: for what is larger than memory should hold. It is made when it is needed. */
  constructor(folder: string, runtime: Runtime) {
    this.#folder = folder;
    this.#runtime = runtime;
  }

  /**
   * Puts what a client sends, by `attempt`. `signal` says that the client is gone; a body that is whole is put all the
   * same, so that no name is left of which nobody knows whether it was written.
   */
  async put<T>(body: Body, signal: AbortSignal, attempt: PutAttempt<T>): Promise<T> {
    if (body.reopenable) return attempt(body, signal);
    const clock = new PaceClock(this.#runtime);
    const kept = replayable(clock.timed(body), { folder: this.#folder, memory: this.#memory });
    try {
      await kept.fill(WHOLE_BYTES, signal);
      if (!kept.ended && this.#streams.size < STREAMS) {
        const done = await this.#stream(kept, clock, signal, attempt);
        if (done !== undefined) return done.result;
      }
      await kept.fill(Infinity, signal);
      const call = new Cancellable(signal, kept);
      const run = (): Promise<T> => attempt(kept.body, call.signal);
      try {
        return await (kept.isInMemory ? run() : this.#large.run(call.signal, run));
      } finally {
        call.release();
      }
    } finally {
      clock.stop();
      const gone = kept.dispose();
      // A request that nobody waits for any more is over.
      if (signal.aborted) gone.catch(() => undefined);
      else await gone;
    }
  }

  /** Undefined where the put stepped aside. */
  async #stream<T>(
    kept: Replayable,
    clock: PaceClock,
    signal: AbortSignal,
    attempt: PutAttempt<T>,
  ): Promise<{ readonly result: T } | undefined> {
    const call = new Cancellable(signal, kept);
    let isAside = false;
    const stream: Stream = {
      aside() {
        if (kept.ended) return;
        isAside = true;
        call.abort(new HoldfastError("aborted", "the put waits until its body is whole"));
      },
    };
    const body: Body = { ...kept.body };
    this.#streams.set(body, stream);
    clock.start(() => stream.aside());
    try {
      return { result: await attempt(body, call.signal) };
    } catch (error) {
      if (!isAside || signal.aborted) throw error;
      return undefined;
    } finally {
      clock.stop();
      call.release();
      this.#streams.delete(body);
    }
  }

  /** Somebody else wants to change this name: a put that waits for its client holds nobody up. */
  makeWay(name: string): void {
    this.#byName.get(name)?.aside();
  }

  /** The store, for which puts that wait for their clients make way. Write through this one. */
  watched(store: Store): Store {
    return new MakingWay(store, this, async (name, body, work) => {
      const stream = this.#streams.get(body);
      if (stream === undefined) return work();
      this.#byName.set(name, stream);
      try {
        return await work();
      } finally {
        if (this.#byName.get(name) === stream) this.#byName.delete(name);
      }
    });
  }
}

class MakingWay extends ForwardingStore {
  readonly #intake: Intake;
  readonly #named: <T>(name: string, body: Body, work: () => Promise<T>) => Promise<T>;

  constructor(
    inner: Store,
    intake: Intake,
    named: <T>(name: string, body: Body, work: () => Promise<T>) => Promise<T>,
  ) {
    super(inner);
    this.#intake = intake;
    this.#named = named;
  }

  override put(...given: Parameters<Store["put"]>): ReturnType<Store["put"]> {
    this.#intake.makeWay(given[0]);
    return this.#named(given[0], given[1], () => super.put(...given));
  }

  override delete(...given: Parameters<Store["delete"]>): ReturnType<Store["delete"]> {
    this.#intake.makeWay(given[0]);
    return super.delete(...given);
  }
}

/** The signal of a put: that the client is gone ends it only while the body is not whole. */
class Cancellable {
  readonly #controller = new AbortController();
  readonly #client: AbortSignal;
  readonly #onAbort: () => void;

  constructor(client: AbortSignal, kept: Replayable) {
    this.#client = client;
    this.#onAbort = () => {
      if (!kept.ended || !isHoldfastError(client.reason, "aborted")) this.#controller.abort(client.reason);
    };
    if (client.aborted) this.#onAbort();
    else client.addEventListener("abort", this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: HoldfastError): void {
    this.#controller.abort(reason);
  }

  release(): void {
    this.#client.removeEventListener("abort", this.#onAbort);
  }
}

/** Watches how long a client is waited for. */
class PaceClock {
  readonly #runtime: Runtime;
  #onSlow: (() => void) | undefined;
  #behindMs = 0;
  #sinceMs: number | undefined;
  #cancel: (() => void) | undefined;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** From now on, `onSlow` is called when the client falls behind. */
  start(onSlow: () => void): void {
    this.#onSlow = onSlow;
    this.#behindMs = 0;
    if (this.#sinceMs !== undefined) this.#wait();
  }

  stop(): void {
    this.#onSlow = undefined;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** The body, each chunk of which is waited for by this clock. */
  timed(body: Body): Body {
    return { ...body, open: () => this.#timed(body.open()) };
  }

  async *#timed(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    this.#wait();
    for await (const chunk of chunks) {
      this.#cancel?.();
      const waitedMs = this.#runtime.monotonicMs() - (this.#sinceMs ?? 0);
      this.#sinceMs = undefined;
      this.#behindMs = Math.max(0, this.#behindMs + waitedMs - (chunk.byteLength * 1000) / PACE_BYTES_PER_S);
      yield chunk;
      this.#wait();
    }
    this.stop();
  }

  #wait(): void {
    this.#sinceMs = this.#runtime.monotonicMs();
    const onSlow = this.#onSlow;
    if (onSlow !== undefined) this.#cancel = this.#runtime.timer(Math.max(0, PATIENCE_MS - this.#behindMs), onSlow);
  }
}
