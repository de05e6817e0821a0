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
  const { stdout, stderr } = surroundings;
  // Every object under way listens, and there may be hundreds: no leak.
  setMaxListeners(0, stop.signal);
  const own = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  const run = new Run(surroundings, stop.signal, own.includes("--json"));
  const program = buildProgram((options) => run.contextOf(options), {
    writeOut: (text) => void stdout.write(text),
    writeErr: (text) => void stderr.write(text),
    // The error that follows says it, in one form with all others.
    outputError: () => undefined,
  });

  stop.signal.addEventListener("abort", () => {
    if (stderr.isTerminal && !stdout.broken) void run.printer.warning("stopping; once more stops at once");
  });
  let usage = EXIT_DONE;
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version end by an error of exit code 0.
      usage = error.exitCode === 0 ? EXIT_DONE : EXIT_USAGE;
      if (usage !== EXIT_DONE) {
        const message = messageOf(error, own, program);
        await run.printer.error(new HoldfastError("config", `${message}; for help, run: ${helpFor(argv, program)}`));
      }
    } else {
      await run.report(error);
    }
  }
  await run.close();
  if (!(await wasWritten(surroundings, own.includes("--json")))) return EXIT_FAILED;
  if (stdout.broken) return EXIT_PIPE;
  return usage === EXIT_DONE ? run.outcome.exitCode : usage;
}

/** What lasts from the first word of the command line to the exit code. */
class Run {
  readonly #surroundings: Surroundings;
  readonly #signal: AbortSignal;
  /** Whether the terminal takes colours. */
  readonly #colour: boolean;
  readonly #secrets: string[] = [];
  readonly #closing: (() => Promise<void>)[] = [];
  readonly outcome = new Outcome();
  printer: Printer;

  /** `json`: whether errors in the options themselves are to be JSON. */
  constructor(surroundings: Surroundings, signal: AbortSignal, json: boolean) {
    const { stdout, stderr, env } = surroundings;
    this.#surroundings = surroundings;
    this.#signal = signal;
    this.#colour = stderr.isTerminal && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
    const early = { stdout, stderr, quiet: false, colour: this.#colour, complete: asItIs };
    this.printer = json ? jsonPrinter(early) : textPrinter(early);
  }

  /** What a command is given. From here on everything is said as the options want it. */
  contextOf(options: GlobalOptions): CommandContext {
    const quiet = options.quiet === true;
    const json = options.json === true;
    const printer = this.#printerFor(options);
    this.printer = printer;
    const logger = this.#loggerFor(options);
    const pool = options.pool ?? this.#surroundings.env["HOLDFAST_POOL"];
    let target: Promise<Target> | undefined;
    return {
      ...this.#surroundings,
      printer,
      logger,
      outcome: this.outcome,
      pool,
      json,
      quiet,
      signal: this.#signal,
      secrets: this.#secrets,
      openTarget: async (given) => {
        const { openTarget } = await import("./target.ts");
        target ??= openTarget(pool, {
          cwd: this.#surroundings.cwd,
          logger,
          signal: this.#signal,
          ...given,
          onWarning: (message) => printer.warning(message),
          onSecrets: (more) => void this.#secrets.push(...more),
        }).then((opened) => {
          this.#closing.push(() => opened.pool.close());
          return opened;
        });
        return target;
      },
      closeLater: (close) => void this.#closing.push(close),
      addSecrets: (more) => void this.#secrets.push(...more),
      startProgress: async (verb, stores) => {
        const { stderr, env } = this.#surroundings;
        const shown = stderr.isTerminal && !quiet && !json && env["TERM"] !== "dumb";
        const progress = await startProgress({ stream: shown ? stderr.stream : undefined, verb, stores });
        printer.progress(progress);
        return progress;
      },
    };
  }

  #printerFor(options: GlobalOptions): Printer {
    const { stdout, stderr, env } = this.#surroundings;
    const given = options.pool === env["HOLDFAST_POOL"] ? undefined : options.pool;
    const wanted = {
      stdout,
      stderr,
      quiet: options.quiet === true,
      colour: this.#colour && options.color !== false,
      complete: (message: string) => withPool(message, given, this.#secrets),
    };
    return options.json === true ? jsonPrinter(wanted) : textPrinter(wanted);
  }

  #loggerFor({ debug }: GlobalOptions): Logger {
    if (debug === true) {
      const logger = lineLogger(this.#surroundings.stderr, this.#secrets);
      process.on("warning", ({ name, message }) => logger.warn("process.warning", { name, message }));
      return logger;
    }
    // Results tell the user of objects and stores. They do not tell that no index can be kept.
    return {
      ...silentLogger,
      warn: (event, { folder, reason } = {}) => {
        if (event === INDEX_NOT_KEPT) void this.printer.warning(`${event} (${String(folder)}: ${String(reason)})`);
      },
    };
  }

  /** Says an error that ended the run, or a part of it. */
  async report(error: unknown): Promise<void> {
    const redacted = redactError(toHoldfastError(error), this.#secrets);
    const holdfast = isHoldfastError(redacted) ? redacted : toHoldfastError(redacted);
    this.outcome.error(holdfast);
    // The user stopped it, or reads no more: nothing to explain.
    if (this.#signal.aborted && holdfast.code === "aborted") return;
    await this.printer.error(holdfast);
  }

  /** Closes what the command opened, the last first, and ends the output. */
  async close(): Promise<void> {
    for (const close of this.#closing.toReversed()) {
      try {
        await within(CLOSE_MS, close());
      } catch (error) {
        await this.report(error);
      }
    }
    await this.printer.end();
  }
}

/** The parser's error in words like those of other errors. */
function messageOf(error: CommanderError, own: readonly string[], program: Command): string {
  return (error.code === "commander.help" ? unhelped(own, program) : error.message)
    .replace(/^error: /u, "")
    .replaceAll("\n", " ")
    .replace(/^command-argument value ('.*') is invalid for argument '(\w+)'/u, "argument $1 for $2 is invalid")
    .replace(/\. Expected (\d+) arguments? but got (\d+)\.$/u, ": it takes $1, and $2 are given")
    .replace(/ is invalid(?: for argument '\w+')?\. Allowed choices are (.*)\.$/u, " is invalid: give one of $1")
    .replace(/ is invalid\. (.*)\.$/u, " is invalid: $1");
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
