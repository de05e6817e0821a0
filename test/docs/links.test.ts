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

it("every test that the guarantees name is there", () => {
  const table = readFileSync(join(root, "docs/guarantees.md"), "utf8").match(/^\|.*$/gmu) ?? [];
  const heldBy = table.map((line) => line.split(" | ").slice(1).join(" "));
  const named = new Set(heldBy.flatMap((text) => [...text.matchAll(/`([a-z0-9/-]+)`/gu)].map(([, name = ""]) => name)));
  // A parameter.
  named.delete("min");
  expect(named.size).toBeGreaterThan(30);
  expect([...named].filter((name) => !existsSync(join(root, "test", `${name}.test.ts`)))).toEqual([]);
});
