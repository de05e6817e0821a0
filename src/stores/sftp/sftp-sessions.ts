/**
 * The connections to one server. This is no `ConnectionPool`, whose connections do one thing at a time: here many
 * operations share each, another is opened while those there are busy, and one on which a call was given up serves nobody
 * until it has answered.
 */
import type { SFTPWrapper } from "ssh2";
import { HoldfastError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { raceSignal } from "../../support/signals.ts";
import { Session } from "./sftp-session.ts";
import { connectSsh } from "./ssh-connect.ts";
import type { SshConnection } from "./ssh-connect.ts";
import type { SshSettings } from "./ssh-settings.ts";

/** With this many operations on each connection, another one is opened. */
const BUSY = 4;
/** How long a new call waits for such a connection before it takes, or opens, another one. */
const DOUBT_MS = 200;

export class SftpSessions {
  readonly #settings: SshSettings;
  readonly #limit: number;
  readonly #sessions = new Set<Session>();
  #connecting: Promise<Session> | undefined;
  #pending = 0;
  readonly #closing = new AbortController();

  /** `limit`: how many connections there are at most. */
  constructor(settings: SshSettings, limit: number) {
    this.#settings = settings;
    this.#limit = limit;
  }

  /** Runs something on a connection and gives it back. */
  async run<T>(signal: AbortSignal | undefined, action: (session: Session) => Promise<T>): Promise<T> {
    const { session, value } = await this.hold(signal, action);
    this.release(session);
    return value;
  }

  /**
   * Runs something on a connection, which stays taken (`active`) when it succeeds. Once more on another when it turns out
   * that the server had dropped a connection that was used before.
   */
  async hold<T>(
    signal: AbortSignal | undefined,
    action: (session: Session) => Promise<T>,
  ): Promise<{ session: Session; value: T }> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.#acquire(signal);
      const stale = session.used;
      session.active++;
      try {
        return { session, value: await action(session) };
      } catch (error) {
        this.release(session);
        if (attempt === 1 && stale && session.dead && isHoldfastError(error, "unavailable")) continue;
        throw error;
      }
    }
  }

  /** Gives back a connection that was held. */
  release(session: Session): void {
    session.active--;
  }

  /** Ends all connections, those in use and the one that is being made too: the server may never answer. */
  async close(): Promise<void> {
    const reason = closedError();
    this.#closing.abort(reason);
    for (const session of this.#sessions) session.destroy(reason);
    await this.#connecting?.catch(() => undefined);
  }

  async #acquire(signal: AbortSignal | undefined): Promise<Session> {
    throwIfAborted(signal);
    for (;;) {
      let best: Session | undefined;
      let doubt: Promise<void> | undefined;
      for (const session of this.#sessions) {
        doubt ??= session.doubt;
        if (!session.doubt && (!best || session.active < best.active)) best = session;
      }
      const full = this.#sessions.size + this.#pending >= this.#limit;
      if (best && (best.active < BUSY || full || this.#connecting)) return best;
      if (best) {
        this.#connect().catch(() => undefined);
        return best;
      }
      if (doubt && full) {
        await raceSignal(doubt, signal);
        continue;
      }
      // Mostly the answer comes long before a new connection would be there.
      if (doubt) await raceSignal(Promise.race([doubt, this.#pause()]), signal);
      if (doubt && [...this.#sessions].some((session) => !session.doubt)) continue;
      const session = await raceSignal(this.#connect(), signal);
      if (!session.dead) return session;
      throw session.dead;
    }
  }

  async #pause(): Promise<void> {
    await new Promise((resolve) => {
      setTimeout(resolve, DOUBT_MS);
    });
  }

  /** Opens one connection; those who ask meanwhile get the same. */
  #connect(): Promise<Session> {
    if (this.#closing.signal.aborted) return Promise.reject(closedError());
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<Session> {
    this.#pending++;
    try {
      const { signal } = this.#closing;
      const ssh = await connectSsh(this.#settings, signal);
      try {
        const sftp = await raceSignal(openChannel(ssh, this.#settings.connectTimeoutMs), signal);
        const session: Session = new Session(ssh, sftp, () => this.#sessions.delete(session));
        this.#sessions.add(session);
        return session;
      } catch (error) {
        ssh.destroy();
        throw error;
      }
    } finally {
      this.#pending--;
    }
  }
}

function openChannel(ssh: SshConnection, timeoutMs: number): Promise<SFTPWrapper> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new HoldfastError("timeout", "the server did not begin an SFTP session in time")),
      timeoutMs,
    );
    const closed = (): void => {
      clearTimeout(timer);
      reject(new HoldfastError("unavailable", "the SSH connection was lost"));
    };
    ssh.client.once("close", closed);
    ssh.client.sftp((error, sftp) => {
      clearTimeout(timer);
      ssh.client.off("close", closed);
      if (error) {
        reject(
          new HoldfastError("unavailable", `the server begins no SFTP session: ${error.message}`, { cause: error }),
        );
      } else resolve(sftp);
    });
  });
}

function closedError(): HoldfastError {
  return new HoldfastError("invalid", "the store is closed");
}
