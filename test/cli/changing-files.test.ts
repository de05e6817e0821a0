/** Files that are written to while they are put: what is stored is what the file was at one moment, or nothing. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, open, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect } from "../../src/contract/body.ts";
import { readSmallFile } from "../../src/cli/files/local-thread.ts";
import { putStanding } from "../../src/cli/files/put-file.ts";
import type { Source } from "../../src/cli/files/put-file.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { bodyFromFile } from "../../src/contract/file-body.ts";
import { exitOf, runCommand } from "../helpers/command.ts";

const BYTES = 16 * 1024 * 1024;

let home: string;
let writer: ChildProcess | undefined;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-changing-"));
  await mkdir(join(home, "dir"));
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores: [{ url: `file://${home}/s` }] }));
});
afterEach(async () => {
  if (writer) {
    const ended = exitOf(writer);
    writer.kill("SIGKILL");
    await ended;
    writer = undefined;
  }
  await rm(home, { recursive: true, force: true });
});

/** Writes into the file again and again, a byte at a time. */
async function keepChanging(path: string): Promise<void> {
  const code = `const fs = require("fs"), fd = fs.openSync(process.argv[1], "r+");
    for (let n = 0; ; n++) { fs.writeSync(fd, "b", n % ${BYTES}); if (n === 0) process.stdout.write("begun"); }`;
  writer = spawn(process.execPath, ["-e", code, path], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => writer?.stdout?.once("data", resolve));
}

describe("a file that does not stand still", () => {
  it("put stores nothing of it, keeps what was there, says why, and exits 3", async () => {
    await writeFile(join(home, "dir/f"), "before");
    expect((await runCommand(["-p", "pool.json", "put", "dir/f", "f"], { cwd: home })).code).toBe(0);
    await writeFile(join(home, "dir/f"), Buffer.alloc(BYTES, "a"));
    await keepChanging(join(home, "dir/f"));
    const result = await runCommand(["-p", "pool.json", "put", "dir/f", "f"], { cwd: home });
    expect([result.code, result.stdout, result.stderr]).toEqual([
      3,
      "",
      expect.stringMatching(/^warning: not stored: f: it was changed each/u),
    ]);
    expect(await readFile(join(home, "s/f"), "utf8")).toBe("before");
  });

  it("put says so with --json", async () => {
    await writeFile(join(home, "dir/f"), Buffer.alloc(BYTES, "a"));
    await keepChanging(join(home, "dir/f"));
    const result = await runCommand(["-p", "pool.json", "put", "dir/f", "f", "--json"], { cwd: home });
    expect([result.code, result.json()]).toEqual([
      3,
      [expect.objectContaining({ type: "warning", code: "changed", file: "dir/f", object: "f" })],
    ]);
  });

  it("put stores nothing of it where it is stdin, says why, and exits 3", async () => {
    await writeFile(join(home, "dir/f"), Buffer.alloc(BYTES, "a"));
    await keepChanging(join(home, "dir/f"));
    const stdin = await open(join(home, "dir/f"));
    try {
      const result = await runCommand(["-p", "pool.json", "put", "-", "f"], { cwd: home, stdin: stdin.fd });
      expect([result.code, result.stderr]).toEqual([
        3,
        expect.stringMatching(/^warning: not stored: f: the file behind/u),
      ]);
    } finally {
      await stdin.close();
    }
    expect((await runCommand(["-p", "pool.json", "ls"], { cwd: home })).stdout).toBe("");
  });

  it("put stores a file behind stdin that stands still, from where it is read on", async () => {
    await writeFile(join(home, "dir/f"), "0123456789");
    const stdin = await open(join(home, "dir/f"));
    try {
      await stdin.read(Buffer.alloc(4), 0, 4, null);
      const result = await runCommand(["-p", "pool.json", "put", "-", "f"], { cwd: home, stdin: stdin.fd });
      expect(result).toMatchObject({ code: 0, stderr: "" });
    } finally {
      await stdin.close();
    }
    expect(await readFile(join(home, "s/f"), "utf8")).toBe("456789");
  });

  it("push leaves it out, keeps what it was before, says so, and exits 3", async () => {
    await writeFile(join(home, "dir/f"), "before");
    await writeFile(join(home, "dir/g"), "still");
    expect((await runCommand(["-p", "pool.json", "push", "dir"], { cwd: home })).code).toBe(0);
    await rm(join(home, "dir/g"));
    await writeFile(join(home, "dir/f"), Buffer.alloc(BYTES, "a"));
    await keepChanging(join(home, "dir/f"));
    const result = await runCommand(["-p", "pool.json", "push", "dir", "--json"], { cwd: home });
    expect(result.code).toBe(3);
    expect(result.json()).toEqual([
      {
        type: "warning",
        code: "changed",
        file: "f",
        message: expect.stringMatching(/^not stored: f: it was changed/u),
      },
      expect.objectContaining({ type: "summary", put: 0, skipped: 1, exitCode: 3 }),
    ]);
    expect(await readFile(join(home, "s/f"), "utf8")).toBe("before");
    const deleting = await runCommand(["-p", "pool.json", "push", "dir", "--delete"], { cwd: home });
    expect([deleting.code, deleting.stderr]).toEqual([1, expect.stringMatching(/nothing was deleted/u)]);
    expect(await readFile(join(home, "s/g"), "utf8")).toBe("still");
  });
});

describe("putStanding", () => {
  const opened = async (path: string): Promise<Source> => {
    const file = await bodyFromFile(path);
    return { body: file, file };
  };

  it("puts the file as it is after a change, and with its times of then", async () => {
    const path = join(home, "dir/f");
    await writeFile(path, "old");
    await utimes(path, 1000, 1000);
    let puts = 0;
    const put = await putStanding(
      () => opened(path),
      async ({ body, file }) => {
        if (puts++ === 0) await writeFile(path, "newer");
        return { content: Buffer.from(await collect(body.open())).toString(), size: file?.stats?.size };
      },
    );
    expect([put, puts]).toEqual([{ content: "newer", size: 5n }, 2]);
  });

  it("passes on an error that has another reason, at once", async () => {
    await writeFile(join(home, "dir/f"), "x");
    let puts = 0;
    const put = putStanding(
      () => opened(join(home, "dir/f")),
      async () => {
        puts++;
        throw new HoldfastError("full", "no room");
      },
    );
    await expect(put).rejects.toMatchObject({ code: "full" });
    expect(puts).toBe(1);
  });
});

describe("readSmallFile", () => {
  it("gives nothing of a file that is not as it was seen", async () => {
    const path = join(home, "dir/f");
    await writeFile(path, "abc");
    await utimes(path, 1000, 1000);
    const was = await stat(path);
    expect(await readSmallFile(path, was)).toEqual(Buffer.from("abc"));
    await writeFile(path, "xyz");
    expect(await readSmallFile(path, was)).toBeUndefined();
  });
});
