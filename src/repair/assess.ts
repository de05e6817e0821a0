/**
 * Assesses one object: finds its faults, and plans how to correct them. Pure: facts in, findings and a plan out.
 *
 * The rules, in order:
 * 1. The object is the newest finished version of which a good copy was seen. An older one counts only when every store
 *    has answered and none has the newer one.
 * 2. An unfinished write counts as never made while a copy of the finished version is left. If none is left anywhere and
 *    all copies are alike, those copies are the object.
 * 3. Copies without a record are adopted if they are alike. If they differ, they are a conflict, and all are kept.
 * 4. No copy is deleted or overwritten before a good copy was seen elsewhere. A good copy is deleted only if it is one
 *    too many and every store that should have one does.
 * 5. While another machine writes, only certain faults are reported, and the object counts as unsettled.
 * 6. A store that came with files of its own keeps those that are not a version of the object. They are a conflict.
 */
import type { Member } from "../ledger/member.ts";
import { countingStores, isPut, mayBeUnfinished, openIntents } from "../ledger/record.ts";
import type { Content, CopyMark, NameState, ObjectRecord, PutRecord } from "../ledger/record.ts";
import type { FindingKind, Mode } from "../contract/pool.ts";

/** A fact: the state of one object on one store, as it was seen. */
export type CopyFact =
  | { readonly kind: "absent" }
  /** The bytes were read, and perhaps kept. */
  | { readonly kind: "content"; readonly content: Content; readonly bytes?: Uint8Array }
  /** Only the size, and perhaps the store's own SHA-256, is known. */
  | { readonly kind: "size"; readonly size: number; readonly sha256?: string }
  /** The store has the object, but could not give it. `corrupt`: the store itself said that the bytes are wrong. */
  | { readonly kind: "unreadable"; readonly reason: string; readonly corrupt: boolean }
  /** The store was not heard. */
  | { readonly kind: "unheard" };

export interface AssessInput {
  readonly name: string;
  readonly state: NameState | undefined;
  /** One fact for each member, in the pool's order. */
  readonly facts: ReadonlyMap<Member, CopyFact>;
  readonly mode: Mode;
  /** The stores where the object should be (mirror) or may be (stripe). */
  readonly targets: readonly Member[];
  /** Whether an open intent's writer is certainly gone. */
  readonly isDead: (intent: ObjectRecord) => boolean;
  /** A record's mark of a store. */
  readonly markOf: (record: ObjectRecord, member: Member) => CopyMark | undefined;
  /** Whether another process or a late request may still change the store's copy. */
  readonly mayChange: (member: Member) => boolean;
  /** Whether the store came with files of its own that no repair has seen as a whole. */
  readonly hasOwnFiles: (member: Member) => boolean;
  /** Labels of the pool's stores that its file does not name and that may have a copy. */
  readonly absent: readonly string[];
  /** Whether the stores' copies of a lost object are accepted as the object. Default false. */
  readonly trustStores?: boolean | undefined;
  /** Stripe: chooses the one of several good copies that stays. Default: all stay. */
  readonly keepOne?: ((members: readonly Member[], bytes: number) => Member | undefined) | undefined;
}

export interface ObjectFinding {
  readonly kind: FindingKind;
  readonly member?: Member;
  readonly detail?: string;
}

/** The steps for one object, in the order in which they are carried out: record, copies, deletes, marks. */
export interface ObjectPlan {
  /**
   * - `keep`: the record stands; marks may change.
   * - `renew`: a record of a new version is written first, with this content or as a tombstone. It settles the open
   *   writes.
   */
  readonly decision:
    | { readonly keep: ObjectRecord }
    | { readonly renew: Content | "delete"; readonly from: ObjectRecord | undefined };
  /** The reason for writing a record, for people. */
  readonly why: string;
  /** Members whose copy is good. */
  readonly good: readonly Member[];
  /** Members that should have a copy. Surplus copies on others are deleted only when all of these have one. */
  readonly wanted: readonly Member[];
  readonly copyTo: readonly { readonly member: Member; readonly why: string }[];
  readonly deleteFrom: readonly { readonly member: Member; readonly why: string }[];
  /**
   * Members whose mark is outdated: they have a good copy without a `holds` mark, or no copy although a mark says
   * otherwise.
   */
  readonly confirm: readonly Member[];
}

