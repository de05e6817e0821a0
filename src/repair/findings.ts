/** Findings: their form in reports, and those about the ledger. */
import { HoldfastError } from "../contract/errors.ts";
import type { Finding } from "../contract/pool.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord } from "../ledger/record.ts";
import { bySize } from "../support/bounded.ts";
import type { Bound } from "../support/bounded.ts";
import type { ObjectFinding } from "./assess.ts";
import type { ScanItem } from "./scan.ts";

/** The number of objects looked at in parallel; of small ones more. */
export const WIDTH = 8;
export const byListedSize: Bound<ScanItem> = bySize(WIDTH, ({ listed, state }) => {
  // An object listed by its name alone has the size in its record. Without a record it may have any size.
  const recorded = currentRecord(state)?.content?.size ?? Infinity;
  return [...listed.values()].reduce(
    (most, one) => Math.max(most, typeof one === "object" ? one.size : one === undefined ? 0 : recorded),
    0,
  );
});

export function toFinding(object: string, finding: ObjectFinding): Finding {
  return {
    kind: finding.kind,
    object,
    ...(finding.member === undefined ? {} : { store: finding.member.label }),
    ...(finding.detail === undefined ? {} : { detail: finding.detail }),
  };
}

/**
 * Labels of the stores that were not heard (`unheard`), or not for every object (`silent`), and of those that the
 * pool's file does not name.
 */
export function unheardLabels(
  ledger: Ledger,
  unheard: ReadonlyMap<Member, unknown>,
  silent: ReadonlySet<Member>,
): readonly string[] {
  const absent = ledger.absentees.map(({ label }) => label);
  return [...[...new Set([...unheard.keys(), ...silent])].map((member) => member.label), ...absent];
}

/** Findings of segments that are missing on a store, or damaged. `read`: look for damage by reading them. */
export async function ledgerFindings(ledger: Ledger, read: boolean): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  // A segment that another one replaces is not needed, even if it is damaged. It will be removed.
  const surplus = new Set<string>();
  for (const gap of ledger.ledgerGaps()) {
    for (const name of gap.missing)
      findings.push({ kind: "ledger", object: name, store: gap.member.label, detail: "missing" });
    for (const name of gap.surplus) surplus.add(name);
  }
  for (const member of ledger.members) {
    if (!read || !member.ready) continue;
    for (const name of member.segments) {
      if (surplus.has(name)) continue;
      try {
        await ledger.fetchSegment(member, name);
      } catch (error) {
        if (error instanceof HoldfastError && error.code === "corrupt") {
          findings.push({ kind: "ledger", object: name, store: member.label, detail: "damaged" });
        }
      }
    }
  }
  return findings;
}
