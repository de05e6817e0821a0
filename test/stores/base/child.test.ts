import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runChild, startChild } from "../../../src/stores/base/child.ts";

const env = { PATH: process.env["PATH"] ?? "" };

describe("a child process", () => {
  it("is ended with its group, though the program itself ended before", async () => {
    const abort = new AbortController();
    const child = startChild("sh", ["-c", "sleep 600 & echo $!"], { env, signal: abort.signal });
    let pid = 0;
    child.stdout.on("data", (text: Buffer) => (pid = Number(text.toString())));
    await expect.poll(() => child.running).toBe(false);
    expect(pid).toBeGreaterThan(1);
    abort.abort();
    expect(await child.ended).toEqual({ code: 0, signal: null });
    await expect.poll(() => isAlive(pid)).toBe(false);
  });

  it("ends for its caller, though something that left its group keeps the output open", async () => {
    const abort = new AbortController();
    const child = startChild("setsid", ["-f", "sh", "-c", "echo $$; exec sleep 600"], { env, signal: abort.signal });
    const pid = Number(await new Promise<Buffer>((resolve) => child.stdout.once("data", resolve)));
    try {
      await expect.poll(() => child.running).toBe(false);
      abort.abort();
      expect(await child.ended).toEqual({ code: 0, signal: null });
    } finally {
      process.kill(pid, "SIGKILL");
    }
  });

  it("whose signal fires rejects with it", async () => {
    const abort = new AbortController();
    const run = runChild("sleep", ["600"], { env, signal: abort.signal });
    abort.abort();
    await expect(run).rejects.toMatchObject({ code: "aborted" });
  });
});

/** Whether there is such a process, other than one that has ended and is still to be collected. */
function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /u.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
