/** Stores put around another one, for tests that watch, hold up or refuse its calls. */
import type { Operation } from "../../src/contract/errors.ts";
import type { Store } from "../../src/contract/store.ts";

/** A store that does as `inner` does, but for what is given: an object of own members, which may be spread. */
export function storeLike(inner: Store, otherwise: Partial<Store>): Store {
  return {
    label: inner.label,
    capabilities: inner.capabilities,
    put: (...given) => inner.put(...given),
    get: (...given) => inner.get(...given),
    stat: (...given) => inner.stat(...given),
    list: (...given) => inner.list(...given),
    delete: (...given) => inner.delete(...given),
    close: () => inner.close(),
    ...otherwise,
  };
}

export interface Hooks {
  /** Called before each operation; may throw. Of a listing, `name` is the prefix. */
  readonly before: (operation: Operation, name: string) => Promise<void> | void;
  /** Called when a put or a delete has taken effect, before the caller is told; may throw. */
  readonly after?: ((operation: Operation, name: string) => Promise<void> | void) | undefined;
}

/** A store that does as `inner` does, with something before each operation and after each change. */
export function hookedStore(inner: Store, { before, after }: Hooks): Store {
  const reading = async <T>(operation: Operation, name: string, work: () => Promise<T>): Promise<T> => {
    await before(operation, name);
    return work();
  };
  const changing = async <T>(operation: Operation, name: string, work: () => Promise<T>): Promise<T> => {
    const result = await reading(operation, name, work);
    await after?.(operation, name);
    return result;
  };
  return storeLike(inner, {
    put: (name, ...rest) => changing("put", name, () => inner.put(name, ...rest)),
    get: (name, ...rest) => reading("get", name, () => inner.get(name, ...rest)),
    stat: (name, ...rest) => reading("stat", name, () => inner.stat(name, ...rest)),
    async *list(prefix, ...rest) {
      await before("list", prefix);
      yield* inner.list(prefix, ...rest);
    },
    delete: (name, ...rest) => changing("delete", name, () => inner.delete(name, ...rest)),
  });
}
