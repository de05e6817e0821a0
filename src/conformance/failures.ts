/** Cases about what goes wrong on the caller's side: sources that fail, aborts, closed stores. */
import assert from "node:assert/strict";
import { getEventListeners, setMaxListeners } from "node:events";
import { setImmediate } from "node:timers/promises";
import { toBody } from "../contract/body.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { Body } from "../contract/store.ts";
import type { ConformanceCase, ConformanceContext } from "./case.ts";
import { KIB, MIB, absent, forever, holds, names, namesInBatches, pattern, read, rejects, stream } from "./help.ts";

/** Runs a put that must fail, where no object is and where one is: nothing, or the old object, is there afterwards. */
async function failsAndChangesNothing(
  { store, prefix }: ConformanceContext,
  attempt: (name: string) => Promise<unknown>,
): Promise<void> {
  const old = pattern(70_000, 11);
  await attempt(`${prefix}new`);
  await absent(store, `${prefix}new`);
  await store.put(`${prefix}old`, toBody(old));
  await attempt(`${prefix}old`);
  await holds(store, `${prefix}old`, old);
  await attempt(`${prefix}dir/new`);
  assert.deepEqual(await names(store, prefix), [`${prefix}old`], "a failed put left something in the listing");
  // The name is as usable as before.
  await store.put(`${prefix}new`, toBody("fresh"));
  await holds(store, `${prefix}new`, Buffer.from("fresh"));
}

function failing(bytes: number, size?: number): Body {
  const action = (): never => {
    throw new Error("the source broke");
  };
  return stream(pattern(bytes + 64 * KIB, 12), { chunks: [64 * KIB], size, at: [bytes, action] });
}

