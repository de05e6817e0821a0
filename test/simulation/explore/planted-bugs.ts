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

const PUTS = "src/pool/pool-puts.ts";
const COMMIT = "src/pool/commit.ts";
const CONTEXT = "src/pool/pool-context.ts";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "an overwrite writes no intent",
    file: PUTS,
    find: "hasIntent: !this.#isNew(name, state),",
    replace: "hasIntent: false,",
    scenario: "mirror1x3+crash/put.x",
    finds: "final",
  },
  {
    name: "a debt is cleared before there is a copy",
    file: COMMIT,
    find: 'copies[id] = { state: "copy", rev, reason: error.code, ...late };',
    replace: 'copies[id] = { state: "holds", rev };',
    scenario: "mirror1x3+fail/put.x",
    finds: "marks",
  },
  {
    name: "a store that has the bytes and not the record counts as a holder",
    file: COMMIT,
    find: "const lost = errors.filter(([, error]) => error !== undefined);",
    replace: "const lost = errors.filter(([, error]) => error === null);",
    scenario: "mirror1x2+fail/put.x",
    finds: "down",
  },
  {
    name: "merging drops what another machine wrote at once",
    file: "src/ledger/record.ts",
    find: "const kept = others.filter((known) => !supersedes(joined, known));",
    replace: "const kept: ObjectRecord[] = [];",
    scenario: "mirror1x3/put.x|get.x",
    finds: "error",
  },
  {
    name: "a silent store is taken to hide nothing",
    file: CONTEXT,
    find: "return isAlone && !this.#isAbandoned(name) ? [] : all;",
    replace: "return isAlone || all.length > 0 ? [] : all;",
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
    name: "a request that may still take effect is known only once it is written",
    file: "src/ledger/segment-writer.ts",
    find: "const open = records.flatMap((record) => withLateMarks(record) ?? []);",
    replace: 'const open = records.flatMap((record) => (record.name === "" ? (withLateMarks(record) ?? []) : []));',
    scenario: "stripex3+late/delete.x,put.x",
    finds: "final",
  },
  {
    name: "a delete that knew of an earlier version of a put is taken for one that did not know of it",
    file: COMMIT,
    find: "const versions = this.#isTakenBy(other) ? [this.#version, ...this.#formerVersions] : [this.#version];",
    replace: "const versions = [this.#version];",
    scenario: "mirror1x3+late/put.x|delete.x",
    limits: { splits: 0 },
    finds: "final",
  },
];
