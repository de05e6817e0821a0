/** Cases about single objects: put, get, ranges, stat, delete. */
import assert from "node:assert/strict";
import { toBody } from "../contract/body.ts";
import { bodyFromFile } from "../contract/file-body.ts";
import type { ConformanceCase } from "./case.ts";
import { KIB, MIB, absent, digest, holds, names, pattern, read, rejects, same, stream, hasCode } from "./help.ts";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SIZES: readonly [size: number, quick: boolean][] = [
  [0, true],
  [1, true],
  [64 * KIB - 1, false],
  [64 * KIB, true],
  [64 * KIB + 1, false],
  [MIB - 1, false],
  [MIB, false],
  [MIB + 1, false],
  [6 * MIB + 7, false],
];

export const objectCases: readonly ConformanceCase[] = [
  ...SIZES.map(([size, quick]): ConformanceCase => ({
    name: `an object of ${size} bytes is read back as it was put`,
    quick,
    async run({ store, prefix }) {
      const bytes = pattern(size, size + 1);
      const result = await store.put(`${prefix}known`, toBody(bytes));
      assert.equal(result.size, size, "put returned a wrong size");
      if (result.sha256 !== undefined) assert.equal(result.sha256, digest("sha256", bytes));
      await holds(store, `${prefix}known`, bytes);
      const unknown = await store.put(`${prefix}unknown`, stream(bytes, { chunks: [256 * KIB] }));
      assert.equal(unknown.size, size, "put of unknown size returned a wrong size");
      await holds(store, `${prefix}unknown`, bytes);
    },
  })),
  {
    name: "a body in chunks of odd sizes is stored in order",
    quick: true,
    async run({ store, prefix }) {
      const bytes = pattern(300_007, 3);
      await store.put(`${prefix}a`, stream(bytes, { chunks: [1, 4095, 65_537, 13, 99_991], size: bytes.length }));
      await holds(store, `${prefix}a`, bytes);
      await store.put(`${prefix}b`, stream(bytes, { chunks: [7, 32_771, 3] }));
      await holds(store, `${prefix}b`, bytes);
    },
  },
  {
    name: "a file is stored as it is",
    quick: false,
    async run({ store, prefix }) {
      const dir = await mkdtemp(join(tmpdir(), "holdfast-conformance-"));
      try {
        for (const size of [0, 5000, 2 * MIB + 3]) {
          const bytes = pattern(size, size + 9);
          const path = join(dir, String(size));
          await writeFile(path, bytes);
          await store.put(`${prefix}${size}`, await bodyFromFile(path));
          await holds(store, `${prefix}${size}`, bytes);
        }
      } finally {
        await rm(dir, { recursive: true });
      }
    },
  },
  {
    name: "a put replaces the object of the same name, whatever their sizes",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}replaced`;
      for (const size of [70_000, 5, 0, 140_000]) {
        const bytes = pattern(size, size + 2);
        await store.put(name, toBody(bytes));
        await holds(store, name, bytes);
      }
      assert.deepEqual(await names(store, prefix), [name]);
    },
  },
  {
    name: "another opener sees a put, a replacement and a delete at once",
    quick: true,
    async run({ store, open, prefix }) {
      const name = `${prefix}seen`;
      const other = await open();
      try {
        await store.put(name, toBody("one"));
        await holds(other, name, Buffer.from("one"));
        await other.put(name, toBody("second"));
        await holds(store, name, Buffer.from("second"));
        await store.delete(name);
        await absent(other, name);
      } finally {
        await other.close();
      }
      await store.put(name, toBody("still open"));
      await holds(store, name, Buffer.from("still open"));
    },
  },
  {
    name: "a range gives exactly its bytes",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}ranged`;
      const bytes = pattern(100_003, 4);
      await store.put(name, toBody(bytes));
      const size = bytes.length;
      const ranges: readonly [offset: number, length: number | undefined][] = [
        [0, 1],
        [0, size],
        [0, undefined],
        [1, 4096],
        [65_535, 2],
        [size - 1, 1],
        [size - 1, undefined],
        [size - 10, 1000],
        [50_000, 0],
        [5, undefined],
        [size, undefined],
        [size, 10],
        [0, 0],
      ];
      for (const [offset, length] of ranges) {
        const wanted = bytes.subarray(offset, length === undefined ? size : offset + length);
        same(await read(store, name, { range: { offset, length } }), wanted, `bytes ${offset}+${length ?? "rest"}`);
      }
      const part = await store.get(name, { range: { offset: 1, length: 2 } });
      assert.equal(part.info.size, size, "info.size of a ranged get is not the whole object's size");
      await part.close();
    },
  },
  {
    name: "a range beyond the end, and one that is no range, is invalid",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}ranged`;
      await store.put(name, toBody("0123456789"));
      for (const range of [
        { offset: 11 },
        { offset: 11, length: 1 },
        { offset: -1 },
        { offset: 0, length: -1 },
        { offset: 1.5 },
      ]) {
        await rejects(read(store, name, { range }), ["invalid"], `get of the range ${JSON.stringify(range)}`);
      }
      same(await read(store, name, { range: { offset: 10 } }), new Uint8Array(), "the range at the end");
      const empty = `${prefix}empty`;
      await store.put(empty, toBody(""));
      same(await read(store, empty, { range: { offset: 0, length: 5 } }), new Uint8Array(), "a range of nothing");
      await rejects(read(store, empty, { range: { offset: 1 } }), ["invalid"], "get beyond an empty object");
    },
  },
  {
    name: "get and stat of an object that does not exist say not-found",
    quick: true,
    async run({ store, prefix }) {
      await store.put(`${prefix}there`, toBody("x"));
      for (const name of ["missing", "there-", "ther", "dir/missing"]) await absent(store, prefix + name);
      const error = await rejects(store.stat(`${prefix}missing`), ["not-found"], "stat");
      assert.equal(error.retryable, false, "not-found must not ask for a retry");
      assert.equal(error.object, `${prefix}missing`, "the error does not name the object");
      assert.equal(error.operation, "stat", "the error does not name the operation");
      assert.ok(error.store !== undefined, "the error does not name the store");
    },
  },
  {
    name: "the beginning of a name is no object",
    quick: true,
    async run({ store, prefix }) {
      await store.put(`${prefix}dir/sub/name`, toBody("x"));
      await absent(store, `${prefix}dir`);
      await absent(store, `${prefix}dir/sub`);
      assert.equal((await store.delete(`${prefix}dir`)).existed ?? false, false);
      await holds(store, `${prefix}dir/sub/name`, Buffer.from("x"));
    },
  },
  {
    name: "stat tells the size, and digests and times only when they are right",
    quick: true,
    async run({ store, prefix }) {
      const bytes = pattern(12_345, 5);
      await store.put(`${prefix}s`, toBody(bytes));
      const info = await store.stat(`${prefix}s`);
      assert.equal(info.size, bytes.length);
      if (info.modifiedMs !== undefined) {
        assert.ok(Number.isFinite(info.modifiedMs) && info.modifiedMs > 0, "modifiedMs is no time");
      }
      for (const [algorithm, value] of Object.entries(info.digests ?? {})) {
        assert.ok(
          (store.capabilities.storeDigests as readonly string[]).includes(algorithm),
          `${algorithm} is not in the manifest`,
        );
        assert.match(value, /^[0-9a-f]+$/u);
        if (algorithm === "md5" || algorithm === "sha1" || algorithm === "sha256") {
          assert.equal(value, digest(algorithm, bytes), `${algorithm} is wrong`);
        }
      }
    },
  },
  {
    name: "deleting makes an object absent; deleting what is absent succeeds",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}gone`;
      await store.put(name, toBody("x"));
      await store.put(`${prefix}gone-not`, toBody("y"));
      assert.notEqual((await store.delete(name)).existed, false, "the delete says that the object did not exist");
      await absent(store, name);
      assert.notEqual((await store.delete(name)).existed, true, "the second delete says that the object existed");
      await store.delete(`${prefix}never/was`);
      await holds(store, `${prefix}gone-not`, Buffer.from("y"));
      await store.put(name, toBody("again"));
      await holds(store, name, Buffer.from("again"));
    },
  },
  {
    name: "many objects are deleted, and only those",
    quick: true,
    async run({ store, prefix }) {
      const all = Array.from({ length: 12 }, (_, i) => `${prefix}d${i % 3}/n${String(i).padStart(2, "0")}`);
      await Promise.all(all.map((name) => store.put(name, toBody(name))));
      const gone = all.filter((_, i) => i % 4 !== 0);
      await Promise.all([...gone, `${prefix}d0/none`].map((name) => store.delete(name)));
      assert.deepEqual((await names(store, prefix)).sort(), all.filter((_, i) => i % 4 === 0).sort());
    },
  },
  {
    name: "an object moved by get, put and delete stands under its new name alone",
    quick: true,
    async run({ store, prefix }) {
      const bytes = pattern(200_000, 6);
      await store.put(`${prefix}from/here`, toBody(bytes));
      const source = await store.get(`${prefix}from/here`);
      await store.put(`${prefix}to/there`, toBody(source.body, { size: source.info.size }));
      await source.close();
      await store.delete(`${prefix}from/here`);
      await holds(store, `${prefix}to/there`, bytes);
      assert.deepEqual(await names(store, prefix), [`${prefix}to/there`]);
    },
  },
  {
    name: "what exists, what is missing and a mixture can be asked for",
    quick: true,
    async run({ store, prefix }) {
      const sizes = new Map([
        ["q1", 1],
        ["q2", 2000],
        ["q3", 30_000],
      ]);
      for (const [name, size] of sizes) await store.put(prefix + name, toBody(pattern(size, size)));
      const found = await Promise.all(
        ["q1", "nothing", "q2", "q3", "q"].map(async (name) => {
          try {
            return (await store.stat(prefix + name)).size;
          } catch (error) {
            hasCode(error, ["not-found"], "stat");
            return undefined;
          }
        }),
      );
      assert.deepEqual(found, [1, undefined, 2000, 30_000, undefined]);
    },
  },
  {
    name: "a reader may stop early, or not read at all, any number of times",
    quick: false,
    async run({ store, prefix }) {
      const name = `${prefix}big`;
      const bytes = pattern(2 * MIB, 7);
      await store.put(name, toBody(bytes));
      for (let round = 0; round < 12; round++) {
        const result = await store.get(name);
        if (round % 3 === 0) {
          for await (const chunk of result.body) {
            assert.ok(chunk.length > 0);
            break;
          }
        } else if (round % 3 === 1) {
          const iterator = result.body[Symbol.asyncIterator]();
          await iterator.next();
        }
        await result.close();
        // A second call does no harm.
        await result.close();
      }
      await holds(store, name, bytes);
    },
  },
  {
    name: "chunks belong to whoever reads them",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}mine`;
      const bytes = pattern(100_000, 8);
      const given = bytes.slice();
      await store.put(name, toBody(given));
      given.fill(0);
      const result = await store.get(name);
      for await (const chunk of result.body) chunk.fill(0);
      await result.close();
      await holds(store, name, bytes);
    },
  },
  {
    name: "metadata is kept, or refused",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}with-metadata`;
      const metadata = { "content-type": "text/plain", note: "grüße" };
      try {
        await store.put(name, toBody("x"), { metadata });
      } catch (error) {
        hasCode(error, ["unsupported"], "put with metadata");
        await absent(store, name);
        return;
      }
      assert.deepEqual({ ...(await store.stat(name)).metadata }, metadata);
    },
  },
  {
    name: "ifAbsent puts what is absent and nothing else",
    quick: true,
    needs: (capabilities) =>
      capabilities.conditionalPut ? undefined : "the store does not decide ifAbsent atomically (conditionalPut)",
    async run({ store, prefix }) {
      const name = `${prefix}once`;
      await store.put(name, toBody("first"), { ifAbsent: true });
      await rejects(store.put(name, toBody("second"), { ifAbsent: true }), ["conflict"], "the second put");
      await holds(store, name, Buffer.from("first"));
      await store.delete(name);
      await store.put(name, stream(Buffer.from("third")), { ifAbsent: true });
      await holds(store, name, Buffer.from("third"));
    },
  },
  {
    name: "ifAbsent is refused where the store cannot decide it",
    quick: true,
    needs: (capabilities) => (capabilities.conditionalPut ? "the store decides ifAbsent (conditionalPut)" : undefined),
    async run({ store, prefix }) {
      await rejects(store.put(`${prefix}once`, toBody("x"), { ifAbsent: true }), ["unsupported"], "put with ifAbsent");
      await absent(store, `${prefix}once`);
    },
  },
];
