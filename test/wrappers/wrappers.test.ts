import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { systemRuntime } from "../../src/contract/runtime.ts";
import type { GetOptions, ObjectInfo, Store } from "../../src/contract/store.ts";
import { FileStore } from "../../src/stores/file/file-store.ts";
import { MemoryObjects, MemoryStore } from "../../src/stores/memory.ts";
import { bandwidth } from "../../src/wrappers/bandwidth.ts";
import { breaker } from "../../src/wrappers/breaker.ts";
import { deadline } from "../../src/wrappers/deadline.ts";
import { Faults, faulty } from "../../src/wrappers/faults.ts";
import type { Fault } from "../../src/wrappers/faults.ts";
import { ForwardingStore } from "../../src/wrappers/forward.ts";
import { limit } from "../../src/wrappers/limit.ts";
import { retry } from "../../src/wrappers/retry.ts";
import { FakeRuntime } from "../helpers/fake-runtime.ts";
import { describeConformance } from "../helpers/run-conformance.ts";

const MIB = 1024 * 1024;
const runtime = systemRuntime;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-wrappers-"));
});
afterAll(() => rm(folder, { recursive: true }));

const wrapped: [string, (inner: Store) => Store][] = [
  ["retry(memory)", (inner) => retry(inner, { runtime })],
  ["deadline(memory)", (inner) => deadline(inner, { runtime })],
  ["limit(memory)", (inner) => limit(inner, { max: 1 })],
  ["bandwidth(memory)", (inner) => bandwidth(inner, { runtime, upBytesPerSecond: 1e12, downBytesPerSecond: 1e12 })],
  ["faulty(memory)", (inner) => faulty(inner, new Faults())],
  ["breaker(memory)", (inner) => breaker(inner, { runtime })],
];
for (const [label, wrap] of wrapped) {
  const objects = new MemoryObjects();
  describeConformance(label, { open: async () => wrap(new MemoryStore({ objects })) });
}

describeConformance("retry(deadline(limit(breaker(folder))))", {
  open: async () =>
    retry(deadline(limit(breaker(new FileStore(join(folder, "stack")), { runtime }), { max: 3 }), { runtime }), {
      runtime,
    }),
});

{
  const objects = new MemoryObjects();
  let seed = 0;
  describeConformance("retry(memory that fails one call in ten, before, in mid-stream and after)", {
    open: async () => {
      const faults = new Faults({ seed: ++seed });
      // Not on puts: a body that gives its bytes once cannot be put again, whatever failed.
      const failures: Fault[] = [{ kind: "fail" }, { kind: "fail-at", byte: 1 }, { kind: "fail-after" }];
      for (const operation of ["stat", "list", "delete"] as const) {
        faults.chance({ operation, probability: 0.1, faults: failures });
      }
      const inMidStream: Fault[] = [
        { kind: "fail-at", byte: 70_000 },
        { kind: "truncate", byte: 1 },
      ];
      faults.chance({ operation: "get", probability: 0.1, faults: [...failures, ...inMidStream] });
      return retry(faulty(new MemoryStore({ objects }), faults), { runtime, attempts: 12, baseMs: 1 });
    },
  });
}

let fake: FakeRuntime;
let faults: Faults;
let memory: MemoryStore;
let broken: Store;
beforeEach(() => {
  fake = new FakeRuntime();
  faults = new Faults({ runtime: fake, remember: true });
  memory = new MemoryStore({ runtime: fake });
  broken = faulty(memory, faults);
});

const bytesOf = async (store: Store, name: string, options?: GetOptions): Promise<Uint8Array> =>
  collect((await store.get(name, options)).body);
