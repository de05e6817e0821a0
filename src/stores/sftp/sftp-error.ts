/** SFTP's and the SSH library's errors as Holdfast's. */
import { HoldfastError } from "../../contract/errors.ts";

/** SFTP's status codes (draft-ietf-secsh-filexfer-02, section 7). */
const EOF = 1;
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const FAILURE = 4;
const BAD_MESSAGE = 5;
const UNSUPPORTED = 8;

export function hasStatus(error: unknown): error is Error & { code: number } {
  return error instanceof Error && "code" in error && typeof error.code === "number";
}

export function sftpError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  if (!hasStatus(error)) {
    return new HoldfastError("unavailable", `the SSH connection failed: ${message}`, options);
  }
  switch (error.code) {
    case NO_SUCH_FILE:
      return new HoldfastError("not-found", "there is no such file", options);
    case PERMISSION_DENIED:
      return new HoldfastError("denied", "the server does not permit it", options);
    case BAD_MESSAGE:
      return new HoldfastError("invalid", "the server cannot hold this name", options);
    case UNSUPPORTED:
      return new HoldfastError("unsupported", `the server cannot do this: ${message}`, options);
    default:
      if (/no space|disk full|quota|enospc/iu.test(message)) {
        return new HoldfastError("full", "no space is left on the server", options);
      }
      return new HoldfastError("unavailable", `the server answered: ${message}`, options);
  }
}

/** Whether the server said no more than that it failed. */
export const isFailure = (error: unknown): boolean =>
  error instanceof HoldfastError && hasStatus(error.cause) && error.cause.code === FAILURE;

/** Whether the server said that there is no more: of a file, or of a folder's entries. */
export const isEnd = (error: unknown): boolean =>
  error instanceof HoldfastError && hasStatus(error.cause) && error.cause.code === EOF;

/** What ssh2 throws where the server has not announced an extension. */
export function isMissingExtension(error: unknown): boolean {
  return error instanceof Error && error.message === "Server does not support this extended request";
}
