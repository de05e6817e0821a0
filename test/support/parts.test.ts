import { describe, expect, it } from "vitest";
import { MIB, cutParts, forEachParallel, partSize } from "../../src/support/parts.ts";

async function* source(...sizes: number[]): AsyncGenerator<Uint8Array> {
  for (const size of sizes) yield Buffer.alloc(size, size);
}

async function sizes(input: AsyncIterable<Uint8Array>, size: number | undefined, plan: object): Promise<unknown[]> {
  const result = [];
  for await (const part of cutParts(input, size, { maxBytes: 1000, ...plan })) {
    expect(part.chunks.reduce((sum, chunk) => sum + chunk.length, 0)).toBe(part.size);
    result.push(part.last ? `${part.size}.` : part.size);
  }
  return result;
}

describe("cutting a body into parts", () => {
  const plan = { partBytes: 10, maxParts: 20 };

  it("gives one empty part for nothing", async () => {
    expect(await sizes(source(), undefined, plan)).toEqual(["0."]);
    expect(await sizes(source(), 0, plan)).toEqual(["0."]);
  });

  it("knows the last part, also where it is full", async () => {
    expect(await sizes(source(10), undefined, plan)).toEqual(["10."]);
    expect(await sizes(source(3, 7, 10), undefined, plan)).toEqual([10, "10."]);
    expect(await sizes(source(25), 25, plan)).toEqual([10, 10, "5."]);
  });

  it("makes parts larger so that their number suffices", async () => {
    expect(await sizes(source(450), 450, plan)).toHaveLength(15);
    expect(await sizes(source(75), undefined, plan)).toEqual([10, 10, 20, 20, "15."]);
  });

  it("refuses what is too large, before reading where that is known", async () => {
    await expect(sizes(source(), 1001, plan)).rejects.toMatchObject({ code: "invalid" });
    await expect(sizes(source(600, 600), undefined, plan)).rejects.toMatchObject({ code: "invalid" });
  });

  it("reaches 5 TiB with 10,000 parts of unknown sizes, and stays at 8 MiB for the first 7 GiB", () => {
    let total = 0;
    for (let number = 1; number <= 10_000; number++) total += partSize(number, undefined, { maxBytes: 0 });
    expect(total).toBeGreaterThan(5 * 1024 ** 4);
    expect(partSize(900, undefined, { maxBytes: 0 })).toBe(8 * MIB);
    expect(partSize(1, 5 * 1024 ** 4, { maxBytes: 0 }) * 10_000).toBeGreaterThanOrEqual(5 * 1024 ** 4);
  });
});

describe("tasks in parallel", () => {
  async function* numbers(count: number): AsyncGenerator<number> {
    for (let n = 0; n < count; n++) yield n;
  }

  it("keeps to the limit and runs them all", async () => {
    let running = 0;
    let most = 0;
    const seen: number[] = [];
    const task = async (n: number): Promise<void> => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(n);
      running--;
    };
    await forEachParallel(
      numbers(20),
      () => 3,
      task,
      () => undefined,
    );
    expect(most).toBe(3);
    expect(seen.sort((a, b) => a - b)).toEqual([...Array(20).keys()]);
  });

  it("stops at the first failure, and has awaited what ran", async () => {
    const stopped: unknown[] = [];
    let open = 0;
    const task = async (n: number): Promise<void> => {
      open++;
      await new Promise((resolve) => setImmediate(resolve));
      open--;
      if (n === 4) throw new Error("four");
    };
    const all = forEachParallel(
      numbers(1000),
      () => 3,
      task,
      (error) => stopped.push(error),
    );
    await expect(all).rejects.toThrow("four");
    expect(stopped).toHaveLength(1);
    expect(open).toBe(0);
  });
});
