/** Completion scripts for shells, made from the commands' definitions. */
import type { Argument, Command, Option } from "commander";

/** What stands at an argument's place, by its name. */
function kindOfArgument(argument: Argument): "file" | "folder" | "choices" | "none" {
  if (argument.argChoices !== undefined) return "choices";
  if (argument.name() === "FILE") return "file";
  return argument.name() === "DIR" ? "folder" : "none";
}

function flagsOf(option: Option): string[] {
  return [option.short, option.long].filter((flag) => flag !== undefined);
}

/** Visible options, --help among them. */
export function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function commandsOf(program: Command): readonly Command[] {
  return program.createHelp().visibleCommands(program);
}

/** The script for `bash`, `zsh` or `fish`. */
export function completionScript(shell: string, program: Command): string {
  if (shell === "bash") return bash(program);
  return shell === "zsh" ? zsh(program) : fish(program);
}

function bash(program: Command): string {
  const names = commandsOf(program).map((command) => command.name());
  const cases = commandsOf(program).map((command) => {
    const flags = optionsOf(command).flatMap(flagsOf).join(" ");
    const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    const kinds = command.registeredArguments.map(kindOfArgument);
    const what = kinds.includes("file")
      ? 'mapfile -t COMPREPLY < <(compgen -f -- "$cur")'
      : kinds.includes("folder")
        ? 'mapfile -t COMPREPLY < <(compgen -d -- "$cur")'
        : `mapfile -t COMPREPLY < <(compgen -W "${choices.join(" ")}" -- "$cur")`;
    return `    ${command.name()})
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${flags}" -- "$cur")
      else
        ${what}
      fi ;;`;
  });
  return `# bash completion for holdfast; made by: holdfast completion bash
_holdfast() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= i
  COMPREPLY=()
  if [[ $prev == -p || $prev == --pool ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    return
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      -p|--pool) ((i++)) ;;
      -*) ;;
      *) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case $command in
    "")
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${optionsOf(program).flatMap(flagsOf).join(" ")}" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "${names.join(" ")}" -- "$cur")
      fi ;;
${cases.join("\n")}
  esac
}
complete -o filenames -F _holdfast holdfast
`;
}

function zshQuoted(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll("[", "\\[").replaceAll("]", "\\]").replaceAll(":", "\\:");
}

function zshOption(option: Option): string[] {
  const value = option.required
    ? option.argChoices
      ? `:value:(${option.argChoices.join(" ")})`
      : ":value:_files"
    : "";
  return flagsOf(option).map((flag) => `'${flag}[${zshQuoted(option.description)}]${value}'`);
}

function zsh(program: Command): string {
  const list = commandsOf(program).map((command) => `    '${command.name()}:${zshQuoted(command.summary())}'`);
  const cases = commandsOf(program).map((command) => {
    const kinds = command.registeredArguments.map(kindOfArgument);
    const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    const rest = kinds.includes("file")
      ? "'*:file:_files'"
      : kinds.includes("folder")
        ? "'*:folder:_files -/'"
        : `'*:argument:(${choices.join(" ")})'`;
    const lines = [...optionsOf(command).flatMap(zshOption), rest];
    return `    ${command.name()})\n      _arguments \\\n        ${lines.join(" \\\n        ")} ;;`;
  });
  return `#compdef holdfast
# zsh completion for holdfast; made by: holdfast completion zsh
_holdfast() {
  local -a commands
  commands=(
${list.join("\n")}
  )
  local context state line
  _arguments -C \\
    ${optionsOf(program).flatMap(zshOption).join(" \\\n    ")} \\
    '1:command:->command' '*::argument:->argument'
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

function fishOption(option: Option, condition: string): string {
  const short = option.short === undefined ? "" : ` -s ${option.short.slice(1)}`;
  const long = option.long === undefined ? "" : ` -l ${option.long.slice(2)}`;
  const value = option.required
    ? option.argChoices
      ? ` -x -a ${fishQuoted(option.argChoices.join(" "))}`
      : " -r"
    : "";
  return `complete -c holdfast -n ${fishQuoted(condition)}${short}${long}${value} -d ${fishQuoted(option.description)}`;
}

function fish(program: Command): string {
  const names = commandsOf(program).map((command) => command.name());
  const none = `not __fish_seen_subcommand_from ${names.join(" ")}`;
  const lines = ["# fish completion for holdfast; made by: holdfast completion fish", "complete -c holdfast -f"];
  for (const option of optionsOf(program)) lines.push(fishOption(option, none));
  for (const command of commandsOf(program)) {
    lines.push(`complete -c holdfast -n ${fishQuoted(none)} -a ${command.name()} -d ${fishQuoted(command.summary())}`);
    const seen = `__fish_seen_subcommand_from ${command.name()}`;
    for (const option of optionsOf(command)) lines.push(fishOption(option, seen));
    const kinds = command.registeredArguments.map(kindOfArgument);
    const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    if (kinds.includes("file")) lines.push(`complete -c holdfast -n ${fishQuoted(seen)} -F`);
    if (kinds.includes("folder")) {
      lines.push(`complete -c holdfast -n ${fishQuoted(seen)} -a '(__fish_complete_directories)'`);
    }
    if (choices.length > 0) {
      lines.push(`complete -c holdfast -n ${fishQuoted(seen)} -a ${fishQuoted(choices.join(" "))}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
