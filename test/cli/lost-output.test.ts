/** What a command prints is written whole, or the command says that it was not. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { commandPath, runCommand } from "../helpers/command.ts";

/** A file is cut off behind so many KiB, as by a disk that becomes full there: the system writes what still fits. */
const ROOM_KIB = 64;

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-lost-"));
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores: [{ url: `file://${home}/s` }] }));
});
afterEach(() => rm(home, { recursive: true, force: true }));

/** Runs the command by a shell, with `redirect` behind it and the size of files limited as `limit` says. */
async function redirected(
  args: string,
  redirect: string,
  limit = "true",
): Promise<{ code: number | null; stderr: string }> {
  const command = `${limit}; "${process.execPath}" "${await commandPath()}" -p pool.json ${args} ${redirect}`;
  const child = spawn("bash", ["-c", command], {
    cwd: home,
    env: { PATH: process.env["PATH"] ?? "", HOME: home, HOLDFAST_NO_COMPILED_CODE: "1", HOLDFAST_CACHE: `${home}/c` },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdout.resume();
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, stderr };
}

const limited = (args: string, redirect: string): ReturnType<typeof redirected> =>
  redirected(args, redirect, `ulimit -f ${ROOM_KIB}`);

async function given(bytes: number, name = "o"): Promise<void> {
  await writeFile(join(home, "file"), Buffer.alloc(bytes, "x"));
  expect((await runCommand(["-p", "pool.json", "put", "file", name], { cwd: home })).code).toBe(0);
}

describe("an output that is a file", () => {
  it("get - says that the disk is full, and exits 1, where an object of one chunk is cut off", async () => {
    await given(300_000);
    const { code, stderr } = await limited("get o -", "> out");
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("the output could not be written: the file is too large"),
    ]);
  });

  it("get - says so where one of many chunks is cut off", async () => {
    await given(5_000_000);
    const { code, stderr } = await limited("get o -", "> out");
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("the output could not be written: the file is too large"),
    ]);
  });

  it("get - writes an object whole where there is room, behind what the file had", async () => {
    await given(50_000);
    await writeFile(join(home, "out"), "before");
    expect(await limited("get o -", ">> out")).toEqual({ code: 0, stderr: "" });
    expect(await readFile(join(home, "out"), "utf8")).toBe(`before${"x".repeat(50_000)}`);
  });

  it.each([
    "ls",
    "ls --json",
    "stat o",
    "status",
    "verify",
    "stores",
    "--help",
    "--version",
    "completion bash",
    "rm o",
  ])("%s says so, too", async (args) => {
    await given(1);
    const { code, stderr } = await redirected(args, "> /dev/full");
    expect([code, stderr]).toEqual([1, expect.stringContaining("could not be written: no space is left")]);
  });

  it("with --json it is said on stderr as JSON", async () => {
    await given(1);
    const { stderr } = await redirected("status --json", "> /dev/full");
    expect(JSON.parse(stderr)).toMatchObject({ type: "error", code: "full" });
  });

  it("exits 1 where what stderr was to say is lost", async () => {
    await given(1);
    expect((await redirected("get nothing -", "2> /dev/full")).code).toBe(1);
  });

  it("a reader that goes away is no failure of the output", async () => {
    await given(5_000_000);
    expect(await redirected("get o -", "| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}")).toEqual({
      code: 141,
      stderr: "",
    });
  });

  it("writes nothing anywhere, and exits 0, with /dev/null", async () => {
    await given(5_000_000);
    expect(await redirected("get o -", "> /dev/null")).toEqual({ code: 0, stderr: "" });
  });
});
