/**
 * The live writers of this machine. An unfinished write may be settled at once when its process is gone, and must be
 * left alone while it runs. The writers are noted in the local index, which the machine's processes share.
 */
import { readFileSync } from "node:fs";
import type { LedgerIndex } from "../ledger/ledger-index.ts";

function factKey(writer: string): string {
  return `process:${writer}`;
}

/** Notes that this process is the writer, and forgets writers that ended without removing their note. */
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
 * Whether the process that was noted as the writer still runs. A writer without a note was never noted, or has ended. If the
 * index may lack notes of this machine's processes (`isComplete` is false), the answer for it is undefined.
 */
export function isLiveWriter(index: LedgerIndex, writer: string, isComplete: boolean): boolean | undefined {
  const [pid, start] = index.getFact(factKey(writer))?.split(" ") ?? [];
  if (pid === undefined) return isComplete ? false : undefined;
  const now = startOf(Number(pid));
  // The system may give a process number again. The time of its start tells the two processes apart.
  return now !== undefined && now === start;
}

/** The time at which a process started, as the kernel writes it; undefined if there is no such process. */
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
