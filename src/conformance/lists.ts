/** Cases about listings. */
import assert from "node:assert/strict";
import { toBody } from "../contract/body.ts";
import { compareNames } from "../contract/names.ts";
import type { Store } from "../contract/store.ts";
import type { ConformanceCase } from "./case.ts";
import { mapLimit, names, namesInBatches, hasCode } from "./help.ts";

/** Names whose order tells a listing by bytes from one by UTF-16 unit, by directory or by locale. */
const MIXED = ["B", "a-b", "a.b", "a/b", "a/c/d", "a/c-d", "a0", "aa", "b", "ä", "～", "𝔘", "z/~", "z"];

/** Without the names that cannot be beside the others: `z` beside `z/~`, `B` beside `b`. */
function mixedFor({ capabilities }: Store): string[] {
  return MIXED.filter(
    (name) => (name !== "z" || capabilities.prefixNames) && (name !== "B" || capabilities.caseSensitive),
  );
}

async function put(store: Store, prefix: string, list: readonly string[]): Promise<void> {
  await mapLimit(list, 16, (name) => store.put(prefix + name, toBody(name)));
}

/** The names with the prefix cut off, sorted where the store does not promise an order, checked where it does. */
async function listed(store: Store, prefix: string, behind = ""): Promise<string[]> {
  const found = await names(store, prefix + behind);
  const sorted = found.toSorted(compareNames);
  if (store.capabilities.orderedList) assert.deepEqual(found, sorted, "the listing is not in name order");
  assert.equal(new Set(found).size, found.length, "the listing gives a name twice");
  const alone = await namesInBatches(store, prefix + behind);
  if (alone !== undefined) {
    const inOrder = store.capabilities.orderedList ? alone : alone.toSorted(compareNames);
    assert.deepEqual(inOrder, sorted, "the listing of names alone gives others");
  }
  return sorted.map((name) => {
    assert.ok(name.startsWith(prefix), `the listing of ${prefix} gives ${name}`);
    return name.slice(prefix.length);
  });
}

export const listCases: readonly ConformanceCase[] = [
  {
    name: "a listing gives every name once, in order where that is promised",
    quick: true,
    async run({ store, prefix }) {
      const list = mixedFor(store);
      await put(store, prefix, list);
      assert.deepEqual(await listed(store, prefix), list.toSorted(compareNames));
    },
  },
  {
    name: "a listing gives the names that begin with the prefix, wherever it is cut",
    quick: true,
    async run({ store, prefix }) {
      const list = mixedFor(store).filter((name) => name !== "z");
      await put(store, prefix, list);
      for (const behind of [
        "a",
        "a/",
        "a/c",
        "a/c/",
        "a/c/d",
        "a-",
        "z/~",
        "z",
        "𝔘",
        "nothing",
        "a/c/d/",
        "a//",
        "b/",
      ]) {
        const wanted = list.filter((name) => name.startsWith(behind)).sort(compareNames);
        assert.deepEqual(await listed(store, prefix, behind), wanted, `prefix ${behind}`);
      }
    },
  },
  {
    name: "a listing of nothing is empty",
    quick: true,
    async run({ store, prefix }) {
      assert.deepEqual(await names(store, prefix), []);
      assert.deepEqual(await names(store, `${prefix}deep/er/`), []);
    },
  },
  {
    name: "a listing tells sizes",
    quick: true,
    async run({ store, prefix }) {
      await store.put(`${prefix}none`, toBody(""));
      await store.put(`${prefix}some`, toBody("x".repeat(70_001)));
      const sizes = new Map<string, number>();
      for await (const info of store.list(prefix)) sizes.set(info.name.slice(prefix.length), info.size);
      assert.deepEqual(Object.fromEntries(sizes), { none: 0, some: 70_001 });
    },
  },
  {
    name: "a prefix with parts that mean something to a file system escapes nothing",
    quick: true,
    async run({ store, prefix }) {
      await store.put(`${prefix}a/b`, toBody("x"));
      for (const behind of ["..", "../", "a/..", "a/../", "./", ".", "/", "a/./"]) {
        let found: string[] = [];
        try {
          found = await names(store, prefix + behind);
        } catch (error) {
          hasCode(error, ["invalid"], "the listing");
        }
        assert.deepEqual(found, [], `prefix ${behind}`);
      }
    },
  },
  {
    name: "a long listing is complete, in several directories and pages",
    quick: false,
    async run({ store, prefix, listCount }) {
      const list = Array.from({ length: listCount }, (_, i) =>
        i % 2 === 0 ? `flat-${String(i).padStart(6, "0")}` : `dir-${i % 7}/n${String(i).padStart(6, "0")}`,
      );
      await put(store, prefix, list);
      assert.deepEqual(await listed(store, prefix), list.toSorted(compareNames));
      const some = list.filter((name) => name.startsWith("dir-3/"));
      assert.deepEqual(await listed(store, prefix, "dir-3/"), some.toSorted(compareNames));
      await mapLimit(list, 16, (name) => store.delete(prefix + name));
      assert.deepEqual(await names(store, prefix), []);
    },
  },
  {
    name: "a listing may be left early, any number of times",
    quick: true,
    async run({ store, prefix }) {
      await put(store, prefix, ["a", "b/c", "d"]);
      for (let round = 0; round < 12; round++) {
        for await (const info of store.list(prefix)) {
          assert.ok(info.name.startsWith(prefix));
          break;
        }
      }
      assert.deepEqual(await listed(store, prefix), ["a", "b/c", "d"]);
    },
  },
  {
    name: "a listing goes on while objects come and go, and gives those that stay",
    quick: false,
    async run({ store, prefix }) {
      const stay = Array.from({ length: 40 }, (_, i) => `s${String(i).padStart(2, "0")}/x`);
      const go = Array.from({ length: 40 }, (_, i) => `s${String(i).padStart(2, "0")}-gone`);
      await put(store, prefix, [...stay, ...go]);
      const changing = mapLimit(go, 4, (name) => store.delete(prefix + name));
      const found = new Set(await names(store, prefix));
      await changing;
      for (const name of stay) assert.ok(found.has(prefix + name), `the listing lacks ${name}, which never went`);
      assert.deepEqual(await listed(store, prefix), stay);
    },
  },
];