const namesOf = async (list: AsyncIterable<ObjectInfo>): Promise<string[]> => {
  const names = [];
  for await (const info of list) names.push(info.name);
  return names;
};
const namesIn = (store: Store): AsyncIterable<readonly string[]> => {
  if (store.listNames === undefined) throw new Error("it gives no names by themselves");
  return store.listNames("");
};
const batchesOf = async (store: Store): Promise<(readonly string[])[]> => {
  const batches = [];
  for await (const batch of namesIn(store)) batches.push(batch);
  return batches;
};
const big = Buffer.alloc(3 * MIB + 5, "0123456789abcdef!");
const once = (bytes: Uint8Array) =>
  toBody(
    (async function* () {
      yield bytes;
    })(),
  );

describe("retry", () => {
  let store: Store;
  beforeEach(() => {
    store = retry(broken, { runtime: fake, attempts: 4, baseMs: 100, maxPauseMs: 5000 });
  });

  it("tries so often, with pauses that may double, and no more", async () => {
    faults.script({ operation: "stat", times: Number.POSITIVE_INFINITY, fault: { kind: "fail" } });
    await expect(fake.until(store.stat("a"))).rejects.toMatchObject({ code: "unavailable", operation: "stat" });
    expect(faults.injected.length).toBe(4);
    expect(fake.sleeps.length).toBe(3);
    fake.sleeps.forEach((ms, i) => expect(ms).toBeLessThan(100 * 2 ** i));
    expect(new Set(fake.sleeps).size).toBe(3);
  });

  it("does not retry what cannot help", async () => {
    for (const code of ["denied", "full", "not-found", "corrupt", "invalid"] as const) {
      faults.script({ operation: "delete", fault: { kind: "fail", code } });
      await expect(store.delete("a")).rejects.toMatchObject({ code });
    }
    expect(fake.sleeps).toEqual([]);
  });

  it("waits as long as the store asks, up to its longest pause", async () => {
    faults.script({ operation: "stat", nth: 1, fault: { kind: "fail", code: "throttled", retryAfterMs: 3000 } });
    faults.script({ operation: "stat", nth: 2, fault: { kind: "fail", code: "throttled", retryAfterMs: 86_400_000 } });
    await memory.put("a", toBody("x"));
    await fake.until(store.stat("a"));
    expect(fake.sleeps).toEqual([3000, 5000]);
  });

  it("puts again what can be opened again, and only that", async () => {
    faults.script({ operation: "put", nth: 1, fault: { kind: "fail-at", byte: MIB + 1 } });
    await fake.until(store.put("a", toBody(big)));
    expect(Buffer.compare(await bytesOf(memory, "a"), big)).toBe(0);
    faults.clear();
    faults.script({ operation: "put", fault: { kind: "fail-at", byte: 1 } });
    await expect(fake.until(store.put("b", once(big)))).rejects.toMatchObject({ code: "unavailable" });
    await expect(memory.stat("b")).rejects.toMatchObject({ code: "not-found" });
    faults.clear();
    faults.script({ operation: "put", fault: { kind: "fail" } });
    await fake.until(store.put("c", once(big)));
    await expect(memory.stat("c")).resolves.toMatchObject({ size: big.length });
  });

  it("does not call a put with ifAbsent a conflict when the object may be its own", async () => {
    faults.script({ operation: "put", fault: { kind: "fail-after" } });
    await expect(fake.until(store.put("a", toBody("x"), { ifAbsent: true }))).rejects.toMatchObject({
      code: "unavailable",
      retryable: false,
    });
    await expect(fake.until(store.put("a", toBody("x"), { ifAbsent: true }))).rejects.toMatchObject({
      code: "conflict",
    });
  });

  it("does not claim that nothing was deleted when an attempt's answer was lost", async () => {
    await memory.put("a", toBody("x"));
    faults.script({ operation: "delete", fault: { kind: "fail-after" } });
    await expect(fake.until(store.delete("a"))).resolves.toEqual({});
    await expect(fake.until(store.delete("a"))).resolves.toEqual({ existed: false });
  });

  it("goes on with a get at the byte it reached, without a wrong or repeated byte", async () => {
    await memory.put("a", toBody(big));
    faults.script({ operation: "get", nth: 1, fault: { kind: "fail-at", byte: MIB + 17 } });
    faults.script({ operation: "get", nth: 2, fault: { kind: "fail" } });
    faults.script({ operation: "get", nth: 3, fault: { kind: "truncate", byte: 100_000 } });
    faults.script({ operation: "get", nth: 4, fault: { kind: "fail-at", byte: 3 } });
    const got = await fake.until(bytesOf(store, "a"));
    expect(Buffer.compare(got, big)).toBe(0);
    expect(faults.injected.length).toBe(4);
    faults.clear();
    faults.script({ operation: "get", fault: { kind: "fail-at", byte: 5 } });
    const part = await fake.until(bytesOf(store, "a", { range: { offset: 10, length: 20 } }));
    expect(Buffer.compare(part, big.subarray(10, 30))).toBe(0);
  });

  it("ends a get that makes no progress, and one whose object was replaced", async () => {
    await memory.put("a", toBody(big));
    faults.script({ operation: "get", times: Number.POSITIVE_INFINITY, fault: { kind: "fail-at", byte: 1 } });
    await expect(fake.until(bytesOf(store, "a"))).rejects.toMatchObject({ code: "unavailable" });
    expect(faults.injected.length).toBe(4);
    faults.clear();
    faults.script({ operation: "get", fault: { kind: "fail-at", byte: MIB } });
    const result = await store.get("a");
    await fake.advance(1000);
    await memory.put("a", toBody(big));
    await expect(fake.until(collect(result.body))).rejects.toMatchObject({ code: "conflict" });
  });

  it("goes on with an ordered listing behind the last name", async () => {
    for (const name of ["a", "b", "c", "d"]) await memory.put(name, toBody(name));
    faults.script({ operation: "list", nth: 1, fault: { kind: "fail-at", byte: 2 } });
    faults.script({ operation: "list", nth: 2, fault: { kind: "fail-at", byte: 3 } });
    expect(await fake.until(namesOf(store.list("")))).toEqual(["a", "b", "c", "d"]);
  });

  it("goes on with batches of names behind the last one", async () => {
    for (const name of ["a", "b", "c", "d", "e"]) await memory.put(name, toBody(name));
    faults.script({ operation: "list", nth: 1, fault: { kind: "fail-at", byte: 4 } });
    const batches = namesIn(store)[Symbol.asyncIterator]();
    expect((await batches.next()).value).toEqual(["a", "b", "c"]);
    await memory.put("aa", toBody("x"));
    // What comes now are batches that were given, in whole or in part.
    expect((await fake.until(batches.next())).value).toEqual(["d", "e"]);
    expect((await fake.until(batches.next())).done).toBe(true);
  });

  it("begins an unordered listing again only when it has given nothing", async () => {
    for (const name of ["a", "b"]) await memory.put(name, toBody(name));
    const unordered = new (class extends ForwardingStore {
      override get capabilities() {
        return { ...super.capabilities, orderedList: false };
      }

      override async *list(prefix: string) {
        const infos: ObjectInfo[] = [];
        for await (const info of super.list(prefix)) infos.unshift(info);
        yield* infos;
      }
    })(memory);
    store = retry(faulty(unordered, faults), { runtime: fake });
    faults.script({ operation: "list", nth: 1, fault: { kind: "fail-at", byte: 0 } });
    expect(await fake.until(namesOf(store.list("")))).toEqual(["b", "a"]);
    faults.script({ operation: "list", nth: 1, fault: { kind: "fail-at", byte: 1 } });
    await expect(fake.until(namesOf(store.list("")))).rejects.toMatchObject({ code: "unavailable" });
  });

  it("ends a pause when it is aborted", async () => {
    faults.script({ operation: "stat", fault: { kind: "fail", retryAfterMs: 4000 } });
    const controller = new AbortController();
    const asked = store.stat("a", { signal: controller.signal });
    asked.catch(() => undefined);
    await fake.advance(1000);
    controller.abort();
    await expect(asked).rejects.toMatchObject({ code: "aborted" });
    expect(fake.pending).toBe(0);
  });
});

