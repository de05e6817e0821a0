/** The files of the project that are made from definitions in the code (`npm run generate`). */
import { HoldfastError } from "../contract/errors.ts";
import { poolSchema } from "../config/pool-schema.ts";
import { completionScript } from "./commands/completion.ts";
import { commandReference, manPage, poolReference } from "./manual.ts";
import { buildProgram } from "./program.ts";

/** Path from the project's root → content. `read` gives a file's present text, for those that are made in part. */
export function generatedFiles(read: (path: string) => string): Map<string, string> {
  const program = buildProgram(() => {
    throw new HoldfastError("internal", "no command runs here");
  });
  const reference = poolReference();
  const poolFile = replaceBetween(
    replaceBetween(read("docs/pool-file.md"), "parameters", `\n${reference.parameters}\n`),
    "refused",
    `\n${reference.refused}\n`,
  );
  return new Map([
    ["src/config/pool.schema.json", `${JSON.stringify(poolSchema(), null, 2)}\n`],
    ["man/holdfast.1", manPage(program)],
    ["completions/holdfast.bash", completionScript("bash", program)],
    ["completions/_holdfast", completionScript("zsh", program)],
    ["completions/holdfast.fish", completionScript("fish", program)],
    ["docs/cli.md", commandReference(program)],
    ["docs/pool-file.md", poolFile],
  ]);
}

function replaceBetween(text: string, name: string, content: string): string {
  const start = `<!-- generated: ${name} -->`;
  const end = `<!-- end: ${name} -->`;
  const from = text.indexOf(start);
  const to = text.indexOf(end);
  if (from === -1 || to < from) throw new HoldfastError("internal", `the marks for ${name} are missing`);
  return text.slice(0, from + start.length) + content + text.slice(to);
}
