/** Test-suites of other programs, prepared by `test/suites/prepare.sh` and run against a gateway. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";

const folder = path.join(import.meta.dirname, "..", "suites");

/** Prepares a suite and gives the folder where it stands; undefined, with the reason printed, where it cannot be had. */
export async function prepareSuite(name: "restic" | "minio" | "swift"): Promise<string | undefined> {
  try {
    if (process.env["HOLDFAST_NO_INSTALL"] === "1") throw new Error("nothing is to be installed");
    const { stdout } = await promisify(execFile)("bash", [path.join(folder, "prepare.sh"), name]);
    return stdout.trim();
  } catch (error) {
    const reason = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : String(error);
    if (process.env["HOLDFAST_REQUIRE_SERVERS"] === "1") {
      throw new Error(`the suite ${name} is required: ${reason}`, { cause: error });
    }
    process.stdout.write(`skipped: the test-suite ${name}: ${reason}\n`);
    return undefined;
  }
}

export interface CaseList {
  /** Names of cases that pass. It only grows. */
  readonly passing: readonly string[];
  /** Why a case is not among them: reason → names. */
  readonly leftOut: Readonly<Record<string, readonly string[]>>;
}

/** What is known of a suite's cases. */
export function caseList(suite: string): CaseList {
  return JSON.parse(readFileSync(path.join(folder, `${suite}.json`), "utf8")) as CaseList;
}

/** Every case that passes is on the list, and every case that is not is left out for a reason. */
export function expectAsListed(list: CaseList, results: ReadonlyMap<string, string>): void {
  const known = new Set([...list.passing, ...Object.values(list.leftOut).flat()]);
  expect(list.passing.filter((name) => results.get(name) !== "ok").map((name) => [name, results.get(name)])).toEqual(
    [],
  );
  expect([...results].filter(([name, result]) => result === "ok" && !list.passing.includes(name))).toEqual([]);
  expect([...results.keys()].filter((name) => !known.has(name))).toEqual([]);
}
