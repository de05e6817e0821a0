/** Which segment replaced which, as the index remembers it. */
import type { LedgerIndex } from "./ledger-index.ts";

/** Facts of the index: by which segment another one was replaced. */
export const REPLACED = "replaced:";

/** Whether what replaced a segment, or what replaced that in its turn, is there, by `stands`. */
export function isReplaced(index: LedgerIndex, name: string, stands: (name: string) => boolean): boolean {
  for (let by = replacedBy(index, name); by !== undefined; by = replacedBy(index, by)) if (stands(by)) return true;
  return false;
}

/** The segment that replaced this one, if any did. */
export function replacedBy(index: LedgerIndex, name: string): string | undefined {
  return index.getFact(REPLACED + name);
}
