/**
 * One large object mirrored to three folders by the command: from stdin and from a file, in bounded memory, the source
 * read once, byte-identical on all three. HOLDFAST_LARGE_MIB sets the size (default 384).
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  createReadStream,
  mkdtempSync,
  openSync,
  closeSync,
  ftruncateSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { commandPath } from "./helpers/command.ts";

const MIB = 1024 * 1024;
const SIZE = Number(process.env["HOLDFAST_LARGE_MIB"] ?? "384") * MIB;
const MAX_RSS_MIB = 200;

let home: string;
let command: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "holdfast-large-"));
  command = await commandPath();
  const stores = ["a", "b", "c"].map((name) => ({ url: `file://${join(home, name)}`, description: name }));
  writeFileSync(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
  // Runs inside the command, and says how much memory it had taken when it ended.
  writeFileSync(
    join(home, "peak.mjs"),
    `import { writeFileSync } from "node:fs";
     process.on("exit", () => writeFileSync(${JSON.stringify(join(home, "peak"))}, String(process.resourceUsage().maxRSS)));`,
  );
});
afterAll(() => {
  rmSync(home, { recursive: true, force: true });
});

/** Block `i` of the source: every block differs. */
const block = Buffer.alloc(MIB, "holdfast ");
function blockAt(i: number): Buffer {
  block.writeUInt32LE(i, 0);
  block.writeUInt32LE(i * 7, MIB - 4);
  return Buffer.from(block);
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: MIB })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Runs the command; resolves with its exit code, its peak memory in MiB and the seconds it took. */
async function run(
  args: readonly string[],
  feed?: (stdin: NodeJS.WritableStream) => Promise<void>,
): Promise<{ code: number | null; peakMib: number; seconds: number }> {
  const started = performance.now();
  const child = spawn(
    process.execPath,
    ["--import", join(home, "peak.mjs"), command, "-p", join(home, "pool.json"), ...args],
    {
      cwd: home,
      env: { PATH: process.env["PATH"] ?? "", HOME: home, HOLDFAST_CACHE: join(home, ".cache") },
      stdio: [feed === undefined ? "ignore" : "pipe", "ignore", "inherit"],
    },
  );
  const ended = once(child, "close");
  if (child.stdin !== null) await feed?.(child.stdin);
  await ended;
  return {
    code: child.exitCode,
    peakMib: Number(readFileSync(join(home, "peak"), "utf8")) / 1024,
    seconds: (performance.now() - started) / 1000,
  };
}

async function expectOnAll(name: string, digest: string): Promise<void> {
  for (const store of ["a", "b", "c"]) expect(await digestOf(join(home, store, name))).toBe(digest);
  for (const store of ["a", "b", "c"]) rmSync(join(home, store, name));
}

it(`mirrors ${SIZE / MIB} MiB from stdin in less than ${MAX_RSS_MIB} MiB`, { timeout: 900_000 }, async () => {
  const hash = createHash("sha256");
  const { code, peakMib, seconds } = await run(["put", "-", "from-stdin"], async (stdin) => {
    for (let i = 0; i < SIZE / MIB; i++) {
      const bytes = blockAt(i);
      hash.update(bytes);
      // A pipe can be read once only: that it was is seen by the three copies being whole.
      if (!stdin.write(bytes)) await once(stdin, "drain");
    }
    stdin.end();
  });
  console.info(`large, from stdin: ${SIZE / MIB} MiB in ${seconds.toFixed(1)} s, peak ${peakMib.toFixed(0)} MiB`);
  expect(code).toBe(0);
  await expectOnAll("from-stdin", hash.digest("hex"));
  expect(peakMib).toBeLessThan(MAX_RSS_MIB);
});

it(`mirrors ${SIZE / MIB} MiB from a file in less than ${MAX_RSS_MIB} MiB`, { timeout: 900_000 }, async () => {
  const path = join(home, "source");
  const file = openSync(path, "w");
  ftruncateSync(file, SIZE);
  for (let i = 0; i < SIZE / MIB; i += 16) writeSync(file, blockAt(i), 0, MIB, i * MIB);
  closeSync(file);
  const { code, peakMib, seconds } = await run(["put", path, "from-file"]);
  console.info(`large, from a file: ${SIZE / MIB} MiB in ${seconds.toFixed(1)} s, peak ${peakMib.toFixed(0)} MiB`);
  expect(code).toBe(0);
  await expectOnAll("from-file", await digestOf(path));
  expect(peakMib).toBeLessThan(MAX_RSS_MIB);
});
