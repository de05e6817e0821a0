/** The files that are stored, and comparing what became of them. */
import { randomFillSync } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Some files in one folder. */
export interface Workload {
  readonly name: "large" | "medium" | "small";
  /** As people say it: `500 files of 1 MiB`. */
  readonly title: string;
  readonly folder: string;
  readonly count: number;
  readonly bytes: number;
}

const BLOCK_BYTES = 4 * 1024 * 1024;

/** Makes `count` files of `bytes` random bytes each, unless they are there. */
export function makeFiles(folder: string, count: number, bytes: number): void {
  if (existsSync(folder)) return;
  mkdirSync(folder, { recursive: true });
  const block = Buffer.alloc(Math.min(BLOCK_BYTES, bytes));
  for (let index = 0; index < count; index++) {
    const file = openSync(join(folder, fileName(index)), "w");
    for (let left = bytes; left > 0; left -= block.length) {
      randomFillSync(block);
      writeSync(file, block, 0, Math.min(left, block.length));
    }
    closeSync(file);
  }
}

export function fileName(index: number): string {
  return `file-${String(index).padStart(7, "0")}`;
}

/** Files below a folder, by their path from there, without what a store keeps for itself. */
function filesBelow(folder: string): string[] {
  // A stripe's store that got nothing may not have a folder.
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith(".holdfast/") && !path.startsWith(".DAV/") && !path.includes("/.DAV/"));
}

function insistEqual(left: string, right: string): void {
  if (!readFileSync(left).equals(readFileSync(right))) throw new Error(`wrong bytes: ${right} is not ${left}`);
}

/** Throws unless each folder has just the files of `source`. */
export function insistMirrored(source: string, folders: readonly string[]): void {
  const wanted = filesBelow(source).toSorted((a, b) => (a < b ? -1 : 1));
  for (const folder of folders) {
    const found = filesBelow(folder).toSorted((a, b) => (a < b ? -1 : 1));
    if (found.join("\n") !== wanted.join("\n")) {
      throw new Error(`wrong files: ${folder} has ${found.length} files, ${source} has ${wanted.length}`);
    }
    for (const path of wanted) insistEqual(join(source, path), join(folder, path));
  }
}

/** Throws unless each file of `source` is in one of the folders, and nothing else. */
export function insistSpread(source: string, folders: readonly string[]): void {
  const wanted = new Set(filesBelow(source));
  for (const folder of folders) {
    for (const path of filesBelow(folder)) {
      if (!wanted.delete(path)) throw new Error(`wrong files: ${path} is twice or too much in ${folder}`);
      insistEqual(join(source, path), join(folder, path));
    }
  }
  if (wanted.size > 0) throw new Error(`wrong files: ${wanted.size} of ${source} are missing`);
}
