/** One run of the command, from its arguments to its exit code. */
import { setMaxListeners } from "node:events";
import { CommanderError } from "commander";
import type { Command } from "commander";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../contract/errors.ts";
import { hint, hintsWithPool } from "../support/hint.ts";
import { INDEX_NOT_KEPT, silentLogger } from "../contract/log.ts";
import type { Logger } from "../contract/log.ts";
import { systemCode } from "../support/network-errors.ts";
import { redactError, redactText } from "../support/redact.ts";
import { systemWords } from "../contract/system-words.ts";
import type { CommandContext, Surroundings } from "./context.ts";
import { EXIT_DONE, EXIT_FAILED, EXIT_PIPE, EXIT_USAGE, Outcome } from "./terminal/exit.ts";
import { lineLogger } from "./terminal/log-lines.ts";
import { jsonPrinter, textPrinter } from "./terminal/printer.ts";
import type { Printer } from "./terminal/printer.ts";
import { buildProgram } from "./program.ts";
import type { GlobalOptions } from "./program.ts";
import { startProgress } from "./terminal/progress.ts";
import type { Target } from "./target.ts";

/** How long closing may take, in milliseconds: records may have to be written yet. */
const CLOSE_MS = 60_000;

/** Runs the command. Never rejects. `stop` is what signals and a closed stdout fire. */
export async function run(argv: readonly string[], surroundings: Surroundings, stop: AbortController): Promise<number> {
  const { stdout, stderr, env } = surroundings;
  const outcome = new Outcome();
  // Every object under way listens, and there may be hundreds: no leak.
  setMaxListeners(0, stop.signal);
  const secrets: string[] = [];
  const closing: (() => Promise<void>)[] = [];
  const colour = stderr.isTerminal && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  // Until the options are read: --json counts for errors in the options, too.
  const early = { stdout, stderr, quiet: false, colour, complete: asItIs };
  const own = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  let printer: Printer = own.includes("--json") ? jsonPrinter(early) : textPrinter(early);

  const contextOf = (options: GlobalOptions): CommandContext => {
    const quiet = options.quiet === true;
    const json = options.json === true;
    const wanted = {
      stdout,
      stderr,
      quiet,
      colour: colour && options.color !== false,
      complete: (message: string) =>
        withPool(message, options.pool === env["HOLDFAST_POOL"] ? undefined : options.pool, secrets),
    };
    printer = json ? jsonPrinter(wanted) : textPrinter(wanted);
    // Results tell the user of objects and stores. They do not tell that no index can be kept.
    const onlyCache: Logger = {
      ...silentLogger,
      warn: (event, { folder, reason } = {}) => {
        if (event === INDEX_NOT_KEPT) void printer.warning(`${event} (${String(folder)}: ${String(reason)})`);
      },
    };
    const logger = options.debug === true ? lineLogger(stderr, secrets) : onlyCache;
    if (options.debug === true) {
      process.on("warning", ({ name, message }) => logger.warn("process.warning", { name, message }));
    }
    const pool = options.pool ?? env["HOLDFAST_POOL"];
    let target: Promise<Target> | undefined;
    return {
      ...surroundings,
      printer,
      logger,
      outcome,
      pool,
      json,
      quiet,
      signal: stop.signal,
      secrets,
      async openTarget(given) {
        const { openTarget } = await import("./target.ts");
        target ??= openTarget(pool, {
          cwd: surroundings.cwd,
          logger,
          signal: stop.signal,
          ...given,
          onWarning: (message) => printer.warning(message),
          onSecrets: (more) => void secrets.push(...more),
        }).then((opened) => {
          closing.push(() => opened.pool.close());
          return opened;
        });
        return target;
      },
      closeLater: (close) => void closing.push(close),
      addSecrets: (more) => void secrets.push(...more),
      async startProgress(verb, stores) {
        const shown = stderr.isTerminal && !quiet && !json && env["TERM"] !== "dumb";
        const progress = await startProgress({ stream: shown ? stderr.stream : undefined, verb, stores });
        printer.progress(progress);
        return progress;
      },
    };
  };

  const report = async (error: unknown): Promise<void> => {
    const redacted = redactError(toHoldfastError(error), secrets);
    const holdfast = isHoldfastError(redacted) ? redacted : toHoldfastError(redacted);
    outcome.error(holdfast);
    // The user stopped it, or reads no more: nothing to explain.
    if (stop.signal.aborted && holdfast.code === "aborted") return;
    await printer.error(holdfast);
  };

  const program = buildProgram(contextOf, {
    writeOut: (text) => void stdout.write(text),
    writeErr: (text) => void stderr.write(text),
    // The error that follows says it, in one form with all others.
    outputError: () => undefined,
  });

  stop.signal.addEventListener("abort", () => {
    if (stderr.isTerminal && !stdout.broken) void printer.warning("stopping; once more stops at once");
  });
  let usage = EXIT_DONE;
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version end by an error of exit code 0.
      usage = error.exitCode === 0 ? EXIT_DONE : EXIT_USAGE;
      if (usage !== EXIT_DONE) {
        const message = (error.code === "commander.help" ? unhelped(own, program) : error.message)
          .replace(/^error: /u, "")
          .replaceAll("\n", " ")
          .replace(/^command-argument value ('.*') is invalid for argument '(\w+)'/u, "argument $1 for $2 is invalid")
          .replace(/\. Expected (\d+) arguments? but got (\d+)\.$/u, ": it takes $1, and $2 are given")
          .replace(/ is invalid(?: for argument '\w+')?\. Allowed choices are (.*)\.$/u, " is invalid: give one of $1")
          .replace(/ is invalid\. (.*)\.$/u, " is invalid: $1");
        await printer.error(new HoldfastError("config", `${message}; for help, run: ${helpFor(argv, program)}`));
      }
    } else {
      await report(error);
    }
  }
  for (const close of closing.toReversed()) {
    try {
      await within(CLOSE_MS, close());
    } catch (error) {
      await report(error);
    }
  }
  await printer.end();
  if (!(await wasWritten(surroundings, own.includes("--json")))) return EXIT_FAILED;
  if (stdout.broken) return EXIT_PIPE;
  return usage === EXIT_DONE ? outcome.exitCode : usage;
}

