/** Structured log lines. The core writes events with fields; who opens the pool decides where they go. */

/** Values of a field. Never a credential: labels and redacted URLs only. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined | readonly string[]>>;

export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

/** The event of an index that cannot be kept in the cache, with `folder` and `reason`. */
export const INDEX_NOT_KEPT = "the local index cannot be kept; what is known stays in memory until the process ends";

const ignore = (): void => undefined;

export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
