/** The man page and docs/cli.md, made from the commands' definitions. */
import type { Argument, Command, Option } from "commander";
import { REFUSED_ENVIRONMENT } from "../config/environment-names.ts";
import { POOL_PARAMETERS } from "../config/parameters.ts";
import { VERSION } from "../version.ts";
import { commandsOf, optionsOf } from "./commands/completion.ts";

const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  ["0", "Done, and nothing is missing."],
  ["1", "Failed: something was not done, or the output could not be written."],
  ["2", "The command line, the environment or the pool's configuration is wrong; nothing was tried."],
  [
    "3",
    "Done, but degraded or partial: copies or deletes are owed, a listing may lack something, a store was not heard, or something was left out.",
  ],
  ["4", "The object does not exist. Said only when every store that could hold it has answered."],
  ["130, 143, 129", "Stopped by SIGINT, SIGTERM or SIGHUP. Nothing partial is left; a second signal stops at once."],
  ["141", "Whoever read the output went away."],
];

const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  ["HOLDFAST_POOL", "The pool, where -p is not given."],
  [
    "HOLDFAST_CACHE",
    "Folder of the local index and of the command's compiled code, which speed things up and may be deleted at any time; the machine then counts as another one that writes to the pool.",
  ],
  ["XDG_CACHE_HOME", "They are in its folder holdfast where HOLDFAST_CACHE is not set. Default ~/.cache."],
  ["HOLDFAST_NO_COMPILED_CODE", "When set, the command's code is compiled at each start, and nothing of it is kept."],
  ["NO_COLOR", "When set, no colours."],
];

const EXAMPLES: readonly (readonly [what: string, command: string])[] = [
  [
    "Mirror a folder over the stores in a pool's file",
    "holdfast -p 'multi:///etc/pool.json?mode=mirror' push ~/photos photos",
  ],
  ["Put what a program prints", "pg_dump db | holdfast -p pool.json put - db.sql"],
  ["Get it back", "holdfast -p pool.json get db.sql"],
  ["See what is missing, and put it back", "holdfast -p pool.json status; holdfast -p pool.json repair"],
  ["Fill a disk that was replaced", "holdfast -p pool.json repair --refill nas"],
  ["Try a store before trusting it", "holdfast check-store sftp://backup@host/folder"],
];

function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
  return argument.required ? name : `[${name}]`;
}

function usage(command: Command): string {
  return ["holdfast", command.name(), ...command.registeredArguments.map(argumentText), "[OPTION...]"].join(" ");
}

function optionText(option: Option): string {
  const parts = [option.description];
  if (option.argChoices) parts.push(`one of: ${option.argChoices.join(", ")}`);
  if (option.defaultValue !== undefined && typeof option.defaultValue !== "boolean") {
    parts.push(`default: ${String(option.defaultValue)}`);
  }
  return parts.join("; ");
}