function asItIs(message: string): string {
  return message;
}

/** A message whose hints name the pool that was given by -p alone, so that they can be run as they stand. */
function withPool(message: string, pool: string | undefined, secrets: readonly string[]): string {
  if (pool === undefined || pool === "") return message;
  // A URL with a password in it is not repeated.
  return hintsWithPool(message, redactText(pool, secrets) === pool ? pool : "POOL");
}

/** Why the help was printed although nobody asked for it. */
function unhelped(argv: readonly string[], program: Command): string {
  const words = argv.filter((word) => !word.startsWith("-"));
  const unknown = words[words.indexOf("help") + 1];
  const isAsked = words.includes("help") && unknown !== undefined;
  return isAsked && !program.commands.some((command) => command.name() === unknown)
    ? `unknown command '${unknown}'`
    : "no command is given";
}

/** The help that belongs to what was typed. */
function helpFor(argv: readonly string[], program: Command): string {
  const name = argv.find((word) => program.commands.some((command) => command.name() === word));
  return name === undefined ? hint("--help") : hint(name, "--help");
}

/** Ends stderr, and resolves to whether everything was written that had, or may have had, a reader. Says why not. */
async function wasWritten({ stdout, stderr }: Surroundings, json: boolean): Promise<boolean> {
  if (stdout.lost !== undefined) {
    const reason = systemWords(stdout.lost);
    const full = ["ENOSPC", "EDQUOT", "EFBIG"].includes(systemCode(stdout.lost) ?? "");
    const error = new HoldfastError(full ? "full" : "unavailable", `the output could not be written: ${reason}`);
    // With --json, too, there is only stderr left to say it on.
    const left = { stdout: stderr, stderr, quiet: false, colour: false, complete: asItIs };
    await (json ? jsonPrinter(left) : textPrinter(left)).error(error);
  }
  await stderr.end();
  return stdout.lost === undefined && stderr.lost === undefined;
}

async function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new HoldfastError("timeout", "closing the stores took too long")), ms);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
