/** Puts and deletes of a pool under a condition of the caller. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Body, ObjectInfo, Store } from "../../src/contract/store.ts";
import { gate } from "../helpers/gate.ts";
import { errorOf } from "../helpers/folder-pool.ts";
import { memoryPool, switched } from "../helpers/memory-pool.ts";
import type { Switched } from "../helpers/memory-pool.ts";
import { readText } from "../helpers/store-answers.ts";

const two = (): [Switched, Switched] => [switched("A"), switched("B")];

/** A body whose bytes come when `send` is called; `opened` resolves when it is asked for them. */
function heldBody(text: string): { body: Body; opened: Promise<void>; send: () => void } {
  const [opened, sent] = [gate(), gate()];
  const body: Body = {
    size: text.length,
    reopenable: true,
    async *open() {
      opened.open();
      await sent.opened;
      yield Buffer.from(text);
    },
  };
  return { body, opened: opened.opened, send: () => sent.open() };
}

class Refusal extends Error {}

/** What some work resolves or rejects with. */
const settled = (work: Promise<unknown>): Promise<unknown> => work.catch((error: unknown) => error);

const ifAbsent = (current: ObjectInfo | undefined): void => {
  if (current !== undefined) throw new Refusal("it is there");
};

describe("a put with onlyIf", () => {
  it("is asked when the put before it is over, and sees what that one put", async () => {
    const { pool } = memoryPool(two());
    const first = heldBody("first");
    const putting = pool.put("x", first.body);
    await first.opened;
    const second = pool.put("x", toBody("second"), { onlyIf: ifAbsent });
    const outcome = settled(second);
    first.send();
    await putting;
    expect(await outcome).toBeInstanceOf(Refusal);
    expect(await readText(pool, "x")).toBe("first");
    await pool.close();
  });

  it("is told of no object where there is none, and then puts", async () => {
    const { pool } = memoryPool(two());
    const seen: (ObjectInfo | undefined)[] = [];
    await pool.put("x", toBody("1"), { onlyIf: (current) => seen.push(current) });
    await pool.delete("x");
    await pool.put("x", toBody("2"), { onlyIf: (current) => seen.push(current) });
    expect(seen).toEqual([undefined, undefined]);
    expect(await readText(pool, "x")).toBe("2");
    await pool.close();
  });

  it("is told what stat gives", async () => {
    const { pool } = memoryPool(two());
    await pool.put("x", toBody("1"), { metadata: { colour: "red" } });
    let seen: ObjectInfo | undefined;
    await pool.put("x", toBody("2"), { onlyIf: (current) => (seen = current), metadata: { colour: "blue" } });
    expect(seen).toMatchObject({ name: "x", size: 1, metadata: { colour: "red" } });
    expect(seen?.digests?.sha256).toHaveLength(64);
    await pool.close();
  });

  it("hears of what another machine put a moment ago", async () => {
    const members = two();
    const [mine, other] = [memoryPool(members, { freshMs: 600_000 }), memoryPool(members)];
    await mine.pool.put("x", toBody("1"));
    await other.pool.put("x", toBody("theirs"));
    let seen: ObjectInfo | undefined;
    const onlyIf = (current: ObjectInfo | undefined): void => {
      seen = current;
      throw new Refusal("it was changed");
    };
    await expect(mine.pool.put("x", toBody("mine"), { onlyIf })).rejects.toBeInstanceOf(Refusal);
    expect(seen).toMatchObject({ size: 6 });
    expect(await readText(other.pool, "x")).toBe("theirs");
    await mine.pool.close();
    await other.pool.close();
  });

  it("that is refused opens no body and writes to no store", async () => {
    const members = two();
    const { pool } = memoryPool(members);
    await pool.put("x", toBody("1"));
    const before = members.map(({ calls }) => calls.length);
    let opened = false;
    const body: Body = {
      size: 1,
      reopenable: true,
      // eslint-disable-next-line require-yield -- never asked for a byte
      async *open() {
        opened = true;
      },
    };
    await expect(pool.put("x", body, { onlyIf: ifAbsent })).rejects.toBeInstanceOf(Refusal);
    const after = members.flatMap(({ calls }, index) => calls.slice(before[index]));
    expect(opened).toBe(false);
    expect(after.filter((call) => /^(?:put|delete) /u.test(call))).toEqual([]);
    await pool.close();
  });

  it("rejects with the very error that the condition threw", async () => {
    const { pool } = memoryPool(two());
    await pool.put("x", toBody("1"));
    const refusal = new HoldfastError("conflict", "not now");
    const onlyIf = (): void => {
      throw refusal;
    };
    expect(await errorOf(pool.put("x", toBody("2"), { onlyIf }))).toBe(refusal);
    await pool.close();
  });

  it("is refused while a silent store may have the object, and the condition is not asked", async () => {
    const members = two();
    const [mine, other] = [memoryPool(members), memoryPool(members)];
    await mine.pool.put("something", toBody("else"));
    await other.pool.put("something", toBody("new"));
    members[1].down = true;
    let asked = false;
    const error = await errorOf(mine.pool.put("x", toBody("mine"), { onlyIf: () => (asked = true) }));
    expect([error.code, error.object]).toEqual(["unavailable", "x"]);
    expect(asked).toBe(false);
    await mine.pool.close();
    await other.pool.close();
  });

  it("is refused while a silent store may have what an earlier put of this process left", async () => {
    const members = two();
    let lost = false;
    const losing = members.map(({ store }) => ({
      store: {
        ...store,
        put: async (...given: Parameters<Store["put"]>) => {
          const result = await store.put(...given);
          if (lost && given[0] === "x") throw new HoldfastError("unavailable", "the answer was lost");
          return result;
        },
      },
    }));
    const { pool } = memoryPool(losing);
    await pool.put("something", toBody("else"));
    lost = true;
    await errorOf(pool.put("x", toBody("left")));
    lost = false;
    members[0].objects.delete("x");
    members[1].down = true;
    expect(await errorOf(pool.put("x", toBody("mine"), { onlyIf: ifAbsent }))).toMatchObject({ code: "unavailable" });
    await pool.close();
  });

  it("is told what the copies say where a write was cut short", async () => {
    const members = two();
    const { pool } = memoryPool(members);
    await pool.put("x", toBody("first"));
    for (const member of members) {
      member.onCall = (operation, name) => {
        if (operation === "put" && name === "x") throw new HoldfastError("unavailable", "the connection broke");
      };
    }
    await errorOf(pool.put("x", toBody("second")));
    for (const member of members) member.onCall = undefined;
    let seen: ObjectInfo | undefined;
    await pool.put("x", toBody("third"), { onlyIf: (current) => (seen = current) });
    expect(seen).toMatchObject({ name: "x", size: 5 });
    expect(await readText(pool, "x")).toBe("third");
    await pool.close();
  });
});

