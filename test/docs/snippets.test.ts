/** What docs show: code compiles, and commands are commands of the program. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, it } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { hasValidUsage } from "../helpers/command-usage.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const work = join(root, "dist-test", `docs-${process.pid}`);
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

interface Snippet {
  readonly page: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

function snippetsOf(page: string): Snippet[] {
  const text = readFileSync(join(root, page), "utf8");
  return [...text.matchAll(/^( *)```(\w+)\n([^]*?)^ *```/gmu)].map(
    ({ index, 1: indent = "", 2: language = "", 3: code = "" }) => ({
      page,
      line: text.slice(0, index).split("\n").length,
      language,
      code: code.replaceAll(new RegExp(`^${indent}`, "gmu"), ""),
    }),
  );
}

const snippets = pages.flatMap(snippetsOf);
const typed = snippets.filter(({ language }) => ["ts", "js", "typescript", "javascript"].includes(language));

/** The code as a module, whose first line may say where in the project it stands: `// src/stores/example.ts`. */
function moduleOf({ code }: Snippet): string {
  const home = /^\/\/ ((?:src|test)\/\S+)/u.exec(code)?.[1];
  if (home === undefined) return `${code}\nexport {};\n`;
  return code.replaceAll(
    /from "(\.\.?\/[^"]+)"/gu,
    (_, path: string) => `from "${resolve(root, dirname(home), path)}"`,
  );
}

afterAll(() => rmSync(work, { recursive: true, force: true }));

it("there is TypeScript in the docs to be checked", () => {
  expect(new Set(typed.map(({ page }) => page))).toEqual(new Set(["README.md", "CONTRIBUTING.md", "docs/api.md"]));
});

it("every TypeScript snippet of the docs compiles", { timeout: 120_000 }, async () => {
  mkdirSync(work, { recursive: true });
  for (const [number, snippet] of typed.entries()) {
    writeFileSync(
      join(work, `${snippet.page.replaceAll(/\W/gu, "-")}-line-${snippet.line}-${number}.ts`),
      moduleOf(snippet),
    );
  }
  const paths = {
    holdfast: [join(root, "src/index.ts")],
    "holdfast/conformance": [join(root, "src/conformance/index.ts")],
  };
  writeFileSync(
    join(work, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        paths,
        noUnusedLocals: false,
        rewriteRelativeImportExtensions: false,
        allowImportingTsExtensions: true,
      },
      include: [join(work, "*.ts")],
    }),
  );
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  const result = await promisify(execFile)(process.execPath, [compiler, "-p", work]).catch((error: unknown) => error);
  expect(result).toMatchObject({ stdout: "", stderr: "" });
});

const guide = readFileSync(join(root, "docs/guides/systemd.md"), "utf8");
const units = new Map(
  [...guide.matchAll(/`\/etc\/systemd\/system\/([^`]+)`:\n\n```ini\n([^]*?)```/gu)].map(([, name = "", text = ""]) => [
    name,
    text,
  ]),
);

it("the guide to systemd has a gateway, a repair and its timer", () => {
  expect([...units.keys()]).toEqual(["holdfast.service", "holdfast-repair.service", "holdfast-repair.timer"]);
});

it.each([...units].filter(([name]) => name.endsWith(".service")))(
  "%s reads as credentials what root alone may read",
  (_, text) => {
    const used = [...text.matchAll(/%d\/(\S+)/gu)].map(([, file]) => file);
    const handed = [...text.matchAll(/^LoadCredential=([^:]+):\/etc\/holdfast\//gmu)].map(([, file]) => file);
    expect([used.includes("pool.json"), new Set(used)]).toEqual([true, new Set(handed)]);
  },
);

it.runIf(existsSync("/usr/bin/systemd-analyze"))("systemd finds nothing wrong with the guide's units", async () => {
  mkdirSync(work, { recursive: true });
  const paths = [...units].map(([name, text]) => {
    writeFileSync(join(work, name), text.replaceAll("/usr/bin/holdfast", process.execPath));
    return join(work, name);
  });
  const result = await promisify(execFile)("systemd-analyze", ["verify", ...paths]).catch((error: unknown) => error);
  expect(result).toMatchObject({ stdout: "", stderr: "" });
});

const commands = snippets
  .filter(({ language }) => language === "sh")
  .flatMap(({ page, code }) =>
    [...code.replaceAll("\\\n", " ").matchAll(/(?:^|[|;&] ?|\$ )(holdfast [^|;&\n#]*)/gmu)].map(([, command = ""]) => ({
      page,
      command: command.trim(),
    })),
  );

it("there are commands in the docs to be checked", () => {
  expect(commands.length).toBeGreaterThan(30);
});

it.each(commands)("$page shows a command that the program takes: $command", ({ command }) => {
  expect(hasValidUsage(buildProgram, command)).toEqual({ valid: true });
});
