/** An SSH connection with its SFTP channel: many requests at once, each of which can be given up. */
import type { SFTPWrapper } from "ssh2";
import { HoldfastError, abortError } from "../../contract/errors.ts";
import { hasStatus, sftpError } from "./sftp-error.ts";
import type { SshConnection } from "./ssh-connect.ts";

/** How long a connection on which a call was cancelled has to show that it still works. */
const PROBE_MS = 2000;

type Callback<T> = (error: unknown, value: T) => void;

/** A connection with its SFTP channel. */
export class Session {
  readonly sftp: SFTPWrapper;
  readonly #ssh: SshConnection;
  readonly #waiting = new Set<(error: HoldfastError) => void>();
  readonly #onDeath: () => void;
  active = 0;
  /** Finished at least one request: if one fails now, the connection may have been dropped while it was idle. */
  used = false;
  /** A call on it was cancelled while it waited: nobody else uses it until this resolves, as it has answered or died. */
  doubt: Promise<void> | undefined;
  dead: HoldfastError | undefined;
  noFsync = false;
  noPosixRename = false;
  /** Whether an open handle keeps to its file when another takes the name. OpenSSH's do; rclone opens the name again. */
  readonly keepsHandles: boolean;

  constructor(ssh: SshConnection, sftp: SFTPWrapper, onDeath: () => void) {
    this.#ssh = ssh;
    this.sftp = sftp;
    const extensions: unknown = Reflect.get(sftp, "_extensions");
    this.keepsHandles = typeof extensions === "object" && extensions !== null && "fsync@openssh.com" in extensions;
    this.#onDeath = onDeath;
    let cause: Error | undefined;
    const end = (): void =>
      this.destroy(new HoldfastError("unavailable", "the SSH connection was lost", cause ? { cause } : {}));
    ssh.client.on("error", (error) => {
      cause = error;
    });
    ssh.client.once("close", end);
    sftp.on("error", (error: Error) => {
      cause = error;
      end();
    });
    sftp.once("close", end);
  }

  destroy(reason: HoldfastError): void {
    if (this.dead) return;
    this.dead = reason;
    this.#onDeath();
    this.#ssh.destroy();
    for (const reject of this.#waiting) reject(reason);
    this.#waiting.clear();
  }

  /** Calls `wake` when the connection dies; gives what takes that back. */
  watch(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /**
   * One request. A fired signal rejects at once; the answer, when it still comes, goes to `late`, which lets go of what
   * it holds.
   */
  request<T>(
    signal: AbortSignal | undefined,
    send: (callback: Callback<T>) => void,
    late?: (value: T) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.dead) {
        reject(this.dead);
        return;
      }
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      let settled = false;
      const finish = (): boolean => {
        if (settled) return false;
        settled = true;
        this.#waiting.delete(fail);
        signal?.removeEventListener("abort", onAbort);
        return true;
      };
      const fail = (error: HoldfastError): void => {
        if (finish()) reject(error);
      };
      const onAbort = (): void => {
        if (!signal || !finish()) return;
        reject(abortError(signal));
        this.probe();
      };
      this.#waiting.add(fail);
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        send((error, value) => {
          this.used = true;
          if (!finish()) {
            if (!hasStatus(error)) late?.(value);
          } else if (error === undefined || error === null) resolve(value);
          else reject(sftpError(error));
        });
      } catch (error) {
        fail(sftpError(error));
      }
    });
  }

  /** Lets nobody use the connection until it has answered a question; ends it if it does not in a short time. */
  probe(): void {
    if (this.doubt || this.dead) return;
    const timer = setTimeout(() => {
      this.destroy(new HoldfastError("timeout", "the SSH connection does not answer any more"));
    }, PROBE_MS);
    this.doubt = this.request<string>(undefined, (callback) => this.sftp.realpath(".", callback))
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        clearTimeout(timer);
        this.doubt = undefined;
      });
  }

  async closeHandle(handle: Buffer): Promise<void> {
    const deadline = AbortSignal.timeout(PROBE_MS);
    await this.request<void>(deadline, (callback) => this.sftp.close(handle, (error) => callback(error, undefined)));
  }
}
