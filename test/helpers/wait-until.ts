import { setTimeout as delay } from "node:timers/promises";

/** Looks again and again until something outside of this process has happened. Rejects after `ms`. */
export async function waitUntil(happened: () => Promise<boolean> | boolean, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await happened())) {
    if (performance.now() > end) throw new Error("it did not happen in time");
    await delay(20);
  }
}