describe("deadline", () => {
  let store: Store;
  /** Ignores its signal altogether. */
  let deaf: Store;
  beforeEach(() => {
    store = deadline(broken, { runtime: fake, callMs: 1000, idleMs: 500, graceMs: 100 });
    const never = () => new Promise<never>(() => undefined);
    deaf = deadline(
      new (class extends ForwardingStore {
        override put = never;
        override get = never;
        override stat = never;
        override delete = never;
        override close = never;
        override list() {
          return { [Symbol.asyncIterator]: () => ({ next: never }) };
        }

        protected override naming() {
          return () => ({ [Symbol.asyncIterator]: () => ({ next: never }) });
        }
      })(memory),
      { runtime: fake, callMs: 1000, idleMs: 500, graceMs: 100 },
    );
  });

  it("ends every call to a store that reacts to nothing, at the deadline exactly", async () => {
    for (const call of [
      () => deaf.put("a", toBody("x")),
      () => deaf.get("a"),
      () => deaf.stat("a"),
      () => deaf.delete("a"),
      () => namesOf(deaf.list("")),
      () => batchesOf(deaf),
      () => deaf.close(),
    ]) {
      const start = fake.monotonicMs();
      await expect(fake.until<unknown>(call())).rejects.toMatchObject({
        code: "timeout",
        retryable: true,
        store: "memory://",
      });
      expect(fake.monotonicMs() - start).toBe(1000);
    }
    expect(fake.pending).toBe(0);
  });

  it("tells the caller who aborts a deaf store after the grace", async () => {
    const controller = new AbortController();
    const start = fake.monotonicMs();
    const call = deaf.stat("a", { signal: controller.signal });
    controller.abort();
    await expect(fake.until(call)).rejects.toMatchObject({ code: "aborted" });
    expect(fake.monotonicMs() - start).toBe(100);
  });

  it("aborts the call below, and leaves no timer", async () => {
    faults.script({ operation: "stat", fault: { kind: "hang" } });
    await expect(fake.until(store.stat("a"))).rejects.toMatchObject({ code: "timeout", object: "a" });
    await memory.put("a", toBody("x"));
    await store.stat("a");
    expect(fake.pending).toBe(0);
  });

  it("ends a get that stands still, and not one whose reader does", async () => {
    await memory.put("a", toBody(big));
    const result = await store.get("a");
    const iterator = result.body[Symbol.asyncIterator]();
    let size = 0;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      size += next.value.length;
      await fake.advance(60_000);
    }
    expect(size).toBe(big.length);
    await result.close();
    faults.script({ operation: "get", fault: { kind: "hang-at", byte: MIB } });
    const start = fake.monotonicMs();
    await expect(fake.until(bytesOf(store, "a"))).rejects.toMatchObject({ code: "timeout" });
    expect(fake.monotonicMs() - start).toBe(500);
  });

  it("ends a put that stands still, and not one whose source does", async () => {
    const slow = toBody(
      (async function* () {
        for (let i = 0; i < 3; i++) {
          yield Buffer.from("x");
          await fake.sleep(60_000);
        }
      })(),
    );
    await expect(fake.until(store.put("slow", slow))).resolves.toMatchObject({ size: 3 });
    const stuck = new (class extends ForwardingStore {
      override async put(...[, body]: Parameters<Store["put"]>): Promise<never> {
        await body.open()[Symbol.asyncIterator]().next();
        return new Promise(() => undefined);
      }
    })(memory);
    const start = fake.monotonicMs();
    const put = deadline(stuck, { runtime: fake, callMs: 1000, idleMs: 500 }).put("a", toBody(big));
    await expect(fake.until(put)).rejects.toMatchObject({ code: "timeout" });
    expect(fake.monotonicMs() - start).toBe(500);
    expect(fake.pending).toBe(0);
  });

  it("is put off while the store says that it gets on, and no longer", async () => {
    let signs = 0;
    const moving = new (class extends ForwardingStore {
      async #move(onAlive: (() => void) | undefined): Promise<void> {
        for (let i = 0; i < signs; i++) {
          await fake.sleep(900);
          onAlive?.();
        }
        await fake.sleep(900);
      }
      override async put(...[, body, options]: Parameters<Store["put"]>) {
        const size = (await collect(body.open())).length;
        await this.#move(options?.onAlive);
        return { size };
      }
      override async get(...[name, options]: Parameters<Store["get"]>) {
        await this.#move(options?.onAlive);
        return super.get(name);
      }
    })(memory);
    const store = deadline(moving, { runtime: fake, callMs: 1000, idleMs: 1000 });
    signs = 10;
    await expect(fake.until(store.put("a", toBody("x")))).resolves.toMatchObject({ size: 1 });
    await memory.put("a", toBody("x"));
    await expect(fake.until(store.get("a"))).resolves.toMatchObject({ info: { size: 1 } });
    const still = new (class extends ForwardingStore {
      override async get(...[, options]: Parameters<Store["get"]>): Promise<never> {
        await fake.sleep(900);
        options?.onAlive?.();
        return new Promise(() => undefined);
      }
    })(memory);
    const start = fake.monotonicMs();
    await expect(fake.until(deadline(still, { runtime: fake, callMs: 1000 }).get("a"))).rejects.toMatchObject({
      code: "timeout",
    });
    expect(fake.monotonicMs() - start).toBe(1900);
  });

  /** A store that gives so many bytes every 400 ms, 20 times. */
  const trickling = (bytes: number): Store =>
    new (class extends ForwardingStore {
      override async get(...given: Parameters<Store["get"]>) {
        const result = await super.get(...given);
        const body = (async function* () {
          for (let count = 0; count < 20; count++) {
            await fake.sleep(400);
            yield Buffer.alloc(bytes);
          }
        })();
        return { ...result, body };
      }
    })(memory);

  it.each([
    ["hardly anything for its time", 10, "timeout"],
    ["little, but more than the least", 500, 10_000],
  ])("of a store that gives %s", async (_, bytes, outcome) => {
    await memory.put("a", toBody("x"));
    const { body } = await deadline(trickling(bytes), { runtime: fake, callMs: 1000, idleMs: 1000 }).get("a");
    const read = collect(body).then(
      (all) => all.length,
      (error: unknown) => (error as HoldfastError).code,
    );
    expect(await fake.until(read)).toBe(outcome);
  });

  it("lets go of a get that is answered too late", async () => {
    let closed = false;
    const late = new (class extends ForwardingStore {
      override async get() {
        await fake.sleep(5000);
        const body = (async function* () {
          yield Buffer.from("x");
        })();
        const close = async () => {
          closed = true;
        };
        return { info: { name: "a", size: 1 }, body, close };
      }
    })(memory);
    await expect(fake.until(deadline(late, { runtime: fake, callMs: 1000 }).get("a"))).rejects.toMatchObject({
      code: "timeout",
    });
    await fake.advance(5000);
    expect(closed).toBe(true);
  });
});