export const failureCases: readonly ConformanceCase[] = [
  ...(
    [
      ["longer than declared", 100_000, 99_999],
      ["shorter than declared", 100_000, 100_001],
      ["not empty though declared so", 1, 0],
      ["empty though declared otherwise", 0, 1],
      ["a chunk longer than declared", 200_000, 65_536],
    ] as const
  ).map(([what, size, declared]): ConformanceCase => ({
    name: `a body that is ${what} fails the put and changes nothing`,
    quick: size === 100_000,
    run: (context) =>
      failsAndChangesNothing(context, (name) =>
        rejects(
          context.store.put(name, stream(pattern(size, 13), { chunks: [65_536], size: declared })),
          ["invalid"],
          "the put",
        ),
      ),
  })),
  ...(
    [
      ["at its first byte", 0],
      ["after 64 KiB", 64 * KIB],
      ["after 3 MiB", 3 * MIB],
    ] as const
  ).map(([when, bytes]): ConformanceCase => ({
    name: `a source that fails ${when} fails the put and changes nothing`,
    quick: bytes === 64 * KIB,
    run: (context) =>
      failsAndChangesNothing(context, async (name) => {
        const known = await rejects(context.store.put(name, failing(bytes, bytes + 64 * KIB)), "any", "the put");
        assert.equal(known.retryable, false, "the store cannot mend the source: no retry");
        await rejects(context.store.put(name, failing(bytes)), "any", "the put of unknown size");
      }),
  })),
  {
    name: "a signal that lives on keeps no listener of an operation that has ended",
    quick: true,
    run: async ({ store, prefix }) => {
      const { signal } = new AbortController();
      setMaxListeners(0, signal);
      for (let i = 0; i < 3; i++) {
        await store.put(`${prefix}a`, toBody(pattern(70_000, 14)), { signal });
        const { body } = await store.get(`${prefix}a`, { signal });
        for await (const chunk of body) assert.ok(chunk.byteLength > 0);
        await store.stat(`${prefix}a`, { signal });
        for await (const info of store.list(prefix, { signal })) assert.equal(info.name, `${prefix}a`);
        await store.delete(`${prefix}a`, { signal });
      }
      // A listener that an operation removes at its end may go a turn after it.
      for (let turn = 0; turn < 100 && getEventListeners(signal, "abort").length > 0; turn++) await setImmediate();
      assert.equal(getEventListeners(signal, "abort").length, 0, "listeners are left on the signal");
    },
  },
  {
    name: "a put that is aborted before it begins changes nothing",
    quick: true,
    run: (context) =>
      failsAndChangesNothing(context, (name) =>
        rejects(context.store.put(name, toBody("x"), { signal: AbortSignal.abort() }), ["aborted"], "the put"),
      ),
  },
  ...([64 * KIB, 3 * MIB] as const).map((bytes): ConformanceCase => ({
    name: `a put that is aborted after ${bytes} bytes, while its source hangs, changes nothing`,
    quick: bytes === 64 * KIB,
    run: (context) =>
      failsAndChangesNothing(context, async (name) => {
        for (const size of [undefined, bytes * 2]) {
          const controller = new AbortController();
          const body = stream(pattern(bytes * 2, 14), {
            chunks: [64 * KIB],
            size,
            at: [
              bytes,
              () => {
                controller.abort();
                return forever();
              },
            ],
          });
          const put = context.store.put(name, body, { signal: controller.signal });
          await rejects(put, ["aborted"], "the put");
        }
      }),
  })),
  {
    name: "a put that is aborted with a reason of Holdfast's rejects with it",
    quick: true,
    run: (context) =>
      failsAndChangesNothing(context, async (name) => {
        const controller = new AbortController();
        const body = stream(pattern(128 * KIB, 15), {
          chunks: [64 * KIB],
          at: [64 * KIB, () => controller.abort(new HoldfastError("timeout", "too slow"))],
        });
        await rejects(context.store.put(name, body, { signal: controller.signal }), ["timeout"], "the put");
      }),
  },
  {
    name: "every operation with a signal that has fired rejects with aborted",
    quick: true,
    async run({ store, prefix }) {
      const name = `${prefix}a`;
      await store.put(name, toBody("x"));
      const signal = AbortSignal.abort();
      await rejects(store.get(name, { signal }), ["aborted"], "get");
      await rejects(store.stat(name, { signal }), ["aborted"], "stat");
      await rejects(store.delete(name, { signal }), ["aborted"], "delete");
      await rejects(
        (async () => {
          for await (const info of store.list(prefix, { signal })) assert.fail(`the listing gave ${info.name}`);
        })(),
        ["aborted"],
        "list",
      );
      if (store.listNames) await rejects(namesInBatches(store, prefix, signal), ["aborted"], "listNames");
      await holds(store, name, Buffer.from("x"));
    },
  },
  {
    name: "a get that is aborted in mid-stream rejects, and the store works on",
    quick: false,
    async run({ store, prefix }) {
      const name = `${prefix}big`;
      const bytes = pattern(6 * MIB, 16);
      await store.put(name, toBody(bytes));
      for (let round = 0; round < 4; round++) {
        const controller = new AbortController();
        const result = await store.get(name, { signal: controller.signal });
        await rejects(
          (async () => {
            for await (const chunk of result.body) {
              assert.ok(chunk.length > 0);
              controller.abort();
            }
          })(),
          ["aborted"],
          "reading on",
        );
        await result.close();
      }
      await holds(store, name, bytes);
    },
  },
  {
    name: "names that no store can hold are invalid",
    quick: true,
    async run({ store, prefix }) {
      for (const name of ["", `${prefix}\ud800`, `${prefix}\udc00x`, `${prefix}a\0b`, prefix + "n".repeat(1024)]) {
        await rejects(store.put(name, toBody("x")), ["invalid"], `put of ${JSON.stringify(name)}`);
        await rejects(store.get(name), ["invalid"], `get of ${JSON.stringify(name)}`);
        await rejects(store.stat(name), ["invalid"], `stat of ${JSON.stringify(name)}`);
        await rejects(store.delete(name), ["invalid"], `delete of ${JSON.stringify(name)}`);
      }
      assert.deepEqual(await names(store, prefix), []);
    },
  },
  {
    name: "after close every operation rejects, and a second close does nothing",
    quick: true,
    async run({ store, open, prefix }) {
      const name = `${prefix}a`;
      const other = await open();
      await other.put(name, toBody("x"));
      await other.close();
      await other.close();
      await rejects(other.put(`${prefix}b`, toBody("x")), "any", "put after close");
      await rejects(read(other, name), "any", "get after close");
      await rejects(other.stat(name), "any", "stat after close");
      await rejects(other.delete(name), "any", "delete after close");
      await rejects(
        (async () => {
          for await (const info of other.list(prefix)) assert.ok(info);
        })(),
        "any",
        "list after close",
      );
      if (other.listNames) await rejects(namesInBatches(other, prefix), "any", "listNames after close");
      await holds(store, name, Buffer.from("x"));
      assert.deepEqual(await names(store, prefix), [name]);
    },
  },
  {
    name: "a source that fails reads no further, and is let go of",
    quick: true,
    async run({ store, prefix }) {
      let released = 0;
      const source = (): Body => ({
        size: 3,
        reopenable: false,
        async *open() {
          try {
            yield new Uint8Array(2);
            yield new Uint8Array(2);
            assert.fail("the store read on after the declared size was passed");
          } finally {
            released++;
          }
        },
      });
      await rejects(store.put(`${prefix}a`, source()), ["invalid"], "the put");
      assert.equal(released, 1, "the store did not let go of the source");
      await absent(store, `${prefix}a`);
    },
  },
];
