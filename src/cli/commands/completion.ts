/** Completion scripts for shells, made from the commands' definitions. */
import type { Argument, Command, Option } from "commander";

/** What may stand at a place: of the file system, of the pool, a program, one of some words, or what cannot be offered. */
type Kind = "file" | "folder" | "objects" | "stores" | "program" | readonly string[] | undefined;

/** By the placeholders that the commands' definitions use. */
const KINDS: Readonly<Record<string, Kind>> = {
  FILE: "file",
  POOL: "file",
  URL: "file",
  DIR: "folder",
  NAME: "objects",
  PREFIX: "objects",
  STORE: "stores",
  COMMAND: "program",
};

/** What stands at an argument's place. */
function kindOfArgument(argument: Argument): Kind {
  return argument.argChoices ?? KINDS[argument.name()];
}

/** What an option's value may be. Undefined too for an option without a value. */
function kindOfValue(option: Option): Kind {
  const placeholder = /<([A-Z]+)>/u.exec(option.flags)?.[1] ?? "";
  // serve --bucket <NAME> names no object.
  return option.argChoices ?? (placeholder === "NAME" ? undefined : KINDS[placeholder]);
}

/** What stands at each place behind a command, and at all places beyond. */
function placesOf(program: Command, command: Command): { readonly places: readonly Kind[]; readonly rest: Kind } {
  if (command.name() === "help") return { places: [commandsOf(program).map((one) => one.name())], rest: undefined };
  const places = command.registeredArguments.map(kindOfArgument);
  const last = command.registeredArguments.at(-1);
  if (last?.variadic !== true) return { places, rest: undefined };
  return { places, rest: places.at(-1) === "program" ? "file" : places.at(-1) };
}

function flagsOf(option: Option): string[] {
  return [option.short, option.long].filter((flag) => flag !== undefined);
}

/** Visible options, --help among them. */
export function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

/** Visible commands, `help` among them. */
export function commandsOf(program: Command): readonly Command[] {
  return program.createHelp().visibleCommands(program);
}

/** Flags, of whatever command, behind which a value stands. */
function valuedFlags(program: Command): readonly string[] {
  const options = [program, ...commandsOf(program)].flatMap((command) => optionsOf(command));
  return [...new Set(options.filter((option) => option.required).flatMap(flagsOf))];
}

/** The script for `bash`, `zsh` or `fish`. */
export function completionScript(shell: string, program: Command): string {
  if (shell === "bash") return bash(program);
  return shell === "zsh" ? zsh(program) : fish(program);
}

/** What offers words of a kind in bash; nothing for what cannot be offered. */
function bashOffer(kind: Kind): string {
  switch (kind) {
    case undefined:
      return ":";
    case "file":
      return "_holdfast_offer -f";
    case "folder":
      return "_holdfast_offer -d";
    case "program":
      return "_holdfast_offer -c";
    case "stores":
    case "objects":
      return `_holdfast_ask ${kind}`;
    default:
      return `_holdfast_offer -W "${kind.join(" ")}"`;
  }
}

function bashCase(pattern: string, kind: Kind): string {
  return `${pattern}) ${bashOffer(kind)} ;;`;
}

/** The cases of one command: what its options take, its options, and what stands at which place. */
function bashCommand(program: Command, command: Command): string {
  const valued = optionsOf(command).filter((option) => option.required);
  const values = valued.map((option) =>
    bashCase(`${command.name()}:${flagsOf(option).join(`|${command.name()}:`)}`, kindOfValue(option)),
  );
  const flags = optionsOf(command).flatMap(flagsOf).join(" ");
  const { places, rest } = placesOf(program, command);
  const offers = places.map((kind, place) => bashCase(`${command.name()}:${place}`, kind));
  return [
    ...values,
    `${command.name()}:-) _holdfast_offer -W "${flags}" ;;`,
    ...offers,
    ...(rest === undefined ? [] : [bashCase(`${command.name()}:*`, rest)]),
  ]
    .map((line) => `    ${line}`)
    .join("\n");
}

