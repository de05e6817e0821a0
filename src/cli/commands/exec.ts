/** `holdfast exec`: a backup program with a gateway of its own to the pool. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import { startGateways } from "../../gateway/gateways.ts";
import type { Gateways } from "../../gateway/gateways.ts";
import type { Credential } from "../../gateway/http-tools.ts";
import { openPool } from "../../open-pool.ts";
import { parsePool } from "../../config/pool-config.ts";
import type { CommandContext } from "../context.ts";
import { printable } from "../terminal/format.ts";
import { refusalOf } from "../refusal.ts";
import { isWhole, owedWords, standingLine } from "../standing.ts";
import { troubleWords } from "./stores.ts";
import { systemWords } from "../../contract/system-words.ts";

export interface ExecFlags {
  readonly for?: "duplicity" | "restic" | "rclone" | "kopia" | "aws" | "s3" | "webdav";
  readonly degradedExit: number;
}

/** The one bucket of the gateway: the whole pool, so that objects have the names that the program gives them. */
const BUCKET = "holdfast";
const REGION = "us-east-1";

type Recipe = (
  gateways: Gateways,
  credential: Credential,
  folder: string,
) => {
  /** What stands for {url}. */
  readonly url: string;
  /** Holds the credential: unlike arguments, other users of the machine cannot read it. */
  readonly env: Readonly<Record<string, string>>;
};

const hostOf = (url: string): string => url.replace(/^https?:\/\//u, "");

const aws = (gateways: Gateways, { user, password }: Credential): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: user,
  AWS_SECRET_ACCESS_KEY: password,
  AWS_REGION: REGION,
  AWS_DEFAULT_REGION: REGION,
  AWS_ENDPOINT_URL: gateways.url("s3"),
  // Nothing of the user's own may lead elsewhere.
  AWS_EC2_METADATA_DISABLED: "true",
});

const recipes: Record<NonNullable<ExecFlags["for"]>, Recipe> = {
  duplicity: (gateways, { user, password }) => ({
    url: `webdav://${user}@${hostOf(gateways.url("webdav"))}/`,
    env: { FTP_PASSWORD: password },
  }),
  restic: (gateways, credential) => ({
    url: `s3:${gateways.url("s3")}/${BUCKET}`,
    env: {
      ...aws(gateways, credential),
      RESTIC_REPOSITORY: `rest:http://${credential.user}:${credential.password}@${hostOf(gateways.url("restic"))}/`,
    },
  }),
  rclone: (gateways, { user, password }) => ({
    url: `holdfast:${BUCKET}`,
    env: {
      RCLONE_CONFIG_HOLDFAST_TYPE: "s3",
      RCLONE_CONFIG_HOLDFAST_PROVIDER: "Other",
      RCLONE_CONFIG_HOLDFAST_ENDPOINT: gateways.url("s3"),
      RCLONE_CONFIG_HOLDFAST_ACCESS_KEY_ID: user,
      RCLONE_CONFIG_HOLDFAST_SECRET_ACCESS_KEY: password,
      RCLONE_CONFIG_HOLDFAST_REGION: REGION,
      RCLONE_CONFIG_HOLDFAST_FORCE_PATH_STYLE: "true",
    },
  }),
  // kopia keeps where its repository is; the port is another one the next time, so that stays here.
  kopia: (gateways, credential, folder) => ({
    url: gateways.url("s3"),
    env: {
      ...aws(gateways, credential),
      KOPIA_CONFIG_PATH: join(folder, "kopia.config"),
      KOPIA_CHECK_FOR_UPDATES: "false",
    },
  }),
  aws: (gateways, credential) => ({ url: `s3://${BUCKET}`, env: aws(gateways, credential) }),
  s3: (gateways, credential) => ({ url: gateways.url("s3"), env: aws(gateways, credential) }),
  webdav: (gateways, { user, password }) => ({
    url: `${gateways.url("webdav")}/`,
    env: { WEBDAV_USER: user, WEBDAV_PASSWORD: password },
  }),
};

/** Variables that would lead an S3 client elsewhere, or have it sign with somebody else's token. */
const theirs = ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"];

function withoutTheirs(env: CommandContext["env"]): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !theirs.includes(name)));
}

