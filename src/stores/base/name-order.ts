/** Listings of services that may order names by UTF-16 unit, in the order of names. */
import { HoldfastError } from "../../contract/errors.ts";
import { compareNames } from "../../contract/names.ts";
import type { ObjectInfo } from "../../contract/store.ts";

/**
 * Turns a listing in the order of UTF-16 units, or of code points, into one in the order of code points (the order of
 * `compareNames`), and throws `corrupt` for any other order and for a repeated name: a server that repeats itself would be
 * listed for ever.
 *
 * The two orders differ only behind a common beginning that is followed by a surrogate in one name and by U+E000 to U+FFFF
 * in another. So names are held back from their first surrogate on, until a name comes that does not begin as they do.
 * Memory holds no more than the names with such characters behind one beginning.
 */
export async function* inNameOrder(infos: AsyncIterable<ObjectInfo>): AsyncGenerator<ObjectInfo> {
  const held: { beginning: string; infos: ObjectInfo[] }[] = [];
  let last: string | undefined;
  const check = (info: ObjectInfo): ObjectInfo => {
    if (last !== undefined && compareNames(last, info.name) >= 0) {
      throw new HoldfastError("corrupt", "the server's listing repeats names or is out of order");
    }
    last = info.name;
    return info;
  };
  const release = function* (name: string | undefined): Generator<ObjectInfo> {
    for (;;) {
      const group = held.at(-1);
      if (!group || (name !== undefined && name.startsWith(group.beginning))) return;
      held.pop();
      for (const info of group.infos.sort((a, b) => compareNames(a.name, b.name))) yield check(info);
    }
  };
  for await (const info of infos) {
    yield* release(info.name);
    const surrogate = /[\u{10000}-\u{10ffff}]/u.exec(info.name);
    const group = held.at(-1);
    if (!surrogate) {
      yield check(info);
    } else if (group?.beginning.length === surrogate.index) {
      group.infos.push(info);
    } else {
      held.push({ beginning: info.name.slice(0, surrogate.index), infos: [info] });
    }
  }
  yield* release(undefined);
}