export interface Assessment {
  readonly findings: readonly ObjectFinding[];
  /** Undefined: there is nothing to do, or nothing can be done now. */
  readonly plan: ObjectPlan | undefined;
}

const NOTHING: Assessment = { findings: [], plan: undefined };

export function assess(input: AssessInput): Assessment {
  const records = input.state?.records ?? [];
  const finished = records.filter((record) => record.kind !== "intent");
  const intents = openIntents(input.state);
  // Repair leaves an object alone while another process writes or repairs it.
  const isLive = records.some((record) => record.kind === "intent" && !input.isDead(record));
  for (const record of finished) {
    // A tombstone that the newest put did not know of has no copies to prove it. The copies of an unfinished write come
    // first.
    if (record.kind === "delete" && record !== finished[0] && intents.length > 0) continue;
    if (record.kind === "delete") return isLive ? open(input, record) : settled(input, record, []);
    if (!isPut(record)) continue;
    if (isLive) return open(input, record);
    const good = membersWhere(input, (fact) => matches(fact, record.content));
    if (good.length > 0) return settled(input, record, good);
    const isSilent = membersWhere(input, (fact) => fact.kind === "unheard" || fact.kind === "unreadable").length > 0;
    if (isSilent || input.absent.length > 0) return undecided(input, record);
  }
  const newest = finished[0];
  if (isLive) return open(input, undefined);
  if (newest !== undefined && intents.length === 0)
    return input.trustStores === true ? trusted(input, newest) : lost(input, newest);
  return unrecorded(input, newest);
}

/**
 * Another process changes the object. A state that this change does not explain is a fault; the rest is not known yet.
 */
function open(input: AssessInput, record: ObjectRecord | undefined): Assessment {
  const findings: ObjectFinding[] = [
    { kind: "unsettled", detail: "a write of another process is under way, or was cut short" },
  ];
  if (!isPut(record)) return { findings, plan: undefined };
  for (const [member, fact] of input.facts) {
    if (fact.kind === "absent" && input.markOf(record, member)?.state === "holds")
      findings.push({ kind: "missing", member });
    if (!isPresent(fact) || matches(fact, record.content)) continue;
    const isExplained = mayBeUnfinished(input.state, member.owingId) || !input.targets.includes(member);
    if (!isExplained) findings.push({ kind: wrongness(fact, record, input.state), member });
    else if (input.targets.includes(member)) {
      findings.push({ kind: "unsettled", member, detail: "the copy is not the finished version" });
    }
  }
  return { findings, plan: undefined };
}

function membersWhere(input: AssessInput, test: (fact: CopyFact) => boolean): Member[] {
  return [...input.facts].filter(([, fact]) => test(fact)).map(([member]) => member);
}

function isPresent(fact: CopyFact): boolean {
  return fact.kind === "content" || fact.kind === "size" || fact.kind === "unreadable";
}

/** Whether a copy has this content, as far as the fact shows. */
export function matches(fact: CopyFact, content: Content): boolean {
  if (fact.kind === "content") return fact.content.sha256 === content.sha256 && fact.content.size === content.size;
  if (fact.kind === "size") return fact.size === content.size && (fact.sha256 ?? content.sha256) === content.sha256;
  return false;
}

/** The object's content by its plan; undefined if it is to be deleted. */
export function contentOf(plan: ObjectPlan): Content | undefined {
  if ("keep" in plan.decision) return plan.decision.keep.content;
  return plan.decision.renew === "delete" ? undefined : plan.decision.renew;
}

