/** Where this machine keeps what can be made anew at any time. */
import { createHash } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * `$HOLDFAST_CACHE`, else `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It need not exist. An empty value stands for none,
 * and so does, as the XDG specification has it, a relative XDG_CACHE_HOME.
 */
export function cacheFolderPath(): string {
  const { HOLDFAST_CACHE: own, XDG_CACHE_HOME: shared = "" } = process.env;
  if (own !== undefined && own !== "") return own;
  return join(isAbsolute(shared) ? shared : join(homedir(), ".cache"), "holdfast");
}

/** A note of 32 hexadecimal digits, with a digest of it; undefined where there is none, or another text than was written. */
export function readNote(path: string): string | undefined {
  try {
    const text = readFileSync(path, "utf8");
    const note = text.slice(0, 32);
    return text === noteText(note) && /^[0-9a-f]{32}$/u.test(note) ? note : undefined;
  } catch {
    return undefined;
  }
}

/** Writes a note, as a whole or not at all. Throws what hinders it. */
export function writeNote(path: string, note: string): void {
  placeNote(path, note, renameSync);
}

/** The same where there is none, or another text than was written: of several processes that do so at once one is the first. */
export function writeFirstNote(path: string, note: string): void {
  placeNote(path, note, (from, to) => {
    try {
      linkSync(from, to);
    } catch {
      // Something else stands there, or the file system has no links.
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
