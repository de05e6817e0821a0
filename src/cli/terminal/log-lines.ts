/** The log of --debug: one JSON object a line, on stderr. */
import type { LogFields, Logger } from "../../contract/log.ts";
import { redactText } from "../../support/redact.ts";
import type { Output } from "./output.ts";

/** A logger that writes every event; `secrets` are taken out of each line (it may grow as stores are opened). */
export function lineLogger(output: Output, secrets: readonly string[]): Logger {
  const write =
    (level: string) =>
    (event: string, fields: LogFields = {}): void => {
      const line = JSON.stringify({ time: new Date().toISOString(), level, event, ...fields });
      void output.write(`${redactText(line, secrets)}\n`);
    };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