/** The object's version is known. Every copy is compared with it. */
function settled(input: AssessInput, record: ObjectRecord, good: readonly Member[]): Assessment {
  const others = (input.state?.records.length ?? 0) > 1;
  const wanted = wantedMembers(input, record, good);
  const plan: Mutable<Pick<ObjectPlan, "copyTo" | "deleteFrom" | "confirm">> = {
    copyTo: [],
    deleteFrom: [],
    confirm: [],
  };
  const findings: ObjectFinding[] = others ? [unsettledFinding(input)] : [];
  for (const [member, fact] of input.facts) {
    if (good.includes(member)) judgeGood(input, record, member, wanted.has(member), findings, plan);
    else if (isPresent(fact)) judgeWrong(input, record, member, fact, wanted.has(member), findings, plan);
    else if (fact.kind !== "unheard") judgeAbsent(input, record, member, others, wanted.has(member), findings, plan);
  }
  // A surplus copy does no harm, so it stays while a store that should have a copy neither has nor gets one.
  const isSure = [...wanted].every(
    (member) => good.includes(member) || plan.copyTo.some((one) => one.member === member),
  );
  if (isPut(record) && !isSure) plan.deleteFrom = plan.deleteFrom.filter(({ member }) => !good.includes(member));
  const { copyTo, deleteFrom, confirm } = plan;
  if (!others && copyTo.length === 0 && deleteFrom.length === 0 && confirm.length === 0)
    return { findings, plan: undefined };
  return {
    findings,
    plan: {
      decision: others ? { renew: isPut(record) ? record.content : "delete", from: record } : { keep: record },
      why: others ? "settles an unfinished or concurrent write" : "notes confirmed copies and deletes",
      good,
      wanted: [...wanted],
      copyTo,
      deleteFrom,
      confirm,
    },
  };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer U)[] ? U[] : T[K] };
type Steps = Mutable<Pick<ObjectPlan, "copyTo" | "deleteFrom" | "confirm">>;

function unsettledFinding(input: AssessInput): ObjectFinding {
  const isBegun = input.state?.records.some((record) => record.kind === "intent") ?? false;
  return {
    kind: "unsettled",
    detail: isBegun ? "a write was begun and not finished" : "several machines wrote it at once",
  };
}

function judgeGood(
  input: AssessInput,
  record: ObjectRecord,
  member: Member,
  isWanted: boolean,
  findings: ObjectFinding[],
  plan: Steps,
): void {
  if (!isWanted) {
    const isSpare = input.keepOne !== undefined && input.targets.includes(member);
    const detail = isSpare ? "a stripe needs one copy" : "the object is not placed here";
    findings.push({ kind: "stray", member, detail });
    plan.deleteFrom.push({ member, why: isSpare ? "one copy is enough" : "not placed here" });
    return;
  }
  const mark = input.markOf(record, member)?.state;
  if (mark === "holds") return;
  if (input.mayChange(member)) {
    findings.push({ kind: "unsettled", member, detail: "an earlier request to it may still take effect" });
    return;
  }
  if (mark === "copy") findings.push({ kind: "missing", member, detail: "owed, but already in place" });
  plan.confirm.push(member);
}

function judgeWrong(
  input: AssessInput,
  record: ObjectRecord,
  member: Member,
  fact: CopyFact,
  isWanted: boolean,
  findings: ObjectFinding[],
  plan: Steps,
): void {
  const kind = record.kind === "delete" ? "stray" : wrongness(fact, record, input.state);
  // A copy that the pool put there before a repair saw the whole store is not one of the store's own files.
  const isFormer = fact.kind === "content" && fact.content.sha256 === record.former;
  const isOwn =
    input.hasOwnFiles(member) && kind !== "stale" && !isFormer && input.markOf(record, member)?.state !== "holds";
  if (isOwn) {
    findings.push({ kind: "conflict", member, detail: "the store came with another file of this name" });
    return;
  }
  if (!isWanted) {
    const why = record.kind === "delete" ? "deleted" : "not placed here";
    findings.push({
      kind: "stray",
      member,
      detail: record.kind === "delete" ? "the object was deleted" : "the object is not placed here",
    });
    plan.deleteFrom.push({ member, why });
    return;
  }
  findings.push({ kind, member, ...(fact.kind === "unreadable" ? { detail: fact.reason } : {}) });
  if (fact.kind !== "unreadable" || fact.corrupt) plan.copyTo.push({ member, why: kind });
}

function judgeAbsent(
  input: AssessInput,
  record: ObjectRecord,
  member: Member,
  others: boolean,
  isWanted: boolean,
  findings: ObjectFinding[],
  plan: Steps,
): void {
  const mark = input.markOf(record, member)?.state;
  if (isWanted) {
    findings.push({ kind: "missing", member });
    plan.copyTo.push({ member, why: "missing" });
  } else if (others || mark === "delete" || mark === "holds" || mark === "copy") {
    if (record.kind === "put" && mark === "holds") findings.push({ kind: "missing", member });
    if (input.mayChange(member)) {
      findings.push({ kind: "unsettled", member, detail: "an earlier request to it may still take effect" });
    } else plan.confirm.push(member);
  }
}

