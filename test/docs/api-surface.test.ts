/** The public API is what docs/api-surface.txt says, which is reviewed. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const work = mkdtempSync(join(tmpdir(), "holdfast-api-"));
const file = join(work, "api-surface.txt");

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, "scripts/api-surface.mjs"), file]);
}, 120_000);

afterAll(() => rmSync(work, { recursive: true, force: true }));

it("the package exports what docs/api-surface.txt lists (after a change that is meant: npm run generate)", () => {
  expect(readFileSync(file, "utf8")).toBe(readFileSync(join(root, "docs/api-surface.txt"), "utf8"));
});

it("every type that the public API speaks of can be imported", () => {
  expect(readFileSync(file, "utf8")).not.toContain("## Spoken of above, and exported by no entry");
});
