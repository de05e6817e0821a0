/**
 * Which processes of this machine still run: a write that was begun and not finished may be settled at once when its
 * process is gone, and must be left alone while it runs. Noted in the local index, which the machine's processes share.
 */
import { readFileSync } from "node:fs";
import type { LedgerIndex } from "../ledger/ledger-index.ts";

function factKey(writer: string): string {
  return `process:${writer}`;
}

/** Notes that this process is the writer, and forgets those that ended without saying so. */
export function registerWriter(index: LedgerIndex, writer: string): void {
  for (const [key] of index.facts(factKey(""))) {
    const other = key.slice(factKey("").length);
    if (isLiveWriter(index, other, true) === false) unregisterWriter(index, other);
  }
  index.setFact(factKey(writer), `${process.pid} ${startOf(process.pid) ?? ""}`);
}

export function unregisterWriter(index: LedgerIndex, writer: string): void {
  index.setFact(factKey(writer), undefined);
}

/**
 * Whether the process that was noted as the writer still runs. One that was never noted, or has ended well, does not; where the
 * index is not known to have all that this machine's processes noted (`isComplete`), it is unknown: undefined.
 */
export function isLiveWriter(index: LedgerIndex, writer: string, isComplete: boolean): boolean | undefined {
  const [pid, start] = index.getFact(factKey(writer))?.split(" ") ?? [];
  if (pid === undefined) return isComplete ? false : undefined;
  const now = startOf(Number(pid));
  // A process number is given again: the time it started tells the two apart.
  return now !== undefined && now === start;
}

/** When a process started, in the kernel's words; undefined when there is none. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may hold anything; the fields behind it are numbers. Start time is the 22nd of all.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    try {
      process.kill(pid, 0);
      return "";
    } catch {
      return undefined;
    }
  }
}
