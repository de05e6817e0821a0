/** 10,000 corruptions of every kind over a pool of 10,500 objects: verify names all and nothing else, repair mends. */
import { expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Finding } from "../../src/contract/pool.ts";
import { MemoryObjects } from "../../src/stores/memory.ts";
import { seededRandom } from "../../src/wrappers/faults.ts";
import { memoryPool, switched } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";

const OBJECTS = 10_500;
const CORRUPTIONS = 10_000;
const SEED = Number(process.env["HOLDFAST_SEED"] ?? "20260727");

/** The objects of a member, copied: what a disk's image would be. */
function snapshot(member: Switched): Map<string, Uint8Array> {
  const all = new Map<string, Uint8Array>();
  for (let name = member.objects.next("", false); name !== undefined; name = member.objects.next(name, true)) {
    all.set(name, Buffer.from(member.objects.get(name)?.bytes ?? []));
  }
  return all;
}

function same(one: ReadonlyMap<string, Uint8Array>, other: ReadonlyMap<string, Uint8Array>): boolean {
  if (one.size !== other.size) return false;
  for (const [name, bytes] of one) {
    const found = other.get(name);
    if (found === undefined || Buffer.compare(bytes, found) !== 0) return false;
  }
  return true;
}

const key = (finding: Pick<Finding, "kind" | "object" | "store">): string =>
  `${finding.object} ${finding.store ?? "-"} ${finding.kind}`;

