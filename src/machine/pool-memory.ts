/** This machine's memory in the cache: its own id, the index of each pool, and the pool that each store belonged to. */
import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { toHoldfastError } from "../contract/errors.ts";
import { INDEX_NOT_KEPT } from "../contract/log.ts";
import type { Logger } from "../contract/log.ts";
import { systemRuntime } from "../contract/runtime.ts";
import { systemWords } from "../contract/system-words.ts";
import { loadDigests } from "../ledger/digest.ts";
import { MemoryIndex } from "../ledger/ledger-index.ts";
import type { LedgerIndex } from "../ledger/ledger-index.ts";
import type { Member } from "../ledger/member.ts";
import { makeFolderSync } from "../support/make-folder.ts";
import { cacheFolderPath, readNote, writeFirstNote, writeNote } from "./cache-folder.ts";

/** The cache folder, made if it does not exist. Undefined: nothing is kept. */
export function cacheFolder(cache: string | false | undefined): string | undefined {
  if (cache === false) return undefined;
  const folder = cache ?? cacheFolderPath();
  try {
    makeFolderSync(folder);
    return folder;
  } catch {
    // A machine that cannot keep a cache reads the ledgers anew each time.
    return undefined;
  }
}

/**
 * 8 hexadecimal digits that stand for this machine. Made once and kept in the cache. If the cache is lost or damaged, the
 * machine no longer knows its own writes, so it must count as another machine.
 */
export function machineId(cache: string | undefined): string {
  const fresh = systemRuntime.randomHex(16);
  let kept = fresh;
  if (cache !== undefined) {
    const path = join(cache, "machine");
    try {
      if (readNote(path) === undefined) writeFirstNote(path, fresh);
    } catch {
      // Without the note, it counts as another machine each time.
    }
    kept = readNote(path) ?? fresh;
  }
  // Copies of one disk image on several machines differ in their names.
  return createHash("sha256").update(`${kept}\0${hostname()}`).digest("hex").slice(0, 8);
}

/** Returns the function that opens a pool's index: in files of the cache, or in memory if there is no cache. */
export async function indexOpener(cache: string | undefined, logger: Logger): Promise<(pool: string) => LedgerIndex> {
  if (cache === undefined) return () => new MemoryIndex();
  const { openFileIndex, UnsharedIndex } = await import("./local-index/file-index.ts");
  await loadDigests();
  return (pool) => {
    const folder = join(cache, "pools", pool);
    try {
      return openFileIndex(folder, { logger });
    } catch (error) {
      logger.warn(INDEX_NOT_KEPT, { folder, reason: systemWords(error) });
      return new UnsharedIndex(folder, { logger });
    }
  };
}

function pointer(cache: string, address: string): string {
  return join(cache, "stores", address);
}

/** The pool that a store at this address belonged to when this machine last saw it. */
export function remembered(cache: string | undefined, address: string): string | undefined {
  return cache === undefined ? undefined : readNote(pointer(cache, address));
}

/** Remembers the pool that stores belong to. If that fails, the next run does not know it; nothing else is lost. */
export function rememberPool(
  cache: string | undefined,
  members: readonly Member[],
  pool: string,
  logger: Logger,
): void {
  if (cache === undefined) return;
  const unknown = members.filter(({ fingerprint }) => remembered(cache, fingerprint) !== pool);
  if (unknown.length === 0) return;
  try {
    makeFolderSync(join(cache, "stores"));
    for (const { fingerprint } of unknown) writeNote(pointer(cache, fingerprint), pool);
  } catch (error) {
    logger.debug("the cache cannot be written", { reason: toHoldfastError(error).message });
  }
}

/**
 * Forgets that these stores belonged to a pool. The index of the pool stays. It is used again only if a store names the
 * pool.
 */
export function forgetPool(cache: string | undefined, members: readonly Member[], pool: string): void {
  if (cache === undefined) return;
  for (const address of members.flatMap((member) => member.addresses)) {
    if (remembered(cache, address) === pool) rmSync(pointer(cache, address), { force: true });
  }
}
