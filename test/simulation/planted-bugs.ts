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

const POOL_STORE = "src/modes/pool-store.ts";
const PUTS = "src/modes/pool-puts.ts";
const READS = "src/modes/pool-reads.ts";
const DELETES = "src/modes/pool-deletes.ts";
const LEDGER = "src/ledger/ledger.ts";
const WRITER = "src/ledger/segment-writer.ts";
const COMPACTION = "src/ledger/compaction.ts";
const RECORD = "src/ledger/record.ts";
const READ = "src/modes/verified-read.ts";
const ASSESS = "src/repair/assess.ts";
const SCAN = "src/repair/scan.ts";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "a put is tried for ever while the last store fails",
    file: PUTS,
    find: "        const { owed } = await member.store.put(name, branchBody(branch, body, agree), { signal: ends });\n",
    replace: `        const shared = branchBody(branch, body, agree);
        let owed: readonly Debt[] | undefined;
        for (;;) {
          try {
            ({ owed } = await member.store.put(name, shared, { signal: ends }));
            break;
          } catch (error) {
            if (member !== taking.at(-1)) throw error;
          }
        }
`,
  },
  {
    name: "a read never reaches the second store",
    file: READ,
    find: "      failures.push(failure);\n",
    replace: "      throw failure;\n",
  },
  {
    name: "a put is acknowledged before its record is durable",
    file: PUTS,
    find: "const errors = await Promise.all(holders.map(async (member) => [member, await appended.get(member)] as const));",
    replace: "const errors: (readonly [Member, HoldfastError | undefined])[] = [];",
  },
  {
    name: "a debt is cleared before there is a copy",
    file: PUTS,
    find: 'copies[member.id] = { state: "copy", rev, reason: error.code };',
    replace: 'copies[member.id] = { state: "holds", rev };',
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
    find: "    if (isNew) {",
    replace: "    if (isNew || base !== undefined) {",
  },
  {
    name: "a store that has the bytes and not the record counts as a holder",
    file: PUTS,
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
    find: "if (unheard.size > 0 || this.ledger.unreadableSegments.size > 0) {",
    replace: "if (this.ledger.unreadableSegments.size > 0) {",
    foundBy: 8158,
  },
  {
    name: "bytes are deleted before the tombstone is durable",
    file: DELETES,
    find: "    // The tombstone says first that every store owes the delete",
    replace:
      "    await Promise.all(this.#pool.ledger.members.map((member) => member.store.delete(name).catch(() => undefined)));\n    // The tombstone says first that every store owes the delete",
  },
  {
    name: "a read goes on at the wrong piece",
    file: READ,
    find: "checkedPieces(source.store, name, content, piece, behind, options.signal)",
    replace:
      "checkedPieces(source.store, name, content, failures.length > 0 && piece + 1 < behind ? piece + 1 : piece, behind, options.signal)",
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
    file: LEDGER,
    find: 'if (member.state === "new" && known.state !== "expected") member.state = "missing";',
    replace: "",
  },
  {
    name: "a striped put is recorded on a store that failed it",
    file: PUTS,
    find: "if (stored !== undefined && !missed.has(member)) {",
    replace: "if (stored !== undefined) {",
    foundBy: 2336,
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
      '      if (member !== core.ledger.members[0] && state?.records[0]?.content !== undefined && info !== undefined)\n        return [member, { kind: "content", content: state.records[0].content }];\n      if (listed !== undefined && info === undefined && !isHere)',
  },
  {
    name: "an object of which no good copy is left is not called lost",
    file: ASSESS,
    find: '  const findings: ObjectFinding[] = [{ kind: "lost", detail: "no store has a good copy" }];',
    replace: "  const findings: ObjectFinding[] = [];",
  },
  {
    name: "damaged segments are not mended",
    file: "src/repair/maintained-pool.ts",
    find: "    if (await ledger.mendSegment(member, object)) return true;\n",
    replace: "    return true;\n",
  },
  {
    name: "a quick repair decides by size which of two writes at once stands",
    file: SCAN,
    find: "scope.quick && state?.records.length === 1",
    replace: 'scope.quick && state?.records.every((record) => record.kind !== "intent") === true',
    foundBy: 44_999,
  },
  {
    name: "a store is called empty that another process gave its identity",
    file: LEDGER,
    find: "    if (missing.length > 0) await this.#take(await this.#askAll(missing));\n",
    replace: "",
    foundBy: 123_915,
  },
  {
    name: "a pool that could not be made is another one the next time",
    file: LEDGER,
    find: "this.#newPool ??= ",
    replace: "this.#newPool = ",
    foundBy: 69_844,
  },
  {
    name: "an overwrite begins while only this machine knows what stood before",
    file: PUTS,
    find: "objects: [...unwritten, intent]",
    replace: "objects: [intent]",
    foundBy: 46_469,
  },
  {
    name: "a put that failed takes effect later",
    file: PUTS,
    find: "      if (holders.length === 0) await Promise.all(appended.values());\n",
    replace: "",
    foundBy: 24_297,
  },
  {
    name: "a late copy is noted whether it came or not",
    file: PUTS,
    find: "          if (!(await put)) await copyTo(record, holders, member, undefined);\n",
    replace: "          await put;\n",
    foundBy: 5388,
  },
  {
    name: "a delete that a newer put did not know of goes before what a write that was begun left",
    file: READS,
    find: "!isPut(record) && failure !== undefined && openIntents(state).length > 0",
    replace: "!isPut(record) && failure !== undefined && openIntents(state).length > 9",
    foundBy: 1_022_476,
  },
  {
    name: "repair takes a copy away before the ledger says that it owes the delete",
    file: "src/repair/mend.ts",
    find: "if (enough && (await owe(core, record, plan))) {",
    replace: "if (enough) {",
    foundBy: 3_194_805,
  },
  {
    name: "a copy is deleted on the word of a record that no holder has",
    file: PUTS,
    find: "holders.length === 0 ? [] : await this.#deletes",
    replace: "await this.#deletes",
    foundBy: 3_086_080,
  },
  {
    name: "a pool that is being made is forgotten by a process that dies",
    file: LEDGER,
    find: "const pool = this.#newPool;\n      this.#options.onPool?.(pool);\n",
    replace: "const pool = this.#newPool;\n",
    foundBy: 3_302_562,
  },
  {
    name: "a quick repair takes an owed copy for paid because its size is right",
    file: SCAN,
    find: "state?.records.length === 1 && isHere;",
    replace: "state?.records.length === 1;",
    foundBy: 3_372_803,
  },
];
