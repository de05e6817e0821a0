/** The index's memory of which segment replaced which. */
import type { LedgerIndex } from "./ledger-index.ts";

/** Prefix of the index's facts that name a segment's replacement. */
export const REPLACED = "replaced:";

/** Whether a segment's replacement, or a replacement of that one, is there by `stands`. */
export function isReplaced(index: LedgerIndex, name: string, stands: (name: string) => boolean): boolean {
  for (let by = replacedBy(index, name); by !== undefined; by = replacedBy(index, by)) if (stands(by)) return true;
  return false;
}

/** The segment that replaced this one, if there is one. */
export function replacedBy(index: LedgerIndex, name: string): string | undefined {
  return index.getFact(REPLACED + name);
}
