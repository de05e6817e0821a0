/** Several listings in name order, and a walk of the index, as one: each name once. */
import type { NameState } from "../ledger/record.ts";
import type { ObjectInfo } from "../store.ts";

export interface Merged {
  readonly name: string;
  /** What the first store, in order, that has the name says of it. */
  readonly found: ObjectInfo | undefined;
  readonly state: NameState | undefined;
  /** What each store says, at its place; undefined where it does not have the name. */
  readonly all: readonly (ObjectInfo | undefined)[];
}

/** Streams: holds one entry of each listing at a time. */
export async function* mergeLists(
  lists: readonly AsyncIterable<ObjectInfo>[],
  index: Iterable<readonly [string, NameState]>,
  compare: (a: string, b: string) => number,
): AsyncGenerator<Merged> {
  const readers = lists.map((list) => list[Symbol.asyncIterator]());
  const walk = index[Symbol.iterator]();
  try {
    const heads = await Promise.all(readers.map((reader) => advance(reader)));
    let known = walk.next();
    for (;;) {
      let name: string | undefined = known.done === true ? undefined : known.value[0];
      for (const head of heads) {
        if (head !== undefined && (name === undefined || compare(head.name, name) < 0)) name = head.name;
      }
      if (name === undefined) return;
      const lowest = name;
      const all = heads.map((head) => (head?.name === lowest ? head : undefined));
      const state = known.done !== true && known.value[0] === lowest ? known.value[1] : undefined;
      yield { name: lowest, found: all.find((info) => info !== undefined), state, all };
      if (state !== undefined) known = walk.next();
      const moved: number[] = [];
      for (const [place, info] of all.entries()) if (info !== undefined) moved.push(place);
      if (moved.length === 1 && moved[0] !== undefined) {
        const reader = readers[moved[0]];
        if (reader !== undefined) heads[moved[0]] = await advance(reader);
      } else {
        const next = await Promise.all(moved.map((place) => advance(readers[place])));
        moved.forEach((place, i) => {
          heads[place] = next[i];
        });
      }
    }
  } finally {
    await Promise.all(readers.map(async (reader) => reader.return?.()));
    walk.return?.();
  }
}

async function advance(reader: AsyncIterator<ObjectInfo> | undefined): Promise<ObjectInfo | undefined> {
  const result = await reader?.next();
  return result === undefined || result.done === true ? undefined : result.value;
}
