/**
 * `npm run explore -- [--set NAME] [--scenario NAME]… [--preemptions N] [--seconds N] [--kinds A,B] [--first] [--replay CHOICES]`:
 * builds the exploration as the simulation is built, and runs it. All options are main.ts's.
 */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSimulations, NODE_OPTIONS } from "../build.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const folder = join(root, ".simulation", `explore-${process.pid}`);
const runner = buildSimulations(folder, [{ name: "sound", patches: [] }], "explore/main").get("sound") ?? "";
const child = spawn(process.execPath, [...NODE_OPTIONS, runner, ...process.argv.slice(2)], { stdio: "inherit" });
process.exitCode = await new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
rmSync(folder, { recursive: true, force: true });
