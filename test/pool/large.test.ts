/**
 * One large object mirrored to three folders by the command: from stdin and from a file, in bounded memory, the source
 * read once, byte-identical on all three. HOLDFAST_LARGE_MIB sets the size (default 384).
 */
import { createHash } from "node:crypto";
import {
  createReadStream,
  mkdtempSync,
  openSync,
  closeSync,
  ftruncateSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { commandPath } from "../helpers/command.ts";
import { runMeasured } from "../helpers/peak-memory.ts";
import type { MeasuredRun } from "../helpers/peak-memory.ts";

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

const run = (args: readonly string[], input?: Iterable<Uint8Array>): Promise<MeasuredRun> =>
  runMeasured(command, ["-p", join(home, "pool.json"), ...args], { home, ...(input === undefined ? {} : { input }) });

async function expectOnAll(name: string, digest: string): Promise<void> {
  for (const store of ["a", "b", "c"]) expect(await digestOf(join(home, store, name))).toBe(digest);
  for (const store of ["a", "b", "c"]) rmSync(join(home, store, name));
}

it(`mirrors ${SIZE / MIB} MiB from stdin in less than ${MAX_RSS_MIB} MiB`, { timeout: 900_000 }, async () => {
  const hash = createHash("sha256");
  function* source(): Generator<Uint8Array> {
    for (let i = 0; i < SIZE / MIB; i++) {
      const bytes = blockAt(i);
      hash.update(bytes);
      // A pipe can be read once only: that it was is seen by the three copies being whole.
      yield bytes;
    }
  }
  const { code, peakMib, seconds } = await run(["put", "-", "from-stdin"], source());
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
