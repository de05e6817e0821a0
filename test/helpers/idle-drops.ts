/** A server that drops connections which nobody uses, as most of them do after a while. */
import { expect } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Store } from "../../src/contract/store.ts";
import type { TcpProxy } from "./tcp-proxy.ts";

/** Reads and writes through the store go on, though the proxy before its server drops what is idle before each of them. */
export async function expectIdleDropsMended(store: Store, proxy: TcpProxy): Promise<void> {
  await store.put("x", toBody("one"));
  for (let round = 0; round < 3; round++) {
    proxy.drop();
    await expect(store.stat("x")).resolves.toMatchObject({ size: 3 });
    proxy.drop();
    await store.put("y", toBody("two"));
  }
  expect(proxy.accepted).toBeGreaterThan(4);
}
