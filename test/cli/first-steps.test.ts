/** What the command says to wrong turns that a new user takes, found by walking the guides word for word. */
import { execFile } from "node:child_process";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { HoldfastError } from "../../src/contract/errors.ts";
import { errorLines } from "../../src/cli/terminal/printer.ts";
import { commandPath, mirrorHome, runCommand } from "../helpers/command.ts";
import type { CommandResult } from "../helpers/command.ts";

let home: string;

beforeAll(async () => {
  await commandPath();
});
beforeEach(async () => {
  const made = await mirrorHome(["disk", "nas"]);
  home = made.home;
  await writeFile(join(home, "list.json"), JSON.stringify(made.stores));
  await writeFile(join(home, "file"), "content");
});
afterEach(() => rm(home, { recursive: true, force: true }));

function holdfast(...args: string[]): Promise<CommandResult> {
  return runCommand(["-p", "pool.json", ...args], { cwd: home });
}

describe("a mode that was forgotten", () => {
  beforeEach(() => holdfast("put", "file"));
  const forgetful = (...args: string[]): Promise<CommandResult> =>
    runCommand(["-p", "list.json", ...args], { cwd: home });
  const refused = { code: 2, stderr: expect.stringContaining("the pool is a mirror, and is opened as a stripe") };

  it("is refused by exec before the program is started", async () => {
    const result = await forgetful("exec", "--for", "webdav", "--", "sh", "-c", "echo started");
    expect(result).toMatchObject({ ...refused, stdout: "" });
  });

  it("ends serve", async () => {
    expect(await forgetful("serve", "--webdav", "0")).toMatchObject(refused);
  });

  it("is refused by create", async () => {
    expect(await forgetful("create")).toMatchObject({ ...refused, stdout: "" });
  });
});

describe("create", () => {
  it("says that it made the pool", async () => {
    expect((await holdfast("create")).stdout).toBe("the pool is made on 2 of 2 stores\n");
  });

  it("says of a pool that exists that it was there", async () => {
    await holdfast("put", "file");
    expect((await holdfast("create")).stdout).toBe("the pool was there already, on 2 of 2 stores\n");
  });

  it("tells programs whether it made the pool", async () => {
    expect((await holdfast("--json", "create")).json()).toMatchObject([{ made: true }]);
    expect((await holdfast("--json", "create")).json()).toMatchObject([{ made: false }]);
  });
});

describe("repair of a prefix", () => {
  it("calls only what is under it whole", async () => {
    await holdfast("put", "file", "one/file");
    await holdfast("put", "file", "two/file");
    await rm(join(home, "nas/two/file"));
    expect((await holdfast("repair", "one/")).stdout).toBe('0 steps done (0 B), what is under "one/" is whole\n');
  });
});

describe("a store that is drained and gone", () => {
  it("has its hint at the end of the line, where it can be copied", async () => {
    await holdfast("put", "file");
    await holdfast("drain", "disk", "--leave-copies", "1");
    await rename(join(home, "disk"), join(home, "kept"));
    const { stdout } = await holdfast("status");
    expect(stdout.split("\n")[0]).toMatch(/being drained; MISSING: .*repair --refill disk$/u);
  });
});

describe("rm --force", () => {
  it("does not say of what was never there that it was deleted", async () => {
    await holdfast("put", "file");
    expect(await holdfast("rm", "-f", "nope")).toMatchObject({ code: 0, stdout: "nope was not there\n" });
  });
});

describe("a wrong command line", () => {
  const wrong: [string, string[], string][] = [
    ["too many arguments", ["put", "a", "b", "c"], "too many arguments for 'put': it takes 2, and 3 are given; "],
    ["a wrong word for an argument", ["completion", "tcsh"], "argument 'tcsh' for SHELL is invalid: give one of bash"],
    ["help for a command that there is not", ["help", "nope"], "unknown command 'nope'; "],
    ["no command at all", [], "no command is given; "],
  ];
  for (const [title, args, words] of wrong) {
    it(`is told in one sentence: ${title}`, async () => {
      const { code, stderr } = await runCommand(args, { cwd: home });
      expect(code).toBe(2);
      expect(stderr).toContain(`error: ${words}`);
    });

    it(`is told in JSON, too: ${title}`, async () => {
      const result = await runCommand(["--json", ...args], { cwd: home });
      expect(result.json()).toMatchObject([{ type: "error", code: "config", message: expect.stringContaining(words) }]);
    });
  }
});

