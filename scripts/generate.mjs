// Writes what is made from definitions in the code: the pool file's schema, the man page, shell completion, and the
// reference parts of the docs. Needs a build. A test fails when what it writes is not what is there.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { generatedFiles } from "../dist/cli/generated-files.js";

const root = new URL("../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");
for (const [path, text] of generatedFiles(read)) {
  const url = new URL(path, root);
  mkdirSync(new URL("./", url), { recursive: true });
  writeFileSync(url, text);
}
