/**
 * What each operation means, as docs and the seed say: mode x onfail x which of three stores fail x at which point x
 * whether the name is new. Each case looks at the result, at every member's copy, at what a second machine with an empty
 * index learns of it, and at how often the source was read.
 */
import { describe, expect, it } from "vitest";
import { collect } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { Store } from "../../src/contract/store.ts";
import type { Body } from "../../src/contract/store.ts";
import { Faults, faulty } from "../../src/wrappers/faults.ts";
import type { Fault } from "../../src/wrappers/faults.ts";
import { memoryPool, switched, textOn } from "../helpers/memory-pool.ts";
import type { MemoryPoolOptions, Switched } from "../helpers/memory-pool.ts";

const SUBSETS = [[], [0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]] as const;
const LABELS = ["A", "B", "C"] as const;
const OLD = "old ".repeat(20_000);
const NEW = "the new one ".repeat(20_000);
const POINTS: Readonly<Record<string, Fault>> = {
  before: { kind: "fail", code: "denied" },
  "mid-stream": { kind: "fail-at", byte: 70_000, code: "full" },
  after: { kind: "fail-after", code: "unavailable" },
};
const CODES: Readonly<Record<string, string>> = { before: "denied", "mid-stream": "full", after: "unavailable" };

interface Trial {
  readonly members: readonly Switched[];
  readonly faults: readonly Faults[];
  readonly stores: readonly { store: Store }[];
}

function trial(): Trial {
  const members = LABELS.map((label) => switched(label));
  const faults = members.map(() => new Faults());
  return {
    members,
    faults,
    stores: members.map((member, i) => ({ store: faulty(member.store, faults[i] ?? new Faults()) })),
  };
}

/** A source that counts how often, and how many bytes of it, were read. */
function counted(text: string): { body: Body; opened: () => number; bytes: () => number } {
  let opened = 0;
  let bytes = 0;
  return {
    opened: () => opened,
    bytes: () => bytes,
    body: {
      size: undefined,
      reopenable: false,
      async *open() {
        opened++;
        const all = Buffer.from(text);
        for (let at = 0; at < all.length; at += 10_000) {
          const chunk = all.subarray(at, at + 10_000);
          bytes += chunk.length;
          yield chunk;
        }
      },
    },
  };
}

interface Outcome {
  readonly code: string;
  /** `store copy|delete`, of the answer. */
  readonly owed: readonly string[];
  /** Codes of every store's cause, of an error. */
  readonly causes: readonly string[];
  readonly cause: unknown;
}

async function outcomeOf(
  work: Promise<{ readonly owed?: readonly { store: string; owes: string }[] | undefined }>,
): Promise<Outcome> {
  try {
    const { owed } = await work;
    return { code: "ok", owed: (owed ?? []).map((debt) => `${debt.store} ${debt.owes}`), causes: [], cause: undefined };
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    return {
      code: error.code,
      owed: [],
      causes: error.errors.map((one) => `${one.store ?? ""} ${one.code}`),
      cause: error.cause,
    };
  }
}

async function readFrom(store: Store, name: string): Promise<string> {
  try {
    const { body } = await store.get(name);
    return Buffer.from(await collect(body)).toString();
  } catch (error) {
    if (error instanceof HoldfastError) return `error: ${error.code}`;
    throw error;
  }
}

async function listOf(store: Store): Promise<string> {
  const found: string[] = [];
  try {
    for await (const { name } of store.list("")) found.push(name);
  } catch (error) {
    if (error instanceof HoldfastError) return `error: ${error.code} after ${found.join(",")}`;
    throw error;
  }
  return found.join(",");
}

/** What a machine that never saw this pool knows of its debts. */
async function debtsElsewhere(trialOf: Trial, options: MemoryPoolOptions): Promise<string[]> {
  const { pool } = memoryPool(trialOf.members, options);
  const found: string[] = [];
  for await (const debt of pool.maintenance.debts()) found.push(`${debt.store} ${debt.owes}`);
  await pool.close();
  return found;
}

const label = (subset: readonly number[]): string => subset.map((i) => LABELS[i]).join("") || "none";

