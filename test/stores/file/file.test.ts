import { existsSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { collect, toBody } from "../../../src/contract/body.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import { fileKind } from "../../../src/stores/file/file-kind.ts";
import { FileStore } from "../../../src/stores/file/file-store.ts";
import type { LogFields } from "../../../src/contract/log.ts";
import { silentLogger } from "../../../src/contract/log.ts";
import { systemRuntime } from "../../../src/contract/runtime.ts";
import { parseStoreUrl } from "../../../src/contract/store-url.ts";
import { describeConformance } from "../../helpers/run-conformance.ts";

let base: string;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "holdfast-file-"));
});
afterAll(() => rm(base, { recursive: true }));

describeConformance("folder", { open: async () => new FileStore(join(base, "conformance")) });

let root: string;
let count = 0;
let warnings: [event: string, fields: LogFields | undefined][];
let store: FileStore;
beforeEach(() => {
  root = join(base, `root-${count++}`);
  warnings = [];
  store = new FileStore(root, { logger: { ...silentLogger, warn: (event, fields) => warnings.push([event, fields]) } });
});
afterEach(() => store.close());

const names = async (prefix = ""): Promise<string[]> => {
  const found = [];
  for await (const info of store.list(prefix)) found.push(info.name);
  return found;
};
const text = async (name: string): Promise<string> =>
  Buffer.from(await collect((await store.get(name)).body)).toString();

/** The folder of the store that a URL opens. */
async function folderAt(url: string): Promise<string> {
  const context = { label: url, env: {}, runtime: systemRuntime, logger: silentLogger };
  const store = await fileKind.open(parseStoreUrl(url), context);
  if (!(store instanceof FileStore)) throw new Error("it is no folder");
  return store.root;
}

describe("where the folder is", () => {
  it.each([
    ["file://", (path: string) => `file://${path}`],
    ["a plain path", (path: string) => path],
    ["file:// with percent-encoding", (path: string) => `file://${path.replaceAll("-", "%2D")}`],
  ])("takes an absolute one by %s", async (_, url) => {
    const opened = await openStore(url(root));
    await opened.put("a/b", toBody("x"));
    await opened.close();
    expect(await readFile(join(root, "a/b"), "utf8")).toBe("x");
  });

  it("takes a relative one, leaves ~ and a malformed encoding as they are, and refuses an empty one", async () => {
    const before = process.cwd();
    await mkdir(root);
    // Workers of vitest may not change the directory, so the paths are looked at instead.
    expect(await folderAt("file://some/place")).toBe(join(before, "some/place"));
    expect(await folderAt("some/place?x")).toBe(join(before, "some/place?x"));
    expect(await folderAt("file://~/100%")).toBe(join(before, "~/100%"));
    await expect(openStore("file://")).rejects.toMatchObject({ code: "config" });
  });

  it("is made by the first put, with what is missing above", async () => {
    const deep = new FileStore(join(root, "x/y"));
    await deep.put("n", toBody("1"));
    expect(await readFile(join(root, "x/y/n"), "utf8")).toBe("1");
  });

  it("is an empty store while it is missing, and its parent too", async () => {
    expect(await names()).toEqual([]);
    await expect(store.stat("a")).rejects.toMatchObject({ code: "not-found" });
    await expect(store.delete("a")).resolves.toEqual({ existed: false });
    expect(existsSync(root)).toBe(false);
    const nowhere = new FileStore(join(root, "no/where"));
    await expect(nowhere.stat("a")).rejects.toMatchObject({ code: "not-found" });
    await expect(nowhere.get("a")).rejects.toMatchObject({ code: "not-found" });
    await expect(nowhere.list("").next()).resolves.toMatchObject({ done: true });
  });

  it.each(["mount", "mount/inner"])(
    "is unavailable when %s vanishes while it is open, and is not made again",
    async (gone) => {
      const inner = new FileStore(join(root, "mount/inner"));
      await inner.put("a", toBody("x"));
      await inner.put("d/a", toBody("x"));
      await rename(join(root, gone), join(root, "away"));
      const left = await readdir(root, { recursive: true });
      for (const call of [
        () => inner.stat("a"),
        () => inner.get("a"),
        () => inner.list("").next(),
        () => inner.put("b", toBody("y")),
        () => inner.put("e/b", toBody("y")),
        () => inner.delete("a"),
        () => inner.delete("d/a"),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: "unavailable" });
      }
      expect(await readdir(root, { recursive: true })).toEqual(left);
      await rename(join(root, "away"), join(root, gone));
      await inner.put("b", toBody("y"));
      expect(await readFile(join(root, "mount/inner/b"), "utf8")).toBe("y");
    },
  );
});