describe("limit", () => {
  it("runs so many at once, in order, and an aborted one leaves its place", async () => {
    const begun: string[] = [];
    const running = new Map<string, () => void>();
    const inner = new (class extends ForwardingStore {
      override stat(name: string, options: { signal?: AbortSignal | undefined } = {}): Promise<ObjectInfo> {
        begun.push(name);
        return new Promise((resolve, reject) => {
          running.set(name, () => resolve({ name, size: 0 }));
          options.signal?.addEventListener("abort", () => reject(new HoldfastError("aborted", "gone")));
        });
      }
    })(memory);
    const store = limit(inner, { max: 2 });
    const controller = new AbortController();
    const hung = store.stat("1", { signal: controller.signal });
    const calls = ["2", "3", "4", "5"].map((name) => store.stat(name));
    const waiting = new AbortController();
    const queued = store.stat("6", { signal: waiting.signal });
    waiting.abort();
    await expect(queued).rejects.toMatchObject({ code: "aborted" });
    expect(begun).toEqual(["1", "2"]);
    controller.abort();
    await expect(hung).rejects.toMatchObject({ code: "aborted" });
    for (const name of ["3", "2", "4", "5"]) {
      await fake.advance(0);
      running.get(name)?.();
    }
    await Promise.all(calls);
    expect(begun).toEqual(["1", "2", "3", "4", "5"]);
  });
});

