/**
 * What every store does around its operations, in one place: a closed store refuses, closing ends what is under way, a
 * signal is obeyed even while the service hangs, and every error says store, operation and object, without secrets.
 */
import { abortable } from "../../contract/body.ts";
import { HoldfastError, abortError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { Operation } from "../../contract/errors.ts";
import { checkName } from "../../contract/names.ts";
import { redactError } from "../../support/redact.ts";
import type { GetResult, OperationOptions, PutOptions } from "../../contract/store.ts";
import { isTempName } from "./tree-store.ts";

/** One operation under way. `signal` fires when the caller's does, or when the store is closed. */
interface Running {
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
  /** Ends the operation; a second call does nothing. */
  end(): void;
}

export interface GuardOptions {
  readonly label: string;
  /** Values that must not stand in any error. */
  readonly secrets?: readonly string[];
  /** Makes what a library or service threw a HoldfastError; what is none afterwards becomes `internal`. */
  readonly mapError?: (error: unknown, operation: Operation) => unknown;
}

export class Guard {
  readonly #options: GuardOptions;
  readonly #running = new Set<Running>();
  #idle: (() => void) | undefined;
  #closed = false;

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Runs one operation. It ends with its error, soon after the signal fires: `work` is given the signal and must end by
   * itself, so that nothing of it goes on behind the caller's back.
   */
  async run<T>(
    operation: Operation,
    name: string | undefined,
    options: OperationOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    let running: Running | undefined;
    try {
      if (name !== undefined) checkName(name);
      running = this.#begin(options.signal);
      return await work(running.signal);
    } catch (error) {
      throw this.#error(error, operation, name, running?.signal);
    } finally {
      running?.end();
    }
  }

  /** The same for a listing: it is under way until its consumer stops. */
  async *iterate<T>(
    operation: Operation,
    options: OperationOptions,
    source: (signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    let running: Running | undefined;
    try {
      running = this.#begin(options.signal);
      yield* abortable(source(running.signal), running.signal);
    } catch (error) {
      throw this.#error(error, operation, undefined, running?.signal);
    } finally {
      running?.end();
    }
  }

  /** The same for a read: it is under way until its body has been read to the end, or it is closed. */
  async get(
    name: string,
    options: OperationOptions,
    work: (signal: AbortSignal) => Promise<GetResult>,
  ): Promise<GetResult> {
    let running: Running | undefined;
    try {
      checkName(name);
      running = this.#begin(options.signal);
      const { signal } = running;
      const result = await work(signal);
      const end = (): void => running?.end();
      let ending: Promise<void> | undefined;
      const close = (): Promise<void> => {
        ending ??= result.close().finally(end);
        return ending;
      };
      if (signal.aborted) {
        await close();
        throw abortError(signal);
      }
      // A read that nobody reads or closes still lets go of what it holds when its signal fires.
      signal.addEventListener("abort", () => void close().catch(() => undefined), { once: true });
      const failed = (error: unknown): HoldfastError => this.#error(error, "get", name, signal);
      const body = async function* (): AsyncGenerator<Uint8Array> {
        try {
          yield* abortable(result.body, signal);
        } catch (error) {
          throw failed(error);
        } finally {
          await close().catch(() => undefined);
        }
      };
      return { info: result.info, body: body(), close };
    } catch (error) {
      running?.end();
      throw this.#error(error, "get", name, running?.signal);
    }
  }

  /** Refuses further operations, ends those under way, and resolves when the last of them has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const running of this.#running) running.abort(closedError());
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  #begin(outer: AbortSignal | undefined): Running {
    throwIfAborted(outer);
    if (this.#closed) throw closedError();
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(outer?.reason);
    outer?.addEventListener("abort", onAbort, { once: true });
    const running: Running = {
      signal: controller.signal,
      abort: (reason) => controller.abort(reason),
      end: () => {
        outer?.removeEventListener("abort", onAbort);
        this.#running.delete(running);
        if (this.#running.size === 0) this.#idle?.();
      },
    };
    this.#running.add(running);
    return running;
  }

  #error(error: unknown, operation: Operation, object: string | undefined, signal?: AbortSignal): HoldfastError {
    const { label, secrets = [], mapError } = this.#options;
    // Whatever an aborted operation fails with, it failed because it was aborted.
    const found = signal?.aborted ? abortError(signal) : error;
    const mapped = toHoldfastError(
      found instanceof HoldfastError || !mapError ? found : mapError(found, operation),
    ).within({
      store: label,
      operation,
      object,
    });
    const redacted = redactError(mapped, secrets);
    return redacted instanceof HoldfastError ? redacted : mapped;
  }
}

function closedError(): HoldfastError {
  return new HoldfastError("invalid", "the store is closed");
}

/** Refuses what a plain store cannot do, before anything is tried. */
export function refuseUnsupported(options: PutOptions): void {
  if (options.metadata) {
    throw new HoldfastError("unsupported", "a plain store keeps no metadata; only a pool does");
  }
  if (options.ifAbsent) {
    throw new HoldfastError("unsupported", "this kind of store cannot decide atomically whether an object exists");
  }
}

/** Temporary files older than this belong to no put that is still under way, in milliseconds. */
export const STALE_TEMP_MS = 24 * 60 * 60 * 1000;

/**
 * Throws `invalid` for names that a store with folders would map onto others: with empty parts, `.` or `..`, or a
 * temporary file's name (see `tempName` in tree-store.ts).
 */
export function checkPathName(name: string): void {
  for (const part of name.split("/")) {
    if (part === "" || part === "." || part === "..") {
      throw new HoldfastError(
        "invalid",
        `the name ${JSON.stringify(name)} holds ${part === "" ? "an empty part" : `the part "${part}"`}, which a path cannot hold`,
      );
    }
    if (isTempName(part)) {
      throw new HoldfastError("invalid", `names like ${part} are kept for temporary files`);
    }
  }
}

/** Throws `invalid` when a part of the name is longer than `maxBytes` of UTF-8. */
export function checkParts(name: string, maxBytes: number): void {
  for (const part of name.split("/")) {
    const bytes = Buffer.byteLength(part);
    if (bytes > maxBytes) {
      throw new HoldfastError("invalid", `a part of the name is ${bytes} bytes long; at most ${maxBytes} are possible`);
    }
  }
}

/**
 * The folder in which the names that begin with `prefix` stand (`""` for the root), or undefined where no name that
 * `checkPathName` lets pass can begin with it.
 */
export function folderOfPrefix(prefix: string): string | undefined {
  const slash = prefix.lastIndexOf("/");
  if (slash === -1) return "";
  const folder = prefix.slice(0, slash);
  if (folder.split("/").some((part) => part === "" || part === "." || part === "..")) return undefined;
  return folder;
}

/** Waits for work that others wait for too, until the signal fires. */
export async function raceSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  // Its failure is for those who still wait.
  work.catch(() => undefined);
  if (signal.aborted) throw abortError(signal);
  let onAbort = (): void => undefined;
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(abortError(signal));
        signal.addEventListener("abort", onAbort, { once: true });
      }),
    ]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
