/** What repair says of a write whose writer was killed, and whose machine has forgotten it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { exitOf, runCommand, startCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";
import { waitUntil } from "../helpers/wait-until.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-unfinished-"));
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores: [{ url: "a" }, { url: "b" }] }));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const holdfast = (...args: string[]): Promise<CommandResult> => runCommand(["-p", "pool.json", ...args], { cwd: home });

/** Overwrites an object, and is killed in the midst of it; its cache goes. */
async function killedOverwrite(): Promise<void> {
  await writeFile(join(home, "f"), "old");
  await holdfast("put", "f", "x");
  const writer = await startCommand(["-p", "pool.json", "put", "-", "x"], { cwd: home });
  writer.stdin?.on("error", () => undefined);
  writer.stdin?.write(Buffer.alloc(100_000));
  // The intent is durable before the first byte changes.
  await waitUntil(async () => {
    const status = await holdfast("status", "--json");
    return status.json().some((record) => Number(record["unsettled"]) > 0);
  });
  const ended = exitOf(writer);
  writer.kill("SIGKILL");
  await ended;
  await rm(join(home, ".cache"), { recursive: true });
}

describe("repair after the writer was killed and its cache is gone", () => {
  it("names the write once, and says from when on it is settled", async () => {
    await killedOverwrite();
    const { code, stdout } = await holdfast("repair");
    const lines = stdout.split("\n").filter((line) => line.startsWith("unsettled"));
    expect([code, lines]).toEqual([3, [expect.stringContaining("x: a write was begun and not finished")]]);
    const moment = /1 write begun and not finished: .* settles it from (.+) on, or earlier/u.exec(stdout)?.[1] ?? "";
    expect(moment).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d/u);
  });

  it("says the same where only the end of it is printed", async () => {
    await killedOverwrite();
    const { code, stdout } = await holdfast("repair", "--quiet");
    expect([code, stdout.split("\n").filter((line) => line.startsWith("unsettled")).length]).toEqual([3, 1]);
    expect(stdout).toMatch(/from .+ on, or earlier/u);
  });
});
