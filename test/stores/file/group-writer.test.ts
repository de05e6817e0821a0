import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toBody } from "../../../src/contract/body.ts";
import { FileStore } from "../../../src/stores/file/file-store.ts";
import { GroupWorker } from "../../../src/support/group-worker.ts";
import { GroupWriter } from "../../../src/stores/file/group-writer.ts";

describe("a group of small files", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-group-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("is written together, and each file is answered for itself", async () => {
    const directory = await open(folder, "r");
    const writer = new GroupWriter();
    await writeFile(join(folder, "taken"), "before");
    const write = (name: string, target: string, exclusive: boolean): Promise<string | undefined> =>
      writer.write({
        temporary: join(folder, `.${name}`),
        target: join(folder, target),
        directoryFd: directory.fd,
        bytes: Buffer.from(name),
        exclusive,
      });
    const results = await Promise.all([
      write("a", "a", false),
      write("b", "taken", true),
      write("c", "taken-anew", true),
      write("d", "no/such/folder", false),
    ]);
    await writer.close();
    await directory.close();
    expect(results).toEqual([undefined, "EEXIST", undefined, "ENOENT"]);
    expect((await readdir(folder)).sort()).toEqual(["a", "taken", "taken-anew"]);
    expect(await readFile(join(folder, "a"), "utf8")).toBe("a");
    expect(await readFile(join(folder, "taken"), "utf8")).toBe("before");
  });

  it("is what a folder store makes of many puts at once, with the same results as one by one", async () => {
    const root = join(folder, "store");
    const store = new FileStore(root);
    await store.put("first", toBody("first"));
    const names = Array.from({ length: 200 }, (_, i) => `d${i % 7}/n${i}`);
    await Promise.all(names.map((name) => store.put(name, toBody(`content of ${name}`))));
    const outcomes = await Promise.all(
      names.slice(0, 20).map((name) =>
        store.put(`${name}/below`, toBody("x")).then(
          () => "put",
          (error: unknown) => String(error),
        ),
      ),
    );
    expect(outcomes.every((outcome) => outcome.includes("directory is needed"))).toBe(true);
    for (const name of names) expect(await readFile(join(root, name), "utf8")).toBe(`content of ${name}`);
    const listed: string[] = [];
    for await (const info of store.list("")) listed.push(info.name);
    expect(listed.length).toBe(201);
    await store.close();
    expect(await readdir(root)).not.toContain(".holdfast");
  });
});

describe("a thread for groups", () => {
  const never = (): void => {
    process.getBuiltinModule("node:worker_threads").parentPort?.on("message", () => undefined);
  };

  it("answers as lost what is under way, waits or comes when it is closed, and starts no other", async () => {
    const worker = new GroupWorker<number, string>({ run: never, bytesOf: () => 1, lost: (item) => `lost ${item}` });
    const first = worker.do(1);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    const second = worker.do(2);
    await worker.close();
    expect(await Promise.all([first, second, worker.do(3)])).toEqual(["lost 1", "lost 2", "lost 3"]);
  });
});
