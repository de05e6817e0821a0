/** The boundaries between the folders of src/: those in .oxlintrc.json, which the linter holds. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";

const root = fileURLToPath(new URL("../", import.meta.url));
/** A tree with the project's rules, and nothing else of it. */
let tree: string;

beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), "holdfast-architecture-"));
  cpSync(join(root, ".oxlintrc.json"), join(tree, ".oxlintrc.json"));
});

afterEach(() => rmSync(tree, { recursive: true, force: true }));

interface Found {
  readonly code?: string;
  readonly filename: string;
  readonly help?: string;
}

/** What the linter says of imports in files, given by the paths that they import. */
async function lint(files: ReadonlyMap<string, readonly string[]>): Promise<readonly Found[]> {
  for (const [file, imports] of files) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), imports.map((path) => `import "${path}";\n`).join(""));
  }
  const stdout = await new Promise<string>((resolve) => {
    const oxlint = join(root, "node_modules/oxlint/bin/oxlint");
    // It exits with 1 where it finds something.
    execFile(process.execPath, [oxlint, "--format", "json", "src"], { cwd: tree }, (_, out) => resolve(out));
  });
  const { diagnostics } = JSON.parse(stdout) as { diagnostics: readonly Found[] };
  // No code: a file that is no module.
  return diagnostics.filter(({ code = "" }) => /^$|no-restricted-imports|no-cycle/u.test(code));
}

it("an import of a store into the ledger fails lint, and says why", async () => {
  const found = await lint(new Map([["src/ledger/ledger.ts", ["../stores/s3/s3.ts"]]]));
  expect(found).toMatchObject([
    { help: "The ledger sees stores only through the contract: the simulation drives it." },
  ]);
});

it.each([
  ["src/contract/store.ts", "../support/parts.ts"],
  ["src/support/parts.ts", "../stores/memory.ts"],
  ["src/config/pool-config.ts", "../stores/open-store.ts"],
  ["src/wrappers/retry.ts", "../pool/pool-store.ts"],
  ["src/machine/live-writers.ts", "../pool/pool-store.ts"],
  ["src/pool/pool-store.ts", "../repair/mend.ts"],
  ["src/pool/pool-store.ts", "node:fs"],
  ["src/repair/mend.ts", "../machine/live-writers.ts"],
  ["src/conformance/lists.ts", "../stores/memory.ts"],
  ["src/stores/base/tree-store.ts", "../memory.ts"],
  ["src/stores/s3/s3.ts", "../../ledger/ledger.ts"],
  ["src/stores/memory.ts", "../config/pool-config.ts"],
  ["src/gateway/s3/copies.ts", "../../pool/pool-store.ts"],
  ["src/gateway/gateways.ts", "../stores/memory.ts"],
  ["src/cli/commands/put.ts", "../../stores/s3/s3.ts"],
  ["src/cli/commands/put.ts", "../../pool/pool-store.ts"],
  ["src/open-pool.ts", "./cli/program.ts"],
])("an import into %s of %s fails lint", async (file, path) => {
  expect(await lint(new Map([[file, [path]]]))).toHaveLength(1);
});

it("imports that wait until they are needed keep the boundaries too, and no import runs in a circle", async () => {
  const names = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" });
  const files = new Map(
    names
      .filter((name) => name.endsWith(".ts"))
      .map((name) => {
        // The linter looks at no `import()`.
        const text = readFileSync(join(root, "src", name), "utf8");
        const paths = [...text.matchAll(/(?:\bfrom |\bimport\()"((?:\.|node:)[^"\s]+)"/gu)].map(
          ([, path = ""]) => path,
        );
        return [join("src", name), paths];
      }),
  );
  expect(files.size).toBeGreaterThan(100);
  expect([...files.values()].flat().length).toBeGreaterThan(1000);
  expect(await lint(files)).toEqual([]);
});

it("a circle of imports that are only of types fails lint", async () => {
  mkdirSync(join(tree, "src"));
  writeFileSync(join(tree, "src/a.ts"), 'import type { B } from "./b.ts";\nexport type A = B | 1;\n');
  writeFileSync(join(tree, "src/b.ts"), 'import type { A } from "./a.ts";\nexport type B = A | 2;\n');
  expect((await lint(new Map())).map(({ filename }) => filename).sort()).toEqual(["src/a.ts", "src/b.ts"]);
});
