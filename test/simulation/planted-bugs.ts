/**
 * Bugs to be planted in a copy of the sources, each of which the simulation must find. `find` stands once in the file:
 * where the code has changed so that it does not, the bug has to be planted anew.
 */

export interface PlantedBug {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** A schedule that is known to find it, where many do not: looked at before all others. */
  readonly foundBy?: number;
}

const POOL_STORE = "src/pool/pool-store.ts";
const PUTS = "src/pool/pool-puts.ts";
const COMMIT = "src/pool/commit.ts";
const READS = "src/pool/pool-reads.ts";
const DELETES = "src/pool/pool-deletes.ts";
const LEDGER = "src/ledger/ledger.ts";
const MEMBERSHIP = "src/ledger/membership.ts";
const IDENTITIES = "src/ledger/identities.ts";
const WRITER = "src/ledger/segment-writer.ts";
const READER = "src/ledger/segment-reader.ts";
const COMPACTION = "src/ledger/compaction.ts";
const RECORD = "src/ledger/record.ts";
const READ = "src/pool/verified-read.ts";
const ASSESS = "src/repair/assess.ts";
const SCAN = "src/repair/scan.ts";
const MEND = "src/repair/mend.ts";
const STATUS = "src/repair/status.ts";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "a put is tried for ever while the last store fails",
    file: PUTS,
    find: "const { owed, mayLand } = await member.store.put(name, branchBody(branch, body, agree), { signal: ends });",
    replace: `const shared = branchBody(branch, body, agree);
        let taken: Awaited<ReturnType<typeof member.store.put>> | undefined;
        while (taken === undefined) {
          try {
            taken = await member.store.put(name, shared, { signal: ends });
          } catch (error) {
            if (member !== taking.at(-1)) throw error;
          }
        }
        const { owed, mayLand } = taken;`,
  },
  {
    name: "a read never reaches the second store",
    file: READ,
    find: "      failures.push(failure);\n",
    replace: "      failures.push(failure);\n      if (failures.length > 0) throw failure;\n",
  },
  {
    name: "a put is acknowledged before its record is durable",
    file: COMMIT,
    find: "this.#holders.map(async (member) => [member, await appended.get(member)] as const),",
    replace: "this.#holders.slice(0, 0).map(async (member) => [member, await appended.get(member)] as const),",
  },
  {
    name: "a debt is cleared before there is a copy",
    file: COMMIT,
    find: 'copies[id] = { state: "copy", rev, reason: error.code, ...late }',
    replace: 'copies[id] = { state: "holds", rev }',
  },
  {
    name: "compaction forgets tombstones",
    file: COMPACTION,
    find: "      objects.push(...state.records);",
    replace: '      objects.push(...state.records.filter((record) => record.kind !== "delete"));',
  },
  {
    name: "repair trusts sizes instead of reading",
    file: SCAN,
    find: "const quick = scope.quick &&",
    replace: "const quick = true || scope.quick &&",
  },
  {
    name: "versions follow the wall clock",
    file: "src/ledger/hybrid-clock.ts",
    find: "if (now > this.#ms) {",
    replace: "if (now !== this.#ms) {",
  },
  {
    name: "an overwrite writes no intent",
    file: PUTS,
    find: "hasIntent: !this.#isNew(name, state)",
    replace: "hasIntent: state === undefined && !this.#isNew(name, state)",
  },
  {
    name: "a store that has the bytes and not the record counts as a holder",
    file: COMMIT,
    find: "const lost = errors.filter(([, error]) => error !== undefined);",
    replace: "const lost = errors.filter(([, error]) => error === null);",
  },
  {
    name: "copies of the right size are taken for good",
    file: ASSESS,
    find: "return fact.content.sha256 === content.sha256 && fact.content.size === content.size;",
    replace: "return fact.content.size === content.size;",
  },
  {
    name: "merging takes the first mark instead of the latest",
    file: RECORD,
    find: "if (known === undefined || laterMark(mark, known)) copies[id] = mark;",
    replace: "if (known === undefined) copies[id] = mark;",
  },
  {
    name: "merging drops what another machine wrote at once",
    file: RECORD,
    find: "const kept = others.filter((known) => !supersedes(joined, known));",
    replace: "const kept: ObjectRecord[] = [];",
  },
  {
    name: "a listing hides that a store was silent",
    file: POOL_STORE,
    find: "if (unheard.size > 0 || this.#pool.ledger.unreadableSegments.size > 0) {",
    replace: "if (this.#pool.ledger.unreadableSegments.size > 0) {",
    foundBy: 8158,
  },
  {
    name: "bytes are deleted before the tombstone is durable",
    file: DELETES,
    find: "const { told, failed } = await this.#tell(record);",
    replace:
      "await Promise.all(ledger.members.map((member) => member.store.delete(name).catch(() => undefined)));\n      const { told, failed } = await this.#tell(record);",
  },
  {
    name: "a read goes on at the wrong piece",
    file: READ,
    find: "checkedPieces(source.store, options, piece, behind)",
    replace:
      "checkedPieces(source.store, options, failures.length > 0 && piece + 1 < behind ? piece + 1 : piece, behind)",
  },
  {
    name: "pieces are not checked",
    file: READ,
    find: "  if (!right) throw corrupt(",
    replace: "  if (right === undefined) throw corrupt(",
  },
  {
    name: "compaction removes segments before it writes",
    file: COMPACTION,
    find: "    let last: NewSegment | undefined;\n",
    replace:
      "    let last: NewSegment | undefined;\n    await Promise.all([...whole].map((member) => this.#remove(member, replaced)));\n",
  },
  {
    name: "the index learns records before any store has them",
    file: WRITER,
    find: "    let learned = false;\n    const awaited",
    replace:
      "    let learned = true;\n    this.#ledger.index.apply({ objects: batch.objects, stores: batch.stores, segment: name });\n    const awaited",
  },
  {
    name: "a store that lost everything is filled as if it were new",
    file: MEMBERSHIP,
    find: "const isAnyMissed = knownStores(stores).some(({ id }) => !taken.has(id));",
    replace: "const isAnyMissed = false;",
  },
  {
    name: "a striped put is recorded on a store that failed it",
    file: PUTS,
    find: "if (stored !== undefined && !missed.has(member)) {",
    replace: "if (stored !== undefined) {",
  },
  {
    name: "a read fails while a store is silent",
    file: READS,
    find: "    const { sources, silent } = this.#sources(record);\n    const failures",
    replace:
      "    const { sources, silent } = this.#sources(record);\n    if (silent.length > 0) throw noGoodCopy(name, silent);\n    const failures",
  },
  {
    name: "a listing leaves out what a silent store holds too",
    file: POOL_STORE,
    find: "if (isPut(current)) yield infoOf(this.#pool.shownName(name), current);",
    replace: "if (isPut(current) && unheard.size === 0) yield infoOf(this.#pool.shownName(name), current);",
  },
  {
    name: "a put waits a minute for a store that failed",
    file: PUTS,
    find: "        failed.set(member, failure);\n        if (this.#pool.onfail",
    replace:
      "        failed.set(member, failure);\n        await this.#pool.runtime.sleep(60_000);\n        if (this.#pool.onfail",
  },
  {
    name: "striped objects belong on the first store of the file",
    file: ASSESS,
    find: "  const placed = good.filter((member) => input.targets.includes(member));\n  const recorded",
    replace: "  const placed = good.filter((member) => member === input.targets[0]);\n  const recorded",
  },
  {
    name: "verify looks at one store and takes the others to be like it",
    file: SCAN,
    find: "      if (listed !== undefined && info === undefined && !isHere)",
    replace:
      '      if (member !== pool.ledger.members[0] && state?.records[0]?.content !== undefined && info !== undefined)\n        return [member, { kind: "content", content: state.records[0].content }];\n      if (listed !== undefined && info === undefined && !isHere)',
  },
  {
    name: "an object of which no good copy is left is not called lost",
    file: ASSESS,
    find: '  const findings: ObjectFinding[] = [{ kind: "lost", detail: "no store has a good copy" }];',
    replace: "  const findings: ObjectFinding[] = [];",
  },
  {
    name: "damaged segments are not mended",
    file: "src/repair/repair.ts",
    find: "    if (await ledger.mendSegment(member, object)) return true;\n",
    replace: "    return true;\n",
  },
  {
    name: "a quick repair takes an owed copy for paid because its size is right",
    file: SCAN,
    find: "&& isHere && !isUnproven",
    replace: "&& !isUnproven",
    foundBy: 3372803,
  },
  {
    name: "a put does not note that its own request may still take effect",
    file: COMMIT,
    find: "if (isOpen) return { late: rev };",
    replace: "if (isOpen) return {};",
    foundBy: 5822,
  },
  {
    name: "a request without an answer counts as over",
    file: LEDGER,
    find: "if (mark.late !== undefined) return this.sightings.ageMs(mark.late) < this.lateMs;",
    replace: "if (mark.late !== undefined) return this.sightings.ageMs(mark.late) < 0;",
    foundBy: 5822,
  },
  {
    name: "a put does not look at what stands after another write",
    file: COMMIT,
    find: "|| beingWritten.has(member),",
    replace: "|| member.ready || beingWritten.has(member),",
  },
  {
    name: "repair does not release its claim",
    file: MEND,
    find: "const settles = this.#claim === undefined ||",
    replace: 'const settles = this.#claim?.version !== "" ||',
  },
  {
    name: "a delete is enough that no ledger has",
    file: DELETES,
    find: "return told >= Math.max(1,",
    replace: "return told >= Math.min(0,",
  },
  {
    name: "the marks of a put count no more than those of its intent",
    file: COMMIT,
    find: "let rev = this.#put.hasIntent || this.#failed.size > 0 ?",
    replace: "let rev = this.#failed.size > 99 ?",
  },
  {
    name: "what the pool is is not written down",
    file: IDENTITIES,
    find: "const pools = isKnown\n",
    replace: "const pools = isKnown || machine.length > 0\n",
  },
  {
    name: "the record of a put does not name stores that missed it",
    file: COMMIT,
    find: "else if (error !== undefined && mirrored) copies[id] =",
    replace: 'else if (error !== undefined && mirrored && error.code === "internal") copies[id] =',
  },
  {
    name: "a copy of a disk counts as a second store",
    file: MEMBERSHIP,
    find: 'if (other !== undefined) (isFirst ? other : member).state = "twin";',
    replace: 'if (other !== undefined && seen.size > 99) (isFirst ? other : member).state = "twin";',
    foundBy: 66,
  },
  {
    name: "a put does not look whether its stores are still the ones that were meant",
    file: COMMIT,
    find: "      if (this.#isStillThere(member)) continue;\n",
    replace: '      if (this.#isStillThere(member) || member.label !== "") continue;\n',
    foundBy: 21,
  },
  {
    name: "a put is answered without the hearing after its record",
    file: COMMIT,
    find: "      await ledger.hear();\n      ledger.checkEpoch();\n      const heldBefore",
    replace: "      const heldBefore",
    foundBy: 21,
  },
  {
    name: "repair does not look whether another machine is writing",
    file: ASSESS,
    find: 'const isLive = records.some((record) => record.kind === "intent" && !input.isDead(record));',
    replace:
      'const isLive = records.length > 99 && records.some((record) => record.kind === "intent" && !input.isDead(record));',
    foundBy: 180,
  },
  {
    name: "a pool may be opened in another mode",
    file: IDENTITIES,
    find: "if (mode !== undefined && mode !== declared.mode) {",
    replace: "if (mode !== undefined && mode.length > 99 && mode !== declared.mode) {",
    foundBy: 13,
  },
  {
    name: "a pool may be opened with another min",
    file: IDENTITIES,
    find: 'recorded.mode === "mirror" && recorded.min !== declared.min)',
    replace: 'recorded.mode === "mirror" && recorded.min > declared.min + 99)',
    foundBy: 6,
  },
  {
    name: "status believes what the ledger says of a store that is empty",
    file: STATUS,
    find: "const isUntrue = isGone(member) ||",
    replace: "const isUntrue =",
    foundBy: 101,
  },
  {
    name: "a store that gave no answer counts as moved",
    file: COMMIT,
    find: 'if (member.state !== "unreachable") this.#noteMoved(member);',
    replace: "this.#noteMoved(member);",
    foundBy: 9_007_088,
  },
  {
    name: "an empty store is new although the ledger could not be read",
    file: MEMBERSHIP,
    find: "return !ready && isNamed && id !== undefined && !known.has(id);",
    replace: "return ready && !isNamed;",
    foundBy: 8037981,
  },
  {
    name: "a put looks who writes only after it looked at the copies",
    file: COMMIT,
    find: "beingWritten.has(member),",
    replace: "this.#isBeingWritten(member),",
    foundBy: 90007543,
  },
  {
    name: "what a segment replaced is forgotten while it stands",
    file: COMPACTION,
    find: " && !present.has(by))",
    replace: ")",
    foundBy: 90021732,
  },
  {
    name: "a store that is listed again loses what was written meanwhile",
    file: READER,
    find: "    for (const name of member.written) segments.add(name);\n",
    replace: "",
    foundBy: 90005881,
  },
];
