/** Pools of real folders, opened as users open them, whose stores a test can take down, count calls of, and spoil. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { ErrorCode } from "../../src/contract/errors.ts";
import { openPool } from "../../src/open-pool.ts";
import type { Pool } from "../../src/contract/pool.ts";
import type { OpenPoolOptions } from "../../src/open-pool.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";
import { Faults, faulty } from "../../src/wrappers/faults.ts";
import { hookedStore } from "./wrapped-store.ts";

export interface FolderStore {
  readonly path: string;
  readonly label: string;
  /** What is to go wrong; shared by all pools that are opened over this folder. */
  readonly faults: Faults;
  /** Every call rejects with this code while it is set. */
  down: ErrorCode | undefined;
  /** Calls that reached the store, as `operation name`. */
  readonly calls: string[];
}

export interface FolderPools {
  readonly root: string;
  readonly stores: readonly [FolderStore, FolderStore, FolderStore];
  /** Writes a pool's file of some of the stores (default all) and gives its URL. */
  file(parameters?: string, stores?: readonly FolderStore[], name?: string): string;
  /** Opens a pool anew; with the same `machine` the local index is the same. */
  open(url: string, machine?: string, options?: OpenPoolOptions): Promise<Pool>;
  dispose(): void;
}

export function folderPools(): FolderPools {
  const root = mkdtempSync(join(tmpdir(), "holdfast-folders-"));
  const make = (label: string): FolderStore => ({
    path: join(root, label),
    label,
    faults: new Faults({ remember: true }),
    down: undefined,
    calls: [],
  });
  const stores = [make("A"), make("B"), make("C")] as const;
  return {
    root,
    stores,
    file(parameters = "mode=mirror", chosen = stores, name = "pool.json") {
      const path = join(root, name);
      const list = chosen.map((store) => ({ url: `file://${store.path}`, description: store.label }));
      writeFileSync(path, JSON.stringify(list));
      return `multi://${path}?${parameters}&attempts=1`;
    },
    open(url, machine = "one", options = {}) {
      return openPool(url, {
        cache: join(root, `cache-${machine}`),
        openStore: async (storeUrl, context) => {
          const inner = await openStore(storeUrl, context);
          const known = stores.find((store) => storeUrl === `file://${store.path}`);
          return known === undefined ? inner : watched(inner, known);
        },
        ...options,
      });
    },
    dispose: () => rmSync(root, { recursive: true, force: true }),
  };
}

function watched(inner: Store, watch: FolderStore): Store {
  const store = faulty(inner, watch.faults);
  return hookedStore(store, {
    before: (operation, name) => {
      watch.calls.push(`${operation} ${name}`);
      if (watch.down !== undefined)
        throw new HoldfastError(watch.down, "it is out of order", { store: watch.label, operation, object: name });
    },
  });
}

/** What a file of a store holds; undefined where there is none. Looked up on the disk, past all of Holdfast. */
export function onDisk(store: FolderStore, name: string): string | undefined {
  try {
    return readFileSync(join(store.path, name), "utf8");
  } catch {
    return undefined;
  }
}

export function spoil(store: FolderStore, name: string, content: string): void {
  mkdirSync(dirname(join(store.path, name)), { recursive: true });
  writeFileSync(join(store.path, name), content);
}

/** All files of a store but Holdfast's own, in order. */
export function filesOn(store: FolderStore): string[] {
  try {
    return readdirSync(store.path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(store.path.length + 1))
      .filter((name) => !name.startsWith(".holdfast/"))
      .sort();
  } catch {
    return [];
  }
}

/** The error that some work ends with. Fails when it succeeds. */
export async function errorOf(work: Promise<unknown>): Promise<HoldfastError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
  throw new Error("it succeeded");
}