describe("a delete with onlyIf", () => {
  it("is asked when the put before it is over, and leaves what that one put", async () => {
    const { pool } = memoryPool(two());
    await pool.put("x", toBody("old"));
    const { digests } = await pool.stat("x");
    const overwrite = heldBody("new");
    const putting = pool.put("x", overwrite.body);
    await overwrite.opened;
    const deleting = pool.delete("x", {
      onlyIf: (current) => {
        if (current?.digests?.sha256 !== digests?.sha256) throw new Refusal("it was changed");
      },
    });
    const outcome = settled(deleting);
    overwrite.send();
    await putting;
    expect(await outcome).toBeInstanceOf(Refusal);
    expect(await readText(pool, "x")).toBe("new");
    await pool.close();
  });

  it("deletes where the condition holds", async () => {
    const { pool } = memoryPool(two());
    await pool.put("x", toBody("1"));
    const seen: (number | undefined)[] = [];
    const result = await pool.delete("x", { onlyIf: (current) => seen.push(current?.size) });
    expect([seen, result.existed]).toEqual([[1], true]);
    expect(await errorOf(pool.stat("x"))).toMatchObject({ code: "not-found" });
    await pool.close();
  });

  it("is asked too where there is no such object", async () => {
    const { pool } = memoryPool(two());
    await pool.put("something", toBody("else"));
    const seen: (ObjectInfo | undefined)[] = [];
    const result = await pool.delete("x", { onlyIf: (current) => seen.push(current) });
    expect([seen, result.existed]).toEqual([[undefined], false]);
    await pool.close();
  });
});

describe("a store that is no pool", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-only-if-"));

  it.each(["memory://only-if", folder])("refuses onlyIf: %s", async (url) => {
    const store = await openStore(url);
    try {
      const onlyIf = (): void => undefined;
      await expect(store.put("x", toBody("1"), { onlyIf })).rejects.toMatchObject({ code: "unsupported", object: "x" });
      await expect(store.delete("x", { onlyIf })).rejects.toMatchObject({ code: "unsupported", operation: "delete" });
      await expect(store.stat("x")).rejects.toMatchObject({ code: "not-found" });
    } finally {
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
