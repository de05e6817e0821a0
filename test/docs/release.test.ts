/** scripts/release.mjs, in a repository of its own whose checks are short. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const script = fileURLToPath(new URL("../../scripts/release.mjs", import.meta.url));
const CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Fixed\n\n- A fault.\n\n## 0.9.0 - 2026-01-01\n\n- The first.\n";
let repository: string;

function git(...args: readonly string[]): string {
  return execFileSync("git", args, { cwd: repository, encoding: "utf8" }).trim();
}

const read = (path: string): string => readFileSync(join(repository, path), "utf8");
const write = (path: string, text: string, mode = 0o644): void => writeFileSync(join(repository, path), text, { mode });

function release(...args: readonly string[]): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    cwd: repository,
    encoding: "utf8",
  });
  return { code: status, said: stdout + stderr };
}

beforeEach(() => {
  repository = mkdtempSync(join(tmpdir(), "holdfast-release-"));
  git("init", "--quiet", "--initial-branch=main");
  git("config", "user.name", "A maintainer");
  git("config", "user.email", "maintainer@example.org");
  git("config", "commit.gpgsign", "false");
  git("config", "tag.gpgsign", "false");
  mkdirSync(join(repository, "src"));
  mkdirSync(join(repository, ".ci"));
  write("package.json", JSON.stringify({ name: "x", version: "0.9.0", scripts: { generate: "echo made > made.txt" } }));
  write("package-lock.json", JSON.stringify({ name: "x", version: "0.9.0", packages: { "": { version: "0.9.0" } } }));
  write("src/version.ts", 'export const VERSION: string = "0.9.0";\n');
  write("made.txt", "");
  write("CHANGELOG.md", CHANGELOG);
  write(".ci/run", "#!/bin/sh\nexit 0\n", 0o755);
  git("add", "--all");
  git("commit", "--quiet", "--message", "First");
});

afterEach(() => rmSync(repository, { recursive: true, force: true }));

describe("a release", () => {
  beforeEach(() => {
    const { code, said } = release("0.10.0", "--date", "2026-12-01");
    if (code !== 0) throw new Error(said);
  });

  it("sets the version in every file that says it", () => {
    const lock = JSON.parse(read("package-lock.json")) as unknown;
    expect([JSON.parse(read("package.json")), lock, read("src/version.ts")]).toMatchObject([
      { version: "0.10.0" },
      { version: "0.10.0", packages: { "": { version: "0.10.0" } } },
      'export const VERSION: string = "0.10.0";\n',
    ]);
  });

  it("makes of Unreleased a part with version and date, and begins a new one", () => {
    expect(read("CHANGELOG.md")).toContain(
      "## Unreleased\n\n## 0.10.0 - 2026-12-01\n\n### Fixed\n\n- A fault.\n\n## 0.9.0",
    );
  });

  it("is one commit, with what is generated", () => {
    expect([git("log", "--format=%s"), git("status", "--porcelain"), read("made.txt")]).toEqual([
      "Release 0.10.0\nFirst",
      "",
      "made\n",
    ]);
  });

  it("is tagged with what changed", () => {
    expect(git("tag", "--list", "-n9", "v0.10.0")).toMatch(/Holdfast 0\.10\.0\s+### Fixed\s+- A fault\./u);
  });
});

it("a dry run tells what would be done and changes nothing", () => {
  const { code, said } = release("0.10.0", "--dry-run");
  expect([code, git("status", "--porcelain"), git("tag"), git("log", "--format=%s")]).toEqual([0, "", "", "First"]);
  expect(said).toMatch(/from 0\.9\.0 to 0\.10\.0 in:\n {2}package\.json[^]*- A fault\./u);
});

it.each([
  ["a tree that is not clean", () => write("new.txt", ""), "0.10.0", /not clean:\n\?\? new\.txt/u],
  ["a version that does not come after the last", () => undefined, "0.8.9", /0\.8\.9 does not come after 0\.9\.0/u],
  ["a candidate of the version that is out", () => undefined, "0.9.0-rc.1", /does not come after/u],
  ["what is no version", () => undefined, "v1", /v1 is no version/u],
  ["a tag that exists", () => git("tag", "v0.10.0"), "0.10.0", /the tag v0\.10\.0 exists/u],
])("%s is refused", (_, arrange, version, message) => {
  arrange();
  const { code, said } = release(version, "--dry-run");
  expect([code, said]).toEqual([1, expect.stringMatching(message)]);
});

it("an empty Unreleased is refused", () => {
  write("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n## 0.9.0 - 2026-01-01\n\n- The first.\n");
  git("commit", "--all", "--quiet", "--message", "Second");
  expect(release("0.10.0")).toEqual({
    code: 1,
    said: expect.stringContaining("nothing stands under Unreleased") as unknown,
  });
});

it("nothing is changed where CI fails", () => {
  write(".ci/run", "#!/bin/sh\nexit 1\n", 0o755);
  git("commit", "--all", "--quiet", "--message", "Second");
  const { code } = release("0.10.0");
  expect([code, git("status", "--porcelain"), git("tag")]).toEqual([1, "", ""]);
});

it("the changelog of the project has the form that a release needs", () => {
  const changelog = readFileSync(join(script, "../../CHANGELOG.md"), "utf8");
  const parts = [...changelog.matchAll(/^## (.*)$/gmu)].map(([, part = ""]) => part);
  expect(
    parts.filter((part, place) => !(place === 0 ? /^Unreleased$/u : /^\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d$/u).test(part)),
  ).toEqual([]);
});