describe("check-store", () => {
  it("refuses a file, such as a pool's", async () => {
    expect(await runCommand(["check-store", "pool.json"], { cwd: home })).toMatchObject({
      code: 2,
      stdout: "",
      stderr: "error: check-store tries one store, and pool.json is a file: give the URL of a store, or a folder\n",
    });
  });
});

describe("serve with files for TLS", () => {
  beforeEach(async () => {
    for (const name of ["one", "two"]) {
      await promisify(execFile)("openssl", [
        ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x".split(" "),
        "-keyout",
        join(home, `${name}.key`),
        "-out",
        join(home, `${name}.cert`),
      ]);
    }
  });
  const serve = (cert: string, key: string): Promise<CommandResult> =>
    holdfast("serve", "--webdav", "0", "--cert", cert, "--key", key);

  it("says which file holds no certificate", async () => {
    expect(await serve("one.key", "one.key")).toMatchObject({
      code: 2,
      stderr: "error: --cert: one.key holds no certificate in PEM\n",
    });
  });

  it("says which file holds no key", async () => {
    expect(await serve("one.cert", "one.cert")).toMatchObject({
      code: 2,
      stderr: "error: --key: one.cert holds no private key in PEM that can be read without a passphrase\n",
    });
  });

  it("says that certificate and key do not belong together", async () => {
    expect(await serve("one.cert", "two.key")).toMatchObject({
      code: 2,
      stderr: "error: --key: two.key is not the key of the certificate in one.cert\n",
    });
  });
});

describe("a file of credentials that others can read", () => {
  it("is warned of", async () => {
    await writeFile(join(home, "users.json"), JSON.stringify([{ user: "u", password: "a-long-password" }]));
    await chmod(join(home, "users.json"), 0o644);
    // The mode is refused, so that it ends.
    await holdfast("put", "file");
    const { stderr } = await runCommand(["-p", "list.json", "serve", "--webdav", "0", "--credentials", "users.json"], {
      cwd: home,
    });
    expect(stderr).toContain("warning: users.json holds passwords and can be read by others (mode 644); chmod 600 it");
  });
});

describe("exec", () => {
  it("says by which signal a program was ended", async () => {
    const { code, stderr } = await holdfast("exec", "--for", "webdav", "--", "sh", "-c", "kill -9 $$");
    expect({ code, stderr }).toEqual({
      code: 137,
      stderr: expect.stringContaining("warning: sh was ended by SIGKILL (exit code 137)"),
    });
  });
});

describe("an error's line", () => {
  it("names a store whose label is a word of the message", () => {
    const error = new HoldfastError("full", "no space is left on the disk", { store: "disk", object: "a" });
    expect(errorLines(error)).toEqual(["disk: a: no space is left on the disk"]);
  });

  it("names a store that does not answer, not the file that was read first on it", () => {
    const error = new HoldfastError("denied", "wrong password", { store: "nas", object: ".holdfast/store.json" });
    expect(errorLines(error)).toEqual(["nas: wrong password"]);
  });

  it("names neither store nor object twice", () => {
    const message = 'nas: cannot keep "a/b"';
    expect(errorLines(new HoldfastError("invalid", message, { store: "nas", object: "a/b" }))).toEqual([message]);
  });
});

it("a library's warning does not stand between what the command prints", async () => {
  await mkdir(join(home, "preload"));
  // By when it listens for signals, the command runs.
  const warn = 'process.on("newListener", (name) => name === "SIGINT" && process.emitWarning("of a library"));';
  await writeFile(join(home, "preload/warn.cjs"), warn);
  const { stderr } = await runCommand(["-p", "pool.json", "put", "file"], {
    cwd: home,
    env: { NODE_OPTIONS: `--require ${join(home, "preload/warn.cjs")}` },
  });
  expect(stderr).toBe("");
});
