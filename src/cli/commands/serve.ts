/** `holdfast serve`: the pool behind S3, WebDAV and restic's REST protocol, until it is stopped. */
import { constants } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { pino } from "pino";
import { z } from "zod";
import { HoldfastError } from "../../contract/errors.ts";
import { parseListen, startGateways } from "../../gateway/gateways.ts";
import type { Listen, Protocol } from "../../gateway/gateways.ts";
import type { Credential } from "../../gateway/http-tools.ts";
import type { LogFields, Logger } from "../../contract/log.ts";
import { redactText } from "../../support/redact.ts";
import { systemWords } from "../../contract/system-words.ts";
import type { CommandContext } from "../context.ts";
import { pathArgument } from "../names.ts";
import { refusalOf } from "../refusal.ts";
import { checkTlsFiles } from "../tls-files.ts";

export interface ServeFlags {
  readonly s3?: string;
  readonly webdav?: string;
  readonly restic?: string;
  readonly metrics?: string;
  readonly credentials?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly bucket?: string;
  readonly spool?: string;
  readonly appendOnly?: boolean;
  readonly readyWhen: "whole" | "readable";
  readonly grace: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

const credentialsShape = z.array(
  z.strictObject({ user: z.string(), password: z.string(), readOnly: z.boolean().optional() }),
);

export async function serve(context: CommandContext, flags: ServeFlags): Promise<void> {
  const listen = (["s3", "webdav", "restic", "metrics"] as const).flatMap((protocol): Listen[] => {
    const address = flags[protocol];
    return address === undefined ? [] : [parseListen(protocol, address)];
  });
  if (!listen.some((one) => one.protocol !== "metrics")) {
    throw new HoldfastError("config", "serve needs at least one of --s3, --webdav and --restic");
  }
  if ((flags.cert === undefined) !== (flags.key === undefined)) {
    throw new HoldfastError("config", "--cert and --key are given together");
  }
  const credentials = await readCredentials(context, flags.credentials);
  context.addSecrets(credentials.map((one) => one.password));
  const tls =
    flags.cert === undefined || flags.key === undefined ? undefined : await readTls(context, flags.cert, flags.key);
  const logger = jsonLogger(context, flags.logLevel);
  const gateways = await startGateways(
    async (openStore, logger) => (await context.openTarget({ openStore, logger })).pool,
    {
      listen,
      credentials,
      tls,
      logger,
      bucket: flags.bucket,
      spool: flags.spool === undefined ? undefined : pathArgument(context.cwd, flags.spool, "--spool"),
      appendOnly: flags.appendOnly,
      readyWhen: flags.readyWhen,
    },
  );
  for (const server of gateways.servers) {
    await context.printer.done(
      { type: "listening", protocol: server.protocol, url: server.url },
      `${words[server.protocol]} at ${server.url}`,
    );
  }
  await context.stdout.flush();
  const stopped = new Promise<void>((resolve) => {
    if (context.signal.aborted) resolve();
    else context.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  // Not before it listens: a store that is down would hold the start up.
  const refused = await Promise.race([stopped, refusalOf(gateways.pool, context.signal)]);
  if (!refused) await stopped;
  logger.info("stopping", { graceSeconds: flags.grace });
  await gateways.stop(flags.grace * 1000);
  logger.info("stopped");
  if (refused) throw refused;
}

const words: Record<Protocol, string> = {
  s3: "S3",
  webdav: "WebDAV",
  restic: "restic's REST protocol",
  metrics: "metrics",
};

async function readCredentials(context: CommandContext, file: string | undefined): Promise<Credential[]> {
  const user = context.env["HOLDFAST_GATEWAY_USER"];
  const password = context.env["HOLDFAST_GATEWAY_PASSWORD"];
  if ((user === undefined) !== (password === undefined)) {
    throw new HoldfastError("config", "HOLDFAST_GATEWAY_USER and HOLDFAST_GATEWAY_PASSWORD are set together");
  }
  const own = user === undefined || password === undefined ? [] : [{ user, password }];
  if (file === undefined) return own;
  const text = await readText(context, "--credentials", file);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The parser's message quotes the file.
    throw new HoldfastError("config", `${file} is not JSON`);
  }
  const checked = credentialsShape.safeParse(parsed);
  if (!checked.success || checked.data.length === 0) {
    throw new HoldfastError(
      "config",
      `${file} must be a JSON list of {"user": …, "password": …, "readOnly": true or false}`,
    );
  }
  const { mode } = await stat(resolve(context.cwd, file));
  // Of a pipe, such as <(pass show users), the mode says nothing.
  if ((mode & constants.S_IFMT) === constants.S_IFREG && (mode & 0o044) !== 0) {
    const octal = (mode & 0o777).toString(8).padStart(3, "0");
    await context.printer.warning(`${file} holds passwords and can be read by others (mode ${octal}); chmod 600 it`);
  }
  return [...own, ...checked.data];
}

async function readTls(context: CommandContext, cert: string, key: string): Promise<{ cert: string; key: string }> {
  const texts = { cert: await readText(context, "--cert", cert), key: await readText(context, "--key", key) };
  checkTlsFiles({ file: cert, text: texts.cert }, { file: key, text: texts.key });
  return texts;
}

async function readText(context: CommandContext, option: string, file: string): Promise<string> {
  try {
    return await readFile(resolve(context.cwd, file), "utf8");
  } catch (error) {
    throw new HoldfastError("config", `${option}: cannot read ${file}: ${systemWords(error)}`, { cause: error });
  }
}

/** One JSON object a line on stderr, by pino, without the secrets of stores and clients. */
function jsonLogger(context: CommandContext, level: string): Logger {
  const log = pino(
    { level, base: null, messageKey: "event", timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line: string) => void context.stderr.write(redactText(line, context.secrets)) },
  );
  const write =
    (level: "debug" | "info" | "warn" | "error") =>
    (event: string, fields: LogFields = {}): void =>
      log[level](fields, event);
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
