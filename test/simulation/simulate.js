/** `npm run simulate -- --schedules N --seed S [--jobs J] [--keep PLACES]`: builds the simulation and runs it. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildSimulations } from "./build.js";

const { values } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 40)) },
    jobs: { type: "string", default: "1" },
    failures: { type: "string", default: "1" },
    keep: { type: "string" },
    brief: { type: "boolean", default: false },
  },
});

const root = fileURLToPath(new URL("../..", import.meta.url));
const runner = buildSimulations(join(root, ".simulation", `run-${process.pid}`), [{ name: "sound", patches: [] }]).get(
  "sound",
);
const jobs = Number(values.jobs);
const share = Math.ceil(Number(values.schedules) / jobs);
const codes = await Promise.all(
  Array.from({ length: jobs }, (_, job) => {
    const options = values.keep === undefined ? [] : ["--keep", values.keep];
    if (values.brief) options.push("--brief");
    const seed = String(Number(values.seed) + job * share);
    const child = spawn(
      process.execPath,
      [
        "--max-semi-space-size=32",
        runner,
        "--schedules",
        String(share),
        "--seed",
        seed,
        "--failures",
        values.failures,
        ...options,
      ],
      { stdio: "inherit" },
    );
    return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
  }),
);
process.exitCode = codes.every((code) => code === 0) ? 0 : 1;
