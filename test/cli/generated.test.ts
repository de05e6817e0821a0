import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { generatedFiles } from "../../src/cli/generated-files.ts";
import { VERSION } from "../../src/version.ts";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

it.each([...generatedFiles(read)])("%s is what the definitions make (npm run generate)", (path, content) => {
  expect(read(path)).toBe(content);
});

it("the version is the package's", () => {
  expect((JSON.parse(read("package.json")) as { version: string }).version).toBe(VERSION);
});
