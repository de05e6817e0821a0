import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { silentLogger } from "../../src/contract/log.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import { parseStoreUrl } from "../../src/contract/store-url.ts";
import { openRcloneStore } from "../../src/stores/rclone/rclone.ts";
import type { RcloneStore } from "../../src/stores/rclone/rclone.ts";
import { client } from "../helpers/clients.ts";
import { describeConformance } from "../helpers/run-conformance.ts";
import { reportStore } from "../helpers/server-report.ts";
import { readText } from "../helpers/store-answers.ts";

const rclone = client("rclone");
const version = rclone.there
  ? execFileSync(rclone.program, ["version"], { encoding: "utf8" }).split("\n", 1)[0]
  : undefined;

describe.runIf(version !== undefined)("rclone", () => {
  reportStore(
    "rclone",
    version === undefined
      ? { running: false, name: "rclone", skipped: "rclone is not installed" }
      : { running: true, version },
  );
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-rclone-"));
  const config = path.join(folder, "rclone.conf");
  const obscure = (text: string): string => execFileSync("rclone", ["obscure", text], { encoding: "utf8" }).trim();
  const data = (name: string): string => {
    const one = path.join(folder, name);
    mkdirSync(one, { recursive: true });
    return one;
  };
  if (version !== undefined) {
    writeFileSync(
      config,
      `[here]\ntype = local\n[folded]\ntype = local\ncase_insensitive = true\n` +
        `[secret]\ntype = crypt\nremote = ${data("crypt")}\npassword = ${obscure("correct horse battery")}\n`,
    );
  }
  const env = { RCLONE_CONFIG: config };
  const open = async (url: string, more: Record<string, string> = {}): Promise<RcloneStore> =>
    openRcloneStore(parseStoreUrl(url), {
      label: url,
      env: { ...process.env, ...env, ...more },
      runtime: systemRuntime,
      logger: silentLogger,
    });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const withStore = async (url: string, work: (store: RcloneStore) => Promise<void>): Promise<void> => {
    const store = await open(url);
    try {
      await work(store);
    } finally {
      await store.close();
    }
  };

  describeConformance("rclone over a local remote", {
    open: () => open(`rclone://here:${data("local/base")}`),
    listCount: 300,
  });
  describeConformance("rclone over a crypt remote", { open: () => open("rclone://secret:base"), listCount: 100 });

  it("objects are plain files under their own names, and nothing else is left", () =>
    withStore(`rclone://here:${data("plain")}`, async (store) => {
      await store.put("a/b c", toBody("bytes"));
      expect(readFileSync(path.join(data("plain"), "a/b c"), "utf8")).toBe("bytes");
      expect(readdirSync(data("plain"))).toEqual(["a"]);
    }));

  it("rclone that dies in mid-put is noticed, and started again for the next operation", () =>
    withStore(`rclone://here:${data("dies")}`, async (store) => {
      await store.put("x", toBody("old"));
      const first = store.pid;
      expect(first).toBeTypeOf("number");
      const put = store.put("x", {
        size: undefined,
        reopenable: false,
        async *open() {
          yield new Uint8Array(300_000);
          process.kill(first ?? 0, "SIGKILL");
          yield new Uint8Array(300_000);
        },
      });
      await expect(put).rejects.toMatchObject({ code: "unavailable", retryable: true, operation: "put", object: "x" });
      expect(await readText(store, "x")).toBe("old");
      expect(store.pid).not.toBe(first);
      await store.put("x", toBody("new"));
      expect(await readText(store, "x")).toBe("new");
    }));

  it("rclone ends with the store", async () => {
    const store = await open(`rclone://here:${data("ends")}`);
    const pid = store.pid ?? 0;
    process.kill(pid, 0);
    await store.close();
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  it("rclone ends when the process that uses it is killed", async () => {
    // As a program of its own it must be JavaScript.
    const built = path.join(folder, "built");
    const compiler = path.resolve("node_modules/typescript/bin/tsc");
    execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json", "--outDir", built]);
    symlinkSync(path.resolve("node_modules"), path.join(folder, "node_modules"));
    writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
    const script = `
      import { silentLogger } from ${JSON.stringify(path.join(built, "contract/log.js"))};
      import { systemRuntime } from ${JSON.stringify(path.join(built, "contract/runtime.js"))};
      import { parseStoreUrl } from ${JSON.stringify(path.join(built, "contract/store-url.js"))};
      import { openRcloneStore } from ${JSON.stringify(path.join(built, "stores/rclone/rclone.js"))};
      const url = parseStoreUrl(${JSON.stringify(`rclone://here:${data("orphan")}`)});
      const own = { label: "here", env: process.env, runtime: systemRuntime, logger: silentLogger };
      const store = await openRcloneStore(url, own);
      console.log(store.pid);
      setInterval(() => undefined, 1000);
    `;
    const user = spawn(process.execPath, ["--input-type=module", "-e", script], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve) => user.stdout.once("data", (chunk) => resolve(String(chunk))));
    const pid = Number(line.trim());
    expect(pid).toBeGreaterThan(1);
    process.kill(pid, 0);
    user.kill("SIGKILL");
    await expect
      .poll(() => {
        try {
          process.kill(pid, 0);
          return "running";
        } catch {
          return "ended";
        }
      })
      .toBe("ended");
  });

  it("no secret stands in the process list, and no other variable reaches rclone", async () => {
    const store = await open(`rclone://here:${data("quiet")}`, {
      OTHER_STORE_SECRET: "sesame-open",
      RCLONE_EXCLUDE: "*",
    });
    try {
      await store.put("x", toBody("seen in spite of RCLONE_EXCLUDE"));
      const found: string[] = [];
      for await (const info of store.list("")) found.push(info.name);
      expect(found).toEqual(["x"]);
      const environment = readFileSync(`/proc/${store.pid}/environ`, "utf8").split("\0");
      expect(environment.some((line) => line.includes("sesame-open"))).toBe(false);
      const pass = environment.find((line) => line.startsWith("RCLONE_RC_PASS="))?.slice("RCLONE_RC_PASS=".length);
      expect(pass).toMatch(/^[0-9a-f]{64}$/u);
      expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain(pass);
    } finally {
      await store.close();
    }
  });

  it("a remote that folds case refuses a second name that differs in case alone", () =>
    withStore(`rclone://folded:${data("folded")}`, async (store) => {
      expect(store.capabilities.caseSensitive).toBe(false);
      await store.put("Dir/name", toBody("1"));
      await expect(store.put("Dir/Name", toBody("2"))).rejects.toMatchObject({ code: "conflict" });
      await expect(store.put("dir/other", toBody("2"))).rejects.toMatchObject({ code: "conflict" });
      await expect(store.get("dir/name")).rejects.toMatchObject({ code: "not-found" });
      await store.delete("dir/name");
      expect(await readText(store, "Dir/name")).toBe("1");
    }));

  it("temporary files of a put that was killed long ago are removed, younger ones are not", () =>
    withStore(`rclone://here:${data("stale")}`, async (store) => {
      const [old, young] = [`.holdfast-${"0".repeat(16)}.tmp`, `.holdfast-${"1".repeat(16)}.tmp`];
      writeFileSync(path.join(data("stale"), old), "x");
      writeFileSync(path.join(data("stale"), young), "x");
      execFileSync("touch", ["-d", "3 days ago", path.join(data("stale"), old)]);
      for await (const info of store.list("")) expect.fail(`the listing shows ${info.name}`);
      await store.put("x", toBody("x"));
      expect(readdirSync(data("stale")).sort()).toEqual([young, "x"]);
    }));

  it("what is wrong with the configuration is said at open", async () => {
    await expect(open("rclone://nosuch:x")).rejects.toMatchObject({ code: "config" });
    await expect(open("rclone://here")).rejects.toMatchObject({ code: "config" });
    await expect(open("rclone://:sftp,host=h,pass=abcdefgh:x")).rejects.toMatchObject({ code: "config" });
    await expect(open(`rclone://here:${folder}`, { PATH: folder })).rejects.toMatchObject({ code: "config" });
  });

  it("a remote that is down opens, and its operations reject with unavailable", async () => {
    const more = {
      RCLONE_CONFIG_DOWN_TYPE: "webdav",
      RCLONE_CONFIG_DOWN_URL: "http://127.0.0.1:9/",
      RCLONE_LOW_LEVEL_RETRIES: "1",
    };
    const store = await open("rclone://down:x", more);
    try {
      await expect(store.stat("x")).rejects.toMatchObject({ code: "unavailable", retryable: true });
      await expect(store.put("x", toBody("x"))).rejects.toMatchObject({ code: "unavailable" });
    } finally {
      await store.close();
    }
  });
});