describe("bandwidth", () => {
  it("lets through so many bytes a second, both ways", async () => {
    const store = bandwidth(memory, { runtime: fake, upBytesPerSecond: MIB, downBytesPerSecond: 2 * MIB });
    await fake.until(store.put("a", toBody(Buffer.alloc(8 * MIB))));
    const up = fake.monotonicMs();
    expect(up).toBeGreaterThan(7500);
    expect(up).toBeLessThan(8100);
    await fake.until(bytesOf(store, "a"));
    expect(fake.monotonicMs() - up).toBeGreaterThan(3500);
    expect(fake.monotonicMs() - up).toBeLessThan(4100);
  });

  it("is shared by what runs at once", async () => {
    const store = bandwidth(memory, { runtime: fake, upBytesPerSecond: MIB });
    await fake.until(Promise.all([1, 2, 3, 4].map((n) => store.put(`${n}`, toBody(Buffer.alloc(MIB))))));
    expect(fake.monotonicMs()).toBeGreaterThan(3500);
  });
});

describe("breaker", () => {
  let store: Store;
  beforeEach(async () => {
    await memory.put("a", toBody("x"));
    store = breaker(broken, { runtime: fake, failures: 3, coolDownMs: 1000, maxCoolDownMs: 3000 });
  });
  const drawn = () => faults.injected.length;

  it("leaves a failing store alone, tries one operation, and doubles the pause up to its cap", async () => {
    faults.script({ times: 6, fault: { kind: "fail" } });
    for (let i = 0; i < 3; i++) await expect(store.stat("a")).rejects.toMatchObject({ code: "unavailable" });
    expect(drawn()).toBe(3);
    for (const pauseMs of [1000, 2000, 3000]) {
      await expect(store.get("a")).rejects.toMatchObject({ code: "unavailable", retryAfterMs: pauseMs });
      await fake.advance(pauseMs - 1);
      await expect(namesOf(store.list(""))).rejects.toMatchObject({ retryAfterMs: 1 });
      await expect(batchesOf(store)).rejects.toMatchObject({ retryAfterMs: 1 });
      const before = drawn();
      await fake.advance(1);
      const both = await Promise.allSettled([store.stat("a"), store.stat("a")]);
      expect(both.map((one) => one.status)).toEqual(["rejected", "rejected"]);
      expect(drawn()).toBe(before + 1);
    }
    await fake.advance(3000);
    await expect(store.stat("a")).resolves.toMatchObject({ size: 1 });
    await expect(store.stat("a")).resolves.toMatchObject({ size: 1 });
  });

  it("counts failures in a row only, and no answers, whatever they say", async () => {
    for (let round = 0; round < 5; round++) {
      faults.clear();
      faults.script({ operation: "stat", times: 2, fault: { kind: "fail" } });
      await expect(store.stat("a")).rejects.toMatchObject({ code: "unavailable" });
      await expect(store.stat("a")).rejects.toMatchObject({ code: "unavailable" });
      await expect(store.stat("none")).rejects.toMatchObject({ code: "not-found" });
    }
  });
});

