/** What is wrong with a pool's URL or file: one kind of error, and the words for what was found there. */
import { HoldfastError } from "../contract/errors.ts";

/** Throws `config`. */
export function fail(message: string, cause?: unknown): never {
  throw new HoldfastError("config", message, { operation: "open", cause });
}

/** Text from a file or URL for a message: quoted, cut, without control characters. */
export function quoted(text: string): string {
  const quote = JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
  return quote.isWellFormed() ? quote : quote.toWellFormed();
}

/** Whether a value of JSON is an object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The kind of a value of JSON, with its article. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
