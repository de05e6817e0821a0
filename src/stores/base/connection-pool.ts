/** Connections to one server that each do one thing at a time: limited in number, and kept for the next operation. */
import { HoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { Places } from "../../support/places.ts";
import { linkSignals } from "../../support/signals.ts";

export interface ConnectionPoolOptions<C> {
  /** How many operations may have a connection at once. */
  readonly limit: number;
  /** An unused connection is not used again after so long, in milliseconds. Default: always. */
  readonly keepMs?: number | undefined;
  /** The signal fires with the operation's, and when the pool is closed. */
  readonly connect: (signal: AbortSignal) => Promise<C>;
  /** Whether a connection can be used for something else. */
  readonly isUsable: (connection: C) => boolean;
  /** Whether an operation failed because its connection was gone. */
  readonly isLost: (error: unknown) => boolean;
  readonly end: (connection: C) => Promise<void>;
}

export class ConnectionPool<C> {
  readonly #options: ConnectionPoolOptions<C>;
  readonly #places: Places;
  /** Those that wait for the next operation. */
  readonly #idle: { readonly connection: C; readonly sinceMs: number }[] = [];
  /** Those in use, with what gives their place to the next operation. */
  readonly #lent = new Map<C, () => void>();
  readonly #closing = new AbortController();

  constructor(options: ConnectionPoolOptions<C>) {
    this.#options = options;
    this.#places = new Places(options.limit);
  }

  /** Runs work with a connection. See `hold`. */
  async run<T>(
    signal: AbortSignal | undefined,
    work: (connection: C) => Promise<T>,
    again?: () => boolean,
  ): Promise<T> {
    const { connection, value } = await this.hold(signal, work, again);
    this.release(connection);
    return value;
  }

  /**
   * Runs work with a connection, which stays taken when the work succeeds. Once more, with a new one, when it turns out that
   * the server had dropped a kept connection, unless `again` says that the work cannot be repeated.
   */
  async hold<T>(
    signal: AbortSignal | undefined,
    work: (connection: C) => Promise<T>,
    again: () => boolean = () => true,
  ): Promise<{ connection: C; value: T }> {
    for (let attempt = 1; ; attempt++) {
      const { connection, isKept } = await this.#take(signal);
      try {
        throwIfAborted(signal);
        return { connection, value: await work(connection) };
      } catch (error) {
        this.release(connection);
        if (attempt > 1 || !isKept || !this.#options.isLost(error) || !again()) throw error;
        // The others were dropped with it, most likely.
        for (const idle of this.#idle.splice(0)) this.#end(idle.connection);
      }
    }
  }

  /** Gives the place of a connection that is in use to another, which is one above the limit from then on. */
  uncount(connection: C): void {
    this.#lent.get(connection)?.();
    this.#lent.set(connection, () => undefined);
  }

  /** Takes a connection back. */
  release(connection: C): void {
    const leave = this.#lent.get(connection);
    this.#lent.delete(connection);
    const { limit, isUsable } = this.#options;
    if (this.#closing.signal.aborted || !isUsable(connection) || this.#idle.length >= limit) this.#end(connection);
    else this.#idle.push({ connection, sinceMs: Date.now() });
    leave?.();
  }

  /** Ends all connections, those in use too. */
  async close(): Promise<void> {
    this.#closing.abort(new HoldfastError("invalid", "the store is closed"));
    const all = [...this.#idle.splice(0).map((idle) => idle.connection), ...this.#lent.keys()];
    await Promise.all(all.map((connection) => this.#options.end(connection)));
  }

  async #take(signal: AbortSignal | undefined): Promise<{ connection: C; isKept: boolean }> {
    const link = linkSignals(this.#closing.signal, signal);
    try {
      const leave = await this.#places.take(link.signal);
      try {
        const kept = this.#kept();
        const connection = kept ?? (await this.#options.connect(link.signal));
        this.#lent.set(connection, leave);
        return { connection, isKept: kept !== undefined };
      } catch (error) {
        leave();
        throw error;
      }
    } finally {
      link.release();
    }
  }

  /** An idle connection that can still be used; those that cannot are ended. */
  #kept(): C | undefined {
    const { keepMs = Number.POSITIVE_INFINITY, isUsable } = this.#options;
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (isUsable(idle.connection) && Date.now() - idle.sinceMs < keepMs) return idle.connection;
      this.#end(idle.connection);
    }
    return undefined;
  }

  #end(connection: C): void {
    this.#options.end(connection).catch(() => undefined);
  }
}