it(`finds and mends 10,000 injected corruptions (seed ${SEED})`, { timeout: 120_000 }, async () => {
  const random = seededRandom(SEED);
  const below = (limit: number): number => Math.floor(random() * limit);
  const members: Switched[] = ["A", "B", "C"].map((label) => switched(label, new MemoryObjects()));
  const { pool, context } = memoryPool(members, { machine: "00000001", freshMs: 1000 });
  const names = Array.from({ length: OBJECTS }, (_, i) => `d${i % 97}/object-${String(i).padStart(5, "0")}`);
  const content = (name: string, version: number): Buffer => {
    const bytes = Buffer.alloc(20 + ((name.length * 7 + version * 13) % 60), `${name} ${version} `);
    return bytes;
  };
  // Every third object has an earlier version, so that a stale copy is an old one and no mere damage.
  const old = new Map<string, Buffer>();
  const started = performance.now();
  const lap = (what: string): void => {
    if (process.env["HOLDFAST_LAPS"] !== undefined) console.info(what, Math.round(performance.now() - started));
  };
  const inBatches = async (list: readonly string[], work: (name: string) => Promise<unknown>): Promise<void> => {
    for (let i = 0; i < list.length; i += 500) await Promise.all(list.slice(i, i + 500).map(work));
  };
  const twice = names.filter((_, i) => i % 3 === 0);
  for (const name of twice) old.set(name, content(name, 1));
  await inBatches(twice, (name) => pool.put(name, toBody(content(name, 1))));
  await inBatches(names, (name) => pool.put(name, toBody(content(name, 2))));
  // What was put is noted, and the ledger's segments are merged, in the background: from here on nothing is left of that.
  await context.ledger.settle();
  lap("put");
  const before = members.map(snapshot);

  // What is done, and what verify must say of it. Each object is touched on at most two of its three stores, but for the
  // last hundred, which are lost on all three.
  const expected = new Set<string>();
  const lostNames = new Set<string>();
  const put = (member: Switched, name: string, bytes: Uint8Array): void =>
    member.objects.set(name, { bytes, modifiedMs: 1 });
  const kinds = ["flip", "truncate", "swap", "old", "missing", "extra"] as const;
  const order = names
    .map((name) => ({ name, at: random() }))
    .sort((one, two) => one.at - two.at)
    .map(({ name }) => name);
  const lost = order.splice(0, 100);
  let injected = 0;
  let extras = 0;
  const spare = new Set(order);
  const take = (test: (name: string) => boolean = () => true): string | undefined => {
    for (const name of spare) {
      if (!test(name)) continue;
      spare.delete(name);
      return name;
    }
    return undefined;
  };
  while (injected < CORRUPTIONS - lost.length * 3) {
    const kind = kinds[below(kinds.length)] ?? "flip";
    const name = kind === "extra" ? `extra/${extras++}` : take(kind === "old" ? (one) => old.has(one) : undefined);
    if (name === undefined) continue;
    const first = below(3);
    const touched = [members[first], ...(random() < 0.5 ? [members[(first + 1) % 3]] : [])].filter(
      (member) => member !== undefined,
    );
    const good = content(name, 2);
    if (kind === "extra") {
      // The same bytes wherever it stands: put there by hand, and adopted.
      for (const member of touched) put(member, name, Buffer.from(`extra ${name}`));
      expected.add(`${name} - unrecorded`);
      injected++;
      continue;
    }
    const other = kind === "swap" ? take() : undefined;
    for (const member of touched) {
      injected++;
      if (kind === "flip") {
        const bytes = Buffer.from(good);
        const at = below(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
        put(member, name, bytes);
        expected.add(`${name} ${member.store.label} corrupt`);
      } else if (kind === "truncate") {
        put(member, name, good.subarray(0, below(good.length)));
        expected.add(`${name} ${member.store.label} truncated`);
      } else if (kind === "swap" && other !== undefined) {
        injected++;
        put(member, name, content(other, 2));
        put(member, other, good);
        for (const one of [name, other]) {
          const wrong = content(one === name ? other : name, 2);
          const shorter = wrong.length < content(one, 2).length;
          expected.add(`${one} ${member.store.label} ${shorter ? "truncated" : "corrupt"}`);
        }
      } else if (kind === "old") {
        put(member, name, content(name, 1));
        expected.add(`${name} ${member.store.label} stale`);
      } else {
        member.objects.delete(name);
        expected.add(`${name} ${member.store.label} missing`);
      }
    }
  }
  for (const name of lost) {
    lostNames.add(name);
    expected.add(`${name} - lost`);
    for (const member of members) {
      const bytes = content(name, 2);
      bytes[0] = (bytes[0] ?? 0) ^ 0xff;
      put(member, name, bytes);
      expected.add(`${name} ${member.store.label} corrupt`);
      injected++;
    }
  }
  expect(injected).toBeGreaterThanOrEqual(CORRUPTIONS);

  lap("spoiled");
  const spoiled = members.map(snapshot);
  const found = new Set<string>();
  const report = await pool.maintenance.verify({ onFinding: (finding) => found.add(key(finding)) });
  expect(members.map((member, i) => same(snapshot(member), spoiled[i] ?? new Map()))).toEqual([true, true, true]);
  lap("verified");
  expect(report.unheard).toEqual([]);
  const unexpected = [...found].filter((one) => !expected.has(one));
  const unseen = [...expected].filter((one) => !found.has(one));
  expect({ unexpected: unexpected.slice(0, 5), unseen: unseen.slice(0, 5) }).toEqual({ unexpected: [], unseen: [] });

  const repaired = await pool.maintenance.repair();
  lap("repaired");
  expect(repaired.whole).toBe(false);
  expect(repaired.failed).toBe(0);
  // Each lost object is named once as lost, and once for each of its damaged copies; nothing else is left.
  expect(new Set(repaired.left.map((finding) => finding.object))).toEqual(lostNames);
  expect(repaired.left.filter((finding) => finding.kind === "lost")).toHaveLength(lost.length);
  for (const [i, member] of members.entries()) {
    const now = snapshot(member);
    const wrong = [...(before[i] ?? [])].filter(
      ([name, bytes]) =>
        !name.startsWith(".holdfast/") &&
        !lostNames.has(name) &&
        Buffer.compare(now.get(name) ?? Buffer.of(), bytes) !== 0,
    );
    expect(wrong.map(([name]) => name)).toEqual([]);
    // What could not be mended is kept as it is: somebody may still save bytes from it.
    for (const name of lostNames) expect(now.get(name)).toEqual(spoiled[i]?.get(name));
  }

  for (const member of members) member.calls.length = 0;
  const again = await pool.maintenance.repair();
  expect(again).toMatchObject({ planned: 0, done: 0, bytes: 0 });
  expect(members.flatMap((member) => member.calls).filter((call) => /^(?:put|delete) /u.test(call))).toEqual([]);
  await pool.close();
  console.info(`corruptions: ${injected} injected, ${found.size} found, ${lost.length} objects beyond mending`);
});