for (const existing of [false, true]) {
  describe(`put ${existing ? "over an object" : "of a new name"}`, () => {
    for (const [point, fault] of Object.entries(POINTS)) {
      for (const failing of SUBSETS) {
        for (const onfail of ["continue", "abort"] as const) {
          it(`mirror, ${onfail}: ${label(failing)} fail ${point}`, async () => {
            const t = trial();
            const { pool } = memoryPool(t.stores, { mode: "mirror", onfail });
            await pool.put("warm", counted("up").body);
            if (existing) await pool.put("x", counted(OLD).body);
            for (const i of failing) t.faults[i]?.script({ operation: "put", name: "x", times: Infinity, fault });
            const source = counted(NEW);
            const outcome = await outcomeOf(pool.put("x", source.body));
            const failed = failing.map((i) => LABELS[i] ?? "");
            const good = LABELS.filter((one) => !failed.includes(one));

            // The result, with every store's cause.
            const succeeds = failing.length === 0 || (onfail === "continue" && good.length > 0);
            expect(outcome.code).toBe(succeeds ? "ok" : CODES[point]);
            expect(outcome.owed).toEqual(succeeds ? failed.map((one) => `${one} copy`) : []);
            const own = outcome.causes.filter((one) => one.endsWith(CODES[point] ?? ""));
            expect(own.length > 0).toBe(!succeeds);
            expect(succeeds || onfail === "abort" ? failed.length : own.length).toBe(failed.length);
            // The source was read once, and no store was tried twice.
            expect([succeeds ? 1 : 0, 1]).toContain(source.opened());
            expect(source.bytes()).toBeLessThanOrEqual(NEW.length);
            for (const member of t.members) {
              expect(member.calls.filter((call) => call === "put x").length).toBeLessThanOrEqual(existing ? 2 : 1);
            }
            // Each copy is a whole version.
            const copies = t.members.map((member) => textOn(member, "x"));
            const versions = [NEW, existing ? OLD : undefined];
            for (const copy of copies) expect(versions).toContain(copy);
            const right = succeeds ? good.map((one) => copies[LABELS.indexOf(one)]) : [];
            expect(right).toEqual(right.map(() => NEW));

            // What the caller was told is durable: another machine, with no index, sees the same debts.
            const elsewhere = await debtsElsewhere(t, { mode: "mirror", onfail });
            expect(elsewhere).toEqual(expect.arrayContaining([...outcome.owed]));
            // A read gives what was acknowledged; after a failure either version, whole, and always the same one.
            const read = await readFrom(pool, "x");
            const legal = succeeds ? [NEW] : [NEW, existing ? OLD : "error: not-found"];
            expect(legal).toContain(read);

            // Faults over: repair brings it to one state, the one that was read.
            for (const faults of t.faults) faults.clear();
            const repaired = await pool.maintenance.repair();
            expect(repaired).toMatchObject({ whole: true, left: [] });
            expect((await pool.maintenance.repair()).planned).toBe(0);
            expect(await readFrom(pool, "x")).toBe(read);
            expect(new Set(t.members.map((member) => textOn(member, "x")))).toEqual(
              new Set([read === "error: not-found" ? undefined : read]),
            );
            await pool.close();
          });

          it(`stripe, ${onfail}: ${label(failing)} fail ${point}`, async () => {
            const t = trial();
            const { pool, context } = memoryPool(t.stores, { mode: "stripe", onfail });
            await pool.put("warm", counted("up").body);
            // The next turn is A's; an object that exists stays there while it can.
            context.ledger.index.setFact("turn", "0");
            if (existing) await pool.put("x", counted(OLD).body);
            context.ledger.index.setFact("turn", "0");
            for (const i of failing) t.faults[i]?.script({ operation: "put", name: "x", times: Infinity, fault });
            for (const member of t.members) member.calls.length = 0;
            const source = counted(NEW);
            const outcome = await outcomeOf(pool.put("x", source.body));
            const first = LABELS.findIndex((_, i) => !failing.some((one) => one === i));
            const succeeds = onfail === "continue" ? first !== -1 : first === 0;

            expect(outcome.code).toBe(succeeds ? "ok" : CODES[point]);
            expect(outcome.causes.filter((one) => one.endsWith(CODES[point] ?? ""))).toHaveLength(
              succeeds ? 0 : onfail === "abort" ? 1 : 3,
            );
            expect(outcome.owed.filter((one) => one.endsWith("copy"))).toEqual([]);
            expect([succeeds ? 1 : 0, 1]).toContain(source.opened());
            const tries = t.faults.map((faults) => faults.injected.length);
            expect(Math.max(...tries)).toBeLessThanOrEqual(1);
            const holding = t.members
              .filter((member) => textOn(member, "x") === NEW)
              .map((member) => member.store.label);
            expect(succeeds ? holding : []).toEqual(succeeds ? [LABELS[first]] : []);

            const read = await readFrom(pool, "x");
            const legal = succeeds ? [NEW] : [NEW, existing ? OLD : "error: not-found"];
            expect(legal).toContain(read);
            expect(await readFrom(memoryPool(t.members, { mode: "stripe" }).pool, "x")).toBe(read);
            for (const faults of t.faults) faults.clear();
            expect(await pool.maintenance.repair()).toMatchObject({ whole: true, left: [] });
            expect((await pool.maintenance.repair()).planned).toBe(0);
            expect(await readFrom(pool, "x")).toBe(read);
            const left = t.members.map((member) => textOn(member, "x")).filter((text) => text !== undefined);
            expect(new Set(left)).toEqual(new Set(read === "error: not-found" ? [] : [read]));
            await pool.close();
          });
        }
      }
    }
  });
}

