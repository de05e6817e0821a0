/** Damage done to stores that are in order, and what verify has to say of each piece of it. */
import { decodeSegment, SEGMENT_PREFIX } from "../../src/ledger/segment.ts";
import type { Finding, FindingKind } from "../../src/contract/pool.ts";
import type { Value } from "./oracle.ts";
import type { Random } from "./random.ts";
import type { Disk } from "./sim-store.ts";

/** What is right before the damage. */
export interface Order {
  readonly disks: readonly Disk[];
  readonly values: ReadonlyMap<string, Value>;
  /** Every value that was ever put under a name. */
  readonly former: (name: string) => readonly string[];
  /** Whether an object may have a place on one store and a second good copy, which is no fault, on another (stripe). */
  readonly spread: boolean;
  /** Names that the ledger knows to be deleted. */
  readonly deleted: ReadonlySet<string>;
}

export interface Corruption {
  readonly object: string;
  /** Undefined: the finding is of the object, wherever it stands. */
  readonly store: string | undefined;
  /** What verify may call it. */
  readonly kinds: readonly FindingKind[];
}

const EXTRA = "z/extra";
const WRONG: readonly FindingKind[] = ["corrupt", "truncated", "stale"];

/** Bytes with one changed, or with the end missing. */
export function spoiled(bytes: Buffer, random: Random): Buffer {
  if (random.chance(0.3)) return Buffer.from(bytes.subarray(0, random.below(bytes.length)));
  const changed = Buffer.from(bytes);
  const at = random.below(changed.length);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}

/** Damages one to five things, each on one store. Only one store's ledger, so that each segment stays whole somewhere. */
export function corrupt(order: Order, random: Random): readonly Corruption[] {
  const done = new Map<string, Corruption>();
  const scribe = random.pick(order.disks);
  for (let i = 1 + random.below(5); i > 0; i--) {
    const corruption =
      order.disks.length > 1 && random.chance(0.2)
        ? corruptLedger(scribe, random)
        : corruptObject(order, random.pick([...order.values.keys(), EXTRA]), random.pick(order.disks), done, random);
    if (corruption !== undefined) done.set(keyOf(corruption), corruption);
  }
  const lost = lostOf(order);
  return [
    ...[...done.values()].map((one) => (lost.includes(one.object) ? { ...one, kinds: [...one.kinds, ...WRONG] } : one)),
    ...lost.map((object): Corruption => ({ object, store: undefined, kinds: ["lost"] })),
  ];
}

function keyOf({ object, store }: { readonly object: string; readonly store?: string | undefined }): string {
  return `${object} ${store ?? ""}`;
}

/** Objects of which no store has a good copy any more. */
export function lostOf({ disks, values }: Pick<Order, "disks" | "values">): readonly string[] {
  return [...values]
    .filter(([name, value]) => value !== undefined && disks.every((disk) => textOn(disk, name) !== value))
    .map(([name]) => name);
}

function textOn(disk: Disk, name: string): Value {
  return disk.objects.get(name)?.toString();
}

function place(disk: Disk, name: string, bytes: Buffer | undefined): void {
  if (bytes === undefined) disk.objects.delete(name);
  else disk.objects.set(name, bytes);
  disk.forget();
}

function corruptLedger(disk: Disk, random: Random): Corruption | undefined {
  const names = disk.names(SEGMENT_PREFIX);
  if (names.length === 0) return undefined;
  const object = random.pick(names);
  const bytes = disk.objects.get(object) ?? Buffer.alloc(0);
  let damaged = random.chance(0.5) || bytes.length === 0 ? undefined : spoiled(bytes, random);
  // Some bits of a gzip header say nothing: the segment is as good as before.
  while (damaged !== undefined && isWhole(damaged)) damaged = spoiled(bytes, random);
  place(disk, object, damaged);
  return { object, store: disk.label, kinds: ["ledger"] };
}

function isWhole(segment: Buffer): boolean {
  try {
    decodeSegment(segment);
    return true;
  } catch {
    return false;
  }
}

function corruptObject(
  order: Order,
  object: string,
  disk: Disk,
  done: ReadonlyMap<string, Corruption>,
  random: Random,
): Corruption | undefined {
  const store = disk.label;
  if (done.has(keyOf({ object, store })) || done.has(keyOf({ object }))) return undefined;
  const right = order.values.get(object);
  if (textOn(disk, object) !== undefined) {
    if (random.chance(0.3)) {
      place(disk, object, undefined);
      return { object, store, kinds: ["missing"] };
    }
    const isSecond = order.spread && order.disks.some((other) => other !== disk && textOn(other, object) === right);
    place(disk, object, wrongBytes(order, object, disk, random));
    return { object, store, kinds: isSecond ? [...WRONG, "stray"] : WRONG };
  }
  if (right === undefined && !order.deleted.has(object)) {
    place(disk, object, Buffer.from("put by hand"));
    return { object, store: undefined, kinds: ["unrecorded"] };
  }
  place(disk, object, right === undefined ? Buffer.from("back again") : wrongBytes(order, object, disk, random));
  return { object, store, kinds: ["stray"] };
}

/** An earlier version, another object's bytes, or the right ones damaged. */
function wrongBytes({ values, former }: Order, name: string, disk: Disk, random: Random): Buffer {
  const right = values.get(name) ?? "";
  const earlier = former(name).filter((value) => value !== right);
  if (earlier.length > 0 && random.chance(0.3)) return Buffer.from(random.pick(earlier));
  const others = [...values.keys()].map((other) => textOn(disk, other)).filter((text) => text !== undefined);
  const swapped = others.filter((text) => text !== right);
  if (swapped.length > 0 && random.chance(0.3)) return Buffer.from(random.pick(swapped));
  return spoiled(Buffer.from(right), random);
}

/** What verify said that it should not have, or did not say; undefined when it is right. */
export function compareFindings(expected: readonly Corruption[], findings: readonly Finding[]): string | undefined {
  const wanted = new Map(expected.map((one) => [keyOf(one), one]));
  for (const finding of findings) {
    const one = wanted.get(keyOf(finding));
    if (one === undefined) return `a false alarm: ${JSON.stringify(finding)}`;
    if (!one.kinds.includes(finding.kind)) return `${JSON.stringify(one)} taken for ${JSON.stringify(finding)}`;
  }
  const found = new Set(findings.map(keyOf));
  for (const [key, one] of wanted) if (!found.has(key)) return `unseen: ${JSON.stringify(one)}`;
  return findings.length === found.size ? undefined : "one thing reported twice";
}
