/** Kinds of store that a user of the library brings, and what the library's users take an object by. */
import { text as textOfStream } from "node:stream/consumers";
import { beforeEach, describe, expect, it } from "vitest";
import { openPool, openStore, parsePool, toBody } from "../../src/index.ts";
import type { Pool, Store, StoreKinds } from "../../src/index.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";

const shelves = new Map<string, MemoryObjects>();
const kinds: StoreKinds = {
  shelf: {
    open: ({ host }, { label }): Promise<Store> => {
      const objects = shelves.get(host) ?? new MemoryObjects();
      shelves.set(host, objects);
      return Promise.resolve(new MemoryStore({ label, objects, runtime: systemRuntime }));
    },
    place: ({ host }) => ({ server: ["shelf", host], path: [] }),
  },
};

beforeEach(() => shelves.clear());

async function open(urls: readonly string[], options = { kinds }): Promise<Pool> {
  const description = await parsePool("multi:///pool.json?mode=mirror", {
    readFile: () => Promise.resolve({ bytes: Buffer.from(JSON.stringify(urls.map((url) => ({ url })))) }),
  });
  return openPool(description, { ...options, cache: false });
}

const textIn = (shelf: string, name: string): string =>
  Buffer.from(shelves.get(shelf)?.get(name)?.bytes ?? []).toString();

describe("a kind of one's own", () => {
  it("opens the stores of a pool by their URLs", async () => {
    await using pool = await open(["shelf://a", "shelf://b"]);
    await pool.put("x", "bytes");
    expect([textIn("a", "x"), textIn("b", "x")]).toEqual(["bytes", "bytes"]);
  });

  it("says by its place that two stores are one", async () => {
    await expect(open(["shelf://a", "shelf://a/"])).rejects.toMatchObject({ code: "config" });
  });

  it("goes before Holdfast's own of the same scheme", async () => {
    await using store = await openStore("sftp://a/", { kinds: { sftp: kinds["shelf"] as StoreKinds[string] } });
    await store.put("x", toBody("bytes"));
    expect(textIn("a", "x")).toBe("bytes");
  });

  it("is named where a scheme is not known", async () => {
    const message: unknown = expect.stringMatching(
      /^no kind of store is known for shelve:\/\/ \(known: shelf, .*sftp/u,
    );
    await expect(openStore("shelve://a", { kinds })).rejects.toMatchObject({ code: "config", message });
  });

  it("is none by a name that every object has", async () => {
    await expect(openStore("constructor://a", { kinds })).rejects.toMatchObject({ code: "config" });
  });
});

describe("an object that is read from a pool", () => {
  async function withObject(): Promise<Pool> {
    const pool = await open(["shelf://a", "shelf://b"]);
    await pool.put("x", "grün");
    await pool.put("y", new Uint8Array([0xff, 0xfe]));
    return pool;
  }

  it("is taken as bytes, as text, or as a stream", async () => {
    await using pool = await withObject();
    expect(await (await pool.get("y")).bytes()).toEqual(Uint8Array.of(0xff, 0xfe));
    expect(await (await pool.get("x")).text()).toBe("grün");
    expect(await textOfStream((await pool.get("x")).stream())).toBe("grün");
  });

  it("is no text where it is not UTF-8", async () => {
    await using pool = await withObject();
    await expect((await pool.get("y")).text()).rejects.toMatchObject({ code: "invalid", object: "y" });
  });

  it("cannot be read any more once the pool was left", async () => {
    const pool = await withObject();
    await pool[Symbol.asyncDispose]();
    await expect(pool.get("x")).rejects.toMatchObject({ code: "invalid" });
  });
});
