/**
 * How the stores of a pool are told apart while they are silent, and how stores that stand in each other are found.
 *
 * An address is made of a store's place: where it keeps its objects, and as which user, by its URL and its environment. No
 * secret goes into it, nor into its digest, which stands on stores that others may read.
 */
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { HoldfastError } from "../contract/errors.ts";
import { nestedLabel } from "../contract/nested-label.ts";
import { placeOf } from "./open-store.ts";
import type { StoreKinds, StorePlace } from "./base/store-kind.ts";
import type { PoolDescription, StoreDescription } from "../config/pool-config.ts";

/** Where each store of a pool is that is no pool itself, at every depth. */
export type Places = ReadonlyMap<StoreDescription, StorePlace>;

/** A folder of this machine that a store keeps its objects in. */
export interface StoreFolder {
  /** Label of the store, below those of the pools that it is in. */
  readonly label: string;
  /** Absolute, without symbolic links. */
  readonly folder: string;
}

/** Finds out where the stores of a pool are: follows links, and reads what says it on this machine, but asks no store. */
export async function placesOf(pool: PoolDescription, kinds?: StoreKinds): Promise<Places> {
  const stores = leavesOf(pool).map(({ store }) => store);
  const found = await Promise.all(
    stores.map(async (store) => [store, (await placeOf(store.parsed, store.env, kinds)) ?? placeByUrl(store)] as const),
  );
  return new Map(found);
}

/**
 * 32 hexadecimal digits that stand for the place of a store: one for all spellings of it, whatever the password is. A pool's
 * are made of those of its stores, in any order.
 */
export function addressOf(store: StoreDescription, places: Places): string {
  if (store.pool === undefined) return digest(addressParts(store, places));
  return digest(["pool", ...store.pool.stores.map((one) => addressOf(one, places)).sort()]);
}

/** The address of a store as it was made before environments, users and links counted: older pools know their stores by it. */
export function formerAddressOf({ parsed }: StoreDescription): string {
  const { scheme, host, port, path, query = "" } = parsed;
  const parameters = query.split("&").filter((part) => !/^[^=]*(?:key|secret|token|pass|sig|auth)/iu.test(part));
  const place = scheme === "file" ? resolve(path) : `${host}:${port ?? ""}${path}?${parameters.sort().join("&")}`;
  return createHash("sha256").update(`${scheme} ${place}`).digest("hex").slice(0, 32);
}

/** The folders of this machine among a pool's stores. */
export function storeFolders(pool: PoolDescription, places: Places): readonly StoreFolder[] {
  return leavesOf(pool).flatMap(({ store, label }) => {
    const folder = places.get(store)?.folder;
    return folder === undefined ? [] : [{ label, folder }];
  });
}

/**
 * Refuses a pool of which one store is another, or stands in it: what is put into the inner one would be in the outer one's
 * listing, and each repair would copy it once more. Only what is certain is refused. Throws `config`.
 */
export function refuseStoresInStores(pool: PoolDescription, places: Places): void {
  const leaves = leavesOf(pool);
  for (const [index, one] of leaves.entries()) {
    for (const other of leaves.slice(index + 1)) refusePair(one, other, places);
  }
}

/** A store that is no pool, and what it is called below the pools that it is in. */
interface Leaf {
  readonly store: StoreDescription;
  readonly label: string;
}

function leavesOf(pool: PoolDescription, above?: string): readonly Leaf[] {
  return pool.stores.flatMap((store) => {
    const label = above === undefined ? store.label : nestedLabel(above, store.label);
    return store.pool === undefined ? [{ store, label }] : leavesOf(store.pool, label);
  });
}

/** For a scheme that is unknown here, and for what opening is going to refuse. */
function placeByUrl({ parsed, env }: StoreDescription): StorePlace {
  const { scheme, username = "", host, port, path } = parsed;
  return {
    server: [scheme, username, host, String(port ?? ""), path],
    path: [],
    login: JSON.stringify([parsed.text, env]),
  };
}

function digest(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}

function addressParts(store: StoreDescription, places: Places): readonly string[] {
  const { server, path, login } = places.get(store) ?? placeByUrl(store);
  // Where only a secret tells which account it is, its description has to.
  const name = login === undefined ? [] : [`description ${store.description ?? ""}`];
  return [String(server.length), ...server, ...path, ...name];
}

function refusePair(one: Leaf, other: Leaf, places: Places): void {
  const [a, b] = [places.get(one.store), places.get(other.store)];
  if (a === undefined || b === undefined || !isEqual(a.server, b.server)) return;
  if (a.login !== b.login) {
    // Perhaps they are two accounts; but one must never be taken for the other while it is silent.
    if (!isEqual(addressParts(one.store, places), addressParts(other.store, places))) return;
    throw refusal(
      `the stores ${shown(one, a)} and ${shown(other, b)} differ only in secrets, which cannot tell them apart: give each a "description" of its own`,
    );
  }
  if (isEqual(a.path, b.path)) {
    throw refusal(
      `the stores ${shown(one, a)} and ${shown(other, b)} are the same place: give each a place of its own, or leave one out`,
    );
  }
  const isFirstInner = a.path.length > b.path.length;
  const [inner, outer] = isFirstInner ? [a, b] : [b, a];
  if (!isEqual(inner.path.slice(0, outer.path.length), outer.path)) return;
  const [innerShown, outerShown] = isFirstInner ? [shown(one, a), shown(other, b)] : [shown(other, b), shown(one, a)];
  throw refusal(
    `the store ${innerShown} is inside the store ${outerShown}, which would take its files for objects: give each a place beside the other`,
  );
}

function isEqual(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((part, place) => part === b[place]);
}

function refusal(message: string): HoldfastError {
  return new HoldfastError("config", message, { operation: "open" });
}

/** Its label, its URL where that is another, and the folder that links lead to. */
function shown({ label, store }: Leaf, { folder }: StorePlace): string {
  const { redacted } = store.parsed;
  const written = redacted.replace(/^file:\/\//u, "").replace(/(?<=.)\/+$/u, "");
  const more = [
    ...(label.includes(redacted) ? [] : [redacted]),
    ...(folder === undefined || folder === written ? [] : [`really ${folder}`]),
  ];
  return more.length === 0 ? label : `${label} (${more.join(", ")})`;
}