function bash(program: Command): string {
  const names = commandsOf(program).map((command) => command.name());
  return `# bash completion for holdfast; made by: holdfast completion bash
_holdfast_offer() {
  mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}
# Names of the pool's stores or objects.
_holdfast_ask() {
  mapfile -t COMPREPLY < <("\${words[0]}" \${pool:+-p "$pool"} complete "$1" -- "$cur" 2>/dev/null)
  [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
_holdfast() {
  local cur pool= command= previous= place=0 typed i word
  local -a words=()
  COMPREPLY=()
  # bash takes a word apart at each : and =.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if ((i > 1)) && [[ $word == [:=]* || \${COMP_WORDS[i-1]} == *[:=] ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  typed=\${words[-1]}
  for ((i = 1; i < \${#words[@]} - 1; i++)); do
    word=\${words[i]//[\\\\\\'\\"]/}
    if [[ $previous == -p || $previous == --pool ]]; then pool=\${word/#\\~/$HOME}; fi
    if [[ -n $previous ]]; then previous=; continue; fi
    case $word in
      ${valuedFlags(program).join("|")}) previous=$word ;;
      --pool=*) pool=\${word#*=} ;;
      -?*) ;;
      *) if [[ -z $command ]]; then command=$word; else ((place++)); fi ;;
    esac
  done
  cur=\${typed//[\\\\\\'\\"]/}
  if [[ -n $previous ]]; then
    place=$previous
  elif [[ $cur == --*=* ]]; then
    place=\${cur%%=*} cur=\${cur#*=}
  elif [[ $cur == -* ]]; then
    place=-
  fi
  case $command:$place in
    *:-p|*:--pool) _holdfast_offer -f ;;
    :-) _holdfast_offer -W "${optionsOf(program).flatMap(flagsOf).join(" ")}" ;;
    :0) _holdfast_offer -W "${names.join(" ")}" ;;
${commandsOf(program)
  .map((command) => bashCommand(program, command))
  .join("\n")}
  esac
  # What stands before the last : is not replaced.
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("\${COMPREPLY[@]#"\${cur%"\${cur##*:}"}"}")
  fi
}
complete -o filenames -F _holdfast holdfast
`;
}

function zshQuoted(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll("[", "\\[").replaceAll("]", "\\]").replaceAll(":", "\\:");
}

function zshOffer(kind: Kind): string {
  switch (kind) {
    case undefined:
      return "";
    case "file":
      return "_files";
    case "folder":
      return "_files -/";
    case "program":
      return "_command_names -e";
    case "stores":
    case "objects":
      return `{_holdfast_ask ${kind}}`;
    default:
      return `(${kind.join(" ")})`;
  }
}

function zshPlaces(program: Command, command: Command): string[] {
  const { places, rest } = placesOf(program, command);
  const shown = places.map(
    (kind, place) => `'${place + 1}:${command.registeredArguments[place]?.name()}:${zshOffer(kind)}'`,
  );
  return rest === undefined ? shown : [...shown, `'*:${command.registeredArguments.at(-1)?.name()}:${zshOffer(rest)}'`];
}

function zshOption(option: Option): string[] {
  const value = option.required ? `:value:${zshOffer(kindOfValue(option))}` : "";
  return flagsOf(option).map((flag) => `'${flag}[${zshQuoted(option.description)}]${value}'`);
}

