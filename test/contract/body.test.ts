import { execFileSync } from "node:child_process";
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CHUNK_BYTES, abortable, checkedBytes, collect, toBody } from "../../src/contract/body.ts";
import { bodyFromFile } from "../../src/contract/file-body.ts";
import type { BodyInput } from "../../src/contract/body.ts";
import { isHoldfastError } from "../../src/contract/errors.ts";

const text = async (chunks: AsyncIterable<Uint8Array>): Promise<string> =>
  Buffer.from(await collect(chunks)).toString();

describe("toBody", () => {
  const bytes = Buffer.from("grüße");
  const inputs: [string, () => BodyInput, boolean, boolean][] = [
    ["a string", () => "grüße", true, true],
    ["a buffer", () => bytes, true, true],
    ["an array of buffers", () => [bytes.subarray(0, 3), bytes.subarray(3)], true, true],
    ["a body", () => toBody("grüße"), true, true],
    ["a Node stream", () => Readable.from([bytes.subarray(0, 3), Buffer.alloc(0), bytes.subarray(3)]), false, false],
    ["a Node stream of strings", () => Readable.from(["grü", "ße"]), false, false],
    ["a web stream", () => Readable.toWeb(Readable.from([bytes])) as BodyInput, false, false],
    [
      "an async iterable",
      async function* () {
        yield bytes;
      },
      false,
      false,
    ],
    ["an iterable", () => new Set([bytes]), false, false],
  ];
  it.each(inputs)("takes %s", async (_, input, reopenable, sized) => {
    const value = input();
    const body = toBody(typeof value === "function" ? (value as () => BodyInput)() : value);
    expect(body.reopenable).toBe(reopenable);
    expect(body.size).toBe(sized ? bytes.length : undefined);
    expect(await text(body.open())).toBe("grüße");
    const again = async (): Promise<string> => text(body.open());
    await expect(again().catch((error: unknown) => (error as Error).message)).resolves.toMatch(
      reopenable ? /^grüße$/u : /opened before/u,
    );
  });

  it("refuses what gives no bytes", () => {
    expect(() => toBody(7 as unknown as BodyInput)).toThrow(/a body must be/u);
    expect(() => toBody([1, 2] as unknown as BodyInput)).toThrow(/instead of bytes/u);
  });
});

describe("bodyFromFile", () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "holdfast-body-"));
  });
  afterAll(() => rm(dir, { recursive: true }));

  it.each([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])(
    "reads %d bytes",
    async (size) => {
      const path = join(dir, `f${size}`);
      const content = Buffer.alloc(size, "abc");
      await writeFile(path, content);
      const body = await bodyFromFile(path);
      expect(body).toMatchObject({ size, path, reopenable: true });
      for (let round = 0; round < 2; round++) {
        expect(Buffer.compare(await collect(checkedBytes(body)), content)).toBe(0);
      }
    },
  );

  it("fails a file that changed its size, a directory and a missing file", async () => {
    const path = join(dir, "changing");
    await writeFile(path, "12345");
    const body = await bodyFromFile(path);
    await writeFile(path, "123456");
    await expect(collect(checkedBytes(body))).rejects.toMatchObject({ code: "conflict" });
    await writeFile(path, "1234");
    await expect(collect(checkedBytes(body))).rejects.toMatchObject({ code: "conflict" });
    await expect(bodyFromFile(dir)).rejects.toMatchObject({ code: "invalid" });
    await expect(bodyFromFile(join(dir, "none"))).rejects.toMatchObject({ code: "invalid" });
  });

  it.each([0, 5, CHUNK_BYTES, 3 * CHUNK_BYTES + 7])(
    "fails a file of %d bytes that changes in place while it is read, before its last bytes are given",
    async (size) => {
      const path = join(dir, `torn${size}`);
      await writeFile(path, Buffer.alloc(size, "a"));
      // Long ago: the clock of a file system goes on in steps.
      await utimes(path, 1000, 1000);
      const body = await bodyFromFile(path);
      expect(body.changed).toBe(false);
      let given = 0;
      const torn = (async (): Promise<void> => {
        // With the first chunk, or before it where there is none other.
        if (size <= CHUNK_BYTES) await writeFile(path, Buffer.alloc(size, "b"));
        for await (const chunk of body.open()) {
          if (given === 0) await writeFile(path, Buffer.alloc(size, "b"));
          given += chunk.length;
        }
      })();
      await expect(torn).rejects.toMatchObject({
        code: "conflict",
        message: expect.stringMatching(/was changed while/u),
      });
      expect([given < size || size === 0, body.changed]).toEqual([true, true]);
      expect(Buffer.compare(await collect((await bodyFromFile(path)).open()), Buffer.alloc(size, "b"))).toBe(0);
    },
  );

  it("fails a file whose time of modification was put back", async () => {
    const path = join(dir, "back");
    await writeFile(path, "old");
    await utimes(path, 1000, 1000);
    const body = await bodyFromFile(path);
    await writeFile(path, "new");
    await utimes(path, 1000, 1000);
    await expect(collect(checkedBytes(body))).rejects.toMatchObject({ code: "conflict" });
  });

  it("opens a pipe with the body alone, and reads it once", async () => {
    const path = join(dir, "pipe");
    execFileSync("mkfifo", [path]);
    // Nobody writes yet: to open the pipe would wait.
    const body = await bodyFromFile(path);
    expect(body).toMatchObject({ size: undefined, reopenable: false });
    const [read] = await Promise.all([text(body.open()), writeFile(path, "from the pipe")]);
    expect(read).toBe("from the pipe");
    expect(() => body.open()).toThrow("opened before");
  });
});

describe("checkedBytes", () => {
  it("gives the last chunk of a declared size only when the source has ended", async () => {
    const seen: number[] = [];
    await expect(
      (async () => {
        for await (const chunk of checkedBytes(
          toBody(
            ["abc", "d"].map((x) => Buffer.from(x)),
            { size: 3 },
          ),
        )) {
          seen.push(chunk.length);
        }
      })(),
    ).rejects.toMatchObject({ code: "invalid", retryable: false });
    expect(seen).toEqual([]);
    await expect(collect(checkedBytes(toBody("abc", { size: 4 })))).rejects.toMatchObject({ code: "invalid" });
  });

  it("names the source as what failed, and keeps its error", async () => {
    const failure = new Error("tape torn");
    const body = toBody(
      (async function* () {
        yield Buffer.from("x");
        throw failure;
      })(),
    );
    await expect(collect(checkedBytes(body))).rejects.toMatchObject({ code: "invalid", cause: failure });
  });
});

describe("abortable", () => {
  it("rejects at once while the source hangs, and lets it go", async () => {
    const controller = new AbortController();
    let returned = false;
    const source: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => undefined),
        return: async () => {
          returned = true;
          return { done: true, value: undefined };
        },
      }),
    };
    const reading = collect(abortable(source, controller.signal));
    controller.abort();
    await expect(reading).rejects.toSatisfy((error) => isHoldfastError(error, "aborted"));
    expect(returned).toBe(true);
  });
});
