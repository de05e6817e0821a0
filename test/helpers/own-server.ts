/** Stores on servers of their own, which a test may crash or pause, and what their errors are. */
import { expect } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import type { Store } from "../../src/contract/store.ts";
import { openStore } from "../../src/stores/open-store.ts";
import { startServer } from "./servers.ts";
import type { RunningServer, ServerName } from "./servers.ts";
import { readText } from "./store-answers.ts";

type Env = Readonly<Record<string, string>>;

export interface OwnServerOptions {
  readonly instance: string;
  /** The store's URL at the port of the server. */
  readonly url: (port: number) => string;
  readonly env: Env;
}

/** Does work with a store, which holds `old` under `x`, on a server that nobody else uses. */
export async function onOwnServer(
  name: ServerName,
  { instance, url, env }: OwnServerOptions,
  work: (store: Store, server: RunningServer) => Promise<void>,
): Promise<void> {
  const server = await startServer(name, { instance });
  if (!server.running) throw new Error(server.skipped);
  const store = await openStore(url(server.port), { env });
  try {
    await store.put("x", toBody("old"));
    await work(store, server);
  } finally {
    await store.close();
    await server.control("stop");
  }
}

/** A crash of the server is `unavailable` to each operation, and what the store had is there when the server is back. */
export async function expectBackAfterCrash(store: Store, server: RunningServer): Promise<void> {
  await server.control("crash");
  await expect(store.put("x", toBody("new"))).rejects.toMatchObject({ code: "unavailable", retryable: true });
  await expect(store.stat("x")).rejects.toMatchObject({ code: "unavailable" });
  await expect(store.get("nothing")).rejects.toMatchObject({ code: "unavailable" });
  await server.control("start");
  expect(await readText(store, "x")).toBe("old");
}

/** A put fails for good with this code, and neither the error nor the label holds `secret`. */
export async function expectRefused(url: string, env: Env, code: string, secret: string): Promise<void> {
  const store = await openStore(url, { env });
  const error = await store.put("x", toBody("x")).catch((error: unknown) => error);
  await store.close();
  expect(error).toMatchObject({ code, retryable: false });
  expect(`${String(error)} ${JSON.stringify(error)} ${store.label}`).not.toContain(secret);
}