describe("what is on the disk", () => {
  it("is plain files under their own names, and nothing else after close", async () => {
    await store.put("dir/ä b", toBody("x"));
    await store.put("top", toBody("y"));
    await store.close();
    expect((await readdir(root, { recursive: true })).sort()).toEqual(["dir", "dir/ä b", "top"]);
  });

  it("holds no temporary file after a failed put, and no empty directory after a delete", async () => {
    await store.put("keep", toBody("x"));
    await expect(store.put("d/e/f", toBody("x", { size: 2 }))).rejects.toMatchObject({ code: "invalid" });
    await store.put("g/h/i", toBody("x"));
    await store.delete("g/h/i");
    expect((await readdir(root, { recursive: true })).sort()).toEqual([".holdfast", ".holdfast/tmp", "keep"]);
  });

  it("lists a name under .holdfast/ but no temporary file, and refuses names among those", async () => {
    await store.put(".holdfast/ledger/1", toBody("x"));
    await writeFile(join(root, ".holdfast/tmp/junk"), "x");
    expect(await names()).toEqual([".holdfast/ledger/1"]);
    expect(await names(".holdfast/tmp/")).toEqual([]);
    for (const name of [".holdfast/tmp", ".holdfast/tmp/junk"]) {
      await expect(store.stat(name)).rejects.toMatchObject({ code: "invalid" });
      await expect(store.put(name, toBody("x"))).rejects.toMatchObject({ code: "invalid" });
    }
  });

  it("loses the temporary files of processes that are gone, and keeps the others'", async () => {
    await store.put("a", toBody("x"));
    let name = "";
    const controller = new AbortController();
    const put = store.put(
      "b",
      toBody(
        (async function* () {
          yield Buffer.from("x");
          [name = ""] = await readdir(join(root, ".holdfast/tmp"));
          controller.abort();
          await new Promise(() => undefined);
        })(),
      ),
      { signal: controller.signal },
    );
    await expect(put).rejects.toMatchObject({ code: "aborted" });
    const [owner = ""] = name.split(".");
    expect(name).toMatch(/^[^.]+\.\d+\.[0-9a-f]{16}$/u);
    const gone = spawnSync(process.execPath, ["-e", ""]).pid;
    const files = {
      dead: `${owner}.${gone}.00`,
      alive: `${owner}.${process.pid}.00`,
      elsewhere: `other.${gone}.00`,
      elsewhereOld: `other.${gone}.01`,
    };
    for (const file of Object.values(files)) await writeFile(join(root, ".holdfast/tmp", file), "x");
    const long = new Date(Date.now() - 25 * 60 * 60 * 1000);
    await utimes(join(root, ".holdfast/tmp", files.elsewhereOld), long, long);
    const next = new FileStore(root);
    await next.put("c", toBody("x"));
    expect((await readdir(join(root, ".holdfast/tmp"))).sort()).toEqual([files.alive, files.elsewhere].sort());
  });

  it("puts an object where a killed delete left empty directories", async () => {
    await mkdir(join(root, "d/e/f"), { recursive: true });
    await store.put("d", toBody("x"));
    expect(await names()).toEqual(["d"]);
    await mkdir(join(root, "g/e"), { recursive: true });
    await store.put("g", toBody("x"), { ifAbsent: true });
    expect(await names()).toEqual(["d", "g"]);
  });

  it("skips what cannot be an object's name, or is no file, and says how many", async () => {
    await store.put("fine", toBody("x"));
    await writeFile(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff, 0xfe])]), "x");
    await symlink("fine", join(root, "link"));
    spawnSync("mkfifo", [join(root, "pipe")]);
    expect(await names()).toEqual(["fine"]);
    expect(warnings).toMatchObject([
      ["list.names-skipped", { count: 1 }],
      ["list.not-files-skipped", { count: 2 }],
    ]);
    await expect(store.get("pipe")).rejects.toMatchObject({ code: "not-found" });
  });

  it("tells a name that is not UTF-8 from the one that is shown in its place", async () => {
    const name = "bad-\ufffd";
    await store.put(name, toBody("x"));
    await writeFile(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff])]), "x");
    expect(await names()).toEqual([name]);
    expect(warnings).toMatchObject([["list.names-skipped", { count: 1 }]]);
  });

  it("lists what stands behind a name without looking where nothing can", async () => {
    for (const name of ["a/b/c", "a/b/d", "a/b-", "a/c", "b"]) await store.put(name, toBody("x"));
    const behind = async (after: string): Promise<string[]> => {
      const found: string[] = [];
      for await (const batch of store.listNames("", { after })) found.push(...batch);
      return found;
    };
    expect(await behind("")).toEqual(["a/b-", "a/b/c", "a/b/d", "a/c", "b"]);
    expect(await behind("a/b-")).toEqual(["a/b/c", "a/b/d", "a/c", "b"]);
    expect(await behind("a/b/c")).toEqual(["a/b/d", "a/c", "b"]);
    expect(await behind("a/b/d0")).toEqual(["a/c", "b"]);
    expect(await behind("a0")).toEqual(["b"]);
    expect(await behind("b")).toEqual([]);
  });

  it("gives the names of large directories in batches, and ends between two of them when it is closed", async () => {
    const all = Array.from({ length: 2500 }, (_, place) => `d/${String(place).padStart(5, "0")}`);
    await mkdir(join(root, "d"), { recursive: true });
    for (const name of all) await writeFile(join(root, name), "");
    const sizes: number[] = [];
    const found: string[] = [];
    for await (const batch of store.listNames("d/")) {
      sizes.push(batch.length);
      found.push(...batch);
    }
    expect(found).toEqual(all);
    expect(sizes).toEqual([1000, 1000, 500]);
    const batches = store.listNames("")[Symbol.asyncIterator]();
    await batches.next();
    await store.close();
    await expect(batches.next()).rejects.toMatchObject({ code: "invalid", operation: "list" });
  });

  it("a file cut off while it is read is an error, not an early end", async () => {
    await store.put("big", toBody(Buffer.alloc(5 * 1024 * 1024)));
    const result = await store.get("big");
    const iterator = result.body[Symbol.asyncIterator]();
    await iterator.next();
    await writeFile(join(root, "big"), "short");
    await expect(
      (async () => {
        while (!(await iterator.next()).done);
      })(),
    ).rejects.toMatchObject({ code: "corrupt", operation: "get", object: "big" });
  });

  it("says full when the disk is", async () => {
    // A file system of 64 KiB needs the right to mount.
    await mkdir(root);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", root]).status === 0;
    if (!mounted) {
      console.info("a full disk is not tried: mounting is not permitted here");
      return;
    }
    try {
      await store.put("a", toBody("kept"));
      await expect(store.put("a", toBody(Buffer.alloc(200_000)))).rejects.toMatchObject({ code: "full" });
      await expect(store.put("b", toBody(Buffer.alloc(200_000)))).rejects.toMatchObject({ code: "full" });
      expect(await names()).toEqual(["a"]);
      expect(await text("a")).toBe("kept");
      expect(await readdir(join(root, ".holdfast/tmp"))).toEqual([]);
    } finally {
      await store.close();
      spawnSync("umount", [root]);
    }
  });

  it("says denied for a folder that may not be read", async () => {
    await store.put("d/a", toBody("x"));
    await chmod(join(root, "d"), 0);
    const asRoot = process.getuid?.() === 0;
    try {
      const code = await store.stat("d/a").then(
        () => "read",
        (error: unknown) => (error as { code: string }).code,
      );
      expect(code).toBe(asRoot ? "read" : "denied");
    } finally {
      await chmod(join(root, "d"), 0o755);
    }
  });
});

