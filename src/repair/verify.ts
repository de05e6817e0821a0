/** Verify: reads and compares all copies, changes nothing, and continues where an earlier run was interrupted. */
import type { HoldfastError } from "../contract/errors.ts";
import type { Finding, FindingKind, VerifyOptions, VerifyReport } from "../contract/pool.ts";
import type { Member } from "../ledger/member.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { forEachBounded } from "../support/bounded.ts";
import { byListedSize, ledgerFindings, toFinding, unheardLabels } from "./findings.ts";
import { inspect, scanNames } from "./scan.ts";

/** Verify notes its position after every this many objects. */
const REMEMBER_EVERY = 500;

export async function verify(pool: PoolContext, options: VerifyOptions): Promise<VerifyReport> {
  const { ledger } = pool;
  await pool.listenToAll();
  const outdated = await pool.findOutdated();
  const prefix = options.prefix ?? "";
  const mark = `verify:${options.quick === true ? "quick" : "full"}:${prefix}`;
  const sampling = options.samplePercent !== undefined && options.samplePercent < 100;
  const resumed = options.resume === false || sampling ? undefined : readMark(ledger.index.getFact(mark));
  const tally = {
    objects: 0,
    copies: 0,
    bytes: 0,
    findings: 0,
    byKind: {} as Partial<Record<FindingKind, number>>,
    ...resumed?.tally,
  };
  const unheard = new Map<Member, HoldfastError>();
  const silent = new Set<Member>();
  const report = (finding: Finding): void => {
    tally.findings++;
    tally.byKind[finding.kind] = (tally.byKind[finding.kind] ?? 0) + 1;
    options.onFinding?.(finding);
  };
  if (resumed === undefined) for (const finding of await ledgerFindings(ledger, true)) report(finding);
  const scope = { prefix, after: resumed?.after, quick: options.quick ?? false, signal: options.signal, outdated };
  // Names in the order in which they were begun. Everything before the first that is not done need not be looked at
  // again.
  const begun: { readonly name: string; done: boolean }[] = [];
  let reached = resumed?.after;
  const remember = (): void => {
    if (!sampling && reached !== undefined) ledger.index.setFact(mark, JSON.stringify({ after: reached, tally }));
  };
  const total = prefix === "" ? ledger.index.counts().objects : undefined;
  await forEachBounded(scanNames(pool, scope, unheard), byListedSize, async (item) => {
    if (sampling && pool.runtime.random() * 100 >= (options.samplePercent ?? 100)) return;
    const place = { name: item.name, done: false };
    begun.push(place);
    const { assessment, copies, bytes, ...seen } = await inspect(pool, item, scope, unheard);
    for (const member of seen.silent) silent.add(member);
    for (const finding of assessment.findings) report(toFinding(item.name, finding));
    // A deleted name is looked at too, but does not count as an object.
    if (copies > 0 || isPut(currentRecord(item.state))) tally.objects++;
    tally.copies += copies;
    tally.bytes += bytes;
    place.done = true;
    while (begun[0]?.done === true) reached = begun.shift()?.name;
    options.onProgress?.({
      objects: tally.objects,
      bytes: tally.bytes,
      ...(total === undefined ? {} : { totalObjects: total }),
    });
    if (tally.objects % REMEMBER_EVERY === 0) remember();
  }).catch((error: unknown) => {
    // After an interruption, the next verify continues from here.
    remember();
    throw error;
  });
  if (!sampling) ledger.index.setFact(mark, undefined);
  return { ...tally, unheard: unheardLabels(ledger, unheard, silent) };
}

interface VerifyMark {
  readonly after: string;
  readonly tally: {
    objects: number;
    copies: number;
    bytes: number;
    findings: number;
    byKind: Partial<Record<FindingKind, number>>;
  };
}

function readMark(text: string | undefined): VerifyMark | undefined {
  return text === undefined ? undefined : (JSON.parse(text) as VerifyMark);
}
