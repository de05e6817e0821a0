/** Gateways over a pool of memory stores or folders, for one test file. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { startGateways } from "../../src/gateway/gateways.ts";
import type { Gateways, GatewaysOptions, Protocol } from "../../src/gateway/gateways.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";

export const credential = { user: "test-key", password: "a secret of tests" };

export interface TestGateways extends Gateways {
  /** A folder for the test, removed at the end. */
  readonly folder: string;
  /** Folders of the stores, where they are folders. */
  readonly stores: readonly string[];
  /** Objects of the stores, where they are in memory. */
  readonly objects: readonly MemoryObjects[];
  /** Address of a gateway with user and password in it. */
  readonly poolFile: string;
  end(): Promise<void>;
}

export interface TestGatewaysOptions extends Partial<GatewaysOptions> {
  readonly protocols: readonly Protocol[];
  /** Default "memory". */
  readonly on?: "memory" | "folders";
  /** Default 2. */
  readonly count?: number;
  readonly mode?: "mirror" | "stripe";
  /** Put around each store as it is opened. */
  readonly wrap?: (store: Store, index: number) => Store;
  /** Default true: the test's credential is needed. */
  readonly guarded?: boolean;
}

export async function startTestGateways(options: TestGatewaysOptions): Promise<TestGateways> {
  const { protocols, on = "memory", count = 2, mode = "mirror", guarded = true, wrap = (store) => store } = options;
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-gateway-"));
  const stores = Array.from({ length: count }, (_, index) => path.join(folder, `store-${index + 1}`));
  const objects = stores.map(() => new MemoryObjects());
  const poolFile = path.join(folder, "pool.json");
  const list = stores.map((store, index) => ({ url: `file://${store}`, description: `store ${index + 1}` }));
  await writeFile(poolFile, JSON.stringify({ mode, stores: list }));
  const gateways = await startGateways(poolFile, {
    credentials: guarded ? [credential] : [],
    spool: path.join(folder, "spool"),
    ...options,
    listen: protocols.map((protocol) => ({ protocol, host: "127.0.0.1", port: 0 })),
    pool: {
      cache: false,
      openStore: async (url, given) => {
        const index = stores.findIndex((store) => url === `file://${store}`);
        const memory = objects[index];
        if (on === "folders" || memory === undefined) return wrap(await openStore(url, given), index);
        return wrap(new MemoryStore({ label: given.label, objects: memory }), index);
      },
    },
  });
  return {
    ...gateways,
    folder,
    stores,
    objects,
    poolFile,
    end: async () => {
      await gateways.stop(5000);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