for (const mode of ["mirror", "stripe"] as const) {
  for (const onfail of ["continue", "abort"] as const) {
    describe(`${mode}, ${onfail}, with stores down`, () => {
      for (const down of SUBSETS) {
        it(`get, stat, list and delete with ${label(down)} down`, async () => {
          const t = trial();
          const { pool } = memoryPool(t.stores, { mode, onfail, machine: "0000aaaa" });
          for (const [i, name] of ["p", "q", "r"].entries()) {
            // Stripe: one on each.
            await pool.put(name, counted(`${name} ${OLD} ${i}`).body);
          }
          const place = (name: string): number[] =>
            t.members.flatMap((member, i) => (textOn(member, name) === undefined ? [] : [i]));
          const places = new Map(["p", "q", "r"].map((name) => [name, place(name)]));
          for (const i of down) for (const member of [t.members[i]]) if (member !== undefined) member.down = true;
          for (const [i, name] of ["p", "q", "r"].entries()) {
            const reachable = (places.get(name) ?? []).some((one) => !down.some((gone) => gone === one));
            expect(await readFrom(pool, name)).toBe(reachable ? `${name} ${OLD} ${i}` : "error: unavailable");
          }
          // This machine wrote all there is, and most of the stores say that nobody else did meanwhile.
          const isSure = down.length < 2;
          expect(await listOf(pool)).toBe(isSure ? "p,q,r" : "error: incomplete after p,q,r");
          expect(await readFrom(pool, "never put")).toBe(`error: ${isSure ? "not-found" : "unavailable"}`);

          // A machine that knows nothing: absence is said only when every store has answered.
          const stranger = memoryPool(t.members, { mode, onfail }).pool;
          expect(await readFrom(stranger, "never put")).toBe(
            down.length === 0 ? "error: not-found" : "error: unavailable",
          );
          const listed = await listOf(stranger);
          expect(listed.startsWith("error: incomplete")).toBe(down.length > 0);
          expect(listed === "p,q,r").toBe(down.length === 0);
          await stranger.close();

          const deleted = await outcomeOf(pool.delete("q"));
          expect(deleted.code).toBe(down.length === 3 ? "unavailable" : "ok");
          const silent = down.map((i) => `${LABELS[i]} delete`);
          expect(deleted.owed).toEqual(down.length === 3 ? [] : silent);
          expect(deleted.causes).toHaveLength(down.length === 3 ? 3 : 0);
          for (const member of t.members) member.down = false;
          const later = memoryPool(t.members, { mode, onfail }).pool;
          expect(await listOf(later)).toBe(down.length === 3 ? "p,q,r" : "p,r");
          expect(await listOf(pool)).toBe(down.length === 3 ? "p,q,r" : "p,r");
          expect(await readFrom(later, "q")).toBe(down.length === 3 ? `q ${OLD} 1` : "error: not-found");
          expect(await pool.maintenance.repair()).toMatchObject({ whole: true });
          expect(place("q")).toEqual(down.length === 3 ? places.get("q") : []);
          await Promise.all([later.close(), pool.close()]);
        });
      }
    });
  }
}

