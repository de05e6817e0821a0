/** What the processes did, and what they were told of it. */
import { collect, toBody } from "../../../src/contract/body.ts";
import { HoldfastError } from "../../../src/contract/errors.ts";
import type { ErrorCode } from "../../../src/contract/errors.ts";
import type { Pool } from "../../../src/contract/pool.ts";
import type { Value } from "./linearizable.ts";
import type { Step } from "./scenario.ts";

/** What a process was told. `owing`: labels of stores that owe the copy or the delete. */
export type Result =
  | { readonly told: "written"; readonly owing: readonly string[] }
  | { readonly told: "value"; readonly value: Value; readonly unheard: readonly string[] }
  | { readonly told: "names"; readonly names: readonly string[]; readonly complete: boolean }
  | { readonly told: "done"; readonly whole: boolean }
  | { readonly told: "error"; readonly code: ErrorCode; readonly message: string };

/** One operation of a process. */
export interface Deed {
  readonly process: string;
  readonly step: Step;
  /** What it puts; different for each. */
  readonly value: string;
  /** A bit of its own, where it says or asks what a name has. */
  readonly bit: number;
  /** Bits of the deeds that had ended before it began. */
  after: number;
  /** Stores, as bits, that its machine reached when it ended. */
  reach: number;
  /** `cut short`: its process died. */
  state: "waiting" | "running" | "ended" | "cut short";
  result: Result | undefined;
}

/** Does a step, and gives what came of it. Rejects where that is no word of Holdfast's. */
export async function perform(pool: Pool, { kind, on }: Step, value: string): Promise<Result> {
  try {
    switch (kind) {
      case "put":
        return { told: "written", owing: (await pool.put(on, toBody(value))).owed.map(({ store }) => store) };
      case "delete":
        return { told: "written", owing: (await pool.delete(on)).owed.map(({ store }) => store) };
      case "get":
        return await read(pool, on);
      case "list":
        return await list(pool);
      case "repair":
        return { told: "done", whole: (await pool.maintenance.repair()).whole };
      case "quick":
        return { told: "done", whole: (await pool.maintenance.repair({ quick: true })).whole };
      case "drain":
        return { told: "done", whole: (await pool.maintenance.drain(on)).whole };
      case "rebalance":
        return { told: "done", whole: (await pool.maintenance.rebalance()).whole };
      case "close":
        await pool.close();
        return { told: "done", whole: true };
      case "pass":
        return { told: "done", whole: true };
    }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code === "internal") throw error;
    return { told: "error", code: error.code, message: error.message };
  }
}

/** What a name has, or that it has nothing. Rejects where that is not to be told. */
export async function read(pool: Pool, name: string): Promise<Extract<Result, { readonly told: "value" }>> {
  try {
    const { body, unheard } = await pool.get(name);
    return { told: "value", value: Buffer.from(await collect(body)).toString(), unheard: unheard ?? [] };
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== "not-found") throw error;
    return { told: "value", value: undefined, unheard: [] };
  }
}

/** The names in a listing, and whether it said that it is whole. */
export async function list(pool: Pool): Promise<Extract<Result, { readonly told: "names" }>> {
  const names: string[] = [];
  try {
    for await (const { name } of pool.list("")) names.push(name);
    return { told: "names", names, complete: true };
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== "incomplete") throw error;
    return { told: "names", names, complete: false };
  }
}

/** Whether a step says or asks what names have. */
export function isOfNames({ kind }: Step): boolean {
  return kind === "put" || kind === "delete" || kind === "get" || kind === "list";
}

export function isWrite({ kind }: Step): boolean {
  return kind === "put" || kind === "delete";
}

/** A deed in a few words. */
export function describeDeed({ process, step, value, state, result }: Deed): string {
  const what = step.on === "" ? step.kind : `${step.kind} ${step.on}`;
  const how = step.kind === "put" ? `${what} ${value}` : what;
  return `${process}: ${how}: ${result === undefined ? state : JSON.stringify(result)}`;
}
