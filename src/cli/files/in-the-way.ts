/** Where a file became a folder, or the other way round: what has to go before the other can come. */
import { foldersAbove } from "../../contract/names.ts";

/**
 * Of `superfluous` names, those that stand in the way of each wanted one: `a` in that of `a/b`, and `a/b` in that of `a`.
 * Wanted names that nothing of these stands in the way of are not in the result.
 */
export function inTheWay(wanted: Iterable<string>, superfluous: Iterable<string>): Map<string, string[]> {
  const below = new Map<string, string[]>();
  const names = new Set(wanted);
  for (const name of names) for (const above of foldersAbove(name)) add(below, above, name);
  const found = new Map<string, string[]>();
  if (names.size === 0) return found;
  for (const name of superfluous) {
    for (const one of below.get(name) ?? []) add(found, one, name);
    for (const above of foldersAbove(name)) if (names.has(above)) add(found, above, name);
  }
  return found;
}

function add(map: Map<string, string[]>, key: string, value: string): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
