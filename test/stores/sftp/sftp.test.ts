/** SFTP on OpenSSH and on rclone. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect, promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, toBody } from "../../../src/contract/body.ts";
import { HoldfastError } from "../../../src/contract/errors.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import type { Body, Store } from "../../../src/contract/store.ts";
import { expectIdleDropsMended } from "../../helpers/idle-drops.ts";
import { describeConformance } from "../../helpers/run-conformance.ts";
import { reportStore } from "../../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../../helpers/servers.ts";
import type { RunningServer } from "../../helpers/servers.ts";
import { tcpProxy } from "../../helpers/tcp-proxy.ts";
import type { TcpProxy } from "../../helpers/tcp-proxy.ts";
import { waitUntil } from "../../helpers/wait-until.ts";

const run = promisify(execFile);

const openssh = await startServer("sshd");
const rclone = await startServer("rclone-sftp");

/** A home without an agent, a configuration or keys. */
const env = { HOME: "/nonexistent", SSH_AUTH_SOCK: "" };

/** Parameters with which OpenSSH lets us in: its key in a known_hosts file of the test's, and the key it accepts. */
async function opensshQuery(server: RunningServer): Promise<string> {
  const key = (await readFile(path.join(server.folder, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
  const file = path.join(server.folder, `known_hosts-${uniqueName()}`);
  await writeFile(file, `[${server.host}]:${server.port} ${key}\n`);
  return `identity=${path.join(server.folder, "id")}&known-hosts=${file}`;
}

function opensshUrl(server: RunningServer, folder: string, query: string): string {
  return `sftp://${server.host}:${server.port}/${path.join(server.folder, "data", folder)}?${query}`;
}

describe.runIf(openssh.running)("sftp on OpenSSH", onServer, async () => {
  reportStore("sftp", openssh);
  if (!openssh.running) return;
  const query = await opensshQuery(openssh);
  const folder = uniqueName();
  describeConformance("sftp on OpenSSH", { open: () => openStore(opensshUrl(openssh, folder, query), { env }) });
});

describe.runIf(rclone.running)("sftp on rclone", onServer, async () => {
  reportStore("sftp", rclone);
  if (!rclone.running) return;
  const config = path.join(rclone.folder, "ssh_config");
  await writeFile(config, `Host *\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile ${config}-known\n`);
  const url = `sftp://test:test@${rclone.host}:${rclone.port}/${uniqueName()}?ssh-config=${config}`;
  describeConformance("sftp on rclone", { open: () => openStore(url, { env }) });
});

/** Where objects of a store on OpenSSH lie on this machine's disk. */
function disk(server: RunningServer, ...parts: string[]): string {
  return path.join(server.folder, "data", ...parts);
}

async function temporaryFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  return names.filter((name) => path.basename(name).startsWith(".holdfast-"));
}

describe.runIf(openssh.running)("sftp, the host's key and ours", onServer, () => {
  reportStore("sftp", openssh);
  if (!openssh.running) return;
  const server = openssh;
  const open = async (knownHosts: string, more = ""): Promise<Store> => {
    const file = path.join(server.folder, `known-${uniqueName()}`);
    await writeFile(file, knownHosts);
    const identity = path.join(server.folder, "id");
    return openStore(opensshUrl(server, "keys", `identity=${identity}&known-hosts=${file}${more}`), { env });
  };
  const name = `[${server.host}]:${server.port}`;
  const otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDFxF4jB2Kq1mZ7l2rZ6b9xkqg0m0y4yq3xk3q2o0w1a";

  it("an unknown host is denied, with how to add its key", async () => {
    const store = await open("");
    await expect(store.stat("x")).rejects.toMatchObject({
      code: "denied",
      retryable: false,
      message: expect.stringMatching(/SHA256:.*is not known.*ssh-keyscan -p \d+ 127\.0\.0\.1 >> \//u) as string,
    });
    await store.close();
  });

  it("tells a user who has no ~/.ssh yet how to make it, too", async () => {
    const folder = path.join(server.folder, `none-${uniqueName()}`);
    const identity = path.join(server.folder, "id");
    const url = opensshUrl(server, "keys", `identity=${identity}&known-hosts=${folder}/known_hosts`);
    const store = await openStore(url, { env });
    const error: unknown = await store.stat("x").catch((failure: unknown) => failure);
    const [, command = ""] = /add the key with: (.*)$/u.exec((error as Error).message) ?? [];
    await run("sh", ["-c", command]);
    await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
    await store.close();
  });

  it("a changed key is denied, and a revoked one", async () => {
    const changed = await open(`${name} ${otherKey}\n`);
    await expect(changed.stat("x")).rejects.toMatchObject({
      code: "denied",
      message: expect.stringContaining("not the one in known_hosts") as string,
    });
    await changed.close();
    const key = (await readFile(path.join(server.folder, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
    const revoked = await open(`${name} ${key}\n@revoked * ${key}\n`);
    await expect(revoked.stat("x")).rejects.toMatchObject({
      code: "denied",
      message: expect.stringContaining("revoked") as string,
    });
    await revoked.close();
  });

  it("a key that the server does not accept is denied", async () => {
    const home = await mkdtemp(path.join(tmpdir(), "holdfast-home-"));
    const wrong = path.join(home, "wrong");
    await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", wrong]);
    const query = (await opensshQuery(server)).replace(/identity=[^&]*/u, `identity=${wrong}`);
    const store = await openStore(opensshUrl(server, "keys", query), { env });
    await expect(store.stat("x")).rejects.toMatchObject({ code: "denied", retryable: false });
    await store.close();
    await rm(home, { recursive: true });
  });

  it("an agent's key lets us in, and with IdentitiesOnly only that of the identity", async () => {
    const home = await mkdtemp(path.join(tmpdir(), "holdfast-home-"));
    await mkdir(path.join(home, ".ssh"));
    const socket = path.join(home, "agent");
    const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "ignore"] });
    await once(agent.stdout, "data");
    try {
      await run("ssh-add", ["-q", path.join(server.folder, "id")], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
      const query = (await opensshQuery(server)).replace(/identity=[^&]*&/u, "");
      const url = opensshUrl(server, "agent", query);
      const withAgent = { env: { HOME: home, SSH_AUTH_SOCK: socket } };
      const store = await openStore(url, withAgent);
      await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
      await store.close();
      // The public half of a key whose private half is in the agent alone.
      await copyFile(path.join(server.folder, "id.pub"), path.join(home, "mine.pub"));
      const config = path.join(home, ".ssh", "config");
      await writeFile(config, `Host *\n  IdentitiesOnly yes\n  IdentityFile ${home}/mine\n`);
      const chosen = await openStore(url, withAgent);
      await expect(chosen.stat("x")).rejects.toMatchObject({ code: "not-found" });
      await chosen.close();
      await writeFile(config, "Host *\n  IdentitiesOnly yes\n");
      const none = await openStore(url, withAgent);
      await expect(none.stat("x")).rejects.toMatchObject({ code: "denied" });
      await none.close();
    } finally {
      agent.kill();
      await rm(home, { recursive: true });
    }
  });

  it("a path behind one slash is relative to the login's folder", async () => {
    const query = await opensshQuery(server);
    const folder = uniqueName();
    const store = await openStore(`scp://${server.host}:${server.port}/${folder}/a%20b?${query}`, { env });
    await store.put("x", toBody("here"));
    await expect(readFile(disk(server, folder, "a b", "x"), "utf8")).resolves.toBe("here");
    await store.close();
  });
});

describe.runIf(openssh.running)("sftp, faults", onServer, () => {
  reportStore("sftp", openssh);
  if (!openssh.running) return;
  const server = openssh;
  let proxy: TcpProxy;
  let store: Store;
  let folder: string;
  beforeEach(async () => {
    proxy = await tcpProxy(server.host, server.port);
    folder = uniqueName();
    const config = path.join(server.folder, `config-${folder}`);
    const key = (await readFile(path.join(server.folder, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
    await writeFile(`${config}-known`, `the-test ${key}\n`);
    await writeFile(
      config,
      `Host box\n  HostName ${server.host}\n  Port ${proxy.port}\n  HostKeyAlias the-test\n` +
        `  UserKnownHostsFile ${config}-known\n  IdentityFile ${path.join(server.folder, "id")}\n`,
    );
    store = await openStore(`sftp://box/${disk(server, folder)}?ssh-config=${config}`, { env });
  });
  afterEach(async () => {
    await store.close();
    await proxy.close();
  });

  it("a connection that the server dropped while idle is replaced", () => expectIdleDropsMended(store, proxy));

  it("a silent server ends a call at the caller's deadline, and works again when it is back", async () => {
    await store.put("x", toBody("one"));
    proxy.freeze();
    for (const call of [
      (signal: AbortSignal) => store.stat("x", { signal }),
      (signal: AbortSignal) => store.put("y", toBody("two"), { signal }),
      async (signal: AbortSignal) => collect((await store.get("x", { signal })).body),
    ]) {
      const deadline = new AbortController();
      const timer = setTimeout(() => deadline.abort(new HoldfastError("timeout", "too late")), 100);
      const started = performance.now();
      await expect(call(deadline.signal)).rejects.toMatchObject({ code: "timeout", retryable: true });
      clearTimeout(timer);
      // A put may take three seconds more to remove its temporary file.
      expect(performance.now() - started).toBeLessThan(10_000);
    }
    proxy.thaw();
    await expect(store.stat("x")).resolves.toMatchObject({ size: 3 });
    await store.put("z", toBody("three"));
    expect(await temporaryFiles(disk(server, folder))).toEqual([]);
  });

  it("a store that is closed while the server keeps silent at the login does not wait for it", async () => {
    proxy.freeze();
    const refused = store.stat("x").catch((error: unknown) => error);
    // The connection is there, and the server's greeting never comes.
    await waitUntil(() => proxy.accepted > 0);
    await store.close();
    expect(await refused).toMatchObject({ code: "invalid" });
  });

  it("a put that is cut at any byte changes nothing, and its temporary file goes with the next put", async () => {
    await store.put("x", toBody("old"));
    const body = (): Body => toBody(new Uint8Array(600_000).fill(7));
    for (const bytes of [40_000, 300_000, 599_000]) {
      proxy.cutAfter(bytes);
      await expect(store.put("x", body())).rejects.toMatchObject({ code: "unavailable", retryable: true });
      proxy.cutAfter(undefined);
      expect(Buffer.from(await collect((await store.get("x")).body)).toString()).toBe("old");
    }
    await store.put("x", body());
    await expect(store.stat("x")).resolves.toMatchObject({ size: 600_000 });
    expect(await temporaryFiles(disk(server, folder))).toEqual([]);
  });

  it("a read that is cut rejects, and never simply ends", async () => {
    await store.put("x", toBody(new Uint8Array(8_000_000)));
    const read = await store.get("x");
    let bytes = 0;
    await expect(
      (async () => {
        for await (const chunk of read.body) {
          bytes += chunk.length;
          proxy.drop();
        }
      })(),
    ).rejects.toMatchObject({ code: "unavailable", operation: "get", object: "x" });
    expect(bytes).toBeLessThan(8_000_000);
  });

  it("an aborted put leaves no temporary file", async () => {
    const stop = new AbortController();
    const body: Body = {
      size: undefined,
      reopenable: false,
      async *open() {
        yield new Uint8Array(200_000);
        stop.abort();
        yield new Uint8Array(200_000);
      },
    };
    await expect(store.put("deep/er/x", body, { signal: stop.signal })).rejects.toMatchObject({ code: "aborted" });
    expect(await readdir(disk(server, folder))).toEqual([]);
  });

  it("links below the root lead nowhere", async () => {
    await store.put("real/x", toBody("inside"));
    await writeFile(disk(server, `${folder}-secret`), "outside");
    await mkdir(disk(server, `${folder}-out`));
    await symlink(disk(server, `${folder}-secret`), disk(server, folder, "file"));
    await symlink(disk(server, `${folder}-out`), disk(server, folder, "way"));
    await writeFile(disk(server, `${folder}-out`, "y"), "outside");
    for (const name of ["file", "way/y"]) {
      await expect(store.get(name)).rejects.toMatchObject({ code: "not-found" });
      await expect(store.delete(name)).resolves.toEqual({ existed: false });
    }
    await expect(store.put("way/z", toBody("x"))).rejects.toMatchObject({ code: "conflict" });
    const names = [];
    for await (const { name } of store.list("")) names.push(name);
    expect(names).toEqual(["real/x"]);
    expect(await readdir(disk(server, `${folder}-out`))).toEqual(["y"]);
  });

  it("a stale temporary file is noticed by a listing and removed by the next put; a young one stays", async () => {
    await store.put("a/x", toBody("x"));
    const stale = disk(server, folder, "a", ".holdfast-0123456789abcdef.tmp");
    const young = disk(server, folder, "a", ".holdfast-fedcba9876543210.tmp");
    await writeFile(stale, "left by a crash");
    await writeFile(young, "being written");
    const longAgo = new Date(Date.now() - 48 * 3600 * 1000);
    await utimes(stale, longAgo, longAgo);
    const names = [];
    for await (const { name } of store.list("")) names.push(name);
    expect(names).toEqual(["a/x"]);
    await store.put("b", toBody("b"));
    expect(await temporaryFiles(disk(server, folder))).toEqual([path.join("a", path.basename(young))]);
    await expect(store.get("a/.holdfast-fedcba9876543210.tmp")).rejects.toMatchObject({ code: "invalid" });
  });
});

describe.runIf(rclone.running)("sftp, passwords", onServer, () => {
  reportStore("sftp", rclone);
  if (!rclone.running) return;
  const config = path.join(rclone.folder, "ssh_config");
  const url = (login: string): string => `sftp://${login}@${rclone.host}:${rclone.port}/p?ssh-config=${config}`;

  it.each(["FTP_PASSWORD", "SSHPASS"])("%s is the password where the URL has none", async (name) => {
    const store = await openStore(url("test"), { env: { ...env, [name]: "test" } });
    await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
    await store.close();
  });

  it("a wrong password is denied, and shown nowhere", async () => {
    const store = await openStore(url("test:wrong-secret"), { env });
    const error: unknown = await store.stat("x").catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "denied", retryable: false });
    expect(inspect(error, { depth: 10 })).not.toContain("wrong-secret");
    await store.close();
  });
});
