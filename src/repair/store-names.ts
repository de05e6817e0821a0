/** The names by which a user may call a store of a pool. */
import { HoldfastError } from "../contract/errors.ts";

interface Named {
  readonly label: string;
  readonly id?: string | undefined;
}

/** Its label, its id, and the plain path of a folder that has no description. */
export function storeNames({ label, id }: Named): readonly string[] {
  const path = label.startsWith("file:///") ? [label.slice("file://".length)] : [];
  return [label, ...path, ...(id === undefined ? [] : [id])];
}

/**
 * The one store that is called `wanted`. Throws `config` if there is none, naming the pool's stores, or if there are
 * several, naming their ids: a guess could drain or refill the wrong one.
 */
export function storeCalled<T extends Named>(
  wanted: string,
  stores: readonly T[],
  namesOf: (store: T) => readonly string[] = storeNames,
): T {
  const called = stores.filter((store) => namesOf(store).includes(wanted));
  const [found, ...others] = called;
  if (found === undefined) {
    const known = stores.map(({ label }) => label).join(", ");
    throw new HoldfastError("config", `the pool has no store ${wanted} (its stores: ${known})`);
  }
  if (others.length === 0) return found;
  const ids = called.map(({ label, id }) => `${id ?? "no id yet"} (${label})`).join(", ");
  throw new HoldfastError(
    "config",
    `the pool has ${called.length} stores that are called ${wanted}; give an id: ${ids}`,
  );
}
