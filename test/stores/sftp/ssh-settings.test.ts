import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { resolveSsh } from "../../../src/stores/sftp/ssh-settings.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), "holdfast-ssh-"));
  await mkdir(path.join(home, ".ssh"));
});
afterEach(() => rm(home, { recursive: true }));

const write = (name: string, text: string): Promise<void> => writeFile(path.join(home, ".ssh", name), text);
const env = (): Record<string, string> => ({ HOME: home, USER: "me", SSH_AUTH_SOCK: "/run/agent" });

it("without a configuration, OpenSSH's defaults hold", async () => {
  await expect(resolveSsh({ host: "h", env: env() })).resolves.toMatchObject({
    host: "h",
    port: 22,
    user: "me",
    agent: "/run/agent",
    acceptNew: false,
    identitiesOnly: false,
    identities: [],
    hasHostKeyAlias: false,
  });
});

it("an alias becomes its host, port, user and keys; the first value wins", async () => {
  await write("work", "Host box\n  Port 2022\n  User first\n");
  await write(
    "config",
    "Include wor*\nHost box\n  HostName %h.example.org\n  User second\n  IdentityFile ~/.ssh/%r_key\n  IdentityFile %d/b\n" +
      "Host *\n  IdentitiesOnly yes\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile ~/.ssh/kh\n  GlobalKnownHostsFile none\n",
  );
  await expect(resolveSsh({ host: "box", env: env() })).resolves.toMatchObject({
    host: "box.example.org",
    port: 2022,
    user: "first",
    identities: [path.join(home, ".ssh", "first_key"), path.join(home, "b")],
    identitiesOnly: true,
    acceptNew: true,
    knownHostsFiles: [path.join(home, ".ssh", "kh")],
  });
});

it("the URL goes before the configuration", async () => {
  await write("config", "Host *\n  Port 1\n  User x\n");
  await expect(resolveSsh({ host: "h", port: 2, user: "y", env: env() })).resolves.toMatchObject({
    port: 2,
    user: "y",
  });
});

it("a chain of jump hosts is resolved, each with its own settings", async () => {
  await write("config", "Host inner\n  ProxyJump a@outer:2200,b@middle\nHost middle\n  Port 2300\n");
  await expect(resolveSsh({ host: "inner", password: "p", env: env() })).resolves.toMatchObject({
    host: "inner",
    password: "p",
    jump: {
      host: "middle",
      user: "b",
      port: 2300,
      password: undefined,
      jump: { host: "outer", user: "a", port: 2200, jump: undefined },
    },
  });
});

it("a ProxyCommand, a jump that never ends, a missing file and a bad port are errors", async () => {
  await write("config", "Host a\n  ProxyCommand nc %h %p\nHost b\n  ProxyJump b\nHost c\n  Port many\n");
  for (const host of ["a", "b", "c"]) {
    await expect(resolveSsh({ host, env: env() })).rejects.toMatchObject({ code: "config" });
  }
  await expect(resolveSsh({ host: "h", configFile: "/nonexistent", env: env() })).rejects.toMatchObject({
    code: "config",
  });
});

it("nothing that the configuration names is run", async () => {
  await write("config", `Match exec "touch ${home}/ran"\n  User evil\n`);
  await expect(resolveSsh({ host: "h", env: env() })).resolves.toMatchObject({ user: "me" });
});
