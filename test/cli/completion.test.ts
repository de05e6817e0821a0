/** What the shells offer: bash asks for it as it does when a person presses the tabulator. */
import { once } from "node:events";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commandPath, runCommand } from "../helpers/command.ts";

const script = fileURLToPath(new URL("../../completions/holdfast.bash", import.meta.url));
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "holdfast-completion-"));
  const stores = ["disk", "my nas"].map((name) => ({ url: `file://${home}/${name}`, description: name }));
  await writeFile(join(home, "pool.json"), JSON.stringify({ mode: "mirror", stores }));
  await mkdir(join(home, "local"));
  await writeFile(join(home, "local-file"), "");
  await writeFile(join(home, "holdfast"), `#!/bin/sh\nexec '${process.execPath}' '${await commandPath()}' "$@"\n`);
  await chmod(join(home, "holdfast"), 0o700);
  for (const name of ["photos/1", "photos/2", "photos/a/3", "plain", "with: a colon"]) {
    await runCommand(["-p", "pool.json", "put", "-", name], { cwd: home, input: name });
  }
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** What bash would offer for the last of the words, given as it takes a line apart. */
async function offered(...words: string[]): Promise<string[]> {
  const bash = `source '${script}'; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _holdfast; printf '%s\\0' "\${COMPREPLY[@]}"`;
  const env = { PATH: `${home}:${process.env["PATH"]}`, HOME: home, HOLDFAST_CACHE: join(home, ".cache") };
  const { stdout } = await promisify(execFile)("bash", ["-c", bash, "bash", ...words], { cwd: home, env });
  return stdout.split("\0").filter((word) => word !== "");
}

const pool = ["holdfast", "-p", "pool.json"];

describe("bash", () => {
  it.each([
    [
      ["holdfast", "pu"],
      ["put", "push", "pull"],
    ],
    [
      ["holdfast", "push", "--links", ""],
      ["report", "follow", "ignore"],
    ],
    [["holdfast", "push", "--links", "=", "f"], ["follow"]],
    [["holdfast", "push", "lo"], ["local"]],
    [["holdfast", "put", "local-"], ["local-file"]],
    [["holdfast", "push", "--jobs", ""], []],
    [["holdfast", "serve", "--cert", "poo"], ["pool.json"]],
    [["holdfast", "-p", "poo"], ["pool.json"]],
    [
      ["holdfast", "completion", ""],
      ["bash", "zsh", "fish"],
    ],
    [
      ["holdfast", "exec", "--for", "r"],
      ["restic", "rclone"],
    ],
    [["holdfast", "repair", "--re"], ["--refill"]],
    [
      [...pool, "repair", "--refill", ""],
      ["disk", "my nas"],
    ],
    [[...pool, "drain", "my\\ "], ["my nas"]],
    [
      [...pool, "get", "p"],
      ["photos/", "plain"],
    ],
    [
      [...pool, "get", "photos/"],
      ["photos/1", "photos/2", "photos/a/"],
    ],
    [[...pool, "rm", "plain", "photos/a"], ["photos/a/"]],
    [[...pool, "get", "plain", "local-"], ["local-file"]],
    [["holdfast", "-p", "multi", ":", "///nowhere.json", "get", ""], []],
    [[...pool, "get", "with", ":", ""], [" a colon"]],
  ])("%j offers %j", async (words, expected) => {
    expect(await offered(...words)).toEqual(expected);
  });
});

describe("the command that completion asks", () => {
  it("says nothing, and does not fail, without a pool", async () => {
    expect(await runCommand(["complete", "stores"], { cwd: home })).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });

  it("is not shown", async () => {
    expect((await runCommand(["--help"], { cwd: home })).stdout).not.toMatch(/^ +complete /mu);
  });

  it("offers no more than a screen or two of names", async () => {
    await mkdir(join(home, "many"));
    for (let number = 0; number < 300; number++) await writeFile(join(home, "many", `n${number}`), "");
    await runCommand(["-p", "pool.json", "push", "many", "many"], { cwd: home });
    const { stdout } = await runCommand(["-p", "pool.json", "complete", "objects", "many/"], { cwd: home });
    expect(stdout.split("\n").length - 1).toBe(200);
  });

  it("does not wait for a store that hangs", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const url = `sftp://me@127.0.0.1:${port}/x`;
    await writeFile(join(home, "hangs.json"), JSON.stringify({ mode: "mirror", stores: [{ url }] }));
    const ended = runCommand(["-p", "hangs.json", "complete", "objects"], { cwd: home });
    // A listing waits ten seconds for such a store; this has ended before a second one could.
    const listed = runCommand(["-p", "hangs.json", "ls"], { cwd: home });
    expect(await Promise.race([ended.then(() => "ended"), listed.then(() => "listed")])).toBe("ended");
    await listed;
    server.close();
  });
});
