/** Findings: the form in which scans of a pool tell them, and what is wrong with its ledger. */
import { HoldfastError } from "../contract/errors.ts";
import type { Finding } from "../contract/pool.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord } from "../ledger/record.ts";
import { bySize } from "../support/bounded.ts";
import type { Bound } from "../support/bounded.ts";
import type { ObjectFinding } from "./assess.ts";
import type { ScanItem } from "./scan.ts";

/** Objects looked at, at once; of small ones more. */
export const WIDTH = 8;
export const byListedSize: Bound<ScanItem> = bySize(WIDTH, ({ listed, state }) => {
  // What is listed by its name alone is as large as its record says; without one it may be of any size.
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

/** Stores that could not be looked at, or (`silent`) not at every object, and those that the file does not name among them. */
export function unheardLabels(
  ledger: Ledger,
  unheard: ReadonlyMap<Member, unknown>,
  silent: ReadonlySet<Member>,
): readonly string[] {
  const absent = ledger.absentees.map(({ label }) => label);
  return [...[...new Set([...unheard.keys(), ...silent])].map((member) => member.label), ...absent];
}

/** Segments that are missing on a store, or (when they are read) damaged. */
export async function ledgerFindings(ledger: Ledger, read: boolean): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  // Nobody needs a segment that another one replaces, whole or damaged: it is only waiting to be removed.
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
