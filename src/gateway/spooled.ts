/** A body that is read once, kept on disk for as long as it is needed, so that it can be read again. */
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { checkedBytes } from "../contract/body.ts";
import { bodyFromFile } from "../contract/file-body.ts";
import type { Body } from "../contract/store.ts";

/** Runs `work` with a copy of `body` in a temporary file, which is gone afterwards. */
export async function spooled<T>(body: Body, signal: AbortSignal, work: (copy: Body) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-"));
  try {
    const file = path.join(folder, "body");
    const chunks = Readable.from(checkedBytes(body, signal), { objectMode: true, highWaterMark: 2 });
    await pipeline(chunks, createWriteStream(file, { flags: "wx", mode: 0o600 }), { signal });
    return await work(await bodyFromFile(file));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