describe("min", () => {
  for (const min of [1, 2, 3]) {
    for (const failing of SUBSETS) {
      it(`${min} copies wanted, ${label(failing)} fail`, async () => {
        const t = trial();
        const { pool } = memoryPool(t.stores, { mode: "mirror", onfail: "continue", min });
        await pool.put("warm", counted("up").body);
        for (const i of failing) {
          t.faults[i]?.script({ operation: "put", name: "x", times: Infinity, fault: { kind: "fail" } });
        }
        const outcome = await outcomeOf(pool.put("x", counted(NEW).body));
        const enough = 3 - failing.length >= min;
        expect(outcome.code).toBe(enough ? "ok" : "unavailable");
        expect(outcome.owed).toEqual(enough ? failing.map((i) => `${LABELS[i]} copy`) : []);
        expect(outcome.causes).toEqual(enough ? [] : failing.map((i) => `${LABELS[i]} unavailable`));
        await pool.close();
      });
    }
  }
});

describe("prefixes", () => {
  const options: MemoryPoolOptions = { mode: "mirror", prefixes: [["full"], ["full", "inc"], []] };

  it("send an object to the stores whose prefix it bears, and to all when none does", async () => {
    const t = trial();
    const { pool } = memoryPool(t.stores, options);
    for (const name of ["full-1", "inc-1", "other"]) await pool.put(name, counted(name).body);
    const on = (name: string): string[] =>
      t.members.filter((member) => textOn(member, name) !== undefined).map((member) => member.store.label);
    expect(["full-1", "inc-1", "other"].map(on)).toEqual([["A", "B"], ["B"], ["A", "B", "C"]]);
    expect(await listOf(pool)).toBe("full-1,inc-1,other");
    expect(await pool.maintenance.verify()).toMatchObject({ findings: 0 });
    expect(await pool.maintenance.repair()).toMatchObject({ planned: 0, whole: true });
    await pool.close();
  });

  it("make a store that does not bear the name no debtor of it", async () => {
    const t = trial();
    const { pool } = memoryPool(t.stores, options);
    await pool.put("warm", counted("up").body);
    for (const member of t.members.slice(1)) member.down = true;
    expect((await outcomeOf(pool.put("full-2", counted("x").body))).owed).toEqual(["B copy"]);
    expect((await outcomeOf(pool.put("inc-2", counted("x").body))).code).toBe("unavailable");
    await pool.close();
  });
});

describe("the seed's two bugs", () => {
  it("a mirror whose last store fails after another succeeded ends after one attempt at each", async () => {
    const t = trial();
    const { pool } = memoryPool(t.stores, { mode: "mirror", onfail: "continue" });
    t.faults[2]?.script({ operation: "put", name: "x", times: Infinity, fault: { kind: "fail" } });
    expect((await outcomeOf(pool.put("x", counted(NEW).body))).owed).toEqual(["C copy"]);
    expect(t.members.map((member) => member.calls.filter((call) => call === "put x").length)).toEqual([1, 1, 0]);
    expect(t.faults[2]?.injected).toHaveLength(1);
    await pool.close();
  });

  it("a read that fails on the first store goes on to the second, and to the third", async () => {
    const t = trial();
    const { pool } = memoryPool(t.stores, { mode: "mirror" });
    await pool.put("x", counted(NEW).body);
    t.faults[0]?.script({ operation: "get", name: "x", times: Infinity, fault: { kind: "fail" } });
    expect(await readFrom(pool, "x")).toBe(NEW);
    t.faults[1]?.script({ operation: "get", name: "x", times: Infinity, fault: { kind: "flip", byte: 100 } });
    expect(await readFrom(pool, "x")).toBe(NEW);
    await pool.close();
  });
});
