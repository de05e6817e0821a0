/** What a pool of a schedule looks like, and what may be done to it and happen to it. */
import type { Mode, OnFail } from "../../src/contract/pool.ts";
import type { Fault } from "./sim-store.ts";

export interface Config {
  readonly mode: Mode;
  readonly onfail: OnFail;
  readonly min: number;
  /** `min`: puts wait for `min` stores, and a moment for the others. */
  readonly wait: "all" | "min";
  readonly stores: number;
  /** Each store of the pool is itself a pool of two stores. */
  readonly nested: boolean;
  readonly prefixes: readonly (readonly string[])[];
  readonly machines: number;
  /** Processes on each machine, which share its cache. */
  readonly processes: number;
  /** Operations under way at once, at most. */
  readonly inFlight: number;
  readonly parking: number;
  readonly mergeAt: number;
  /** How long what was heard is used while nobody else writes, in milliseconds; 0: every operation asks. */
  readonly freshMs: number;
  readonly names: readonly string[];
  /** Stores give names by themselves, too. */
  readonly listNames: boolean;
  /** How often a change of an object whose answer never comes takes effect later. */
  readonly lands: number;
  /** The pool was made, by one process and in peace, before the steps begin. */
  readonly founded: boolean;
  /** Whether damage to copies leaves each object a good one. */
  readonly withinTolerance: boolean;
}

export type Step =
  | { readonly do: "put"; readonly slot: number; readonly name: string; readonly value: string; readonly cuts: number }
  | { readonly do: "broken-put"; readonly slot: number; readonly name: string; readonly value: string }
  | { readonly do: "delete"; readonly slot: number; readonly name: string }
  | { readonly do: "get"; readonly slot: number; readonly name: string }
  | {
      readonly do: "range";
      readonly slot: number;
      readonly name: string;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly do: "stat"; readonly slot: number; readonly name: string }
  | { readonly do: "list"; readonly slot: number; readonly prefix: string }
  | { readonly do: "repair"; readonly slot: number; readonly quick: boolean; readonly refill: boolean }
  | { readonly do: "verify"; readonly slot: number }
  | { readonly do: "status"; readonly slot: number }
  | { readonly do: "drain"; readonly slot: number; readonly disk: number }
  | { readonly do: "rebalance"; readonly slot: number }
  | { readonly do: "down"; readonly disk: number }
  | { readonly do: "up"; readonly disk: number }
  /**
   * Something empty stands in the store's place until it is up again: a folder that is not mounted. `amid`: whatever is
   * under way goes on, and what it writes arrives there.
   */
  | { readonly do: "unmount"; readonly disk: number; readonly amid?: boolean }
  | { readonly do: "full"; readonly disk: number }
  /** The store loses everything, its identity too. */
  | { readonly do: "wipe"; readonly disk: number }
  /** A segment of the ledger on the store is damaged. */
  | { readonly do: "spoil"; readonly disk: number }
  | { readonly do: "fault"; readonly disk: number; readonly fault: Readonly<Fault> }
  | { readonly do: "crash"; readonly slot: number; readonly after: number }
  | {
      readonly do: "damage";
      readonly disk: number;
      readonly name: string;
      readonly how: "spoil" | "lose" | "swap";
    }
  | { readonly do: "jump"; readonly machine: number; readonly ms: number }
  | { readonly do: "drop-cache"; readonly machine: number }
  | { readonly do: "pass"; readonly ms: number }
  | { readonly do: "reorder" }
  | { readonly do: "wait" }
  | Mishap;

/** In which way a pool is opened otherwise than it is. */
export type OtherShape = "mode" | "min" | "prefixes";

export type Mishap =
  /** An image of the store is taken, to which it may be rolled back. */
  | { readonly do: "image"; readonly disk: number }
  /** The store is what it was when its image was taken. */
  | { readonly do: "rollback"; readonly disk: number }
  /** Each of two addresses leads to the other's disk from now on. */
  | { readonly do: "swap"; readonly disk: number; readonly other: number }
  /** A copy of another disk stands in the store's place until it is up again. */
  | { readonly do: "clone"; readonly disk: number; readonly from: number }
  /** A machine's file gives the store another address. */
  | { readonly do: "readdress"; readonly machine: number; readonly disk: number }
  /** Somebody opens the pool as another one than it is. */
  | { readonly do: "misopen"; readonly slot: number; readonly as: OtherShape; readonly place: number };
