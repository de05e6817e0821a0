/** Answers of rclone's remote control, and the errors in them. */
import { HoldfastError } from "../../contract/errors.ts";
import { UNKNOWN_HOST } from "../../support/network-errors.ts";
import type { HttpAnswer } from "../base/http-client.ts";

/** The JSON of an answer. Throws what rclone says went wrong. */
export async function answerOf(response: HttpAnswer): Promise<unknown> {
  let text = "";
  for await (const chunk of response.body.setEncoding("utf8")) text += chunk as string;
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = undefined;
  }
  if (response.status === 200 && answer !== undefined) return answer;
  const message =
    typeof answer === "object" && answer !== null && "error" in answer && typeof answer.error === "string"
      ? answer.error
      : `status ${response.status}`;
  throw rcloneError(message, response.status);
}

/** rclone passes on each service's own words; these are the ones that tell what kind of failure it was. */
const MEANINGS: readonly (readonly [RegExp, ConstructorParameters<typeof HoldfastError>[0]])[] = [
  [
    /didn't find section in config|failed to create file system|couldn't decrypt|no such config|empty token/iu,
    "config",
  ],
  [/no space left|quota|insufficient ?storage|disk full|not enough space|storage ?limit|\b507\b/iu, "full"],
  [/too many requests|rate ?limit|slow ?down|throttl|\b429\b/iu, "throttled"],
  [/file name too long|name too long|invalid argument|illegal byte|invalid (?:file ?)?name/iu, "invalid"],
  [
    /not a directory|is a directory|non-file|isn't a (?:file|directory)|already exists|\b(?:409|412|423)\b/iu,
    "conflict",
  ],
  [
    /permission denied|access ?denied|unauthori[sz]ed|forbidden|invalid_grant|token expired|expired token|unable to authenticate|login incorrect|signature ?does ?not ?match|invalid ?access ?key|read-only file system|operation not permitted|\b40[13]\b/iu,
    "denied",
  ],
  [/timed? ?out|timeout|deadline exceeded/iu, "timeout"],
  [
    /connection (?:refused|reset)|couldn't connect|no such host|network is (?:unreachable|down)|no route to host|broken pipe|unexpected eof|\beof\b|service unavailable|internal server error|bad gateway|x509|certificate|tls:|input\/output error|ssh: /iu,
    "unavailable",
  ],
  [/not found|no such file|doesn't exist|does not exist|\b404\b/iu, "not-found"],
  [/unsupported|not supported|can't (?:move|copy)|not implemented/iu, "unsupported"],
];

function rcloneError(message: string, status: number): HoldfastError {
  const text = `rclone: ${message}`;
  if (status === 404) return new HoldfastError("not-found", text);
  const retryable = UNKNOWN_HOST.test(message) ? false : undefined;
  for (const [pattern, code] of MEANINGS) {
    if (pattern.test(message)) return new HoldfastError(code, text, { retryable });
  }
  return new HoldfastError("internal", text);
}
