/** Cases about operations at the same time. */
import assert from "node:assert/strict";
import { collect, toBody } from "../contract/body.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { ConformanceCase } from "./case.ts";
import { KIB, MIB, absent, holds, mapLimit, names, pattern, read, same, stream, hasCode } from "./help.ts";

/** A version whose every byte shows which it is, of a size of its own. */
function version(n: number, base: number): Uint8Array {
  return new Uint8Array(base + n).fill(n + 1);
}

/** Fails unless the bytes are one whole version. */
function whole(bytes: Uint8Array, base: number): number {
  const n = (bytes[0] ?? 0) - 1;
  assert.equal(bytes.length, base + n, "the bytes are not one version's, whole");
  assert.ok(
    bytes.every((byte) => byte === n + 1),
    "the bytes are a mixture of versions",
  );
  return n;
}

export const concurrencyCases: readonly ConformanceCase[] = [
  {
    name: "many operations at once do not disturb each other",
    quick: true,
    async run({ store, prefix }) {
      const names = Array.from({ length: 24 }, (_, i) => `${prefix}c${i % 5}/n${i}`);
      await Promise.all(
        names.map(async (name, i) => {
          const bytes = pattern(1 + i * 4001, i + 1);
          await store.put(name, i % 2 === 0 ? toBody(bytes) : stream(bytes, { chunks: [1000, 9999] }));
          same(await read(store, name), bytes);
          assert.equal((await store.stat(name)).size, bytes.length);
          if (i % 3 === 0) {
            await store.delete(name);
            await absent(store, name);
          }
        }),
      );
      const found = [];
      for await (const info of store.list(prefix)) found.push(info.name);
      assert.deepEqual(found.sort(), names.filter((_, i) => i % 3 !== 0).sort());
    },
  },
  {
    name: "of several puts of one name at once one stands, whole, and readers never see a mixture",
    quick: false,
    async run({ store, prefix }) {
      const name = `${prefix}contended`;
      const base = 300_000;
      const reading = new AbortController();
      const reader = async (): Promise<void> => {
        while (!reading.signal.aborted) {
          try {
            whole(await read(store, name), base);
          } catch (error) {
            // An error is allowed while the object is being replaced; a wrong byte is not.
            if (!(error instanceof HoldfastError)) throw error;
          }
        }
      };
      const readers = [reader(), reader()];
      try {
        await mapLimit([0, 1, 2, 3, 4, 5, 6, 7], 4, (n) =>
          store.put(name, stream(version(n, base), { chunks: [64 * KIB] })),
        );
      } finally {
        reading.abort();
        await Promise.all(readers);
      }
      const last = whole(await read(store, name), base);
      await holds(store, name, version(last, base));
      assert.deepEqual(await names(store, prefix), [name]);
    },
  },
  {
    name: "a get that runs while its object is replaced gives one version, whole, or an error",
    quick: false,
    async run({ store, prefix }) {
      const name = `${prefix}replaced`;
      const base = 3 * MIB;
      for (const change of ["replace", "delete"] as const) {
        await store.put(name, toBody(version(1, base)));
        const result = await store.get(name);
        const iterator = result.body[Symbol.asyncIterator]();
        const first = await iterator.next();
        assert.ok(!first.done, "an object that is not empty gave no bytes");
        if (change === "replace") await store.put(name, toBody(version(2, base)));
        else await store.delete(name);
        try {
          const rest = await collect({ [Symbol.asyncIterator]: () => iterator });
          whole(Buffer.concat([first.value, rest]), base);
        } catch (error) {
          if (!(error instanceof HoldfastError)) throw error;
        }
        await result.close();
      }
      await absent(store, name);
    },
  },
  {
    name: "a put, a delete and their directory at once leave the object or none",
    quick: true,
    async run({ store, prefix }) {
      for (let round = 0; round < 8; round++) {
        await store.put(`${prefix}d/e/old`, toBody("old"));
        await Promise.all([
          store.delete(`${prefix}d/e/old`),
          store.put(`${prefix}d/e/new`, toBody("new")),
          store.put(`${prefix}d/f${round}`, toBody("f")),
        ]);
        await holds(store, `${prefix}d/e/new`, Buffer.from("new"));
        await holds(store, `${prefix}d/f${round}`, Buffer.from("f"));
        await absent(store, `${prefix}d/e/old`);
        await Promise.all([store.delete(`${prefix}d/e/new`), store.delete(`${prefix}d/f${round}`)]);
      }
      assert.deepEqual(await names(store, prefix), []);
    },
  },
  {
    name: "a race of ten puts with ifAbsent has one winner, and its bytes",
    quick: true,
    needs: (capabilities) =>
      capabilities.conditionalPut ? undefined : "the store does not decide ifAbsent atomically (conditionalPut)",
    async run({ store, open, prefix }) {
      const name = `${prefix}race`;
      const base = 20_000;
      const other = await open();
      try {
        const outcomes = await Promise.all(
          Array.from({ length: 10 }, async (_, n) => {
            try {
              const body = stream(version(n, base), { chunks: [4096], size: base + n });
              await (n % 2 === 0 ? store : other).put(name, body, { ifAbsent: true });
              return n;
            } catch (error) {
              hasCode(error, ["conflict"], "the loser's put");
              return undefined;
            }
          }),
        );
        const winners = outcomes.filter((n) => n !== undefined);
        assert.equal(winners.length, 1, `${winners.length} puts won`);
        assert.equal(whole(await read(store, name), base), winners[0], "the bytes are a loser's");
      } finally {
        await other.close();
      }
    },
  },
];
