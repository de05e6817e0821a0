/** Copies between the stores of a pool: read from good copies, checked on the way and confirmed on arrival. */
import { toBody } from "../contract/body.ts";
import { ContentDigest } from "../ledger/digest.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { Member } from "../ledger/member.ts";
import type { PutRecord } from "../ledger/record.ts";
import type { Body } from "../contract/store.ts";
import { verifiedRead } from "./verified-read.ts";

/**
 * Copies from good copies, checked piece by piece, or from `kept`, which are bytes with the record's digest. Confirms
 * the new copy.
 */
export async function copyTo(
  record: PutRecord,
  good: readonly Member[],
  to: Member,
  signal: AbortSignal | undefined,
  kept?: Uint8Array,
): Promise<void> {
  const { content, name } = record;
  const sources = good.filter((member) => member !== to).map((member) => ({ store: member.store }));
  const body: Body =
    kept === undefined
      ? {
          size: content.size,
          reopenable: true,
          open: () => verifiedRead(sources, { name, content, start: 0, end: content.size, signal }),
        }
      : toBody(kept);
  await to.store.put(name, body, { signal });
  await confirm(to, record, signal);
}

/**
 * Reads a copy back, or takes the store's own SHA-256 for it. Throws `corrupt` when it differs from the bytes that were
 * put.
 */
async function confirm(member: Member, record: PutRecord, signal: AbortSignal | undefined): Promise<void> {
  const { name, content } = record;
  const wrong = (why: string): HoldfastError =>
    new HoldfastError("corrupt", `the copy that ${member.label} stored is wrong: ${why}`, {
      store: member.label,
      object: name,
    });
  if (member.store.capabilities.storeDigests.includes("sha256")) {
    const info = await member.store.stat(name, { signal });
    if (info.digests?.sha256 === content.sha256 && info.size === content.size) return;
  }
  if ((await readDigest(member, name, content.size, signal)) !== content.sha256) throw wrong("its digest is different");
}

/** The SHA-256 of a store's copy. `size`: its expected size, in bytes. */
export async function readDigest(
  { store }: Member,
  name: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  if (store.hash !== undefined) return (await store.hash(name, { signal })).sha256;
  const { body } = await store.get(name, { signal });
  const digest = new ContentDigest(size);
  for await (const chunk of body) digest.update(chunk);
  return digest.finish().sha256;
}
