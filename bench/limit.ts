/**
 * What the machine allows: the least work with the same durability, without names, records or checks.
 *
 *     node limit.js copy WIDTH SOURCE FOLDER...    each file read once, written to every folder at once, fsynced
 *     node limit.js spread WIDTH SOURCE FOLDER...  each file to one folder, in turn, fsynced
 *     node limit.js hash FOLDER...                 SHA-256 of every file
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";

const CHUNK_BYTES = 4 * 1024 * 1024;

async function copyFile(source: string, targets: readonly string[]): Promise<void> {
  const from = await open(source);
  const { size } = await from.stat();
  const to = await Promise.all(targets.map((target) => open(target, "w")));
  try {
    // Two buffers: the next chunk is read while one is written.
    const length = Math.max(1, Math.min(CHUNK_BYTES, size));
    const buffers = [Buffer.allocUnsafe(length), Buffer.allocUnsafe(length)] as const;
    let next = from.read(buffers[0], 0, length, 0);
    for (let turn = 0, at = 0; ; turn++) {
      const { bytesRead, buffer } = await next;
      if (bytesRead === 0) break;
      if (at + bytesRead < size) next = from.read(buffers[turn % 2 === 0 ? 1 : 0], 0, length, at + bytesRead);
      await Promise.all(to.map((handle) => handle.write(buffer, 0, bytesRead, at)));
      at += bytesRead;
      if (at >= size) break;
    }
    await Promise.all(to.map((handle) => handle.sync()));
  } finally {
    await Promise.all([from, ...to].map((handle) => handle.close()));
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync();
  await handle.close();
}

async function forEach<T>(width: number, items: readonly T[], work: (item: T, index: number) => Promise<void>) {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      const item = items[index];
      if (item !== undefined) await work(item, index);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}

async function hash(folder: string): Promise<void> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const digest = createHash("sha256");
    const handle: FileHandle = await open(join(folder, entry.name));
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) break;
      digest.update(buffer.subarray(0, bytesRead));
    }
    digest.digest("hex");
    await handle.close();
  }
}

const [action = "", ...rest] = process.argv.slice(2);
if (action === "hash") {
  for (const folder of rest) await hash(folder);
} else {
  const [width = "1", source = "", ...folders] = rest;
  for (const folder of folders) mkdirSync(folder, { recursive: true });
  await forEach(Number(width), readdirSync(source), async (name, index) => {
    const to = action === "copy" ? folders : folders.slice(index % folders.length).slice(0, 1);
    await copyFile(
      join(source, name),
      to.map((folder) => join(folder, name)),
    );
  });
  await Promise.all(folders.map(syncFolder));
}
