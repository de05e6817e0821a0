/** A session of smbclient: one command at a time, and what its answers mean. */
import type { StoreContext } from "../base/store-kind.ts";
import type { TreePath } from "../base/tree-store.ts";
import { HoldfastError, abortError, throwIfAborted } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { startChild } from "../base/child.ts";
import type { Child } from "../base/child.ts";

export interface SmbOptions {
  readonly args: readonly string[];
  readonly env: Record<string, string>;
  /** Parts of the store's folder on the share. */
  readonly base: TreePath;
  /** Local folder for temporary files. */
  readonly local: string;
  readonly context: StoreContext;
  readonly secrets: readonly string[];
}

/** One smbclient. */
export class Session {
  readonly #child: Child;
  readonly #stopping = new AbortController();
  readonly #timer: (ms: number, fire: () => void) => () => void;
  #text = "";
  #wake: (() => void) | undefined;
  #ended = false;
  #marks = 0;
  #broken = false;

  constructor(options: SmbOptions) {
    const { runtime } = options.context;
    this.#timer = (ms, fire) => runtime.timer(ms, fire);
    this.#child = startChild("smbclient", options.args, { env: options.env, signal: this.#stopping.signal });
    this.#child.stdout.resume();
    this.#child.onErrorText((text) => {
      this.#text += text;
      this.#wake?.();
    });
    this.#child.ended
      .catch(() => undefined)
      .finally(() => {
        this.#ended = true;
        this.#wake?.();
      })
      .catch(() => undefined);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get usable(): boolean {
    return !this.#broken && !this.#ended;
  }

  async stop(): Promise<void> {
    this.#broken = true;
    this.#stopping.abort();
    await this.#child.stop();
  }

  /** Gives the lines of the answer. Rejects with the error that they tell, unless its status is in `expected`. */
  async ask(command: string, signal: AbortSignal | undefined, expected: readonly string[] = []): Promise<string[]> {
    throwIfAborted(signal);
    const mark = `holdfast-end-${this.#marks++}: command not found\n`;
    // Only when the answer has been read to its end is the next one's beginning known.
    this.#broken = true;
    this.#child.stdin.write(line(command));
    this.#child.stdin.write(line(`holdfast-end-${this.#marks - 1}`));
    const stopNudging = this.#nudge();
    const onAbort = (): void => this.#wake?.();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        const end = this.#text.endsWith(mark) ? this.#text.length - mark.length : -1;
        if (end !== -1) {
          const lines = this.#text.slice(0, end).split("\n");
          this.#text = "";
          this.#broken = false;
          return answer(lines, expected);
        }
        if (signal?.aborted) {
          this.#stopping.abort();
          throw abortError(signal);
        }
        if (this.#ended) {
          // Rejects when it could not be started.
          await this.#child.ended;
          answer(this.#text.split("\n"), []);
          throw new HoldfastError("unavailable", "smbclient ended before it answered");
        }
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      stopNudging();
      signal?.removeEventListener("abort", onAbort);
      this.#wake = undefined;
    }
  }

  /** Should smbclient read two lines at once after all, it looks at the second when a third comes. */
  #nudge(): () => void {
    let delayMs = 250;
    let cancel = (): void => undefined;
    const next = (): void => {
      cancel = this.#timer(delayMs, () => {
        delayMs = Math.min(delayMs * 2, 8000);
        this.#child.stdin.write(line(""));
        next();
      });
    };
    next();
    return () => cancel();
  }
}

/** The buffer with which smbclient's stdin is read. */
const READ_BYTES = 4096;

/**
 * A line for smbclient, as long as its buffer: it waits for its stdin to become readable before every line, even while
 * a whole line that it has read already stands in the buffer.
 */
export function line(command: string): string {
  const bytes = Buffer.byteLength(command) + 1;
  return `${command}${" ".repeat(Math.ceil(bytes / READ_BYTES) * READ_BYTES - bytes)}\n`;
}

function answer(lines: readonly string[], expected: readonly string[]): string[] {
  for (const line of lines) {
    // Two spaces begin an entry of a listing, and these a report of success: names in them are no errors.
    if (/^(?: {2}|putting file |getting file )/u.test(line)) continue;
    const status = /\bNT_STATUS_([A-Z0-9_]+)/u.exec(line)?.[1];
    if (status !== undefined && !expected.includes(status)) throw statusError(status, line);
    if (status === undefined && /does not exist|^Error /u.test(line)) {
      throw new HoldfastError("internal", `smbclient: ${line.trim()}`);
    }
  }
  return lines.filter((line) => line.startsWith("  "));
}

const STATUSES: readonly (readonly [RegExp, ErrorCode])[] = [
  [/^(?:OBJECT_NAME_NOT_FOUND|OBJECT_PATH_NOT_FOUND|NO_SUCH_FILE|NOT_A_DIRECTORY)$/u, "not-found"],
  [/^(?:OBJECT_NAME_COLLISION|FILE_IS_A_DIRECTORY)$/u, "conflict"],
  [/^(?:OBJECT_NAME_INVALID|OBJECT_PATH_SYNTAX_BAD|NAME_TOO_LONG|OBJECT_PATH_INVALID)$/u, "invalid"],
  [
    /^(?:ACCESS_DENIED|LOGON_|WRONG_PASSWORD|ACCOUNT_|PASSWORD_|NO_SUCH_USER|MEDIA_WRITE_PROTECTED|NETWORK_ACCESS_DENIED|INVALID_LOGON)/u,
    "denied",
  ],
  [/^BAD_NETWORK_NAME$/u, "config"],
  [/^(?:DISK_FULL|QUOTA_EXCEEDED|DISK_QUOTA_EXCEEDED|INSUFFICIENT_RESOURCES)$/u, "full"],
  [/^IO_TIMEOUT$/u, "timeout"],
  [/^NOT_SUPPORTED$/u, "unsupported"],
];

function statusError(status: string, line: string): HoldfastError {
  const code = STATUSES.find(([pattern]) => pattern.test(status))?.[1] ?? "unavailable";
  // So smbclient says that nobody has the server's name.
  const retryable = /^do_connect:.*NT_STATUS_(?:NOT_FOUND|UNSUCCESSFUL)\b/u.test(line) ? false : undefined;
  return new HoldfastError(code, `smbclient: ${line.trim()}`, { retryable });
}