/** Members that should have a copy. Mirror: the targets. Stripe: the member with a good copy, else the first target. */
function wantedMembers(input: AssessInput, record: ObjectRecord, good: readonly Member[]): ReadonlySet<Member> {
  if (record.kind === "delete") return new Set();
  if (input.mode === "mirror") return new Set(input.targets);
  const placed = good.filter((member) => input.targets.includes(member));
  const recorded = placed.filter((member) => input.markOf(record, member)?.state === "holds");
  const only = input.keepOne?.(recorded.length > 0 ? recorded : placed, record.content?.size ?? 0);
  if (only !== undefined) return new Set([only]);
  const chosen = recorded[0] ?? placed[0];
  if (chosen !== undefined) {
    // A second good copy of a striped object stays unless the record says that it is owed a delete.
    const kept = placed.filter((member) => member.id !== undefined && input.markOf(record, member)?.state !== "delete");
    return new Set([chosen, ...kept]);
  }
  const taking = input.targets.find((member) => input.facts.get(member)?.kind === "absent");
  return new Set(taking === undefined ? good : [taking]);
}

function wrongness(fact: CopyFact, record: ObjectRecord, state: NameState | undefined): FindingKind {
  if (fact.kind === "unreadable") return "unreadable";
  const sha256 = fact.kind === "content" ? fact.content.sha256 : fact.kind === "size" ? fact.sha256 : undefined;
  const earlier = [record.former, ...(state?.records ?? []).map((one) => one.content?.sha256)];
  if (sha256 !== undefined && earlier.includes(sha256)) return "stale";
  const expected = record.content;
  if (expected === undefined) return "corrupt";
  const size = fact.kind === "content" ? fact.content.size : fact.kind === "size" ? fact.size : 0;
  if (size < expected.size && (fact.kind !== "content" || isBeginning(fact.content, expected))) return "truncated";
  return "corrupt";
}

/** Whether the whole pieces of a shorter copy are those of the expected content. */
function isBeginning(copy: Content, expected: Content): boolean {
  if (copy.pieceBytes !== expected.pieceBytes || expected.pieces === "" || copy.pieces === "") return true;
  const whole = Math.floor(copy.size / copy.pieceBytes) * 16;
  return expected.pieces.startsWith(copy.pieces.slice(0, whole));
}

/** No good copy was seen, and some stores could not be read. */
function undecided(input: AssessInput, record: PutRecord): Assessment {
  const findings: ObjectFinding[] = [];
  for (const [member, fact] of input.facts) {
    if (fact.kind === "content" || fact.kind === "size")
      findings.push({ kind: wrongness(fact, record, input.state), member });
    else if (fact.kind === "unreadable") findings.push({ kind: "unreadable", member, detail: fact.reason });
    else if (fact.kind === "absent" && isExpected(input, record, member)) {
      findings.push({ kind: "missing", member });
    }
  }
  return { findings, plan: undefined };
}

/** Whether a store should have a copy, by the record or by the object's placement. */
function isExpected(input: AssessInput, record: PutRecord, member: Member): boolean {
  if (input.markOf(record, member)?.state === "holds") return true;
  return input.mode === "mirror" && input.targets.includes(member);
}

function lost(input: AssessInput, record: ObjectRecord): Assessment {
  const findings: ObjectFinding[] = [{ kind: "lost", detail: "no store has a good copy" }];
  for (const [member, fact] of input.facts) {
    if (isPresent(fact)) findings.push({ kind: wrongness(fact, record, input.state), member });
    else if (input.markOf(record, member)?.state === "holds") findings.push({ kind: "missing", member });
  }
  return { findings, plan: undefined };
}

