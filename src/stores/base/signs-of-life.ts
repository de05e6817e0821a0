/**
 * Signs of life of a program that moves an object out of our sight, between a local file and the server: without them a
 * large object on a slow line could not be told from a server that hangs.
 */
import { readFile, readdir, stat } from "node:fs/promises";
import path from "node:path";
import type { Runtime } from "../../contract/runtime.ts";

/** How often is looked, in milliseconds. */
const LOOK_MS = 250;

/** Runs `work`, and calls `onAlive` whenever what `measure` gives has changed meanwhile. */
export async function withSignsOfLife<T>(
  runtime: Runtime,
  onAlive: (() => void) | undefined,
  measure: () => Promise<number | undefined>,
  work: () => Promise<T>,
): Promise<T> {
  if (onAlive === undefined) return work();
  let last: number | undefined;
  let ended = false;
  let cancel = (): void => undefined;
  const look = async (): Promise<void> => {
    // A size that cannot be measured, or not any more, counts as unchanged.
    const now = (await measure().catch(() => undefined)) ?? last;
    if (ended) return;
    if (now !== last) onAlive();
    last = now;
    wait();
  };
  const wait = (): void => {
    cancel = runtime.timer(LOOK_MS, () => void look());
  };
  wait();
  try {
    return await work();
  } finally {
    ended = true;
    cancel();
  }
}

/** Bytes that a process has read and written so far. Undefined where the system does not tell: not on Linux. */
export async function bytesMovedBy(pid: number | undefined): Promise<number | undefined> {
  if (pid === undefined || process.platform !== "linux") return undefined;
  const [, read, written] = /^rchar: (\d+)\nwchar: (\d+)$/mu.exec(await readFile(`/proc/${pid}/io`, "utf8")) ?? [];
  return read === undefined ? undefined : Number(read) + Number(written);
}

/** Size of all files below a folder. */
export async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    // A file may get its name at just this moment.
    if (entry.isFile())
      bytes += (await stat(path.join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}
