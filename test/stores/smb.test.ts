import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";
import { expectBackAfterCrash, expectRefused, onOwnServer } from "../helpers/own-server.ts";
import type { OwnServerOptions } from "../helpers/own-server.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";
import { readText } from "../helpers/store-answers.ts";

const server = await startServer("samba");
const user = userInfo().username;

describe.runIf(server.running)("smb", onServer, () => {
  reportStore("smb", server);
  const port = server.running ? server.port : 0;
  const scratch = mkdtempSync(path.join(tmpdir(), "holdfast-smb-test-"));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));
  const env = { TMPDIR: scratch };
  const open = (base: string): Promise<Store> =>
    openStore(`smb://${user}:test@127.0.0.1:${port}/data/${base}`, { env });
  const folderOf = (base: string): string => path.join(server.running ? server.folder : "", "data", base);

  const base = uniqueName();
  describeConformance("smb on Samba", { open: () => open(`${base}/deep%20er`), listCount: 100 });

  it("objects are plain files; nothing is left on the share or in the local temporary folder", async () => {
    const base = uniqueName();
    const store = await open(base);
    await store.put("a/b; c", toBody("bytes"));
    expect(readFileSync(path.join(folderOf(base), "a/b; c"), "utf8")).toBe("bytes");
    expect(await readText(store, "a/b; c")).toBe("bytes");
    await store.close();
    expect(readdirSync(path.join(folderOf(base), "a"))).toEqual(["b; c"]);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it("a name that differs in case alone is another name, and is never taken for the one that is there", async () => {
    const base = uniqueName();
    const store = await open(base);
    await store.put("Dir/name", toBody("1"));
    await expect(store.put("Dir/Name", toBody("2"))).rejects.toMatchObject({ code: "conflict" });
    await expect(store.put("dir/other", toBody("2"))).rejects.toMatchObject({ code: "conflict" });
    await expect(store.get("dir/name")).rejects.toMatchObject({ code: "not-found" });
    await expect(store.stat("Dir/NAME")).rejects.toMatchObject({ code: "not-found" });
    expect(await store.delete("Dir/NAME")).toEqual({ existed: false });
    for await (const info of store.list("dir/")) expect.fail(`the listing shows ${info.name}`);
    expect(await readText(store, "Dir/name")).toBe("1");
    const puts = await Promise.allSettled(["x", "X"].map((name) => store.put(name, toBody(name))));
    expect(puts.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
    await store.close();
  });

  it("names that stand for others by SMB's rules are refused", async () => {
    const store = await open(uniqueName());
    for (const name of ["a:b", "a*", "a?", 'a"', "a<", "a>", "a|", "a\\b", "a.", "a ", "dir./x", "nul", "COM1.txt"]) {
      await expect(store.put(name, toBody("x"))).rejects.toMatchObject({ code: "invalid" });
    }
    await store.close();
  });

  it("a file that is made on the server under a long name is not found under its short one", async () => {
    const base = uniqueName();
    const store = await open(base);
    await store.put("one", toBody("1"));
    writeFileSync(path.join(folderOf(base), "with:colon"), "x");
    const found: string[] = [];
    for await (const info of store.list("")) found.push(info.name);
    expect(found).toContain("one");
    await store.close();
  });

  it.each([
    ["a wrong password", `smb://${user}:wrong-sesame@127.0.0.1:${port}/data/x`, "denied"],
    ["an unknown share", `smb://${user}:test@127.0.0.1:${port}/nosuch/x`, "config"],
  ])("%s is refused, and no error holds the password", (_, url, code) =>
    expectRefused(url, { ...env, OTHER_PASSWORD: "sesame" }, code, "sesame"),
  );

  const own = (instance: string): OwnServerOptions => ({
    instance,
    url: (at) => `smb://${user}:test@127.0.0.1:${at}/data/x`,
    env,
  });

  it("a server that dies is unavailable, and what it had is there when it is back", () =>
    onOwnServer("samba", own("smb-crash"), expectBackAfterCrash));

  it("a server that hangs is left when the signal fires", () =>
    onOwnServer("samba", own("smb-hang"), async (store, paused) => {
      await paused.control("pause");
      try {
        await expect(store.stat("x", { signal: AbortSignal.timeout(300) })).rejects.toMatchObject({ code: "aborted" });
      } finally {
        await paused.control("resume");
      }
    }));
});