/** No finished version decides: the copies are from before the ledger, or from an unfinished write. */
function unrecorded(input: AssessInput, finished: ObjectRecord | undefined): Assessment {
  const all = membersWhere(input, isPresent);
  const present = countingStores(
    input.state,
    all.filter((member) => mayBeUnfinished(input.state, member.owingId)),
  );
  const silent = [...membersWhere(input, (fact) => fact.kind === "unheard").map(({ label }) => label), ...input.absent];
  const isUnheard = silent.length > 0;
  const unheard = `not heard: ${silent.join(", ")}`;
  const intents = (input.state?.records.length ?? 0) > 0;
  if (present.length === 0) {
    if (!intents || isUnheard) {
      return intents ? { findings: [{ kind: "unsettled", detail: unheard }], plan: undefined } : NOTHING;
    }
    // Nothing is left of writes made at the same time, so the delete among them counts.
    const deleted = input.state?.records.find((record) => record.kind === "delete");
    if (deleted !== undefined) return settled(input, deleted, []);
    if (finished !== undefined) return lost(input, finished);
    return {
      findings: [{ kind: "unsettled", detail: "a write was begun and left no copy" }],
      plan: {
        decision: { renew: "delete", from: undefined },
        why: "settles an unfinished write",
        good: [],
        wanted: [],
        copyTo: [],
        deleteFrom: [],
        confirm: membersWhere(input, (fact) => fact.kind === "absent"),
      },
    };
  }
  const contents = new Map<string, Content>();
  for (const member of present) {
    const fact = input.facts.get(member);
    if (fact?.kind !== "content") {
      return {
        findings: [{ kind: intents ? "unsettled" : "unrecorded", detail: "a copy could not be read" }],
        plan: undefined,
      };
    }
    contents.set(fact.content.sha256, fact.content);
  }
  const [content] = contents.values();
  if (contents.size > 1 || content === undefined) return conflicting(present);
  const kind: FindingKind = intents ? "unsettled" : "unrecorded";
  // A silent store may have another copy, so nothing is decided without it.
  if (isUnheard) return { findings: [{ kind, detail: unheard }], plan: undefined };
  const why = intents ? "settles an unfinished write" : "adopts an object without a record";
  return adopted(input, content, { findings: [{ kind }], from: finished, why });
}

/**
 * At the user's request, the stores' copies of a lost object are accepted, if they are alike. If there are none, the
 * object counts as deleted.
 */
function trusted(input: AssessInput, record: ObjectRecord): Assessment {
  const contents = new Map<string, Content>();
  const present = membersWhere(input, isPresent);
  for (const member of present) {
    const fact = input.facts.get(member);
    if (fact?.kind !== "content") return lost(input, record);
    contents.set(fact.content.sha256, fact.content);
  }
  if (contents.size > 1) return conflicting(present);
  const [content] = contents.values();
  const findings = [{ kind: "lost", detail: "the copies on the stores are accepted" }] as const;
  const why = "accepts the copies on the stores";
  if (content !== undefined) return adopted(input, content, { findings, from: undefined, why });
  const confirm = membersWhere(input, (fact) => fact.kind === "absent");
  return {
    findings,
    plan: {
      decision: { renew: "delete", from: undefined },
      why,
      good: [],
      wanted: [],
      copyTo: [],
      deleteFrom: [],
      confirm,
    },
  };
}

function conflicting(present: readonly Member[]): Assessment {
  const detail = "the copies differ, and no record decides between them";
  return { findings: present.map((member) => ({ kind: "conflict", member, detail })), plan: undefined };
}

/** A plan by which the object has this content from now on. */
function adopted(
  input: AssessInput,
  content: Content,
  {
    findings,
    from,
    why,
  }: { readonly findings: readonly ObjectFinding[]; readonly from: ObjectRecord | undefined; readonly why: string },
): Assessment {
  const all = membersWhere(input, isPresent);
  const good = all.filter((member) => matches(input.facts.get(member) ?? { kind: "absent" }, content));
  const placed = good.filter((member) => input.targets.includes(member));
  const wanted = input.mode === "mirror" ? input.targets : placed.length > 0 ? placed : input.targets.slice(0, 1);
  return {
    findings,
    plan: {
      decision: { renew: content, from },
      why,
      good,
      wanted,
      copyTo: wanted
        .filter((member) => !good.includes(member))
        .map((member) => ({ member, why: all.includes(member) ? "stale" : "missing" })),
      deleteFrom: all
        .filter((member) => !wanted.includes(member))
        .map((member) => ({ member, why: "not placed here" })),
      // Under a new version every store owes something until it is confirmed, even a store without a copy.
      confirm: membersWhere(input, (fact) => fact.kind === "absent").filter((member) => !wanted.includes(member)),
    },
  };
}
