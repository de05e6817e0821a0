/**
 * The commands, their arguments and options: the one definition behind parsing, --help, the man page, docs/cli.md and
 * shell completion. Each command's work is in its own file, loaded when it is called.
 *
 * `buildProgram` is long because it is one declaration, to be read from top to bottom: the commands stand in the order in
 * which the help and the manual show them.
 */
import { Argument, Command, InvalidArgumentError, Option } from "commander";
import type { OutputConfiguration } from "commander";
import { HoldfastError } from "../contract/errors.ts";
import { VERSION } from "../version.ts";
import type { DrainFlags } from "./commands/drain.ts";
import type { ServeFlags } from "./commands/serve.ts";
import type { ExecFlags } from "./commands/exec.ts";
import type { PushFlags } from "./commands/push.ts";
import type { PullFlags } from "./commands/pull.ts";
import type { VerifyFlags } from "./commands/verify.ts";
import type { RepairFlags } from "./commands/repair.ts";
import type { DrillFlags } from "./commands/drill.ts";
import type { RebalanceFlags } from "./commands/rebalance.ts";
import type { Completed } from "./commands/complete.ts";
import type { CommandContext } from "./context.ts";
import { EXIT_DEGRADED } from "./terminal/exit.ts";

/** Options that every command takes, before or behind its name. */
export interface GlobalOptions {
  readonly pool?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly debug?: boolean;
  readonly color?: boolean;
}

function globalOptions(): Option[] {
  return [
    new Option("-p, --pool <POOL>", "the pool: a multi:// URL, a pool file's path, or a single store's URL").env(
      "HOLDFAST_POOL",
    ),
    new Option("--json", "print one JSON object a line (docs/json.md)"),
    new Option("-q, --quiet", "print only results, warnings and errors"),
    new Option("--debug", "log every step to stderr, one JSON object a line, without secrets"),
    new Option("--no-color", "no colours (nor with NO_COLOR set)"),
  ];
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,9}$/u.test(text) ? Number(text) : Number.NaN;
    if (number >= least && number <= most) return number;
    throw new InvalidArgumentError(`give a whole number from ${least} to ${most}.`);
  };
}

function percentage(text: string): number {
  const number = /^\d{1,3}(\.\d{1,6})?%?$/u.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (number > 0 && number <= 100) return number;
  throw new InvalidArgumentError("give a percentage above 0, up to 100.");
}

function several(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text];
}

const jobs = (): Option =>
  new Option("-j, --jobs <N>", "work on N objects at a time, and on 8 times as many small ones (up to 64 KiB)")
    .argParser(wholeNumber(1, 256))
    .default(8);
const links = (): Option =>
  new Option("--links <WHAT>", "for symbolic links in DIR: name them and exit with 3, follow them, or ignore them")
    .choices(["report", "follow", "ignore"])
    .default("report");
const quick = (): Option =>
  new Option("--quick", "compare sizes and the stores' own checksums instead of reading everything");
const dryRun = (): Option => new Option("-n, --dry-run", "print the planned steps, and change nothing");
const sample = (): Option =>
  new Option("--sample <PERCENT>", "look at only this share of the objects, chosen at random").argParser(percentage);

/**
 * Builds the program. `contextOf` makes a command's context from the given options. `output` takes help and the parser's
 * own messages.
 */