describe("faults", () => {
  it("happen before, in mid-stream at the byte, and after the effect", async () => {
    faults.script({ operation: "put", nth: 1, fault: { kind: "fail", code: "full" } });
    await expect(broken.put("a", toBody("x"))).rejects.toMatchObject({ code: "full" });
    faults.script({ operation: "put", nth: 1, fault: { kind: "fail-at", byte: 2 } });
    await expect(broken.put("a", toBody("xyz"))).rejects.toMatchObject({ code: "unavailable" });
    await expect(memory.stat("a")).rejects.toMatchObject({ code: "not-found" });
    faults.script({ operation: "put", nth: 1, fault: { kind: "fail-after", code: "timeout" } });
    await expect(broken.put("a", toBody("xyz"))).rejects.toMatchObject({ code: "timeout" });
    await expect(memory.stat("a")).resolves.toMatchObject({ size: 3 });
    faults.script({ operation: "get", fault: { kind: "fail-at", byte: 2 } });
    const seen: number[] = [];
    await expect(
      (async () => {
        for await (const chunk of (await broken.get("a")).body) seen.push(...chunk);
      })(),
    ).rejects.toMatchObject({ code: "unavailable" });
    expect(Buffer.from(seen).toString()).toBe("xy");
    expect(faults.injected.map((one) => one.fault.kind)).toEqual(["fail", "fail-at", "fail-after", "fail-at"]);
  });

  it("lie", async () => {
    await broken.put("a", toBody("old"));
    await broken.put("a", toBody("newer"));
    await broken.put("b", toBody("b"));
    faults.script({ operation: "get", nth: 1, fault: { kind: "flip", byte: -1, bit: 1 } });
    faults.script({ operation: "get", nth: 2, fault: { kind: "truncate", byte: 2 } });
    faults.script({ operation: "get", nth: 3, fault: { kind: "stale-read" } });
    faults.script({ operation: "get", nth: 4, fault: { kind: "not-found" } });
    const texts = [];
    for (let i = 0; i < 3; i++) texts.push(Buffer.from(await bytesOf(broken, "a")).toString());
    expect(texts).toEqual(["newep", "ne", "old"]);
    await expect(broken.get("a")).rejects.toMatchObject({ code: "not-found" });
    expect(Buffer.from(await bytesOf(broken, "a")).toString()).toBe("newer");
    faults.script({ operation: "list", nth: 1, fault: { kind: "stale-list", changes: 1 } });
    expect(await namesOf(broken.list(""))).toEqual(["a"]);
    faults.script({ operation: "put", nth: 1, fault: { kind: "truncate", byte: 1 } });
    await expect(broken.put("c", toBody("long"))).resolves.toEqual({ size: 4 });
    await expect(memory.stat("c")).resolves.toMatchObject({ size: 1 });
    faults.script({ operation: "put", nth: 1, fault: { kind: "lost" } });
    await expect(broken.put("d", toBody("lost"))).resolves.toEqual({ size: 4 });
    await expect(memory.stat("d")).rejects.toMatchObject({ code: "not-found" });
    await broken.delete("b");
    faults.script({ operation: "list", nth: 1, fault: { kind: "stale-list" } });
    expect(await namesOf(broken.list(""))).toEqual(["a", "b", "c"]);
  });

  it("come from the seed, the same each time", async () => {
    const run = async (seed: number): Promise<string> => {
      const faults = new Faults({ seed });
      faults.chance({ probability: 0.3, faults: [{ kind: "fail" }, { kind: "fail-after" }] });
      const store = faulty(new MemoryStore(), faults);
      for (let i = 0; i < 60; i++) await store.put(`n${i}`, toBody("x")).catch(() => undefined);
      return faults.injected.map((one) => `${one.name} ${one.fault.kind}`).join();
    };
    const first = await run(7);
    expect(await run(7)).toBe(first);
    expect(await run(8)).not.toBe(first);
    expect(first).toContain("fail-after");
  });
});
