/**
 * Bugs to be planted in a copy of the sources, each with a scenario that finds it and is right without it. `find` stands
 * once in the file: where the code has changed so that it does not, the bug has to be planted anew.
 */
import type { Patch } from "../build.js";
import type { Kind } from "./judge.ts";
import type { Limits } from "./search.ts";

export interface PlantedBug extends Patch {
  readonly name: string;
  readonly scenario: string;
  readonly limits?: Pick<Limits, "preemptions" | "splits">;
  /** What is wrong then, among other things. */
  readonly finds: Kind;
}

const PUTS = "src/modes/pool-puts.ts";
const DELETES = "src/modes/pool-deletes.ts";
const CONTEXT = "src/modes/pool-context.ts";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "an overwrite writes no intent",
    file: PUTS,
    find: "    if (isNew) {",
    replace: "    if (isNew || base !== undefined) {",
    scenario: "mirror1x3+crash/put.x",
    finds: "final",
  },
  {
    name: "a debt is cleared before there is a copy",
    file: PUTS,
    find: 'copies[member.id] = { state: "copy", rev, reason: error.code };',
    replace: 'copies[member.id] = { state: "holds", rev };',
    scenario: "mirror1x3+fail/put.x",
    finds: "marks",
  },
  {
    name: "a store that has the bytes and not the record counts as a holder",
    file: PUTS,
    find: "const lost = errors.filter(([, error]) => error !== undefined);",
    replace: "const lost = errors.filter(([, error]) => error === null);",
    scenario: "mirror1x2+cut/put.x",
    finds: "down",
  },
  {
    name: "bytes are deleted before the tombstone is durable",
    file: DELETES,
    find: "    // The tombstone says first that every store owes the delete",
    replace:
      "    await Promise.all(this.#pool.ledger.members.map((member) => member.store.delete(name).catch(() => undefined)));\n    // The tombstone says first that every store owes the delete",
    scenario: "mirror1x3+crash/delete.x",
    finds: "final",
  },
  {
    name: "merging drops what another machine wrote at once",
    file: "src/ledger/record.ts",
    find: "const kept = others.filter((known) => !supersedes(joined, known));",
    replace: "const kept: ObjectRecord[] = [];",
    scenario: "mirror1x3/put.x|get.x",
    finds: "final",
  },
  {
    name: "a silent store is taken to hide nothing",
    file: CONTEXT,
    find: "    if (!own) return unheard;\n",
    replace: "    if (!own) return [];\n",
    scenario: "mirror1x3+new.x+apart.0.C+apart.1.A+apart.1.B/get.x|put.x",
    finds: "history",
  },
  {
    name: "versions follow the wall clock",
    file: "src/ledger/hybrid-clock.ts",
    find: "if (now > this.#ms) {",
    replace: "if (now !== this.#ms) {",
    scenario: "mirror1x3+back/delete.x,put.x",
    finds: "final",
  },
  {
    name: "repair takes a copy away before the ledger says that it owes the delete",
    file: "src/repair/mend.ts",
    find: "if (enough && (await owe(core, record, plan))) {",
    replace: "if (enough) {",
    scenario: "mirror1x3+crash/drain.A",
    finds: "marks",
  },
  {
    name: "a put is tried for ever while a store fails",
    file: PUTS,
    find: "        const { owed } = await member.store.put(name, branchBody(branch, body, agree), { signal: ends });\n",
    replace: `        const shared = branchBody(branch, body, agree);
        let owed: readonly Debt[] | undefined;
        for (;;) {
          try {
            ({ owed } = await member.store.put(name, shared, { signal: ends }));
            break;
          } catch (error) {
            if (error === undefined) throw error;
          }
        }
`,
    scenario: "mirror1x3+cut/put.x",
    finds: "ends",
  },
];
