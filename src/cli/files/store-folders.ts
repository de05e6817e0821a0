/** The folders of a pool's own stores, where what is pushed or pulled may meet them. */
import { HoldfastError } from "../../contract/errors.ts";
import type { PoolDescription } from "../../config/pool-config.ts";
import { isWithin, realPath } from "../../support/real-path.ts";
import { placesOf, storeFolders } from "../../stores/store-address.ts";
import type { StoreFolder } from "../../stores/store-address.ts";

export class StoreFolders {
  readonly #folders: readonly StoreFolder[];

  private constructor(folders: readonly StoreFolder[]) {
    this.#folders = folders;
  }

  static async of(pool: PoolDescription): Promise<StoreFolders> {
    return new StoreFolders(storeFolders(pool, await placesOf(pool)));
  }

  /** Name of the store whose folder a path is, or lies in; the path has no symbolic links. */
  readonly holding = (real: string): string | undefined =>
    this.#folders.find(({ folder }) => isWithin(real, folder))?.label;

  /** Gives a folder's path without symbolic links. Throws `config` where it is, or lies in, a store's folder. */
  async outside(folder: string, what: "pushed" | "pulled into"): Promise<string> {
    const real = await realPath(folder);
    const store = this.holding(real);
    if (store === undefined) return real;
    throw new HoldfastError(
      "config",
      `${folder} belongs to the pool's own store ${store}, and cannot be ${what}: name a folder outside of it`,
    );
  }
}
