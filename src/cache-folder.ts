/** Where this machine keeps what can be made anew at any time. */
import { mkdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";

/**
 * `$HOLDFAST_CACHE`, else `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It need not exist. An empty value stands for none,
 * and so does, as the XDG specification has it, a relative XDG_CACHE_HOME.
 */
export function cacheFolderPath(): string {
  const { HOLDFAST_CACHE: own, XDG_CACHE_HOME: shared = "" } = process.env;
  if (own !== undefined && own !== "") return own;
  return join(isAbsolute(shared) ? shared : join(homedir(), ".cache"), "holdfast");
}

/**
 * Makes a folder and those above it, for this user alone. Throws as `mkdirSync` does; which, told to make the folders above as
 * well, goes on for ever below `/proc`.
 */
export function makeFolder(path: string): void {
  const missing: string[] = [];
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      mkdirSync(folder, { mode: 0o700 });
      break;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" && folder !== dirname(folder)) missing.push(folder);
      else if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true) break;
      else throw error;
    }
  }
  // Another process may make them at the same time.
  for (const folder of missing.reverse()) {
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
    }
  }
}