export function buildProgram(
  contextOf: (options: GlobalOptions) => CommandContext,
  output: OutputConfiguration = {},
): Command {
  const program = new Command("holdfast");
  program
    // Set before the commands are added, because each one copies it then.
    .configureOutput(output)
    .description(
      "Makes many stores one safe place: mirrors objects over them or spreads them, and reports missing copies.",
    )
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [COMMAND]", "show help for a command")
    .exitOverride()
    .showSuggestionAfterError(true)
    .addHelpText(
      "after",
      `
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  done, but degraded or partial: copies are owed, a store was not heard
  4  not found
  130, 143, 129  stopped by SIGINT, SIGTERM, SIGHUP; 141: nobody read the output any more

Examples:
  holdfast -p 'multi:///etc/pool.json?mode=mirror' push ~/photos photos
  pg_dump db | holdfast -p pool.json put - db.sql
  holdfast -p pool.json status`,
    );
  for (const option of globalOptions()) program.addOption(option);

  /** Adds a command. Its options are merged with those before its name. */
  const add = (usage: string, summary: string, description = summary): Command => {
    const command = program.command(usage).summary(summary).description(description);
    command.helpOption("-h, --help", "show help");
    command.exitOverride();
    return command;
  };
  const contextFor = (command: Command): CommandContext => {
    const before = program.opts<GlobalOptions>();
    const behind = command.opts<GlobalOptions>();
    const given = (where: Command): boolean => where.getOptionValueSource("pool") === "cli";
    if (given(program) && given(command) && before.pool !== behind.pool) {
      throw new HoldfastError("config", "two different pools are given by -p, before and behind the command");
    }
    return contextOf({
      ...(given(command) ? { pool: behind.pool ?? "" } : before.pool === undefined ? {} : { pool: before.pool }),
      json: before.json === true || behind.json === true,
      quiet: before.quiet === true || behind.quiet === true,
      debug: before.debug === true || behind.debug === true,
      color: before.color !== false && behind.color !== false,
    });
  };

  add(
    "put",
    "put a file, or stdin, into the pool",
    "Puts a file, or stdin, into the pool. If the file changes during each of three readings, nothing of it is put: a warning says so, and the exit code is 3. Stdin is read once.",
  )
    .argument("<FILE>", "the file, or - for stdin")
    .argument("[NAME]", "the object's name (default: the file's own)")
    .action(async (file: string, name: string | undefined, _options: unknown, command: Command) =>
      (await import("./commands/put.ts")).put(contextFor(command), file, name),
    );
  add("get", "get an object, into a file or stdout", "Gets an object. A file appears whole, or not at all.")
    .argument("<NAME>", "the object")
    .argument("[FILE]", "the file to write, or - for stdout (default: the last part of NAME)")
    .action(async (name: string, file: string | undefined, _options: unknown, command: Command) =>
      (await import("./commands/get.ts")).get(contextFor(command), name, file),
    );
  add("ls", "list objects, in name order")
    .argument("[PREFIX]", "only names that start with this", "")
    .addOption(new Option("-l, --long", "show size and time, too"))
    .addOption(new Option("-0, --null", "end names with a NUL character instead of a newline"))
    .action(async (prefix: string, options: { long?: boolean; null?: boolean }, command: Command) =>
      (await import("./commands/ls.ts")).ls(contextFor(command), prefix, options),
    );
  add("stat", "show an object's size, digest and times")
    .argument("<NAME>", "the object")
    .action(async (name: string, _options: unknown, command: Command) =>
      (await import("./commands/stat.ts")).stat(contextFor(command), name),
    );
  add("rm", "delete objects")
    .argument("<NAME...>", "the objects")
    .addOption(new Option("-f, --force", "do not fail for an object that does not exist"))
    .action(async (names: string[], options: { force?: boolean }, command: Command) =>
      (await import("./commands/rm.ts")).rm(contextFor(command), names, options),
    );
  add(
    "push",
    "put a folder's files into the pool",
    "Puts the files of a folder and its subfolders into the pool. Files that are there already, by their digest, are skipped. The pool's own stores in the folder, and files that change during each of three readings, are named and left out, with exit code 3. A folder inside a store is refused.",
  )
    .argument("<DIR>", "the folder")
    .argument("[PREFIX]", "a folder in the pool to put them in", "")
    .addOption(jobs())
    .addOption(links())
    .addOption(dryRun())
    .addOption(new Option("--delete", "also delete objects under PREFIX that DIR does not have, for an exact copy"))
    .addOption(new Option("--force", "with --delete: go on even when DIR has no file at all"))
    .action(async (directory: string, prefix: string, options: PushFlags, command: Command) =>
      (await import("./commands/push.ts")).push(contextFor(command), directory, prefix, options),
    );
  add(
    "pull",
    "get the pool's objects into a folder",
    "Gets objects into the files of a folder. Files that are the same already, by their digest, are skipped. Nothing is written or deleted in the pool's own stores. A folder inside a store is refused.",
  )
    .argument("<DIR>", "the folder")
    .argument("[PREFIX]", "the folder in the pool to get", "")
    .addOption(jobs())
    .addOption(dryRun())
    .addOption(new Option("--delete", "also delete files in DIR that the pool does not have, for an exact copy"))
    .addOption(new Option("--force", "with --delete: go on even when the pool has no object there"))
    .action(async (directory: string, prefix: string, options: PullFlags, command: Command) =>
      (await import("./commands/pull.ts")).pull(contextFor(command), directory, prefix, options),
    );
  add(
    "check-store",
    "try a store before trusting it",
    "Runs the conformance probes on a store, under a name of their own, and cleans up. Exits with 1 when a guarantee does not hold.",
  )
    .argument("<URL>", "the store")
    .addOption(new Option("--full", "try every case, names and long listings too, not only the quick ones"))
    .addOption(new Option("--no-speed", "do not measure latency and throughput"))
    .action(async (url: string, options: { full?: boolean; speed?: boolean }, command: Command) =>
      (await import("./commands/check-store.ts")).checkStore(contextFor(command), url, options),
    );
  add("stores", "show each store: its state, the reason and its latency").action(
    async (_options: unknown, command: Command) => (await import("./commands/stores.ts")).stores(contextFor(command)),
  );
  add(
    "status",
    "show degraded objects and the debts of each store",
    "Shows, from the ledger alone, how many objects are degraded, how much each store owes, and since when. Exits with 3 when an object is degraded or lost, a write is neither finished nor undone, or a store cannot be used.",
  )
    .addOption(new Option("--debts", "name every owed object, with the store and the reason"))
    .action(async (options: { debts?: boolean }, command: Command) =>
      (await import("./commands/status.ts")).status(contextFor(command), options),
    );
  add(
    "verify",
    "read and compare every copy",
    "Reads every copy on every store and names those that are missing, stale, truncated, wrong or stray. Changes nothing.",
  )
    .argument("[PREFIX]", "only names that start with this", "")
    .addOption(quick())
    .addOption(sample())
    .addOption(new Option("--restart", "begin anew instead of continuing where an interrupted verify stopped"))
    .action(async (prefix: string, options: VerifyFlags, command: Command) =>
      (await import("./commands/verify.ts")).verify(contextFor(command), prefix, options),
    );
  add(
    "repair",
    "correct missing, wrong and stray copies",
    "Restores missing copies from good ones, settles unfinished writes and clears debts. Says that the pool is whole only after a census of all stores.",
  )
    .argument("[PREFIX]", "only names that start with this", "")
    .addOption(dryRun())
    .addOption(quick())
    .addOption(
      new Option(
        "--refill <STORE>",
        "fill this store, which is empty now (a replaced disk); may be repeated",
      ).argParser(several),
    )
    .addOption(
      new Option(
        "--discard-damaged",
        "remove parts of the ledger that are damaged on every store, and adopt the objects on the stores: deleted objects may come back",
      ),
    )
    .addOption(
      new Option(
        "--trust-stores",
        "accept the stores' copies of lost objects (after all stores were restored from one snapshot)",
      ),
    )
    .action(async (prefix: string, options: RepairFlags, command: Command) =>
      (await import("./commands/repair.ts")).repair(contextFor(command), prefix, options),
    );
  add(
    "drain",
    "move all objects off a store, so that it can be taken out of the pool",
    "Moves all objects off a store. A mirror keeps at least two copies of its objects, unless --leave-copies allows one, and never fewer than its min.",
  )
    .argument("<STORE>", "the store's description, URL or id, as `holdfast stores` shows it")
    .addOption(dryRun())
    .addOption(
      new Option("--leave-copies <N>", "allow the drain to leave only N copies of each object").argParser(
        wholeNumber(1, 1000),
      ),
    )
    .addOption(new Option("--cancel", "cancel a drain: the store takes objects again"))
    .action(async (store: string, options: DrainFlags, command: Command) =>
      (await import("./commands/drain.ts")).drain(contextFor(command), store, options),
    );
  add(
    "rebalance",
    "spread objects over the stores again, or change the pool's mode, min or prefixes",
    "Spreads objects over the stores again (stripe), or fills stores that were added later (mirror). With --mode, --min or --prefixes it changes the pool, whose URL or file has to say the same from then on.",
  )
    .addOption(dryRun())
    .addOption(new Option("--mode <MODE>", "make the pool a mirror or a stripe").choices(["mirror", "stripe"]))
    .addOption(
      new Option("--min <N>", "mirror: from now on, a put with fewer than N copies fails").argParser(
        wholeNumber(1, 1000),
      ),
    )
    .addOption(new Option("--prefixes", "take the prefixes of the stores from the pool's file"))
    .action(async (options: RebalanceFlags, command: Command) =>
      (await import("./commands/rebalance.ts")).rebalance(contextFor(command), options),
    );
  add(
    "create",
    "make a new pool although some of its stores do not answer",
    "Makes a new pool on the stores that answer; the others join it when they do. Without this command the first write makes the pool, and needs an answer from all stores, because a silent one may belong to an existing pool.",
  ).action(async (_options: unknown, command: Command) =>
    (await import("./commands/create.ts")).create(contextFor(command)),
  );
  add(
    "forget",
    "give up a store that is gone for good",
    "Gives up a store that does not answer and will not come back. The pool does not count on it any more. With --whole-pool, this machine forgets which pool the stores belonged to.",
  )
    .argument("[STORE]", "the store's description, URL or id, as `holdfast status` shows it")
    .addOption(new Option("--whole-pool", "forget, on this machine, which pool these stores are"))
    .action(async (store: string | undefined, options: { wholePool?: boolean }, command: Command) =>
      (await import("./commands/forget.ts")).forget(contextFor(command), store, options),
    );
  add(
    "drill",
    "find the objects that would be lost if a store were gone",
    "Reads all objects, or a sample, and discards the bytes, as if a store were gone. Names the objects that would be lost, and shows how long the reading took.",
  )
    .addOption(new Option("--store <STORE>", "act as if this store were gone (default: none)"))
    .addOption(sample())
    .action(async (options: DrillFlags, command: Command) =>
      (await import("./commands/drill.ts")).drill(contextFor(command), options),
    );
  add(
    "serve",
    "serve the pool to other programs",
    "Serves the pool by the protocols of S3, WebDAV and restic until it is stopped, and then finishes the requests in flight. " +
      "ADDR is PORT or HOST:PORT; the host is 127.0.0.1 unless it is given. Credentials are read from " +
      "HOLDFAST_GATEWAY_USER and HOLDFAST_GATEWAY_PASSWORD, or from --credentials.",
  )
    .addOption(new Option("--s3 <ADDR>", "the S3 protocol"))
    .addOption(new Option("--webdav <ADDR>", "WebDAV"))
    .addOption(new Option("--restic <ADDR>", "restic's REST protocol"))
    .addOption(new Option("--metrics <ADDR>", "/metrics for Prometheus, /healthz and /readyz"))
    .addOption(new Option("--credentials <FILE>", "a JSON list of {user, password, readOnly}"))
    .addOption(new Option("--cert <FILE>", "TLS: the certificate and its chain, PEM"))
    .addOption(new Option("--key <FILE>", "TLS: its key, PEM"))
    .addOption(new Option("--bucket <NAME>", "S3: the whole pool is this one bucket"))
    .addOption(
      new Option(
        "--spool <DIR>",
        "the folder for large bodies and the parts of unfinished S3 uploads; only one gateway may use it",
      ),
    )
    .addOption(new Option("--append-only", "restic only: overwrite nothing, and delete nothing but locks"))
    .addOption(
      new Option(
        "--ready-when <STATE>",
        "the state in which /readyz says ready: whole (nothing owed) or readable (nothing lost)",
      )
        .choices(["whole", "readable"])
        .default("readable"),
    )
    .addOption(
      new Option("--grace <SECONDS>", "how long requests in flight may take when it is stopped")
        .argParser(wholeNumber(0, 86_400))
        .default(30),
    )
    .addOption(
      new Option("--log-level <LEVEL>", "the lowest level that is logged to stderr, one JSON object a line")
        .choices(["debug", "info", "warn", "error"])
        .default("info"),
    )
    .action(async (options: ServeFlags, command: Command) =>
      (await import("./commands/serve.ts")).serve(contextFor(command), options),
    );
  add(
    "exec",
    "run a backup program on the pool",
    "Starts the gateway that COMMAND needs on a private port of this machine with a random credential, runs COMMAND with " +
      "the address in its environment and in place of {url}, {endpoint}, {host} and {bucket} in its arguments, waits until " +
      "everything is settled, and prints the pool's state. Ends with COMMAND's own exit code where that is not 0, and " +
      "says so; with the code of --degraded-exit where COMMAND ends with 0 and the pool is degraded.",
  )
    .addOption(
      new Option("--for <PROGRAM>", "use the recipe for this program (default: the name of COMMAND)").choices([
        "duplicity",
        "restic",
        "rclone",
        "kopia",
        "aws",
        "s3",
        "webdav",
      ]),
    )
    .addOption(
      new Option("--degraded-exit <CODE>", "end with this code when COMMAND ends with 0 and the pool is degraded")
        .argParser(wholeNumber(0, 255))
        .default(EXIT_DEGRADED),
    )
    .argument("<COMMAND...>", "behind --: the program and its arguments")
    .action(async (words: string[], options: ExecFlags, command: Command) =>
      (await import("./commands/exec.ts")).exec(contextFor(command), words, options),
    );
  add("completion", "print a completion script for a shell")
    .addArgument(new Argument("<SHELL>", "the shell").choices(["bash", "zsh", "fish"]))
    .action(async (shell: string, _options: unknown, command: Command) => {
      const context = contextFor(command);
      const { completionScript } = await import("./commands/completion.ts");
      await context.stdout.write(completionScript(shell, program));
    });

  // For the scripts of `completion`.
  program
    .command("complete", { hidden: true })
    .exitOverride()
    .addArgument(new Argument("<WHAT>").choices(["stores", "objects"]))
    .argument("[PREFIX]", "", "")
    .action(async (what: Completed, prefix: string, _options: unknown, command: Command) =>
      (await import("./commands/complete.ts")).complete(contextFor(command), what, prefix),
    );

  for (const command of program.commands) {
    for (const option of globalOptions()) command.addOption(option);
  }
  return program;
}
