// Lets programs that drive the inside of the built library by its paths of before keep working in a checkout. The source
// tree moved to show the architecture; the trials of the protocol that were written before import these files. Each file
// leads to the place where its contents are now. The package leaves them out (`files` in package.json): nobody may rely
// on the inside of an installed library.
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const FORMER = {
  "body.js": "contract/body.js",
  "errors.js": "contract/errors.js",
  "log.js": "contract/log.js",
  "pool-config.js": "config/pool-config.js",
  "replayable.js": "support/replayable.js",
  "runtime.js": "contract/runtime.js",
};

for (const [former, place] of Object.entries(FORMER)) {
  if (!existsSync(join(dist, place))) throw new Error(`dist/${place} is missing, so dist/${former} cannot lead to it`);
  writeFileSync(join(dist, former), `export * from "./${place}";\n`);
}
// A pool was put together in two steps by two classes.
mkdirSync(dirname(join(dist, "modes/pool-store.js")), { recursive: true });
writeFileSync(
  join(dist, "modes/pool-store.js"),
  "export class PoolStore {\n  constructor(options) {\n    this.options = options;\n  }\n}\n",
);
appendFileSync(
  join(dist, "repair/maintained-pool.js"),
  "export class MaintainedPool {\n  constructor({ options }) {\n    return maintainedPool(options).pool;\n  }\n}\n",
);
