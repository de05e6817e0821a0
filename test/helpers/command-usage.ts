/** Whether a command line is one that the program takes: a command of it, with its options and required arguments. */
import { CommanderError } from "commander";
import type { buildProgram } from "../../src/cli/program.ts";

/** The words of a POSIX shell's command line: quotes and backslashes are read, nothing is expanded. */
export function shellWords(line: string): string[] {
  return [...line.matchAll(/(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+/gu)].map(([word]) =>
    word.replaceAll(
      /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/gu,
      (_, single?: string, double?: string, escaped?: string) =>
        single ?? double?.replaceAll(/\\(.)/gu, "$1") ?? escaped ?? "",
    ),
  );
}

/** Reached the command's action: everything was parsed. */
class Parsed extends Error {}

/** Parses `holdfast …` without running it. Says why where it is no valid usage. */
export function hasValidUsage(
  build: typeof buildProgram,
  line: string,
): { readonly valid: boolean; readonly reason?: string } {
  const [name, ...words] = shellWords(line);
  if (name !== "holdfast") return { valid: false, reason: `${String(name)} is not holdfast` };
  const nowhere = (): void => undefined;
  const program = build(
    () => {
      throw new Parsed();
    },
    { writeOut: nowhere, writeErr: nowhere, outputError: nowhere },
  );
  for (const command of program.commands) {
    // In place of the real action, which loads what it needs first.
    command.action(() => {
      throw new Parsed();
    });
  }
  try {
    program.parse(words, { from: "user" });
  } catch (error) {
    if (error instanceof Parsed) return { valid: true };
    // Help and version end so.
    if (error instanceof CommanderError && error.exitCode === 0) return { valid: true };
    return { valid: false, reason: error instanceof Error ? error.message : String(error) };
  }
  return { valid: false, reason: "no command is given" };
}
