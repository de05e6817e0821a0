import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Store } from "../../src/contract/store.ts";
import { MemoryStore } from "../../src/stores/memory.ts";
import { SteppedStore } from "../../src/wrappers/forward.ts";
import type { Call } from "../../src/wrappers/forward.ts";
import { namesOf, readText } from "../helpers/store-answers.ts";
import { storeLike } from "../helpers/wrapped-store.ts";

/** Notes what it is asked to do something around. */
class Noting extends SteppedStore {
  readonly noted: string[] = [];

  protected override begin<T>(call: Call, work: () => Promise<T>): Promise<T> {
    return this.#note("begin", call, work);
  }

  protected override step<T>(call: Call, work: () => Promise<T>): Promise<T> {
    return this.#note("step", call, work);
  }

  #note<T>(what: string, { operation, name = "" }: Call, work: () => Promise<T>): Promise<T> {
    this.noted.push(`${what} ${operation} ${name}`.trimEnd());
    return work();
  }
}

async function filled(...names: string[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (const name of names) await store.put(name, toBody(`of ${name}`));
  return store;
}

/** A store whose only object comes in two chunks. */
const inTwoChunks = (inner: Store): Store =>
  storeLike(inner, {
    get: async () => ({
      info: { name: "x", size: 4 },
      body: (async function* () {
        yield Buffer.from("by");
        yield Buffer.from("te");
      })(),
      close: () => Promise.resolve(),
    }),
  });

describe("a stepped store", () => {
  it.each<[operation: string, work: (store: Store) => Promise<unknown>]>([
    ["put", (store) => store.put("x", toBody("new"))],
    ["stat", (store) => store.stat("x")],
    ["delete", (store) => store.delete("x")],
  ])("begins a %s once, and takes no step of it", async (operation, work) => {
    const store = new Noting(await filled("x"));
    await work(store);
    expect(store.noted).toEqual([`begin ${operation} x`]);
  });

  it("begins a get before its body, and takes a step for each chunk and for the end", async () => {
    const store = new Noting(inTwoChunks(new MemoryStore()));
    const { body } = await store.get("x");
    expect(store.noted.splice(0)).toEqual(["begin get x"]);
    const chunks: string[] = [];
    for await (const chunk of body) chunks.push(Buffer.from(chunk).toString());
    expect([chunks, store.noted]).toEqual([
      ["by", "te"],
      ["step get x", "step get x", "step get x"],
    ]);
  });

  it("begins a listing with its first entry, and takes a step for each further one and for the end", async () => {
    const store = new Noting(await filled("a", "b"));
    expect(await namesOf(store)).toEqual(["a", "b"]);
    expect(store.noted).toEqual(["begin list", "step list", "step list"]);
  });

  it("begins nothing for a listing that nobody reads", async () => {
    const store = new Noting(await filled("a"));
    store.list("");
    expect(store.noted).toEqual([]);
  });

  it("begins each listing anew", async () => {
    const store = new Noting(await filled());
    await namesOf(store);
    await namesOf(store);
    expect(store.noted).toEqual(["begin list", "begin list"]);
  });

  it("does so for names by themselves where the store below gives them", async () => {
    const store = new Noting(await filled("a"));
    const names: string[] = [];
    for await (const batch of store.listNames?.("") ?? []) names.push(...batch);
    expect([names, store.noted]).toEqual([["a"], ["begin list", "step list"]]);
  });

  it("gives no names by themselves, and no digests, where the store below does not", async () => {
    const store = new Noting(storeLike(new MemoryStore(), {}));
    expect([store.listNames, store.hash]).toEqual([undefined, undefined]);
  });

  it("begins a digest as a get", async () => {
    const below = storeLike(new MemoryStore(), { hash: async () => ({ size: 1, sha256: "ab" }) });
    const store = new Noting(below);
    await store.hash?.("x");
    expect(store.noted).toEqual(["begin get x"]);
  });

  it("gives what the store below gives", async () => {
    const store = new Noting(await filled("x"));
    expect(await readText(store, "x")).toBe("of x");
  });

  it("lets go of a listing that is left before its end", async () => {
    let isLetGo = false;
    const below = storeLike(new MemoryStore(), {
      async *list() {
        try {
          yield { name: "a", size: 0 };
          yield { name: "b", size: 0 };
        } finally {
          isLetGo = true;
        }
      },
    });
    for await (const { name } of new Noting(below).list("")) if (name === "a") break;
    expect(isLetGo).toBe(true);
  });
});
