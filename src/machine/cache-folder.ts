/** The cache folder, in which this machine keeps data that can be made anew at any time. */
import { createHash } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * `$HOLDFAST_CACHE`, else `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It need not exist. An empty value counts as unset,
 * and so does a relative XDG_CACHE_HOME, as the XDG specification demands.
 */
export function cacheFolderPath(): string {
  const { HOLDFAST_CACHE: own, XDG_CACHE_HOME: shared = "" } = process.env;
  if (own !== undefined && own !== "") return own;
  return join(isAbsolute(shared) ? shared : join(homedir(), ".cache"), "holdfast");
}

/**
 * Reads a note of 32 hexadecimal digits, which stands beside its digest; undefined if there is none or its digest is
 * wrong.
 */
export function readNote(path: string): string | undefined {
  try {
    const text = readFileSync(path, "utf8");
    const note = text.slice(0, 32);
    return text === noteText(note) && /^[0-9a-f]{32}$/u.test(note) ? note : undefined;
  } catch {
    return undefined;
  }
}

/** Writes a note, all or nothing. Throws the file system's errors. */
export function writeNote(path: string, note: string): void {
  placeNote(path, note, renameSync);
}

/** Writes a note if there is none or it is damaged. Of several processes that do so at once, one wins. */
export function writeFirstNote(path: string, note: string): void {
  placeNote(path, note, (from, to) => {
    try {
      linkSync(from, to);
    } catch {
      // A damaged note is in the way, or the file system has no links.
      if (readNote(to) === undefined) renameSync(from, to);
    }
  });
}

function placeNote(path: string, note: string, place: (from: string, to: string) => void): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, noteText(note), { mode: 0o600 });
    place(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function noteText(note: string): string {
  return `${note} ${createHash("sha256").update(note).digest("hex").slice(0, 16)}\n`;
}
