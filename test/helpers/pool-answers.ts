/** What a pool answers, in a form to compare. */
import { collect } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { Pool } from "../../src/contract/pool.ts";
import type { Body, Store } from "../../src/contract/store.ts";
import type { Gate } from "./gate.ts";

/** An object's bytes as text; the stores that could not be heard behind it, where there are some. */
export async function textOf(store: Store, name: string): Promise<string> {
  const { body, unheard } = await store.get(name);
  const text = Buffer.from(await collect(body)).toString();
  return unheard === undefined ? text : `${text} (unheard: ${unheard.join()})`;
}

/** The same, or the code of the error. */
export function textOrCode(store: Store, name: string): Promise<string> {
  return textOf(store, name).catch(codeOfError);
}

/** The names that a listing gives; at its end the code of the error that ended it. */
export async function namesOn(store: Store, prefix = ""): Promise<string[]> {
  const found: string[] = [];
  try {
    for await (const { name } of store.list(prefix)) found.push(name);
  } catch (error) {
    found.push(codeOfError(error));
  }
  return found;
}

/** What is owed, object by object. */
export async function debtsOf({ maintenance }: Pick<Pool, "maintenance">): Promise<string[]> {
  const found: string[] = [];
  for await (const { object, store, owes } of maintenance.debts()) found.push(`${object} on ${store}: ${owes}`);
  return found;
}

function codeOfError(error: unknown): string {
  if (!(error instanceof HoldfastError)) throw error;
  return `error: ${error.code}`;
}

/** A body that begins to give its bytes once `through` is open, and says that it was begun. */
export function bodyThrough(text: string, through: Gate, begun?: Gate): Body {
  return {
    size: Buffer.byteLength(text),
    reopenable: true,
    async *open() {
      begun?.open();
      await through.opened;
      yield Buffer.from(text);
    },
  };
}
