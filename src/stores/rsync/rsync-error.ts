/** What rsync says went wrong, as an error of Holdfast. */
import { HoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { UNKNOWN_HOST } from "../../support/network-errors.ts";

const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/no space left|disk quota exceeded|\((?:28|122)\)$/imu, "full"],
  [/file name too long|\(36\)$/imu, "invalid"],
  [/unknown option|syntax or usage error \(code 1\).*(?:on remote|--)|option.*not supported/iu, "unsupported"],
  [/not a directory|could not make way|is a directory|cannot delete non-empty|\((?:20|21|39)\)$/imu, "conflict"],
  [/unknown module|no such module|chroot|chdir failed/iu, "config"],
  [/max connections/iu, "throttled"],
  [
    /auth failed|permission denied|host key verification failed|operation not permitted|read.only|refus(?:ed|ing) to|too many authentication|password/iu,
    "denied",
  ],
  [/temp-dir does not exist|no such file or directory|\(2\)$/imu, "not-found"],
];

export function rsyncError(code: number | null, text: string): HoldfastError {
  const lines = text.split("\n").map((line) => line.trim());
  const telling = lines.filter((line) =>
    /rsync|ssh|error|denied|failed|way|cannot|verification|option|refused/iu.test(line),
  );
  const message = `rsync: ${telling.slice(0, 3).join("; ").slice(0, 500) || `it ended with the code ${code}`}`;
  // Over SSH "connection refused" is no refusal by the store.
  if (
    code === 10 ||
    code === 30 ||
    code === 35 ||
    /connection (?:refused|timed out|reset)|no route to host/iu.test(text)
  ) {
    const late = code === 30 || code === 35;
    if (late || code === 10 || code === 255 || code === 12) {
      const retryable = UNKNOWN_HOST.test(text) ? false : undefined;
      return new HoldfastError(late ? "timeout" : "unavailable", message, { retryable });
    }
  }
  for (const [meaning, found] of MEANINGS) if (meaning.test(text)) return new HoldfastError(found, message);
  // The connection broke (12, 255), it was ended (20), it could not begin (5), or something that was not foreseen.
  return new HoldfastError("unavailable", message, { retryable: UNKNOWN_HOST.test(text) ? false : undefined });
}
