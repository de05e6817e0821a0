/** Commands that messages tell people to run: each is one that the program takes, whatever stores are called. */
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseAst } from "rolldown/parseAst";
import { expect, it } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { hint, hintsWithPool, shellWord } from "../../src/support/hint.ts";
import { hasValidUsage, shellWords } from "../helpers/command-usage.ts";

const src = fileURLToPath(new URL("../../src/", import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
/** Help, man page and completions: they are made of commands, and tested as such. */
const HELP = new Set(["cli/program.ts", "cli/manual.ts", "cli/commands/completion.ts"]);
/** What may stand in place of an expression in a hint: a number, a mode, a store's name. */
const VALUES = ["2", "mirror", "my nas (file:///it's)"];

type Node = { readonly type: string } & Readonly<Record<string, unknown>>;

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

function* nodesIn(value: unknown): Generator<Node> {
  if (Array.isArray(value)) for (const one of value) yield* nodesIn(one);
  if (!isNode(value)) return;
  yield value;
  for (const child of Object.values(value)) if (typeof child === "object") yield* nodesIn(child);
}

const parsed = new Map(
  files.map((file) => [file, [...nodesIn(parseAst(readFileSync(src + file, "utf8"), { lang: "ts" }, file).body)]]),
);

function nodesOf(file: string): readonly Node[] {
  return parsed.get(file) ?? [];
}

/** Words of each call of `hint` in a file; undefined for what is not known before the program runs. */
function hintsIn(file: string): (string | undefined)[][] {
  return nodesOf(file)
    .filter(({ type, callee }) => type === "CallExpression" && isNode(callee) && callee["name"] === "hint")
    .map(({ arguments: words }) =>
      (Array.isArray(words) ? words : []).map((word: unknown) =>
        isNode(word) && typeof word["value"] === "string" ? word["value"] : undefined,
      ),
    );
}

/** Text of the string and template literals in a file. */
function textsIn(file: string): string[] {
  return nodesOf(file).flatMap(({ type, value }) => {
    if (type === "Literal" && typeof value === "string") return [value];
    if (type !== "TemplateElement") return [];
    const { cooked } = value as { cooked?: string };
    return cooked === undefined ? [] : [cooked];
  });
}

const hints = files
  .filter((file) => file !== "support/hint.ts")
  .flatMap((file) =>
    hintsIn(file).map((words) => ({ file, words, shown: words.map((word) => word ?? "…").join(" ") })),
  );

it("the program's messages have hints", () => {
  expect(hints.length).toBeGreaterThan(15);
});

it.each(hints)("$file: holdfast $shown is a command, with the arguments that it needs", ({ words }) => {
  const tried = VALUES.map((value) => hasValidUsage(buildProgram, hint(...words.map((word) => word ?? value))));
  expect(tried.some(({ valid }) => valid) || tried).toBe(true);
});

it("no message spells a command of the program by itself", () => {
  const names = buildProgram(() => {
    throw new Error("no command runs here");
  }).commands.map((command) => command.name());
  const spelled = new RegExp(`\\bholdfast (?:-|(?:${names.join("|")})\\b)`, "u");
  const found = files
    .filter((file) => !HELP.has(file))
    .flatMap((file) => textsIn(file).flatMap((text) => (spelled.test(text) ? [`${file}: ${text}`] : [])));
  expect(found).toEqual([]);
});

it("a hint names the pool that was given", () => {
  expect(hintsWithPool(`it is away. If so, run: ${hint("repair", "--refill", "my nas")}`, "my pool.json")).toBe(
    "it is away. If so, run: holdfast -p 'my pool.json' repair --refill 'my nas'",
  );
});

it.each(["nas", "my nas", "it's", "a\\b", "$HOME", "*", "file:///a?b", ""])(
  "a shell reads %j back as it was",
  (word) => {
    expect(shellWords(shellWord(word)).join(" ")).toBe(word);
  },
);
