/** Listings of FTP servers, in the forms of MLSD and of LIST. */
import { HoldfastError } from "../../contract/errors.ts";
import type { TreeEntry } from "../base/tree-store.ts";

/** `type=file;size=1;modify=20200102030405; name` (RFC 3659, section 7). */
export function parseFacts(line: string): TreeEntry | undefined {
  const space = line.indexOf(" ");
  if (space === -1) return undefined;
  const facts = new Map<string, string>();
  for (const fact of line.slice(0, space).split(";")) {
    const equals = fact.indexOf("=");
    if (equals !== -1) facts.set(fact.slice(0, equals).toLowerCase(), fact.slice(equals + 1));
  }
  const type = facts.get("type")?.toLowerCase();
  const size = facts.get("size");
  const name = line.slice(space + 1);
  const modifiedMs = parseTime(facts.get("modify"));
  if (type === "file") {
    return size !== undefined && /^\d+$/u.test(size)
      ? { name, kind: "file", size: Number(size), modifiedMs }
      : undefined;
  }
  if (type === undefined) return undefined;
  const isFolder = type === "dir" || type === "cdir" || type === "pdir";
  return { name, kind: isFolder ? "folder" : "other", size: 0, modifiedMs };
}

export function parseMlsd(text: string): TreeEntry[] {
  const entries: TreeEntry[] = [];
  for (const line of lines(text)) {
    if (/(?:^|;)type=[cp]dir;/iu.test(line.split(" ", 1)[0] ?? "")) continue;
    const entry = parseFacts(line);
    if (!entry)
      throw new HoldfastError("corrupt", `the server's listing has a line that is none of MLSD: ${shown(line)}`);
    if (entry.name !== "." && entry.name !== "..") entries.push(entry);
  }
  return entries;
}

/** A line of `ls -l`, which is what nearly all servers without MLSD send. */
const LIST_LINE =
  /^([-bcdlps])[-rwxsStTlL]{9}[+.@]?\s+\d+\s+\S+\s+(?:\S+\s+)?(\d+)\s+[A-Z][a-z]{2}\s+\d{1,2}\s+(?:\d{4}|\d{1,2}:\d{2}) (.+)$/u;

export function parseList(text: string): TreeEntry[] {
  const entries: TreeEntry[] = [];
  for (const line of lines(text)) {
    if (/^total \d+$/u.test(line)) continue;
    const match = LIST_LINE.exec(line);
    const [, type, size, name] = match ?? [];
    if (type === undefined || size === undefined || name === undefined) {
      throw new HoldfastError("incomplete", `the server's listing has a line that cannot be read: ${shown(line)}`);
    }
    if (name === "." || name === "..") continue;
    const kind = type === "-" ? "file" : type === "d" ? "folder" : "other";
    entries.push({ name, kind, size: kind === "file" ? Number(size) : 0 });
  }
  return entries;
}

function lines(text: string): string[] {
  return text.split(/\r?\n/u).filter((line) => line !== "");
}

function shown(line: string): string {
  return JSON.stringify(line.slice(0, 200));
}

/** `YYYYMMDDHHMMSS` and perhaps a fraction, in UTC. */
export function parseTime(text: string | undefined): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/u.exec(text ?? "");
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const ms = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, second);
  return Number.isNaN(ms) ? undefined : ms;
}
