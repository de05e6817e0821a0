import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";
import { expectBackAfterCrash, expectRefused, onOwnServer } from "../helpers/own-server.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";
import { waitUntil } from "../helpers/wait-until.ts";

const daemon = await startServer("rsyncd");
const sshd = await startServer("sshd");

const scratch = mkdtempSync(path.join(tmpdir(), "holdfast-rsync-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe.runIf(daemon.running)("rsync with a daemon", onServer, () => {
  reportStore("rsync", daemon);
  const port = daemon.running ? daemon.port : 0;
  const env = { RSYNC_PASSWORD: "test", TMPDIR: scratch };
  const open = (base: string, more: Record<string, string> = {}): Promise<Store> =>
    openStore(`rsync://test@127.0.0.1:${port}::data/${base}`, { env: { ...env, ...more } });
  const folderOf = (base: string): string => path.join(daemon.running ? daemon.folder : "", "data", base);

  const base = uniqueName();
  describeConformance("rsync, a daemon", { open: () => open(`${base}/deep/er`), listCount: 20 });

  it("objects are plain files under their own names; nothing is left in the local temporary folder", async () => {
    const base = uniqueName();
    const store = await open(base);
    await store.put("a/-b*[c]", toBody("bytes"));
    expect(readFileSync(path.join(folderOf(base), "a/-b*[c]"), "utf8")).toBe("bytes");
    await collect((await store.get("a/-b*[c]")).body);
    const abort = new AbortController();
    const body = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from("x");
      abort.abort();
    };
    await expect(store.put("x", toBody(body()), { signal: abort.signal })).rejects.toMatchObject({ code: "aborted" });
    await store.close();
    expect(readdirSync(scratch)).toEqual([]);
  });

  it("a delete removes the one name, whatever its characters mean to a filter", async () => {
    const base = uniqueName();
    const store = await open(base);
    const names = ["d/*", "d/a", "d/?", "d/[a]", "d/\\*", "d/**/x", "d/b\\", "d/b", "- d", "+ d", "#", ";", "!"];
    for (const name of names) await store.put(name, toBody(name));
    for (const name of ["d/*", "d/?", "d/[a]", "d/**/x", "d/b\\", "!", "- d"]) {
      expect(await store.delete(name)).toEqual({ existed: true });
      names.splice(names.indexOf(name), 1);
      const left: string[] = [];
      for await (const info of store.list("")) left.push(info.name);
      expect(left.sort()).toEqual(names.toSorted());
    }
    await store.close();
  });

  it("an operation that is aborted while it waits for its turn takes nobody else's", async () => {
    const store = await open(uniqueName());
    for (const name of ["a", "b"]) await store.put(name, toBody(name));
    // A listing that is under way holds one of the eight places.
    const listings = Array.from({ length: 8 }, () => store.list("")[Symbol.asyncIterator]());
    for (const listing of listings) expect((await listing.next()).done).toBe(false);
    const waiting = store.stat("a");
    const abort = new AbortController();
    const aborted = store.stat("b", { signal: abort.signal }).catch((error: unknown) => error);
    // Both have come to the queue.
    await waitUntil(() => readdirSync(scratch).length >= 10);
    abort.abort();
    expect(await aborted).toMatchObject({ code: "aborted" });
    await listings.pop()?.return?.();
    expect(await waiting).toMatchObject({ name: "a" });
    for (const listing of listings) await listing.return?.();
    await store.close();
  });

  it.each([
    ["a wrong password in the URL", `rsync://test:wrong-sesame@127.0.0.1:${port}::data/x`, {}, "denied"],
    ["a wrong password", `rsync://test@127.0.0.1:${port}::data/x`, { RSYNC_PASSWORD: "wrong-sesame" }, "denied"],
    ["an unknown module", `rsync://test@127.0.0.1:${port}::nosuch/x`, {}, "config"],
  ])("%s is refused, and no error holds the password", (_, url, more, code) =>
    expectRefused(url, { ...env, ...more }, code, "sesame"),
  );

  it("a daemon that dies is unavailable, and what it had is there when it is back", () =>
    onOwnServer(
      "rsyncd",
      { instance: "rsync-crash", url: (at) => `rsync://test@127.0.0.1:${at}::data/x`, env },
      expectBackAfterCrash,
    ));
});

describe.runIf(sshd.running)("rsync over SSH", onServer, () => {
  reportStore("rsync", sshd);
  const port = sshd.running ? sshd.port : 0;
  const folder = sshd.running ? sshd.folder : "";
  const knownHosts = path.join(scratch, "..", `${path.basename(scratch)}-known-hosts`);
  if (sshd.running) {
    writeFileSync(knownHosts, `[127.0.0.1]:${port} ${readFileSync(path.join(folder, "hostkey.pub"), "utf8")}`);
  }
  afterAll(() => rmSync(knownHosts, { force: true }));
  const shell = (file: string): string =>
    `ssh -o BatchMode=yes -i ${path.join(folder, "id")} -o UserKnownHostsFile=${file} -o GlobalKnownHostsFile=/dev/null`;
  // One login for all, as users who run rsync often have it; it ends by itself.
  const shared = `-o ControlMaster=auto -o ControlPath=${path.join(tmpdir(), "hf-%C")} -o ControlPersist=5`;
  const env = { RSYNC_RSH: `${shell(knownHosts)} ${shared}`, TMPDIR: scratch };
  const url = (base: string): string =>
    `rsync://${userInfo().username}@127.0.0.1:${port}/${path.join(folder, "data", base)}`;

  const base = uniqueName();
  // The whole suite took more than four minutes even with a shared login. What it tries beyond this is the same rsync as
  // behind the daemon; over SSH the connection alone is another.
  describeConformance("rsync over SSH (quick)", {
    open: () => openStore(url(`${base}/sp ace/er`), { env }),
    quick: true,
  });

  it("a host whose key is not known is denied", async () => {
    const store = await openStore(url(base), { env: { ...env, RSYNC_RSH: shell("/dev/null") } });
    await expect(store.stat("x")).rejects.toMatchObject({ code: "denied", retryable: false });
    await store.close();
  });
});
