import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** What a heading is called in a link. */
function anchor(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");
}

function withoutCode(text: string): string {
  return text.replace(/^```[^]*?^```/gmu, "").replace(/`[^`\n]*`/gu, "");
}

/** The files that a page links to, as paths from the root. */
function linkedFrom(page: string): ReadonlySet<string> {
  const targets = withoutCode(readFileSync(join(root, page), "utf8")).matchAll(/\]\(([^)\s#]+)/gu);
  return new Set([...targets].map(([, target = ""]) => join(dirname(page), target)));
}

const decisions = pages.filter((page) => /^docs\/decisions\/(?!README)/u.test(page));

it.each(pages)("every link in %s leads somewhere", (page) => {
  const broken: string[] = [];
  for (const [, target = ""] of withoutCode(readFileSync(join(root, page), "utf8")).matchAll(/\]\(([^)\s]+)\)/gu)) {
    if (/^[a-z]+:/u.test(target)) continue;
    const [path = "", fragment] = target.split("#");
    const file = path === "" ? join(root, page) : join(root, dirname(page), path);
    if (!existsSync(file)) {
      broken.push(target);
    } else if (fragment !== undefined) {
      const headings = [...readFileSync(file, "utf8").matchAll(/^#+ (.*)$/gmu)].map(([, heading = ""]) =>
        anchor(heading),
      );
      if (!headings.includes(fragment)) broken.push(target);
    }
  }
  expect(broken).toEqual([]);
});

it("the index lists every page but the single decisions", () => {
  const linked = linkedFrom("docs/index.md");
  const meant = pages.filter(
    (page) => page.startsWith("docs/") && page !== "docs/index.md" && !decisions.includes(page),
  );
  expect(meant.filter((page) => !linked.has(page))).toEqual([]);
});

it("the index of decisions lists every decision with its title, date and status", () => {
  const index = readFileSync(join(root, "docs/decisions/README.md"), "utf8");
  const rows = decisions.map((page) => {
    const text = readFileSync(join(root, page), "utf8");
    const [, title, date, status] = /^# (.*)\n\nDate: (.*)\. Status: (.*)\.$/mu.exec(text) ?? [];
    return `| [${title}](${page.replace("docs/decisions/", "")}) | ${date} | ${status} |`;
  });
  expect(rows.filter((row) => !index.includes(row))).toEqual([]);
});

it.each(decisions)("%s has the form of a decision", (page) => {
  const number = /(\d{4})-/u.exec(page)?.[1];
  const text = readFileSync(join(root, page), "utf8");
  expect(text).toMatch(
    new RegExp(
      `^# ${number}\\. [^\\n]+\\n\\nDate: \\d{4}-\\d\\d-\\d\\d\\. Status: accepted[^\\n]*\\.\\n[^]*^## Decision$`,
      "mu",
    ),
  );
});

it("every test that the guarantees name is there", () => {
  const table = readFileSync(join(root, "docs/guarantees.md"), "utf8").match(/^\|.*$/gmu) ?? [];
  const heldBy = table.map((line) => line.split(" | ").slice(1).join(" "));
  const named = new Set(heldBy.flatMap((text) => [...text.matchAll(/`([a-z0-9/-]+)`/gu)].map(([, name = ""]) => name)));
  // A parameter.
  named.delete("min");
  expect(named.size).toBeGreaterThan(30);
  expect([...named].filter((name) => !existsSync(join(root, "test", `${name}.test.ts`)))).toEqual([]);
});