export async function exec(context: CommandContext, words: readonly string[], flags: ExecFlags): Promise<void> {
  const [command, ...args] = words;
  if (command === undefined) throw new HoldfastError("config", "no COMMAND is given");
  const name = flags.for ?? basename(command).replace(/\.exe$/u, "");
  if (!isRecipe(name)) {
    throw new HoldfastError(
      "config",
      `there is no recipe for ${printable(name)}: say --for with one of ${Object.keys(recipes).join(", ")}`,
    );
  }
  // What COMMAND prints is the output of this command.
  context.printer.giveStdoutAway();
  const credential: Credential = { user: "holdfast", password: randomBytes(24).toString("base64url") };
  context.addSecrets([credential.password]);
  const folder = await mkdtemp(join(tmpdir(), "holdfast-exec-"));
  try {
    const gateways = await startGateways(
      async (openStore, logger) => (await context.openTarget({ openStore, logger })).pool,
      {
        listen: (["s3", "webdav", "restic"] as const).map((protocol) => ({ protocol, host: "127.0.0.1", port: 0 })),
        credentials: [credential],
        bucket: BUCKET,
        spool: join(folder, "uploads"),
        logger: context.logger,
      },
    );
    let ended: Ended;
    try {
      // COMMAND would only meet errors, and try again for minutes.
      const refused = await refusalOf(gateways.pool, context.signal);
      if (refused) throw refused;
      const recipe = recipes[name](gateways, credential, folder);
      const s3 = gateways.url("s3");
      const places: Record<string, string> = {
        "{url}": recipe.url,
        "{endpoint}": name === "webdav" || name === "duplicity" ? gateways.url("webdav") : s3,
        "{host}": hostOf(name === "webdav" || name === "duplicity" ? gateways.url("webdav") : s3),
        "{bucket}": BUCKET,
      };
      const filled = args.map((arg) =>
        arg.replace(/\{(?:url|endpoint|host|bucket)\}/gu, (place) => places[place] ?? place),
      );
      const env = {
        ...withoutTheirs(context.env),
        ...recipe.env,
        HOLDFAST_URL: recipe.url,
        HOLDFAST_ENDPOINT: places["{endpoint}"],
        HOLDFAST_BUCKET: BUCKET,
        // For programs on loopback a proxy is never right.
        no_proxy: "127.0.0.1",
        NO_PROXY: "127.0.0.1",
      };
      ended = await runCommand(context, command, filled, env);
    } finally {
      // Closes the pool too, which waits until everything written is where it belongs or is recorded as owed.
      await gateways.stop();
    }
    await report(context, command, ended);
    context.outcome.command(ended.code, flags.degradedExit);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function isRecipe(name: string): name is keyof typeof recipes {
  return Object.hasOwn(recipes, name);
}

interface Ended {
  /** Its exit code, or 128 and the signal's number. */
  readonly code: number;
  readonly signal?: NodeJS.Signals;
}

/** Runs the command with this one's input and output. */
async function runCommand(
  context: CommandContext,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: context.cwd, env, stdio: "inherit" });
    // Ctrl-C reaches both; what is sent to this process alone is passed on.
    const onAbort = (): void => void child.kill("SIGTERM");
    context.signal.addEventListener("abort", onAbort, { once: true });
    child.on("error", (error) => {
      context.signal.removeEventListener("abort", onAbort);
      const why = "code" in error && error.code === "ENOENT" ? "there is no such program" : systemWords(error);
      reject(new HoldfastError("config", `cannot run ${printable(command)}: ${why}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      context.signal.removeEventListener("abort", onAbort);
      resolve(signal ? { code: 128 + constants.signals[signal], signal } : { code: code ?? 128 });
    });
  });
}

/** The pool's state afterwards, read anew. */
async function report(context: CommandContext, command: string, { code, signal }: Ended): Promise<void> {
  const { printer, outcome } = context;
  // The code alone may be one of Holdfast's own.
  const how = signal === undefined ? `ended with exit code ${code}` : `was ended by ${signal} (exit code ${code})`;
  if (code !== 0) await printer.warning(`${basename(command)} ${how}`, { exitCode: code });
  const pool = await openPool(await parsePool(context.pool ?? "", { cwd: context.cwd }), { logger: context.logger });
  try {
    const status = await pool.maintenance.status();
    const whole = isWhole(status);
    if (!whole) outcome.degraded();
    for (const store of status.stores) {
      const owed = owedWords(store);
      const usable = store.reachable && store.trouble === undefined;
      if (owed === undefined && usable) continue;
      const said = [...(owed === undefined ? [] : [`owes ${owed}`]), ...(usable ? [] : [troubleWords(store)])];
      await printer.warning(`${store.label}: ${said.join("; ")}`, { store: store.label });
    }
    if (context.quiet && whole) return;
    await printer.data(
      {
        type: "status",
        mode: status.mode,
        objects: status.objects,
        degraded: status.degraded,
        lost: status.lost,
        unsettled: status.unsettled,
      },
      `pool: ${standingLine(status)}`,
    );
  } finally {
    await pool.close();
  }
}
