import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect } from "../../../src/contract/body.ts";
import type { GetResult } from "../../../src/contract/store.ts";
import { HoldfastError } from "../../../src/contract/errors.ts";
import { FileStore } from "../../../src/stores/file/file-store.ts";
import { GROUPED_READ_BYTES, GroupReader } from "../../../src/stores/file/group-reader.ts";
import { GroupWorker } from "../../../src/support/group-worker.ts";

function codeOf(error: unknown): string {
  return error instanceof HoldfastError ? error.code : String(error);
}

describe.runIf(process.platform === "linux")("a group of small reads", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-reads-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  /** A folder of 200 small files, each of which holds its name. */
  async function manyFiles(below: string): Promise<{ readonly root: string; readonly names: readonly string[] }> {
    const root = join(folder, below);
    await mkdir(root);
    const names = Array.from({ length: 200 }, (_, i) => `n${i}`);
    await Promise.all(names.map((name) => writeFile(join(root, name), name)));
    return { root, names };
  }

  it("is read together, and each file is answered for itself", async () => {
    const at = (name: string): string => join(folder, name);
    await Promise.all([
      writeFile(at("a"), "the file a"),
      writeFile(at("empty"), ""),
      writeFile(at("large"), Buffer.alloc(GROUPED_READ_BYTES + 1)),
      mkdir(at("directory")),
      symlink("a", at("link")),
    ]);
    const reader = new GroupReader();
    const names = ["a", "empty", "large", "directory", "link", "none"];
    const [a, empty, large, directory, link, none] = await Promise.all(names.map((name) => reader.read(at(name))));
    await reader.close();
    expect(a).toMatchObject({ where: at("a"), isFile: true, size: 10, cutAt: undefined });
    expect(a !== undefined && "bytes" in a ? Buffer.from(a.bytes ?? []).toString() : undefined).toBe("the file a");
    expect(empty).toMatchObject({ size: 0, bytes: new Uint8Array() });
    expect(large).toMatchObject({ size: GROUPED_READ_BYTES + 1, bytes: undefined });
    expect(directory).toMatchObject({ isFile: false, bytes: undefined });
    expect([link, none]).toMatchObject([{ code: "ELOOP" }, { code: "ENOENT" }]);
  });

  it("is what a folder store makes of many gets at once, with the same results as one by one", async () => {
    const root = join(folder, "store");
    await Promise.all([mkdir(join(root, "d"), { recursive: true }), mkdir(join(folder, "outside"))]);
    const names = Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? `n${i}` : `d/n${i}`));
    await Promise.all(names.map((name) => writeFile(join(root, name), `content of ${name}`)));
    await writeFile(join(root, "large"), Buffer.alloc(200_000, "large"));
    await writeFile(join(folder, "outside", "secret"), "secret");
    await symlink(join(folder, "outside"), join(root, "way"));
    const store = new FileStore(root);
    const read = async (name: string, range?: { offset: number; length?: number }): Promise<string> => {
      const { info, body } = await store.get(name, range === undefined ? {} : { range });
      return `${info.size} ${(await collect(body)).toString()}`;
    };
    const outcome = (name: string): Promise<string> => read(name).catch(codeOf);
    const odd = ["none", "d/none", "n0/below", "d", "way/secret", "way/none", "large"];
    const alone: string[] = [];
    for (const name of odd) alone.push(await outcome(name));
    expect(alone.slice(0, -1)).toEqual(["not-found", "not-found", "not-found", "not-found", "denied", "denied"]);
    for (let round = 0; round < 2; round++) {
      const all = await Promise.all(names.map((name) => read(name)));
      expect(all).toEqual(names.map((name) => `${`content of ${name}`.length} content of ${name}`));
    }
    expect(await Promise.all(odd.map(outcome))).toEqual(alone);
    const ranges = Array.from({ length: 10 }, (_, offset) => read("n0", { offset, length: 2 }));
    expect(await Promise.all(ranges)).toEqual(
      Array.from({ length: 10 }, (_, at) => `13 ${"content of n0".slice(at, at + 2)}`),
    );
    const listed: (readonly [string, number])[] = [];
    for await (const { name, size } of store.list("")) listed.push([name, size]);
    const sizes = [...names.map((name) => [name, `content of ${name}`.length] as const), ["large", 200_000] as const];
    expect(listed).toEqual(sizes.sort(([a], [b]) => (a < b ? -1 : 1)));
    await store.close();
  });

  it("is refused once the read is closed, the caller has aborted or the store is closed", async () => {
    const { root, names } = await manyFiles("ends");
    const store = new FileStore(root);
    const open = (signal?: AbortSignal): Promise<readonly GetResult[]> =>
      Promise.all(names.map((name) => store.get(name, { signal })));
    const outcome = (body: AsyncIterable<Uint8Array> | undefined): Promise<string> =>
      collect(body ?? []).then(() => "read", codeOf);
    const controller = new AbortController();
    await open();
    const [plain, abortable] = await Promise.all([open(), open(controller.signal)]);
    // The first few come before there are enough for a group.
    const [first, second, third] = [plain[100], plain[101], abortable[100]];
    await first?.close();
    expect(await outcome(first?.body)).toBe("invalid");
    controller.abort();
    expect(await outcome(third?.body)).toBe("aborted");
    await store.close();
    expect(await outcome(second?.body)).toBe("invalid");
  });

  it("hashes files of any size, step by step, and ends where the caller wants no more", async () => {
    const bytes = Buffer.alloc(40 * 1024 * 1024 + 1, "some bytes");
    const path = join(folder, "to-hash");
    await Promise.all([writeFile(path, bytes), writeFile(join(folder, "nothing"), "")]);
    const sha256 = (of: Uint8Array): string => createHash("sha256").update(of).digest("hex");
    const reader = new GroupReader();
    let steps = 0;
    const onStep = (): void => {
      steps++;
    };
    const [whole, empty, none, directory] = await Promise.all(
      ["to-hash", "nothing", "no such file", "."].map((name) => reader.hash(join(folder, name), onStep)),
    );
    expect(whole).toMatchObject({ where: path, size: bytes.length, sha256: sha256(bytes) });
    expect(steps).toBe(2);
    expect(empty).toMatchObject({ size: 0, sha256: sha256(Buffer.alloc(0)) });
    expect(none).toMatchObject({ code: "ENOENT" });
    expect(directory).toMatchObject({ isFile: false });
    const enough = new Error("enough");
    const ended = reader.hash(path, () => {
      throw enough;
    });
    await expect(ended).rejects.toBe(enough);
    const open = await Promise.all(
      (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
    );
    expect(open).not.toContain(path);
    await reader.close();
  });

  it("gives a store's digests of what it would hand out, and its errors", async () => {
    const { root, names } = await manyFiles("hashed");
    const large = Buffer.alloc(20 * 1024 * 1024, "large");
    await writeFile(join(root, "large"), large);
    await symlink("n0", join(root, "link"));
    const store = new FileStore(root);
    const hash = async (name: string, signal?: AbortSignal): Promise<unknown> =>
      store.hash?.(name, { signal }).catch(codeOf);
    const expected = (bytes: Uint8Array): unknown => ({
      size: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    });
    const odd = ["none", "link", "n0/below"];
    for (let round = 0; round < 2; round++) {
      // Alone at first, in the thread from then on.
      expect(await Promise.all(odd.map((name) => hash(name)))).toEqual(["not-found", "denied", "not-found"]);
      expect(await hash("large")).toEqual(expected(large));
      const all = await Promise.all(names.map((name) => hash(name)));
      expect(all).toEqual(names.map((name) => expected(Buffer.from(name))));
    }
    const controller = new AbortController();
    const ended = hash("large", controller.signal);
    controller.abort();
    expect(await ended).toBe("aborted");
    await store.close();
    expect(await hash("large")).toBe("invalid");
  });

  it("is answered as lost when its thread ends, and the next one gets a new thread", async () => {
    const worker = new GroupWorker<string, string>({
      run: () => {
        process.getBuiltinModule("node:worker_threads").parentPort?.on("message", (items: string[]) => {
          if (items.includes("end")) process.exit();
          process.getBuiltinModule("node:worker_threads").parentPort?.postMessage(items);
        });
      },
      bytesOf: () => 1,
      lost: (item) => `${item} was lost`,
    });
    expect(await Promise.all([worker.do("a"), worker.do("end")])).toEqual(["a was lost", "end was lost"]);
    expect(await worker.do("b")).toBe("b");
    await worker.close();
  });
});