function zsh(program: Command): string {
  const list = commandsOf(program).map((command) => `    '${command.name()}:${zshQuoted(command.summary())}'`);
  const cases = commandsOf(program).map((command) => {
    const lines = [...optionsOf(command).flatMap(zshOption), ...zshPlaces(program, command)];
    return `    ${command.name()})\n      _arguments \\\n        ${lines.join(" \\\n        ")} ;;`;
  });
  return `#compdef holdfast
# zsh completion for holdfast; made by: holdfast completion zsh
# Names of the pool's stores or objects.
_holdfast_ask() {
  local pool=\${(Q)\${opt_args[-p]:-\${opt_args[--pool]:-$holdfast_pool}}}
  local -a names
  names=(\${(f)"$(holdfast \${pool:+-p} \${pool:+\${pool/#\\~/$HOME}} complete $1 -- "\${(Q)PREFIX}" 2>/dev/null)"})
  compadd -S '' -- \${(M)names:#*/}
  compadd -- \${names:#*/}
}
_holdfast() {
  local -a commands
  local holdfast_pool
  commands=(
${list.join("\n")}
  )
  local context state line
  _arguments -C \\
    ${optionsOf(program).flatMap(zshOption).join(" \\\n    ")} \\
    '1:command:->command' '*::argument:->argument'
  holdfast_pool=\${opt_args[-p]:-\${opt_args[--pool]}}
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
${cases.map((one) => one.replaceAll(/^/gmu, "  ")).join("\n")}
      esac ;;
  esac
}
if [ "$funcstack[1]" = "_holdfast" ]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
`;
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** What offers words of a kind in fish, behind `complete -c holdfast -n CONDITION`. */
function fishOffer(kind: Kind): string {
  switch (kind) {
    case undefined:
      return "";
    case "file":
      return " -F";
    case "folder":
      return " -a '(__fish_complete_directories)'";
    case "program":
      return " -a '(__fish_complete_command)'";
    case "stores":
    case "objects":
      return ` -a '(__holdfast_ask ${kind})'`;
    default:
      return ` -a ${fishQuoted(kind.join(" "))}`;
  }
}

function fishOption(option: Option, condition: string): string {
  const short = option.short === undefined ? "" : ` -s ${option.short.slice(1)}`;
  const long = option.long === undefined ? "" : ` -l ${option.long.slice(2)}`;
  const kind = kindOfValue(option);
  const value = option.required ? ` ${kind === "file" ? "-r" : "-x"}${fishOffer(kind)}` : "";
  return `complete -c holdfast -n ${fishQuoted(condition)}${short}${long}${value} -d ${fishQuoted(option.description)}`;
}

function fishPlaces(program: Command, command: Command): string[] {
  const { places, rest } = placesOf(program, command);
  const line = (kind: Kind, condition: string): string =>
    `complete -c holdfast -n ${fishQuoted(condition)}${fishOffer(kind)}`;
  return [
    ...places.flatMap((kind, place) =>
      kind === undefined ? [] : [line(kind, `__holdfast_at ${command.name()} -eq ${place}`)],
    ),
    ...(rest === undefined ? [] : [line(rest, `__holdfast_at ${command.name()} -ge ${places.length}`)]),
  ];
}

function fish(program: Command): string {
  const names = commandsOf(program).map((command) => command.name());
  const none = `not __fish_seen_subcommand_from ${names.join(" ")}`;
  const lines = [
    "# fish completion for holdfast; made by: holdfast completion fish",
    `# Whether so many words stand behind a command already, options and their values left out.
function __holdfast_at
    set -l found
    set -l skip 0
    for word in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case ${valuedFlags(program).join(" ")}
                set skip 1
            case '-?*'
            case '*'
                set -a found $word
        end
    end
    test "$found[1]" = $argv[1]; and test (math (count $found) - 1) $argv[2] $argv[3]
end
# Names of the pool's stores or objects.
function __holdfast_ask
    set -l words (commandline -opc)
    set -l pool
    for i in (seq (count $words))
        switch $words[$i]
            case -p --pool
                set pool -p (string replace -r '^~' $HOME -- $words[(math $i + 1)])
            case '--pool=*'
                set pool -p (string replace -- --pool= '' $words[$i])
        end
    end
    holdfast $pool complete $argv[1] -- (commandline -ct) 2>/dev/null
end
complete -c holdfast -f`,
  ];
  for (const option of optionsOf(program)) lines.push(fishOption(option, none));
  for (const command of commandsOf(program)) {
    lines.push(`complete -c holdfast -n ${fishQuoted(none)} -a ${command.name()} -d ${fishQuoted(command.summary())}`);
    for (const option of optionsOf(command))
      lines.push(fishOption(option, `__fish_seen_subcommand_from ${command.name()}`));
    lines.push(...fishPlaces(program, command));
  }
  return `${lines.join("\n")}\n`;
}
