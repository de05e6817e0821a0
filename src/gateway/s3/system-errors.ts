/** What errors of the file system mean. */

export function hasCode(error: unknown, codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && codes.includes(error.code);
}

export function isMissing(error: unknown): boolean {
  return hasCode(error, ["ENOENT"]);
}

export function isFull(error: unknown): boolean {
  return hasCode(error, ["ENOSPC", "EDQUOT"]);
}
