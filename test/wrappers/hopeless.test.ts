/** Failures that trying again cannot help: they are told at once, and say nothing of a store's copies. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { networkError, UNKNOWN_HOST } from "../../src/support/network-errors.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";
import { retry } from "../../src/wrappers/retry.ts";
import { ForwardingStore } from "../../src/wrappers/forward.ts";
import { memoryPool, switched } from "../helpers/memory-pool.ts";
import { FakeRuntime } from "../helpers/fake-runtime.ts";

const systemError = (code: string): Error => Object.assign(new Error(`getaddrinfo ${code} h`), { code });

test.each([
  ["ENOTFOUND", false],
  ["EAI_AGAIN", true],
  ["ECONNREFUSED", true],
])("after %s, trying again helps: %s", (code, retryable) => {
  expect(networkError(systemError(code))).toMatchObject({ code: "unavailable", retryable });
});

test.each([
  ["ssh: Could not resolve hostname h: Name or service not known", true],
  ["dial tcp: lookup h on 127.0.0.1:53: no such host", true],
  ["ssh: Could not resolve hostname h: Temporary failure in name resolution", false],
])("%j says of the host that it is not known: %s", (text, isUnknown) => {
  expect(UNKNOWN_HOST.test(text)).toBe(isUnknown);
});

test("a folder below a file is asked once", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-hopeless-"));
  try {
    await writeFile(path.join(folder, "file"), "");
    let calls = 0;
    class Counting extends ForwardingStore {
      override async put(...given: Parameters<Store["put"]>): ReturnType<Store["put"]> {
        calls++;
        return super.put(...given);
      }
    }
    const store = retry(new Counting(await openStore(path.join(folder, "file", "below"))), {
      runtime: new FakeRuntime(),
    });
    await expect(store.put("x", toBody("1"))).rejects.toMatchObject({ code: "unavailable", retryable: false });
    expect(calls).toBe(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe.each([true, false])("a store that cannot be asked about one object (may be tried again: %s)", (retryable) => {
  const members = [switched("a"), switched("b")] as const;
  const { pool } = memoryPool(members);
  beforeAll(async () => {
    await pool.put("x", toBody("1"));
    members[1].onCall = (_, name) => {
      if (name === "x") throw new HoldfastError("unavailable", "there is nobody", { retryable });
    };
  });
  afterAll(() => pool.close());

  test("is named by verify, and its copy is not called unreadable", async () => {
    expect(await pool.maintenance.verify()).toMatchObject({ byKind: {}, unheard: ["b"] });
  });

  test("is named by repair, which is not whole", async () => {
    expect(await pool.maintenance.repair()).toMatchObject({ whole: false, unheard: ["b"] });
  });
});
