/** The docs of the code speak of code that is there, and so do its comments. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), "utf8");

function filesIn(folder: string, ending: RegExp): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => ending.test(name))
    .map((name) => `${folder}/${name}`);
}

const COMMENT = /\/\*[^]*?\*\/|(?<![:"'`])\/\/[^\n]*/gu;
const sources = filesIn("src", /\.ts$/u).map((path) => ({ path, text: read(path) }));
const withoutComments = sources.map(({ text }) => text.replaceAll(COMMENT, " ")).join("\n");
const words = new Set(withoutComments.match(/[\w$]+/gu));
const architecture = read("docs/architecture.md");
const quoted = (text: string): readonly string[] => [...text.matchAll(/`([^`\n]+)`/gu)].map(([, code = ""]) => code);

const PATH = /(?<![\w./-])(?:src|test|docs|bench|scripts|examples)\/[\w./-]*\w/gu;

it.each(["docs/architecture.md", "docs/glossary.md", "docs/debugging.md", "docs/releasing.md", "CONTRIBUTING.md"])(
  "every path that %s names exists",
  (page) => {
    const named = [...read(page).matchAll(PATH)].map(([path]) => path).filter((path) => !/\/example\./u.test(path));
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  },
);

it("the page on debugging has every variable that is read", () => {
  const files = ["src", "test", "bench", "scripts", ".ci"].flatMap((folder) =>
    filesIn(folder, /(?:\.(?:ts|js|mjs|sh)|run)$/u),
  );
  const found = files.flatMap((path) => [
    ...readFileSync(join(root, path), "utf8").matchAll(/(?<!_)HOLDFAST_[A-Z_]+\w/gu),
  ]);
  const page = read("docs/debugging.md");
  expect([...new Set(found.map(([name]) => name))].filter((name) => !page.includes(name))).toEqual([]);
});

it("every function and class that the page on architecture names is in the source", () => {
  const named = quoted(architecture).filter((code) => /^#?[a-zA-Z]+(?:\.[a-zA-Z]+)?$/u.test(code));
  const unknown = named.filter((code) => code.split(".").some((word) => !words.has(word.replace("#", ""))));
  expect(unknown.filter((code) => !code.endsWith(".ts") && !existsSync(join(root, "src", code)))).toEqual([]);
});

/** The map of the page: each folder of src/, or file in it, with what it may import. */
const map = new Map(
  [...architecture.matchAll(/^\| (`[\w.-]+`) \| [^|]+ \| ([^|]*)\|$/gmu)].map(([, folder = "", imports = ""]) => [
    quoted(folder)[0] ?? "",
    new Set(quoted(imports)),
  ]),
);

it("the map has every folder of src", () => {
  const folders = readdirSync(join(root, "src"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(folders.map(({ name }) => name).filter((name) => !map.has(name))).toEqual([]);
});

it("nothing imports what the map does not let it import", () => {
  const roomOf = (path: string): string => path.split("/")[1] ?? "";
  const wrong = sources.flatMap(({ path, text }) => {
    const allowed = map.get(roomOf(path));
    if (allowed === undefined) return [];
    return [...text.matchAll(/(?:from|import\() ?"(\.[^"]+)"/gu)]
      .map(([, target = ""]) => join(dirname(path), target))
      .filter((target) => roomOf(target) !== roomOf(path) && !allowed.has(roomOf(target)))
      .filter((target) => target !== "src/version.ts")
      .map((target) => `${path} imports ${target}`);
  });
  expect(wrong).toEqual([]);
});

it("the map is in order: nothing may import what stands below it", () => {
  const order = [...map.keys()];
  const wrong = [...map].flatMap(([folder, imports]) =>
    [...imports].filter((one) => order.indexOf(one) >= order.indexOf(folder)).map((one) => `${folder}: ${one}`),
  );
  expect(wrong).toEqual([]);
});

it("every file and function that a comment names is there", () => {
  const files = new Set(
    ["src", "test", "docs", "scripts", "bench"]
      .flatMap((folder) => filesIn(folder, /./u))
      .map((path) => basename(path)),
  );
  const wrong = sources.flatMap(({ path, text }) =>
    [...text.matchAll(COMMENT)].flatMap(([comment]) => {
      const fileNames = [...comment.matchAll(/[\w-]+\.(?:ts|mjs|md|sh)\b/gu)].map(([name]) => name);
      const names = quoted(comment).flatMap((code) => /^#?([a-z]+(?:[A-Z][a-z]+)+)(?:\(\))?$/u.exec(code)?.[1] ?? []);
      return [...fileNames.filter((name) => !files.has(name)), ...names.filter((name) => !words.has(name))].map(
        (name) => `${path}: ${name}`,
      );
    }),
  );
  expect(wrong).toEqual([]);
});
