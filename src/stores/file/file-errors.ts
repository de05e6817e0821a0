/** What the system says of files, as errors of Holdfast. */
import { HoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { systemWords, systemWordsOfPath } from "../../contract/system-words.ts";
import { systemCode } from "../../support/network-errors.ts";
import type { ReadFailure } from "./group-reader.ts";

export function cutError(at: number): HoldfastError {
  return new HoldfastError("corrupt", `the file was cut off at byte ${at} while it was read`);
}

/** An error that the system gave to another thread. */
export function systemError({ code, message }: ReadFailure): Error {
  return Object.assign(new Error(message), { code });
}

export function linkError(cause?: unknown): HoldfastError {
  return new HoldfastError("denied", "a symbolic link stands in the way; links are not followed", { cause });
}

export function otherName(found: string): HoldfastError {
  return new HoldfastError(
    "conflict",
    `the file system takes the name for ${JSON.stringify(found)}, which stands there`,
  );
}

/** Whether what an open descriptor or a path led to is there no more: removed, or moved to another disk of a union. */
export function isGone(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ESTALE";
}

/** As the system says it when a directory is missing. */
export function goneError(): Error {
  return Object.assign(new Error("ENOENT: the directory does not exist"), { code: "ENOENT" });
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof HoldfastError ? undefined : systemCode(error);
}

/** What a failure to give the object its name means. */
export function putError(error: unknown, code: string | undefined, last: string): unknown {
  if (code === "EISDIR" || code === "ENOTEMPTY") {
    return new HoldfastError("conflict", `${JSON.stringify(last)} is a directory with objects in it`, { cause: error });
  }
  if (code === "EEXIST") return new HoldfastError("conflict", "the object exists already", { cause: error });
  if (code === "ENOTDIR") {
    return new HoldfastError("conflict", "an object stands where a directory is needed", { cause: error });
  }
  if (code === "EXDEV") {
    return new HoldfastError("unsupported", "another file system is mounted below the folder; make it a store itself", {
      cause: error,
    });
  }
  return error;
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "full",
  EDQUOT: "full",
  EFBIG: "full",
  EACCES: "denied",
  EPERM: "denied",
  EROFS: "denied",
  ELOOP: "denied",
  ENAMETOOLONG: "invalid",
  EILSEQ: "invalid",
  EINVAL: "invalid",
  ENOTSUP: "unsupported",
  ENOSYS: "unsupported",
};

/** The system's error as Holdfast's. What is not known is a disk, or a network, out of order. */
export function fsError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const code = codeOf(error);
  if (code === undefined) return new HoldfastError("internal", systemWords(error), { cause: error });
  // A file stands where a folder should: only somebody who takes it away mends that.
  const retryable = code === "ENOTDIR" ? false : undefined;
  return new HoldfastError(CODES[code] ?? "unavailable", systemWordsOfPath(error), { cause: error, retryable });
}