describe("symbolic links", () => {
  let outside: string;
  beforeEach(async () => {
    outside = `${root}-outside`;
    await mkdir(join(outside, "sub"), { recursive: true });
    await writeFile(join(outside, "secret"), "secret");
    await store.put("mine", toBody("x"));
    await symlink(outside, join(root, "dir"));
    await symlink(join(outside, "secret"), join(root, "file"));
    await symlink(root, join(root, "self"));
  });
  const untouched = async (): Promise<void> => {
    expect(await readFile(join(outside, "secret"), "utf8")).toBe("secret");
    expect((await readdir(outside, { recursive: true })).sort()).toEqual(["secret", "sub"]);
  };

  it.each(["dir/secret", "dir/sub/new", "dir/new", "self/mine", "self/dir/secret"])(
    "%s is not followed",
    async (name) => {
      for (const asked of [
        () => store.get(name),
        () => store.stat(name),
        () => store.put(name, toBody("evil")),
        () => store.put(name, toBody("evil"), { ifAbsent: true }),
        () => store.delete(name),
      ]) {
        await expect(asked()).rejects.toMatchObject({ code: "denied", object: name });
      }
      await expect(names(`${name.split("/")[0]}/`)).rejects.toMatchObject({ code: "denied" });
      await untouched();
    },
  );

  it("a link as the object itself is neither read nor listed, and a put replaces it", async () => {
    await expect(store.get("file")).rejects.toMatchObject({ code: "denied" });
    await expect(store.stat("file")).rejects.toMatchObject({ code: "denied" });
    expect(await names()).toEqual(["mine"]);
    await store.put("file", toBody("own"));
    expect(await text("file")).toBe("own");
    expect((await stat(join(root, "file"))).size).toBe(3);
    await untouched();
  });

  it("a link in the place of the temporary folder is refused", async () => {
    await store.close();
    await mkdir(join(root, ".holdfast"), { recursive: true });
    await symlink(join(outside, "sub"), join(root, ".holdfast/tmp"));
    const next = new FileStore(root);
    await expect(next.put("a", toBody("x"))).rejects.toMatchObject({ code: "denied" });
    await untouched();
  });

  it("a directory that is swapped for a link while puts run lets nothing out", async () => {
    const swap = async (): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        await symlink(join(outside, "sub"), join(root, "swapped")).catch(() => undefined);
        await rm(join(root, "swapped"), { recursive: true, force: true });
      }
    };
    const putting = async (n: number): Promise<void> => {
      for (let i = 0; i < 60; i++) await store.put(`swapped/n${n}-${i}`, toBody("x")).catch(() => undefined);
    };
    await Promise.all([swap(), putting(1), putting(2)]);
    expect(await readdir(join(outside, "sub"))).toEqual([]);
  });
});
