/**
 * Which processes of this machine still run: a write that was begun and not finished may be settled at once when its
 * process is gone, and must be left alone while it runs. Noted in the local index, which the machine's processes share.
 */
import { readFileSync } from "node:fs";
import type { LedgerIndex } from "./ledger/ledger-index.ts";

function factKey(writer: string): string {
  return `process:${writer}`;
}

/** Notes that this process is the writer. */
export function registerWriter(index: LedgerIndex, writer: string): void {
  index.setFact(factKey(writer), `${process.pid} ${startOf(process.pid) ?? ""}`);
}

export function unregisterWriter(index: LedgerIndex, writer: string): void {
  index.setFact(factKey(writer), undefined);
}

/** Whether the process that was noted as the writer still runs. One that was never noted, or has ended well, does not. */
export function isLiveWriter(index: LedgerIndex, writer: string): boolean {
  const [pid, start] = index.getFact(factKey(writer))?.split(" ") ?? [];
  if (pid === undefined) return false;
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
