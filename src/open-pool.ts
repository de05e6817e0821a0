/** Opens a pool: reads its description, opens its stores, and puts the ledger, the pool and repair over them. */
import { Ledger } from "./ledger/ledger.ts";
import { Member } from "./ledger/member.ts";
import { isLiveWriter, registerWriter, unregisterWriter } from "./machine/live-writers.ts";
import { cacheFolder, forgetPool, indexOpener, machineId, remembered, rememberPool } from "./machine/pool-memory.ts";
import { silentLogger } from "./contract/log.ts";
import type { Logger } from "./contract/log.ts";
import type { StoreKinds } from "./stores/base/store-kind.ts";
import { openStore } from "./stores/open-store.ts";
import type { OpenStoreOptions } from "./stores/open-store.ts";
import { parsePool, poolOfOne } from "./config/pool-config.ts";
import type { PoolDescription, SingleDescription, StoreDescription } from "./config/pool-config.ts";
import type { Pool } from "./contract/pool.ts";
import { maintainedPool } from "./repair/maintained-pool.ts";
import type { PoolBelow } from "./repair/nested-maintenance.ts";
import { replayable } from "./support/replayable.ts";
import { systemRuntime } from "./contract/runtime.ts";
import type { Runtime } from "./contract/runtime.ts";
import { addressOf, formerAddressOf, placesOf, refuseStoresInStores } from "./stores/store-address.ts";
import type { Places } from "./stores/store-address.ts";
import type { Store } from "./contract/store.ts";
import { sharedBandwidth } from "./wrappers/bandwidth.ts";
import { guarded } from "./wrappers/guarded.ts";

export interface OpenPoolOptions {
  /**
   * Where the local index is kept: a folder, or false for memory only. Default `$HOLDFAST_CACHE`, else
   * `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It can be deleted at any time.
   */
  readonly cache?: string | false | undefined;
  readonly logger?: Logger | undefined;
  readonly runtime?: Runtime | undefined;
  /** Kinds of store of one's own, by the schemes of their URLs. They go before Holdfast's. Default none. */
  readonly kinds?: StoreKinds | undefined;
  /** How stores are opened; `openStore` by default. For what stands around every store, such as a measurement. */
  readonly openStore?: ((url: string, options: OpenStoreOptions) => Promise<Store>) | undefined;
  /** Cancels opening. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens the pool that `source` names: a `multi://` URL, the path of a pool file, or what `parsePool` gave. A
 * single store's URL is opened as a mirror of that one store. Throws `config` for what cannot be a pool. Stores that
 * are down do not hinder opening.
 */
export async function openPool(
  source: string | PoolDescription | SingleDescription,
  options: OpenPoolOptions = {},
): Promise<Pool> {
  const parsed = typeof source === "string" ? await parsePool(source) : source;
  const logger = options.logger ?? silentLogger;
  for (const warning of parsed.warnings) logger.warn(warning);
  const description = parsed.kind === "pool" ? parsed : poolOfOne(parsed);
  const places = await placesOf(description, options.kinds);
  refuseStoresInStores(description, places);
  return openDescribed(description, places, options);
}

/** `nestedAs`: what the pool above calls this one, where there is one. */
async function openDescribed(
  description: PoolDescription,
  places: Places,
  options: OpenPoolOptions,
  nestedAs?: string,
): Promise<Pool> {
  const logger = options.logger ?? silentLogger;
  const runtime = options.runtime ?? systemRuntime;
  const share = sharedBandwidth({
    runtime,
    upBytesPerSecond: description.limitUp,
    downBytesPerSecond: description.limitDown,
  });
  const below: PoolBelow[] = [];
  const members = await Promise.all(
    description.stores.map(async (store, position) => {
      let opened: Store;
      if (store.pool === undefined) {
        opened = guarded(share(await openMember(store, options)), { ...description, runtime, logger });
      } else {
        const pool = await openDescribed(store.pool, places, options, store.label);
        below.push({ label: store.label, maintenance: pool.maintenance });
        opened = pool;
      }
      return new Member(
        {
          store: opened,
          fingerprint: addressOf(store, places),
          formerFingerprints: formerOf(store, description),
          prefixes: store.prefixes,
          weight: store.weight,
        },
        position,
      );
    }),
  );
  const ledger = await openLedger(members, options.cache, runtime, logger);
  return maintainedPool(
    {
      label: nestedAs ?? description.sourcePath ?? members.map((member) => member.label).join(" + "),
      ledger,
      mode: description.mode,
      onfail: description.onfail,
      min: description.min,
      place: description.place,
      read: description.read,
      wait: description.wait,
      runtime,
      logger,
      replayable,
      nested: nestedAs !== undefined,
    },
    below,
  ).pool;
}

/** The ledger of these stores, with what this machine remembers of them. */
async function openLedger(
  members: readonly Member[],
  folder: string | false | undefined,
  runtime: Runtime,
  logger: Logger,
): Promise<Ledger> {
  const cache = cacheFolder(folder);
  const machine = machineId(cache);
  const writer = machine + runtime.randomHex(4);
  const openIndex = await indexOpener(cache, logger);
  const ledger: Ledger = new Ledger({
    members,
    runtime,
    logger,
    machine,
    writer,
    openIndex: (pool) => {
      const index = openIndex(pool);
      registerWriter(index, writer);
      return index;
    },
    isLiveWriter: (other) =>
      other.startsWith(machine) ? isLiveWriter(ledger.index, other, ledger.isComplete) : undefined,
    onClose: (index) => unregisterWriter(index, writer),
    remembered: (address) => remembered(cache, address),
    onPool: (pool, named) => rememberPool(cache, named, pool, logger),
    onForget: (pool) => forgetPool(cache, members, pool),
  });
  return ledger;
}

async function openMember(store: StoreDescription, options: OpenPoolOptions): Promise<Store> {
  const open = options.openStore ?? openStore;
  return open(store.url, {
    label: store.label,
    env: store.env,
    kinds: options.kinds,
    ...(options.runtime === undefined ? {} : { runtime: options.runtime }),
    ...(options.logger === undefined ? {} : { logger: options.logger }),
    signal: options.signal,
  });
}

/** The address that earlier versions knew a store by, where it is no other store's of the pool. */
function formerOf(store: StoreDescription, { stores }: PoolDescription): readonly string[] {
  const former = formerAddressOf(store);
  return stores.filter((other) => formerAddressOf(other) === former).length > 1 ? [] : [former];
}
