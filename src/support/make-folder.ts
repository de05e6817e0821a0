/**
 * Making a folder and those above it. Node's own call, told to make the folders above as well, goes on for ever below
 * `/proc`, where a folder that is there can take no other and says that it is not there.
 */
import { mkdirSync, statSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/**
 * Makes a folder and those above it, with these permission bits (default: what the umask leaves). Resolves to the topmost
 * folder that it made; undefined where all were there. Rejects as `mkdir` does.
 */
export async function makeFolder(path: string, mode = 0o777): Promise<string | undefined> {
  const missing: string[] = [];
  let first: string | undefined;
  const make = async (folder: string): Promise<void> => {
    try {
      await mkdir(folder, { mode });
      first ??= folder;
    } catch (error) {
      const isThere = await stat(folder).then(
        (stats) => stats.isDirectory(),
        () => false,
      );
      // Another process may make them at the same time.
      if (!isThere) throw error;
    }
  };
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      await make(folder);
      break;
    } catch (error) {
      if (!isMissing(error) || folder === dirname(folder)) throw error;
      missing.push(folder);
    }
  }
  for (const folder of missing.reverse()) await make(folder);
  return first;
}

/** Makes a folder and those above it, for this user alone. Throws as `mkdirSync` does. */
export function makeFolderSync(path: string): void {
  const missing: string[] = [];
  const make = (folder: string): void => {
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      // Another process may make them at the same time.
      if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
    }
  };
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      make(folder);
      break;
    } catch (error) {
      if (!isMissing(error) || folder === dirname(folder)) throw error;
      missing.push(folder);
    }
  }
  for (const folder of missing.reverse()) make(folder);
}
