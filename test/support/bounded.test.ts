import { describe, expect, it } from "vitest";
import { aheadOf, farAhead } from "../../src/support/bounded.ts";

async function* from<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of items) yield item;
}

interface Begun {
  readonly item: number;
  readonly end: (error?: Error) => void;
}

/** Work that ends when it is told to. */
function controlled(): { begun: Begun[]; work: (item: number) => Promise<string> } {
  const begun: Begun[] = [];
  const work = (item: number): Promise<string> =>
    new Promise((resolve, reject) => {
      begun.push({ item, end: (error) => (error === undefined ? resolve(`done ${item}`) : reject(error)) });
    });
  return { begun, work };
}

describe("work ahead", () => {
  it("gives results in the order of the items, and begins no more than the bound allows", async () => {
    const { begun, work } = controlled();
    const results = aheadOf(from([1, 2, 3, 4, 5]), { limit: 3, weigh: () => 1 }, work);
    const first = results.next();
    while (begun.length < 3) await new Promise(setImmediate);
    begun[1]?.end();
    begun[2]?.end();
    // A turn in which it could go wrong.
    await new Promise(setImmediate);
    expect(begun.map(({ item }) => item)).toEqual([1, 2, 3]);
    begun[0]?.end();
    expect(await first).toEqual({ done: false, value: "done 1" });
    expect((await results.next()).value).toBe("done 2");
    expect(begun.map(({ item }) => item)).toEqual([1, 2, 3, 4]);
    begun[3]?.end();
    expect((await results.next()).value).toBe("done 3");
    expect((await results.next()).value).toBe("done 4");
    begun[4]?.end();
    expect((await results.next()).value).toBe("done 5");
    expect((await results.next()).done).toBe(true);
  });

  it("lets one item begin that takes more than the bound", async () => {
    const found: number[] = [];
    const bound = { limit: 2, weigh: (item: number) => item };
    for await (const item of aheadOf(from([5, 1, 7]), bound, async (one) => one)) found.push(item);
    expect(found).toEqual([5, 1, 7]);
  });

  it("rejects with the first failure in order, and waits for what is under way", async () => {
    const { begun, work } = controlled();
    const results = aheadOf(from([1, 2, 3, 4]), { limit: 3, weigh: () => 1 }, work);
    const first = results.next();
    while (begun.length < 3) await new Promise(setImmediate);
    begun[1]?.end(new Error("the second"));
    begun[0]?.end(new Error("the first"));
    let isSettled = false;
    const settled = first.catch((error: unknown) => error).finally(() => (isSettled = true));
    await new Promise(setImmediate);
    expect(isSettled).toBe(false);
    begun[2]?.end();
    expect(await settled).toEqual(new Error("the first"));
    expect(begun.length).toBe(3);
  });

  it("goes further ahead with small objects than with large ones", () => {
    const { limit, weigh } = farAhead(8, (bytes: number) => bytes);
    expect([limit / weigh(1), limit / weigh(64 * 1024 + 1)]).toEqual([512, 8]);
  });
});