/** With a capital at the beginning and a full stop at the end. */
function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1).replace(/\.$/u, "")}.`;
}

/** A command's own options, without those that every command has. */
function ownOptions(program: Command, command: Command): Option[] {
  const shared = new Set(optionsOf(program).map((option) => option.long));
  return optionsOf(command).filter((option) => !shared.has(option.long));
}

/** The commands that are shown, without `help`. */
function commandsIn(program: Command): readonly Command[] {
  return commandsOf(program).filter((command) => command.name() !== "help");
}

function argumentLines(command: Command): (readonly [string, string])[] {
  return command.registeredArguments.map((argument) => {
    const choices = argument.argChoices ? `; one of: ${argument.argChoices.join(", ")}` : "";
    return [argumentText(argument), `${argument.description}${choices}`] as const;
  });
}

/** Text for roff: no line begins with a control character, and no backslash or hyphen is lost. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gmu, "\\&$1");
}

/** The man page, section 1. */
export function manPage(program: Command): string {
  const lines = [
    `.TH HOLDFAST 1 "" "holdfast ${VERSION}" "User Commands"`,
    ".SH NAME",
    "holdfast \\- many stores, one safe place",
    ".SH SYNOPSIS",
    ".B holdfast",
    "[\\-p",
    ".IR POOL ]",
    ".I COMMAND",
    "[ARGUMENT...] [OPTION...]",
    ".SH DESCRIPTION",
    roff(program.description()),
    ".PP",
    "POOL is a multi:// URL, the path of a pool's file, or a single store's URL. Options may stand before or behind the command.",
    ".SH OPTIONS",
  ];
  const entry = (term: string, text: string): void => void lines.push(".TP", `.B ${roff(term)}`, roff(text));
  for (const option of optionsOf(program)) entry(option.flags, optionText(option));
  lines.push(".SH COMMANDS");
  for (const command of commandsIn(program)) {
    lines.push(`.SS ${roff(usage(command))}`, roff(sentence(command.description())));
    for (const [name, text] of argumentLines(command)) entry(name, text);
    for (const option of ownOptions(program, command)) entry(option.flags, optionText(option));
  }
  lines.push(
    ".SH POOL FILE",
    'A JSON list of stores, as duplicity\'s multi backend has it: objects with "url", and optionally "description", "env" (a list of {"name", "value"}) and "prefixes". Or an object with the list as "stores" and the parameters below.',
    ".SH POOL PARAMETERS",
    "In the query of a multi:// URL, or as keys of the file's object form:",
  );
  for (const parameter of POOL_PARAMETERS)
    entry(`${parameter.name}=`, `${parameter.description} (${parameter.expected})`);
  lines.push(".SH EXIT STATUS");
  for (const [code, meaning] of EXIT_CODES) entry(code, meaning);
  lines.push(".SH ENVIRONMENT");
  for (const [name, meaning] of ENVIRONMENT) entry(name, meaning);
  lines.push(".SH EXAMPLES");
  for (const [what, command] of EXAMPLES)
    lines.push(".PP", roff(`${what}:`), ".PP", ".RS", ".nf", roff(command), ".fi", ".RE");
  return `${lines.join("\n")}\n`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
}

function markdownTable(head: readonly [string, string], rows: readonly (readonly [string, string])[]): string[] {
  return [`| ${head[0]} | ${head[1]} |`, "| --- | --- |", ...rows.map(([left, right]) => `| ${left} | ${right} |`), ""];
}

/** docs/cli.md. */
export function commandReference(program: Command): string {
  const optionRows = (options: readonly Option[]): (readonly [string, string])[] =>
    options.map((option) => [`\`${option.flags.replaceAll("|", "\\|")}\``, cell(optionText(option))] as const);
  const lines = [
    "# The command",
    "",
    "<!-- Made from the commands' definitions by `npm run generate`; edit src/cli/program.ts and src/cli/manual.ts. -->",
    "",
    program.description(),
    "",
    "```",
    "holdfast [-p POOL] COMMAND [ARGUMENT...] [OPTION...]",
    "```",
    "",
    "POOL is a `multi://` URL, the path of a pool's file, or a single store's URL ([the pool's URL and file](pool-file.md)).",
    "Options may stand before or behind the command. What `--json` prints is described in [json.md](json.md).",
    "",
    ...markdownTable(["option", "meaning"], optionRows(optionsOf(program))),
    "## Exit codes",
    "",
    ...markdownTable(["code", "meaning"], EXIT_CODES),
    "Where several hold, the first of 2, 1, 3, 4 is the result.",
    "",
    "## Environment",
    "",
    ...markdownTable(
      ["variable", "meaning"],
      ENVIRONMENT.map(([name, meaning]) => [`\`${name}\``, meaning] as const),
    ),
    "## Examples",
    "",
    "```sh",
    ...EXAMPLES.flatMap(([what, command]) => [`# ${what}`, command]),
    "```",
    "",
    "## Commands",
    "",
  ];
  for (const command of commandsIn(program)) {
    lines.push(`### ${command.name()}`, "", "```", usage(command), "```", "", sentence(command.description()), "");
    const rows = [
      ...argumentLines(command).map(([name, text]) => [`\`${name}\``, cell(text)] as const),
      ...optionRows(ownOptions(program, command)),
    ];
    if (rows.length > 0) lines.push(...markdownTable(["argument or option", "meaning"], rows));
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

/** The table of parameters and the list of refused variables in docs/pool-file.md. */
export function poolReference(): { readonly parameters: string; readonly refused: string } {
  const rows = POOL_PARAMETERS.map(
    ({ name, expected, description }) => [`\`${name}\``, `${cell(description)} It may be: ${cell(expected)}.`] as const,
  );
  return {
    parameters: markdownTable(["parameter", "meaning"], rows).join("\n").trimEnd(),
    refused: REFUSED_ENVIRONMENT.map((name) => `\`${name}\``).join(", "),
  };
}
